"""Processor time of this process and of those it started."""

import os
import resource
import time
from collections import defaultdict
from pathlib import Path


def processor_seconds() -> float:
    """What this process and those it started have taken of processors so far.

    Compilers run in processes of their own, and some of them wait for more work: the system adds a child
    to its parent only once it has ended. Those that live are counted where there is /proc.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = _ticks_below(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def _ticks_below(ancestor: int) -> int:
    """Clock ticks of all living descendants of a process, with what they had of children that ended."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before it may hold anything; `man 5 proc` numbers the fields from there.
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parent, spent = int(fields[1]), sum(map(int, fields[11:15]))
        children[parent].append((int(file.parent.name), spent))
    total, waiting = 0, [ancestor]
    while waiting:
        for child, spent in children[waiting.pop()]:
            total += spent
            waiting.append(child)
    return total
