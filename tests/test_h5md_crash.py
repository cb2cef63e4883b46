"""Killed writers, damaged files, full disks, forks: nothing that was flushed is lost."""

import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import h5py
import numpy as np
import pytest
from conftest import HUNG

from sciwm.core.frame import Frame
from sciwm.data.h5md import FormatError, H5MDFile, H5MDWriter
from sciwm.data.h5md.interruption import uninterrupted
from sciwm.data.h5md.recorder import Recorder
from sciwm.data.h5md.superblock_repair import END_OF_FILE, FLAGS, lookup3, recover

pytestmark = pytest.mark.crash


def frame(k, n=50):
    rng = np.random.default_rng(k)
    return Frame(
        numbers=np.ones(n, int),
        positions=rng.normal(size=(n, 3)),
        velocities=rng.normal(size=(n, 3)),
        energy=float(k),
        time=float(k),
        step=k,
    )


def started(code, *arguments):
    """A process that runs code which knows `frame`, `H5MDWriter` and its arguments."""
    head = """
    import sys
    import numpy as np
    from sciwm.core.frame import Frame
    from sciwm.data.h5md import H5MDFile, H5MDWriter
    """
    program = textwrap.dedent(head) + inspect.getsource(frame) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """(standard output, standard error) of a process that has ended well."""
    out, err = process.communicate(timeout=HUNG)
    assert process.returncode == 0, err
    return out, err


def killed_while_writing(path, seconds):
    """Frames that a writer found, and frames it had reported as flushed when it was killed."""
    with started(
        """
        writer = H5MDWriter(sys.argv[1], resume=True)
        k = writer.n_frames()
        print(k, flush=True)
        while True:
            writer.append(frame(k))
            k += 1
            if k % 3 == 0:
                writer.flush()
                print(k, flush=True)
        """,
        path,
    ) as writer:
        found = writer.stdout.readline()
        assert found, writer.stderr.read()
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        reports = writer.stdout.read().split()
    return int(found), int(reports[-1]) if reports else int(found)


def require_sound(path, least):
    """The frames in the file are those that were written, and no fewer than `least`."""
    (trajectory,) = H5MDFile(path).trajectories
    assert trajectory.n_frames >= least
    np.testing.assert_array_equal(trajectory.steps, np.arange(trajectory.n_frames))
    expected = np.stack([frame(k).positions for k in range(trajectory.n_frames)])
    np.testing.assert_array_equal(trajectory.read("positions"), expected)
    np.testing.assert_allclose(trajectory.read("energy"), np.arange(trajectory.n_frames))
    return trajectory.n_frames


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trajectory.h5md"


@pytest.fixture
def written(path):
    """A file of 100 frames, closed in order."""
    with H5MDWriter(path) as writer:
        for k in range(100):
            writer.append(frame(k))
    return path


def test_a_killed_writer_loses_nothing_it_had_flushed_however_often_it_is_killed(path):
    rng = np.random.default_rng(0)
    flushed = 0
    for _ in range(6):
        found, flushed = killed_while_writing(path, rng.uniform(0.05, 0.4))
        assert found <= require_sound(path, flushed)
    assert flushed > 20
    with H5MDWriter(path, resume=True) as writer:
        writer.append(frame(writer.n_frames()))
        total = writer.n_frames()
    assert require_sound(path, flushed) == total
    with h5py.File(path) as plain:  # closed in order, the file is open to every program
        assert len(plain["particles/trajectory/position/value"]) == total


def test_a_writer_killed_while_it_sets_up_can_be_continued(path):
    for _ in range(4):
        path.unlink(missing_ok=True)
        _, flushed = killed_while_writing(path, 0.001)
        with H5MDWriter(path, resume=True) as writer:
            for k in range(writer.n_frames(), flushed + 5):
                writer.append(frame(k))
        require_sound(path, flushed + 5)


def test_datasets_that_a_crash_left_at_different_lengths_are_cut_to_the_shortest(written):
    with h5py.File(written, "r+") as file:
        file["particles/trajectory/position/value"].resize(120, axis=0)
        file["observables/trajectory/potential_energy/value"].resize(70, axis=0)
    assert require_sound(written, 70) == 70
    with H5MDWriter(written, resume=True) as writer:
        assert writer.n_frames() == 70
        for k in range(70, 90):
            writer.append(frame(k))
    assert require_sound(written, 90) == 90


def test_steps_that_were_never_written_do_not_count(written):
    with h5py.File(written, "r+") as file:
        for name in ("value", "step", "time"):
            file[f"particles/trajectory/position/{name}"].resize(130, axis=0)
    assert require_sound(written, 100) == 100


def test_a_file_is_readable_beside_its_writer(path):
    with started(
        """
        with H5MDWriter(sys.argv[1]) as writer:
            for k in range(40):
                writer.append(frame(k))
            writer.flush()
            print("flushed", flush=True)
            sys.stdin.readline()
        """,
        path,
    ) as writer:
        assert writer.stdout.readline() == "flushed\n"
        assert require_sound(path, 40) == 40
        with pytest.raises(OSError, match="in use"):
            H5MDWriter(path, resume=True)
        writer.communicate("go on\n", timeout=HUNG)
    assert require_sound(path, 40) == 40


def test_a_file_cut_off_in_a_copy_says_so(written):
    os.truncate(written, written.stat().st_size // 2)
    with pytest.raises(FormatError, match="cut off") as caught:
        _ = H5MDFile(written).trajectories
    assert str(written) in str(caught.value)


def test_a_file_that_is_not_hdf5_says_so(path):
    path.write_text("1\n\nH 0 0 0\n")
    with pytest.raises(FormatError, match="not an HDF5 file"):
        _ = H5MDFile(path).trajectories
    with pytest.raises(FormatError, match="not an HDF5 file"):
        H5MDWriter(path, resume=True)
    assert path.read_text() == "1\n\nH 0 0 0\n"


def test_a_file_that_is_not_there_says_so(path):
    with pytest.raises(FileNotFoundError, match=r"trajectory\.h5md"):
        _ = H5MDFile(path).trajectories


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
writer = H5MDWriter(sys.argv[1])
try:
    while True:
        writer.append(frame(writer.n_frames()))
except OSError as error:
    print(error)
"""


def require_full_disk_message(out, path):
    (message,) = out.splitlines()
    assert f"cannot write to {path}" in message
    assert "File too large" in message
    safe = int(message.split("safely written: ")[1].split()[0])
    assert safe > 100
    return safe


def test_a_full_disk_is_an_error_that_says_which_frames_are_safe(path):
    """The limit on the size of a file stands in for the end of the disk."""
    process = started(FULL_DISK + "\nwriter.close()\n", path)
    out, err = process.communicate(timeout=HUNG)
    assert process.returncode == 1  # an exception, not the crash that HDF5 is prone to here
    assert err.count("cannot write to") == 1
    safe = require_full_disk_message(out, path)
    assert require_sound(path, safe) == safe
    with H5MDWriter(path, resume=True) as writer:
        for k in range(safe, safe + 50):
            writer.append(frame(k))
    require_sound(path, safe + 50)


def test_a_run_goes_on_where_room_is_made_on_a_full_disk(path):
    more_room = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for k in range(writer.n_frames(), 500):
        writer.append(frame(k))
    writer.close()
    """
    out, _ = finished(started(FULL_DISK + textwrap.dedent(more_room), path))
    require_full_disk_message(out, path)
    assert require_sound(path, 500) == 500


def read_in_child(trajectory, file, queue):
    queue.put((trajectory.read("positions", slice(0, 5)), file.trajectories[0].frame(3).step))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_files_are_opened_anew_in_worker_processes(written, method):
    with H5MDFile(written) as file:
        (trajectory,) = file.trajectories
        before = trajectory.read("positions", slice(0, 5))
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        worker = context.Process(target=read_in_child, args=(trajectory, file, queue))
        worker.start()
        positions, step = queue.get(timeout=HUNG)
        worker.join()
        assert worker.exitcode == 0
        np.testing.assert_array_equal(positions, before)
        assert step == 3
        # The parent's own handle still works.
        np.testing.assert_array_equal(trajectory.read("positions", slice(0, 5)), before)


def test_pickled_files_and_trajectories_open_again(written):
    with H5MDFile(written) as file:
        (trajectory,) = file.trajectories
        trajectory.frame(0)
        copies = [pickle.loads(pickle.dumps(file)).trajectories[0]]
        copies.append(pickle.loads(pickle.dumps(trajectory)))
        for copy in copies:
            np.testing.assert_array_equal(copy.frame(9).positions, frame(9).positions)


def test_a_closed_file_opens_again_when_used(written):
    file = H5MDFile(written)
    (trajectory,) = file.trajectories
    file.close()
    assert trajectory.frame(5).step == 5


def test_dropping_a_trajectory_closes_its_file(written):
    (trajectory,) = H5MDFile(written).trajectories
    trajectory.window(0, 3)
    with pytest.raises(OSError, match="already open"):
        h5py.File(written, "r+")
    del trajectory
    h5py.File(written, "r+").close()


def test_many_groups_keep_few_datasets_open(path):
    with H5MDWriter(path) as writer:
        for g in range(30):
            writer.append(frame(g, n=2), f"molecule{g}")
    with H5MDFile(path) as file:
        for trajectory in file.trajectories:
            trajectory.frame(0)
        kinds = h5py.h5f.OBJ_DATASET
        assert h5py.h5f.get_obj_count(file._handle.file().id, kinds) <= 17


def test_the_checksum_is_that_of_its_author_and_of_hdf5(written):
    assert lookup3(b"Four score and seven years ago") == 0x17770551  # Jenkins' own test
    head = written.read_bytes()[:48]
    assert lookup3(head[:44]) == int.from_bytes(head[44:], "little")
    assert lookup3(head[:43] + b"\x01") != int.from_bytes(head[44:], "little")


def test_recovery_leaves_sound_files_alone_and_refuses_damaged_ones(written):
    sound = written.read_bytes()
    assert not recover(written)
    assert written.read_bytes() == sound
    marked = bytearray(sound)
    marked[FLAGS] = 5
    marked[END_OF_FILE] ^= 0xFF
    written.write_bytes(marked)
    with pytest.raises(FormatError, match="checksum"):
        recover(written)
    assert written.read_bytes() == bytes(marked)


def test_nothing_here_needs_torch():
    out, _ = finished(started("print('torch' in sys.modules)"))
    assert out == "False\n"


# --- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", [True, False])
def test_a_ctrl_c_waits_for_the_end_of_a_write(tmp_path, monkeypatch, guarded):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    plain = Recorder.write_clock

    def pressed(recorder, file):
        os.kill(os.getpid(), signal.SIGINT)
        plain(recorder, file)

    if not guarded:
        bare = H5MDWriter._write.__wrapped__
        monkeypatch.setattr(H5MDWriter, "_write", bare)
    path = tmp_path / "w.h5md"
    writer = H5MDWriter(path)
    for k in range(3):
        writer.append(frame(k))
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "write_clock", pressed)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, handler)
    # Unguarded, the press ends the write between values and clock.
    assert writer._recorders["trajectory"].written == (3 if guarded else 0)
    writer.close()
    with H5MDFile(path) as file:
        assert file.trajectories[0].n_frames == 3


def test_an_ignored_ctrl_c_stays_ignored_and_other_threads_write_too(tmp_path):
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)

    def write():
        with H5MDWriter(tmp_path / "w.h5md") as writer:
            writer.append(frame(0))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    with H5MDFile(tmp_path / "w.h5md") as file:
        assert file.trajectories[0].n_frames == 1
