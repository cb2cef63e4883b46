"""The flow map: where a system is one long stride later, without a step between.

    x' = x + h (v + w),   v' = v + u,

where w and u are what the motion adds to straight motion over a stride h, read from equivariant features of
positions and velocities (direct maps, as TrajCast, arXiv:2503.23794, and FlashMD, arXiv:2505.19350, learn
them). By construction, and not by learning: systems that are turned, mirrored, shifted, renumbered or move as
a whole get the same motion so; the total momentum stays, the centre of mass moves on straight, and without a
box the angular momentum stays too (but about a line on which all atoms lie). Energy is conserved only as far
as it was learned.
"""

import torch
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.domain import Domain
from sciwm.models.encoders.motion_encoder import MotionEncoder
from sciwm.models.geometry import Geometry
from sciwm.models.model import Model
from sciwm.models.statistics import Statistics

FASTER = 1.5
"""Times the fastest particle of its type in training, from which on one is outside of it."""

SLACK = 1e-5
"""Share by which a stride may be off those that were trained: files hold rounded times."""

LINE = 1e-4
"""Share of the whole moment of inertia far below which one about an axis counts as none: atoms on a line
cannot be turned about it, and to try would shake them."""

ROUNDS = 6
"""Of correcting the angular momentum; each leaves a thousandth of what was wrong, but about such a line."""


class FlowMap(Model):
    """Positions and velocities after a stride, learned from trajectories.

    Args:
        encoder: Perception; it owns the cutoff.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
    """

    strides: Tensor
    speeds: Tensor
    fastest: Tensor
    strays: Tensor
    gains: Tensor

    def __init__(self, encoder: MotionEncoder, unit_system: str = "molecular"):
        super().__init__()
        self.encoder = encoder
        self.unit_system = unit_system
        self.cutoff = encoder.cutoff
        self.domain = Domain()
        channels = encoder.channels
        self.readout = nn.Linear(channels, 2, bias=False)
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 4))
        # The shortest and the longest stride in training.
        self.register_buffer("strides", torch.ones(2))
        # Of each type, root mean square components in training: velocities, and what is to be learned.
        for name in ("speeds", "fastest", "strays", "gains"):
            self.register_buffer(name, torch.ones(MAX_NUMBER + 1))

    def adapt(self, statistics: Statistics) -> None:
        self.domain.adapt(statistics)
        self.encoder.neighbour_count.fill_(statistics.neighbour_count)

    def measure(
        self,
        strides: tuple[float, float],
        speeds: Array,
        fastest: Array,
        strays: Array,
        gains: Array,
    ) -> None:
        """Takes over the scales of the motion it is to learn.

        Args:
            strides: The shortest and the longest.
            speeds, fastest, strays, gains: (119,) of each type, the root mean square component of
                velocities, the largest speed, and the root mean square components of w and u.
        """
        self.strides.copy_(torch.tensor(strides))
        for name, values in (
            ("speeds", speeds), ("fastest", fastest), ("strays", strays), ("gains", gains),
        ):  # fmt: skip
            getattr(self, name).copy_(torch.as_tensor(values))

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

    def forward(self, state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, Tensor]:
        """(A, 3) positions and (A, 3) velocities a stride later.

        Args:
            stride: (S,) in the units' time.
        """
        stray, gain = self.changes(state, table, stride)
        return self.moved(state, stride, stray, gain)

    def changes(self, state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, Tensor]:
        """(A, 3) w and (A, 3) u, in the units' velocity; neither moves the centre of mass."""
        vectors = table.vectors(state.positions, state.cell, state.batch)
        geometry = Geometry.of(state, table, vectors, self.beyond)
        moving = centred(state.velocities, state) / self.speeds[state.numbers][:, None]
        features = self.encoder(geometry, moving, (stride / self.strides[1])[state.batch])
        found = self.readout(features[:, 1:4])
        gate = self.gate(features[:, 0])
        stray = gate[:, 0:1] * moving + (1.0 + gate[:, 1:2]) * found[..., 0]
        gain = gate[:, 2:3] * moving + (1.0 + gate[:, 3:4]) * found[..., 1]
        scales = self.strays[state.numbers][:, None], self.gains[state.numbers][:, None]
        return centred(stray * scales[0], state), centred(gain * scales[1], state)

    @staticmethod
    def moved(state: State, stride: Tensor, stray: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and velocities after what the map found; see `forward`."""
        duration = stride[state.batch][:, None]
        positions = state.positions + duration * (state.velocities + stray)
        velocities = state.velocities + gain
        bounded = (state.cell != 0).flatten(1).any(dim=1)
        turns = ~bounded & (_sums(torch.ones_like(state.masses), state) > 1)
        if not bool(turns.any()):
            return positions, velocities
        free = turns[state.batch][:, None].to(positions)
        before = _angular_momentum(centred(state.positions, state), state.velocities, state)
        around = centred(positions, state)
        response = torch.linalg.inv(_inertia(around, turns, state))
        for _ in range(ROUNDS):
            lost = before - _angular_momentum(around, velocities, state)
            turning = torch.einsum("sij,sj->si", response, lost)
            velocities = velocities + free * torch.linalg.cross(turning[state.batch], around)
        return positions, velocities

    def answers(self, state: State, table: NeighbourTable) -> list[Tensor]:
        turned = state.positions.roll(1, dims=1)
        state.velocities = self.speeds[state.numbers].to(turned)[:, None] * turned
        stride = self.strides[1].to(turned).expand(state.n_systems)
        with torch.no_grad():
            return [one.detach() for one in self(state, table, stride)]

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


def _sums(values: Tensor, state: State) -> Tensor:
    """(S, ...) sums over the particles of each system."""
    shape = (state.cell.shape[0], *values.shape[1:])
    return values.new_zeros(shape).index_add(0, state.batch, values)


def centred(vectors: Tensor, state: State) -> Tensor:
    """(A, 3) vectors less their mean by mass."""
    masses = state.masses.to(vectors)
    mean = _sums(masses[:, None] * vectors, state) / _sums(masses, state)[:, None]
    return vectors - mean[state.batch]


def _angular_momentum(around: Tensor, velocities: Tensor, state: State) -> Tensor:
    """(S, 3) about the centre of mass, which `around` is counted from."""
    turning = torch.linalg.cross(around, velocities)
    return _sums(state.masses.to(around)[:, None] * turning, state)


def _inertia(around: Tensor, turns: Tensor, state: State) -> Tensor:
    """(S, 3, 3) moments of inertia, those about a line of atoms raised; one where nothing is to turn."""
    masses = state.masses.to(around)
    spread = _sums(masses[:, None, None] * around[:, :, None] * around[:, None, :], state)
    total = _sums(masses * around.square().sum(dim=1), state)
    identity = torch.eye(3, dtype=around.dtype, device=around.device)
    whole = ((1.0 + LINE) * total)[:, None, None] * identity - spread
    return torch.where(turns[:, None, None], whole, identity)
