"""Events that end a simulation: what one waited for has happened."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bonds import bonds, radii_of
from sciwm.core.geometry import minimum_image
from sciwm.core.state import State
from sciwm.simulation.observables.bonding import BROKEN
from sciwm.simulation.simulator import Evaluation


class Watch(Protocol):
    """Looks at every frame of a rollout."""

    def ended(
        self, systems: Sequence[int], state: State, evaluation: Evaluation | None, step: int
    ) -> dict[int, str]:
        """Which of the running systems have come to their end, as index in `systems`, and why.

        Args:
            systems: The running systems, by their number at the start.
            state: As they are now.
            evaluation: Their energies and forces there, where there are any.
            step: Of the integrator; the same one may be shown twice.
        """


class BondWatch:
    """Ends a system when one of the bonds it had at the start is broken for good.

    A bond is broken while longer than 1.7 sums of covalent radii, and for good when it was so in
    every frame for as long as `lasting`, which tells a reaction from a collision.

    Args:
        start: The state whose bonds are watched.
        lasting: Steps.
    """

    def __init__(self, start: State, lasting: int):
        self.lasting = lasting
        self._bonds: list[tuple[Tensor, Tensor]] = []
        for s in range(start.n_systems):
            frame = start.frame(s)
            pairs = bonds(frame.numbers, frame.positions, frame.cell, frame.pbc)
            longest = BROKEN * radii_of(frame.numbers)[pairs].sum(axis=1)
            self._bonds.append((torch.as_tensor(pairs), torch.as_tensor(longest)))
        self._since: dict[tuple[int, int], int] = {}
        self.broken: dict[int, tuple[int, tuple[int, int]]] = {}
        """Of each ended system, the step at which its bond was first found broken, and the bond."""

    def ended(
        self, systems: Sequence[int], state: State, evaluation: Evaluation | None, step: int
    ) -> dict[int, str]:
        first = torch.cumsum(state.counts, 0) - state.counts
        numbers = torch.cat([torch.full((len(self._bonds[s][1]),), s) for s in systems])
        pairs = torch.cat([self._bonds[s][0] + int(first[k]) for k, s in enumerate(systems)])
        limits = torch.cat([self._bonds[s][1] for s in systems])
        positions = state.positions.detach().double().cpu()
        apart = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        if bool(state.pbc.any()):
            apart = self._nearest(systems, state, numbers, apart)
        stretched = torch.nonzero(apart.norm(dim=1) > limits).flatten().tolist()
        # Keyed by the bond's place in its system; bonds that closed again are forgotten.
        offset = {
            s: int((numbers == s).nonzero()[0]) for s in systems if bool((numbers == s).any())
        }
        odd = {(int(numbers[row]), row - offset[int(numbers[row])]) for row in stretched}
        running = set(systems)
        self._since = {
            key: self._since.get(key, step)
            for key in sorted(odd | {k for k in self._since if k[0] not in running})
        }
        found: dict[int, str] = {}
        for (s, row), since in self._since.items():
            if s in running and step - since >= self.lasting and s not in self.broken:
                i, j = self._bonds[s][0][row].tolist()
                self.broken[s] = (since, (i, j))
                found[systems.index(s)] = (
                    f"the bond between atoms {i} and {j} broke in step {since}"
                )
        return found

    def stretched(self, system: int) -> int | None:
        """The step since which a bond of the system has been too long, as it was seen last."""
        return min((step for (s, _), step in self._since.items() if s == system), default=None)

    @staticmethod
    def _nearest(systems: Sequence[int], state: State, numbers: Tensor, apart: Tensor) -> Tensor:
        nearest = apart.clone()
        for k, s in enumerate(systems):
            rows = numbers == s
            cell, pbc = state.cell[k].double().cpu().numpy(), state.pbc[k].cpu().numpy()
            nearest[rows] = torch.as_tensor(
                minimum_image(np.asarray(apart[rows]), cell, pbc), dtype=apart.dtype
            )
        return nearest
