"""What a model must know of its training data before it learns: computed once, stored with it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from ase.data import covalent_radii

from sciwm.core.frame import Array, Frame
from sciwm.core.geometry import minimum_image
from sciwm.core.neighbours import neighbour_pairs
from sciwm.core.properties import PROPERTIES
from sciwm.core.state import MAX_NUMBER
from sciwm.core.units import MOLECULAR, UnitSystem
from sciwm.models.dynamics.bonding import bond_weight


@dataclass
class LabelStatistics:
    """Scales of the training labels of one property.

    Attributes:
        mean: Of the labels, component by component; of what atoms have, over all atoms.
        spread: Root mean square deviation of components from that mean.
        elements: (T,) what each element contributes: the mean label of its atoms, or what explains
            the labels of whole systems best as a sum over their atoms (the third of the trace,
            for tensors); zero where that has no meaning.
        rest: Root mean square of what the elements do not explain; per root of an atom, for systems.
    """

    mean: Array
    spread: float
    elements: Array
    rest: float


@dataclass
class Statistics:
    """Scales of a training set.

    Attributes:
        units: What the numbers are in.
        species: Sorted particle types that occur.
        closest: (T, T) closest approach of each pair of types, T = 119; infinite if never near.
        neighbour_count: Mean neighbours within the cutoff.
        force_rms: Root mean square force component; 1 where no forces are known.
        force_max: Largest force on a particle.
        reference_energies: (T,) energy of each isolated particle, eV; zero where unknown.
        energy_shift: Mean of (energy - reference energies) per particle.
        compositions: (F, T) particles of each type in the frames with energies.
        formation: (F,) their energies less the reference energies.
        bonds: By particle type, the number of bonds of each particle of that type, as
            `bonding.bond_weight` counts them.
        total_charges: Sorted net charges that occur, rounded; empty where unknown.
        labels: By property, those of the frames that have it.
    """

    units: UnitSystem = MOLECULAR
    species: list[int] = field(default_factory=list)
    closest: Array = field(default_factory=lambda: np.full((MAX_NUMBER + 1,) * 2, np.inf))
    neighbour_count: float = 1.0
    force_rms: float = 1.0
    force_max: float = np.inf
    reference_energies: Array = field(default_factory=lambda: np.zeros(MAX_NUMBER + 1))
    energy_shift: float = 0.0
    compositions: Array = field(default_factory=lambda: np.zeros((0, MAX_NUMBER + 1)))
    formation: Array = field(default_factory=lambda: np.zeros(0))
    bonds: dict[int, Array] = field(default_factory=dict)
    total_charges: list[int] = field(default_factory=list)
    labels: dict[str, LabelStatistics] = field(default_factory=dict)


def fit_reference_energies(numbers: list[np.ndarray], energies: Array) -> Array:
    """(T,) per-element energies that explain total energies best, by least squares.

    Where the composition never varies the fit has many solutions; the smallest one is taken.
    """
    species = np.unique(np.concatenate(numbers))
    counts = np.stack([(np.asarray(n)[:, None] == species).sum(axis=0) for n in numbers])
    solution = np.linalg.lstsq(counts.astype(float), energies, rcond=1e-10)[0]
    table = np.zeros(MAX_NUMBER + 1)
    table[species] = solution
    return table


def survey(
    frames: list[Frame],
    cutoff: float,
    units: UnitSystem,
    reference_energies: Array | None,
    every_frame: Iterable[Frame] | None = None,
) -> Statistics:
    """Statistics of a sample of frames.

    Args:
        frames: A sample that stands for the data.
        every_frame: All of the data, where the sample is not; what bounds the data is looked for there:
            particle types, charges, closest approaches, largest forces and fewest bonds.
        cutoff: The model's cutoff.
        units: What the frames are in.
        reference_energies: (T,) isolated-particle energies where known; fitted otherwise.
    """
    result = Statistics(units=units)
    neighbours, particles = 0, 0
    bonds: dict[int, list[Array]] = {}
    largest = -np.inf
    charges: set[int] = set()
    for frame in frames if every_frame is None else every_frame:
        search = cutoff if np.isfinite(cutoff) else _extent(frame)
        (first, second), shifts = neighbour_pairs(frame.positions, frame.cell, frame.pbc, search)
        vectors = frame.positions[second] + shifts @ frame.cell - frame.positions[first]
        distance = np.linalg.norm(vectors, axis=1)
        low = np.minimum(frame.numbers[first], frame.numbers[second])
        high = np.maximum(frame.numbers[first], frame.numbers[second])
        np.minimum.at(result.closest, (low, high), distance)
        neighbours += 2 * len(first)
        particles += len(frame)
        radii = covalent_radii[frame.numbers]
        reach = torch.from_numpy(radii[first] + radii[second])
        weight = bond_weight(torch.from_numpy(distance), reach, cutoff).numpy()
        ends = np.concatenate([first, second])
        both = np.concatenate([weight, weight])
        count = np.bincount(ends, both, len(frame)).astype(np.float64)
        for number in np.unique(frame.numbers).tolist():
            bonds.setdefault(number, []).append(count[frame.numbers == number])
        charges.add(round(frame.total_charge))
        if frame.forces is not None:
            largest = max(largest, float(np.linalg.norm(frame.forces, axis=1).max()))
    result.closest = np.minimum(result.closest, result.closest.T)
    result.neighbour_count = max(neighbours / max(particles, 1), 1.0)
    result.species = sorted(bonds)
    result.bonds = {number: np.concatenate(bonds[number]) for number in result.species}
    result.total_charges = sorted(charges)
    if largest >= 0:
        result.force_max = largest
    forces = [frame.forces for frame in frames if frame.forces is not None]
    if forces:
        result.force_rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
    labelled = [frame for frame in frames if frame.energy is not None]
    if labelled:
        energies = np.array([frame.energy for frame in labelled], dtype=float)
        numbers = [frame.numbers for frame in labelled]
        if reference_energies is None:
            reference_energies = fit_reference_energies(numbers, energies)
        sizes = np.array([len(frame) for frame in labelled])
        rest = energies - np.array([reference_energies[n].sum() for n in numbers])
        result.energy_shift = float((rest / sizes).mean())
        result.compositions = np.stack([np.bincount(n, minlength=MAX_NUMBER + 1) for n in numbers])
        result.formation = rest
        result.reference_energies = reference_energies
    for name in sorted({name for frame in frames for name in frame.properties}):
        result.labels[name] = label_statistics(name, frames)
    return result


def label_statistics(name: str, frames: list[Frame]) -> LabelStatistics:
    """Scales of one property over the frames that have it, at least one."""
    frames = [frame for frame in frames if name in frame.properties]
    labels = [np.asarray(frame.properties[name], dtype=float) for frame in frames]
    one = PROPERTIES[name]
    values = np.concatenate(labels) if one.per_atom else np.stack(labels)
    mean = values.mean(axis=0)
    spread = float(np.sqrt(((values - mean) ** 2).mean()))
    elements = np.zeros(MAX_NUMBER + 1)
    if one.per_atom:
        numbers = np.concatenate([frame.numbers for frame in frames])
        for z in np.unique(numbers):
            elements[z] = values[numbers == z].mean()
        rest = values - elements[numbers]
    elif one.shape in ((), (3, 3)):
        # A sum over atoms fits what grows with size; of a tensor, only its isotropic part.
        scalar = one.shape == ()
        sums = values if scalar else np.trace(values, axis1=1, axis2=2) / 3
        elements = fit_reference_energies([frame.numbers for frame in frames], sums)
        explained = np.array([elements[frame.numbers].sum() for frame in frames])
        root = np.sqrt([len(frame) for frame in frames])
        rest = (
            (values - explained) / root
            if scalar
            else (values - explained[:, None, None] * np.eye(3)) / root[:, None, None]
        )
    else:
        rest = values / np.sqrt([len(frame) for frame in frames])[:, None]
    return LabelStatistics(mean, spread, elements, float(np.sqrt((rest**2).mean())))


def _extent(frame: Frame) -> float:
    spread = minimum_image(frame.positions - frame.positions[0], frame.cell, frame.pbc)
    return float(2 * np.linalg.norm(spread, axis=1).max()) + 1.0
