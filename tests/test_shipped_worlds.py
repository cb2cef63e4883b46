"""The worlds that come with the package: there by name, in the wheel, and wary of what they never saw."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import sciwm
from sciwm.cli import main
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.state import State
from sciwm.evaluation import run as runs
from sciwm.evaluation.run import WORLDS, model_file, shipped_worlds
from sciwm.models.archive import ModelFileError
from sciwm.models.domain import OutsideDomainWarning, UnseenSpeciesError
from sciwm.simulation.references.xtb import GFN2

ROOT = Path(__file__).parents[1]
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def organic():
    return sciwm.load("organic")


def test_organic_is_among_them():
    assert "organic" in shipped_worlds()


@pytest.mark.parametrize("name", shipped_worlds())
def test_each_is_small_and_has_a_card(name):
    assert (WORLDS / f"{name}.pt").stat().st_size <= MOST_BYTES
    card = (WORLDS / f"{name}.md").read_text()
    for heading in ("## Data", "## Errors", "## Where it fails", "## Check"):
        assert heading in card


@pytest.mark.parametrize("name", shipped_worlds())
def test_each_was_checked(name):
    assert sciwm.load(name).archive.check["verdict"] in ("pass", "warn", "fail")


def test_forces_on_a_molecule_are_near_those_of_its_reference(organic):
    """And those of the molecule with nitrogen and oxygen exchanged are not."""
    frame = frame_from_smiles("CC(=O)NC", 1)
    noise = 0.03 * np.random.default_rng(0).standard_normal(frame.positions.shape)
    state = State.from_frame(frame.with_(positions=frame.positions + noise), torch.float64)
    true = GFN2().evaluate(state).forces

    def error(forces):
        return float((torch.as_tensor(forces) - true).square().mean().sqrt())

    assert error(organic.forces(state)) < 0.15 * error(torch.zeros_like(true))
    other = state.clone()
    other.numbers = torch.where(
        state.numbers == 7, 8, torch.where(state.numbers == 8, 7, state.numbers)
    )
    assert error(organic.forces(other)) > 0.3 * error(torch.zeros_like(true))


def test_outcomes_of_a_molecule_are_near_those_of_its_reference(organic):
    """And the dipole turned the other way is not."""
    frame = frame_from_smiles("CC(=O)NC", 1)
    true = GFN2().properties([frame])[0]
    names = ("dipole", "charges", "gap")
    state = State.from_frame(frame, torch.float64)
    told = {k: v.double().numpy() for k, v in organic.simulator().observe(state, names).items()}
    assert np.abs(told["dipole"][0] - true.dipole).max() < 0.15 * np.linalg.norm(true.dipole)
    assert np.abs(-told["dipole"][0] - true.dipole).max() > 0.5 * np.linalg.norm(true.dipole)
    assert np.abs(told["charges"] - true.charges).max() < 0.1
    assert told["gap"].item() == pytest.approx(true.gap, abs=0.6)


def test_free_atoms_are_at_the_zero_of_energies(organic):
    """So that energies of formation from atoms mean something."""
    apart = Atoms("CO", positions=[[0, 0, 0], [0, 0, 12]])
    table = organic.model.reference_table()
    assert organic.energy(apart) == pytest.approx(table[6] + table[8], abs=1e-5)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"'?orgnic'?.* organic"):
        sciwm.load("orgnic")


def test_a_path_is_no_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        model_file(tmp_path / "organic")


def test_one_that_was_tampered_with_is_refused(tmp_path, monkeypatch):
    content = torch.load(WORLDS / "organic.pt", weights_only=True)
    content["state"]["force_field.scale"] *= 1.01
    torch.save(content, tmp_path / "organic.pt")
    monkeypatch.setattr(runs, "WORLDS", tmp_path)
    with pytest.raises(ModelFileError, match="digest"):
        sciwm.load("organic")
    shutil.copy(WORLDS / "organic.pt", tmp_path)
    sciwm.load("organic")


def test_elements_that_it_never_saw_are_refused(organic):
    with pytest.raises(UnseenSpeciesError, match="Br"):
        organic.energy("CBr")


def test_charges_that_it_never_saw_are_flagged():
    with pytest.warns(OutsideDomainWarning, match="charge"):
        sciwm.load("organic").energy("C[NH3+]")


def test_commands_take_the_name(capsys):
    assert main(["info", "organic"]) == 0
    assert "organic.pt" in capsys.readouterr().out


def test_a_check_leaves_the_file_as_it_came(tmp_path, monkeypatch, capsys):
    shutil.copy(WORLDS / "organic.pt", tmp_path)
    monkeypatch.setattr(runs, "WORLDS", tmp_path)
    before = (tmp_path / "organic.pt").read_bytes()
    monkeypatch.setattr("sciwm.evaluation.model_check.check_model", lambda *_: Licence())
    monkeypatch.setattr("sciwm.data.collection.Collection", lambda paths: paths)
    main(["check", "organic", "--data", "any.h5md"])
    assert (tmp_path / "organic.pt").read_bytes() == before
    elsewhere = tmp_path / "copies" / "organic.pt"
    elsewhere.parent.mkdir()
    shutil.copy(tmp_path / "organic.pt", elsewhere)
    main(["check", str(elsewhere), "--data", "any.h5md"])
    assert elsewhere.read_bytes() != before


class Licence:
    verdict = "pass"

    def content(self):
        return {"verdict": "pass"}


def test_a_folder_of_the_same_name_hides_a_world_only_if_it_is_a_run(tmp_path, monkeypatch):
    shipped = model_file("organic")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "organic").mkdir()
    assert model_file("organic") == shipped
    (tmp_path / "organic/config.yaml").write_text("seed: 0\n")
    with pytest.raises(FileNotFoundError, match="its training is unfinished"):
        model_file("organic")
    (tmp_path / "organic/model.pt").write_bytes(b"")
    assert model_file("organic") == Path("organic/model.pt")
    (tmp_path / "organic/config.yaml").unlink()
    assert model_file("organic") == Path("organic/model.pt")
