"""Decoders of other packages, each in a process of its own that may die.

Compiled decoders trust the files they read: damaged ones make them write beyond their memory. Here
that costs their process and becomes an error with the number of the frame. What comes back is
plain numbers, never pickled objects, so that a file which takes the decoder over gains nothing.
"""

import fcntl
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from sciwm.data.importers.source import SourceError, foreign_reader

Record = dict[str, np.ndarray]
"""The numbers of one frame, by name."""
Decoder = Callable[[Path], Iterator[Record]]

PATIENCE = 120.0
"""Seconds of processor time, however long they take on a busy machine, in which a frame must come."""

_PIPE_BYTES = 1 << 20
"""Room for a process to run ahead of the one that reads, which need not wait for each frame."""

_CHILD = "from sciwm.data.importers.isolation import serve; serve()"
_FATES: dict[int, str] = {
    signal.SIGPROF: "keeps its decoder busy without an end",
    signal.SIGKILL: "cost its decoder its life, as where memory runs out",
}
_REMEDY = "The file is damaged: copy it again, or cut it before that frame"


@contextmanager
def isolated(decoder: Decoder, path: Path) -> Iterator[Iterator[Record]]:
    """What a function at the top of a module yields for `path`, called in a process of its own.

    The process runs ahead as far as a pipe holds, and ends with the block. The iterator raises a
    `SourceError` that the decoder raised, or one that names the frame at which it died.
    """
    # Modules are found where this process finds them, and nowhere else.
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    command = [sys.executable, "-P", "-W", "ignore", "-c", _CHILD]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [*command, decoder.__module__, decoder.__qualname__, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=os.environ | {"PYTHONPATH": places},
            process_group=0,  # Ctrl-C arrives here alone
        )
        try:
            yield _received(process, path, complaints)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _received(
    process: subprocess.Popen[bytes], path: Path, complaints: IO[bytes]
) -> Iterator[Record]:
    assert process.stdout is not None
    index = 0
    while True:
        with foreign_reader(path, f"frame {index}"):
            head = _head(process.stdout)
            record = None
            if head is not None and "arrays" in head:
                try:
                    record = {
                        name: _array(process.stdout, dtype, shape)
                        for name, dtype, shape in head["arrays"]
                    }
                except EOFError:
                    head = None  # it died while it was sending
        if record is not None:
            yield record
            index += 1
        elif head is not None and "reason" in head:
            raise SourceError(path, head["position"], head["reason"], head["remedy"])
        else:
            status = process.wait()
            if status == 0 and head is not None:
                return
            raise SourceError(path, f"frame {index}", _fate(status, complaints), _REMEDY)


def _head(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next description of what follows; None where the process is gone."""
    mark = stream.read(4)
    if len(mark) < 4:
        return None
    content = stream.read(struct.unpack("<I", mark)[0])
    return dict(json.loads(content))


def _array(stream: IO[bytes], dtype: str, shape: list[int]) -> np.ndarray:
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod(shape))
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return np.frombuffer(content, dtype=kind).reshape(shape)


def _fate(status: int, complaints: IO[bytes]) -> str:
    """How a process ended, in the words of its last complaint if it had the time."""
    if status < 0:
        name = signal.Signals(-status).name
        return _FATES.get(-status, f"crashes its decoder ({name})")
    complaints.seek(0)
    last = complaints.read().decode(errors="replace").splitlines()[-1:] or [f"status {status}"]
    return f"cannot be decoded ({last[0]})"


def serve() -> None:
    """The whole life of the process: decode, send, and end when nobody reads any more."""
    module, function, path = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a library prints must not come between the numbers.
    with os.fdopen(os.dup(1), "wb") as stream:
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # elsewhere pipes keep the size they have
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.dup2(2, 1)
        _grant_patience()
        try:
            for record in getattr(import_module(module), function)(Path(path)):
                arrays = {name: np.asarray(array) for name, array in record.items()}
                described = [(name, a.dtype.str, a.shape) for name, a in arrays.items()]
                _send(stream, {"arrays": described}, *arrays.values())
                _grant_patience()
            _send(stream, {})
        except SourceError as error:
            reason = {"position": error.position, "reason": error.reason, "remedy": error.remedy}
            _send(stream, reason)


def _grant_patience() -> None:
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)


def _send(stream: IO[bytes], head: dict[str, Any], *arrays: np.ndarray) -> None:
    """Sends at once, so that the last frame that arrived tells where the decoder died."""
    content = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(content)) + content)
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()
