"""Random numbers that are addressed, not drawn in turn.

The noise of a system at a step depends on the seed, the system's stream and the step alone. So a run
that resumes needs no generator state, a step can be taken again after another system of the batch
failed, a system's path does not depend on what shares its batch, and CPU and GPU see the same numbers.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_seed
from sciwm.core.frame import Frame
from sciwm.core.state import State

VELOCITIES, KICKS, RESCALING, VOLUMES, NUDGES, ACCEPTANCE = range(6)
"""What random numbers are for; streams of equal seed and different purpose are independent."""

BLOCK = 16
"""Steps whose random numbers are made together, which spreads the cost of starting a generator."""


def structure_streams(structures: Sequence[Frame], copies: int) -> Tensor:
    """(len(structures) × copies,) streams that belong to a structure, whatever it shares a batch with.

    Args:
        copies: Of each structure, one after another, with random numbers of their own.
    """
    streams: list[int] = []
    for frame in structures:
        digest = hashlib.sha256(frame.numbers.tobytes() + frame.positions.tobytes()).digest()
        # Copies count on in the lowest bits.
        first = int.from_bytes(digest[:5], "little") << 20
        streams += range(first, first + copies)
    return torch.tensor(streams)


class RandomStreams:
    """Normal random numbers addressed by seed, stream and step (numpy's counter-based Philox).

    Args:
        purpose: Keeps streams of one seed apart that serve different ends.
    """

    def __init__(self, seed: int, purpose: int):
        require_seed(seed)
        self.seed = seed
        self._purpose = purpose
        self._generator = np.random.Generator(np.random.Philox(key=0))
        self._start = self._generator.bit_generator.state
        self._block: tuple[int, Tensor, Tensor | None, Tensor] | None = None

    def at(self, step: int, state: State) -> Tensor:
        """(A, 3) the random numbers of one step; each system reads its own of `State.streams`."""
        block, row = divmod(step, BLOCK)
        return self.block(block, state)[row]

    def block(self, block: int, state: State) -> Tensor:
        """(BLOCK, A, 3) those of as many steps, from number BLOCK × block on."""
        known, batch, stream = self._block, state.batch, state.fields.get("stream")
        if known is None or known[0] != block or known[1] is not batch or known[2] is not stream:
            counts = state.counts.tolist()
            numbers = np.empty((BLOCK, len(batch), 3))
            for number, count, end in zip(
                state.streams.tolist(), counts, np.cumsum(counts), strict=True
            ):
                self._go_to(number, block)
                draws = self._generator.standard_normal((BLOCK, count, 3))
                numbers[:, end - count : end] = draws
            drawn = torch.from_numpy(numbers).to(state.positions)
            self._block = known = block, batch, stream, drawn
        return known[3]

    def _go_to(self, stream: int, block: int) -> None:
        # The low counter words run within a block; the high ones keep blocks and purposes apart.
        place: dict[str, Any] = dict(self._start)
        place["state"] = {
            "counter": np.array([0, 0, block, self._purpose], dtype=np.uint64),
            "key": np.array([self.seed, stream], dtype=np.uint64),
        }
        self._generator.bit_generator.state = place
