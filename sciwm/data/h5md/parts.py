"""Particles groups that belong to one system.

In H5MD particles groups are subsets of one system, but programs also keep separate systems in them,
and subsets may overlap. Groups sampled at the same steps in the same box are told apart by the ids
of their particles; without ids by where these are, and then a box that the groups share as one
HDF5 object has to say that they are together. What remains unclear is left apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES
from sciwm.data.h5md.particles import ParticleGroup
from sciwm.data.h5md.trajectory import Trajectory

COINCIDENT = 1e-6
"""Distance, in the unit of length, below which two entries are the same particle."""

MOST_PARTS = 32
"""A file of more groups holds samples, not the parts of a system."""

Relation = Literal["parts", "subset", "superset", "unclear", "apart"]


@dataclass(eq=False)
class System:
    """Trajectories whose particles move in one box.

    Attributes:
        parts: One for each particles group.
        whole: The first of them with the observables of the whole system.
        subsets: Names of groups that hold some of these particles once more.
        unclear: Names of groups of which nothing tells whether they belong here too.
    """

    parts: list[Trajectory]
    whole: Trajectory
    subsets: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def has(self, name: str) -> bool:
        """Whether every part has this field."""
        return all(name in part.fields for part in self.parts)

    def frame(self, k: int) -> Frame:
        """All particles at frame `k`, in order of id where there are ids."""
        if len(self.parts) == 1:
            return self.whole.frame(k)
        pieces = [part.frame(k) for part in self.parts]
        order = self._order([len(piece) for piece in pieces])
        joined: dict[str, object] = {}
        for name in ("numbers", "positions", "velocities", "forces", "masses", "charges", "images"):
            values = [getattr(piece, name) for piece in pieces]
            known = all(value is not None for value in values)
            joined[name] = np.concatenate(values)[order] if known else None
        whole = self.whole.frame(k)
        return whole.with_(
            **joined,
            trajectory=self.name if whole.trajectory else "",
            total_charge=whole.total_charge or sum(piece.total_charge for piece in pieces),
            properties={
                name: value
                for name, value in whole.properties.items()
                if not PROPERTIES[name].per_atom
            },
        )

    def _order(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        ids = [part.first_ids for part in self.parts]
        known = [one for one in ids if one is not None]
        if [len(one) for one in known] != list(sizes):
            return np.arange(sum(sizes))
        return np.argsort(np.concatenate([np.sort(one) for one in known]), kind="stable")


def grouped(file: h5py.File, trajectories: Sequence[Trajectory]) -> list[System]:
    """The systems that some trajectories of one file make up."""
    found: list[System] = []
    for one in trajectories:
        relations = {
            id(system): {relation(file, part, one) for part in system.parts} for system in found
        }
        holders = [system for system in found if "subset" in relations[id(system)]]
        if holders:
            holders[0].subsets.append(one.name)
            continue
        partners = [system for system in found if relations[id(system)] == {"parts"}]
        if partners:
            partners[0].parts.append(one)
            continue
        covered = [system for system in found if relations[id(system)] == {"superset"}]
        subsets = [name for s in covered for name in [*(p.name for p in s.parts), *s.subsets]]
        found = [system for system in found if system not in covered]
        unclear = [system.name for system in found if relations[id(system)] != {"apart"}]
        found.append(System([one], one, subsets, unclear))
    return found


def relation(file: h5py.File, one: Trajectory, two: Trajectory) -> Relation:
    """What the particles of the second trajectory are to those of the first."""
    a, b = one.group, two.group
    linked = _linked(file, a, b)
    if not _same_clock(a, b) or not (linked or _same_box(a, b)):
        return "apart"
    ids = one.first_ids, two.first_ids
    if ids[0] is not None and ids[1] is not None:
        first, second = set(ids[0].tolist()), set(ids[1].tolist())
        if first.isdisjoint(second):
            return "parts"
        if second < first:
            return "subset"
        return "superset" if first < second else "unclear"
    shared = [_shared(one, two, k) for k in (0, -1)]
    if min(shared) == two.n_particles < one.n_particles:
        return "subset"
    if min(shared) == one.n_particles < two.n_particles:
        return "superset"
    return "parts" if linked and max(shared) == 0 else "unclear"


def _same_clock(a: ParticleGroup, b: ParticleGroup) -> bool:
    if a.replica is not None or b.replica is not None or a.steps is None or b.steps is None:
        return False
    if a.times is None or b.times is None:
        same_times = a.times is b.times
    else:
        same_times = np.array_equal(a.times, b.times, equal_nan=True)
    return same_times and len(a.steps) > 0 and np.array_equal(a.steps, b.steps)


def _same_box(a: ParticleGroup, b: ParticleGroup) -> bool:
    if not (a.box.pbc.any() and np.array_equal(a.box.pbc, b.box.pbc)):
        return False
    frames = np.arange(a.n_frames)
    return np.array_equal(a.box.at(frames), b.box.at(frames))


def _linked(file: h5py.File, a: ParticleGroup, b: ParticleGroup) -> bool:
    """Whether both groups point to one and the same box, or edges."""
    for name in ("box", "box/edges", "box/edges/value"):
        places = [file.get(f"{group.path}/{name}") for group in (a, b)]
        if all(place is not None for place in places):
            first, second = (h5py.h5o.get_info(place.id).addr for place in places)
            if first == second:
                return True
    return False


def _shared(one: Trajectory, two: Trajectory, k: int) -> int:
    """How many particles of the smaller trajectory are where one of the other is."""
    from scipy.spatial import cKDTree  # which a model's first energy has no need of

    small, large = sorted((one.frame(k).positions, two.frame(k).positions), key=len)
    distances, _ = cKDTree(large).query(small)
    return int((distances < COINCIDENT).sum())
