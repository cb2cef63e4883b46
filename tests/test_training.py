"""Training runs: they learn, resume exactly, agree over processes, and fail with a reason."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from conftest import springs, water

import sciwm
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData, WindowData
from sciwm.evaluation.metrics import reported_in
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.pair_potential import PairPotential
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.encoders.radial import InverseMultiquadricBasis
from sciwm.training.callbacks import shown_errors
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask
from sciwm.training.motion_task import MotionTask
from sciwm.training.task import DivergenceError

pytestmark = pytest.mark.long

ENERGIES = {"H": 0.0, "O": 0.0}
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def small(**changes) -> ForceField:
    options = {"repulsion": False, "reference_energies": ENERGIES} | changes
    return ForceField(Encoder(cutoff=3.0, channels=8, lmax=1, layers=1), **options)


def losses(run) -> list[str]:
    with open(run / "log" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    return [row["train/loss"] for row in rows]


def job(path, labelled, **changes):
    """A small job file, every step logged."""
    content = {
        "data": {
            "class_path": "sciwm.data.FrameData",
            "init_args": {"train": str(labelled), "valid": 8, "batch_size": 4},
        },
        "task": {
            "class_path": "sciwm.training.ForceTask",
            "init_args": {
                "learning_rate": 0.01,
                "warmup": 5,
                "model": {
                    "class_path": "sciwm.models.ForceField",
                    "init_args": {
                        "encoder": {"cutoff": 3.0, "channels": 8, "lmax": 1, "layers": 1},
                        "repulsion": False,
                        "reference_energies": ENERGIES,
                    },
                },
            },
        },
        "max_steps": 60,
        "validate_every": 10,
        "trainer": QUIET | {"log_every_n_steps": 1},
    } | changes
    path.write_text(yaml.safe_dump(content))
    return path


def command(*arguments):
    return [sys.executable, "-W", "ignore", "-m", "sciwm", "train", *map(str, arguments)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_forces_are_learned_far_better_than_the_null_model(labelled, tmp_path):
    # A network this small may begin badly: of seeds 0 to 4, 0 ends at 0.35, the others at 0.02 to 0.09.
    torch.manual_seed(1)
    task = ForceTask(small(), learning_rate=0.02, warmup=10)
    run = fit(
        FrameData(str(labelled), 8),
        task,
        "learn",
        max_steps=400,
        validate_every=200,
        trainer=QUIET,
        folder=str(tmp_path),
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["last"]["valid/force"] < 0.3 * metrics["null"]["force"]
    for name in ("model.pt", "README.txt", "provenance.json", "checkpoints/last.ckpt"):
        assert (run / name).is_file()
    world = sciwm.load(run)
    frame = springs(water(99, 0.1))
    state = sciwm.State.from_frame(frame)
    error = np.sqrt(np.mean((world.forces(state) - frame.forces) ** 2))
    assert error < 0.5 * metrics["null"]["force"]


def test_compiled_training_has_the_losses_of_plain_training(labelled, tmp_path):
    def logged(name, every=1, **changes):
        torch.manual_seed(0)
        task = ForceTask(small(), learning_rate=0.02, warmup=2, **changes)
        options = {"max_steps": 6, "trainer": QUIET | {"log_every_n_steps": every}}
        run = fit(FrameData(str(labelled), 8), task, name, **options, folder=str(tmp_path))
        return np.array(losses(run), dtype=float)

    plain, built = logged("plain"), logged("built", compiled=True)
    assert len(plain) == 6
    assert plain == pytest.approx(built, rel=1e-3)
    heavier = logged("heavier", energy_weight=50.0)
    assert heavier[0] != pytest.approx(built[0], rel=1e-2)
    # What is written down at the third step is the loss of the third step.
    assert logged("seldom", every=3) == pytest.approx(plain[2::3], rel=1e-6)


def shifted(path, shift: float) -> None:
    """Springs as another method would label them: stiffer, and with another zero of energies."""
    with H5MDWriter(path) as writer:
        for k in range(24):
            frame = springs(water(k, 0.1))
            writer.append(frame.with_(energy=1.1 * frame.energy + shift, forces=1.1 * frame.forces))


@pytest.mark.filterwarnings("ignore:nothing was learned that is better")
def test_forces_learned_elsewhere_are_started_from(labelled, tmp_path):
    learned = fit(
        FrameData(str(labelled), 8),
        ForceTask(small(), learning_rate=0.02, warmup=10),
        "learned",
        max_steps=150,
        trainer=QUIET,
        folder=str(tmp_path),
    )
    shifted(tmp_path / "other.h5md", shift=-500.0)
    options = {"max_steps": 1, "trainer": QUIET, "folder": str(tmp_path)}

    def first_errors(name, **changes):
        task = ForceTask(small(), learning_rate=1e-9, matrix_rate=1e-9, **changes)
        run = fit(FrameData(str(tmp_path / "other.h5md"), 8), task, name, **options)
        metrics = json.loads((run / "metrics.json").read_text())
        return {name: metrics["last"][f"valid/{name}"] for name in ("energy", "force")}, metrics[
            "null"
        ]

    errors, null = first_errors("on", start=str(learned / "model.pt"))
    assert errors["force"] < 0.6 * null["force"]
    assert errors["energy"] < null["energy"], "the other method's zero of energies was not taken"
    untaught, same = first_errors("anew")
    assert untaught["force"] > 0.9 * null["force"]
    assert null == pytest.approx(same), "what is known without a model does not depend on the model"

    wider = ForceField(Encoder(cutoff=3.0, channels=4, lmax=1, layers=1), False, ENERGIES)
    task = ForceTask(wider, start=str(learned / "model.pt"))
    with pytest.raises(ValueError, match="give this one the same encoder"):
        fit(FrameData(str(labelled), 8), task, "wider", **options)
    pairs = PairPotential(InverseMultiquadricBasis())
    with pytest.raises(ValueError, match="leave `start` out"):
        ForceTask(pairs, start=str(learned / "model.pt"))


def test_motion_teaches_the_law_without_forces(moving, tmp_path):
    model = PairPotential(InverseMultiquadricBasis(size=8, narrowest=0.05, widest=5.0))
    task = MotionTask(model, substeps=5, learning_rate=0.05, warmup=5)
    data = WindowData(str(moving), valid=0.2, length=3, batch_size=16)
    fit(data, task, "motion", max_steps=100, validate_every=50, trainer=QUIET, folder=str(tmp_path))
    r = torch.tensor([0.6, 0.8, 1.0, 1.3], requires_grad=True)
    energy = -(model.basis(r) @ (model.charged + model.neutral * -1.0)[0, 0].detach())
    force = -torch.autograd.grad(energy.sum(), r)[0].detach()
    truth = (-r / (r * r + 0.01) ** 1.5).detach()
    assert float(((force - truth) / truth).abs().max()) < 0.15


def test_a_run_begun_on_a_gpu_continues_without_one(labelled, tmp_path, monkeypatch):
    def go_on(steps):
        options = {"validate_every": 2, "trainer": QUIET, "folder": str(tmp_path)}
        return fit(
            FrameData(str(labelled), 8), ForceTask(small()), "moved", max_steps=steps, **options
        )

    run = go_on(2)
    (run / "model.pt").unlink()
    # Every tensor of the checkpoint says that it lay on a GPU.
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, run / "checkpoints" / "last.ckpt")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="deserialize"):
            torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert json.loads((go_on(4) / "metrics.json").read_text())["steps"] == 4


def test_a_killed_run_continues_with_the_losses_of_an_unbroken_one(labelled, tmp_path):
    config = job(tmp_path / "job.yaml", labelled, max_steps=120)
    subprocess.run(
        command(config, "--folder", tmp_path, "--name", "whole"),
        check=True,
        env=ENVIRONMENT,
        capture_output=True,
    )
    broken = command(config, "--folder", tmp_path, "--name", "broken")
    process = subprocess.Popen(
        broken, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    while not checkpoint.is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken" / "model.pt").exists()
    subprocess.run(broken, check=True, env=ENVIRONMENT, capture_output=True)
    whole = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)["state"]
    again = torch.load(tmp_path / "broken" / "model.pt", weights_only=True)["state"]
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    unbroken, resumed = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert resumed == unbroken  # the log too goes on where it was


def test_two_processes_learn_what_one_does(labelled, tmp_path):
    config = job(tmp_path / "job.yaml", labelled, max_steps=20)
    two = [
        "--trainer",
        json.dumps(QUIET | {"devices": 2, "strategy": "ddp", "log_every_n_steps": 1}),
    ]
    for name, options in (("one", []), ("two", two)):
        done = subprocess.run(
            command(config, "--folder", tmp_path, "--name", name, *options),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    first = torch.load(tmp_path / "one" / "model.pt", weights_only=True)["state"]
    second = torch.load(tmp_path / "two" / "model.pt", weights_only=True)["state"]
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], rtol=1e-3, atol=1e-4)
    metrics = [
        json.loads((tmp_path / n / "metrics.json").read_text())["last"] for n in ("one", "two")
    ]
    assert metrics[0]["valid/force"] == pytest.approx(metrics[1]["valid/force"], rel=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(labelled, tmp_path):
    def weights(name, seed):
        torch.manual_seed(seed)
        task = ForceTask(small(), warmup=5)
        fit(
            FrameData(str(labelled), 8),
            task,
            name,
            seed=seed,
            max_steps=10,
            validate_every=10,
            trainer=QUIET,
            folder=str(tmp_path),
        )
        return torch.cat([p.detach().flatten() for p in task.model.parameters()])

    assert torch.equal(weights("a", 1), weights("b", 1))
    assert not torch.equal(weights("c", 1), weights("d", 2))


def test_a_loss_that_is_no_number_names_the_frames(labelled, tmp_path):
    model = small()
    with torch.no_grad():
        model.encoder.species.weight[8] = float("nan")
    with pytest.raises(DivergenceError, match=r"labelled.h5md 'trajectory' frame \d+"):
        fit(
            FrameData(str(labelled), 8),
            ForceTask(model),
            "nan",
            max_steps=5,
            trainer=QUIET,
            folder=str(tmp_path),
        )


def test_fitted_reference_energies_come_with_a_warning(labelled, tmp_path):
    task = ForceTask(small(reference_energies=None))
    with pytest.warns(UserWarning, match="isolated atoms are fitted"):
        fit(
            FrameData(str(labelled), 8),
            task,
            "fitted",
            max_steps=2,
            trainer=QUIET,
            folder=str(tmp_path),
        )


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_labels_without_information_are_refused(tmp_path, label):
    path = tmp_path / "constant.h5md"
    with H5MDWriter(path) as writer:
        for seed in range(10):
            frame = springs(water(seed))
            flat = {"energy": -1.0} if label == "energy" else {"forces": np.zeros((3, 3))}
            writer.append(frame.with_(**flat))
    with pytest.raises(ValueError, match=r"nothing to learn|zero in all"):
        fit(
            FrameData(str(path), 2), ForceTask(small()), "flat", trainer=QUIET, folder=str(tmp_path)
        )


def test_task_and_data_must_belong_together(labelled, moving, tmp_path):
    with pytest.raises(ValueError, match="FrameData"):
        fit(WindowData(str(moving)), ForceTask(small()), "x", trainer=QUIET, folder=str(tmp_path))


def test_a_typo_in_a_job_file_is_named(labelled, tmp_path):
    config = job(tmp_path / "job.yaml", labelled, max_step=7)
    done = subprocess.run(command(config), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode != 0
    assert "max_step" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_file_cannot_build_foreign_classes(labelled, tmp_path):
    config = job(
        tmp_path / "job.yaml",
        labelled,
        task={"class_path": "subprocess.Popen", "init_args": {"args": "true"}},
    )
    done = subprocess.run(command(config), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_log_of_training_gets_lines_with_errors_and_time_left(
    labelled, tmp_path, capsys, monkeypatch
):
    seconds = itertools.count(0.0, 20.0)  # that pass between two looks at the clock
    monkeypatch.setattr("sciwm.core.progress.monotonic", lambda: next(seconds))
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))
    task = ForceTask(small(), learning_rate=0.01)
    data = FrameData(str(labelled), valid=8, batch_size=4)
    fit(
        data,
        task,
        "told",
        max_steps=12,
        validate_every=4,
        trainer={"accelerator": "cpu"},
        folder=tmp_path,
    )
    told = capsys.readouterr()
    assert told.out == ""
    assert "\r" not in told.err
    lines = [line for line in told.err.splitlines() if line.startswith("training")]
    assert 2 < len(lines) <= 12
    for line in lines:
        assert re.match(r"training: +\d+% \d+/12 \[\S+<\S+, +\S+(step/s|s/step)", line), line
    assert "meV/Å (null" in lines[-1]


def test_errors_of_stress_are_told_as_evaluations_tell_them(double):
    task = ForceTask(small())
    told = shown_errors({"valid/stress": torch.tensor(0.01)}, {"stress": 0.02}, task)
    unit, factor = reported_in("stress", task.units)
    assert unit == "GPa"
    # One eV/Å³ is 160.2 GPa (CODATA 2018).
    assert told == {"stress": f"{0.01 * factor:.4g} GPa (null {0.02 * factor:.4g})"}
    assert told["stress"].startswith("1.602 GPa (null 3.204")
