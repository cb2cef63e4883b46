"""Large batches in passes: as many systems at a time as fit where features are kept.

On a processor that is its cache: beyond it, every operation waits for memory, and a batch of a
thousand molecules can take twice as long in one go as in parts. On a GPU it is the memory that is free,
found by a probe.
"""

from collections.abc import Callable, Iterator

import torch

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State

CACHED_SLOTS = 1500
"""Slots of the neighbour table whose features a processor's cache holds: a hundred atoms of molecules, at
which the default model took 56 µs an atom, and 103 in one pass of a thousand. Not searched further."""

PROBED_SLOTS = 8192
SHARE = 0.6
"""Of the free memory of a GPU that a pass may take."""


def passes(
    state: State, table: NeighbourTable, slots: int
) -> Iterator[tuple[State, NeighbourTable]]:
    """Parts of a batch of about `slots` neighbours at most, each of whole systems in their order.

    They hold what energies depend on. A system larger than that is a part of its own.
    """
    width = table.sender.shape[1]
    ends = state.counts.cumsum(0).tolist()
    first, start = 0, 0
    for system, end in enumerate(ends):
        last = system + 1 == len(ends)
        if not last and (ends[system + 1] - start) * width <= slots:
            continue
        atoms, systems = slice(start, end), slice(first, system + 1)
        part = State(
            numbers=state.numbers[atoms],
            positions=state.positions[atoms],
            charges=state.charges[atoms],
            batch=state.batch[atoms] - first,
            total_charge=state.total_charge[systems],
            cell=state.cell[systems],
            pbc=state.pbc[systems],
            num_nodes=end - start,
        )
        shift = None if table.shift is None else table.shift[atoms]
        reverse = table.reverse[atoms] - start * width
        yield part, NeighbourTable(table.sender[atoms] - start, table.real[atoms], shift, reverse)
        first, start = system + 1, end


def slots_that_fit(
    evaluate: Callable[[State, NeighbourTable], object], state: State, table: NeighbourTable
) -> int:
    """How many slots a pass may have on the device where the batch is.

    Args:
        evaluate: What will be called with each part; on a GPU it is called once, with a small part of
            the batch, to see how much memory it takes.
    """
    device = table.sender.device
    if device.type != "cuda":
        return CACHED_SLOTS
    part = next(passes(state, table, PROBED_SLOTS))
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    evaluate(*part)
    taken = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds without using it is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(int(SHARE * free * part[1].sender.numel() / max(taken, 1)), 1)
