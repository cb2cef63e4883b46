"""What is optimised: a loss between a model's predictions and the data, under Lightning.

`ForceTask` fits energies, forces and stress of single frames; `MotionTask` fits the path that the
model's forces take through the integrator, for data that holds no forces. Both share one schedule.
"""

import abc
import time
import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.modules import Data, FrameData, WindowData
from sciwm.models.potential import Potential
from sciwm.models.statistics import Statistics, survey

SURVEYED = 500
"""Training frames that scales and reference energies are computed from, at most."""


class DivergenceError(FloatingPointError):
    """A loss that is no longer a number."""


class Task(LightningModule, abc.ABC):
    """Optimisation shared by all tasks: schedule, clipping of nonsense, metrics over processes.

    The learning rate warms up over `warmup` steps and then falls linearly to zero as the run goes
    from start to end, where the end is `max_steps` or, where given, a budget of processor time.

    Args:
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training, instead of a number of steps.
    """

    model: Potential

    def __init__(self, learning_rate: float, warmup: int, cpu_seconds: float | None):
        super().__init__()
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.cpu_seconds = cpu_seconds
        self._spent_before = 0.0
        self._clock: float | None = None
        self._sums: dict[str, Tensor] = {}

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

    @property
    @abc.abstractmethod
    def monitored(self) -> str:
        """The validation metric by which the best checkpoint is chosen."""

    @property
    def units(self) -> UnitSystem:
        return self.model.units

    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.cpu_seconds is not None:
            return min(self.spent() / self.cpu_seconds, 1.0)
        return min(self.global_step / max(self.trainer.max_steps, 1), 1.0)

    def spent(self) -> float:
        """Processor seconds since training began, over all its resumptions."""
        if self._clock is None:
            return self._spent_before
        return self._spent_before + time.process_time() - self._clock

    def configure_optimizers(self) -> torch.optim.Optimizer:
        learned = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(learned, lr=self.learning_rate, weight_decay=0.0, fused=True)

    def on_train_start(self) -> None:
        self._clock = time.process_time()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent"] = self.spent()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._spent_before = float(checkpoint["spent"])

    def training_step(self, batch: State, batch_idx: int) -> Tensor:
        done = self.progress()
        if self.cpu_seconds is not None and done >= 1.0:
            self.trainer.should_stop = True
        rate = self.learning_rate * min(1.0, (self.global_step + 1) / self.warmup)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = rate * max(1.0 - done, 1e-3)
        terms, _ = self.errors(batch)
        loss = torch.zeros((), dtype=next(self.model.parameters()).dtype, device=self.device)
        for name, weight in self.weights().items():
            count = terms[f"count_{name}"]
            if self.trainer.world_size > 1:
                # Each process averages over its share; the mean over all needs all counts.
                count = self.trainer.strategy.reduce(count.clone(), reduce_op="sum")
                count = count / self.trainer.world_size
            loss = loss + weight * terms[name] / count
        if not torch.isfinite(loss):
            self._name_culprits(batch)
        self.log("train/loss", loss.detach(), prog_bar=False)
        return loss

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

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise DivergenceError(
                f"a gradient is not finite at step {self.global_step}; lower learning_rate"
            )

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
            total, count = self.trainer.strategy.reduce(self._sums[name], reduce_op="sum")
            value = float((total / count).sqrt())
            self.log(f"valid/{name}", value, prog_bar=True, rank_zero_only=False)


class ForceTask(Task):
    """Fits energies, forces and stress.

    The loss is the sum of mean squared errors of energy per particle, of force components, and of
    stress times volume per particle; late in the run the energy counts more, when forces have settled
    (MACE's second stage, arXiv:2206.07697, appendix A).

    Args:
        model: The potential to fit.
        energy_weight: Of the energy term, in eV² per particle² against eV²/Å² of forces.
        late_energy_weight: The same in the last quarter of the run.
        stress_weight: Of the stress term; needs data with `stress: true`.
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training, instead of a number of steps.
    """

    def __init__(
        self,
        model: Potential,
        energy_weight: float = 2.0,
        late_energy_weight: float = 10.0,
        stress_weight: float = 0.0,
        learning_rate: float = 3e-3,
        warmup: int = 100,
        cpu_seconds: float | None = None,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        self.model = model
        self.energy_weight = energy_weight
        self.late_energy_weight = late_energy_weight
        self.stress_weight = stress_weight

    @property
    def monitored(self) -> str:
        return "valid/force"

    def weights(self) -> dict[str, float]:
        late = self.progress() > 0.75
        weights = {"energy": self.late_energy_weight if late else self.energy_weight, "force": 1.0}
        if self.stress_weight:
            weights["stress"] = self.stress_weight
        return weights

    def adapt(self, data: Data) -> Statistics:
        if not isinstance(data, FrameData):
            raise ValueError("ForceTask learns from FrameData; for WindowData use MotionTask")
        if bool(self.stress_weight) != data.stress:
            raise ValueError(
                f"stress_weight is {self.stress_weight:g} but the data has stress: {data.stress}; "
                "set both or neither"
            )
        given = self.model.reference_table()
        if given is None:
            warnings.warn(
                "no reference_energies are given, so the energies of isolated atoms are fitted: total "
                "energies will be right near the data, energies of dissociation will not",
                stacklevel=2,
            )
        frames = data.sample_frames(SURVEYED)
        statistics = survey(frames, self.model.cutoff, data.collection.units, given)
        require_varying_labels(frames)
        self.model.adapt(statistics)
        return statistics

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        table = NeighbourTable.from_pairs(batch)
        wants_stress = "stress" in batch
        energy, forces, stress = self.model(
            batch, table, wants_stress, differentiable=self.training
        )
        target = (batch.energy - self.model.total_offset(batch)).to(energy.dtype)
        atoms = batch.counts.to(energy.dtype)
        per_atom = (energy - target) / atoms
        off = forces - batch.forces
        systems = torch.tensor(float(batch.n_systems), device=energy.device)
        components = torch.tensor(float(off.numel()), device=energy.device)
        terms = {
            "energy": per_atom.square().sum(),
            "count_energy": systems,
            "force": off.square().sum(),
            "count_force": components,
        }
        metrics = {
            "energy": ((energy - target).square().sum(), systems),
            "energy_per_atom": (terms["energy"], systems),
            "force": (terms["force"], components),
        }
        if stress is not None:
            wrong = (stress - batch.stress).square()
            scaled = wrong * (torch.linalg.det(batch.cell).abs() / atoms).square()[:, None, None]
            terms["stress"], terms["count_stress"] = scaled.sum(), systems * 9
            metrics["stress"] = (wrong.sum(), systems * 9)
        return terms, metrics


class MotionTask(Task):
    """Fits the motion: positions and velocities after velocity Verlet steps on the model's forces.

    The gradient runs back through the integrator (differentiable simulation). Each frame interval is
    divided into `substeps`; errors count in units of what the null model, straight motion, gets wrong,
    under a Huber loss, so that the few chaotic close encounters of a data set do not drown the rest.

    Where the data has no velocities, the first is taken from the first displacement, and errors count
    from the third frame on.

    Args:
        model: The potential to fit.
        substeps: Integrator steps between two frames.
        velocity_weight: Of velocities against positions.
        huber: Errors above this many units count linearly.
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training, instead of a number of steps.
    """

    position_unit: Tensor
    velocity_unit: Tensor

    def __init__(
        self,
        model: Potential,
        substeps: int = 1,
        velocity_weight: float = 1.0,
        huber: float = 1.0,
        learning_rate: float = 3e-3,
        warmup: int = 100,
        cpu_seconds: float | None = None,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        if substeps < 1:
            raise ValueError(f"substeps must be at least 1, got {substeps}")
        self.model = model
        self.substeps = substeps
        self.velocity_weight = velocity_weight
        self.huber = huber
        self.register_buffer("position_unit", torch.tensor(1.0))
        self.register_buffer("velocity_unit", torch.tensor(1.0))

    @property
    def monitored(self) -> str:
        return "valid/position"

    def weights(self) -> dict[str, float]:
        return {"position": 1.0, "velocity": self.velocity_weight}

    def adapt(self, data: Data) -> Statistics:
        if not isinstance(data, WindowData):
            raise ValueError("MotionTask learns from WindowData; for FrameData use ForceTask")
        if data.length < 3 and "velocities" not in data.collection.files[0].trajectories[0].fields:
            raise ValueError(
                f"the data has no velocities, so a window needs at least 3 frames, got {data.length}"
            )
        frames = data.sample_frames(SURVEYED)
        units = data.collection.units
        statistics = survey(frames, self.model.cutoff, units, None)
        dataset = data.training_set
        chosen = torch.linspace(0, len(dataset) - 1, SURVEYED).long().unique()  # type: ignore[arg-type]
        curvature, strays, changes = [], [], []
        for index in chosen.tolist():
            window = dataset[index]
            path, velocities = window.path, window.path_velocities
            dt = float(window.interval)
            if velocities.isnan().any():
                velocities = (path[:, 1:2] - path[:, :1]).expand_as(path) / dt
                later = slice(2, None)
                acceleration = (path[:, 2] - 2 * path[:, 1] + path[:, 0]) / dt**2
            else:
                later = slice(1, None)
                acceleration = (velocities[:, 1] - velocities[:, 0]) / dt
            times = dt * torch.arange(path.shape[1])[None, :, None]
            straight = path[:, :1] + velocities[:, :1] * times
            strays.append((path - straight)[:, later].square().flatten())
            changes.append((acceleration * dt).square().flatten())
            curvature.append((acceleration * window.masses[:, None]).square().flatten())
        # Medians, because close encounters make the means of such errors meaningless.
        self.position_unit.fill_(float(torch.cat(strays).median().sqrt()) + 1e-12)
        self.velocity_unit.fill_(float(torch.cat(changes).median().sqrt()) + 1e-12)
        force = float(torch.cat(curvature).median().sqrt()) / units.acceleration
        statistics.force_rms = max(force, 1e-12)
        self.model.adapt(statistics)
        return statistics

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        path, velocities = self.unrolled(batch)
        known = not bool(batch.path_velocities.isnan().any())
        later = slice(1, None) if known else slice(2, None)
        position = (path - batch.path.to(path.dtype))[:, later]
        count = torch.tensor(float(position.numel()), device=path.device)
        scaled = position / self.position_unit.to(path.dtype)
        terms = {"position": self._robust(scaled), "count_position": count}
        if known:
            velocity = (velocities - batch.path_velocities.to(path.dtype))[:, later]
            terms["velocity"] = self._robust(velocity / self.velocity_unit.to(path.dtype))
        else:
            terms["velocity"] = torch.zeros((), dtype=path.dtype, device=path.device)
        terms["count_velocity"] = count
        metrics = {
            "position": (position.square().sum(), count),
            "robust": (terms["position"], count),
        }
        return terms, metrics

    def _robust(self, errors: Tensor) -> Tensor:
        zero = torch.zeros_like(errors)
        return torch.nn.functional.huber_loss(errors, zero, reduction="sum", delta=self.huber)

    def unrolled(self, batch: State) -> tuple[Tensor, Tensor]:
        """Predicted positions and velocities at every frame of the window, (A, W, 3) each."""
        dtype = next(self.model.parameters()).dtype
        true_path = batch.path.to(dtype)
        state = batch.clone()
        for key in ("positions", "masses", "charges", "cell", "total_charge"):
            state[key] = state[key].to(dtype)
        reach = (batch.path - batch.path[:, :1]).norm(dim=-1).max()
        search = self.model.cutoff + 2.5 * float(reach)
        attach_pairs(state, search)
        table = NeighbourTable.from_pairs(state)
        interval = batch.interval.to(dtype)[batch.batch][:, None]
        h = interval / self.substeps
        scale = self.units.acceleration / state.masses[:, None]

        def acceleration(positions: Tensor) -> Tensor:
            state.positions = positions
            _, forces, _ = self.model(state, table, differentiable=self.training)
            return forces * scale

        x = true_path[:, 0]
        a = acceleration(x)
        v = batch.path_velocities[:, 0].to(dtype)
        if bool(v.isnan().any()):
            v = (true_path[:, 1] - x) / interval - 0.5 * interval * a
        path, velocities = [x], [v]
        for _ in range(true_path.shape[1] - 1):
            for _ in range(self.substeps):
                v = v + 0.5 * h * a
                x = x + h * v
                a = acceleration(x)
                v = v + 0.5 * h * a
            path.append(x)
            velocities.append(v)
        return torch.stack(path, dim=1), torch.stack(velocities, dim=1)


def require_varying_labels(frames: list[Any]) -> None:
    """Raises ValueError if energies or forces carry no information."""
    energies = {frame.energy for frame in frames}
    if len(frames) > 1 and len(energies) == 1:
        raise ValueError(
            f"the energy is {frames[0].energy} in all of {len(frames)} frames, so there is nothing "
            "to learn; the label was probably lost or filled in by the program that wrote the file"
        )
    if len(frames) > 1 and all(not frame.forces.any() for frame in frames):
        raise ValueError(
            f"forces are zero in all of {len(frames)} frames; the label was probably lost or filled "
            "in by the program that wrote the file"
        )
