"""Reading H5MD 1.1 files, whichever of the legal layouts their writer chose."""

import json
import os
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from sciwm.core.units import MOLECULAR, REDUCED, UNIT_SYSTEMS, UnitSystem
from sciwm.data.h5md.assumptions import ASE, PHYSICAL, Assumptions
from sciwm.data.h5md.contents import diagnosed
from sciwm.data.h5md.elements import text
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.handle import Handle
from sciwm.data.h5md.layout import CREATOR, PARAMETERS
from sciwm.data.h5md.nodes import Root
from sciwm.data.h5md.particles import ParticleGroup, read_group
from sciwm.data.h5md.parts import MOST_PARTS, System, grouped
from sciwm.data.h5md.scales import Scales, unit_of
from sciwm.data.h5md.trajectory import Trajectory

SEARCH_DEPTH = 2
"""How far below the root of the file an H5MD structure is looked for."""


class H5MDFile:
    """An H5MD file, opened when first used and anew in every process.

    May be pickled and passed to worker processes; each opens the file for itself, since an HDF5
    handle must not be shared across a fork.

    Args:
        path: The file.
        cache_bytes: Size of HDF5's cache of decompressed chunks, per dataset.
        assumptions: What the file does not say itself.

    Raises:
        FileNotFoundError: On first use, if there is no such file.
        FormatError: On first use, if it is not HDF5 or not H5MD.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cache_bytes: int = 8 << 20,
        assumptions: Assumptions = Assumptions(),  # noqa: B008, frozen
    ):
        self.path = Path(path)
        self._assumptions = assumptions
        self._handle = Handle(self.path, cache_bytes)

    def __enter__(self) -> "H5MDFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Using it, or its trajectories, again opens it again."""
        self._handle.close()

    @cached_property
    def trajectories(self) -> list[Trajectory]:
        """One for each particles group with positions, or for each replica in such a group."""
        found: list[Trajectory] = []
        for root in self._roots:
            prefix = root.path.strip("/")
            with diagnosed(self._handle.file()):
                for name in _positioned(self._handle.file()[root.path]):
                    group = read_group(self._handle.file()[f"{root.path}particles/{name}"], root)
                    found += self._split(group, f"{prefix}/{name}" if prefix else name)
        if not found:
            raise FormatError(
                self.path,
                f"{self._roots[0].path}particles",
                "no particles group has positions",
                "Check that the writer was asked to store positions",
            )
        return found

    @cached_property
    def systems(self) -> list[System]:
        """The trajectories, those that are parts of one system together."""
        own = self.creator == CREATOR or len(self._roots) > 1
        if own or not 1 < len(self.trajectories) <= MOST_PARTS:
            return [System([one], one) for one in self.trajectories]
        file = self._handle.file()
        found = grouped(file, self.trajectories)
        for system in found:
            # Observables of the file belong to all its particles, those of a group to its own.
            group = file[system.parts[0].group.path]
            root = replace(self._roots[0], alone=len(found) == 1, own=len(system.parts) == 1)
            system.whole = Trajectory(self._handle, read_group(group, root), system.name)
        return found

    @cached_property
    def units(self) -> UnitSystem:
        """Molecular, or reduced where the file gives no units.

        Raises:
            FormatError: If the file holds several H5MD structures, with and without units.
        """
        if len({root.scales.physical for root in self._roots}) > 1:
            raise FormatError(
                self.path,
                ", ".join(root.path for root in self._roots),
                "some of these structures have units and others have not",
                "Copy them into files of their own",
            )
        return MOLECULAR if self._roots[0].scales.physical else REDUCED

    @cached_property
    def creator(self) -> str:
        """The program that wrote the file."""
        return self._roots[0].scales.creator

    @cached_property
    def by_ase(self) -> bool:
        """Whether that program stores what ASE holds, in ASE's units."""
        return self._roots[0].scales.by_ase

    @cached_property
    def author(self) -> str:
        """Whoever the file names as its author."""
        return _named(self._handle.file()[self._roots[0].path + "h5md"], "author")

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The settings that a sciwm file was written with; empty for other files."""
        settings = self._handle.file().get(f"{self._roots[0].path}{PARAMETERS}/settings")
        return {} if settings is None else json.loads(settings[()])

    @cached_property
    def _roots(self) -> list[Root]:
        """The H5MD structures of the file: usually one, at its root."""
        with diagnosed(self._handle.file()):
            return self._find_roots()

    def _find_roots(self) -> list[Root]:
        level: list[h5py.Group] = [self._handle.file()]
        for _ in range(SEARCH_DEPTH + 1):
            roots = [group for group in level if isinstance(group.get("h5md"), h5py.Group)]
            if roots:
                return [read_root(group, self._assumptions) for group in roots]
            level = [
                child
                for group in level
                for child in (group.get(name) for name in group)
                if isinstance(child, h5py.Group)
            ]
        raise FormatError(
            self.path,
            "/",
            "this HDF5 file is not H5MD: no group `h5md` at its root or two levels below",
            "Convert it with `sciwm import`, which knows other layouts",
        )

    def _split(self, group: ParticleGroup, name: str) -> list[Trajectory]:
        """One trajectory per replica of the group, each with its slice of the particles."""
        replica = group.replica
        if replica is None:
            return [Trajectory(self._handle, group, name)]
        edges = [0, *(np.flatnonzero(np.diff(replica)) + 1).tolist(), len(replica)]
        return [
            Trajectory(self._handle, group, f"{name}/{replica[low]}", slice(low, high), index)
            for index, (low, high) in enumerate(pairwise(edges))
        ]


def read_root(group: h5py.Group, assumptions: Assumptions = Assumptions()) -> Root:  # noqa: B008
    """What the H5MD structure at `group` says, and is assumed to mean, about its particles groups.

    Raises:
        FormatError: If it is not version 1 of H5MD.
    """
    signature = group["h5md"]
    version = np.asarray(signature.attrs.get("version", [])).ravel()
    if len(version) == 0 or version[0] != 1:
        raise FormatError(
            group.file.filename,
            signature.name,
            f"the attribute `version` is {version.tolist()}, not [1, 0] or [1, 1]",
            "Write the file as H5MD 1.1",
        )
    names = _positioned(group)
    declared = text(group[PARAMETERS].attrs.get("units")) if PARAMETERS in group else None
    particles = [group[f"particles/{name}"] for name in names]
    creator = _named(signature, "creator")
    by_ase = _by_ase(creator, particles)
    stated = any(_has_units(one) for one in particles)
    in_ase_units = by_ase and (stated or all(_has_atomic_numbers(one) for one in particles))
    told = assumptions.units
    if declared is not None:
        if declared not in UNIT_SYSTEMS:
            raise FormatError(
                group.file.filename,
                f"{group.name.rstrip('/')}/{PARAMETERS}",
                f"the attribute `units` is {declared!r}, not one of {', '.join(UNIT_SYSTEMS)}",
                "Correct it, or write the file anew",
            )
        physical = UNIT_SYSTEMS[declared] is not REDUCED
    else:
        physical = stated or (in_ase_units if told is None else bool(told))
    assumed = {**PHYSICAL, **(ASE if in_ase_units else {}), **(told or {})}
    return Root(
        path=group.name.rstrip("/") + "/",
        scales=Scales(physical, creator, by_ase, assumed),
        names=assumptions.names,
        per_particle_energy="modules/thermodynamics" in signature,
        alone=len(names) == 1,
    )


def _positioned(group: h5py.Group) -> list[str]:
    """Names of the particles groups that have positions."""
    groups = group.get("particles")
    if not isinstance(groups, h5py.Group):
        return []
    return [
        name for name, node in groups.items() if isinstance(node, h5py.Group) and "position" in node
    ]


def _named(signature: h5py.Group, role: str) -> str:
    """The name of the author or creator: an attribute of a group of that name, or bare."""
    node = signature.get(role)
    value = signature.attrs.get(role) if node is None else node.attrs.get("name")
    return text(value) or ""


def _has_units(group: h5py.Group) -> bool:
    names = ("position", "velocity", "force", "box/edges")
    return any(name in group and unit_of(group[name]) is not None for name in names)


def _by_ase(creator: str, particles: list[h5py.Group]) -> bool:
    """Whether ZnH5MD wrote the file, whose early versions signed as N/A."""
    if creator != "N/A":
        return creator.lower().startswith("znh5md")
    return any(
        "box/pbc" in group or ("velocity" in group and unit_of(group["velocity"]) == "Angstrom/fs")
        for group in particles
    )


def _has_atomic_numbers(group: h5py.Group) -> bool:
    """Whether the species of the first frame can be elements."""
    node = group.get("species")
    values = node.get("value") if isinstance(node, h5py.Group) else node
    if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "iuf":
        return False
    if values.ndim == 0 or values.size == 0:
        return False
    first = np.asarray(values[0] if values is not node else values[()], dtype=np.float64)
    known = first[np.isfinite(first)]
    return len(known) > 0 and bool(((known >= 1) & (known <= 118) & (known % 1 == 0)).all())
