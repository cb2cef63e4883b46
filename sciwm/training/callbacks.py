"""What a training run shows while it goes."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from sciwm.core.properties import PROPERTIES
from sciwm.training.task import Task


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
