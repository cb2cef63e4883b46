"""What a training run shows while it goes."""

import sys
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar, WeightAveraging
from torch import Tensor

from sciwm.core.properties import PROPERTIES
from sciwm.training.task import Task

AVERAGED_EVERY = 5


class RunningAverage(WeightAveraging):
    """An exponential average of the weights, which is what is validated and kept.

    It forgets faster at first, so that short runs outgrow their start, and looks at every fifth step:
    averaging costs as much as a tenth of a compiled step.

    Args:
        decay: Of the average, per step.
    """

    def __init__(self, decay: float):
        @torch.no_grad()
        def update(average: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            n = float(updates)
            kept = min(decay**AVERAGED_EVERY, (1 + n) / (10 + n))
            torch._foreach_lerp_(average, current, 1 - kept)

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx % AVERAGED_EVERY == 0


class ErrorBar(TQDMProgressBar):
    """A progress bar with rate, time left, and validation errors beside those of the null model.

    Args:
        nulls: Error of the null model for each validation metric, in the data's units.
    """

    def __init__(self, nulls: dict[str, float]):
        # A log file wants a line now and then, not a hundred a second.
        super().__init__(refresh_rate=20 if sys.stdout.isatty() else 500)
        self.nulls = nulls

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, Task)
        units = pl_module.units
        shown: dict[str, Any] = {}
        for name, (factor, unit) in readable(units.name).items():
            value = trainer.callback_metrics.get(f"valid/{name}")
            if value is not None:
                null = self.nulls.get(name)
                beside = "" if null is None else f" (null {null * factor:.4g})"
                shown[name] = f"{float(value) * factor:.4g}{' ' + unit if unit else ''}{beside}"
        if pl_module.cpu_seconds is not None:
            shown["budget"] = f"{100 * pl_module.progress():.0f}%"
        return shown


def readable(unit_system: str) -> dict[str, tuple[float, str]]:
    """Factor and unit in which people read each metric."""
    if unit_system == "molecular":
        return {
            "force": (1e3, "meV/Å"),
            "energy": (1e3, "meV"),
            "stress": (1e3, "meV/Å³"),
            "position": (1.0, "Å"),
            **{name: (1.0, one.unit) for name, one in PROPERTIES.items()},
        }
    return dict.fromkeys(("force", "energy", "position", *PROPERTIES), (1.0, ""))
