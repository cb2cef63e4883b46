"""Processor time counts what others do for a process, and not what it waits for."""

import subprocess
import sys
import time

from sciwm.training.processor_time import processor_seconds

SPIN = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
"""Works for half a second, says so, and lives on."""

ONE_BELOW = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])"
"""The same in a process below."""


def counted(*command):
    """Seconds that are counted of a child while it lives, after it has ended, and by a clock without it."""
    before, alone = processor_seconds(), time.process_time()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        living = processor_seconds() - before
        child.communicate("\n")
    return living, processor_seconds() - before, time.process_time() - alone


def test_what_lives_and_what_has_ended_is_counted_once():
    for code in (SPIN, ONE_BELOW):
        living, ended, alone = counted(sys.executable, "-c", code)
        # The system counts living processes in hundredths of a second.
        assert living > 0.48
        assert living - 0.05 < ended < living + 0.5
        assert alone < 0.3


def test_waiting_is_not_counted():
    living, ended, _ = counted(sys.executable, "-c", "import time; time.sleep(1); print(); input()")
    assert living < 0.5
    assert ended < 0.5
