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
"""Slots of the neighbour table whose features a processor's cache holds, for models of the presets' size:
a hundred atoms of molecules."""

PROBED_SLOTS = 8192
"""Enough to see what a slot takes: in smaller batches the libraries' own memory would be counted in."""

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


def bytes_per_slot(
    evaluate: Callable[[State, NeighbourTable], object], state: State, table: NeighbourTable
) -> float:
    """What a slot takes on a GPU, found by evaluating a part of a batch of at least `PROBED_SLOTS`."""
    device = table.sender.device
    part = next(passes(state, table, PROBED_SLOTS))
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    evaluate(*part)
    taken = torch.cuda.max_memory_allocated(device) - before
    return max(taken, 1) / part[1].sender.numel()


def slots_that_fit(each: float, device: torch.device) -> int:
    """How many slots of so many bytes each a pass may have on a GPU now."""
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds without using it is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(int(SHARE * free / each), 1)
