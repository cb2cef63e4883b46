"""Errors are those a scientist would compute by hand, over every frame, beside null models."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import springs, water
from scipy import integrate, stats

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.collection import Collection
from sciwm.data.h5md import H5MDWriter
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import ImportOptions
from sciwm.evaluation import metrics
from sciwm.evaluation.evaluate import evaluate
from sciwm.evaluation.metrics import Comparison, compare
from sciwm.evaluation.motion import evaluate_motion
from sciwm.evaluation.run import model_file, training_data
from sciwm.models import BesselBasis, Encoder, ForceField, InverseMultiquadricBasis, PairPotential
from sciwm.models import archive as archives
from sciwm.models.archive import Archive
from sciwm.models.domain import UnseenSpeciesError
from sciwm.models.statistics import survey
from sciwm.report import plots
from sciwm.simulation.learned import predict
from sciwm.simulation.observables.observable import Observable


def adapted(model, path):
    data = Collection([path])
    model.adapt(survey([data.frame(e) for e in data.frames], 5.0, data.units, None))
    return model


@pytest.fixture
def force_field(labelled):
    torch.manual_seed(0)
    return adapted(ForceField(Encoder(4.0, channels=4, lmax=1, layers=1)), labelled)


class Coulomb(PairPotential):
    """The law that the moving charges obey, exactly."""

    def energy(self, geometry):
        q = geometry.charges
        pair = q[:, None] * q[geometry.sender] * (geometry.distance**2 + 0.01).rsqrt()
        return 0.5 * torch.where(geometry.real, pair, 0.0).sum(dim=1)


@pytest.fixture
def coulomb(moving):
    return adapted(Coulomb(InverseMultiquadricBasis()), moving).double()


@pytest.fixture
def crystal(tmp_path):
    """Frames with stress, of two sizes and two labels."""
    path = tmp_path / "crystal.h5md"
    rng = np.random.default_rng(0)
    with H5MDWriter(path) as writer:
        for k in range(7):
            n = 2 + k % 2
            stress = rng.normal(size=(3, 3))
            frame = Frame(
                numbers=np.array([29, 47, 29][:n]),
                positions=3.0 * np.arange(n)[:, None] + rng.normal(0, 0.1, (n, 3)),
                cell=7.0 * np.eye(3),
                pbc=np.ones(3, dtype=bool),
                energy=float(rng.normal()) - 100 * n,
                forces=rng.normal(size=(n, 3)),
                stress=stress + stress.T,
                label=f"kind {k % 2}",
            )
            writer.append(frame, group=f"size{n}")
    return path


@pytest.fixture
def crystal_model(crystal):
    torch.manual_seed(1)
    return adapted(ForceField(Encoder(4.0, channels=4, lmax=1, layers=1)), crystal)


def test_errors_are_those_of_numpy_and_scipy():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=1000)
    predicted = reference + 0.1 * rng.normal(size=1000)
    found = compare(predicted, reference)
    error = np.abs(predicted - reference)
    assert found.rmse == pytest.approx(np.linalg.norm(error) / np.sqrt(1000))
    assert found.mae == pytest.approx(np.average(error))
    assert found.p95 == pytest.approx(stats.scoreatpercentile(error, 95))
    assert found.maximum == error.max()
    assert found.r2 == pytest.approx(1 - (error**2).mean() / stats.tvar(reference) * 1000 / 999)
    assert found.count == 1000


def test_errors_do_not_depend_on_the_pieces_they_come_in():
    rng = np.random.default_rng(0)
    predicted, reference = rng.normal(size=(2, 1000)) + 1e4
    whole, pieces = compare(predicted, reference), Comparison()
    for part in np.array_split(np.arange(1000), 7):
        pieces.add(predicted[part], reference[part])
    for name, value in vars(pieces.errors).items():
        assert value == pytest.approx(getattr(whole, name), rel=1e-9)


def test_very_many_values_keep_exact_means_in_bounded_memory(monkeypatch):
    rng = np.random.default_rng(0)
    predicted, reference = rng.normal(size=(2, 20_000))
    exact = compare(predicted, reference)
    monkeypatch.setattr(metrics, "KEPT", 2000)
    bounded = Comparison()
    for part in np.array_split(np.arange(20_000), 50):
        bounded.add(predicted[part], reference[part])
    assert len(bounded.sample[0]) <= 2000
    assert bounded.errors.rmse == pytest.approx(exact.rmse)
    assert bounded.errors.maximum == exact.maximum
    # The 95th percentile of 1000 values is known to about 1 in 15.
    assert bounded.errors.p95 == pytest.approx(exact.p95, rel=0.2)


def test_nothing_compared_is_an_error_rather_than_zero():
    with pytest.raises(ValueError, match="nothing was compared"):
        _ = Comparison().errors


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_every_frame_counts_whatever_the_batch(force_field, labelled, batch_size):
    result = evaluate(force_field, Collection([labelled]), batch_size)
    assert result.frames == 40
    assert result.labelled == {"energy": 40, "forces": 40, "stress": 0}
    assert result.row("force").errors.count == 40 * 9
    assert result.row("force, species H").errors.count == 40 * 6
    # By hand, one frame at a time.
    errors = []
    for seed in range(40):
        frame = springs(water(seed, 0.1))
        found = predict(force_field, State.from_frame(frame.with_(energy=None, forces=None)))
        errors.append(found.forces.double().numpy() - frame.forces)
    expected = 1e3 * np.sqrt(np.mean(np.array(errors) ** 2))
    assert result.row("force").errors.rmse == pytest.approx(expected, rel=1e-4)


def test_null_models_are_zero_force_and_the_mean_energy(force_field, labelled):
    result = evaluate(force_field, Collection([labelled]))
    frames = [springs(water(seed, 0.1)) for seed in range(40)]
    energies = np.array([frame.energy for frame in frames])
    forces = np.array([frame.forces for frame in frames])
    assert result.row("energy").null.rmse == pytest.approx(1e3 * energies.std())
    assert result.row("energy per atom").null.rmse == pytest.approx(1e3 * energies.std() / 3)
    assert result.row("force").null.rmse == pytest.approx(1e3 * np.sqrt((forces**2).mean()))
    assert result.row("energy").null.r2 == pytest.approx(0.0, abs=1e-9)


def test_a_model_that_is_right_has_no_error(labelled, tmp_path, force_field):
    """Labels made by the model itself are met; labels changed by hand are missed by that much."""
    exact, shifted = tmp_path / "exact.h5md", tmp_path / "shifted.h5md"
    force_field = force_field.double()
    data = Collection([labelled])
    with H5MDWriter(exact) as first, H5MDWriter(shifted) as second:
        for entry in data.frames:
            frame = data.frame(entry)
            bare = frame.with_(energy=None, forces=None)
            found = predict(force_field, State.from_frame(bare, torch.float64))
            own = frame.with_(energy=float(found.energy[0]), forces=found.forces.numpy())
            first.append(own)
            second.append(own.with_(energy=own.energy + 0.25, forces=own.forces + 0.5))
    right = evaluate(force_field, Collection([exact]))
    assert right.row("force").errors.maximum < 1e-6
    assert right.row("energy").errors.maximum < 1e-6
    wrong = evaluate(force_field, Collection([shifted]))
    assert wrong.row("force").errors.mae == pytest.approx(500.0)
    assert wrong.row("energy").errors.mae == pytest.approx(250.0)


def test_sizes_labels_and_stress_have_rows_of_their_own(crystal_model, crystal):
    result = evaluate(crystal_model, Collection([crystal]), 3)
    names = {row.name for row in result.rows}
    assert {"stress", "force, species Cu", "force, label kind 0", "energy, label kind 1"} <= names
    assert result.row("stress").errors.count == 7 * 6
    assert result.row("stress").unit == "GPa"
    assert result.row("energy, label kind 0").errors.count == 4
    data = Collection([crystal])
    six = np.array([data.frame(entry).stress[np.triu_indices(3)] for entry in data.frames])
    assert result.row("stress").null.rmse == pytest.approx(160.21766 * np.sqrt((six**2).mean()))


def test_the_worst_frames_are_named(force_field, tmp_path):
    path = tmp_path / "one_bad.h5md"
    with H5MDWriter(path) as writer:
        for seed in range(9):
            frame = springs(water(seed, 0.1))
            push = 50.0 if seed == 6 else 0.0
            writer.append(frame.with_(forces=frame.forces + push))
    worst = evaluate(force_field, Collection([path])).worst[0]
    assert (worst.quantity, worst.frame, worst.file) == ("force", 6, str(path))
    assert worst.source_frame is None  # not imported from anywhere


def test_the_worst_frames_are_traced_to_their_source(force_field, tmp_path):
    images = []
    for seed in range(9):
        frame = springs(water(seed, 0.1))
        # Every other frame lists its atoms the other way round, and so comes into another group.
        way = slice(None, None, -1 if seed % 2 else 1)
        atoms = Atoms(frame.numbers[way], frame.positions[way])
        atoms.info["energy"] = frame.energy
        atoms.arrays["forces"] = (frame.forces + (4.0 if seed == 5 else 0.0))[way]
        images.append(atoms)
    images[1].positions[0] = images[1].positions[1]  # left out
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    convert(tmp_path / "a.xyz", tmp_path / "a.h5md", ImportOptions(skip_bad=True), progress=False)
    data = Collection([tmp_path / "a.h5md"])
    result = evaluate(force_field, data)
    worst = result.worst[0]
    assert (worst.trajectory, worst.frame, worst.source_frame) == ("trajectory_1", 1, 5)
    head, row = str(result).splitlines()[-1 - 2 * 5 :][:2]
    assert "in its source" in head
    assert row.split()[3:5] == ["1", "5"], row
    result.write(tmp_path / "result.json")
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["worst frames"][0]["source_frame"] == 5


def test_frames_beyond_what_training_covered_are_counted(force_field, tmp_path):
    path = tmp_path / "squeezed.h5md"
    with H5MDWriter(path) as writer:
        for spread in (0.0, 0.0, 0.0):
            writer.append(springs(water(0, spread)))
        squeezed = water(0, 0.0)
        squeezed.positions[1] *= 0.3 / 0.96
        writer.append(springs(squeezed))
    result = evaluate(force_field, Collection([path]))
    (place,) = result.outside
    assert place.endswith("frame 3")
    assert "1 of them are beyond what training covered" in str(result)
    assert "apart; training came no nearer" in str(result)
    covered = evaluate(force_field, Collection([path]))
    covered.outside.clear()
    assert "beyond what training" not in str(covered)


def test_reduced_units_are_reported_as_they_are():
    assert metrics.reported_in("force", MOLECULAR) == ("meV/Å", 1000.0)
    assert metrics.reported_in("force", REDUCED) == ("", 1.0)


def test_an_unseen_species_is_named_with_its_frame(force_field, crystal):
    with pytest.raises(UnseenSpeciesError, match=r"crystal\.h5md.*frame 0.*\[29, 47\]"):
        evaluate(force_field, Collection([crystal]))


@pytest.mark.parametrize("odd", [-(2**63), -1, 119, 2**40])
def test_a_species_that_no_element_has_is_named_too(force_field, tmp_path, odd):
    frame = springs(water(0)).with_(numbers=np.array([8, odd, 1]))
    with H5MDWriter(tmp_path / "odd.h5md") as writer:
        writer.append(frame)
    with pytest.raises(UnseenSpeciesError, match=rf"odd\.h5md.*frame 0.*\[{odd}\] \(X\)"):
        evaluate(force_field, Collection([tmp_path / "odd.h5md"]))


def test_data_in_other_units_is_refused(force_field, moving):
    with pytest.raises(ValueError, match="molecular units"):
        evaluate(force_field, Collection([moving]))


def test_data_without_labels_is_refused(force_field, tmp_path):
    path = tmp_path / "bare.h5md"
    with H5MDWriter(path) as writer:
        writer.append(water())
    with pytest.raises(ValueError, match="none of the 1 frames"):
        evaluate(force_field, Collection([path]))


def test_a_prediction_that_is_no_number_names_its_frame(force_field, labelled):
    with torch.no_grad():
        force_field.encoder.species.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="frame 0"):
        evaluate(force_field, Collection([labelled]))


def test_the_true_law_imagines_the_true_path(coulomb, moving):
    result = evaluate_motion(coulomb, Collection([moving]), frames=9, substeps=20)
    assert result.model.shape == (6 * 3, 9)
    assert result.velocities_known
    assert np.median(result.model[:, -1]) < 1e-6
    # Constant velocity is no solution, so the check can fail.
    assert np.median(result.null[:, -1]) > 1e-4


def test_the_path_is_that_of_scipy(coulomb, moving):
    """One window, followed by an adaptive integrator of high order."""
    data = Collection([moving])
    frames = [data.trajectory(data.frames[0]).frame(k) for k in (0, 8)]
    start = frames[0]

    def motion(_, y):
        x, v = y.reshape(2, 2, 3)
        arm = x[1] - x[0]
        pull = arm / (arm @ arm + 0.01) ** 1.5
        return np.concatenate([v, [pull, -pull]]).ravel()

    span = frames[1].time - start.time
    y = np.concatenate([start.positions, start.velocities]).ravel()
    end = integrate.solve_ivp(motion, (0, span), y, rtol=1e-11, atol=1e-11).y[:6, -1]
    expected = np.mean((end.reshape(2, 3) - frames[1].positions) ** 2)
    found = evaluate_motion(coulomb, data, frames=8, substeps=400).model[0, -1]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-12)


def test_windows_may_start_at_one_frame(coulomb, moving):
    data = Collection([moving])
    late = evaluate_motion(coulomb, data, frames=10, start=19)
    assert late.model.shape == (6, 10)
    with pytest.raises(ValueError, match="from frame 25"):
        evaluate_motion(coulomb, data, frames=10, start=25)


def test_without_velocities_they_come_from_the_first_displacement(coulomb, moving, tmp_path):
    path = tmp_path / "positions.h5md"
    data = Collection([moving])
    with H5MDWriter(path, units=REDUCED) as writer:
        for entry in data.frames:
            frame = data.frame(entry).with_(velocities=None)
            writer.append(frame, group=f"run{entry.trajectory}")
    result = evaluate_motion(coulomb, Collection([path]), frames=5, substeps=20)
    assert not result.velocities_known
    assert np.median(result.model[:, -1]) < 0.05 * np.median(result.null[:, -1])
    with pytest.raises(ValueError, match="frames >= 2"):
        evaluate_motion(coulomb, Collection([path]), frames=1)


def test_a_lost_path_is_an_infinite_error_and_the_others_go_on(coulomb, moving):
    data = Collection([moving])
    reach = np.zeros(6)
    for entry in data.frames:
        far = np.abs(data.frame(entry).positions).max()
        reach[entry.trajectory] = max(reach[entry.trajectory], far)
    wall = np.sort(reach)[-2:].mean()

    class Walled(Coulomb):
        """Forces become infinite far out, where one of the runs comes."""

        def forward(self, state, table, stress=False, differentiable=False):
            energy, forces, tension, error = super().forward(state, table, stress, differentiable)
            return (
                energy,
                torch.where(state.positions.abs() > wall, torch.inf, forces),
                tension,
                error,
            )

    walled = adapted(Walled(InverseMultiquadricBasis()), moving).double()
    found = evaluate_motion(walled, data, frames=29)
    sound = evaluate_motion(coulomb, data, frames=29)
    assert found.lost == 1
    assert np.isinf(found.model[:, -1]).tolist() == (reach > wall).tolist()
    assert np.array_equal(found.model[reach <= wall], sound.model[reach <= wall])
    assert "1 windows were lost" in str(found)
    assert found.metrics()["position mse mean"]["value"] is None


def test_motion_of_independent_frames_is_refused(force_field, labelled):
    with pytest.raises(ValueError, match="not a time series"):
        evaluate_motion(force_field, Collection([labelled]))


@pytest.fixture
def run(tmp_path, force_field, labelled):
    """What training leaves behind."""
    folder = tmp_path / "run"
    folder.mkdir()
    record = Collection([labelled]).fingerprint()
    archives.save(Archive(force_field, data=record), folder / "model.pt")
    (folder / "config.yaml").write_text(f"data: {{init_args: {{train: {labelled}}}}}\n")
    return folder


def test_the_command_prints_a_table_and_writes_metrics_and_plots(run, labelled, capsys):
    assert main(["evaluate", str(run), "--data", str(labelled)]) == 0
    table = capsys.readouterr().out
    assert "meV/Å" in table
    assert "null RMSE" in table
    written = json.loads((run / "evaluation" / "metrics.json").read_text())
    force = written["metrics"]["force rmse"]
    assert force["unit"] == "meV/Å"
    assert force["null"] > 0
    assert force["value"] > 0
    for name in ("parity_force", "parity_energy", "errors_force", "species_force"):
        assert (run / "evaluation" / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_the_command_evaluates_motion_where_there_are_no_labels(moving, tmp_path, capsys):
    model = adapted(PairPotential(InverseMultiquadricBasis()), moving)
    archives.save(Archive(model), tmp_path / "model.pt")
    out = tmp_path / "out"
    command = ["evaluate", str(tmp_path / "model.pt"), "--data", str(moving), "--out", str(out)]
    assert main(command) == 0
    assert "constant velocity" in capsys.readouterr().out
    written = json.loads((out / "metrics.json").read_text())["metrics"]["position mse median"]
    # A pair potential that has learned nothing lets particles fly straight on.
    assert written["value"] == pytest.approx(written["null"], rel=1e-3)
    assert (out / "motion.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--data", "x.h5md"], "no run folder or model file"),
        (["RUN", "--data", "nofile.h5md"], "nofile.h5md"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(run, arguments, message, capsys):
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_run_is_told_from_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="training is unfinished"):
        model_file(tmp_path)


def test_training_data_is_found_again_and_recognised(run, labelled, force_field, tmp_path):
    record = archives.load(run / "model.pt").data
    assert training_data(run, record).paths == [labelled]
    with pytest.raises(ValueError, match="has changed"):
        training_data(run, record | {"frames": 7})
    (run / "config.yaml").write_text("data: {init_args: {train: gone.h5md}}\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.h5md.*--data"):
        training_data(run, record)
    archives.save(Archive(force_field), tmp_path / "alone.pt")
    with pytest.raises(FileNotFoundError, match="--data FILE"):
        training_data(tmp_path / "alone.pt", {})


def test_info_shows_data_models_and_runs(run, labelled, capsys):
    assert main(["info", str(labelled)]) == 0
    assert "forces" in capsys.readouterr().out
    for path in (run, run / "model.pt"):
        assert main(["info", str(path)]) == 0
        text = capsys.readouterr().out
        for part in ("ForceField", "cutoff      4 Å", "species     H O", "not checked", "labelled"):
            assert part in text
    (run / "notes.txt").write_text("no model")
    assert main(["info", str(run / "notes.txt")]) == 2


def test_real_acac_null_errors_are_the_published_ones(reference_data, tmp_path):
    """156 meV and 1041 meV/Å (mean energy, zero force) on the 300 K test set of BOTNet."""
    from ase.io import read

    from sciwm.core.state import frame_from_ase

    path = tmp_path / "acac.h5md"
    with H5MDWriter(path) as writer:
        for atoms in read(reference_data / "acac" / "test_MD_300K.xyz", ":"):
            frame = frame_from_ase(atoms)
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            writer.append(frame.with_(energy=energy, forces=forces, label="300K"))
    model = adapted(PairPotential(BesselBasis(4.0), 9, "molecular"), path)
    result = evaluate(model, Collection([path]), batch_size=64)
    assert result.frames == 650
    assert result.row("energy").null.rmse == pytest.approx(156, abs=0.5)
    assert result.row("force").null.rmse == pytest.approx(1041, abs=0.5)
    # It has learned nothing, so its own forces are the null model's.
    assert result.row("force").errors.rmse == result.row("force").null.rmse


def test_figures_have_units_on_their_axes_and_can_be_saved(tmp_path):
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=(2, 300)), np.arange(30.0)
    curve = Observable("pair", times, times, "1/Å", times, "distance", "Å")
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss,valid/force\n0,1,0.5,\n0,2,,0.4\n0,3,0.3,\n")
    figures = {
        "parity": plots.parity(*values, "force", "meV/Å"),
        "constant": plots.parity(np.ones(3), np.ones(3), "force", "meV/Å"),
        "histogram": plots.error_histogram(*values, "force", "meV/Å"),
        "bars": plots.error_bars({"H": 1.0}, {"H": 20.0}, "meV/Å"),
        "drift": plots.energy_drift(times, rng.normal(size=(2, 30)), "ps", "meV/atom"),
        "curves": plots.curves({"reference": curve, "imagined": curve}),
        "series": plots.time_series(times, {"C-O": times[:9]}, "time (fs)", "distance (Å)"),
        "learning": plots.learning_curve(log),
        "horizon": plots.horizon(times, rng.random((9, 30)), rng.random((9, 30)), "fs", "Å²"),
    }
    for path in plots.save(figures, tmp_path):
        assert path.stat().st_size > 5000
    for name, unit in {"parity": "meV/Å", "drift": "ps", "curves": "Å", "horizon": "fs"}.items():
        axes = figures[name].axes[0]
        assert f"({unit})" in axes.get_xlabel()
        assert "(" in axes.get_ylabel()
    with pytest.raises(ValueError, match="single number"):
        plots.curves({"one": Observable("t", 1.0, 0.1, "K")})
    log.write_text("epoch,step\n")
    with pytest.raises(ValueError, match="no losses"):
        plots.learning_curve(log)
