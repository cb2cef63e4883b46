"""The job that `sciwm train FILE.h5md` chooses: sound for each kind of data, and one that trains."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from conftest import springs

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.state import frame_from_ase
from sciwm.core.units import REDUCED
from sciwm.core.yaml_text import read_yaml
from sciwm.data.h5md import H5MDWriter
from sciwm.training import proposal
from sciwm.training.proposal import FEW, propose

pytestmark = pytest.mark.filterwarnings("ignore:no reference_energies are given")

RNG = np.random.default_rng(0)


def shaken(frame: Frame, seed: int, spread: float = 0.05) -> Frame:
    rng = np.random.default_rng(seed)
    return frame.with_(positions=frame.positions + spread * rng.standard_normal((len(frame), 3)))


def written(path: Path, frames, **options) -> Path:
    with H5MDWriter(path, **options) as writer:
        for frame in frames:
            writer.append(frame)
    return path


def ethanol(count: int) -> list[Frame]:
    rest = frame_from_ase(molecule("CH3CH2OH"))
    lengths = np.linalg.norm(rest.positions[None] - rest.positions[:, None], axis=-1)
    return [springs(shaken(rest, seed), rest=lengths) for seed in range(count)]


def copper(count: int, stress: bool = True) -> list[Frame]:
    frames = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        frame = frame_from_ase(atoms).with_(
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(voigt=False) if stress else None,
        )
        frames.append(frame)
    return frames


def particles(
    count: int, forces: bool, timestep: float | None = 0.1, box: float = 0.0
) -> list[Frame]:
    start, speed = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    frames = []
    for k in range(count):
        frame = Frame(
            numbers=np.array([0, 0, 1, 1]),
            positions=start + 0.1 * k * speed,
            velocities=speed,
            charges=np.array([1.0, -1.0, 1.0, -1.0]),
            masses=np.ones(4),
            cell=box * np.eye(3),
            pbc=np.full(3, box > 0),
            step=k,
            time=None if timestep is None else k * timestep,
        )
        frames.append(springs(frame) if forces else frame)
    return frames


def trained(data: Path, folder: Path, monkeypatch, *options: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(proposal, "WORTH_COMPILING", np.inf)  # however slow the machine
    return main(["train", data.name, "--max_steps", "2", "--validate_every", "2", *options])


def test_a_molecule_with_many_frames_gets_a_model_of_its_own(tmp_path, monkeypatch, capsys):
    data = written(tmp_path / "mine.h5md", ethanol(FEW + 20))
    assert trained(data, tmp_path, monkeypatch) == 0
    job = read_yaml(tmp_path / "mine.yaml")
    assert job["data"]["init_args"]["split"] == "frame"
    assert job["data"]["init_args"]["valid"] == 22
    assert job["task"]["init_args"]["model"]["class_path"] == "sciwm.models.ForceField"
    assert (tmp_path / "runs/mine/model.pt").is_file()
    said = capsys.readouterr().out
    assert "220 frames of 9 particles (H C O)" in said
    assert "cpu_seconds" in said
    assert job["max_steps"] == 2 * proposal.FEWEST_STEPS
    assert job["task"]["init_args"]["cpu_seconds"] >= 60
    assert (tmp_path / "mine.yaml").read_text().startswith("# Seen: 220 frames")


def test_few_frames_of_known_elements_start_from_the_world_that_knows_them(tmp_path):
    few = propose([written(tmp_path / "few.h5md", ethanol(40))]).job["task"]["init_args"]
    assert (few["start"], few["replay"]) == ("organic", "auto")
    assert "model" not in few
    silane = frame_from_smiles("C[SiH3]")
    frames = [springs(shaken(silane, seed)) for seed in range(40)]
    unknown = propose([written(tmp_path / "unknown.h5md", frames)]).job["task"]["init_args"]
    assert "start" not in unknown


def test_crystals_with_stress_learn_it_and_are_not_given_a_world_of_molecules(
    tmp_path, monkeypatch
):
    data = written(tmp_path / "copper.h5md", copper(30))
    job = propose([data]).job
    assert job["data"]["init_args"]["stress"] is True
    assert job["task"]["init_args"]["stress_weight"] > 0
    assert "start" not in job["task"]["init_args"]
    assert trained(data, tmp_path, monkeypatch) == 0
    plain = propose([written(tmp_path / "plain.h5md", copper(30, stress=False))]).job
    assert "stress" not in plain["data"]["init_args"]


def test_a_time_series_is_held_back_at_its_end(tmp_path):
    frames = [frame.with_(step=k, time=10.0 * k) for k, frame in enumerate(ethanol(FEW + 1))]
    assert (
        propose([written(tmp_path / "a.h5md", frames)]).job["data"]["init_args"]["split"] == "time"
    )


def test_many_molecules_are_held_back_whole(tmp_path):
    smiles = ["C", "CC", "CCC", "CO", "CCO", "CN", "CCN", "CF", "C=O", "CC=O", "C#N", "CC#N"]
    with H5MDWriter(tmp_path / "a.h5md") as writer:
        for one in smiles:
            for seed in range(20):
                writer.append(springs(shaken(frame_from_smiles(one), seed)), group=one)
    chosen = propose([tmp_path / "a.h5md"]).job["data"]["init_args"]
    assert chosen["split"] == "molecule"


@pytest.mark.parametrize("forces", [True, False], ids=["forces", "motion"])
def test_particles_get_a_pair_potential(tmp_path, monkeypatch, forces):
    data = written(tmp_path / "p.h5md", particles(60, forces), units=REDUCED)
    job = propose([data]).job
    kind = "ForceTask" if forces else "MotionTask"
    assert job["task"]["class_path"].endswith(kind)
    assert job["task"]["init_args"]["model"]["init_args"]["types"] == 2
    assert trained(data, tmp_path, monkeypatch) == 0


def test_particles_in_a_box_see_as_far_as_their_density_says(tmp_path):
    found = []
    for scale in (1.0, 0.01):  # the same in another unit of length
        frames = [
            frame.with_(positions=scale * frame.positions, velocities=scale * frame.velocities)
            for frame in particles(60, forces=True, box=10.0 * scale)
        ]
        data = written(tmp_path / f"{scale}.h5md", frames, units=REDUCED)
        basis = propose([data]).job["task"]["init_args"]["model"]["init_args"]["basis"]
        assert basis["class_path"].endswith("BesselBasis")
        found.append(basis["init_args"]["cutoff"])
    assert found[1] == pytest.approx(0.01 * found[0], rel=1e-2)
    assert found[0] <= 5.0


def test_molecules_of_one_scaffold_are_not_held_back_whole(tmp_path):
    frames = [frame_from_smiles("c1ccccc1" + "C" * k) for k in range(1, 13)]
    with H5MDWriter(tmp_path / "a.h5md") as writer:
        for k, one in enumerate(frames):
            for seed in range(20):
                writer.append(springs(shaken(one, seed)), group=f"m{k}")
    assert propose([tmp_path / "a.h5md"]).job["data"]["init_args"]["split"] == "frame"


def test_what_cannot_teach_anything_is_refused_with_the_reason(tmp_path):
    bare = [frame.with_(forces=None, energy=None) for frame in ethanol(10)]
    with pytest.raises(ValueError, match=r"not every frame of .* has energies and forces"):
        propose([written(tmp_path / "bare.h5md", bare)])
    with pytest.raises(ValueError, match="holds 1 frames"):
        propose([written(tmp_path / "one.h5md", ethanol(1))])
    still = particles(10, forces=False, timestep=None)
    with pytest.raises(ValueError, match="neither forces nor an even time"):
        propose([written(tmp_path / "still.h5md", still, units=REDUCED)])


def test_a_job_that_is_there_is_used_as_it_stands(tmp_path, monkeypatch, capsys):
    data = written(tmp_path / "mine.h5md", ethanol(FEW + 20))
    assert trained(data, tmp_path, monkeypatch) == 0
    job = (tmp_path / "mine.yaml").read_text()
    changed = job.replace("valid: 22", "valid: 33")
    assert changed != job
    (tmp_path / "mine.yaml").write_text(changed)
    assert trained(data, tmp_path, monkeypatch, "--name", "other") == 0
    assert "as it stands there" in capsys.readouterr().out
    assert (tmp_path / "mine.yaml").read_text() == changed
    assert read_yaml(tmp_path / "runs/other/config.yaml")["data"]["init_args"]["valid"] == 33
    (tmp_path / "elsewhere").mkdir()
    other = written(tmp_path / "elsewhere/mine.h5md", ethanol(20))
    assert main(["train", str(other)]) == 2
    assert "mine.yaml is there already and trains on mine.h5md" in capsys.readouterr().err


def test_data_that_is_not_imported_yet_is_told_so(tmp_path, capsys):
    (tmp_path / "mine.xyz").write_text("1\n\nH 0 0 0\n")
    assert main(["train", str(tmp_path / "mine.xyz")]) == 2
    assert "sciwm import" in capsys.readouterr().err
    assert main(["train", "nowhere.yaml"]) == 2
    assert "organic" in capsys.readouterr().err
