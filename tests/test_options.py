"""Every numeric option of every command is tried beyond its bounds: told in a sentence, never neglected."""

import re
from functools import partial
from pathlib import Path

import pytest

from sciwm.cli import main
from sciwm.core.state import frame_from_ase
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.discovery.problem.outcomes.energies import ConformerStrain
from sciwm.discovery.problem.outcomes.ensembles import InfraredSpectrum, ThermalAverage
from sciwm.discovery.problem.outcomes.survival import ThermalSurvival

WORLD = str(Path(__file__).parent / "archives" / "force_field_v2.pt")

NOT_POSITIVE = ["0", "-1", "nan", "inf", "-inf"]
NEGATIVE = ["-1", "nan", "inf"]
NOT_COUNTED = ["0", "-1", "nan", "0.5"]
TOO_MANY = ["100000000"]
NEGATIVE_COUNT = ["-1", "nan", "0.5"]
SEEDS = ["-1", "0.5", "99999999999999999999"]

OPTIONS = {
    "simulate": {
        "dt": [*NOT_POSITIVE, "1e400", "1e300", "100fs", "1kg"],
        "temperature": [*NOT_POSITIVE, "1e400", "300fs"],
        "every": NOT_COUNTED,
        "copies": NOT_COUNTED,
        "seed": SEEDS,
        "frames": ["1", "-2", "nan", "0.5", ""],
        "thermostat": ["nose", "langevin", "csvr"],  # without a temperature
        "friction": [*NOT_POSITIVE, "0.01", "1fs"],  # likewise
    },
    "import": {"timestep": NOT_POSITIVE},
    "evaluate": {
        "batch_size": NOT_COUNTED,
        "frames": [*NOT_COUNTED, "1000000000"],
        "start": ["0", "-1"],
    },
    "check": {"temperature": NOT_POSITIVE},
    "screen": {
        "workers": NOT_COUNTED + TOO_MANY,
        "limit": NOT_COUNTED,
        "max_heavy": NOT_COUNTED,
        "top": NEGATIVE_COUNT,
        "seed": SEEDS,
    },
    "train": {
        "max_steps": NOT_COUNTED,
        "validate_every": NOT_COUNTED,
        "ema_decay": ["1", "2", "-0.1", "nan", "inf"],
        "gradient_clip": NOT_POSITIVE,
        "seed": SEEDS,
        "data.valid": [*NOT_POSITIVE, "1e9", "40"],
        "data.batch_size": NOT_COUNTED,
        "data.max_atoms": NOT_COUNTED,
        "data.workers": [*NEGATIVE_COUNT, *TOO_MANY, "5:1"],
        "task.learning_rate": [*NOT_POSITIVE, "1e40"],
        "task.matrix_rate": [*NOT_POSITIVE, "1e40"],
        "task.matrix_rounds": NEGATIVE_COUNT,
        "task.warmup": NEGATIVE_COUNT,
        "task.cpu_seconds": [*NOT_POSITIVE, "1e30"],
        "task.energy_weight": NEGATIVE,
        "task.late_energy_weight": NEGATIVE,
        "task.stress_weight": NEGATIVE,
        "task.model.encoder.cutoff": [*NOT_POSITIVE, "1e40"],
        "task.model.encoder.channels": NOT_COUNTED,
        "task.model.encoder.lmax": NOT_COUNTED,
        "task.model.encoder.layers": NOT_COUNTED,
        "task.model.encoder.basis_size": NOT_COUNTED,
        "task.model.encoder.basis_decay": NEGATIVE,
    },
    "discover": {
        "plan.calls": NOT_COUNTED,
        "plan.seconds": ["0", "-1", "nan"],
        "plan.start": NOT_COUNTED + TOO_MANY,
        "plan.batch": NOT_COUNTED,
        "plan.pool": NOT_COUNTED + TOO_MANY,
        "plan.generations": NOT_COUNTED,
        "plan.controls": ["-0.1", "1.1", "nan"],
        "plan.diversity": NEGATIVE,
        "workers": NOT_COUNTED + TOO_MANY,
        "run_seconds": ["0", "-1", "nan"],
        "run_gigabytes": NOT_POSITIVE,
        "seed": SEEDS,
    },
}
TRIED = [
    (c, o, v) for c, options in OPTIONS.items() for o, values in options.items() for v in values
]


@pytest.fixture(scope="module")
def copper(tmp_path_factory) -> str:
    from ase.build import bulk

    path = tmp_path_factory.mktemp("start") / "copper.h5md"
    with H5MDWriter(path) as writer:
        writer.append(frame_from_ase(bulk("Cu", cubic=True)))
    return str(path)


@pytest.fixture
def commands(tmp_path, labelled, copper) -> dict[str, list[str]]:
    """Commands that would work."""
    train = tmp_path / "train.yaml"
    train.write_text(
        f"""
data: {{class_path: sciwm.data.FrameData, init_args: {{train: {labelled}, valid: 8}}}}
task:
  class_path: sciwm.training.ForceTask
  init_args:
    model:
      class_path: sciwm.models.ForceField
      init_args: {{encoder: {{cutoff: 3.0, channels: 4, lmax: 1}}, reference_energies: {{O: 0, H: 0}}}}
max_steps: 2
trainer: {{accelerator: cpu, enable_progress_bar: false}}
"""
    )
    library = tmp_path / "library.smi"
    library.write_text("CCO\n")
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(
        f"""
objective: minimize sa_score
proposers:
- {{class_path: sciwm.discovery.planners.proposers.library.Library, init_args: {{path: {library}}}}}
plan: {{calls: 1}}
"""
    )
    out = ["--out", str(tmp_path / "out.h5md")]
    table = ["--objective", "minimize sa_score", "--out", str(tmp_path / "table.csv")]
    return {
        "simulate": ["simulate", "emt", copper, "2fs", *out],
        "import": ["import", str(labelled), "--to", str(tmp_path / "to.h5md")],
        "evaluate": ["evaluate", WORLD, "--data", str(labelled), "--out", str(tmp_path / "e")],
        "check": ["check", WORLD, "--data", str(labelled)],
        "screen": ["screen", str(library), *table],
        "train": ["train", str(train), "--folder", str(tmp_path)],
        "discover": ["discover", str(campaign), "--folder", str(tmp_path)],
    }


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says as it refuses; empty where it does not. No other end is one of these."""
    try:
        status = main(words)
    except SystemExit as stop:  # from the parser
        status = stop.code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told if status == 2 else ""


@pytest.mark.parametrize(("command", "option", "value"), TRIED)
def test_a_number_beyond_its_bounds_is_told(command, option, value, commands, capsys):
    told = refusal([*commands[command], f"--{option}={value}"], capsys)
    assert told
    # By its name, or that of what it becomes.
    name = option.rpartition(".")[2].rpartition("_")[2]
    assert re.search(f"{name}|time|data file|average|hold back", told, re.IGNORECASE)
    if value in ("0", "-1", "2", "0.5"):
        assert value in told


@pytest.mark.parametrize(
    "time", ["0", "-2fs", "nan", "inf", "1e400", "1e300", "0.1fs", "2kg", "soon"]
)
def test_a_time_without_steps_is_told(time, commands, capsys):
    words = commands["simulate"]
    words[words.index("2fs")] = time
    assert refusal(words, capsys)


@pytest.mark.parametrize("command", ["simulate", "import", "evaluate", "screen", "train"])
def test_the_commands_themselves_are_sound(command, commands, capsys):
    # Proof that what is refused above is refused for its number.
    assert main(commands[command]) == 0


def test_a_time_that_steps_do_not_make_up_says_what_is_done(commands, tmp_path):
    words = commands["simulate"]
    words[words.index("2fs")] = "2.3fs"
    with pytest.warns(UserWarning, match=r"2\.3 is no multiple of the time step 0\.5: 5 steps"):
        assert main([*words, "--every", "1"]) == 0
    with H5MDFile(tmp_path / "out.h5md") as file:
        assert file.trajectories[0].n_frames == 6


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (ThermalSurvival, "dt"),
        (ThermalSurvival, "time"),
        (partial(ThermalAverage, "dipole"), "dt"),
        (partial(ThermalAverage, "dipole"), "time"),
        (InfraredSpectrum, "dt"),
        (InfraredSpectrum, "time"),
    ],
)
def test_recipes_refuse_times_without_steps(build, name, wrong):
    build()
    with pytest.raises(ValueError, match="time"):
        build(**{name: wrong})


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["temperature", "friction"])
def test_recipes_refuse_heat_that_cannot_be(name, wrong):
    with pytest.raises(ValueError, match=name):
        ThermalSurvival(**{name: wrong})


@pytest.mark.parametrize(
    "build",
    [
        lambda: ThermalSurvival(seeds=0),
        lambda: ThermalAverage("dipole", replicas=0),
        lambda: InfraredSpectrum(replicas=-1),
        lambda: ConformerStrain(conformers=0),
    ],
)
def test_recipes_refuse_counts_of_nothing(build):
    with pytest.raises(ValueError, match="must be at least 1"):
        build()
