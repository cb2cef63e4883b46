"""One case in a process of its own, and what became of it.

The process is a fork of one that has loaded everything, so that a case costs what it does and not what Python
takes to start. It may crash, hang, or ask for all memory there is: it is watched from outside.
"""

import contextlib
import ctypes
import faulthandler
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 20.0
"""Seconds of a processor that a case may take. On the clock, which other work on the machine slows down, it
has `PATIENCE` times as long: what waits for its turn, or for processes that it has started, is no hang."""

PATIENCE = 15.0

MEMORY = 4 << 30
"""Bytes beyond what everything loaded takes."""

FILE_SIZE = 1 << 30

ENDED = (0, 1, 3)
"""Statuses of commands that did their work; 1 is a check that fails, 3 a simulation that stopped early."""

REFUSED = 2
IMPLAUSIBLE = 71
RAISED = 70

FAILURES = ("crash", "traceback", "hang", "implausible", "unclear error")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        verdict: "ok", "clear error" or one of `FAILURES`.
        where: Of failures, what tells one fault from another: the exception or signal, and the innermost
            line of ours that was being run.
        said: The end of what was written to the standard error.
    """

    verdict: str
    where: str
    said: str


class Inmate:
    """A case that runs.

    Args:
        act: What to do; its result is the exit status.
        folder: To do it in; what it says goes to two files beside the folder.
        longest: Processor seconds that it may take.
    """

    def __init__(self, act: Callable[[], int], folder: Path, longest: float = LONGEST):
        self._said = folder.with_name(folder.name + ".stderr")
        self._until = time.monotonic() + PATIENCE * longest
        self._late = False
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _live(act, folder, self._said, longest)

    def outcome(self) -> Outcome | None:
        """What became of it; None while it runs."""
        pid, status, _ = os.wait4(self._pid, os.WNOHANG)
        if pid == 0:
            now = time.monotonic()
            if now > self._until + 1:
                os.killpg(self._pid, signal.SIGKILL)
            elif now > self._until and not self._late:
                self._late = True
                os.kill(self._pid, signal.SIGXCPU)  # it tells where it is before it dies
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # what it may have started
        said = self._said.read_text(errors="replace")
        self._said.unlink()
        return judged(os.waitstatus_to_exitcode(status), said, self._late)


def judged(status: int, said: str, late: bool = False) -> Outcome:
    """The outcome of a process by its exit status, negative for signals, and standard error."""
    if late or status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Outcome("hang", _innermost(said), said[-3000:])
    if status < 0:
        return Outcome("crash", f"{signal.Signals(-status).name} {_innermost(said)}", said[-3000:])
    if status == IMPLAUSIBLE:
        return Outcome("implausible", said.strip().rpartition("\n")[2], said[-3000:])
    if "Traceback (most recent call last)" in said:
        return Outcome("traceback", f"{_raised(said)} {_innermost(said)}", said[-3000:])
    if status in ENDED:
        return Outcome("ok", "", said[-500:])
    message = said[max(said.rfind("\nsciwm "), said.rfind("error: "), 0) :].strip()
    if status == REFUSED and message and "\n\n" not in message and len(message) < 3000:
        return Outcome("clear error", "", message)
    first = (
        re.sub(r"(['\"]).*?\1", "...", message.splitlines()[0])[:80] if message else "nothing said"
    )
    return Outcome("unclear error", f"status {status}: {first}", said[-3000:])


def _live(act: Callable[[], int], folder: Path, said: Path, longest: float) -> None:
    """The life of the child, which never returns."""
    status = RAISED
    try:
        os.setsid()
        # Whoever waits for it may die first.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        for name, place in (("TMPDIR", "tmp"), ("SCIWM_CACHE", "cache")):
            os.environ[name] = str(folder / place)
            (folder / place).mkdir(exist_ok=True)
        tempfile.tempdir = None
        # What starts Python anew would otherwise load all that the fuzz needs.
        sys.modules["__main__"] = types.ModuleType("__main__")
        faulthandler.enable()
        faulthandler.register(signal.SIGXCPU, chain=True)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        seconds = round(longest)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
        status = act()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _raised(said: str) -> str:
    """The kind of the last exception that was printed."""
    kinds = re.findall(
        r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Warning|Exit)?)(?::|$)", said, re.M
    )
    named = [kind for kind in kinds if kind not in ("Traceback", "File")]
    return named[-1].rpartition(".")[2] if named else "?"


def _innermost(said: str) -> str:
    """The innermost line of the package in the last traceback, printed by Python or by its fault handler."""
    dumped = "(most recent call first)" in said
    tail = said[said.rfind("(most recent call") :]
    places = re.findall(r'File "[^"]*?/(sciwm/[^"]+)", line (\d+),? in (\S+)', tail)
    if not places:
        return "outside the package"
    file, line, name = places[0 if dumped else -1]
    return f"{file}:{line} {name}"
