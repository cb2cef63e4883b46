"""Random numbers that are addressed, not drawn in turn.

The noise of a system at a step depends on the seed, the system and the step alone. So a run that
resumes needs no generator state, a step can be taken again after another system of the batch failed,
a system's path does not change when its neighbours in the batch come or go, and CPU and GPU see the
same numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_seed
from sciwm.core.state import State

VELOCITIES, KICKS, RESCALING = range(3)
"""What random numbers are for; streams of equal seed and different purpose are independent."""

_BLOCK = 16
"""Steps whose random numbers are made together, which spreads the cost of starting a generator."""


class RandomStreams:
    """Normal random numbers addressed by seed, system and step (numpy's counter-based Philox).

    Args:
        purpose: Keeps streams of one seed apart that serve different ends.
        systems: Which stream each system of a state reads; 0..S-1 by default.
    """

    def __init__(self, seed: int, purpose: int, systems: Sequence[int] | None = None):
        require_seed(seed)
        self.seed = seed
        self._purpose = purpose
        self._systems = systems
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._start = self._generator.bit_generator.state
        self._block: tuple[int, Tensor, Tensor] | None = None  # its index, batch and numbers

    def select(self, keep: Sequence[int]) -> "RandomStreams":
        """The streams of those systems only."""
        systems = keep if self._systems is None else [self._systems[s] for s in keep]
        return RandomStreams(self.seed, self._purpose, list(systems))

    def at(self, step: int, state: State) -> Tensor:
        """(A, 3) the random numbers of one step."""
        block, row = divmod(step, _BLOCK)
        if self._block is None or self._block[0] != block or self._block[1] is not state.batch:
            counts = state.counts.tolist()
            systems = range(len(counts)) if self._systems is None else self._systems
            if len(systems) != len(counts):
                raise ValueError(
                    f"random streams were selected for {len(systems)} systems, but the state has "
                    f"{len(counts)}; select the same systems in both"
                )
            numbers = np.empty((_BLOCK, len(state.batch), 3))
            ends = np.cumsum(counts)
            for system, count, end in zip(systems, counts, ends, strict=True):
                self._go_to(system, block)
                draws = self._generator.standard_normal((_BLOCK, count, 3))
                numbers[:, end - count : end] = draws
            self._block = block, state.batch, torch.from_numpy(numbers).to(state.positions)
        return self._block[2][row]

    def _go_to(self, system: int, block: int) -> None:
        # The low counter words run within a block; the high ones keep blocks and purposes apart.
        place: dict[str, Any] = dict(self._start)
        place["state"] = {
            "counter": np.array([0, 0, block, self._purpose], dtype=np.uint64),
            "key": np.array([self.seed, system], dtype=np.uint64),
        }
        self._generator.bit_generator.state = place
