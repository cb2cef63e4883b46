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

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.models.dynamics.stride_map import Lesson, Path, StrideMap, centred, sums_of
from sciwm.models.encoders.motion_encoder import MotionEncoder
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

LINE = 1e-4
"""Share of the whole moment of inertia far below which one about an axis counts as none: atoms on a line
cannot be turned about it, and to try would shake them."""

ROUNDS = 6
"""Of correcting the angular momentum; each leaves a thousandth of what was wrong, but about such a line."""


class FlowMap(StrideMap):
    """Positions and velocities after a stride, told from those at its start.

    Args:
        encoder: Perception; it owns the cutoff.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
    """

    def __init__(self, encoder: MotionEncoder, unit_system: str = "molecular"):
        super().__init__(encoder.cutoff, unit_system)
        self.encoder = encoder
        channels = encoder.channels
        self.readout = nn.Linear(channels, 2, bias=False)
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 4))

    def adapt(self, statistics: Statistics) -> None:
        self.domain.adapt(statistics)
        self.encoder.neighbour_count.fill_(statistics.neighbour_count)

    def lesson(self, start: Path, end: Path, stride: Tensor, second: bool) -> Lesson:
        """The stride, and the way back at turned velocities, along which motion is as right."""
        if second:
            start, end = (end[0], -end[1]), (start[0], -start[1])
        return Lesson.of(start, end, start, stride)

    def changes(self, state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, Tensor]:
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

    def answers(self, state: State, table: NeighbourTable) -> list[Tensor]:
        state, stride = self.usual(state)
        with torch.no_grad():
            return list(self.moved(state, stride, *self.changes(state, table, stride)))

    @staticmethod
    def moved(state: State, stride: Tensor, stray: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and velocities after what the map found."""
        duration = stride[state.batch][:, None]
        positions = state.positions + duration * (state.velocities + stray)
        velocities = state.velocities + gain
        bounded = (state.cell != 0).flatten(1).any(dim=1)
        turns = ~bounded & (sums_of(torch.ones_like(state.masses), state) > 1)
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


def _angular_momentum(around: Tensor, velocities: Tensor, state: State) -> Tensor:
    """(S, 3) about the centre of mass, which `around` is counted from."""
    turning = torch.linalg.cross(around, velocities)
    return sums_of(state.masses.to(around)[:, None] * turning, state)


def _inertia(around: Tensor, turns: Tensor, state: State) -> Tensor:
    """(S, 3, 3) moments of inertia, those about a line of atoms raised; one where nothing is to turn."""
    masses = state.masses.to(around)
    spread = sums_of(masses[:, None, None] * around[:, :, None] * around[:, None, :], state)
    total = sums_of(masses * around.square().sum(dim=1), state)
    identity = torch.eye(3, dtype=around.dtype, device=around.device)
    whole = ((1.0 + LINE) * total)[:, None, None] * identity - spread
    return torch.where(turns[:, None, None], whole, identity)
