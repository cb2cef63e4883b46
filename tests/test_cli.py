"""The command line: quick help, plain errors, and the whole job on a small scale."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from sciwm.cli import COMMANDS, main
from sciwm.cli.simulate import SOME_STOPPED, simulator_named
from sciwm.cli.train import build_program
from sciwm.core.state import frame_from_ase
from sciwm.data.frame_numbers import frames_named
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.models.programs.tracing import CompilationError, DeviationError


def test_help_loads_no_package_that_takes_its_time():
    code = (
        "import sys; from sciwm.cli import main; main(['--help']); "
        "heavy = {'torch', 'lightning', 'rdkit', 'ase', 'numpy', 'h5py', 'matplotlib', 'jsonargparse'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_garbage_is_searched_for_as_before_once_packages_are_loaded(monkeypatch):
    seen = []
    monkeypatch.setattr("sciwm.cli._run", lambda arguments: seen.append(gc.get_threshold()) or 0)
    before = gc.get_threshold()
    assert main(["--version"]) == 0
    assert gc.get_threshold() == before != seen[0]
    gc.set_threshold(0)
    try:
        main(["--version"])
        assert (seen[1][0], gc.get_threshold()[0]) == (0, 0)
    finally:
        gc.set_threshold(*before)
    code = "import gc, sciwm; sciwm.World; print(gc.isenabled())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "True"


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"train"}))
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: sciwm" in capsys.readouterr().out


def test_training_explains_itself(capsys):
    assert main(["train", "--options"]) == 0
    assert "--max_steps" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    assert main(["fly"]) == 2
    assert "'fly'" in capsys.readouterr().err


def test_a_missing_model_is_one_sentence(capsys, labelled):
    assert main(["evaluate", "nowhere", "--data", str(labelled)]) in (1, 2)
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert "Traceback" not in error


def test_switches_need_no_value_and_dashes_are_understood(capsys, labelled, tmp_path):
    target = tmp_path / "again.h5md"
    assert main(["import", str(labelled), "--to", str(target), "--skip-bad"]) == 0
    with H5MDFile(target) as file:
        assert sum(t.n_frames for t in file.trajectories) == 40


def test_simulating_with_a_reference_writes_what_was_asked(tmp_path, capsys):
    start = tmp_path / "copper.h5md"
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(bulk("Cu", cubic=True)))
    out = tmp_path / "out.h5md"
    command = ["simulate", "emt", str(start), "10fs", "--out", str(out), "--temperature", "300K"]
    assert main([*command, "--dt", "1fs", "--every", "2", "--copies", "2"]) == 0
    with H5MDFile(out) as file:
        assert [t.n_frames for t in file.trajectories] == [6, 6]
        energies = [t.read("energy") for t in file.trajectories]
        assert not np.array_equal(*energies)
        assert file.trajectories[0].timestep == pytest.approx(2.0)


def test_friction_is_a_rate_that_does_not_depend_on_the_time_step(tmp_path):
    start = tmp_path / "copper.h5md"
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(bulk("Cu", cubic=True)))
    settings = []
    for k, options in enumerate(
        (["--dt", "1fs"], ["--dt", "2fs"], ["--friction", "2/ps"], ["--thermostat", "csvr"])
    ):
        out = tmp_path / f"{k}.h5md"
        command = ["simulate", "emt", str(start), "4fs", "--out", str(out), "--temperature", "300K"]
        assert main([*command, *options]) == 0
        with h5py.File(out) as file:
            settings.append(json.loads(file["parameters/sciwm/settings"][()]))
    assert [one["friction"] for one in settings[:3]] == [0.01, 0.01, 0.002]
    assert settings[3]["time_constant"] == 100.0  # fs, one over the usual rate


def test_a_simulation_of_which_a_part_stopped_ends_with_a_status_of_its_own(tmp_path, capsys):
    frame = frame_from_ase(bulk("Cu", cubic=True))
    start = tmp_path / "copper.h5md"
    with H5MDWriter(start) as writer:
        writer.append(frame)
        # Two atoms nearly on top of each other fly apart.
        close = frame.positions[0] + np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]])
        writer.append(frame.with_(positions=np.concatenate([close, frame.positions[2:]])))
    out = tmp_path / "out.h5md"
    command = [
        "simulate",
        "emt",
        str(start),
        "40fs",
        "--out",
        str(out),
        "--dt",
        "10fs",
        "--every",
        "1",
    ]
    assert main([*command, "--frames", ":2"]) == SOME_STOPPED == 3
    printed = capsys.readouterr().out
    assert "system 0: 4 of 4 steps, completed" in printed
    assert "system 1: 0 of 4 steps, stopped" in printed
    with H5MDFile(out) as file:
        assert [t.n_frames for t in file.trajectories] == [5, 1]
    command[command.index(str(out))] = str(tmp_path / "whole.h5md")
    assert main([*command, "--frames", "0"]) == 0


def test_several_models_label_frames_with_their_mean(labelled, tmp_path, capsys):
    import torch

    from sciwm import load
    from sciwm.core.state import State
    from sciwm.data.collection import Collection
    from sciwm.models import Encoder, ForceField
    from sciwm.models.archive import Archive, save
    from sciwm.models.statistics import survey

    data = Collection([labelled])
    frames = [data.frame(entry) for entry in data.frames]
    names = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = ForceField(Encoder(cutoff=3.0, channels=4, lmax=1))
        model.adapt(survey(frames, model.cutoff, model.units, None))
        model.scale.mul_(1e-5)  # untrained models would throw atoms apart
        names.append(str(tmp_path / f"{seed}.pt"))
        save(Archive(model), names[-1])
    out = tmp_path / "taught.h5md"
    command = ["simulate", ",".join(names), str(labelled), "4fs", "--out", str(out)]
    assert main([*command, "--temperature", "100K", "--every", "4", "--frames", ":3"]) == 0
    with H5MDFile(out) as file:
        assert len(file.trajectories) == 3
        frame = file.trajectories[1].frame(-1)
    worlds = [load(name) for name in names]
    state = State.from_frame(frame.with_(energy=None, forces=None))
    energies = [world.energy(state) for world in worlds]
    forces = [world.forces(state) for world in worlds]
    # Labels of one of them alone would be noticed.
    assert abs(energies[0] - energies[1]) > 1e-3
    assert abs(forces[0] - forces[1]).max() > 1e-3
    assert frame.energy == pytest.approx(np.mean(energies), abs=1e-5)
    np.testing.assert_allclose(frame.forces, np.mean(forces, axis=0), atol=1e-5)

    # The file tells who labelled it.
    def labelled_by(path):
        with h5py.File(path) as file:
            return json.loads(file["parameters/sciwm/settings"][()])["simulator_fingerprint"]

    alone = str(tmp_path / "alone.h5md")
    assert main(["simulate", names[1], str(labelled), "0.5fs", "--out", alone, "--every", "1"]) == 0
    one, two = (simulator_named(name).fingerprint for name in names)
    assert one != two
    assert labelled_by(out) == f"{one} {two}"
    assert labelled_by(alone) == two

    # Labels of others do not go into the same file.
    command[1:4] = [names[0], str(labelled), "8fs"]
    assert main([*command, "--temperature", "100K", "--every", "4", "--frames", ":3"]) == 2
    assert "belongs to another run: its start, model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "chosen"),
    [("-1", [9]), ("0,3", [0, 3]), (":3", [0, 1, 2]), ("::4", [0, 4, 8]), ("-2:,0", [8, 9, 0])],
)
def test_frames_are_named_by_numbers_and_slices(words, chosen):
    assert frames_named(words, 10) == chosen


@pytest.mark.parametrize("words", ["x", "1:2:3:4", "", "::0"])
def test_words_that_name_no_frames_are_refused(words):
    with pytest.raises(ValueError, match="names no frames"):
        frames_named(words, 10)


@pytest.mark.parametrize("words", ["10", "-11", "0,12:", "10:"])
def test_frames_that_are_not_there_are_refused(words):
    with pytest.raises(ValueError, match=r"among 10 frames there is none.*0 to 9"):
        frames_named(words, 10)


def test_one_of_several_models_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a,b").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no run folder or model file 'gfn2'.*alone"):
        simulator_named(f"{tmp_path}, gfn2")
    with pytest.raises(FileNotFoundError, match="model file ''"):
        simulator_named(f"{tmp_path},")
    with pytest.raises(FileNotFoundError, match=r"a,b"):
        simulator_named(str(tmp_path / "a,b"))  # one folder, without a model


def test_a_name_of_no_model_and_no_reference_names_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"model file 'gfn3'.*references are gfn2, .*emt"):
        simulator_named("gfn3")


def test_a_reference_moves_things_with_the_arguments_it_is_given(tmp_path):
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=0)
    start, out = tmp_path / "copper.h5md", tmp_path / "moved.h5md"
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(crystal))
    text = "{class_path: emt, init_args: {arguments: {asap_cutoff: true}}}"
    assert main(["simulate", text, str(start), "1fs", "--out", str(out), "--every", "1"]) == 0
    with H5MDFile(out) as file:
        frame = file.trajectories[0].frame(0)
    energies = []
    for asap_cutoff in (True, False):
        crystal.calc = EMT(asap_cutoff=asap_cutoff)
        energies.append(crystal.get_potential_energy())
    assert frame.energy == pytest.approx(energies[0], abs=1e-6)
    assert abs(energies[0] - energies[1]) > 1e-3


@pytest.mark.parametrize("start", ["CO", "methanol.xyz", "methanol.h5md"])
def test_simulations_start_from_a_smiles_a_structure_or_a_trajectory(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "methanol.xyz", molecule("CH3OH"))
    assert main(["import", "methanol.xyz", "--to", "methanol.h5md"]) == 0
    moved = ["simulate", "organic", start, "3fs", "--temperature", "300K", "--every", "2"]
    assert main([*moved, "--copies", "2", "--out", "out.h5md"]) == 0
    with H5MDFile(tmp_path / "out.h5md") as file:
        assert len(file.trajectories) == 2
        assert sorted(file.trajectories[0].frame(0).numbers) == [1, 1, 1, 1, 6, 8]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["organic", "CO", "1fs", "--frames", "0:2"], "chooses from H5MD files"),
        (["organic", "nowhere.xyz", "1fs"], "there is no file 'nowhere.xyz'"),
        (["organic", "CO", "1fs", "--device", "tpu"], "'tpu' is not known"),
        (["organic", "CO", "1fs", "--device", "cuda:99"], "cannot be used"),
        (["organic", "CO", "1fs", "--device", "cpu:"], "'cpu:' is not known"),
        (["gfn2", "CO", "1fs", "--device", "cuda"], "does not run on 'cuda'"),
    ],
)
def test_a_simulation_that_cannot_start_says_why(tmp_path, capsys, options, said):
    assert main(["simulate", *options, "--out", str(tmp_path / "out.h5md")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.h5md").exists()


@pytest.mark.parametrize("kind", [CompilationError, DeviationError])
def test_a_program_that_cannot_be_built_is_no_failure_of_training(monkeypatch, capsys, kind):
    def without_compiler(model, threads):
        raise kind("there is no compiler")

    monkeypatch.setattr("sciwm.interfaces.world.compile_model", without_compiler)
    build_program(Path("organic"))
    assert "there is no compiler. The model is complete" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:nothing was learned")
def test_a_training_of_more_than_a_minute_ends_with_a_program(monkeypatch, labelled, tmp_path):
    built = []
    monkeypatch.setattr("sciwm.cli.train.build_program", built.append)
    monkeypatch.setattr("sciwm.cli.train.WORTH_A_PROGRAM", 0.0)
    job = ["--data", "sciwm.data.FrameData", "--data.train", str(labelled), "--max_steps", "1"]
    job += ["--task", "sciwm.training.ForceTask", "--task.start", "organic"]
    job += ["--folder", str(tmp_path)]
    assert main(["train", *job, "--name", "left_out", "--program", "false"]) == 0
    assert built == []
    assert main(["train", *job, "--name", "long"]) == 0
    assert built == [tmp_path / "long"]
