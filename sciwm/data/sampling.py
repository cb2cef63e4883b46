"""The order in which training sees its data: endless, reproducible, and resumable at any step."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class ShuffledBatches(Sampler[list[int]]):
    """Batches of shuffled indices, pass after pass; batch k is the same whoever asks and whenever.

    Args:
        sizes: (n,) particles of each item.
        batch_size: Items in a batch.
        max_atoms: Close a batch before it holds more particles than this.
        seed: Of the shuffling.
        start: Called when iteration begins; how many batches were already consumed.
        rank, world: Each of `world` processes takes every world-th item of a batch.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        max_atoms: int | None,
        seed: int,
        start: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world: int = 1,
    ):
        if max_atoms is not None and max(sizes) > max_atoms:
            raise ValueError(
                f"a system of {max(sizes)} particles does not fit into {max_atoms=}; raise it"
            )
        if batch_size < world:
            raise ValueError(f"{batch_size=} is smaller than the {world} processes that share it")
        self.sizes = np.asarray(sizes)
        self.batch_size = min(batch_size, len(sizes))
        self.max_atoms = max_atoms
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[list[int]]:
        skip = self.start()
        for number, batch in enumerate(self._batches()):
            if number >= skip:
                yield batch[self.rank :: self.world]

    def _batches(self) -> Iterator[list[int]]:
        batch: list[int] = []
        atoms = 0
        passes = 0
        while True:
            # A batch may run over from one pass into the next: none is ever short.
            order = np.random.default_rng([self.seed, passes]).permutation(len(self.sizes))
            passes += 1
            for index in order.tolist():
                size = int(self.sizes[index])
                full = len(batch) == self.batch_size
                heavy = self.max_atoms is not None and atoms + size > self.max_atoms
                if full or (heavy and len(batch) >= self.world):
                    yield batch
                    batch, atoms = [], 0
                batch.append(index)
                atoms += size


class OrderedBatches(Sampler[list[int]]):
    """Every item exactly once, in order; under several processes each item in one of them.

    Args:
        n: Items.
        batch_size: Items in a batch.
        rank, world: Which share of the items to give.
    """

    def __init__(self, n: int, batch_size: int, rank: int = 0, world: int = 1):
        self.indices = list(range(rank, n, world))
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.indices[start : start + self.batch_size]
