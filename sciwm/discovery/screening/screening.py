"""Screening: every molecule of a library judged once, in flat memory, and resumed after a kill.

Rows are read in blocks, judged in worker processes, and written in the order of the library. A molecule
that ends its process, or that never ends, is found out and told; the others go on.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sciwm.core.bounds import MOST_WORKERS, require_counts
from sciwm.core.file_lock import FileLock
from sciwm.core.progress import Bar
from sciwm.discovery.experiment.oracle.parsl_executor import Cluster
from sciwm.discovery.planners.proposers.library import LibraryRecord, read_library
from sciwm.discovery.screening.judge import Judge, Record, Screening
from sciwm.discovery.screening.progress import Progress, identity_of
from sciwm.discovery.screening.table import Table, require_scores
from sciwm.discovery.screening.workers import ClusterWorkers, LocalWorkers, Workers

BLOCK = 500
"""Rows that a worker judges at a time from a table of measurements."""

IMAGINED_BLOCK = 32
"""Rows that a worker judges at a time where it has to imagine them."""

AHEAD = 3
"""Blocks that wait for each worker, at most."""

SAVED_EVERY = 1.0
"""Seconds of work that a kill may cost."""

HEAD = 1000
"""Rows in which the columns of a library must show."""


@dataclass(frozen=True)
class Tally:
    """What a screening came to.

    Attributes:
        rows: Read.
        problems: By kind, and how many.
        flagged: Predicted, and not to be trusted.
        done: Whether the library came to its end.
    """

    rows: int
    problems: dict[str, int]
    flagged: int
    done: bool


def screen(
    screening: Screening,
    library: Path,
    out: Path,
    workers: int = 1,
    limit: int | None = None,
    smiles_column: str | None = None,
    cluster: Cluster | None = None,
) -> Tally:
    """Judges a library into a CSV file, or goes on where that was interrupted.

    Args:
        library: As for `read_library`.
        out: The table: what was in the row of a library, then what was found.
        workers: Processes of this machine.
        limit: Rows to stop after; a later call may go on.
        smiles_column: As for `read_library`.
        cluster: Whose nodes judge instead; they see the same files.

    Raises:
        ValueError: If the output belongs to another screening or another process writes it, or `Judge`
            refuses this one; at the end, if not one row has a score.
        FileNotFoundError: If there is no library.
    """
    require_counts(most=MOST_WORKERS, workers=workers)
    require_counts(limit=limit)
    head = list(itertools.islice(read_library(library, smiles_column), HEAD))
    judge = Judge(screening)  # mistakes show here, before any process starts
    given = dict.fromkeys(name for row in head for name in row.columns)
    table = Table(list(given), judge.header())
    identity, lines = identity_of(screening, library)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out.with_name(out.name + ".lock"))
    except BlockingIOError as error:
        raise ValueError(
            f"another process is writing {out}; wait, or name another output"
        ) from error
    try:
        progress = Progress.of(out, identity)
        if not progress.size:
            progress.save(out)  # from here on what is in `out` is known to be ours
        blocks = _blocks(library, smiles_column, progress, screening, limit)
        total = limit or (None if ".sdf" in library.suffixes or library.suffix == ".gz" else lines)
        team: Workers
        if cluster is None:
            team = LocalWorkers(screening, judge.learnt, workers)
        else:
            team = ClusterWorkers(screening, cluster, out.with_name(out.name + ".parsl"))
        try:
            progress = _continued(progress, table, out, _judged(team, blocks), total)
        finally:
            team.close()
        if limit is None or progress.rows < limit:
            progress = replace(progress, ended=True).save(out)
    finally:
        lock.release()
    if progress.rows:
        require_scores(out)
    return Tally(progress.rows, progress.problems, progress.flagged, progress.ended)


def _continued(
    progress: Progress,
    table: Table,
    out: Path,
    judged: Iterator[tuple[list[LibraryRecord], list[Record]]],
    total: int | None,
) -> Progress:
    with (
        open(out, "r+b" if progress.size else "wb") as file,
        Bar(total=total, initial=progress.rows, unit="row", unit_scale=True, delay=1.0) as bar,
    ):
        file.truncate(progress.size)
        file.seek(progress.size)
        if not progress.size:
            file.write(table.head())
        saved = time.monotonic()
        for rows, records in judged:
            file.write(table.rows(rows, records))
            progress = progress.after(records, rows[-1].resume)
            bar.update(len(rows))
            if time.monotonic() - saved > SAVED_EVERY:
                progress = progress.save(out, file)
                saved = time.monotonic()
        return progress.save(out, file)


def _blocks(
    library: Path,
    smiles_column: str | None,
    progress: Progress,
    screening: Screening,
    limit: int | None,
) -> Iterator[list[LibraryRecord]]:
    left = math.inf if limit is None else limit - progress.rows
    size = IMAGINED_BLOCK if screening.models else BLOCK
    rows = read_library(library, smiles_column, progress.resume)
    while left > 0 and (block := list(itertools.islice(rows, int(min(size, left))))):
        left -= len(block)
        yield block


def _judged(
    team: Workers, blocks: Iterator[list[LibraryRecord]]
) -> Iterator[tuple[list[LibraryRecord], list[Record]]]:
    """Each block with its records, in order."""
    waiting: deque[tuple[list[LibraryRecord], Future[list[Record]]]] = deque()
    for rows in blocks:
        readable = [row.smiles for row in rows if row.problem is None]
        waiting.append((rows, team.judged(readable)))
        if len(waiting) >= AHEAD * team.count:
            yield _collect(team, *waiting.popleft())
    while waiting:
        yield _collect(team, *waiting.popleft())


def _collect(
    team: Workers, rows: list[LibraryRecord], future: Future[list[Record]]
) -> tuple[list[LibraryRecord], list[Record]]:
    try:
        found = future.result()
    except Exception as error:  # of the molecule, or of a process that it took along
        found = _one_by_one(team, [row.smiles for row in rows if row.problem is None], error)
    judged = iter(found)
    return rows, [
        next(judged) if row.problem is None else {"problem": f"reading: {row.problem}"}
        for row in rows
    ]


def _one_by_one(team: Workers, smiles: Sequence[str], error: Exception) -> list[Record]:
    found: list[Record] = []
    lost = 0
    for one in smiles:
        try:
            found += _alone(team, one)
        except Exception as failure:
            error, lost = failure, lost + 1
            found.append({"problem": f"worker: {type(failure).__name__}: {failure}"})
    if lost == len(smiles) > 1:
        raise error  # no molecule is at fault
    return found


def _alone(team: Workers, smiles: str) -> list[Record]:
    for _ in range(team.tries - 1):
        with suppress(Exception):
            return team.judged([smiles]).result()
    return team.judged([smiles]).result()
