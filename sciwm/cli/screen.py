"""`sciwm screen`: a ranked table from a library of molecules."""


def screen(
    library: str,
    *,
    objective: str,
    out: str,
    model: list[str] | None = None,
    table: str | None = None,
    units: dict[str, str] | None = None,
    alerts: bool = False,
    max_heavy: int = 50,
    workers: int = 1,
    limit: int | None = None,
    top: int = 10,
    seed: int = 0,
) -> int:
    """Judges every molecule of a library, in flat memory; the same command continues a broken run.

    The table holds the columns of the library, and for each molecule the outcomes with 90 % intervals,
    the score, and a flag where the prediction is not to be trusted. Rows that cannot be used come with
    their problem and never stop it.

    Args:
        library: A .smi, .csv, .tsv or .sdf file, which may be gzipped.
        objective: Such as "maximize electron_affinity; require sa_score < 4".
        out: The table, .csv or .parquet.
        model: Run folders or model files of trained worlds, such as ["runs/world0", "runs/world1"];
            several make an ensemble, and with it intervals.
        table: CSV file of measured molecules with columns named as the outcomes. Calibrates the
            intervals; without models outcomes are predicted from it alone.
        units: Of outcomes that only the table knows, such as {"potential": "V"}.
        alerts: Refuse what matches PAINS or BRENK alerts.
        max_heavy: Refuse molecules with more heavy atoms.
        workers: Processes.
        limit: Rows to stop after.
        top: Of the best, to print at the end.
        seed: Of conformers, velocities and noise.
    """
    from pathlib import Path
    from typing import Any

    from sciwm.discovery.screening import PROGRESS, Screening, best, to_parquet
    from sciwm.discovery.screening import screen as run

    gates: list[dict[str, Any]] = [
        {
            "class_path": "sciwm.discovery.gates.Size",
            "init_args": {"max_atoms": 5 * max_heavy, "max_heavy": max_heavy},
        },
        {"class_path": "sciwm.discovery.gates.ChargeAndSpin"},
    ]
    if alerts:
        gates += [
            {"class_path": "sciwm.discovery.gates.Alerts", "init_args": {"catalogue": name}}
            for name in ("PAINS", "BRENK")
        ]
    screening = Screening(objective, model or [], table, units or {}, [], gates, seed)
    target = Path(out)
    if target.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{out} is neither .csv nor .parquet; name one of these")
    rows = target.with_suffix(".csv")
    tally = run(screening, Path(library), rows, workers, limit)
    print(f"{tally.rows:,} rows judged, {tally.flagged:,} flagged as beyond the model")
    for problem, count in sorted(tally.problems.items(), key=lambda one: -one[1]):
        print(f"{count:>12,} without a result: {problem}")
    print(f"\nbest {top}:")
    for row in best(rows, top):
        goals = ", ".join(f"{k} {v}" for k, v in row.items() if k.startswith("score"))
        print(f"  line {row['line']}: {row['smiles']}  {goals}")
    if target.suffix == ".parquet":
        to_parquet(rows, target)
        if tally.done:
            rows.unlink()
            rows.with_name(rows.name + PROGRESS).unlink()
    print(f"table: {target}")
    return 0
