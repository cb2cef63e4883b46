"""Learning from motion alone: the path that a model's forces take through the integrator."""

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from sciwm.core.bounds import require_counts, require_not_negative
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.data.modules import Data, WindowData
from sciwm.models.dynamics.potential import Potential
from sciwm.models.statistics import Statistics, survey
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import unroll
from sciwm.simulation.simulator import Evaluation
from sciwm.training.task import SURVEYED, Task


class MotionTask(Task):
    """Fits the motion: positions and velocities after velocity Verlet steps on the model's forces.

    The gradient runs back through the integrator (differentiable simulation). Each frame interval is
    divided into `substeps`. An error counts relative to how far that particle strays from straight motion,
    and linearly once it exceeds a tenth of that: otherwise the few close encounters of a data set, where
    the smallest error grows without bound, would rule what is learned.

    Where the data has no velocities, the first is taken from the first displacement, and errors count
    from the third frame on.

    Args:
        model: The potential to fit.
        substeps: Integrator steps between two frames.
        velocity_weight: Of velocities against positions.
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training.
    """

    model: Potential
    typical_stray: Tensor

    def __init__(
        self,
        model: Potential,
        substeps: int = 1,
        velocity_weight: float = 1.0,
        learning_rate: float = 3e-3,
        warmup: int = 100,
        cpu_seconds: float | None = None,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        require_counts(substeps=substeps)
        require_not_negative(velocity_weight=velocity_weight)
        self.model = model
        self.substeps = substeps
        self.velocity_weight = velocity_weight
        self.register_buffer("typical_stray", torch.tensor(1.0))

    @property
    def monitored(self) -> str:
        return "valid/relative"

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
        strays, forces = [], []
        for index in chosen.tolist():
            window = dataset[index]
            straight, first = straight_motion(window)
            stray = (window.path - straight)[:, first:]
            elapsed = window.interval * torch.arange(first, window.path.shape[1])
            strays.append(stray.square().flatten())
            curved = 2 * stray / elapsed[None, :, None] ** 2 * window.masses[:, None, None]
            forces.append(curved.square().flatten())
        # Medians, because close encounters make the means of such errors meaningless.
        self.typical_stray.fill_(float(torch.cat(strays).median().sqrt()) + 1e-12)
        force = float(torch.cat(forces).median().sqrt()) / units.acceleration
        statistics.force_rms = max(force, 1e-12)
        self.model.adapt(statistics)
        return statistics

    def null_errors(self, state: State, statistics: Statistics) -> dict[str, tuple[Tensor, Tensor]]:
        """Of straight motion."""
        straight, first = straight_motion(state)
        stray = (state.path - straight)[:, first:]
        return {"position": (stray.square().sum(), torch.tensor(stray.numel()))}

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        path, velocities = self.unrolled(batch)
        straight, first = straight_motion(batch)
        stray = (batch.path - straight)[:, first:].norm(dim=-1, keepdim=True).to(path.dtype)
        unit = stray + self.typical_stray
        position = path[:, first:] - batch.path[:, first:].to(path.dtype)
        count = torch.tensor(float(position.numel()), device=path.device)
        terms = {"position": self._robust(position / unit), "count_position": count}
        metrics = {"position": (position.square().sum(), count)}
        terms["velocity"], terms["count_velocity"] = torch.zeros_like(terms["position"]), count
        if first == 1:  # with velocities known
            velocity = velocities[:, 1:] - batch.path_velocities[:, 1:].to(path.dtype)
            elapsed = batch.interval[batch.batch][:, None, None] * torch.arange(
                1, path.shape[1], device=path.device
            ).view(1, -1, 1)
            terms["velocity"] = self._robust(velocity * elapsed.to(path.dtype) / unit)
        metrics["relative"] = (terms["position"] + terms["velocity"], count)
        return terms, metrics

    def _robust(self, errors: Tensor) -> Tensor:
        return huber_loss(errors, torch.zeros_like(errors), reduction="sum", delta=0.1)

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
        # One stride serves systems of different intervals if each has its own unit of time.
        unit = interval / interval[0]
        state.masses = state.masses / unit[:, 0] ** 2
        stride = float(batch.interval[0]) / self.substeps
        propagator = VelocityVerlet(_TrainedSimulator(self.model, table, self.training), stride)
        velocities = batch.path_velocities[:, 0].to(dtype)
        evaluation = propagator.start(state.moved(true_path[:, 0]))
        if bool(velocities.isnan().any()):
            pull = evaluation.forces / batch.masses.to(dtype)[:, None]
            straight = (true_path[:, 1] - true_path[:, 0]) / interval
            velocities = straight - 0.5 * interval * self.units.acceleration * pull
        state = state.moved(true_path[:, 0], velocities * unit)
        steps = self.substeps * (true_path.shape[1] - 1)
        path = [one for one, _ in unroll(propagator, state, evaluation, steps)][:: self.substeps]
        return (
            torch.stack([one.positions for one in path], dim=1),
            torch.stack([one.velocities / unit for one in path], dim=1),
        )


class _TrainedSimulator:
    """A potential in training, whose forces can be differentiated; its neighbours stay the same."""

    def __init__(self, model: Potential, table: NeighbourTable, differentiable: bool):
        self._model = model
        self._table = table
        self._differentiable = differentiable

    @property
    def units(self) -> UnitSystem:
        return self._model.units

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        energy, forces, tension, _ = self._model(
            state, self._table, stress=stress, differentiable=self._differentiable
        )
        return Evaluation(energy, forces, tension)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nothing: training goes where the data goes."""
        return {}


def straight_motion(windows: State) -> tuple[Tensor, int]:
    """(A, W, 3) positions if nothing interacted, and the first frame that this predicts.

    The velocity is that of the first frame, or where unknown the first displacement's, which leaves
    the third frame as the first prediction.
    """
    path, interval = windows.path, windows.interval[windows.batch][:, None, None]
    velocity, first = windows.path_velocities[:, :1], 1
    if bool(velocity.isnan().any()):
        velocity, first = (path[:, 1:2] - path[:, :1]) / interval, 2
    frames = torch.arange(path.shape[1], device=path.device).view(1, -1, 1)
    return path[:, :1] + velocity * interval * frames, first
