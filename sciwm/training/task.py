"""What every kind of fitting shares: schedule, guard against divergence, metrics over processes.

`ForceTask` fits energies, forces and stress of single frames; `MotionTask` fits the path that the
model's forces take through the integrator, for data that holds no forces; `FlowTask` fits where a
system is one long stride later.
"""

import abc
import math
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from sciwm.core.bounds import HIGHEST_RATE, LONGEST_TRAINING, require_counts, require_positive
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.modules import Data
from sciwm.models.model import Model
from sciwm.models.statistics import Statistics

SURVEYED = 500
"""Training frames that scales and reference energies are computed from, at most."""


class DivergenceError(FloatingPointError):
    """A loss that is no longer a number."""


class Task(LightningModule, abc.ABC):
    """Optimisation shared by all tasks: schedule, clipping of nonsense, metrics over processes.

    The learning rate warms up over `warmup` steps and then falls linearly to zero as the run goes
    from start to end, where the end is `max_steps` or a budget of processor time, whichever comes first.

    Args:
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training.

    Attributes:
        build_cpu_seconds: Processor time that compiling took before training began, compilers included.
        resumed: Whether a checkpoint will replace what `adapt` sets.
        folder: Of the run; what is made for it is kept there.
    """

    model: Model

    def __init__(self, learning_rate: float, warmup: int, cpu_seconds: float | None):
        super().__init__()
        require_positive(most=HIGHEST_RATE, learning_rate=learning_rate)
        require_positive(most=LONGEST_TRAINING, cpu_seconds=cpu_seconds)
        require_counts(0, warmup=warmup)
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.cpu_seconds = cpu_seconds
        self._spent_before = 0.0
        self._clock: float | None = None
        self.build_cpu_seconds = 0.0
        self.resumed = False
        self.folder = Path()
        self._done = 0.0
        self._sums: dict[str, Tensor] = {}

    @cached_property
    def learned(self) -> list[nn.Parameter]:
        """What is optimised, listed once: looking for it takes longer than moving it."""
        return [p for p in self.parameters() if p.requires_grad]

    @abc.abstractmethod
    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Terms of the loss as (sum, count), and validation metrics as (sum, count).

        The first dictionary holds scalar sums to be divided by the matching `count_` entry.
        """

    @abc.abstractmethod
    def adapt(self, data: Data) -> Statistics:
        """Sets the model's computed constants from the training data."""

    @abc.abstractmethod
    def weights(self) -> dict[str, float]:
        """Weight of each term of the loss at this point of the run."""

    @abc.abstractmethod
    def null_errors(self, state: State, statistics: Statistics) -> dict[str, tuple[Tensor, Tensor]]:
        """Of the null model on one validation item, as (sum of squares, count) by name.

        Args:
            statistics: What `adapt` found.
        """

    @property
    def units_of_errors(self) -> dict[str, str]:
        """What the errors are in."""
        return {"length": self.units.length, "energy": self.units.energy}

    @property
    @abc.abstractmethod
    def monitored(self) -> str:
        """The validation metric by which the best checkpoint is chosen."""

    def finish(self, data: Data) -> None:
        """What is left to be done with the best model; nothing, unless a task knows better."""

    @property
    def inherits(self) -> bool:
        """Whether it starts from a trained model."""
        return False

    @property
    def units(self) -> UnitSystem:
        return self.model.units

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        steps = self.trainer.max_steps  # -1 where there is no limit
        done = self.global_step / max(steps, 1) if steps >= 0 else 0.0
        if self.cpu_seconds is not None:
            done = max(done, self.spent() / self.cpu_seconds)
        return min(done, 1.0)

    def spent(self) -> float:
        """Processor seconds since training began, over all its resumptions."""
        if self._clock is None:
            return self._spent_before
        return self._spent_before + time.process_time() - self._clock

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.learned, lr=self.learning_rate, weight_decay=0.0, fused=True)

    def on_train_start(self) -> None:
        self._clock = time.process_time()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent"] = self.spent()
        for log in self.loggers:  # a run that goes on from here finds the log as it is now
            log.save()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._spent_before = float(checkpoint["spent"])

    def training_step(self, batch: State, batch_idx: int) -> Tensor:
        # Asked once a step: reading the processor's clock takes half a millisecond on some machines.
        done = self._done = self.progress()
        if self.cpu_seconds is not None and done >= 1.0:
            self.trainer.should_stop = True
        shape = min(1.0, (self.global_step + 1) / max(self.warmup, 1)) * max(1.0 - done, 1e-3)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = shape * group.setdefault("peak", group["lr"])
        loss = self.weighted_loss(batch)
        if not torch.isfinite(loss):
            self._name_culprits(batch)
        # Lightning writes down what was logged in the last step of each interval.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log("train/loss", loss.detach(), prog_bar=False)
        return loss

    def weighted_loss(self, batch: State) -> Tensor:
        """Mean errors of a batch, each times its weight."""
        terms, _ = self.errors(batch)
        means = [
            weight * terms[name] / self.shared(terms[f"count_{name}"])
            for name, weight in self.weights().items()
        ]
        return torch.stack(means).sum()

    def shared(self, count: Tensor) -> Tensor:
        """The mean count over all processes, by which each divides its sum: the mean of their
        gradients is then that of the whole batch."""
        if self.trainer.world_size == 1:
            return count
        total = self.trainer.strategy.reduce(count.clone(), reduce_op="sum")
        return total / self.trainer.world_size

    def _name_culprits(self, batch: State) -> None:
        entries = self.trainer.datamodule.training_entries  # type: ignore[attr-defined]
        collection = self.trainer.datamodule.collection  # type: ignore[attr-defined]
        named = [
            f"{collection.paths[entries[i].file]} {collection.trajectory(entries[i]).name!r} "
            f"frame {entries[i].frame}"
            for i in batch.index.tolist()
        ]
        raise DivergenceError(
            f"the loss is not finite at step {self.global_step}, on the batch {'; '.join(named)}. "
            "Look at these frames with `sciwm info`, or lower learning_rate; the last checkpoint is "
            "untouched"
        )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        largest = math.inf if gradient_clip_val is None else gradient_clip_val
        norm = torch.nn.utils.clip_grad_norm_(self.learned, largest)
        if not torch.isfinite(norm):
            raise DivergenceError(
                f"a gradient is not finite at step {self.global_step}; lower learning_rate"
            )

    def validated(self, batches: Iterable[State]) -> dict[str, float]:
        """Validation errors of the model as it is, outside training."""
        self.eval()
        self.on_validation_epoch_start()
        for number, batch in enumerate(batches):
            self.validation_step(batch, number)
        self.train()
        return {f"valid/{name}": _root_mean(one) for name, one in self._sums.items()}

    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: State, batch_idx: int) -> None:
        with torch.enable_grad():
            _, metrics = self.errors(batch)
        for name, (total, count) in metrics.items():
            new = torch.stack([total.detach().double(), count.double()])
            self._sums[name] = self._sums.get(name, torch.zeros_like(new)) + new

    def on_validation_epoch_end(self) -> None:
        for name in sorted(self._sums):
            value = _root_mean(self.trainer.strategy.reduce(self._sums[name], reduce_op="sum"))
            self.log(f"valid/{name}", value, prog_bar=True, rank_zero_only=False)


def _root_mean(sums: Tensor) -> float:
    """Of a sum of squares and their count."""
    total, count = sums
    return float((total / count).sqrt())
