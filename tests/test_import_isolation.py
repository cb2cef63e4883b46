"""A decoder that dies, hangs or babbles costs its own process and one clear error, nothing more."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from sciwm.data.importers.isolation import PATIENCE, isolated
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.xtc import XTC

pytestmark = pytest.mark.crash

FORMATS = Path(__file__).parents[1] / ".." / "shared" / "data" / "md_formats"


def numbered(path):
    for k in range(3):
        yield {"k": np.array(k)}


def of_all_shapes(path):
    print("a library says something")
    os.system("echo and so does its child")
    rng = np.random.default_rng(0)
    for shape in ((), (0, 3), (2, 3), (200_000, 3)):
        yield {"x": rng.normal(size=shape), "n": np.arange(3, dtype=np.int16)[::-1]}


def dying(path):
    yield from numbered(path)
    os.kill(os.getpid(), signal.SIGSEGV)


def dying_at_the_end(path):
    try:
        yield from numbered(path)
    finally:
        os.kill(os.getpid(), signal.SIGABRT)


def leaving(path):
    yield from numbered(path)
    os._exit(3)


def refusing(path):
    yield from numbered(path)
    raise SourceError(path, "line 7", "is wrong", "Right it")


def unlucky(path):
    yield from numbered(path)
    raise RuntimeError("never expected")


def limited(path):
    yield {"left": np.array(signal.getitimer(signal.ITIMER_PROF)[0])}


def endless(path):
    yield from numbered(path)
    signal.setitimer(signal.ITIMER_PROF, 0.1)
    while True:
        pass


def unpickling(path):
    yield {"x": np.array([print], dtype=object)}


def locking(path):
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for k in count():
            yield {"k": np.array(k)}


def received(decoder, path=Path("some.xtc")):
    """The records before the error, and the error."""
    records = []
    with pytest.raises(SourceError) as refusal, isolated(decoder, path) as stream:
        records.extend(stream)
    return records, refusal.value


def test_numbers_arrive_as_they_were_sent():
    with isolated(of_all_shapes, Path("x")) as stream:
        records = list(stream)
    rng = np.random.default_rng(0)
    for record, shape in zip(records, ((), (0, 3), (2, 3), (200_000, 3)), strict=True):
        np.testing.assert_array_equal(record["x"], rng.normal(size=shape))
        assert record["n"].tolist() == [2, 1, 0]
        assert record["n"].dtype == np.int16


@pytest.mark.parametrize(
    ("decoder", "frames", "reason"),
    [
        (dying, 3, r"frame 3: crashes its decoder \(SIGSEGV\)"),
        (dying_at_the_end, 3, r"frame 3: crashes its decoder \(SIGABRT\)"),
        (leaving, 3, r"frame 3: cannot be decoded \(status 3\)"),
        (endless, 3, "frame 3: keeps its decoder busy without an end"),
        (refusing, 3, "line 7: is wrong. Right it"),
        (unlucky, 3, "frame 3: .*RuntimeError: never expected"),
        (unpickling, 0, "frame 0: cannot be read"),
    ],
)
def test_a_decoder_that_fails_is_an_error_at_the_frame_where_it_did(decoder, frames, reason):
    records, error = received(decoder)
    assert [int(record["k"]) for record in records] == list(range(frames))
    assert re.search(f"some.xtc, {reason}", str(error))


def test_each_frame_is_allowed_so_much_processor_time():
    with isolated(limited, Path("x")) as stream:
        (record,) = stream
    assert 0 < record["left"] <= PATIENCE


def test_a_decoder_ends_when_nobody_reads_on(tmp_path):
    path = tmp_path / "held"
    with isolated(locking, path) as stream:
        assert int(next(stream)["k"]) == 0
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_decoder_ends_when_the_import_is_killed(tmp_path):
    path = tmp_path / "held"
    code = (
        "import os, signal; from pathlib import Path; import test_import_isolation as t\n"
        f"with t.isolated(t.locking, Path({str(path)!r})) as stream:\n"
        "    next(stream); os.kill(os.getpid(), signal.SIGKILL)"
    )
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": places}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for as long as the decoder lives


# --- XTC -----------------------------------------------------------------------------------------


@pytest.fixture
def shapes():
    """Three frames of ten atoms, and what is read from them."""
    pytest.importorskip("MDAnalysis")
    path = FORMATS / "xtc/cell_shapes.xtc"
    if not path.exists():
        pytest.skip("needs the reference data cell_shapes.xtc")
    return path


def test_no_damaged_byte_of_an_xtc_file_ends_the_interpreter(shapes, tmp_path):
    # In a process of its own: what is caught here would take the tests along.
    code = """
import sys
from pathlib import Path
import numpy as np
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.xtc import XTC
content = Path(sys.argv[1]).read_bytes()
path = Path(sys.argv[2])
places = np.random.default_rng(0).integers(len(content), size=6)
for place in [277, 215, *places]:
    damaged = bytearray(content)
    damaged[place] = 0xFF
    path.write_bytes(damaged)
    try:
        print(place, len(list(XTC().frames(path, ImportOptions(elements="H10")))))
    except SourceError as error:
        print(place, error)
"""
    arguments = [shapes, tmp_path / "damaged.xtc"]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 8
    for place, line in zip((277, 215), lines, strict=False):
        assert line.startswith(f"{place} {tmp_path / 'damaged.xtc'}, frame 1: ")


def test_coordinates_that_miss_their_stated_bounds_are_refused(shapes, tmp_path):
    content = bytearray(shapes.read_bytes())
    assert struct.unpack(">i", content[52:56]) == (10,)
    assert len(list(XTC().frames(shapes, ImportOptions(elements="H10")))) == 3
    at = 56 + 4 + 3 * 4  # after the count and the precision: the highest x of the first frame
    (highest,) = struct.unpack(">i", content[at : at + 4])
    content[at : at + 4] = struct.pack(">i", highest + 1)
    path = tmp_path / "bounds.xtc"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="frame 0: is damaged"):
        list(XTC().frames(path, ImportOptions(elements="H10")))
    content = bytearray(shapes.read_bytes())
    content[56:60] = struct.pack(">f", 1000.0625)
    path.write_bytes(content)
    with pytest.raises(SourceError, match="frame 0: is damaged"):
        list(XTC().frames(path, ImportOptions(elements="H10")))
