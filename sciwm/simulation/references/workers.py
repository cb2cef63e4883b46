"""Worker processes that compute for a reference, and the handle that it holds on one.

Quantum chemistry programs are not safe to call from several threads, spin when they are given more
than one, and a crash inside them takes their process along. So every worker is a process of its own
with one thread, started as `python -m ENGINE` with no trace of the parent's modules (it never loads
torch), and answering one JSON line for each it reads. JSON carries doubles exactly.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, Protocol

Request = dict[str, Any]
Reply = dict[str, Any]

_REMEMBERED = 256
"""Systems whose wave function a worker keeps as the start of their next calculation."""

_MOVING = frozenset({"positions", "lattice"})
"""What changes from one question about a system to the next."""


class Engine(Protocol):
    """What computes in a worker process."""

    def answer(self, request: Request) -> Reply:
        """Either `energy`, `gradient` and whatever else is known, in hartree, bohr and e, or `error`.

        An error is the reason in words; `converged` is then false if the electronic structure is it.

        Args:
            request: `system` (any number: requests of one system share wave functions), `numbers`,
                `positions` in bohr, `charge`, `unpaired`, and the engine's settings.
        """


class WaveFunctions:
    """The last wave function of each system, as the start of the next calculation; the newest ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Any] = OrderedDict()

    def take(self, request: Request) -> Any:
        """What was kept of this system, if it was asked with these settings; None otherwise.

        It is forgotten, so that what a failure leaves behind cannot spoil the next try.
        """
        return self._known.pop(_key(request), None)

    def keep(self, request: Request, value: Any) -> None:
        self._known[_key(request)] = value
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _key(request: Request) -> str:
    fixed = {name: value for name, value in request.items() if name not in _MOVING}
    return json.dumps(fixed, sort_keys=True)


class WorkerDied(RuntimeError):
    """The process ended before it answered."""


class WorkerTimeout(RuntimeError):
    """No answer within the time limit; the process was ended."""


class Worker:
    """One process, started at the first question and again after it died.

    Args:
        engine: The module that it runs, which ends in a call of `serve`.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: IO[bytes] | None = None
        self._finalizer: weakref.finalize | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None else None

    def ask(self, request: Request, timeout: float) -> Reply:
        """The worker's reply.

        Args:
            timeout: Seconds.

        Raises:
            WorkerDied: If the process ended; the next question starts another.
            WorkerTimeout: If it took too long; likewise.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self.close()
            raise WorkerTimeout(f"no answer within {timeout:g} s") from None
        except BrokenPipeError:
            line = ""
        except BaseException:
            # Interrupted between question and answer: a later answer would be taken for another's.
            self.close()
            raise
        if not line:
            status, last = self._process.wait(), self._last_words()
            self.close()
            raise WorkerDied(f"the process ended with status {status}; its last words: {last!r}")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        if self._finalizer is not None:
            self._finalizer()
        self._process = None
        self._finalizer = None

    def _start(self) -> None:
        # The child must find this very package, however the parent came by it.
        package = str(Path(__file__).parents[3])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed when the process ends
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self._lines = queue.SimpleQueue()
        reader = threading.Thread(
            target=_read_lines, args=(self._process.stdout, self._lines), daemon=True
        )
        reader.start()
        self._finalizer = weakref.finalize(self, _end, self._process, reader, self._errors)

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]


def _read_lines(stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _end(process: "subprocess.Popen[str]", reader: threading.Thread, errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    reader.join()
    for stream in (process.stdin, process.stdout):
        # What a dead process did not read cannot be flushed, and need not be.
        try:
            if stream is not None:
                stream.close()
        except BrokenPipeError:
            pass
    errors.close()


def serve(engine: Engine) -> None:
    """Answers the requests on standard input, until that is closed."""
    import signal

    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Replies have standard output to themselves: whatever the library prints goes to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        replies.write(json.dumps(engine.answer(json.loads(line))) + "\n")
        replies.flush()
    # Without interpreter shutdown, in which live calculators complain.
    os._exit(0)
