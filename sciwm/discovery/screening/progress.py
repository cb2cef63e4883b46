"""How far a screening has come, in a small file beside its table.

What a killed process wrote to the table beyond that is cut off and done again, so that no row is
missing and none is there twice.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

from sciwm.core.replacement import replacing
from sciwm.discovery.screening.judge import Record, Screening
from sciwm.evaluation.run import model_file

ENDING = ".progress.json"


@dataclass(frozen=True)
class Progress:
    """What is done and safe on disk.

    Attributes:
        identity: Of the screening and its library.
        resume: Lines of the library.
        size: Bytes of the table.
        rows: Judged.
        flagged: Of them.
        problems: By kind, and how many.
        ended: Whether the library came to its end.
    """

    identity: str
    resume: int = 0
    size: int = 0
    rows: int = 0
    flagged: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    ended: bool = False

    @staticmethod
    def of(out: Path, identity: str) -> "Progress":
        """That of an earlier process, or none.

        Raises:
            ValueError: If the table is of another screening, or was changed.
        """
        path = progress_file(out)
        if not path.is_file():
            if out.exists():
                raise ValueError(
                    f"{out} exists and is no screening that could go on; move it, or name another output"
                )
            return Progress(identity)
        try:
            progress = Progress(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove it and {out.name} to start anew"
            ) from error
        if progress.identity != identity:
            raise ValueError(
                f"{out} was begun with another library, objective, table, model or limit of the gates; "
                "name another output"
            )
        if progress.size and (not out.is_file() or out.stat().st_size < progress.size):
            raise ValueError(
                f"{out} is shorter than {path.name} says: it was changed. Remove both to start anew"
            )
        return progress

    def after(self, records: Sequence[Record], resume: int) -> "Progress":
        """With more rows, which begin to count when `save` has been called."""
        problems = Counter(self.problems)
        problems.update(kind(one["problem"]) for one in records if one.get("problem"))
        flagged = self.flagged + sum("flag" in one for one in records)
        return replace(
            self,
            resume=resume,
            rows=self.rows + len(records),
            flagged=flagged,
            problems=dict(problems),
        )

    def save(self, out: Path, table: IO[bytes] | None = None) -> "Progress":
        """From here on it outlives a kill, and a failure of power.

        Args:
            table: All rows so far; none are written where absent.
        """
        progress = self
        if table is not None:
            table.flush()
            os.fsync(table.fileno())
            progress = replace(self, size=table.tell())
        with replacing(progress_file(out)) as file:
            file.write(json.dumps(asdict(progress)).encode())
        return progress


def progress_file(out: Path) -> Path:
    """Beside the table."""
    return out.with_name(out.name + ENDING)


def kind(problem: str) -> str:
    """Without what differs from one molecule to the next."""
    parts = problem.split(": ")
    return ": ".join(parts[:2]) if parts[0] == "gate" else parts[0]


def identity_of(screening: Screening, library: Path) -> tuple[str, int]:
    """A hash of all that the table depends on, and how many lines the library has.

    Raises:
        FileNotFoundError: If a file is missing.
    """
    digest, lines = _content(library)
    files = [model_file(one) for one in screening.models]
    files += [Path(screening.table)] if screening.table else []
    asked = asdict(screening) | {"models": len(screening.models), "table": bool(screening.table)}
    content = json.dumps([asked, digest, *(_content(one)[0] for one in files)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest(), lines


def _content(path: Path) -> tuple[str, int]:
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    return digest.hexdigest(), lines
