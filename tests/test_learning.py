"""Worlds learn from reference runs between rounds, and take over only if they are no worse."""

import pytest
import torch
from conftest import springs, water
from scipy.spatial.distance import pdist, squareform

from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.discovery.experiment.ledger import Ledger
from sciwm.discovery.plan import Learning
from sciwm.discovery.problem.hypothesis import Candidate, Hypothesis, Measurement
from sciwm.discovery.problem.outcomes.properties import RelaxedProperty
from sciwm.discovery.surrogate.learning import WorldLearner
from sciwm.discovery.surrogate.predictors.imagined import ImaginedOutcomes
from sciwm.models.archive import Archive, load, save
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.heads.charges import DipoleHead
from sciwm.models.outcome_model import OutcomeModel
from sciwm.training.fit import fit
from sciwm.training.outcome_task import OutcomeTask

pytestmark = pytest.mark.long

REST = squareform(pdist(water(spread=0.0).positions))
"""Springs are at rest in water's own shape, so that motion stays where the data is."""

RECIPES = [RelaxedProperty("dipole")]


def write(path, seeds, stiffness=5.0):
    """Water on springs, with a dipole that a charge of 0.4 on each hydrogen makes."""
    with H5MDWriter(path) as writer:
        for seed in seeds:
            frame = springs(water(seed, 0.1), stiffness, REST)
            arms = frame.positions[1:] - frame.positions[0]
            writer.append(frame.with_(properties={"dipole": 0.4 * arms.sum(axis=0)}))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Of a few of the frames that it may learn from, so that learning makes it better."""
    folder = tmp_path_factory.mktemp("world")
    write(folder / "old.h5md", range(60))
    few = write(folder / "few.h5md", range(8))
    torch.manual_seed(0)
    force_field = ForceField(Encoder(4.0, 8, 1, 1), reference_energies={"H": 3, "O": 3})
    task = OutcomeTask(OutcomeModel(force_field, [DipoleHead(8)]), learning_rate=1e-2, warmup=10)
    run = fit(
        FrameData([str(few)], 2, properties=["dipole"]),
        task,
        "start",
        max_steps=400,
        validate_every=100,
        trainer={"enable_progress_bar": False, "accelerator": "cpu"},
        folder=str(folder),
    )
    return folder, run / "model.pt"


@pytest.fixture
def campaign(tmp_path, trained):
    """One round whose reference run left frames behind."""
    fresh = write(tmp_path / "fresh.h5md", range(500, 510))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = ledger.begin("c", {}, 0, {})
        found.propose([Hypothesis(Candidate("OO", "pool"), 0, "chosen")])
        found.attempt("OO")
        found.finish("OO", {"dipole": Measurement(0.5)}, (0.5,), 1.0, str(fresh))
        yield found


def learner(campaign, trained, tmp_path, old="old.h5md", every=1, seconds=8.0):
    folder, model = trained
    kept = tmp_path / "kept.h5md"
    if not kept.is_file():
        write(kept, range(900, 920))
    world = ImaginedOutcomes.load([model], RECIPES)
    settings = Learning([str(folder / old)], [str(kept)], seconds=seconds, every=every)
    return WorldLearner(settings, campaign, world, [model], RECIPES, tmp_path / "worlds"), world


def test_a_world_that_is_no_worse_takes_over_and_is_found_again(campaign, trained, tmp_path):
    # Long enough for a slow machine too: what is promoted must pass every check.
    found, world = learner(campaign, trained, tmp_path, seconds=20.0)
    before = world.version
    found.learn(0)
    [record] = campaign.models()
    assert record.promoted, record.note
    assert record.parent == before
    assert record.errors["dipole (e Å) of member 0"] < 0.5
    assert world.version != before
    # A campaign that is resumed goes on with the promoted world, and does not train again.
    again, resumed = learner(campaign, trained, tmp_path, seconds=20.0)
    assert resumed.version == world.version
    again.learn(0)
    assert len(campaign.models()) == 1
    changed = load(again.models[0]).model.state_dict()
    assert any(
        not torch.equal(value, changed[name])
        for name, value in load(trained[1]).model.state_dict().items()
    )


def test_a_world_that_forgets_is_refused(campaign, trained, tmp_path):
    """Replaying another law makes it worse on what it knew."""
    write(trained[0] / "other.h5md", range(60), stiffness=50.0)
    found, world = learner(campaign, trained, tmp_path, old="other.h5md")
    before = world.version
    found.learn(0)
    [record] = campaign.models()
    assert not record.promoted
    assert "grew" in record.note
    assert world.version == before


def test_a_world_that_fails_its_checks_is_refused(campaign, trained, tmp_path, monkeypatch):
    """The law leans towards x by a hair: no error shows it, the check of rotations does."""
    sound = ForceField.energy_and_error

    def leaning(model, geometry):
        lean = 1e-6 * (geometry.direction[..., 0].square() * geometry.real).sum(dim=1)
        energy, error = sound(model, geometry)
        return energy + lean, error

    monkeypatch.setattr(ForceField, "energy_and_error", leaning)
    found, world = learner(campaign, trained, tmp_path)
    before = world.version
    found.learn(0)
    [record] = campaign.models()
    assert not record.promoted
    assert "fails the checks" in record.note
    assert "rotation" in record.note
    assert world.version == before


def test_it_learns_only_as_often_as_it_is_told(campaign, trained, tmp_path):
    found, _ = learner(campaign, trained, tmp_path, every=2)
    found.learn(0)
    assert campaign.models() == []


def test_a_force_field_without_heads_cannot_learn(campaign, trained, tmp_path):
    model = ForceField(Encoder(4.0, 8, 1, 1), repulsion=False)
    model.domain.seen[[1, 8]] = True
    save(Archive(model), tmp_path / "plain.pt")
    world = ImaginedOutcomes.load([tmp_path / "plain.pt"], RECIPES)
    settings = Learning([], [])
    with pytest.raises(ValueError, match="no heads"):
        WorldLearner(settings, campaign, world, [tmp_path / "plain.pt"], RECIPES, tmp_path)


def test_a_time_or_a_rhythm_of_nothing_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Learning([], [], seconds=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        Learning([], [], every=0)
