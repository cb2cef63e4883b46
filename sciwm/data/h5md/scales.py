"""Factors from the units a file declares to sciwm's own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.core.units import MOLECULAR, UnitError, conversion
from sciwm.data.h5md.elements import Element, Node, text
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import MOMENTA, OBSERVABLE_FIELDS, PARTICLE_FIELDS


@dataclass(frozen=True)
class Scales:
    """What the units of one file mean.

    Attributes:
        physical: Whether its numbers have units at all; False for reduced units.
        creator: The program that wrote it: not every label can be trusted.
        by_ase: Whether that program hands on what ASE holds, in ASE's units and words.
        assumed: Quantity -> unit of values that state none.
    """

    physical: bool
    creator: str
    by_ase: bool
    assumed: Mapping[str, str]

    def of_field(self, field: str, node: Node) -> float | None:
        """Factor for the values of a field; None where a unit is needed and missing.

        Raises:
            FormatError: If the unit is unknown, or is not one of what the field measures.
        """
        quantity = {**PARTICLE_FIELDS, **OBSERVABLE_FIELDS}[field].quantity
        if quantity is None or not self.physical:
            return 1.0
        unit = unit_of(node)
        if field == "velocities" and self.by_ase and self._in_ase_time(node, unit):
            # ASE's unit of time is Å sqrt(u/eV), not fs.
            return math.sqrt(MOLECULAR.acceleration)
        return self._factor(node, unit, quantity)

    def of_edges(self, group: h5py.Group) -> float:
        """Factor for the edges of the box: that of the positions where they have no unit."""
        if not self.physical:
            return 1.0
        for name in ("box/edges", "position"):
            unit = unit_of(group[name]) if name in group else None
            if unit is not None:
                return self._factor(group[name], unit, "length") or 1.0
        return self._factor(group["position"], None, "length") or 1.0

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
                factor = self._factor(node, unit, "time")
                return None if factor is None else element.times * factor
        if "time" in self.assumed:
            return element.times * conversion(self.assumed["time"], "time")
        return None

    def _in_ase_time(self, node: Node, unit: str | None) -> bool:
        # "Angstrom/fs" is what ZnH5MD writes beside ASE's velocities; momenta never have a unit.
        return (
            unit == "Angstrom/fs"
            or node.name.split("/")[-1] in MOMENTA
            or (unit is None and "velocity" not in self.assumed)
        )

    def _factor(self, node: Node, unit: str | None, quantity: str) -> float | None:
        unit = unit or self.assumed.get(quantity)
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


def unit_of(node: Node) -> str | None:
    """The unit attribute of an element's values."""
    dataset = node if isinstance(node, h5py.Dataset) else node.get("value")
    return None if dataset is None else text(dataset.attrs.get("unit"))
