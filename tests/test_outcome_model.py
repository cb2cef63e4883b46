"""Outcome heads obey the symmetry of what they predict, leave forces alone, and learn from labels."""

import json

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk, molecule
from conftest import loaded_without_digest, springs, water

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.properties import PROPERTIES
from sciwm.core.rotations import random_rotation
from sciwm.core.state import State
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.models import archive as archives
from sciwm.models.archive import Archive, ModelFileError, build, describe
from sciwm.models.domain import UnseenSpeciesError
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.heads.charges import ChargeHead, DipoleHead
from sciwm.models.heads.head import TensorReadout
from sciwm.models.heads.scalars import ExtensiveHead, IntensiveHead
from sciwm.models.heads.tensor import TensorHead
from sciwm.models.outcome_model import OutcomeModel
from sciwm.models.statistics import LabelStatistics, Statistics, survey
from sciwm.simulation.ensemble import Ensemble
from sciwm.simulation.learned import LearnedSimulator, predict
from sciwm.simulation.simulator import SimulatorError
from sciwm.training.fit import fit
from sciwm.training.outcome_task import OutcomeTask

CUTOFF = 4.0
EXACT = 1e-10
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def heads():
    return [
        DipoleHead(8),
        ChargeHead(8),
        TensorHead("polarisability", 8),
        IntensiveHead("gap", 8),
        ExtensiveHead("solvation_energy", 8),
    ]


def outcome_model(*species: int, seed: int = 0, made_of=None, **encoder) -> OutcomeModel:
    torch.manual_seed(seed)
    options = {"channels": 8, "lmax": 2, "layers": 2} | encoder
    force_field = ForceField(Encoder(CUTOFF, **options), repulsion=False)
    model = OutcomeModel(force_field, heads() if made_of is None else made_of)
    model.domain.seen[list(species or (1, 6, 7, 8))] = True
    return model


def shaken(name: str, seed: int = 0, charge: float = 0.0) -> State:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, atoms.positions.shape)
    atoms.info["charge"] = charge
    return State.from_ase(atoms)


def observed(model, state):
    attach_pairs(state, CUTOFF)
    with torch.no_grad():
        return model.observe(state, NeighbourTable.from_pairs(state))


def turned(value, turn):
    """A property as it is once the system has turned."""
    if value.shape[1:] == (3,):
        return value @ turn.T
    return turn @ value @ turn.T if value.shape[1:] == (3, 3) else value


def turning_error(model, seed):
    """The largest share of a property by which it does not turn with the system."""
    turn = random_rotation(torch.Generator().manual_seed(seed)).double()
    turn = -turn if seed % 2 else turn  # reflections too
    state = shaken("CH3CH2OH", seed)
    moved = state.clone()
    moved.positions = state.positions @ turn.T
    before, after = observed(model, state), observed(model, moved)
    return max(
        float((turned(before[name], turn) - after[name]).abs().max() / after[name].abs().max())
        for name in before
    )


class LeaningReadout(torch.nn.Module):
    """Adds a fixed direction to what another readout finds."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, features):
        return self.inner(features) + torch.tensor([0.0, 0.0, 1.0])


@pytest.mark.usefixtures("double")
class TestSymmetry:
    @pytest.mark.parametrize("seed", range(4))
    def test_properties_turn_and_reflect_with_the_system(self, seed):
        assert turning_error(outcome_model(), seed) < EXACT

    @pytest.mark.parametrize("encoder", [{"layers": 1}, {"layers": 3, "lmax": 3}], ids=str)
    def test_whatever_the_encoder(self, encoder):
        assert turning_error(outcome_model(**encoder), 1) < EXACT

    def test_the_check_catches_a_head_that_prefers_a_direction(self):
        model = outcome_model()
        model.heads[0].atomic = LeaningReadout(model.heads[0].atomic)
        assert turning_error(model, 0) > 1e-3

    def test_features_of_all_degrees_begin_with_the_invariants_that_energies_read(self):
        encoder = outcome_model().force_field.encoder
        state = attach_pairs(shaken("CH3CH2OH"), CUTOFF)
        from sciwm.models.geometry import Geometry

        table = NeighbourTable.from_pairs(state)
        vectors = table.vectors(state.positions, state.cell, state.batch)
        geometry = Geometry.of(state, table, vectors, CUTOFF)
        for scalars, tensors in zip(encoder(geometry), encoder.tensors(geometry), strict=True):
            assert tensors.shape == (9, 9, 8)
            assert torch.equal(scalars, tensors[:, 0])

    def test_polarisabilities_are_symmetric_and_not_merely_isotropic(self):
        tensor = observed(outcome_model(), shaken("CH3CH2OH"))["polarisability"][0]
        assert float((tensor - tensor.T).abs().max()) < EXACT
        assert float((tensor - tensor.trace() / 3 * torch.eye(3)).abs().max()) > 1e-3


@pytest.mark.usefixtures("double")
class TestPhysics:
    @pytest.mark.parametrize("charge", [-1.0, 0.0, 2.0])
    def test_charges_sum_to_the_total_charge(self, charge):
        model = outcome_model()
        state = State.collate([shaken("CH3CH2OH", 1, charge), shaken("H2O", 2), shaken("NH3", 3)])
        charges = observed(model, state)["charges"]
        sums = torch.zeros(3).index_add(0, state.batch, charges)
        assert float((sums - state.total_charge).abs().max()) < 1e-14
        raw = model.heads[1].charges
        raw.elements.fill_(0.3)  # whatever the elements prefer
        charges = observed(model, state)["charges"]
        sums = torch.zeros(3).index_add(0, state.batch, charges)
        assert float((sums - state.total_charge).abs().max()) < 1e-14

    @pytest.mark.parametrize("charge", [0.0, 1.0])
    def test_dipoles_do_not_depend_on_where_the_molecule_is(self, charge):
        model, state = outcome_model(), shaken("CH3CH2OH", 1, charge)
        moved = state.clone()
        moved.positions = state.positions + torch.tensor([30.0, -20.0, 10.0])
        here, there = observed(model, state)["dipole"], observed(model, moved)["dipole"]
        torch.testing.assert_close(here, there, rtol=1e-11, atol=1e-11)

    def test_the_dipole_of_an_ion_is_about_its_centre_of_mass(self):
        model, state = outcome_model(made_of=[DipoleHead(8)]), shaken("OH", 0, -1.0)
        model.heads[0].scale.fill_(0.0)  # charges alone
        with torch.no_grad():
            attach_pairs(state, CUTOFF)
            table = NeighbourTable.from_pairs(state)
            dipole = model.observe(state, table)["dipole"][0]
            heavy = state.clone()
            heavy.masses = torch.tensor([1e9, 1.0])  # all of the mass on oxygen
            about_oxygen = model.observe(heavy, table)["dipole"][0]
        masses, places = state.masses, state.positions
        centre = (masses[:, None] * places).sum(0) / masses.sum()
        # Moving the origin by d changes the dipole of charge q by -q d.
        expected = dipole + state.total_charge * (centre - places[0])
        torch.testing.assert_close(about_oxygen, expected, atol=1e-7, rtol=0)

    def test_crystals_have_no_dipole(self):
        model = outcome_model(6)
        state = State.from_ase(bulk("C", a=3.6))
        assert bool(observed(model, state)["dipole"].isnan().all())
        with pytest.raises(SimulatorError, match="system 0 has no dipole: it repeats"):
            LearnedSimulator(model).observe(state, ["dipole"])

    def test_two_far_molecules_have_the_sum_of_what_is_extensive_and_not_of_what_is_not(self):
        model = outcome_model()
        one = shaken("CH3CH2OH")
        far = one.to_ase()
        far.translate([100.0, 0, 0])
        alone, both = observed(model, one), observed(model, State.from_ase(one.to_ase() + far))
        for name in ("solvation_energy", "polarisability", "dipole"):
            torch.testing.assert_close(both[name], 2 * alone[name], atol=1e-9, rtol=0)
        torch.testing.assert_close(both["gap"], alone["gap"], atol=1e-9, rtol=0)

    def test_a_batch_gives_what_its_systems_give_alone(self):
        model = outcome_model()
        states = [shaken("CH3CH2OH"), shaken("H2O", 1, 1.0), shaken("H", 2), shaken("NH3", 3)]
        together = observed(model, State.collate([state.clone() for state in states]))
        alone = [observed(model, state) for state in states]
        for name in together:
            expected = torch.cat([one[name] for one in alone])
            torch.testing.assert_close(together[name], expected, atol=1e-12, rtol=1e-12)

    def test_forces_are_those_of_the_force_field_and_minus_the_gradient(self):
        model, state = outcome_model(), shaken("CH3CH2OH")
        with_heads, without = predict(model, state), predict(model.force_field, state)
        assert torch.equal(with_heads.forces, without.forces)
        assert torch.equal(with_heads.energy, without.energy)
        h = 1e-5
        for atom, axis in ((0, 0), (4, 2)):
            moved = [state.clone(), state.clone()]
            for sign, one in zip((1, -1), moved, strict=True):
                one.positions = state.positions.clone()
                one.positions[atom, axis] += sign * h
            up, down = (float(predict(model, one).energy) for one in moved)
            assert float(with_heads.forces[atom, axis]) == pytest.approx(
                (down - up) / (2 * h), abs=1e-7
            )

    def test_a_force_field_of_an_old_file_keeps_its_energy(self):
        old = loaded_without_digest().model
        assert bool(old.domain.charged.all())
        model = OutcomeModel(old, [DipoleHead(8)])
        assert archives.probe(model) == archives.probe(old)
        with torch.no_grad():
            next(old.encoder.interactions[0].parameters()).mul_(1.1)
        kept = loaded_without_digest().model
        assert archives.probe(model) != pytest.approx(archives.probe(kept))


class TestFiles:
    def test_a_model_with_heads_comes_back(self, tmp_path):
        model = outcome_model()
        archives.save(Archive(model), tmp_path / "model.pt")
        back = archives.load(tmp_path / "model.pt").model
        assert isinstance(back, OutcomeModel)
        assert back.properties == model.properties
        state = shaken("CH3CH2OH")
        before, after = observed(model, state), observed(back, state)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert describe(back) == describe(model)

    def test_only_modules_of_this_package_are_built_from_a_list(self):
        description = describe(outcome_model())
        description["init_args"]["heads"][0]["class_path"] = "os.system"
        with pytest.raises(ModelFileError, match=r"refusing to build 'os\.system'"):
            build(description)


class TestMistakes:
    @pytest.mark.parametrize("made_of", [[], [DipoleHead(), DipoleHead()]], ids=["none", "twice"])
    def test_heads_must_be_there_and_differ(self, made_of):
        with pytest.raises(ValueError, match="heads for different properties"):
            outcome_model(made_of=made_of)

    def test_a_tensor_needs_an_encoder_of_degree_two(self):
        with pytest.raises(ValueError, match="lmax: 2"):
            outcome_model(lmax=1)
        TensorReadout(Encoder(CUTOFF, lmax=1), 4, degree=1)

    def test_a_head_refuses_a_property_of_another_kind(self):
        with pytest.raises(ValueError, match=r"dipole has shape \(3,\).*gap"):
            IntensiveHead("dipole")
        with pytest.raises(ValueError, match="unknown properties 'colour'"):
            ExtensiveHead("colour")

    def test_what_the_model_does_not_offer_is_named(self):
        simulator = LearnedSimulator(outcome_model(made_of=[DipoleHead()]))
        with pytest.raises(SimulatorError, match=r"does not predict gap; it offers .*dipole"):
            simulator.observe(shaken("H2O"), ["dipole", "gap"])
        with pytest.raises(SimulatorError, match="does not predict dipole"):
            LearnedSimulator(outcome_model().force_field).observe(shaken("H2O"), ["dipole"])

    def test_a_model_wants_labels_for_its_heads(self):
        with pytest.raises(ValueError, match="no charges, dipole, gap"):
            outcome_model().adapt(Statistics())


class TestDomain:
    def simulator(self):
        model = outcome_model(1, 6, 8)
        frames = [shaken("CH3CH2OH").frame(), shaken("H2O", 1, 1.0).frame()]
        model.domain.adapt(survey(frames, CUTOFF, model.units, None))
        return LearnedSimulator(model)

    def test_unseen_species_are_named_by_system_and_the_others_go_on(self):
        simulator = self.simulator()
        states = [shaken("H2O"), shaken("CH3Cl"), shaken("CH3CH2OH"), shaken("PH3")]
        with pytest.raises(UnseenSpeciesError) as caught:
            simulator.evaluate(State.collate(states))
        assert sorted(caught.value.systems) == [1, 3]
        assert "holds Cl, and the training data only H, C, O" in caught.value.systems[1]
        batch = State.collate(states)
        evaluation = predict(simulator.model, batch.clone())
        reasons = simulator.outside(batch, evaluation)
        assert "holds P" in reasons[3]
        good = State.collate([states[0], states[2]])
        assert simulator.evaluate(good).energy.shape == (2,)

    def test_total_charges_that_were_never_seen_are_outside(self):
        simulator = self.simulator()
        state = State.collate([shaken("H2O", 1, q) for q in (0.0, 1.0, -1.0)])
        reasons = simulator.outside(state, simulator.evaluate(state))
        assert "total charge of -1; training held 0, +1" in reasons.pop(2)
        assert not any("charge" in reason for reason in reasons.values())

    def test_a_widened_domain_holds_both(self):
        domain = self.simulator().model.domain
        frames = [shaken("CH3Cl", 0, -1.0).frame()]
        domain.widen(survey(frames, CUTOFF, outcome_model().units, None))
        assert torch.nonzero(domain.seen)[:, 0].tolist() == [1, 6, 8, 17]
        assert (torch.nonzero(domain.charged)[:, 0] - 20).tolist() == [-1, 0, 1]
        assert float(domain.closest[6, 8]) > 0
        assert float(domain.closest[6, 17]) > 0


class TestEnsemble:
    def members(self):
        return [outcome_model(seed=k) for k in range(3)]

    def test_it_is_the_mean_of_its_members_with_their_standard_deviation(self):
        ensemble, state = Ensemble(self.members()), shaken("CH3CH2OH")
        found = [member.evaluate(state) for member in ensemble.members]
        mean, spread = ensemble.disagreement(state)
        forces = np.stack([one.forces.numpy() for one in found])
        np.testing.assert_allclose(mean.forces, forces.mean(axis=0), atol=1e-6)
        expected = np.sqrt(forces.var(axis=0, ddof=1).sum(axis=-1))
        np.testing.assert_allclose(spread, expected, rtol=1e-4)
        charges = ensemble.observe(state, ["charges"])["charges"]
        assert float(charges.sum()) == pytest.approx(0, abs=1e-5)

    def test_systems_on_which_members_disagree_more_than_in_validation_are_outside(self):
        ensemble = Ensemble(self.members())
        usual = shaken("CH3CH2OH", 1)
        assert ensemble.outside(usual, ensemble.evaluate(usual)) == {}
        limit = ensemble.calibrate([usual])
        assert 0 < limit < float("inf")
        assert ensemble.outside(usual, ensemble.evaluate(usual)) == {}
        squeezed = usual.clone()
        squeezed.positions = 0.5 * usual.positions
        both = State.collate([usual, squeezed])
        reasons = ensemble.outside(both, ensemble.evaluate(both))
        assert list(reasons) == [1]
        assert "disagree" in reasons[1]

    def test_copies_of_one_model_agree(self):
        ensemble = Ensemble([outcome_model(), outcome_model()])
        assert float(ensemble.disagreement(shaken("H2O"))[1].max()) == 0

    def test_it_needs_several_models_and_something_to_calibrate_on(self):
        with pytest.raises(ValueError, match="at least two models, got 1"):
            Ensemble([outcome_model()])
        with pytest.raises(ValueError, match="got none"):
            Ensemble(self.members()).calibrate([])


def charged_springs(seed: int, **changes):
    """Shaken water with charges that follow the bond lengths, and the dipole that they make."""
    frame = springs(water(seed, 0.1))
    bonds = np.linalg.norm(frame.positions[1:] - frame.positions[0], axis=1)
    hydrogen = 0.3 + 0.2 * (bonds - 0.96)
    charges = np.array([-hydrogen.sum(), *hydrogen])
    properties = {"charges": charges, "dipole": charges @ frame.positions, "gap": bonds.sum()}
    return frame.with_(properties=properties | changes)


def written(path, frames):
    with H5MDWriter(path) as writer:
        for frame in frames:
            writer.append(frame)
    return str(path)


def small(*made_of) -> OutcomeModel:
    force_field = ForceField(
        Encoder(cutoff=3.0, channels=8, lmax=1, layers=2),
        repulsion=False,
        reference_energies={"H": 0.0, "O": 0.0},
    )
    return OutcomeModel(force_field, made_of)


def trained(path, task, folder, steps=150, **options):
    data = FrameData(path, 8, properties=list(task.model.properties), **options)
    return fit(
        data, task, "run", max_steps=steps, validate_every=50, trainer=QUIET, folder=str(folder)
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    frames = [charged_springs(k) for k in range(48)]
    for k in range(3, 48, 5):
        frames[k] = charged_springs(k, gap=np.nan)
    return written(tmp_path_factory.mktemp("data") / "labelled.h5md", frames)


@pytest.fixture(scope="module")
def run(path, tmp_path_factory):
    task = OutcomeTask(
        small(DipoleHead(), ChargeHead(), IntensiveHead("gap")), learning_rate=0.02, warmup=10
    )
    return trained(path, task, tmp_path_factory.mktemp("runs"), steps=300)


class TestTraining:
    def test_everything_is_learned_far_better_than_the_null_models(self, run):
        metrics = json.loads((run / "metrics.json").read_text())
        for name in ("force", "dipole", "gap"):
            assert metrics["last"][f"valid/{name}"] < 0.4 * metrics["null"][name], name
        assert metrics["null"]["charges"] > 0
        assert metrics["units"]["dipole"] == "e Å"

    def test_the_model_file_observes_what_it_learned(self, run):
        simulator = LearnedSimulator(archives.load(run / "model.pt").model)
        frame = charged_springs(99)
        found = simulator.observe(State.from_frame(frame), ["dipole", "charges"])
        assert np.abs(found["dipole"][0].numpy() - frame.properties["dipole"]).max() < 0.05
        assert float(found["charges"].sum()) == pytest.approx(0, abs=1e-6)

    def test_a_trained_force_field_can_be_started_from(self, path, run, tmp_path):
        before = archives.load(run / "model.pt").model
        task = OutcomeTask(
            small(DipoleHead()),
            start=str(run / "model.pt"),
            energy_weight=0,
            force_weight=0,
            learning_rate=1e-9,
        )
        after = archives.load(trained(path, task, tmp_path, steps=2) / "model.pt").model
        state = State.from_frame(charged_springs(99))
        there, here = LearnedSimulator(before), LearnedSimulator(after)
        torch.testing.assert_close(
            here.observe(state, ["dipole"])["dipole"], there.observe(state, ["dipole"])["dipole"]
        )
        other = OutcomeTask(outcome_model(made_of=[DipoleHead()]), start=str(run / "model.pt"))
        with pytest.raises(ValueError, match="give this one the same encoder"):
            trained(path, other, tmp_path / "other")

    def test_heads_alone_are_fitted_to_a_force_field_that_stays_as_it_is(self, path, run, tmp_path):
        before = archives.load(run / "model.pt").model
        options = {"energy_weight": 0, "force_weight": 0, "learning_rate": 0.02, "warmup": 5}
        task = OutcomeTask(small(IntensiveHead("gap")), start=str(run / "model.pt"), **options)
        after = archives.load(trained(path, task, tmp_path, steps=60) / "model.pt").model
        state = State.from_frame(charged_springs(99))
        found, expected = (LearnedSimulator(one).evaluate(state) for one in (after, before))
        assert torch.equal(found.forces, expected.forces)
        assert torch.equal(found.energy, expected.energy)
        gap = (LearnedSimulator(one).observe(state, ["gap"])["gap"] for one in (after, before))
        assert float(next(gap) - next(gap)) != 0.0, "the head has learned nothing"

    def test_properties_are_learned_without_energies_or_forces(self, tmp_path):
        frames = [charged_springs(k).with_(energy=None, forces=None) for k in range(24)]
        task = OutcomeTask(
            small(IntensiveHead("gap")),
            energy_weight=0,
            force_weight=0,
            learning_rate=0.02,
            warmup=5,
        )
        with pytest.warns(UserWarning, match="forces of this model will mean nothing"):
            run = trained(written(tmp_path / "bare.h5md", frames), task, tmp_path, steps=100)
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["last"]["valid/gap"] < 0.4 * metrics["null"]["gap"]
        assert set(metrics["null"]) == {"gap"}

    @pytest.mark.filterwarnings("ignore:(?s).*:DeprecationWarning")  # jsonargparse's, of itself
    def test_a_job_file_trains_one(self, path, tmp_path):
        from sciwm.cli.train import run as train

        force_field = {
            "encoder": {"cutoff": 3.0, "channels": 8, "lmax": 1, "layers": 1},
            "repulsion": False,
            "reference_energies": {"H": 0.0, "O": 0.0},
        }
        content = {
            "data": {
                "class_path": "sciwm.data.FrameData",
                "init_args": {"train": path, "valid": 8, "properties": ["dipole", "gap"]},
            },
            "task": {
                "class_path": "sciwm.training.OutcomeTask",
                "init_args": {
                    "model": {
                        "class_path": "sciwm.models.OutcomeModel",
                        "init_args": {
                            "force_field": force_field,
                            "heads": [
                                {"class_path": "sciwm.models.DipoleHead"},
                                {
                                    "class_path": "sciwm.models.IntensiveHead",
                                    "init_args": {"name": "gap"},
                                },
                            ],
                        },
                    }
                },
            },
            "max_steps": 4,
            "validate_every": 2,
            "trainer": QUIET,
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
        assert train([str(tmp_path / "job.yaml"), "--folder", str(tmp_path)]) == 0
        assert archives.load(tmp_path / "job" / "model.pt").model.properties == ("dipole", "gap")

    @pytest.mark.parametrize(
        ("frames", "reason"),
        [
            ([charged_springs(k, gap=1.0) for k in range(20)], "gap is 1 in all"),
            ([charged_springs(k, gap=np.nan) for k in range(20)], "has the property gap"),
            ([charged_springs(k).with_(forces=None) for k in range(20)], "no forces in every"),
        ],
        ids=["constant", "unknown", "no forces"],
    )
    def test_labels_that_teach_nothing_are_refused(self, tmp_path, frames, reason):
        task = OutcomeTask(small(IntensiveHead("gap")))
        with pytest.raises(ValueError, match=reason):
            trained(written(tmp_path / "bad.h5md", frames), task, tmp_path)

    def test_heads_and_data_must_name_the_same_properties(self, path, tmp_path):
        data = FrameData(path, 8, properties=["gap"])
        with pytest.raises(ValueError, match=r"properties: \[dipole\]"):
            fit(data, OutcomeTask(small(DipoleHead())), "run", trainer=QUIET, folder=str(tmp_path))


def gfn2(frame):
    """Energy, forces and dipole (about the origin) from tblite itself."""
    from tblite.interface import Calculator

    from sciwm.core.units import BOHR, HARTREE

    calculator = Calculator("GFN2-xTB", frame.numbers, frame.positions / BOHR)
    calculator.set("verbosity", 0)
    found = calculator.singlepoint()
    return frame.with_(
        energy=float(found.get("energy")) * HARTREE,
        forces=-found.get("gradient") * (HARTREE / BOHR),
        properties={"dipole": found.get("dipole") * BOHR},
    )


def test_quantum_chemical_dipoles_are_learned_far_better_than_their_mean(tmp_path):
    pytest.importorskip("tblite")
    frames = []
    for k in range(100):
        state = shaken(("CH3OH", "H2O", "NH3", "H2CO")[k % 4], k)
        turn = random_rotation(torch.Generator().manual_seed(k)).to(state.positions)
        state.positions = state.positions @ turn.T
        frames.append((k % 4, gfn2(state.frame().with_(properties={}))))
    with H5MDWriter(tmp_path / "dipoles.h5md") as writer:
        for kind, frame in frames:
            writer.append(frame, group=f"molecule{kind}")
    force_field = ForceField(Encoder(cutoff=4.0, channels=8, lmax=1, layers=2))
    task = OutcomeTask(
        OutcomeModel(force_field, [DipoleHead()]),
        energy_weight=0,
        force_weight=0,
        learning_rate=0.01,
        warmup=20,
    )
    with pytest.warns(UserWarning, match="will mean nothing"):
        run = trained(str(tmp_path / "dipoles.h5md"), task, tmp_path, steps=150, batch_size=10)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["last"]["valid/dipole"] < 0.2 * metrics["null"]["dipole"]


def test_label_statistics_separate_what_elements_explain():
    frames = [charged_springs(k).with_(total_charge=float(k % 2)) for k in range(10)]
    statistics = survey(frames, 3.0, outcome_model().units, None)
    assert statistics.total_charges == [0, 1]
    charges = statistics.labels["charges"]
    assert isinstance(charges, LabelStatistics)
    oxygen = np.mean([frame.properties["charges"][0] for frame in frames])
    assert charges.elements[8] == pytest.approx(oxygen)
    assert charges.rest < 0.3 * charges.spread
    gaps = np.array([frame.properties["gap"] for frame in frames])
    assert statistics.labels["gap"].spread == pytest.approx(gaps.std())
    assert statistics.labels.keys() <= PROPERTIES.keys()
