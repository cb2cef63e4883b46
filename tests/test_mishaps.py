"""What may happen to a run: disks fill, permissions lack, two start at once, somebody presses Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import HUNG, springs, water

import sciwm
from sciwm.cli import COMMANDS
from sciwm.cli.interruption import whole_imports
from sciwm.core import replacement
from sciwm.core.replacement import replacing
from sciwm.core.state import State
from sciwm.data.h5md import H5MDWriter
from sciwm.data.importers.target import new_file
from sciwm.discovery.experiment.ledger.export import write_csv
from sciwm.discovery.experiment.oracle.frames import write_frames
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.training.fit import claimed

pytestmark = pytest.mark.crash

WORLD = Path(__file__).parent / "archives" / "force_field_v2.pt"
ROOT = Path(__file__).parents[1]

PRESSED = """
import os, signal, sys
# A shell that runs tests in the background passes on that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Key:
    done = False
    def find_spec(self, name, path=None, target=None):
        # Half of the package is loaded then.
        if not Key.done and name.startswith(sys.argv[1] + ".") and name.count(".") > 1:
            Key.done = True
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Key())
from sciwm.cli import main
status = main(sys.argv[2:])
if not Key.done:
    print("never loaded")
sys.exit(status)
"""


def python(
    *arguments: object, folder: Path | None = None, before: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """What a process of its own does."""
    return subprocess.run(
        [*before, sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HUNG,
    )


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that writes a file or folder until it is told to stop."""
    code = (
        "import sys; from pathlib import Path; from sciwm.core.file_lock import sole_writer\n"
        "with sole_writer(Path(sys.argv[1]), ''): print('here', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def write_new(path: Path) -> None:
    with new_file(path, overwrite=True) as partial:
        partial.write_text("x")


WRITERS = {
    "table": lambda path: write_csv(path, [], {}, {}),
    "structures": lambda path: write_frames(path, {"energy": [springs(water(0))]}, {}),
    "import": write_new,
}


class TestReplacing:
    def test_a_full_disk_leaves_the_old_content_and_says_so(self, tmp_path, monkeypatch):
        path = tmp_path / "model.pt"
        path.write_bytes(b"old")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(replacement.os, "fsync", full)
        with (
            pytest.raises(OSError, match=r"No space left on device\); it is as it was.*Make room"),
            replacing(path) as file,
        ):
            file.write(b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_interruption_leaves_the_old_content(self, tmp_path):
        path = tmp_path / "model.pt"
        path.write_bytes(b"old")

        def interrupted():
            with replacing(path) as file:
                file.write(b"half of the n")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("write", WRITERS)
    def test_every_file_that_is_replaced_outlives_an_interruption(
        self, tmp_path, monkeypatch, write
    ):
        path = tmp_path / "file"
        WRITERS[write](path)
        before = path.read_bytes()
        (tmp_path / "file.0123abcd.partial").write_bytes(b"of a killed process")

        def interrupted(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(replacement.os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            WRITERS[write](path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_checkpoint_outlives_one_that_does_not_fit(self, tmp_path):
        """By a limit on the size of files, which the kernel enforces as it does a full disk."""
        path = tmp_path / "checkpoints" / "last.ckpt"
        code = """
        import resource, signal, sys, torch
        from sciwm.training.checkpoint import WholeCheckpoints
        WholeCheckpoints().save_checkpoint({"weights": torch.ones(10)}, sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            WholeCheckpoints().save_checkpoint({"weights": torch.zeros(10000)}, sys.argv[1])
        except OSError as error:
            print(error)
        """
        done = python("-c", textwrap.dedent(code), path)
        assert "it is as it was" in done.stdout, done.stderr
        left = torch.load(path, weights_only=True)
        assert torch.equal(left["weights"], torch.ones(10))
        assert os.listdir(path.parent) == ["last.ckpt"]


class TestTwoAtOnce:
    def test_a_run_folder_has_one_trainer(self, tmp_path):
        other = holder(tmp_path)
        with (
            pytest.raises(OSError, match=r"another process is writing .*--name"),
            claimed(tmp_path),
        ):
            pass
        other.communicate("go\n", timeout=HUNG)
        with claimed(tmp_path), claimed(tmp_path):  # `train` claims what `fit` claims again
            pass
        assert list(tmp_path.iterdir()) == []

    def test_a_simulation_that_has_just_begun_is_not_begun_anew(self, tmp_path):
        """Its checkpoint says step 0, as that of one that never began does."""
        output = tmp_path / "run.h5md"
        world = sciwm.load(WORLD)
        state = world.state(molecule("H2O"))
        simulation = Rollout(VelocityVerlet(world.simulator(), 0.5), output)
        simulation.run(state, 3)
        before = output.read_bytes()
        other = holder(output)
        with pytest.raises(OSError, match="another process is writing"):
            simulation.run(state, 3, resume=True)
        assert output.read_bytes() == before
        other.communicate("go\n", timeout=HUNG)
        assert simulation.run(state, 3, resume=True).steps == [3]


@pytest.fixture
def readable(tmp_path):
    """A world and its data in a folder that nobody may write."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "model.pt").write_bytes(WORLD.read_bytes())
    world = sciwm.load(WORLD)
    with H5MDWriter(folder / "water.h5md") as writer:
        for seed in range(4):
            frame = water(seed, 0.02)
            found = world.evaluate(State.from_frame(frame))
            forces = found.forces.double().numpy()
            writer.append(frame.with_(energy=float(found.energy[0]), forces=forces))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


class TestReadOnly:
    def run(self, *arguments):
        # Root may write everywhere, unless it gives that up.
        bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        done = python("-m", "sciwm", *arguments, before=bound if os.geteuid() == 0 else [])
        assert "Traceback" not in done.stderr
        return done

    def test_checks_of_a_model_that_may_only_be_read_are_shown(self, readable):
        done = self.run("check", readable / "model.pt", "--data", readable / "water.h5md")
        assert "verdict:" in done.stdout
        assert "model.pt" in done.stderr
        assert done.returncode == 2

    def test_an_evaluation_says_at_once_where_it_cannot_write(self, readable):
        done = self.run("evaluate", readable / "model.pt", "--data", readable / "water.h5md")
        assert done.returncode == 2
        assert "--out" in done.stderr
        assert done.stdout == ""


class TestInterrupted:
    @pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"new"}))  # which loads nothing
    def test_every_command_ends_with_a_word_while_it_loads(self, command, tmp_path):
        """A Ctrl-C in the middle of an import."""
        (tmp_path / "library.smi").write_text("C\n")
        arguments = {
            "train": ["train", "--options"],
            "import": [
                "import",
                ROOT / "datasets/ethanol_xtb/ethanol_400K.extxyz",
                "--to",
                "x.h5md",
            ],
            "check": ["check", WORLD, "--data", "absent.h5md"],
            "simulate": ["simulate", WORLD, "absent.h5md", "1ps", "--out", "x.h5md"],
            "screen": [
                "screen",
                "library.smi",
                "--objective",
                "maximize sa_score",
                "--out",
                "x.csv",
            ],
            "discover": ["discover", ROOT / "configs/polar.yaml"],
            "report": ["report", tmp_path],
            "doctor": ["doctor"],
            "learn": [
                "learn",
                "absent.xyz",
                "--reference",
                "emt",
                "--until",
                "force_error < 20 meV/Å",
            ],
        }.get(command, [command, WORLD, *(["--data", "x.h5md"] if command == "evaluate" else [])])
        done = python("-c", PRESSED, "numpy", *arguments, folder=tmp_path)
        assert done.returncode == 130, done.stderr
        assert "sciwm: stopped" in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_import_is_finished_before_a_ctrl_c_is_answered(self, tmp_path, monkeypatch):
        """As NumPy does at places, this module swallows it, and is then but half there."""
        (tmp_path / "swallowing.py").write_text(
            "import signal\nwhole = False\n"
            "try:\n    signal.raise_signal(signal.SIGINT)\n    whole = True\n"
            "except BaseException:\n    pass\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

        def work():
            import swallowing

            assert swallowing.whole
            time.sleep(HUNG)

        # A shell that runs tests in the background passes on that Ctrl-C is ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                whole_imports()(work)()
        finally:
            signal.signal(signal.SIGINT, before)

    def test_imagination_that_is_interrupted_leaves_the_world_as_it_was(self, monkeypatch):
        world = sciwm.load(WORLD)
        start = molecule("H2O")
        before = world.energy(start), world.imagine(start, "5fs").energies
        evaluate, calls = LearnedSimulator.evaluate, []

        def pressed(self, state, stress=False):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return evaluate(self, state, stress)

        with monkeypatch.context() as patch:
            patch.setattr(LearnedSimulator, "evaluate", pressed)
            with pytest.raises(KeyboardInterrupt):
                world.imagine(start, "5fs")
        assert torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float32
        assert world.energy(start) == before[0]
        np.testing.assert_array_equal(world.imagine(start, "5fs").energies, before[1])
