"""Charge and spin belong to a system, from the file it is read from to the reference that it is given to."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from sciwm.cli import main
from sciwm.core.electrons import ionised, unpaired_electrons
from sciwm.core.state import State, atoms_from_frame, frame_from_ase
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import SourceError
from sciwm.simulation.references.ase_potentials import emt
from sciwm.simulation.references.reference import GeometryError
from sciwm.simulation.references.xtb import GFN1, GFN2

GROUND = {"H2O": 0, "CH3": 1, "O2": 2, "NH": 2, "N": 3}
"""Unpaired electrons of ground states, by experiment."""


def spun(name, spin=None, charge=0):
    atoms = Atoms(name) if name == "N" else molecule(name)
    atoms.info = {"charge": charge} | ({} if spin is None else {"spin": spin})
    return atoms


@pytest.mark.parametrize(("name", "unpaired"), GROUND.items())
def test_without_a_spin_as_few_electrons_are_unpaired_as_can_be(name, unpaired):
    frame = frame_from_ase(spun(name))
    assert unpaired_electrons(frame) == unpaired % 2
    assert unpaired_electrons(frame.with_(unpaired=unpaired)) == unpaired


@pytest.mark.parametrize("unpaired", [1, 3, 12, -2])
def test_what_the_electrons_cannot_do_is_told(unpaired):
    with pytest.raises(ValueError, match=f"{unpaired} of 10 electrons .*only an even number"):
        unpaired_electrons(frame_from_ase(spun("H2O")).with_(unpaired=unpaired))


def test_more_charge_than_electrons_is_told():
    with pytest.raises(ValueError, match=r"\+2 takes more electrons than the 1"):
        unpaired_electrons(frame_from_ase(Atoms("H", info={"charge": 2})))


@pytest.mark.parametrize(
    ("name", "charge", "unpaired"), [("O2", 1, 1), ("O2", -1, 1), ("H2O", 1, 1), ("N", -1, 2)]
)
def test_ions_have_the_spin_of_their_ground_state(name, charge, unpaired):
    ion = ionised(frame_from_ase(spun(name, GROUND[name] + 1)), charge)
    assert (ion.total_charge, ion.unpaired) == (charge, unpaired)
    assert unpaired_electrons(ion) == unpaired


def test_a_state_keeps_the_spin_of_each_system():
    state = State.from_ase([spun("O2", 3), spun("H2O"), spun("N", 4)], torch.float64)
    assert [state.unpaired_of(s) for s in range(3)] == [2, None, 3]
    assert state.select([0, 2]).unpaired.tolist() == [2, 3]
    assert [one.unpaired for one in map(state.frame, range(3))] == [2, None, 3]
    assert state.to_ase(0).info["spin"] == 3
    assert "spin" not in state.to_ase(1).info
    assert State.collate(state.systems()).unpaired.tolist() == [2, -1, 3]


@pytest.mark.parametrize(("spin", "unpaired"), [(0, None), (1, 0), (3.0, 2), ("3", 2)])
def test_notes_of_ase_state_the_multiplicity(spin, unpaired):
    assert frame_from_ase(spun("O2", spin)).unpaired == unpaired
    assert atoms_from_frame(frame_from_ase(spun("O2", 5))).info["spin"] == 5


@pytest.mark.parametrize(
    "info", [{"spin": 1.5}, {"spin": -1}, {"multiplicity": "up"}, {"spin": 1, "multiplicity": 3}]
)
def test_notes_that_are_no_multiplicity_are_told(info):
    atoms = molecule("O2")
    atoms.info = info
    with pytest.raises(ValueError, match=r"2S \+ 1"):
        frame_from_ase(atoms)


def test_a_spin_survives_a_file(tmp_path):
    path = tmp_path / "oxygen.h5md"
    with H5MDWriter(path) as writer:
        for group, atoms in (("triplet", spun("O2", 3)), ("water", spun("H2O"))):
            writer.append(frame_from_ase(atoms), group)
        with pytest.raises(ValueError, match="lacks unpaired"):
            writer.append(frame_from_ase(spun("O2")), "triplet")
    with H5MDWriter(path, resume=True) as writer:
        writer.append(frame_from_ase(spun("O2", 1)), "triplet")
    with H5MDFile(path) as file:
        found = {t.name: [t.frame(k).unpaired for k in range(len(t))] for t in file.trajectories}
    assert found == {"triplet": [2, 0], "water": [None]}


@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_a_spin_is_imported_where_frames_have_one(tmp_path, suffix):
    source, target = tmp_path / f"oxygen.{suffix}", tmp_path / "oxygen.h5md"
    write(source, [spun("O2", 3), spun("O2"), spun("O2", 1)])
    convert(source, target)
    with H5MDFile(target) as file:
        frames = [t.frame(k) for t in file.trajectories for k in range(len(t))]
    found = {frame.source_frame: frame.unpaired for frame in frames}
    assert found == {0: 2, 1: None, 2: 0}


def test_an_import_refuses_a_spin_that_cannot_be(tmp_path):
    source = tmp_path / "oxygen.extxyz"
    write(source, [spun("O2", 3), spun("O2", 2)])
    with pytest.raises(SourceError, match=r"frame 1: .*1 of 16 electrons cannot be unpaired"):
        convert(source, tmp_path / "oxygen.h5md")


def test_a_rollout_writes_the_spin_it_moved_with(tmp_path):
    start, out = tmp_path / "start.h5md", tmp_path / "out.h5md"
    atoms = bulk("Cu", cubic=True)
    atoms.info["spin"] = 1
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(atoms))
    assert main(["simulate", "emt", str(start), "1fs", "--out", str(out), "--every", "1"]) == 0
    with H5MDFile(out) as file:
        assert file.trajectories[0].frame(-1).unpaired == 0


class TestReferences:
    @pytest.mark.parametrize("kind", [GFN1, GFN2])
    def test_a_stated_spin_gives_the_energy_that_tblite_gives_it(self, kind):
        tblite_ase = pytest.importorskip("tblite.ase", reason="tblite is not installed")
        reference = kind(accuracy=0.01)
        energies = {}
        for spin in (1, 3):
            found = reference.evaluate(State.from_ase(spun("H2O", spin), torch.float64))
            atoms = molecule("H2O")
            atoms.calc = tblite_ase.TBLite(
                method=kind.method, verbosity=0, accuracy=0.01, multiplicity=spin
            )
            energies[spin] = float(found.energy[0])
            assert energies[spin] == pytest.approx(atoms.get_potential_energy(), rel=1e-8)
            assert np.abs(found.forces.numpy() - atoms.get_forces()).max() < 1e-5
        reference.close()
        assert energies[3] - energies[1] > 3.0  # an orbital that was empty has been filled

    def test_a_spin_that_cannot_be_is_refused(self):
        pytest.importorskip("tblite", reason="tblite is not installed")
        state = State.from_ase([spun("H2O"), spun("O2", 2)], torch.float64)
        with pytest.raises(GeometryError, match=r"system 1: 1 of 16 electrons cannot") as caught:
            GFN2().evaluate(state)
        assert caught.value.system == 1

    def test_an_open_shell_is_refused_by_what_knows_no_electrons(self):
        with pytest.raises(GeometryError, match=r"system 0 .* 2 unpaired electrons"):
            emt().evaluate(State.from_ase(spun("O2", 3), torch.float64))
