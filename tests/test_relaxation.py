"""Relaxation finds the minima that ASE's optimisers find, system by system."""

import importlib.util

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.cluster import Octahedron
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from sciwm.core.frame import Frame
from sciwm.core.rotations import random_rotation
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.simulation import relaxation
from sciwm.simulation.model_hessian import model_hessian
from sciwm.simulation.references.ase_potentials import emt, lennard_jones
from sciwm.simulation.relaxation import relax
from sciwm.simulation.simulator import Evaluation, SimulatorError

needs_tblite = pytest.mark.skipif(
    importlib.util.find_spec("tblite") is None, reason="tblite is not installed"
)


class Counted:
    """A simulator that counts the systems it evaluates."""

    def __init__(self, simulator):
        self.simulator, self.units, self.calls = simulator, simulator.units, 0

    def evaluate(self, state, stress=False):
        self.calls += state.n_systems
        return self.simulator.evaluate(state, stress)

    def outside(self, state, evaluation):
        return {}


class Wrong(Counted):
    """Forces that push uphill. Proof that the checks below can fail."""

    def evaluate(self, state, stress=False):
        found = super().evaluate(state, stress)
        return Evaluation(found.energy, -found.forces, found.stress)


class Walled(Counted):
    """Refuses states in which any two atoms of a system are nearer than a limit."""

    def __init__(self, simulator, limit):
        super().__init__(simulator)
        self.limit = limit

    def evaluate(self, state, stress=False):
        for s in range(state.n_systems):
            distances = torch.pdist(state.positions[state.batch == s])
            if distances.min() < self.limit:
                raise SimulatorError("too near", s)
        return super().evaluate(state, stress)


def clusters():
    noise = np.random.default_rng(0)
    found = []
    for metal, length in (("Cu", 3), ("Au", 3), ("Pt", 4)):
        cluster = Octahedron(metal, length)
        cluster.positions += noise.normal(0, 0.2, cluster.positions.shape)
        found.append(cluster)
    return State.from_ase(found, torch.float64)


def crystals():
    noise = np.random.default_rng(1)
    found = []
    for metal, length in (("Cu", 3.8), ("Al", 4.3)):
        crystal = bulk(metal, a=length, cubic=True)
        strain = np.eye(3) + noise.normal(0, 0.03, (3, 3))
        crystal.set_cell(crystal.cell @ strain, scale_atoms=True)
        crystal.positions += noise.normal(0, 0.05, crystal.positions.shape)
        found.append(crystal)
    return State.from_ase(found, torch.float64)


def minimum_by_ase(state, s, fmax, optimiser=BFGS, cell=False):
    atoms = state.to_ase(s)
    atoms.calc = EMT()
    search = optimiser(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
    assert search.run(fmax=fmax, steps=2000)
    return atoms, search.nsteps


@pytest.mark.parametrize("optimiser", [BFGS, FIRE])
def test_clusters_reach_the_minima_that_ase_finds(optimiser):
    state = clusters()
    result = relax(emt(), state, fmax=0.002)
    assert result.converged.all()
    assert (result.fmax < 0.002).all()
    for s in range(3):
        atoms, _ = minimum_by_ase(state, s, 0.002, optimiser)
        assert abs(atoms.get_potential_energy() - float(result.energy[s])) < 1e-4
        distances = atoms.get_all_distances()
        ours = result.state.to_ase(s).get_all_distances()
        assert np.abs(distances - ours).max() < 0.01


def test_it_takes_fewer_steps_than_ase():
    state = clusters()
    steps = relax(emt(), state).steps
    for s in range(3):
        assert int(steps[s]) < minimum_by_ase(state, s, 0.05, BFGS)[1]
        assert int(steps[s]) < minimum_by_ase(state, s, 0.05, FIRE)[1]


def test_the_check_catches_forces_that_push_uphill():
    result = relax(Wrong(emt()), clusters(), fmax=0.002, max_steps=60)
    assert not result.converged.any()


def test_cells_reach_the_minima_that_ase_finds():
    state = crystals()
    result = relax(emt(), state, fmax=0.001, relax_cell=True)
    assert result.converged.all()
    for s in range(2):
        atoms, _ = minimum_by_ase(state, s, 0.001, cell=True)
        ours = result.state.to_ase(s)
        assert abs(atoms.get_potential_energy() - float(result.energy[s])) < 1e-5
        assert np.abs(atoms.cell.cellpar() - ours.cell.cellpar()).max() < 0.02
        assert abs(atoms.get_volume() - ours.get_volume()) < 0.01


def test_a_fixed_cell_stays():
    state = crystals()
    result = relax(emt(), state, fmax=0.01)
    assert torch.equal(result.state.cell, state.cell)
    # The strained cell holds more energy than the relaxed one, or the test above shows nothing.
    assert (result.energy > relax(emt(), state, fmax=0.01, relax_cell=True).energy + 0.01).all()


def test_a_system_in_a_batch_relaxes_as_it_does_alone():
    state = clusters()
    together = relax(emt(), state)
    for s in range(3):
        alone = relax(emt(), state.system(s))
        assert int(alone.steps[0]) == int(together.steps[s])
        own = together.state.system(s).positions
        assert torch.allclose(alone.state.positions, own, atol=1e-8)


def test_a_molecule_beside_metal_and_in_single_precision_relaxes_as_it_does_alone():
    frames = [State.from_smiles(one).frame() for one in ("CCO", "CC")]
    molecules = [State.from_frame(one, torch.float64) for one in frames]
    metal = clusters().system(0)
    together = relax(emt(), State.collate([molecules[0], metal, molecules[1]]), fmax=0.01)
    for s, start in enumerate((molecules[0], metal, molecules[1])):
        alone = relax(emt(), start, fmax=0.01)
        assert int(alone.steps[0]) == int(together.steps[s])
        own = together.state.system(s).positions
        assert torch.allclose(alone.state.positions, own, atol=1e-8)
    single = relax(emt(), State.from_frame(frames[0], torch.float32), fmax=0.01)
    assert single.state.positions.dtype == torch.float32
    assert torch.allclose(single.energy.double(), together.energy[:1], atol=1e-3)


def test_converged_systems_are_not_evaluated_again():
    simulator = Counted(emt())
    result = relax(simulator, clusters())
    assert simulator.calls == int((result.steps + 1).sum())


def test_the_energy_and_forces_returned_belong_to_the_state_returned():
    result = relax(emt(), clusters())
    again = emt().evaluate(result.state)
    assert torch.allclose(again.energy, result.energy)
    assert torch.allclose(again.forces, result.state.forces)
    assert torch.allclose(result.fmax[0], again.forces[result.state.batch == 0].norm(dim=1).max())


def test_single_precision_reaches_the_same_minima():
    state = clusters()
    single = state.clone()
    for key in ("positions", "velocities", "masses", "cell"):
        single[key] = state[key].float()
    result, double = relax(emt(), single, fmax=0.01), relax(emt(), state, fmax=0.01)
    assert result.converged.all()
    assert result.state.positions.dtype == torch.float32
    assert torch.allclose(result.energy, double.energy, atol=1e-3)


def test_running_out_of_steps_is_told():
    result = relax(emt(), clusters(), max_steps=2)
    assert not result.converged.any()
    assert result.steps.tolist() == [2, 2, 2]
    assert result.reasons == [None, None, None]


def test_a_step_into_the_impossible_is_shortened():
    dimer = Frame(
        numbers=np.array([1, 1]),
        positions=np.array([[0.0, 0, 0], [1.5, 0, 0]]),
        masses=np.ones(2),
    )
    state = State.from_frame(dimer, torch.float64)
    potential = lennard_jones(1.0, 1.0, 30.0, REDUCED)
    # The wall stands just before the minimum at 2^(1/6) = 1.1225, where long steps would end.
    simulator = Walled(potential, 1.1)
    result = relax(simulator, state, fmax=1e-4)
    assert result.converged.all()
    distance = float(torch.pdist(result.state.positions))
    assert distance == pytest.approx(2 ** (1 / 6), abs=1e-4)


def test_a_system_without_energy_is_told_and_the_others_go_on():
    state = clusters()
    rows = torch.nonzero(state.batch == 1).flatten()
    state.positions[rows[0]] = state.positions[rows[1]]
    result = relax(Walled(emt(), 0.5), state)
    assert result.converged.tolist() == [True, False, True]
    assert result.reasons[1] == "too near"
    assert torch.isnan(result.energy[1])


def test_rest_outside_the_domain_is_not_convergence():
    class Gold(Counted):
        def outside(self, state, evaluation):
            gold = {int(s) for s in state.batch[state.numbers == 79].unique()}
            return dict.fromkeys(gold, "never saw gold")

    result = relax(Gold(emt()), clusters())
    assert result.converged.tolist() == [True, False, True]
    assert result.reasons[1] == "left the simulator's domain: never saw gold"
    assert result.fmax[1] < 0.05


def test_only_periodic_systems_have_a_cell_to_relax():
    with pytest.raises(ValueError, match="repeat in all three directions"):
        relax(emt(), clusters(), relax_cell=True)


@needs_tblite
def test_molecules_reach_the_minima_that_ase_finds_with_gfn2():
    from tblite.ase import TBLite

    from sciwm.simulation.references.xtb import GFN2

    smiles = ["CCO", "O=C1C=CC(=O)C=C1", "C1COC(=O)O1"]
    state = State.collate([State.from_smiles(one, dtype=torch.float64) for one in smiles])
    simulator = GFN2(accuracy=0.1)
    result = relax(simulator, state, fmax=0.01)
    simulator.close()
    assert result.converged.all()
    for s in range(len(smiles)):
        atoms = state.to_ase(s)
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.1)
        BFGS(atoms, logfile=None).run(fmax=0.01)
        assert abs(atoms.get_potential_energy() - float(result.energy[s])) < 1e-3
    assert simulator.units is MOLECULAR


class MMFF94(Counted):
    """RDKit's force field of one molecule: stiff bonds and soft torsions in microseconds."""

    def __init__(self, smiles):
        self.units, self.calls, self.seen = MOLECULAR, 0, []
        self.molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        settings = rdDistGeom.ETKDGv3()
        settings.randomSeed = 7
        assert rdDistGeom.EmbedMolecule(self.molecule, settings) == 0
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(self.molecule)
        self.field = rdForceFieldHelpers.MMFFGetMoleculeForceField(self.molecule, properties)

    @property
    def start(self):
        numbers = np.array([atom.GetAtomicNum() for atom in self.molecule.GetAtoms()])
        positions = self.molecule.GetConformer().GetPositions()
        return State.from_frame(Frame(numbers=numbers, positions=positions), torch.float64)

    def evaluate(self, state, stress=False):
        self.calls += 1
        places = state.positions.flatten().tolist()
        kilocalorie = 0.0433641153
        energy = torch.tensor([self.field.CalcEnergy(places) * kilocalorie], dtype=torch.float64)
        slope = torch.tensor(self.field.CalcGrad(places), dtype=torch.float64).view(-1, 3)
        return Evaluation(energy, -slope * kilocalorie)


CHAINS = ["CCCCCCCCCCCC", "CC(=O)Oc1ccccc1C(=O)O", "COCCOCCOCCOCCOC"]


@pytest.mark.parametrize("smiles", CHAINS)
def test_flexible_molecules_need_far_fewer_evaluations_than_without_a_model(smiles, monkeypatch):
    with_model, without = MMFF94(smiles), MMFF94(smiles)
    result = relax(with_model, with_model.start, fmax=0.01)
    monkeypatch.setattr("sciwm.simulation.relaxation._LARGEST_MODELLED", 0)
    plain = relax(without, without.start, fmax=0.01)
    assert result.converged.all()
    assert plain.converged.all()
    assert with_model.calls < 0.6 * without.calls
    # Not above the same minimum; 0.01 eV/Å leave a chain some millielectronvolts from it.
    assert float(result.energy[0]) < float(plain.energy[0]) + 0.005


def shaken_molecules():
    return State.collate(
        [State.from_smiles(one, dtype=torch.float64) for one in ("CCO", "C#CC", "OO", "CC(=O)C")]
    )


def test_the_modelled_curvature_turns_with_the_molecule_and_knows_no_order_of_atoms():
    state = shaken_molecules()
    hessian = model_hessian(state)
    assert torch.allclose(hessian, hessian.mT, atol=1e-10)
    assert (torch.linalg.eigvalsh(hessian) > 0.09).all()
    turn = random_rotation(torch.Generator().manual_seed(0))
    turned = model_hessian(state.moved(state.positions @ turn.T + 3.0))
    n = len(hessian[0]) // 3
    whole = torch.kron(torch.eye(n, dtype=torch.float64), turn.contiguous())
    # Where there is no atom, the diagonal is its own rotation.
    assert torch.allclose(turned, whole @ hessian @ whole.T, atol=1e-9)
    alone = state.system(0)
    order = torch.randperm(len(alone.numbers), generator=torch.Generator().manual_seed(1))
    mixed = alone.moved(alone.positions[order])
    mixed.numbers = alone.numbers[order]
    rows = (3 * order[:, None] + torch.arange(3)).flatten()
    size = 3 * len(order)
    own = hessian[0, :size, :size]
    assert torch.allclose(model_hessian(mixed)[0], own[rows][:, rows], atol=1e-9)
    assert not torch.allclose(turned, hessian, atol=0.1), "nothing was turned"


def test_the_modelled_curvature_is_that_of_a_force_field():
    """Its frequencies, soft torsions and stiff bonds, within a factor of the true ones."""
    field = MMFF94("CCO")
    state = relax(field, field.start, fmax=1e-4, max_steps=2000).state
    flat, step = state.positions.flatten(), 1e-4
    columns = []
    for k in range(len(flat)):
        ahead, behind = flat.clone(), flat.clone()
        ahead[k] += step
        behind[k] -= step
        found = [field.evaluate(state.moved(one.view(-1, 3))).forces for one in (ahead, behind)]
        columns.append((found[1] - found[0]).flatten() / (2 * step))
    true = torch.linalg.eigvalsh(torch.stack(columns))[6:]
    modelled = torch.linalg.eigvalsh(model_hessian(state)[0])[6:]
    ratio = (modelled / true).log()
    assert ratio.std() < 0.7
    # One stiffness for all motions says nothing of that.
    assert true.log().std() > 1.2


def test_time_that_is_up_ends_the_search_with_the_reason():
    state = clusters()
    result = relax(emt(), state, max_seconds=0.0)
    assert not result.converged.any()
    assert result.steps.tolist() == [0, 0, 0]
    assert all("limit of 0 s was reached after 0 steps" in reason for reason in result.reasons)
    assert torch.allclose(result.state.positions, state.positions)
    # What is at rest already is so, however late.
    rest = relax(emt(), state, fmax=1e3, max_seconds=0.0)
    assert rest.converged.all()
    assert rest.reasons == [None, None, None]


def test_the_bar_tells_the_largest_force(monkeypatch):
    told = []

    class Told(relaxation.Bar):
        def set_postfix_str(self, s="", refresh=True):
            told.append(s)

    monkeypatch.setattr(relaxation, "Bar", Told)
    result = relax(emt(), clusters(), fmax=0.05)
    assert len(told) == int(result.steps.max())
    assert told[0].startswith("step 1, largest force ")
    assert told[-1].endswith("(to 0.05)")
