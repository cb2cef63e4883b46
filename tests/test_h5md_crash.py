"""Killed writers, damaged files, full disks, forks: nothing that was flushed is lost."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest

from sciwm.core.frame import Frame
from sciwm.data.h5md import FormatError, H5MDFile, H5MDWriter
from sciwm.data.h5md.recovery import lookup3, recover

FRAME_CODE = textwrap.dedent(
    """
    import numpy as np
    from sciwm.core.frame import Frame
    from sciwm.data.h5md import H5MDWriter

    def frame(k, n=50):
        rng = np.random.default_rng(k)
        return Frame(numbers=np.ones(n, int), positions=rng.normal(size=(n, 3)),
                     velocities=rng.normal(size=(n, 3)), energy=float(k), time=float(k), step=k)
    """
)
exec_namespace: dict = {}


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


def run(code, *arguments):
    command = [sys.executable, "-c", FRAME_CODE + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_while_writing(path, seconds, start=0):
    """Frames that a writer reported as flushed before it was killed."""
    writer = run(
        """
        import sys
        writer = H5MDWriter(sys.argv[1], resume=True)
        k = writer.n_frames()
        print("ready", k, flush=True)
        while True:
            writer.append(frame(k))
            k += 1
            if k % 3 == 0:
                writer.flush()
                print(k, flush=True)
        """,
        path,
    )
    line = writer.stdout.readline()
    assert line.startswith("ready"), writer.stderr.read()
    resumed = int(line.split()[1])
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    reports = writer.stdout.read().split()
    writer.wait()
    return resumed, int(reports[-1]) if reports else resumed


def require_sound(path, least):
    """The frames in the file are those that were written, and no fewer than `least`."""
    (trajectory,) = H5MDFile(path).trajectories
    assert trajectory.n_frames >= least, (trajectory.n_frames, least)
    np.testing.assert_array_equal(trajectory.steps, np.arange(trajectory.n_frames))
    expected = [frame(k) for k in range(trajectory.n_frames)]
    np.testing.assert_array_equal(
        trajectory.read("positions"), np.stack([one.positions for one in expected])
    )
    np.testing.assert_allclose(trajectory.read("energy"), np.arange(trajectory.n_frames))
    return trajectory.n_frames


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trajectory.h5md"


def test_a_killed_writer_loses_nothing_it_had_flushed_however_often_it_is_killed(path):
    rng = np.random.default_rng(0)
    flushed = 0
    for _ in range(6):
        resumed, flushed = killed_while_writing(path, rng.uniform(0.05, 0.4))
        found = require_sound(path, flushed)
        assert resumed <= found
    assert flushed > 20
    with H5MDWriter(path, resume=True) as writer:
        writer.append(frame(writer.n_frames()))
        total = writer.n_frames()
    assert require_sound(path, flushed) == total
    with h5py.File(path) as plain:  # closed in order, the file is open to every program
        assert len(plain["particles/trajectory/position/value"]) == total
