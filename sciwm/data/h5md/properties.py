"""Properties such as dipoles among the observables of a group.

Other programs keep things of their own under these names, so what does not fit is set aside with a
reason and never makes a file unreadable.
"""

from collections.abc import Iterable

import h5py

from sciwm.core.properties import PROPERTIES, property_field
from sciwm.core.units import UnitError
from sciwm.data.h5md.contained import ForeignDataError
from sciwm.data.h5md.elements import Clocks, Element, Node, read_element
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.scales import Scales, unit_of

_NAMES = frozenset(PROPERTIES)


def property_nodes(file: h5py.File, homes: Iterable[str]) -> dict[str, Node]:
    """The HDF5 object of each property by name; earlier homes come first."""
    nodes: dict[str, Node] = {}
    for home in homes:
        group = file.get(home)
        # Most files hold none: one look at the list of names is all that they pay.
        if not isinstance(group, h5py.Group) or _NAMES.isdisjoint(group):
            continue
        for name in _NAMES.intersection(group):
            node = group[name]
            if isinstance(node, h5py.Dataset) or "value" in node:
                nodes.setdefault(name, node)
    return dict(sorted(nodes.items()))


def read_properties(
    nodes: dict[str, Node], n_particles: int, replicas: bool, scales: Scales, clocks: Clocks
) -> tuple[dict[str, Element], dict[str, str]]:
    """By field name, the elements that can be read, and for the others the reason why not."""
    elements: dict[str, Element] = {}
    unreadable: dict[str, str] = {}
    for name, node in nodes.items():
        wanted = PROPERTIES[name].sample_shape(n_particles)
        try:
            element = read_element(node, clocks)
            scale = _scale(name, node, scales)
        except ForeignDataError:
            raise
        except (FormatError, UnitError) as error:
            unreadable[property_field(name)] = str(error)
            continue
        kind = node.file[element.path].dtype.kind
        if scale is None:
            reason = f"{element.path} has no unit, in a file that has units"
        elif replicas:
            reason = f"{element.path} belongs to a group of many systems, not to one of them"
        elif element.shape != wanted or kind not in "fiu":
            reason = f"{element.path} has samples of shape {element.shape}, not numbers of {wanted}"
        else:
            elements[property_field(name)] = element.scaled(scale)
            continue
        unreadable[property_field(name)] = reason
    return elements, unreadable


def _scale(name: str, node: Node, scales: Scales) -> float | None:
    """Factor to the unit of the property; None where a unit is needed and missing."""
    if not scales.physical:
        return 1.0
    unit = unit_of(node) or scales.assumed.get(PROPERTIES[name].quantity)
    return None if unit is None else PROPERTIES[name].size(unit)
