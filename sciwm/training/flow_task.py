"""Learning long strides: where a system is after one, of a window of its motion."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import HIGHEST_RATE, require_positive
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import MAX_NUMBER, State
from sciwm.data.modules import Data, WindowData
from sciwm.models.dynamics.stride_map import Lesson, MotionScales, StrideMap, centred
from sciwm.models.programs.compilation import VARYING, from_inputs
from sciwm.models.programs.stride_program import (
    STRIDE_VARYING,
    changes,
    stride_example,
    stride_inputs,
)
from sciwm.models.statistics import Statistics, survey
from sciwm.training.compiled_loss import CompiledLoss
from sciwm.training.muon import Muon, matrices_of
from sciwm.training.processor_time import processor_seconds
from sciwm.training.task import SURVEYED, Task

LABELLED_VARYING = (*STRIDE_VARYING, (0,), (0,))


class FlowTask(Task):
    """Fits positions and velocities a stride later.

    Each window is a stride from its first frame to another one of it, drawn anew in every step. In one step
    of two a flow map learns the way back, since with velocities turned round motion is as right as forwards,
    and a generating map the first guess of its equations. Errors of mean velocities and of gains of velocity
    count in units of what usual ones of the element are.

    Args:
        model: The map to fit.
        learning_rate: The highest rate, of parameters that are not matrices.
        matrix_rate: The highest rate of matrices (see `Muon`).
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training.
        compiled: Build the loss and its gradients as one program: a minute's wait, then steps about twice as
            fast.
    """

    model: StrideMap

    def __init__(
        self,
        model: StrideMap,
        learning_rate: float = 2e-3,
        matrix_rate: float = 0.005,
        warmup: int = 200,
        cpu_seconds: float | None = None,
        compiled: bool = False,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        require_positive(most=HIGHEST_RATE, matrix_rate=matrix_rate)
        self.model = model
        self.matrix_rate = matrix_rate
        self.compiled = compiled
        self._compiled: CompiledLoss | None = None
        self._seed = 0

    @property
    def monitored(self) -> str:
        return "valid/velocity"

    @property
    def units_of_errors(self) -> dict[str, str]:
        units = super().units_of_errors
        share = "of usual velocities"
        return units | {"velocity": share, "mean velocity": share}

    def weights(self) -> dict[str, float]:
        return {"gain": 1.0, "stray": 1.0}

    def adapt(self, data: Data) -> Statistics:
        if not isinstance(data, WindowData):
            raise ValueError("FlowTask learns from WindowData; for FrameData use ForceTask")
        for trajectory in data.collection.trajectories:
            if "velocities" not in trajectory.fields:
                raise ValueError(
                    f"{trajectory.name!r} holds no velocities, without which nobody can tell where a "
                    "system goes; write them into the trajectory, or learn its forces"
                )
        self._seed = data.seed
        units = data.collection.units
        statistics = survey(data.sample_frames(SURVEYED), self.model.cutoff, units, None)
        self.model.adapt(statistics)
        self._compiled = None
        if not self.resumed:
            self._measure(data)
        return statistics

    def _measure(self, data: WindowData) -> None:
        """Sets the scales of the motion, from windows spread over the data."""
        dataset = data.training_set
        chosen = set(np.linspace(0, len(data.training_entries) - 1, SURVEYED).astype(int).tolist())
        firsts: dict[tuple[int, int], int] = {}  # of every trajectory, for particles that few have
        for index, entry in enumerate(data.training_entries):
            firsts.setdefault((entry.file, entry.trajectory), index)
        windows = [dataset[index] for index in sorted(chosen | set(firsts.values()))]
        intervals = {float(window.interval) for window in windows}
        shortest, most = min(intervals), max(intervals)
        longest = (data.length - 1) * shortest
        if most > shortest * 1.001:
            raise ValueError(
                f"frames lie {shortest:g} to {most:g} {self.units.time} apart; a map learns from those "
                "of one interval: leave the other trajectories out"
            )
        squares = np.zeros((4, MAX_NUMBER + 1))
        counts = np.zeros(MAX_NUMBER + 1)
        fastest = np.zeros(MAX_NUMBER + 1)
        kinetic = 0.0
        for window in windows:
            velocity = centred(window.path_velocities[:, 0], window)
            lesson = self._lesson(window, torch.tensor([data.length - 1]))
            numbers = window.numbers.numpy()
            np.maximum.at(fastest, numbers, velocity.norm(dim=1).numpy())
            np.add.at(counts, numbers, 3)
            kinetic += float((window.masses[:, None] * velocity.square()).sum())
            for row, vectors in enumerate((velocity, lesson.stray, lesson.gain)):
                np.add.at(squares[row], numbers, vectors.square().sum(dim=1).numpy())
        spread = np.sqrt(np.divide(squares, counts, out=np.ones_like(squares), where=counts > 0))
        if not (spread[1:3, counts > 0] > 0).all():
            raise ValueError(
                "particles of some type move straight on in every window, so there is nothing to learn; was "
                "the motion lost by the program that wrote the file?"
            )
        thermal = kinetic / counts.sum() / self.model.units.acceleration
        self.model.measure(
            MotionScales((shortest, longest), spread[0], fastest, spread[1], spread[2], thermal)
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        matrices, others = matrices_of(self, self.learned)
        return Muon(matrices, others, self.matrix_rate, self.learning_rate)

    def on_train_start(self) -> None:
        if self.compiled and self._compiled is None:
            began = processor_seconds()
            self._compiled = CompiledLoss(
                self.model, squared_errors, labelled_example(self.model), LABELLED_VARYING
            )
            self.build_cpu_seconds = processor_seconds() - began
        super().on_train_start()

    def weighted_loss(self, batch: State) -> Tensor:
        generator = torch.Generator().manual_seed((self._seed << 32) + self.global_step)
        ends = torch.randint(1, batch.path.shape[1], (batch.n_systems,), generator=generator)
        second = bool(torch.rand((), generator=generator) < 0.5)
        inputs = self._inputs(batch, ends.to(batch.positions.device), second)
        count = self.shared(torch.tensor(3.0 * len(batch.numbers), device=batch.positions.device))
        coefficients = (1.0 / count).to(inputs[0]).repeat(2)
        if self._compiled is not None:
            return self._compiled(coefficients, inputs)
        return (coefficients * squared_errors(self.model, *inputs)).sum()

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Of the longest strides."""
        ends = torch.full((batch.n_systems,), batch.path.shape[1] - 1)
        inputs = self._inputs(batch, ends.to(batch.positions.device), False)
        off = _errors(self.model, *inputs)
        usual = self.model.speeds[batch.numbers][:, None]
        count = torch.tensor(3.0 * len(batch.numbers), device=usual.device)
        stray, gain = (((one.detach() / usual).square().sum(), count) for one in off)
        terms = dict(zip(("stray", "gain"), _scaled(self.model, batch.numbers, off), strict=True))
        terms |= {"count_stray": count, "count_gain": count}
        return terms, {"velocity": gain, "mean velocity": stray}

    def null_errors(self, state: State, statistics: Statistics) -> dict[str, tuple[Tensor, Tensor]]:
        """Of a map that adds nothing, which of direct ones is straight motion."""
        lesson = self._lesson(state, torch.tensor([state.path.shape[1] - 1]))
        stray, gain = lesson.stray, lesson.gain
        usual = self.model.speeds[state.numbers].double()[:, None]
        count = torch.tensor(gain.numel())
        return {
            "velocity": ((gain / usual).square().sum(), count),
            "mean velocity": ((stray / usual).square().sum(), count),
        }

    def _lesson(self, batch: State, ends: Tensor, second: bool = False) -> Lesson:
        """Of the strides from the first frame to the chosen ones; w and u leave the centre of mass alone."""
        rows = torch.arange(len(batch.numbers), device=ends.device), ends[batch.batch]
        start = batch.path[:, 0], batch.path_velocities[:, 0]
        end = batch.path[rows], batch.path_velocities[rows]
        stride = (batch.interval * ends)[batch.batch]
        found = self.model.lesson(start, end, stride, second)
        still = centred(found.stray, batch), centred(found.gain, batch)
        return replace(found, stray=still[0], gain=still[1])

    def _inputs(self, batch: State, ends: Tensor, second: bool) -> tuple[Tensor, ...]:
        """What `squared_errors` takes."""
        dtype = next(self.model.parameters()).dtype
        lesson = self._lesson(batch, ends, second)
        positions, velocities = lesson.seen
        first = torch.cumsum(batch.counts, 0) - batch.counts
        stride = lesson.stride[first]
        state = State(
            numbers=batch.numbers, positions=positions.to(dtype), charges=batch.charges.to(dtype),
            total_charge=batch.total_charge.to(dtype), batch=batch.batch, cell=batch.cell.to(dtype),
            pbc=batch.pbc,
        )  # fmt: skip
        attach_pairs(state, self.model.cutoff)
        table = NeighbourTable.from_pairs(state)
        state.velocities, state.masses = velocities, batch.masses
        labels = (one.to(dtype).contiguous() for one in (lesson.stray, lesson.gain))
        return *stride_inputs(state, table, stride), *labels


def squared_errors(model: StrideMap, *inputs: Tensor) -> Tensor:
    """(2,) sums of squared errors of w and of u, in units of usual ones."""
    numbers = from_inputs(inputs[: len(VARYING)])[0].numbers
    return _scaled(model, numbers, _errors(model, *inputs))


def _scaled(model: StrideMap, numbers: Tensor, off: tuple[Tensor, Tensor]) -> Tensor:
    """(2,) sums of squares of such errors, in units of what is usual for the type."""
    scales = model.strays[numbers][:, None], model.gains[numbers][:, None]
    return torch.stack([(one / by).square().sum() for one, by in zip(off, scales, strict=True)])


def _errors(model: StrideMap, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(A, 3) errors of w and of u (see `stride_map`)."""
    *taken, stray, gain = inputs
    found = changes(model, *taken)
    return found[0] - stray, found[1] - gain


def labelled_example(model: StrideMap) -> tuple[Tensor, ...]:
    """Inputs of `squared_errors` to trace with."""
    inputs = stride_example(model)
    velocities = inputs[len(VARYING)]
    return *inputs, 0.5 * velocities, -0.5 * velocities
