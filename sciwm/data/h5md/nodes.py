"""Which HDF5 object of a file holds each field of a frame, whatever its writer called it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py

from sciwm.core.properties import PROPERTIES
from sciwm.data.h5md.elements import Node
from sciwm.data.h5md.layout import ASE_NAMES, OBSERVABLE_FIELDS, OTHER_NAMES, PARTICLE_FIELDS
from sciwm.data.h5md.scales import Scales


@dataclass(frozen=True)
class Root:
    """What an H5MD structure says about all its particles groups.

    Attributes:
        path: HDF5 path of the group that holds `h5md`, ending in a slash.
        scales: What its units mean.
        names: Field -> name of its element, where the user has said it.
        per_particle_energy: Whether energies follow the module `thermodynamics`, which stores
            them divided by the number of particles.
        alone: Whether there is a single particles group, to which global observables belong.
        own: Whether observables of single groups count.
    """

    path: str
    scales: Scales
    names: Mapping[str, str]
    per_particle_energy: bool
    alone: bool
    own: bool = True


def field_nodes(group: h5py.Group, root: Root) -> dict[str, Node]:
    """The HDF5 object that holds each field, for the fields that are there."""
    nodes: dict[str, Node] = {}
    for name in PARTICLE_FIELDS:
        for element in _names_of(name, root):
            node = group.get(element)
            # Some writers prepare groups that they never fill.
            if node is not None and (name == "positions" or not is_empty(node)):
                nodes.setdefault(name, node)
    for name in OBSERVABLE_FIELDS:
        # What is one number per system may still be kept with the particles, if so named.
        for home in [*homes(group, root), *([group.name] if name in root.names else [])]:
            for element in _names_of(name, root):
                node = group.file.get(f"{home}/{element}")
                if node is not None and _is_element(node):
                    nodes.setdefault(name, node)
    return nodes


def _names_of(field: str, root: Root) -> tuple[str, ...]:
    """What the element of a field may be called, the likeliest name first."""
    if field in root.names:
        return (root.names[field],)
    others = OTHER_NAMES | (ASE_NAMES if root.scales.by_ase else {})
    return ({**PARTICLE_FIELDS, **OBSERVABLE_FIELDS}[field].name, *others.get(field, ()))


def unread_nodes(group: h5py.Group, nodes: dict[str, Node], root: Root) -> Iterator[str]:
    """Elements beside those of the frame's fields and its properties."""
    read = {node.name for node in nodes.values()}
    for home in (group.name, *homes(group, root)):
        found = group.file.get(home)
        for name in found if isinstance(found, h5py.Group) else ():
            node = found.get(name)
            known = name in ("box", "id", "replica") or (home != group.name and name in PROPERTIES)
            if not known and _is_element(node) and node.name not in read:
                yield node.name
    if f"{root.path}connectivity" in group.file:
        yield f"{root.path}connectivity"


def is_empty(node: Node) -> bool:
    """Whether this is a group without anything in it."""
    return isinstance(node, h5py.Group) and len(node) == 0


def homes(group: h5py.Group, root: Root) -> list[str]:
    """Where the observables of a particles group may be, the most particular place first."""
    local = group.name.removeprefix(f"{root.path}particles/")
    own = [f"{root.path}observables/{local}"] if root.own else []
    return [*own, f"{root.path}observables"] if root.alone else own


def _is_element(node: Node) -> bool:
    # A subsystem may be called, say, "stress" as well: a group of observables has no value.
    return isinstance(node, h5py.Dataset) or (isinstance(node, h5py.Group) and "value" in node)
