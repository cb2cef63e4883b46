"""Screening: every molecule of a library judged once, in flat memory, and resumed after a kill.

Rows are read in blocks, judged in worker processes, and written in the order of the library. A small file
beside the output says how many lines and bytes are done; what a killed process wrote beyond that is cut
off and done again.
"""

import csv
import hashlib
import heapq
import io
import itertools
import json
import math
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem
from tqdm import tqdm

from sciwm.core.frame import Array
from sciwm.discovery.calibration import Conformal
from sciwm.discovery.descriptors import DESCRIPTORS
from sciwm.discovery.gates import Gates
from sciwm.discovery.hypothesis import Failure
from sciwm.discovery.objective.objective import Objective
from sciwm.discovery.oracle.construction import Description, construct
from sciwm.discovery.outcomes.outcome import Outcome
from sciwm.discovery.outcomes.recipes import recipes_for
from sciwm.discovery.predictors.predictor import Predictor
from sciwm.discovery.proposers.library import Row, read_library

BLOCK = 500
"""Rows that a worker judges at a time."""

AHEAD = 3
"""Blocks that wait for each worker, at most."""

PROGRESS = ".progress.json"

FIXED = ("line", "smiles", "problem", "flag")


@dataclass(frozen=True)
class Screening:
    """What is asked of every molecule.

    Attributes:
        objective: Such as "maximize electron_affinity; require sa_score < 4".
        models: Trained worlds, as run folders or model files, in which outcomes are imagined; several
            make an ensemble.
        table: CSV file of measured molecules, with columns named as outcomes: intervals are
            calibrated by it, and where there are no models outcomes are predicted from it alone.
        units: Of outcomes that only the table knows, by name.
        outcomes: Recipes; those that the objective names where absent.
        gates: What molecules must pass.
        seed: Of conformers, velocities and noise.
    """

    objective: str
    models: list[str] = field(default_factory=list)
    table: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    outcomes: list[Description] = field(default_factory=list)
    gates: list[Description] = field(default_factory=list)
    seed: int = 0


class Judge:
    """Predicts, scores and flags molecules as a `Screening` says.

    Raises:
        ValueError: If there is nothing to predict with, or the objective cannot be read.
    """

    def __init__(self, screening: Screening):
        descriptions = screening.outcomes or recipes_for(screening.objective)
        recipes: list[Outcome] = [construct(one) for one in descriptions]
        units = {name: one.unit for name, one in DESCRIPTORS.items()}
        units |= {one.name: one.unit for one in recipes} | screening.units
        self.objective = Objective.parse(screening.objective, units)
        self.outcomes = tuple(n for n in self.objective.outcomes if n not in DESCRIPTORS)
        self.exact = tuple(n for n in self.objective.outcomes if n in DESCRIPTORS)
        self._gates = Gates([construct(one) for one in screening.gates])
        self._intervals = {name: Conformal() for name in self.outcomes}
        self._predictor: Predictor | None = None
        if self.outcomes and not (screening.models or screening.table):
            raise ValueError(
                f"nothing to predict {', '.join(self.outcomes)} with; name models that imagine "
                "it, or a table of measured molecules"
            )
        measured = _measured(screening.table, self.outcomes) if screening.table else None
        if screening.models:
            from sciwm.discovery.predictors.imagined import ImaginedOutcomes  # brings torch

            wanted = [one for one in recipes if one.name in self.outcomes]
            self._predictor = ImaginedOutcomes.load(screening.models, wanted, screening.seed)
            if measured is not None:
                smiles, values = measured
                said = self._predictor.predict(smiles)
                self._calibrate(said.mean, said.spread, values)
        elif measured is not None and self.outcomes:
            from sciwm.discovery.predictors.tanimoto import TanimotoGaussianProcess

            process = TanimotoGaussianProcess(self.outcomes)
            process.fit(*measured)
            said = process.leave_one_out()
            self._calibrate(said.mean, said.spread, measured[1])
            self._predictor = process

    def header(self) -> list[str]:
        """Columns of what is found, in order."""
        ends = [f"{name}{end}" for name in self.outcomes for end in ("", "_lower", "_upper")]
        goals = [f"score_{k + 1}" for k in range(len(self.objective.goals))]
        return [*ends, *self.exact, *(goals if len(goals) > 1 else ["score"]), "feasible"]

    def judge(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """A record for each row, with a problem where there is nothing else to tell."""
        found: list[dict[str, Any]] = []
        sound: list[tuple[int, Chem.Mol, str]] = []
        for n, row in enumerate(rows):
            record: dict[str, Any] = {"line": row.line, "smiles": row.smiles, **row.columns}
            molecule, failure = None, None
            if row.problem is None:
                molecule, failure = self._gates.judge(row.smiles)
            problem = row.problem or (failure and _told(failure))
            record["problem"] = problem or ""
            found.append(record)
            if molecule is not None:
                sound.append((n, molecule, Chem.MolToSmiles(molecule)))
        if sound:
            self._fill(found, sound)
        return found

    def _fill(
        self, found: list[dict[str, Any]], sound: Sequence[tuple[int, Chem.Mol, str]]
    ) -> None:
        smiles = [one for _, _, one in sound]
        values: dict[str, Array] = {
            name: np.array([DESCRIPTORS[name].function(molecule) for _, molecule, _ in sound])
            for name in self.exact
        }
        ends: dict[str, tuple[Array, Array]] = {}
        flags: list[str | None] = [None] * len(sound)
        if self._predictor is not None:
            said = self._predictor.predict(smiles)
            flags = said.flags
            for name in self.outcomes:
                k = self._predictor.outcomes.index(name)
                values[name] = said.mean[:, k]
                ends[name] = self._intervals[name].interval(said.mean[:, k], said.spread[:, k])
        scores = self.objective.evaluate(values)
        feasible = self.objective.feasible(values)
        goals = [name for name in self.header() if name.startswith("score")]
        for n, (place, _, _) in enumerate(sound):
            record = found[place]
            record |= {name: _plain(column[n]) for name, column in values.items()}
            for name, (lower, upper) in ends.items():
                record |= {
                    f"{name}_lower": _plain(lower[n]),
                    f"{name}_upper": _plain(upper[n]),
                }
            record |= {name: _plain(scores[n, g]) for g, name in enumerate(goals)}
            record["feasible"] = int(feasible[n])
            record["flag"] = flags[n] or ""

    def _calibrate(self, mean: Array, spread: Array, values: Array) -> None:
        for k, name in enumerate(self.outcomes):
            self._intervals[name].update(mean[:, k], spread[:, k], values[:, k])


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
    screening: Screening, library: Path, out: Path, workers: int = 1, limit: int | None = None
) -> Tally:
    """Judges a library into a CSV file, or goes on where that was interrupted.

    Args:
        out: The table; what was in its row, then what was found.
        workers: Processes.
        limit: Rows to stop after.

    Raises:
        ValueError: If the output belongs to another screening, or `Judge` refuses this one.
        FileNotFoundError: If there is no library.
    """
    judge = Judge(screening)  # mistakes show here, before any process starts
    columns = _columns(library, judge)
    state = _State.of(out, _identity(screening, library))
    mode = "r+b" if state.bytes else "wb"
    with open(out, mode) as file, _pool(screening, workers) as pool:
        if state.bytes:
            file.truncate(state.bytes)
            file.seek(state.bytes)
        else:
            file.write(_text(columns, None))
        total = None if limit is None else limit
        bar = tqdm(total=total, initial=state.rows, unit="row", delay=1.0, unit_scale=True)
        try:
            for records, resume in _judged(judge, pool, _blocks(library, state, limit), workers):
                file.write(_text(columns, records))
                file.flush()
                os.fsync(file.fileno())
                state = state.after(records, resume, file.tell())
                state.save(out)
                bar.update(len(records))
        finally:
            bar.close()
    done = limit is None or state.rows < limit
    return Tally(state.rows, state.problems, state.flagged, done)


def best(out: Path, n: int = 10) -> list[dict[str, str]]:
    """The rows of a finished table with the highest (first) score that are feasible and not flagged."""
    with open(out, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        name = "score" if "score" in (reader.fieldnames or []) else "score_1"
        worth = (
            (float(row[name]), -k, row)
            for k, row in enumerate(reader)
            if row[name] and row["feasible"] == "1" and not row["flag"]
        )
        return [row for _, _, row in heapq.nlargest(n, worth, key=lambda one: one[:2])]


def to_parquet(out: Path, target: Path) -> None:
    """The same table as Parquet, converted block by block.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet needs pyarrow; pip install 'sciwm[parquet]', or name a .csv file"
        ) from error
    with open(out, newline="", encoding="utf-8") as file:
        names = next(csv.reader(file))
    # Types are fixed beforehand: a block of empty cells must not decide them.
    numbers = {"line": pyarrow.int64(), "feasible": pyarrow.int8()}
    words = {"smiles", "problem", "flag"}
    found = names.index("problem")
    kinds = {}
    for place, name in enumerate(names):
        text = name in words or place < found
        kinds[name] = numbers.get(name, pyarrow.string() if text else pyarrow.float64())
    options = pyarrow.csv.ConvertOptions(column_types=kinds)
    partial = target.with_name(target.name + ".partial")
    with (
        pyarrow.csv.open_csv(out, convert_options=options) as reader,
        pyarrow.parquet.ParquetWriter(partial, reader.schema) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
    os.replace(partial, target)


@dataclass(frozen=True)
class _State:
    """How far a screening has come."""

    identity: str
    resume: int = 0
    bytes: int = 0
    rows: int = 0
    flagged: int = 0
    problems: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(out: Path, identity: str) -> "_State":
        path = out.with_name(out.name + PROGRESS)
        if not path.is_file():
            if out.exists():
                raise ValueError(
                    f"{out} exists and is no unfinished screening; move it, or name another output"
                )
            return _State(identity)
        state = _State(**json.loads(path.read_text()))
        if state.identity != identity:
            raise ValueError(
                f"{out} was begun with another library, objective or model; name another output"
            )
        if not out.is_file() or out.stat().st_size < state.bytes:
            raise ValueError(
                f"{out} is shorter than {path.name} says: it was changed. Remove both to start anew"
            )
        return state

    def after(self, records: Sequence[dict[str, Any]], resume: int, size: int) -> "_State":
        problems = Counter(self.problems)
        problems.update(_kind(one["problem"]) for one in records if one["problem"])
        flagged = self.flagged + sum(bool(one.get("flag")) for one in records)
        return _State(
            self.identity, resume, size, self.rows + len(records), flagged, dict(problems)
        )

    def save(self, out: Path) -> None:
        path = out.with_name(out.name + PROGRESS)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(asdict(self)))
        os.replace(partial, path)


def _identity(screening: Screening, library: Path) -> str:
    size = library.stat().st_size if library.is_file() else 0
    content = json.dumps([asdict(screening), library.name, size], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _columns(library: Path, judge: Judge) -> list[str]:
    """Those of the library's first sound row come first."""
    given: list[str] = []
    for row in itertools.islice(read_library(library), 100):
        if row.problem is None:
            given = [name for name in row.columns if name not in FIXED]
            break
    return ["line", "smiles", *given, "problem", *judge.header(), "flag"]


def _blocks(library: Path, state: _State, limit: int | None) -> Iterator[list[Row]]:
    left = math.inf if limit is None else limit - state.rows
    rows = read_library(library, start=state.resume)
    while left > 0:
        block = list(itertools.islice(rows, int(min(BLOCK, left))))
        if not block:
            return
        left -= len(block)
        yield block


def _judged(
    judge: Judge, pool: ProcessPoolExecutor | None, blocks: Iterator[list[Row]], workers: int
) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Records of each block in order, and the line to resume from after it."""
    if pool is None:
        for block in blocks:
            yield judge.judge(block), block[-1].resume
        return
    waiting: deque[tuple[Future[list[dict[str, Any]]], int]] = deque()
    for block in blocks:
        waiting.append((pool.submit(_judge_block, block), block[-1].resume))
        if len(waiting) >= AHEAD * workers:
            future, resume = waiting.popleft()
            yield future.result(), resume
    for future, resume in waiting:
        yield future.result(), resume


class _pool:
    """Worker processes with a judge each; none for one worker."""

    def __init__(self, screening: Screening, workers: int):
        if workers < 1:
            raise ValueError(f"a screening needs at least one worker, got {workers=}")
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _begin, (screening,))

    def __enter__(self) -> ProcessPoolExecutor | None:
        return self._pool

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


_judge: Judge | None = None


def _begin(screening: Screening) -> None:
    global _judge
    _judge = Judge(screening)


def _judge_block(rows: list[Row]) -> list[dict[str, Any]]:
    assert _judge is not None
    return _judge.judge(rows)


def _measured(table: str, names: Sequence[str]) -> tuple[list[str], Array]:
    """SMILES and (N, K) values of a table, NaN where a cell is empty.

    Raises:
        ValueError: If an outcome has no column, or a cell holds no number.
    """
    smiles, values = [], []
    for row in read_library(table):
        if row.problem is not None:
            continue
        missing = [name for name in names if name not in row.columns]
        if missing:
            raise ValueError(
                f"{table} has no column {missing[0]!r}; it has {', '.join(row.columns)}. Name its "
                "columns as the objective does"
            )
        cells = [row.columns[name].strip() for name in names]
        try:
            values.append([float(cell) if cell else math.nan for cell in cells])
        except ValueError as error:
            raise ValueError(f"{table}, line {row.line}: {error}") from error
        smiles.append(row.smiles)
    return smiles, np.array(values, dtype=np.float64).reshape(len(smiles), len(names))


def _text(columns: Sequence[str], records: Sequence[dict[str, Any]] | None) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
    if records is None:
        writer.writeheader()
    else:
        writer.writerows(records)
    return stream.getvalue().encode()


def _plain(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _told(failure: Failure) -> str:
    return f"{failure.stage}: {failure.reason}"


def _kind(problem: str) -> str:
    return problem.partition(":")[0]
