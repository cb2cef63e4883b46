"""Density-functional theory is PySCF's own, with forces that are slopes, and fails with a reason."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State, frame_from_ase
from sciwm.core.units import BOHR, HARTREE
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.simulation.references.dft import DFT
from sciwm.simulation.references.reference import ConvergenceError, GeometryError, WorkerError
from sciwm.simulation.simulator import SimulatorError

pytest.importorskip("pyscf", reason="density-functional theory needs the extra sciwm[dft]")

SMALL = {"basis": "sto-3g"}


@pytest.fixture(scope="module")
def dft():
    simulator = DFT(**SMALL)
    yield simulator
    simulator.close()


def shaken(name, charge=0, spin=None):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    atoms.info = {"charge": charge} | ({} if spin is None else {"spin": spin})
    return atoms


def state_of(*systems):
    return State.from_ase(list(systems), torch.float64)


def by_pyscf(atoms, functional="pbe", spin=0, charge=0):
    """Energy, dipole, charges and gap in its own words, in a process of its own that ends with it."""
    numbers, places = atoms.numbers.tolist(), atoms.positions.tolist()
    code = f"""
import json
from pyscf import dft, gto
molecule = gto.M(atom={list(zip(numbers, places, strict=True))},
                 basis="sto-3g", charge={charge}, spin={spin}, parse_arg=False, verbose=0)
theory = dft.KS(molecule, xc="{functional}").run()
levels = theory.mo_energy if {spin} == 0 else theory.mo_energy[0]
n = molecule.nelec[0]
print(json.dumps([theory.e_tot, list(theory.dip_moment(unit="AU", verbose=0)),
                  list(theory.mulliken_pop(verbose=0)[1]), levels[n] - levels[n - 1]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_energy_and_properties_are_those_of_pyscf_itself(dft):
    atoms = shaken("H2O")
    energy, dipole, charges, gap = by_pyscf(atoms)
    (found,) = dft.properties([frame_from_ase(atoms)])
    assert found.energy == pytest.approx(energy * HARTREE, abs=1e-5)
    assert np.abs(found.dipole - np.array(dipole) * BOHR).max() < 1e-4
    assert np.abs(found.charges - charges).max() < 1e-4
    assert found.gap == pytest.approx(gap * HARTREE, abs=1e-3)
    assert set(dft.offers) == {"dipole", "charges", "gap", "electron_affinity", "ionisation_energy"}


@pytest.mark.parametrize(("name", "spin"), [("H2O", None), ("NH", 3)])
def test_forces_are_slopes_of_the_energy(dft, name, spin):
    state, step = state_of(shaken(name, spin=spin)), 1e-3
    forces = dft.evaluate(state).forces
    ends = []
    for sign in (1, -1):
        moved = state.clone()
        moved.positions[1, 2] += sign * step
        ends.append(float(dft.evaluate(moved).energy[0]))
    assert float(forces[1, 2]) == pytest.approx((ends[1] - ends[0]) / (2 * step), abs=1e-4)
    assert float(forces.sum(0).abs().max()) < 1e-8  # which a grid at rest would not give


def test_spin_decides_the_state(dft):
    """By Hund's rule; imidogen lies 1.6 eV below its lowest singlet in experiment."""
    singlet, triplet = shaken("NH", spin=1), shaken("NH", spin=3)
    lower, higher = dft.evaluate(state_of(triplet, singlet)).energy.tolist()
    assert lower == pytest.approx(by_pyscf(triplet, spin=2)[0] * HARTREE, abs=1e-5)
    assert 1.0 < higher - lower < 4.0


def test_an_electron_less_is_a_doublet(dft):
    atoms = shaken("H2O")
    found = float(dft.observe(state_of(atoms), ["ionisation_energy"])["ionisation_energy"][0])
    cation, neutral = by_pyscf(atoms, spin=1, charge=1)[0], by_pyscf(atoms)[0]
    assert found == pytest.approx((cation - neutral) * HARTREE, abs=1e-4)
    assert 5 < found < 15


def test_the_density_of_the_last_step_starts_the_next(monkeypatch):
    from pyscf.scf.hf import SCF

    from sciwm.simulation.references.engines import density_functional

    engine = density_functional.DensityFunctional()
    request = {
        "system": 0,
        "numbers": [1, 1],
        "positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]],
        "charge": 0,
        "unpaired": 0,
        "lattice": None,
        "functional": "pbe",
        "basis": "sto-3g",
        "dispersion": None,
        "grid": 0,
    }
    starts = []
    monkeypatch.setattr(
        "pyscf.scf.hf.SCF.get_init_guess",
        lambda self, *args, guess=SCF.get_init_guess, **kw: (
            starts.append(1) or guess(self, *args, **kw)
        ),
    )
    first = engine.answer(request)
    second = engine.answer(request | {"positions": [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]})
    assert len(starts) == 1
    assert second["energy"] == pytest.approx(first["energy"], abs=1e-9)
    engine.answer(request | {"system": 1})
    assert len(starts) == 2


class TestFailures:
    @pytest.mark.parametrize(
        ("atoms", "settings", "kind", "problem"),
        [
            (Atoms("U"), {}, SimulatorError, "system 0: there is no basis 'sto-3g' for U"),
            (Atoms("He"), {"basis": "sto-99g"}, SimulatorError, "no basis 'sto-99g' for He"),
            (Atoms("He"), {"functional": "pbex"}, SimulatorError, "no functional 'pbex' in PySCF"),
            (bulk("C"), {}, GeometryError, "it repeats"),
            (Atoms("H", info={"charge": 1}), {}, GeometryError, "no electrons"),
            (Atoms("He", info={"charge": 0.5}), {}, GeometryError, "must be an integer"),
            (Atoms("He", info={"spin": 2}), {}, GeometryError, "1 of 2 electrons cannot"),
        ],
    )
    def test_what_cannot_be_computed_is_told(self, atoms, settings, kind, problem):
        simulator = DFT(**SMALL | settings)
        with pytest.raises(kind, match=problem):
            simulator.evaluate(state_of(atoms))
        simulator.close()

    @pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a\nb", ""])
    def test_nothing_but_names_goes_to_the_program(self, name):
        for what in ("functional", "basis"):
            with pytest.raises(ValueError, match=f"is no name of a {what}"):
                DFT(**{what: name})

    def test_files_in_the_folder_of_the_command_are_neither_run_nor_read(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".pyscf_conf.py").write_text("open('run', 'w')")
        (tmp_path / "sto-3g").write_text("#BASIS SET\nH S\n open('read','w') 1.0\nEND\n")
        simulator = DFT(**SMALL)
        with pytest.raises(SimulatorError, match="'sto-3g' is a file here"):
            simulator.evaluate(state_of(Atoms("He")))
        simulator.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".pyscf_conf.py", "sto-3g"]

    def test_a_density_that_does_not_converge_is_told_and_spoils_nothing(self, dft, monkeypatch):
        told = {"error": "the density is not converged", "converged": False}
        worker = dft._workers[0]
        ask = worker.ask
        monkeypatch.setattr(
            worker, "ask", lambda request, limit: told if request["system"] else ask(request, limit)
        )
        with pytest.raises(ConvergenceError, match="DFT failed for system 1") as caught:
            dft.evaluate(state_of(Atoms("He"), Atoms("He")))
        assert caught.value.system == 1
        first, second = dft.properties([frame_from_ase(Atoms("He"))] * 2)
        assert first.energy < 0
        assert isinstance(second, ConvergenceError)

    def test_a_killed_worker_is_replaced(self, dft):
        state = state_of(Atoms("He"))
        before = float(dft.evaluate(state).energy[0])
        os.kill(dft._workers[0].pid, signal.SIGKILL)
        assert float(dft.evaluate(state).energy[0]) == pytest.approx(before, abs=1e-9)

    def test_a_calculation_over_the_time_limit_is_ended(self):
        simulator = DFT(**SMALL, timeout=1e-3)
        with pytest.raises(WorkerError, match="raise the timeout of DFT"):
            simulator.evaluate(state_of(Atoms("He")))


def test_settings_that_change_numbers_change_the_fingerprint():
    made = [{}, {"basis": "sto-3g"}, {"functional": "pbe0"}, {"dispersion": "d3bj"}]
    names = [DFT(**settings).fingerprint for settings in made]
    assert len(set(names)) == len(made)
    assert all("PySCF=" in name for name in names)


def test_the_command_moves_a_molecule(tmp_path):
    start, out = tmp_path / "start.h5md", tmp_path / "moved.h5md"
    pair = Frame(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 0.8]]))
    with H5MDWriter(start) as writer:
        writer.append(pair)
    text = "{class_path: dft, init_args: {basis: sto-3g}}"
    assert main(["simulate", text, str(start), "1fs", "--out", str(out), "--every", "1"]) == 0
    with H5MDFile(out) as file:
        frames = [file.trajectories[0].frame(k) for k in range(3)]
    lengths = [np.linalg.norm(frame.positions[1] - frame.positions[0]) for frame in frames]
    assert lengths[0] > lengths[1] > lengths[2]  # it was stretched
    energy = by_pyscf(Atoms("H2", pair.positions))[0] * HARTREE
    assert frames[0].energy == pytest.approx(energy, abs=1e-5)
