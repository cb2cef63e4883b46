"""What a training run shows while it goes."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from sciwm.core.progress import Bar
from sciwm.core.properties import PROPERTIES
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.evaluation.metrics import reported_in
from sciwm.training.task import Task

LOOKS = 50
"""Steps between looks at how much of a budget of time is spent, which takes longer than to show it."""


class ErrorBar(ProgressBar):
    """A progress bar with rate, time left, and validation errors beside those of the null model.

    Args:
        nulls: Error of the null model for each validation metric, in the data's units.
    """

    def __init__(self, nulls: dict[str, float]):
        super().__init__()
        self.nulls = nulls
        self._shown = True
        self._bar: Bar | None = None

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._bar = Bar(
            total=total,
            initial=trainer.global_step,
            desc="training",
            unit="step",
            disable=not self._shown,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Task)
        assert self._bar is not None
        step = trainer.global_step
        if pl_module.cpu_seconds is not None and step % LOOKS == 0:
            self._bar.total = max(step, round(step / max(pl_module.progress(), 1e-9)))
        self._bar.update(step - self._bar.n)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            assert isinstance(pl_module, Task)
            self._bar.set_postfix(
                shown_errors(trainer.callback_metrics, self.nulls, pl_module), refresh=False
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()


def shown_errors(
    metrics: Mapping[str, Any], nulls: Mapping[str, float], task: Task
) -> dict[str, str]:
    """Validation errors by name, with units and the null model's beside them."""
    shown = {}
    for name, (unit, factor) in readable(task.units).items():
        value = metrics.get(f"valid/{name}")
        if value is not None:
            null = nulls.get(name)
            beside = "" if null is None else f" (null {null * factor:.4g})"
            shown[name] = f"{float(value) * factor:.4g}{' ' + unit if unit else ''}{beside}"
    return shown


def readable(units: UnitSystem) -> dict[str, tuple[str, float]]:
    """Unit in which people read each metric, and how many of it make one of the system's."""
    told = {name: reported_in(name, units) for name in ("force", "energy", "stress", "position")}
    return told | {
        name: (one.unit if units is MOLECULAR else "", 1.0) for name, one in PROPERTIES.items()
    }
