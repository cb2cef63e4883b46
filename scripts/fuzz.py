"""Hostile input for every way in: does anything crash, hang, raise, or accept what cannot be?

Importers get damaged files of every format, those of ../shared/data/md_formats among them; commands get
damaged model files, H5MD files and jobs, random objectives, and odd values for every option. Each case runs
in a process of its own. Distinct failures are listed with a file each that `--replay` runs again and shows.

    python scripts/fuzz.py [--minutes 10] [--seed 1] [--json_file FILE]
    python scripts/fuzz.py --replay runs/fuzz/FILE
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.session import FAILURES, Session, replayed
from jsonargparse import auto_cli


def main(
    minutes: float = 10.0,
    cases: int | None = None,
    seed: int = 1,
    only: list[str] | None = None,
    jobs: int = 2,
    replay: str | None = None,
    json_file: str | None = None,
    folder: str = "runs/fuzz",
) -> None:
    """Prints counts and failures, and ends with status 1 if there were any.

    Args:
        minutes: How long.
        cases: How many, instead of how long.
        seed: Of all of them; the same seed gives the same cases.
        only: Families: import, stored, model, objective, job, option.
        jobs: Cases at a time.
        replay: A file that an earlier call left, to be run again alone.
        json_file: Where to write the counts as JSON too.
        folder: Where the files of failures go.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        if replay is not None:
            outcome = replayed(Path(replay), Path(scratch))
            print(f"{outcome.verdict}: {outcome.where}\n{outcome.said}")
            sys.exit(outcome.verdict in FAILURES)
        session = Session(Path(scratch), Path(folder), seed, only)
        print(f"seed {seed}, {len(session.samples)} sources", flush=True)
        end = time.monotonic() + 60 * minutes
        number = 0
        while number < cases if cases is not None else time.monotonic() < end:
            session.begin(number, jobs)
            number += 1
        session.finish()
    for verdict, families in session.counts().items():
        print(f"{verdict:14s}" + ", ".join(f"{count} {name}" for name, count in families.items()))
    print(
        f"{len(session.failures)} distinct failures"
        + (f", in {folder}" if session.failures else "")
    )
    for failure, (file, count) in sorted(session.failures.items()):
        print(f"  {failure} ({count} times): {file}")
    if json_file:
        content = {"seed": seed, "cases": number, "counts": session.counts()}
        content["failures"] = {failure: count for failure, (_, count) in session.failures.items()}
        Path(json_file).write_text(json.dumps(content, indent=1, ensure_ascii=False))
    sys.exit(bool(session.failures))


if __name__ == "__main__":
    auto_cli(main)
