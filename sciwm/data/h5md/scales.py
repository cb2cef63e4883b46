"""Factors from the units a file declares to sciwm's own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.core.units import MOLECULAR, UnitError, conversion
from sciwm.data.h5md.elements import Element, Node, text
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import ASSUMED_UNITS, OBSERVABLE_FIELDS, PARTICLE_FIELDS


@dataclass(frozen=True)
class Scales:
    """What the units of one file mean.

    Attributes:
        physical: Whether its numbers have units at all; False for reduced units.
        creator: The program that wrote it: not every label can be trusted.
    """

    physical: bool
    creator: str

    def of_field(self, field: str, node: Node) -> float | None:
        """Factor for the values of a field; None where a unit is needed and missing.

        Raises:
            FormatError: If the unit is unknown, or is not one of what the field measures.
        """
        quantity = {**PARTICLE_FIELDS, **OBSERVABLE_FIELDS}[field].quantity
        if quantity is None or not self.physical:
            return 1.0
        if field == "velocities" and unit_of(node) == "Angstrom/fs" and self._by_znh5md:
            # It stores ASE's velocities, whose unit of time is Å sqrt(u/eV), not fs.
            return math.sqrt(MOLECULAR.acceleration)
        return _factor(node, unit_of(node), quantity)

    def of_edges(self, group: h5py.Group) -> float:
        """Factor for the edges of the box: that of the positions where they have no unit."""
        if not self.physical:
            return 1.0
        for name in ("box/edges", "position"):
            unit = unit_of(group[name]) if name in group else None
            if unit is not None:
                return _factor(group[name], unit, "length") or 1.0
        return 1.0

    def times(self, element: Element, others: Iterable[Node]) -> NDArray[np.float64] | None:
        """(T,) times of an element; None where they, or their unit, are unknown.

        Args:
            element: The element.
            others: Further elements: some writers give the unit of time for only one.
        """
        if element.times is None or not self.physical:
            return element.times
        for node in others:
            time = node.get("time") if isinstance(node, h5py.Group) else None
            unit = element.time_unit or (None if time is None else text(time.attrs.get("unit")))
            if unit is not None:
                factor = _factor(node, unit, "time")
                return None if factor is None else element.times * factor
        return None

    @property
    def _by_znh5md(self) -> bool:
        # Its early versions signed as N/A.
        return self.creator.lower().startswith("znh5md") or self.creator == "N/A"


def unit_of(node: Node) -> str | None:
    """The unit attribute of an element's values."""
    dataset = node if isinstance(node, h5py.Dataset) else node.get("value")
    return None if dataset is None else text(dataset.attrs.get("unit"))


def _factor(node: Node, unit: str | None, quantity: str) -> float | None:
    unit = unit or ASSUMED_UNITS.get(quantity)
    if unit is None:
        return None
    try:
        return conversion(unit, quantity)
    except UnitError as error:
        raise FormatError(
            node.file.filename,
            node.name,
            str(error),
            f"Correct the attribute `unit` to one of {quantity}",
        ) from error
