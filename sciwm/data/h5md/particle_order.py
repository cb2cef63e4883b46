"""Which particles are present in a frame, and in which order of storage.

H5MD lets writers store particles in another order at every frame, told apart by `id`, and mark
the entries of absent particles with the fill value of `id`. Sets of molecules of unlike size are
also stored with NaN as species of the missing atoms.
"""

import numpy as np
from numpy.typing import NDArray

from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.particles import ParticleGroup
from sciwm.data.h5md.row_reads import Rows, Source, take


class Roster:
    """The particles of each frame of one trajectory.

    Args:
        source: The open file.
        group: The particles group.
        columns: The particles of the group that belong to the trajectory.
    """

    def __init__(self, source: Source, group: ParticleGroup, columns: slice):
        self._source = source
        self._group = group
        self._columns = columns
        self._always: NDArray[np.int64] | None = None
        ids, species = group.ids, group.elements.get("numbers")
        self._changing = (ids is not None and ids.steps is not None) or (
            species is not None
            and species.steps is not None
            and source.dataset(species.path).dtype.kind == "f"
        )
        if not self._changing:
            order = self._orders(np.zeros(1, dtype=np.int64))[0]
            if not np.array_equal(order, np.arange(self._width)):
                self._always = order

    def orders(self, rows: Rows) -> list[NDArray[np.int64]] | None:
        """Per frame, the places in storage of its particles in order of id.

        None where every frame simply holds all particles in order.
        """
        if self._changing:
            return self._orders(rows)
        return None if self._always is None else [self._always] * len(rows)

    def same(self, rows: Rows, orders: list[NDArray[np.int64]] | None) -> bool:
        """Whether frames, with the orders of these, hold the same particles."""
        if orders is None or not self._changing:
            return True
        ids = self._group.ids
        if ids is None or ids.steps is None:
            names = orders
        else:
            stored = take(self._source.dataset(ids.path), rows, self._columns)
            names = [one[order] for one, order in zip(stored, orders, strict=True)]
        return all(np.array_equal(one, names[0]) for one in names)

    def constants(self, values: np.ndarray, row: int) -> np.ndarray:
        """(n, ...) a property that is stored once, for the particles of one frame.

        Args:
            values: (N, ...) in order of storage. Where the order of storage changes, that of the
                first frame is meant: a particle keeps its mass wherever it is stored.
            row: The frame.

        Raises:
            FormatError: If a particle was not there in the first frame.
        """
        values = values[self._columns]
        orders = self.orders(np.array([row]))
        if orders is None:
            return values
        ids = self._group.ids
        if ids is None or ids.steps is None or row == 0:
            return values[orders[0]]
        first, now = take(self._source.dataset(ids.path), np.array([0, row]), self._columns)
        known = self._orders(np.zeros(1, dtype=np.int64))[0]
        wanted = now[orders[0]]
        place = np.minimum(np.searchsorted(first[known], wanted), len(known) - 1)
        strangers = wanted[first[known][place] != wanted]
        if len(strangers):
            raise FormatError(
                self._source.location,
                ids.path,
                f"particle {strangers[0]} appears in frame {row} but not in the first frame, so "
                "its species, mass or charge, stored once, is unknown",
                "Store these elements at every frame",
            )
        return values[known[place]]

    @property
    def _width(self) -> int:
        return len(range(*self._columns.indices(self._group.elements["positions"].shape[0])))

    def _orders(self, rows: Rows) -> list[NDArray[np.int64]]:
        count, width = len(rows), self._width
        keys = np.broadcast_to(np.arange(width), (count, width))
        present = np.ones((count, width), dtype=bool)
        ids, species = self._group.ids, self._group.elements.get("numbers")
        if ids is not None:
            dataset = self._source.dataset(ids.path)
            keys = dataset[()][None] if ids.steps is None else take(dataset, rows, self._columns)
            keys = np.broadcast_to(keys, (count, width))
            if ids.fill is not None:
                present = keys != ids.fill
        if species is not None:
            dataset = self._source.dataset(species.path)
            if dataset.dtype.kind == "f":
                if species.steps is None:
                    kinds = dataset[self._columns][None]
                else:
                    samples = self._group.rows.get("numbers")
                    samples = rows if samples is None else samples[rows]
                    kinds = take(dataset, samples, self._columns)
                present = present & np.isfinite(kinds)
        orders = []
        for key, there in zip(keys, present, strict=True):
            places = np.flatnonzero(there)
            orders.append(places[np.argsort(key[places], kind="stable")])
        return orders
