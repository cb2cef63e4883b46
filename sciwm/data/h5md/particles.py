"""One particles group of an H5MD file: its elements, its box and its clock, read once."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.data.h5md.box import Box, read_box
from sciwm.data.h5md.elements import Clocks, Element, Node, read_element, text
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import (
    CREATOR,
    LASTING_FIELDS,
    MOMENTA,
    OBSERVABLE_FIELDS,
    PARTICLE_FIELDS,
    VECTOR_FIELDS,
    group_parameters,
)
from sciwm.data.h5md.nodes import Root, field_nodes, homes, is_empty, unread_nodes
from sciwm.data.h5md.properties import property_nodes, read_properties
from sciwm.data.h5md.sampling import breaks, latest, matched
from sciwm.data.h5md.scales import unit_of


@dataclass(frozen=True, eq=False)
class ParticleGroup:
    """Metadata of one particles group; the samples themselves stay in the file.

    Attributes:
        path: HDF5 path of the group.
        box: The box at every frame.
        elements: Where each field is stored.
        rows: Per field, (T,) index of the sample of each frame, -1 where there is none; absent
            where samples and frames are the same.
        constants: Values of the fields that do not change, in storage order.
        ids: Where the particle ids are stored, if they are.
        steps: (T,) steps of the positions; None where these are fixed.
        times: (T,) in fs, or reduced.
        breaks: Frames whose step does not exceed the one before.
        replica: (N,) which copy of the system each particle belongs to.
        ordered: False where the frames are known not to follow one another.
        smiles: The molecule, where the file names it.
        unreadable: Fields that are stored but cannot be interpreted, with the reason.
        unstated: Quantities that some value is of and whose unit it does not state.
        unread: HDF5 paths of elements that are no field of a frame.
        momenta: Whether the velocities are stored as momenta.
    """

    path: str
    box: Box
    elements: dict[str, Element]
    rows: dict[str, NDArray[np.int64]]
    constants: dict[str, np.ndarray]
    ids: Element | None
    steps: NDArray[np.int64] | None
    times: NDArray[np.float64] | None
    breaks: NDArray[np.int64]
    replica: NDArray[np.int64] | None
    ordered: bool
    smiles: str | None
    unreadable: dict[str, str] = field(default_factory=dict)
    unstated: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    momenta: bool = False

    @property
    def n_frames(self) -> int:
        return 1 if self.steps is None else len(self.steps)


def read_group(group: h5py.Group, root: Root) -> ParticleGroup:
    """The metadata of a particles group that has positions.

    Raises:
        FormatError: If the group cannot be read as H5MD.
    """
    clocks: Clocks = {}
    nodes = field_nodes(group, root)
    elements, unreadable = _elements(group, nodes, root, clocks)
    steps = elements["positions"].steps
    replica = _replica(group, elements["positions"])
    ids = _ids(group, elements["positions"], replica, clocks)
    rows = {}
    for name, element in list(elements.items()):
        if element.steps is None:
            continue
        if steps is None:
            unreadable[name] = f"{element.path} is sampled in time but the positions are not"
            del elements[name]
        elif np.array_equal(element.steps, steps):
            continue
        elif name not in LASTING_FIELDS:
            rows[name] = matched(steps, element.steps)
        elif ids is not None and ids.steps is not None:
            unreadable[name] = f"{element.path} is not sampled together with the ids"
            del elements[name]
        else:
            rows[name] = np.maximum(latest(steps, element.steps), 0)
    attributes = _attributes(group, root)
    return ParticleGroup(
        path=group.name,
        box=read_box(group, steps, root.scales.of_edges(group), clocks),
        elements=elements,
        rows=rows,
        constants={
            name: _constant(group.file[element.path], element)
            for name, element in elements.items()
            if element.steps is None and name != "positions"
        },
        ids=ids,
        steps=steps,
        times=root.scales.times(elements["positions"], _timed(group, nodes)),
        breaks=breaks(steps) if steps is not None else np.zeros(0, dtype=np.int64),
        replica=replica,
        ordered=bool(attributes.get("stepped", True) or attributes.get("timed", True)),
        smiles=text(attributes.get("smiles")),
        unreadable=unreadable,
        unstated=_unstated(group, nodes),
        unread=tuple(unread_nodes(group, nodes, root)),
        momenta="velocities" in nodes and _are_momenta(nodes["velocities"]),
    )


def _unstated(group: h5py.Group, nodes: dict[str, Node]) -> frozenset[str]:
    """Quantities of values that are there, have a unit in other files and state none here."""
    places = {**PARTICLE_FIELDS, **OBSERVABLE_FIELDS}
    found = {
        places[name].quantity or ""
        for name, node in nodes.items()
        if name != "total_charge" and unit_of(node) is None
    }
    clocks = [node["time"] for node in _timed(group, nodes) if "time" in _members(node)]
    if clocks and not any(text(time.attrs.get("unit")) for time in clocks):
        found.add("time")
    return frozenset(found - {""})


def _members(node: Node) -> Iterable[str]:
    return node if isinstance(node, h5py.Group) else ()


def _elements(
    group: h5py.Group, nodes: dict[str, Node], root: Root, clocks: Clocks
) -> tuple[dict[str, Element], dict[str, str]]:
    """The fields that can be read, and for the others the reason why not."""
    elements: dict[str, Element] = {}
    unreadable: dict[str, str] = {}
    for name, node in nodes.items():
        element = read_element(node, clocks)
        scale = root.scales.of_field(name, node)
        if scale is None:
            unreadable[name] = f"{element.path} has no unit, in a file that has units"
        elif not _shape_fits(name, element.shape, "replica" in group, root.scales.by_ase):
            unreadable[name] = f"{element.path} has samples of shape {element.shape}"
        elif name == "source_frame" and group.file[element.path].dtype.kind not in "iu":
            unreadable[name] = f"{element.path} does not hold whole numbers"
        elif name == "velocities" and _are_momenta(node) and element.fixed:
            unreadable[name] = f"{element.path} holds momenta that are not sampled in time"
        else:
            elements[name] = element.scaled(scale)
    if "positions" not in elements:
        raise FormatError(
            group.file.filename,
            group.name,
            unreadable["positions"],
            "Store positions as (frames, particles, 1 to 3 axes), with a unit if others have one",
        )
    for name, element in elements.items():
        if name in PARTICLE_FIELDS and element.shape[0] != elements["positions"].shape[0]:
            raise FormatError(
                group.file.filename,
                element.path,
                f"it has {element.shape[0]} particles but the positions have "
                f"{elements['positions'].shape[0]}",
                "Store every element of a group for the same particles",
            )
    further, strange = read_properties(
        property_nodes(group.file, homes(group, root)),
        elements["positions"].shape[0],
        "replica" in group,
        root.scales,
        clocks,
    )
    elements |= further
    unreadable |= strange
    if "energy" in elements and root.per_particle_energy:
        elements["energy"] = elements["energy"].scaled(
            _particle_numbers(group, nodes, elements, clocks)
        )
    if root.scales.creator == CREATOR:
        # All our elements grow together: where one is shorter, a crash cut the others off.
        common = min(
            (len(one.steps) for one in elements.values() if one.steps is not None), default=0
        )
        elements = {name: element.shortened(common) for name, element in elements.items()}
    return elements, unreadable


def _are_momenta(node: Node) -> bool:
    return node.name.split("/")[-1] in MOMENTA


def _shape_fits(name: str, shape: tuple[int, ...], replicas: bool, voigt: bool) -> bool:
    if name in VECTOR_FIELDS:
        return len(shape) == 2 and 1 <= shape[1] <= 3
    if name in PARTICLE_FIELDS:
        return len(shape) == 1
    if name == "stress":
        return shape == (3, 3) or (voigt and shape == (6,))
    return len(shape) == 1 if replicas and name == "energy" else shape in ((), (1,))


def _particle_numbers(
    group: h5py.Group, nodes: dict[str, Node], elements: dict[str, Element], clocks: Clocks
) -> float | NDArray[np.float64]:
    """The number of particles at each sample of the energy."""
    home = posixpath.dirname(nodes["energy"].name)
    node = group.file.get(f"{home}/particle_number")
    energy = elements["energy"]
    if node is None:
        return float(elements["positions"].shape[0])
    counts = read_element(node, clocks)
    values = np.asarray(group.file[counts.path][()], dtype=np.float64)
    if counts.steps is None or energy.steps is None:
        return float(values.ravel()[0])
    rows = matched(energy.steps, counts.steps)
    return np.where(rows < 0, np.nan, values[rows])


def _constant(dataset: h5py.Dataset, element: Element) -> np.ndarray:
    values = np.asarray(dataset[()])
    return values if values.dtype.kind in "OS" else values * element.scale


def _ids(
    group: h5py.Group, positions: Element, replica: NDArray[np.int64] | None, clocks: Clocks
) -> Element | None:
    if "id" not in group or replica is not None or is_empty(group["id"]):
        return None
    ids = read_element(group["id"], clocks)
    if ids.steps is not None and len(ids.steps) == 0:
        return None  # prepared and never written
    same_clock = (
        ids.steps is None
        or positions.steps is None
        or np.array_equal(ids.steps[: len(positions.steps)], positions.steps)
    )
    if not same_clock or ids.shape != positions.shape[:1]:
        raise FormatError(
            group.file.filename,
            ids.path,
            f"ids of shape {ids.shape} are not sampled with the positions {positions.shape}",
            "Store the ids once, or at every frame of the positions",
        )
    return ids


def _replica(group: h5py.Group, positions: Element) -> NDArray[np.int64] | None:
    if "replica" not in group:
        return None
    replica = np.asarray(group["replica"][()])
    changes = np.flatnonzero(np.diff(replica)) + 1
    if replica.shape != positions.shape[:1] or len(changes) + 1 != len(np.unique(replica)):
        raise FormatError(
            group.file.filename,
            f"{group.name}/replica",
            f"the replica numbers, shape {replica.shape}, do not split the "
            f"{positions.shape[0]} particles into contiguous blocks",
            "Number the particles of each copy of the system next to one another",
        )
    return replica


def _timed(group: h5py.Group, nodes: dict[str, Node]) -> list[Node]:
    """All elements that may say what the unit of time is, the positions first."""
    further = [group[name] for name in ("id", "box/edges") if name in group]
    return [nodes["positions"], *nodes.values(), *further]


def _attributes(group: h5py.Group, root: Root) -> dict[str, object]:
    local = group.name.removeprefix(f"{root.path}particles/")
    found = group.file.get(f"{root.path}{group_parameters(local)}")
    return {} if found is None else dict(found.attrs)
