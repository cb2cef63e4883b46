"""Reference simulators agree with the programs they stand for, and fail with a reason."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from conftest import HUNG

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.simulation.references import electronic_structure
from sciwm.simulation.references.ase_potentials import (
    AsePotential,
    ASEReference,
    emt,
    lennard_jones,
)
from sciwm.simulation.references.reference import ConvergenceError, GeometryError, WorkerError
from sciwm.simulation.references.registry import REFERENCES, described, reference_from
from sciwm.simulation.references.workers import Worker, WorkerDied, WorkerTimeout
from sciwm.simulation.references.xtb import GFN1, GFN2, TBLITE
from sciwm.simulation.simulator import SimulatorError

NEWER = 1e-8
"""Relative change of the hartree in eV from CODATA 2014, which ASE uses, to 2018."""

tblite_ase = pytest.importorskip("tblite.ase", reason="tblite is not installed")


@pytest.fixture(scope="module")
def gfn2():
    simulator = GFN2(accuracy=0.01)
    yield simulator
    simulator.close()


def by_ase(atoms, **settings):
    """tblite's own calculator, in this process."""
    atoms = atoms.copy()
    atoms.calc = tblite_ase.TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.01, **settings)
    return atoms


def rattled(name, charge=0):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    atoms.info["charge"] = charge
    return atoms


def test_references_tell_themselves_apart():
    made = [
        lambda: GFN2(),
        lambda: GFN1(),
        lambda: GFN2(solvent="water"),
        lambda: GFN2(electronic_temperature=1000.0),
        emt,
        lambda: lennard_jones(1.0, 1.0, 3.0, REDUCED),
        lambda: lennard_jones(1.0, 1.1, 3.0, REDUCED),
    ]
    names = []
    for make in made:
        one, again = make(), make()
        assert one.fingerprint == again.fingerprint
        names.append(one.fingerprint)
    assert len(set(names)) == len(made), names


def force_error(simulator, state, step=1e-3):
    """Largest difference of the forces from central differences of the energy."""
    forces = simulator.evaluate(state).forces
    worst = 0.0
    for atom in range(min(state.num_nodes, 3)):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = state.clone()
                moved.positions[atom, axis] += sign * step
                ends.append(float(simulator.evaluate(moved).energy[0]))
            slope = (ends[0] - ends[1]) / (2 * step)
            worst = max(worst, abs(slope + float(forces[atom, axis])))
    return worst


def stress_error(simulator, state, step=1e-3):
    """Largest difference of the stress from central differences of the energy over strain."""
    stress = simulator.evaluate(state, stress=True).stress[0]
    volume = float(torch.linalg.det(state.cell[0]).abs())
    worst = 0.0
    for i, j in ((0, 0), (0, 2)):
        ends = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[i, j] += sign * step
            bent = state.clone()
            bent.positions, bent.cell = state.positions @ strain, state.cell @ strain
            ends.append(float(simulator.evaluate(bent).energy[0]))
        worst = max(worst, abs((ends[0] - ends[1]) / (2 * step * volume) - float(stress[i, j])))
    return worst


class TestAsePotentials:
    def test_systems_of_a_batch_have_the_energies_ase_gives_each(self):
        systems = [bulk("Cu", cubic=True), bulk("Al", a=4.1), molecule("CO")]
        systems[0].rattle(0.1, seed=0)
        found = emt().evaluate(State.from_ase(systems, torch.float64))
        for s, atoms in enumerate(systems):
            atoms.calc = EMT()
            assert float(found.energy[s]) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        assert np.allclose(found.forces[:4].numpy(), systems[0].get_forces(), atol=1e-10)

    def test_forces_and_stress_are_slopes_of_the_energy(self):
        crystal = bulk("Cu", a=3.7, cubic=True)
        crystal.rattle(0.1, seed=0)
        state = State.from_ase(crystal, torch.float64)
        assert force_error(emt(), state) < 1e-5
        assert stress_error(emt(), state) < 1e-5

    def test_the_slope_checks_catch_a_wrong_sign(self):
        class Wrong(AsePotential):
            def evaluate(self, state, stress=False):
                found = super().evaluate(state, stress)
                return type(found)(
                    found.energy, -found.forces, None if found.stress is None else -found.stress
                )

        crystal = bulk("Cu", a=3.7, cubic=True)
        crystal.rattle(0.1, seed=0)
        state = State.from_ase(crystal, torch.float64)
        assert force_error(Wrong(EMT), state) > 0.1
        assert stress_error(Wrong(EMT), state) > 1e-2

    def test_lennard_jones_is_the_textbook_one_within_two_thirds_of_its_cutoff(self):
        frame = Frame(
            numbers=np.zeros(2, dtype=np.int64),
            positions=np.array([[0.0, 0, 0], [1.3, 0, 0]]),
            masses=np.ones(2),
        )
        simulator = lennard_jones(sigma=1.1, epsilon=0.7, cutoff=3.0, units=REDUCED)
        found = simulator.evaluate(State.from_frame(frame, torch.float64))
        power = (1.1 / 1.3) ** 6
        assert float(found.energy[0]) == pytest.approx(4 * 0.7 * (power**2 - power), abs=1e-12)
        assert simulator.units is REDUCED

    def test_lennard_jones_forces_are_slopes_also_near_the_cutoff(self):
        frame = Frame(
            numbers=np.zeros(2, dtype=np.int64),
            positions=np.array([[0.0, 0, 0], [2.7, 0.3, 0]]),
            masses=np.ones(2),
        )
        state = State.from_frame(frame, torch.float64)
        assert force_error(lennard_jones(1.0, 1.0, 3.0, REDUCED), state) < 1e-6
        # ASE's sharp cutoff has no force here but its plain one: the switch is in use.
        sharp = AsePotential(lambda: LennardJones(rc=3.0), REDUCED).evaluate(state).forces
        smooth = lennard_jones(1.0, 1.0, 3.0, REDUCED).evaluate(state).forces
        assert float((sharp - smooth).abs().max()) > 1e-3

    def test_a_failure_names_the_system(self):
        state = State.from_ase([molecule("CO"), Atoms("Fe")], torch.float64)
        with pytest.raises(SimulatorError, match="EMT failed for system 1 \\(Fe\\)") as caught:
            emt().evaluate(state)
        assert caught.value.system == 1

    def test_coincident_atoms_are_told(self):
        class Infinite(LennardJones):
            def calculate(self, *args, **kwargs):
                super().calculate(*args, **kwargs)
                self.results["energy"] = np.inf

        state = State.from_ase(Atoms("Ar2", [[0, 0, 0], [0, 0, 3]]), torch.float64)
        with pytest.raises(SimulatorError, match="check that no two atoms coincide"):
            AsePotential(Infinite).evaluate(state)


class TestRegistry:
    def test_a_name_a_class_path_and_a_description_mean_the_same(self):
        path = "sciwm.simulation.references.xtb.GFN2"
        forms = ["gfn2", path, {"class_path": "gfn2"}, {"class_path": path}, "{class_path: gfn2}"]
        assert {reference_from(form).fingerprint for form in forms} == {GFN2().fingerprint}
        # Job files of either kind continue each other's campaigns.
        assert described("gfn2") == described({"class_path": path})

    def test_arguments_go_with_a_name(self):
        text = "{class_path: gfn2, init_args: {solvent: water, workers: 2}}"
        found = reference_from(text)
        assert found.fingerprint == GFN2(solvent="water").fingerprint
        assert "solvation_energy" in found.offers
        assert "solvation_energy" not in GFN2().offers

    @pytest.mark.parametrize("name", REFERENCES)
    def test_every_name_means_a_reference_that_says_what_it_offers(self, name):
        if name == "dft":
            pytest.importorskip("pyscf", reason="it needs the extra sciwm[dft]")
        reference = reference_from(name)
        assert set(reference.offers) <= PROPERTIES.keys()
        reference.require(reference.offers)
        with pytest.raises(SimulatorError, match=r"offers .*, not 'colour'"):
            reference.require(["colour"])

    @pytest.mark.parametrize(
        ("reference", "problem"),
        [
            ("gfn3", r"no reference 'gfn3'; references are gfn2, .*emt"),
            ({"class_path": "gfn2", "init_args": {"colour": 1}}, "cannot be built from"),
            ({"class_path": "gfn2", "arguments": {}}, "is no description"),
            ("{class_path: gfn2", "is not YAML"),
            ("{}", "no reference ''"),
            ("os.system", "only classes under 'sciwm.'"),
            ("sciwm.core.frame.Frame", "Frame is no Reference"),
        ],
    )
    def test_what_is_no_reference_is_told(self, reference, problem):
        with pytest.raises(ValueError, match=problem):
            reference_from(reference)

    def test_a_reference_whose_program_is_missing_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setattr(electronic_structure, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"GFN2-xTB needs tblite; pip install 'sciwm\[xtb\]'"):
            reference_from("gfn2")


class TestASEReference:
    def test_arguments_reach_the_formula_in_its_own_units(self):
        arguments = {"epsilon": 0.8, "r0": 1.1, "rho0": 5.0}
        found = ASEReference("ase.calculators.morse.MorsePotential", arguments)
        pair = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.3]])
        state = State.from_ase(pair, torch.float64)
        pair.calc = MorsePotential(**arguments)
        answer = found.evaluate(state)
        assert float(answer.energy[0]) == pytest.approx(pair.get_potential_energy(), abs=1e-12)
        assert np.abs(answer.forces.numpy() - pair.get_forces()).max() < 1e-12
        plain = ASEReference("ase.calculators.morse.MorsePotential").evaluate(state)
        assert abs(float(plain.energy[0] - answer.energy[0])) > 0.1
        assert found.observe(state, []) == {}

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("os.system", "refusing to make 'os.system'"),
            ("ase.calculators.orca.ORCA", "compute in this process"),
            ("ase.calculators.emt.os", "there is no"),
            ("ase.calculators.emt.Calculator", "there is no"),
            ("ase.calculators.emt.EMTT", "there is no"),
        ],
    )
    def test_nothing_else_is_made(self, path, problem):
        with pytest.raises(ValueError, match=problem):
            ASEReference(path)

    def test_arguments_that_a_formula_does_not_take_are_told(self):
        with pytest.raises(ValueError, match="SpringCalculator cannot be made from"):
            ASEReference("ase.calculators.harmonic.SpringCalculator", {"colour": 1})

    def test_a_charge_that_a_formula_knows_nothing_of_is_refused(self):
        ion = Atoms("Cu", info={"charge": 1})
        state = State.from_ase([Atoms("Cu"), ion], torch.float64)
        with pytest.raises(GeometryError, match=r"system 1 has a total charge of \+1") as caught:
            emt().evaluate(state)
        assert caught.value.system == 1


class TestGFN2:
    @pytest.mark.parametrize(
        ("name", "charge", "multiplicity"),
        [("H2O", 0, 1), ("CH3CH2OH", 0, 1), ("CH3", 0, 2), ("H2O", 1, 2), ("NH2", -1, 1)],
    )
    def test_energies_and_forces_are_those_of_tblites_own_calculator(
        self, gfn2, name, charge, multiplicity
    ):
        atoms = rattled(name, charge)
        found = gfn2.evaluate(State.from_ase(atoms, torch.float64))
        reference = by_ase(atoms, charge=charge, multiplicity=multiplicity)
        assert float(found.energy[0]) == pytest.approx(reference.get_potential_energy(), rel=NEWER)
        assert np.abs(found.forces.numpy() - reference.get_forces()).max() < 1e-5

    def test_dipole_and_charges_are_those_of_tblites_own_calculator(self, gfn2):
        atoms = rattled("CH3CH2OH")
        (found,) = gfn2.properties([State.from_ase(atoms, torch.float64).frame()])
        reference = by_ase(atoms)
        assert np.abs(found.dipole - reference.get_dipole_moment()).max() < 1e-5
        assert np.abs(found.charges - reference.get_charges()).max() < 1e-5

    def test_the_gap_lies_between_the_frontier_orbitals(self, gfn2):
        from tblite.interface import Calculator

        benzene = molecule("C6H6")
        (found,) = gfn2.properties([State.from_ase(benzene, torch.float64).frame()])
        calculator = Calculator("GFN2-xTB", benzene.numbers, benzene.positions / 0.529177210903)
        calculator.set("verbosity", 0)
        levels = calculator.singlepoint().get("orbital-energies")
        # 30 valence electrons fill 15 orbitals.
        assert found.gap == pytest.approx((levels[15] - levels[14]) * 27.211386245988, abs=1e-3)

    def test_a_lone_hydrogen_atom_has_no_empty_orbital(self, gfn2):
        (found,) = gfn2.properties([State.from_ase(Atoms("H"), torch.float64).frame()])
        assert found.gap == np.inf

    def test_forces_are_slopes_of_the_energy(self, gfn2):
        assert force_error(gfn2, State.from_ase(rattled("CH3CH2OH"), torch.float64)) < 1e-3

    def test_stress_is_the_slope_of_the_energy_over_strain(self, gfn2):
        crystal = bulk("C", "diamond", a=3.6)
        crystal.rattle(0.05, seed=0)
        state = State.from_ase(crystal, torch.float64)
        assert stress_error(gfn2, state) < 2e-3
        largest = float(gfn2.evaluate(state, stress=True).stress.abs().max())
        assert largest > 2e-2  # or the comparison above shows nothing

    def test_a_molecule_has_no_stress(self, gfn2):
        with pytest.raises(ValueError, match="repeat in all three directions"):
            gfn2.evaluate(State.from_ase(molecule("H2O")), stress=True)

    def test_a_solvent_stabilises_a_polar_molecule(self, gfn2):
        state = State.from_ase(rattled("H2O"), torch.float64)
        water = GFN2(accuracy=0.01, solvent="water")
        gain = float(water.evaluate(state).energy[0] - gfn2.evaluate(state).energy[0])
        reference = by_ase(rattled("H2O"), solvation=("alpb", "water")).get_potential_energy()
        water.close()
        assert float(water.evaluate(state).energy[0]) == pytest.approx(reference, rel=NEWER)
        assert -1.0 < gain < -0.05
        water.close()

    def test_gfn1_is_that_of_tblite_with_charge_and_solvent(self):
        atoms = rattled("NH2", -1)
        simulator = GFN1(accuracy=0.01, solvent="water")
        state = State.from_ase(atoms, torch.float64)
        found = simulator.evaluate(state)
        seen = simulator.observe(state, ["dipole", "charges", "solvation_energy"])
        simulator.close()
        answers = []
        for solvation in (("alpb", "water"), None):
            atoms.calc = tblite_ase.TBLite(
                method="GFN1-xTB",
                verbosity=0,
                accuracy=0.01,
                charge=-1,
                multiplicity=1,
                solvation=solvation,
            )
            answers.append(atoms.get_potential_energy())
            if solvation:
                assert np.abs(found.forces.numpy() - atoms.get_forces()).max() < 1e-5
                assert np.abs(seen["charges"].numpy() - atoms.get_charges()).max() < 1e-5
                centred = atoms.get_dipole_moment() + atoms.get_center_of_mass()
                assert np.abs(seen["dipole"][0].numpy() - centred).max() < 1e-5
        assert float(found.energy[0]) == pytest.approx(answers[0], rel=NEWER)
        difference = float(seen["solvation_energy"][0])
        assert difference == pytest.approx(answers[0] - answers[1], abs=1e-5)
        assert difference < -1.0

    def test_an_unknown_solvent_is_told(self):
        simulator = GFN2(solvent="unobtainium")
        with pytest.raises(SimulatorError, match="in solvent 'unobtainium'"):
            simulator.evaluate(State.from_ase(molecule("H2O")))
        simulator.close()

    def test_hot_electrons_lower_the_free_energy(self):
        hot = GFN2(electronic_temperature=6000.0)
        cold = GFN2(electronic_temperature=300.0)
        state = State.from_ase(molecule("C6H6"), torch.float64)
        gain = float(hot.evaluate(state).energy[0] - cold.evaluate(state).energy[0])
        reference = [
            by_ase(molecule("C6H6"), electronic_temperature=t).get_potential_energy()
            for t in (6000.0, 300.0)
        ]
        hot.close()
        cold.close()
        assert gain == pytest.approx(reference[0] - reference[1], abs=1e-4)
        assert gain < -1e-3

    def test_several_workers_give_what_one_gives(self, gfn2):
        names = ["H2O", "CH4", "NH3", "CH3OH", "C2H4"]
        state = State.from_ase([rattled(name) for name in names], torch.float64)
        two = GFN2(accuracy=0.01, workers=2)
        found, expected = two.evaluate(state), gfn2.evaluate(state)
        two.close()
        assert torch.allclose(found.energy, expected.energy, atol=1e-6)
        assert torch.allclose(found.forces, expected.forces, atol=1e-5)

    def test_a_warm_step_is_cheaper_than_a_cold_one(self):
        simulator = GFN2()
        state = State.from_smiles("CC(=O)Oc1ccccc1C(=O)O", dtype=torch.float64)
        simulator.evaluate(State.from_ase(molecule("H2O")))  # starts the process

        def seconds():
            start = time.perf_counter()
            simulator.evaluate(state)
            return time.perf_counter() - start

        cold = seconds()
        warm = min(seconds() for _ in range(5))
        simulator.close()
        assert warm < cold

    def test_the_worker_never_loads_torch(self):
        code = f"import sys, {TBLITE.engine}, tblite.interface;print('torch' in sys.modules)"
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert answer.stdout.strip() == "False"


class TestFailures:
    def test_atoms_too_near_are_refused(self, gfn2):
        state = State.from_ase(
            [molecule("H2O"), Atoms("OH", [[0, 0, 0], [0, 0, 0.1]])], torch.float64
        )
        with pytest.raises(GeometryError, match="system 1: atoms 0 and 1 are nearer") as caught:
            gfn2.evaluate(state)
        assert caught.value.system == 1

    def test_atoms_too_near_through_the_boundary_are_refused(self, gfn2):
        pair = Atoms("He2", [[0.1, 2, 2], [3.9, 2, 2]], cell=[4, 4, 4], pbc=True)
        with pytest.raises(GeometryError, match="nearer than"):
            gfn2.evaluate(State.from_ase(pair, torch.float64))

    def test_elements_without_parameters_are_refused(self, gfn2):
        with pytest.raises(GeometryError, match="not atomic number 92"):
            gfn2.evaluate(State.from_ase(Atoms("U")))

    def test_half_charges_are_refused(self, gfn2):
        atoms = molecule("H2O")
        atoms.info["charge"] = 0.5
        with pytest.raises(GeometryError, match=r"integer, got 0\.5"):
            gfn2.evaluate(State.from_ase(atoms))

    def test_no_convergence_is_told_and_does_not_spoil_what_follows(self):
        simulator = GFN2(electronic_temperature=1.0)
        torn = State.from_ase(Atoms("C2", [[0, 0, 0], [0, 0, 4.0]]), torch.float64)
        water = State.from_ase(molecule("H2O"), torch.float64)
        with pytest.raises(ConvergenceError, match="not converged"):
            simulator.evaluate(State.collate([water, torn]))
        close = State.from_ase(Atoms("C2", [[0, 0, 0], [0, 0, 1.25]]), torch.float64)
        again = simulator.evaluate(State.collate([water, close]))
        fresh = GFN2(electronic_temperature=1.0)
        assert torch.allclose(again.energy, fresh.evaluate(State.collate([water, close])).energy)
        simulator.close()
        fresh.close()

    def test_one_failure_does_not_hide_the_other_answers(self, gfn2):
        bad = Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])
        frames = [State.from_ase(a, torch.float64).frame() for a in (molecule("H2O"), bad)]
        first, second = gfn2.properties(frames)
        assert first.energy == pytest.approx(-137.97, abs=0.05)
        assert isinstance(second, GeometryError)

    def test_a_killed_worker_is_replaced(self):
        simulator = GFN2()
        state = State.from_ase(molecule("H2O"), torch.float64)
        before = float(simulator.evaluate(state).energy[0])
        (worker,) = simulator._workers
        dead = worker.pid
        os.kill(dead, signal.SIGKILL)
        after = float(simulator.evaluate(state).energy[0])
        assert after == pytest.approx(before, abs=1e-5)
        assert worker.pid != dead
        simulator.close()

    def test_a_system_that_kills_its_workers_is_named(self, monkeypatch):
        simulator = GFN2()
        worker = simulator._workers[0]
        ask = worker.ask

        def killing(request, timeout):
            if len(request["numbers"]) == 5:
                if worker.pid is None:
                    ask(request | {"numbers": [1], "positions": [[0, 0, 0]]}, timeout)
                os.kill(worker.pid, signal.SIGKILL)
            return ask(request, timeout)

        monkeypatch.setattr(worker, "ask", killing)
        state = State.from_ase([molecule("H2O"), molecule("CH4")], torch.float64)
        with pytest.raises(WorkerError, match="system 1 \\(5 atoms\\) ended its process twice"):
            simulator.evaluate(state)
        simulator.close()

    def test_a_calculation_over_the_time_limit_is_ended(self):
        simulator = GFN2(timeout=2.0)
        simulator.evaluate(State.from_ase(molecule("H2O")))
        (worker,) = simulator._workers
        os.kill(worker.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(WorkerError, match="no answer within 2 s"):
            simulator.evaluate(State.from_ase(molecule("H2O")))
        assert time.monotonic() - start < 10
        assert simulator.evaluate(State.from_ase(molecule("H2O"))).energy < 0
        simulator.close()

    def test_a_worker_ends_with_the_program_that_started_it(self):
        code = (
            "import os, signal; from sciwm.simulation.references.workers import Worker;"
            f"w = Worker({TBLITE.engine!r}); w.ask({REQUEST!r}, 60); print(w.pid, flush=True);"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        pid = int(parent.stdout)
        for _ in range(100):
            if not os.path.exists(f"/proc/{pid}"):
                return
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the worker outlived the program that started it")

    def test_a_broken_worker_says_its_last_words(self):
        worker = Worker(TBLITE.engine)
        with pytest.raises(WorkerDied, match=r"its last words: .*KeyError: .*positions"):
            worker.ask({}, timeout=HUNG)
        assert worker.pid is None

    def test_a_worker_that_was_asked_too_much_answers_the_next_question(self):
        worker = Worker(TBLITE.engine)
        with pytest.raises(WorkerTimeout):
            worker.ask(REQUEST, timeout=1e-3)
        assert worker.ask(REQUEST, timeout=HUNG)["energy"] == pytest.approx(-0.3935, abs=1e-3)
        worker.close()

    def test_a_pool_needs_a_worker(self):
        with pytest.raises(ValueError, match="workers must be at least 1"):
            GFN2(workers=0)


REQUEST = {
    "method": "GFN2-xTB",
    "system": 0,
    "numbers": [1],
    "positions": [[0.0, 0.0, 0.0]],
    "charge": 0,
    "unpaired": 1,
    "accuracy": 1.0,
    "electronic_temperature": 9.5e-4,
    "solvent": None,
    "lattice": None,
    "periodic": None,
}


def test_references_are_in_molecular_units_and_trusted_everywhere(gfn2):
    state = State.from_ase(molecule("H2O"), torch.float64)
    for simulator in (gfn2, emt()):
        assert simulator.units is MOLECULAR
        assert simulator.outside(state, simulator.evaluate(state)) == {}
