"""Frames that cannot be, and numbers that do not look like their unit, are noticed."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from sciwm.core.frame import Frame
from sciwm.core.units import KCAL_PER_MOL, KJ_PER_MOL, MOLECULAR, REDUCED
from sciwm.data.importers.checks import closest_pair, fault
from sciwm.data.importers.plausibility import atomic_energy, doubts
from sciwm.data.importers.source_units import SourceUnits

WATER = molecule("H2O")
ENERGY = -2081.0  # eV, PBE


def test_sound_frames_are_not_refused():
    assert fault(Frame(numbers=np.array([8]), positions=np.zeros((1, 3))), MOLECULAR) is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"forces": np.zeros((3, 3))}, "misshapen"),
        ({"numbers": np.array([[1], [1]])}, "misshapen"),
        ({"numbers": np.array([0, 1])}, "unknown species"),
        ({"numbers": np.array([1, 119])}, "unknown species"),
        ({"energy": np.inf}, "not finite"),
        ({"velocities": np.full((2, 3), np.nan)}, "not finite"),
        ({"positions": np.zeros((2, 3))}, "overlapping atoms"),
        ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, "empty"),
    ],
)
def test_each_fault_has_its_kind(changes, kind):
    sound = Frame(numbers=np.array([1, 1]), positions=np.array([[0, 0, 0], [0, 0, 0.74]]))
    assert fault(sound, MOLECULAR) is None
    found = fault(sound.with_(**changes), MOLECULAR)
    assert found is not None
    assert found.kind == kind


def test_particles_in_reduced_units_may_touch_and_have_type_zero():
    frame = Frame(numbers=np.array([0, 0]), positions=np.array([[0, 0, 0], [0, 0, 0.01]]))
    assert fault(frame, REDUCED) is None


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_found_through_the_faces_of_any_box(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 5.0, 7.0]) + rng.uniform(-1.5, 1.5, size=(3, 3))
    pbc = rng.permutation([True, True, seed % 2 == 0])
    positions = rng.uniform(-1, 2, size=(40, 3)) @ cell
    atoms = Atoms("H40", positions, cell=cell, pbc=pbc)
    # Put one atom beside an image of another, one cell away along what repeats.
    positions[7] = positions[3] + np.array([1, -1, 2]) * pbc @ cell + [0.05, 0.05, 0.0]
    atoms.positions = positions
    distances = atoms.get_all_distances(mic=True)[np.triu_indices(40, 1)]
    found = closest_pair(positions, cell * pbc[:, None], pbc)
    assert found is not None
    assert found[2] == pytest.approx(distances.min(), abs=1e-9)


def test_atoms_far_apart_do_not_overlap():
    positions = np.array([[0.1, 0, 0], [4.0, 0, 0]])
    assert closest_pair(positions, np.diag([9.0, 9, 9]), np.ones(3, bool)) is None
    assert closest_pair(positions, np.diag([4.0, 9, 9]), np.ones(3, bool)) is not None


def test_atomic_energies_are_near_those_of_all_electron_calculations():
    # Hartree-Fock limits in hartree (Koga, Tatewaki and Thakkar 1993), H exact.
    table = {1: -0.5, 6: -37.6886, 8: -74.8094, 18: -526.8175, 26: -1262.4437, 54: -7232.1384}
    for number, energy in table.items():
        ours = atomic_energy(np.array([number]))[0] / 27.211386
        assert ours == pytest.approx(energy, rel=0.08)


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("eV", "meV"), ("eV", "kcal/mol"), ("eV", "kJ/mol"), ("eV", "hartree"),
        ("kcal/mol", "eV"), ("kcal/mol", "hartree"), ("meV", "eV"),
    ],
)  # fmt: skip
def test_total_energies_in_another_unit_are_named(said, true):
    frames = [Frame(WATER.numbers, WATER.positions, energy=ENERGY)]
    size = {
        "eV": 1.0,
        "meV": 1e-3,
        "kcal/mol": KCAL_PER_MOL,
        "kJ/mol": KJ_PER_MOL,
        "hartree": 27.2114,
    }
    read = [frame.with_(energy=frame.energy / size[true] * size[said]) for frame in frames]
    (doubt,) = doubts(read, SourceUnits(energy=said))
    assert doubt.certain
    assert f"look like {true}" in doubt.sentence
    assert f"--units {true}" in doubt.remedy


@pytest.mark.parametrize(
    "energy",
    [ENERGY, -14.2, -310.0, -2.0, 3.0],
    ids=["all-electron", "PAW", "GFN2", "formation", "+"],
)
def test_energies_on_any_usual_scale_raise_no_doubt(energy):
    frame = Frame(WATER.numbers, WATER.positions, energy=energy, forces=np.ones((3, 3)))
    assert doubts([frame], SourceUnits()) == []


@pytest.mark.parametrize(("size", "certain"), [(1.0, None), (25.0, False), (1500.0, True)])
def test_forces_too_large_for_matter_are_doubted(size, certain):
    frame = Frame(WATER.numbers, WATER.positions, forces=np.full((3, 3), size / np.sqrt(3)))
    found = doubts([frame], SourceUnits())
    assert [doubt.certain for doubt in found] == ([] if certain is None else [certain])


@pytest.mark.parametrize(
    ("scale", "named"),
    [(units.fs, None), (1.0, "0.098"), (1000 * units.fs, "Å/ps"), (units.fs / 1000, "")],
)
def test_velocities_of_impossible_temperature_are_doubted(scale, named):
    rng = np.random.default_rng(0)
    atoms = molecule("CH3CH2OH")
    thermal = rng.normal(size=(9, 3)) * np.sqrt(300 * units.kB / atoms.get_masses())[:, None]
    frame = Frame(atoms.numbers, atoms.positions, velocities=thermal * scale)
    found = doubts([frame], SourceUnits())
    assert bool(found) == (named is not None)
    if named:
        assert named in found[0].sentence
        assert found[0].certain
