"""Who runs a task: a process that can be told from a later one with the same number."""

import json
import os
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

GRACE = 60.0
"""Seconds beyond its time limit after which a run counts as over: clocks of machines differ."""


@dataclass(frozen=True)
class Owner:
    """The process that works on a task.

    Attributes:
        host: Its machine.
        pid: Its number there.
        birth: When it started, in the words of its operating system: numbers are given again.
        since: When the task was begun, in seconds since 1970.
        clock: The same on a clock of the machine that nobody sets; None in signs of older versions.
    """

    host: str
    pid: int
    birth: str
    since: float
    clock: float | None = None

    @classmethod
    def here(cls) -> "Owner":
        """This process, from now on."""
        pid = os.getpid()
        birth = birth_of(pid) or ""
        return cls(socket.gethostname(), pid, birth, time.time(), time.monotonic())

    def at_work(self, timeout: float) -> bool:
        """Whether an answer may still come.

        On another machine nobody can see whether the process lives, so only time tells.

        Args:
            timeout: Seconds that a task may take.
        """
        here = self.host == socket.gethostname()
        if here and birth_of(self.pid) != self.birth:
            return False
        return self.seconds() <= timeout + GRACE

    def seconds(self) -> float:
        """For how long it has worked, whatever was done to the time of day meanwhile.

        That cannot be helped for another machine, and for a process that a restart has ended.
        """
        if self.clock is not None and self.host == socket.gethostname():
            passed = time.monotonic() - self.clock
            if passed >= 0:
                return passed
        return max(time.time() - self.since, 0.0)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Owner":
        """Raises ValueError if it is none."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not an owner: {error}") from error


def birth_of(pid: int) -> str | None:
    """When a process of this machine started; None if it does not run, or is dead but unburied."""
    if Path("/proc/self/stat").exists():
        try:
            content = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name before the last bracket may hold spaces; fields as in proc(5), from the third on.
        fields = content.rpartition(")")[2].split()
        state, birth = fields[0], fields[19]
    else:
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        shown = subprocess.run(command, capture_output=True, text=True).stdout
        state, _, birth = shown.strip().partition(" ")
    return birth.strip() if birth and state[0] not in "ZX" else None
