"""What learns long strides: where a system is after one, without a step between.

    x' = x + h (v + w),   v' = v + u,

where v, and the state that w and u are read from, are those that a kind of map looks at: the start
(`FlowMap`), or the middle between start and end (`GeneratingMap`).
"""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from sciwm.core.frame import Array
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.domain import Domain
from sciwm.models.geometry import Geometry
from sciwm.models.model import Model

FASTER = 1.5
"""Times the fastest particle of its type in training, from which on one is outside of it."""

SLACK = 1e-5
"""Share by which a stride may be off those that were trained: files hold rounded times."""


Path = tuple[Tensor, Tensor]
"""(A, 3) positions, continuous through the walls of a box, and (A, 3) velocities."""


@dataclass(frozen=True)
class Lesson:
    """What a map is asked, and what it should answer.

    Attributes:
        seen: Places and velocities of the state that it is asked about.
        stride: (A,) that it is asked for.
        stray, gain: (A, 3) w and u.
    """

    seen: Path
    stride: Tensor
    stray: Tensor
    gain: Tensor

    @staticmethod
    def of(start: Path, end: Path, seen: Path, stride: Tensor) -> "Lesson":
        """Of a stride from start to end, told from a state that is seen."""
        stray = (end[0] - start[0]) / stride[:, None] - seen[1]
        return Lesson(seen, stride, stray, end[1] - start[1])


@dataclass(frozen=True)
class MotionScales:
    """How large the motion is that a map is to learn.

    Attributes:
        strides: The shortest and the longest.
        speeds, fastest, strays, gains: (119,) of each type, the root mean square component of velocities,
            the largest speed, and the root mean square components of w and u.
        thermal: Twice the mean kinetic energy of a direction of motion.
    """

    strides: tuple[float, float]
    speeds: Array
    fastest: Array
    strays: Array
    gains: Array
    thermal: float


class StrideMap(Model, abc.ABC):
    """Positions and velocities after a stride, learned from trajectories.

    Args:
        cutoff: How far a particle sees.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
    """

    precise: bool = False
    """Whether equations are solved with it, which takes double precision."""

    strides: Tensor
    speeds: Tensor
    fastest: Tensor
    strays: Tensor
    gains: Tensor

    def __init__(self, cutoff: float, unit_system: str):
        super().__init__()
        self.unit_system = unit_system
        self.cutoff = cutoff
        self.domain = Domain()
        # The shortest and the longest stride in training.
        self.register_buffer("strides", torch.ones(2))
        # Of each type, root mean square components in training: velocities, and what is to be learned.
        for name in ("speeds", "fastest", "strays", "gains"):
            self.register_buffer(name, torch.ones(MAX_NUMBER + 1))

    @abc.abstractmethod
    def lesson(self, start: Path, end: Path, stride: Tensor, second: bool) -> Lesson:
        """What a stride of a trajectory teaches; each teaches two things.

        Args:
            start, end: Of the stride.
            stride: (A,) in the units' time.
            second: Which of the two.
        """

    @abc.abstractmethod
    def changes(self, state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, Tensor]:
        """(A, 3) w and (A, 3) u, in the units' velocity; neither moves the centre of mass.

        Args:
            state: With the positions and velocities that are `seen`.
            stride: (S,) in the units' time; as a `Lesson` has it.
        """

    def measure(self, scales: MotionScales) -> None:
        """Takes over the scales of the motion it is to learn."""
        self.strides.copy_(torch.tensor(scales.strides))
        for name in ("speeds", "fastest", "strays", "gains"):
            getattr(self, name).copy_(torch.as_tensor(getattr(scales, name)))

    def require_stride(self, stride: float) -> None:
        """Raises ValueError unless a stride is one of those that were trained: multiples of the shortest."""
        shortest, longest = self.strides.tolist()
        parts = stride / shortest
        off = abs(parts - round(parts))
        if off > SLACK * parts or not 1 <= round(parts) <= round(longest / shortest):
            unit = self.units.time
            raise ValueError(
                f"a stride of {stride:g} {unit} was never trained; this map knows multiples of {shortest:g} "
                f"up to {longest:g} {unit}"
            )

    def usual(self, state: State) -> tuple[State, Tensor]:
        """A state with usual velocities in place of its own, and (S,) the longest stride."""
        turned = state.positions.roll(1, dims=1)
        state.velocities = self.speeds[state.numbers].to(turned)[:, None] * turned
        return state, self.strides[1].to(turned).expand(state.n_systems)

    def within(self, state: State, table: NeighbourTable) -> bool:
        """Whether no particles are too near or too fast, in few operations; other reasons aside."""
        vectors = table.vectors(state.positions, state.cell, state.batch)
        nearest = self.domain.nearest(state.numbers, table.sender, table.real, self.cutoff)
        near = bool((vectors.square().sum(-1) < nearest.square()).any())
        speeds = centred(state.velocities, state).square().sum(dim=1)
        known = (FASTER * self.fastest[state.numbers]).square()
        return not near and bool((speeds <= known).all())

    def outside(self, state: State, table: NeighbourTable) -> dict[int, str]:
        """Systems beyond what training covered, each with the reason."""
        vectors = table.vectors(state.positions, state.cell, state.batch)
        geometry = Geometry.of(state, table, vectors, self.beyond)
        reasons = self.domain.outside(geometry, torch.zeros_like(state.positions), self.cutoff)
        speed = centred(state.velocities, state).norm(dim=-1)
        known = self.fastest[state.numbers].to(speed)
        for atom in torch.nonzero(~(speed <= FASTER * known))[:, 0].tolist():
            reasons.setdefault(
                int(state.batch[atom]),
                f"atom {atom} moves at {float(speed[atom]):.3g} {self.units.length}/{self.units.time}, more "
                f"than {FASTER:g} times as fast as any of its type in training ({float(known[atom]):.3g})",
            )
        return reasons


def sums_of(values: Tensor, state: State) -> Tensor:
    """(S, ...) sums over the particles of each system."""
    shape = (state.cell.shape[0], *values.shape[1:])
    return values.new_zeros(shape).index_add(0, state.batch, values)


def centred(vectors: Tensor, state: State) -> Tensor:
    """(A, 3) vectors less their mean by mass."""
    masses = state.masses.to(vectors)
    mean = sums_of(masses[:, None] * vectors, state) / sums_of(masses, state)[:, None]
    return vectors - mean[state.batch]
