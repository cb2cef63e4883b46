"""Energies where atoms collide and where bonds break: no holes, and free atoms at their own energies.

Every pair of elements is scanned from a collision to the cutoff, and in molecules every bond that holds
two parts together, from a collision to the parts far apart. Training data says little about either, so a
model is asked for what is known of all matter: nuclei repel, no bond is stronger than that of carbon
monoxide, and molecules do not fall apart by themselves.
"""

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii
from torch import Tensor

from sciwm.core.bonds import bonds
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.evaluation.checks.check import Check, Status, bare_evaluation, judged
from sciwm.models.dynamics.potential import Potential

NEAREST = 0.2
"""Å, where scans begin."""

POINTS = 80
"""Distances in a scan."""

COLLIDED = 0.4
"""Sums of covalent radii below which nuclei only repel; the shortest bond, of N2, has 0.77."""

STRONGEST_BOND = 13.0
"""eV. Carbon monoxide has 11.2, and 11.7 by some density functionals."""

WEAKEST_BOND = 1.0
"""eV. The weakest bonds of stable molecules, between oxygens, have 1.5."""


def dissociation_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Collisions and bonds of pairs of atoms and, where systems are molecules, of their parts.

    Nothing in reduced units, where particles may be of any kind.

    Args:
        model: In float64.
        systems: One system each, in float64.
    """
    if model.units is not MOLECULAR:
        return []
    checks = [*_pair_checks(model), _free_atoms(model)]
    scans = [scan for system in systems for scan in _bond_scans(system, model.cutoff)]
    return checks + (_bond_checks(model, scans) if scans else [])


def _pair_checks(model: Potential) -> list[Check]:
    """Every pair of elements that training held, beside nothing else."""
    species = torch.nonzero(model.domain.seen)[:, 0].tolist()
    alone = dict(zip(species, _energies(model, [[z] for z in species]), strict=True))
    deepest = attraction = -np.inf
    where = steepest = ""
    for k, first in enumerate(species):
        for second in species[k:]:
            reach = covalent_radii[first] + covalent_radii[second]
            distances = np.linspace(NEAREST, model.cutoff, POINTS)
            found = _energies(model, [[first, second]] * POINTS, distances)
            energies = (found - alone[first] - alone[second]).numpy(force=True)
            name = f"{chemical_symbols[first]}-{chemical_symbols[second]}"
            low = int(np.argmin(energies))
            if not np.isfinite(energies).all() or -energies[low] > deepest:
                deepest, where = -energies[low], f"{name} at {distances[low]:.2f} Å"
            inner = np.linspace(NEAREST, max(COLLIDED * reach, NEAREST + 0.05), POINTS)
            collided = _energies(model, [[first, second]] * POINTS, inner).numpy(force=True)
            rise = float(np.diff(collided).max())
            if not rise <= attraction:
                attraction, steepest = rise, name
    return [
        judged(
            "deepest pair",
            float(deepest),
            "eV",
            STRONGEST_BOND,
            1.5 * STRONGEST_BOND,
            f"no two atoms gain more energy than the strongest bond there is ({where})",
        ),
        judged(
            "attraction in collisions",
            max(attraction, 0.0),
            "eV",
            0.0,
            0.01,
            f"nuclei repel ever more as they collide, from {COLLIDED:g} sums of covalent radii to "
            f"{NEAREST:g} Å ({steepest})",
        ),
    ]


def _free_atoms(model: Potential) -> Check:
    """Lone atoms beside their reference energies."""
    species = torch.nonzero(model.domain.seen)[:, 0]
    table = model.reference_table()
    found = _energies(model, [[z] for z in species.tolist()]) + model.offsets(species)
    if table is None:
        return Check(
            "free atoms",
            "warn",
            float("nan"),
            "eV",
            0.0,
            "reference energies were fitted to the data, so that energies of free atoms, and with them "
            "those of dissociation, mean nothing; give reference_energies and train again",
        )
    error = (found - torch.as_tensor(table)[species.cpu()].to(found)).abs().max()
    explanation = "free atoms have their reference energies"
    return judged("free atoms", float(error), "eV", 1e-6, 0.1, explanation)


def _bond_checks(model: Potential, scans: list[list[State]]) -> list[Check]:
    """Bonds pressed and pulled, the parts of the molecule staying as they are."""
    collision, dissociation = [], []
    for scan in scans:
        energies = bare_evaluation(model, State.collate([one.clone() for one in scan])).energy
        # The first state is the molecule as it was.
        change = (energies[1:] - energies[0]).numpy(force=True)
        collision.append(change.min())
        dissociation.append(change[-1])
    deepest, weakest = -float(np.min(collision)), float(np.min(dissociation))
    status: Status = "pass" if weakest >= WEAKEST_BOND else "warn" if weakest > 0 else "fail"
    return [
        judged(
            "deepest along bonds",
            max(deepest, 0.0) if np.isfinite(deepest) else deepest,
            "eV",
            0.5,
            2.0,
            f"{len(scans)} bonds pressed to {NEAREST:g} Å and pulled beyond the cutoff: no energy falls "
            "below that of the molecule",
        ),
        Check(
            "weakest bond",
            status,
            weakest,
            "eV",
            WEAKEST_BOND,
            "energy that breaking it takes, the parts staying as they are",
        ),
    ]


def _energies(
    model: Potential, kinds: list[list[int]], distances: np.ndarray | None = None
) -> Tensor:
    """(S,) energies without constants, of single atoms or of pairs so far apart."""
    frames = []
    for k, numbers in enumerate(kinds):
        positions = np.zeros((len(numbers), 3))
        if distances is not None:
            positions[1, 0] = distances[k]
        frames.append(Frame(numbers=np.array(numbers), positions=positions))
    states = [State.from_frame(frame, torch.float64) for frame in frames]
    return bare_evaluation(model, State.collate(states)).energy


def _bond_scans(system: State, cutoff: float) -> list[list[State]]:
    """For every bond that holds two parts together: the molecule, then its parts ever further apart."""
    if bool(system.pbc.any()):
        return []
    frame = system.frame(0)
    pairs = bonds(frame.numbers, frame.positions, frame.cell, frame.pbc)
    scans = []
    for first, second in pairs.tolist():
        part = _part(len(frame), pairs, first, second)
        if first in part:  # in a ring
            continue
        bond = frame.positions[second] - frame.positions[first]
        length = float(np.linalg.norm(bond))
        scan = [system]
        for distance in np.linspace(NEAREST, length + cutoff, POINTS):
            moved = system.clone()
            way = torch.as_tensor((distance / length - 1.0) * bond).to(system.positions)
            moved.positions = system.positions.clone()
            moved.positions[sorted(part)] += way
            scan.append(moved)
        scans.append(scan)
    return scans


def _part(n_atoms: int, pairs: np.ndarray, first: int, second: int) -> set[int]:
    """The atoms that hang together with `second` once its bond with `first` is cut."""
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in pairs.tolist():
        if {i, j} != {first, second}:
            neighbours[i].append(j)
            neighbours[j].append(i)
    reached, waiting = {second}, [second]
    while waiting:
        for atom in neighbours[waiting.pop()]:
            if atom not in reached:
                reached.add(atom)
                waiting.append(atom)
    return reached
