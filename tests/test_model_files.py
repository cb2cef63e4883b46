"""Model files that were damaged, or that nobody in their right mind wrote, are told from sound ones."""

import copy
import importlib
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from conftest import OLD_MODEL, loaded_without_digest, water

from sciwm.core.former_names import MOVED, current_path
from sciwm.core.state import State
from sciwm.models import archive
from sciwm.models.archive import Archive, ModelFileError
from sciwm.models.construction import build, describe
from sciwm.models.content import content_digest
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.pair_potential import PairPotential
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.encoders.radial import BesselBasis
from sciwm.models.heads.charges import DipoleHead
from sciwm.models.outcome_model import OutcomeModel
from sciwm.simulation.learned import predict

FLIPS = 200


def force_field(**encoder) -> ForceField:
    torch.manual_seed(0)
    model = ForceField(Encoder(**{"cutoff": 4.0, "channels": 4, "lmax": 1, "layers": 1} | encoder))
    model.domain.seen[[1, 8]] = True
    return model


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.pt"
    record = {"files": [{"name": "water.h5md", "bytes": 1, "sha256": "0"}], "frames": 40}
    archive.save(Archive(force_field(), data=record), path)
    return path


def rewritten(path, change):
    """The file with its content changed by someone who knows how to make the digest fit."""
    content = torch.load(path, weights_only=True)
    change(content)
    content.pop("digest", None)
    with suppress(ModelFileError):  # what no digest can be made of needs none
        content["digest"] = content_digest(content, 1e6)
    torch.save(content, path)
    return path


def test_every_single_bit_flip_is_found_or_without_effect(model_file):
    """The forces of what still loads are those of the sound file, to the last bit."""
    sound = model_file.read_bytes()
    state = State.from_frame(water())
    expected = predict(archive.load(model_file).model, state)
    rng = np.random.default_rng(5)
    refused = 0
    for bit in rng.choice(8 * len(sound), FLIPS, replace=False):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        model_file.write_bytes(damaged)
        try:
            content = archive.load(model_file)
        except ModelFileError:
            refused += 1
            continue
        found = predict(content.model, state)
        assert torch.equal(found.forces, expected.forces), bit
        assert torch.equal(found.energy, expected.energy), bit
        assert content.data["frames"] == 40
    assert refused > FLIPS / 2


def flipped(content, name, bit):
    numbers = content["state"][name].numpy().reshape(-1).view(np.uint8)
    numbers[0] ^= 1 << bit


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: flipped(c, "encoder.species.weight", 0),  # of an element that nothing here holds
        lambda c: flipped(c, "domain.closest", 3),
        lambda c: c["model"]["init_args"]["encoder"]["init_args"].update(cutoff=4.5),
        lambda c: c["data"].update(frames=41),
        lambda c: c["check"].update(verdict="pass"),
        lambda c: c.update(dtype="float64"),
        lambda c: c.pop("digest"),
        lambda c: c.update(digest=c["digest"].upper()),
    ],
    ids=["weight", "closest", "cutoff", "data", "check", "dtype", "no digest", "digest"],
)
def test_whatever_changes_after_writing_is_found(model_file, damage):
    content = torch.load(model_file, weights_only=True)
    damage(content)
    torch.save(content, model_file)
    with pytest.raises(ModelFileError, match=r"model\.pt: it is damaged: its digest"):
        archive.load(model_file)


def test_an_old_file_loads_with_a_warning_and_is_written_anew_with_a_digest(tmp_path):
    content = loaded_without_digest(OLD_MODEL)
    archive.save(content, tmp_path / "new.pt")
    state = State.from_frame(water())
    old, new = (
        predict(one, state) for one in (content.model, archive.load(tmp_path / "new.pt").model)
    )
    assert torch.equal(old.forces, new.forces)


@pytest.mark.parametrize("part", ["encoder", "readouts"])
def test_a_probe_feels_small_changes_of_learned_interactions(part):
    """A ten-thousandth of the learned part, which hides in single precision beside total energies."""
    model = force_field()
    before = np.array(archive.probe(model))
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for weight in getattr(changed, part).parameters():
            weight.mul_(1 + 1e-4)
    scale = abs(before).max()
    difference = abs(np.array(archive.probe(changed)) - before).max() / scale
    assert difference > archive.TOLERANCE / 10
    assert abs(np.array(archive.probe(copy.deepcopy(model))) - before).max() == 0.0


def nested(content):
    inner: list = []
    for _ in range(200):
        inner = [inner]
    content["data"]["files"] = inner


def bomb(content):
    inner: list = ["name"] * 10
    for _ in range(12):
        inner = [inner] * 10
    content["data"]["extra"] = inner


def huge_tensor(content):
    content["state"]["scale"] = torch.ones(1).expand(10**6, 10**6)


def arguments(content):
    return content["model"]["init_args"]


def encoder_arguments(content):
    return arguments(content)["encoder"]["init_args"]


MALFORMED = {
    "no version": (lambda c: c.pop("version"), "version of its format is None"),
    "version of words": (lambda c: c.update(version="1"), "version of its format is '1'"),
    "version of truth": (lambda c: c.update(version=True), "version of its format is True"),
    "version zero": (lambda c: c.update(version=0), "version of its format is 0"),
    "no model": (lambda c: c.pop("model"), "'model' is absent"),
    "model of words": (lambda c: c.update(model="x"), "'model' is str"),
    "no state": (lambda c: c.pop("state"), "'state' is absent"),
    "state of words": (lambda c: c["state"].update(scale="x"), "other things than tensors"),
    "state by number": (lambda c: c["state"].update({1: torch.ones(1)}), "not words"),
    "no dtype": (lambda c: c.pop("dtype"), "'dtype' is absent"),
    "dtype of another thing": (lambda c: c.update(dtype="nn"), "numbers are 'nn'"),
    "whole dtype": (lambda c: c.update(dtype="int64"), "numbers are 'int64'"),
    "no versions": (lambda c: c.pop("versions"), "'versions' is absent"),
    "versions of numbers": (lambda c: c.update(versions={"torch": 2}), "'versions' are not words"),
    "no data": (lambda c: c.pop("data"), "'data' is absent"),
    "data of words": (lambda c: c.update(data="water"), "'data' is str"),
    "files of numbers": (lambda c: c["data"].update(files=[1]), "data: files are no list"),
    "no check": (lambda c: c.pop("check"), "'check' is absent"),
    "check without verdict": (lambda c: c.update(check={"a": 1}), "no verdict"),
    "checks of words": (lambda c: c.update(check={"verdict": "", "checks": ["a"]}), "checks are no"),
    "units": (lambda c: c.update(units="stone"), "units are 'stone'"),
    "other units": (lambda c: c.update(units="reduced"), "reduced units"),
    "probe of words": (lambda c: c.update(probe=["x"]), "'probe'"),
    "probe of falsehood": (lambda c: c.update(probe=False), "'probe'"),
    "probe of nothing": (lambda c: c.update(probe={}), "'probe'"),
    "nested deep": (nested, "nested more than"),
    "one list many times": (bomb, "more than the bytes of the file"),
    "one number many times": (huge_tensor, "more than the bytes of the file"),
    "complex numbers": (lambda c: c.update(probe=2j), "holds a complex"),
    "sparse": (lambda c: c["state"].update(scale=torch.eye(2).to_sparse()), "in a form"),
    "unknown argument": (lambda c: arguments(c).update(wings=2), "no argument wings"),
    "lacking argument": (lambda c: arguments(c).pop("encoder"), "lacks encoder"),
    "arguments of words": (lambda c: c["model"].update(init_args="x"), "are a str"),
    "encoder of another kind": (lambda c: arguments(c).update(encoder=3), "cannot be 3"),
    "encoder of words": (lambda c: arguments(c).update(encoder="x"), "cannot be 'x'"),
    "a part too deep in itself": (lambda c: arguments(c).update(encoder=c["model"]), "nested"),
    "class of numbers": (lambda c: c["model"].update(class_path=1), "refusing to build"),
    "a task": (
        lambda c: c["model"].update(class_path="sciwm.training.force_task.ForceTask"),
        "refusing to build",
    ),
    "an abstract class": (
        lambda c: c["model"].update(class_path="sciwm.models.dynamics.potential.Potential"),
        "not a model class",
    ),
    "no potential": (lambda c: c.update(model=arguments(c)["encoder"]), "not a model"),
    "channels of words": (lambda c: encoder_arguments(c).update(channels="4"), "cannot be '4'"),
    "channels by half": (lambda c: encoder_arguments(c).update(channels=4.5), "cannot be 4.5"),
    "no channels": (lambda c: encoder_arguments(c).update(channels=0), "channels must lie"),
    "a billion channels": (lambda c: encoder_arguments(c).update(channels=10**9), "cannot be"),
    "channels": (lambda c: encoder_arguments(c).update(channels=9999), "more than .* numbers"),
    "layers": (lambda c: encoder_arguments(c).update(layers=10**6), "layers must lie"),
    "degrees": (lambda c: encoder_arguments(c).update(lmax=1000), "lmax must lie"),
    "functions": (lambda c: encoder_arguments(c).update(basis_size=-1), "basis_size must lie"),
    "cutoff": (lambda c: encoder_arguments(c).update(cutoff=float("nan")), "cutoff"),
    "cutoff of words": (lambda c: encoder_arguments(c).update(cutoff="5"), "cannot be '5'"),
    "a far cutoff": (lambda c: encoder_arguments(c).update(cutoff=1e9), "other numbers"),
    "other units of the model": (lambda c: arguments(c).update(unit_system="stone"), "cannot be built"),
    "energies of words": (lambda c: arguments(c).update(reference_energies={"H": "x"}), "cannot"),
    "weights of another kind": (
        lambda c: c["state"].update(scale=torch.tensor(1)), "scale is torch.int64"
    ),
    "weights of no size and no stride": (
        lambda c: c["state"].update(scale=torch.ones(1).expand(5)[:0]), "do not fit"
    ),
    "weights of another size": (lambda c: c["state"].update(scale=torch.ones(3)), "do not fit"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch 2.11, while it reads one
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_told_what_is_wrong(model_file, name):
    change, message = MALFORMED[name]
    rewritten(model_file, change)
    with pytest.raises(ModelFileError, match=message) as refusal:
        archive.load(model_file)
    assert str(refusal.value).startswith(str(model_file))
    assert len(str(refusal.value)) < 500


def test_records_that_unpack_to_more_than_the_file_are_refused(model_file):
    with zipfile.ZipFile(model_file) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(model_file, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in records.items():
            file.writestr(name, content)
    with pytest.raises(ModelFileError, match="cannot be read"):
        archive.load(model_file)


@pytest.mark.parametrize(
    "model",
    [
        lambda: force_field(channels=64, lmax=3, layers=3),
        lambda: OutcomeModel(force_field(channels=1, lmax=6), [DipoleHead(1)]),
        lambda: PairPotential(BesselBasis(2.5), types=3),
    ],
    ids=["wide", "of high degree", "pairs"],
)
def test_honest_models_stay_within_the_numbers_they_are_granted(model):
    """Half of what `load` grants is enough."""
    one = model()
    held = sum(value.numel() for value in one.state_dict().values())
    again = build(describe(one), (archive.SHARE * held + archive.CONSTANTS) // 2)
    assert again.state_dict().keys() == one.state_dict().keys()
    with pytest.raises(ModelFileError, match="more than"):
        build(describe(one), held // 2)


def test_classes_are_found_under_the_paths_they_had():
    for old, new in MOVED.items():
        assert importlib.import_module(new)
        with pytest.raises(ImportError):
            importlib.import_module(old)
    assert current_path("sciwm.models.encoder.Encoder") == "sciwm.models.encoders.encoder.Encoder"
    assert current_path("sciwm.models.ForceField") == "sciwm.models.ForceField"
    old = {"class_path": "sciwm.models.encoder.Encoder", "init_args": {"channels": 4, "lmax": 1}}
    assert isinstance(build(old), Encoder)
