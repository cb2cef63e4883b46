"""`sciwm screen`: a ranked table from a library of molecules."""


def screen(
    library: str,
    *,
    objective: str,
    out: str,
    model: str | list[str] | None = None,
    table: str | None = None,
    units: dict[str, str] | None = None,
    smiles: str | None = None,
    elements: list[str] | None = None,
    alerts: bool = False,
    max_heavy: int = 50,
    workers: int = 1,
    cluster: str | None = None,
    limit: int | None = None,
    top: int = 10,
    seed: int = 0,
) -> int:
    """Judges every molecule of a library, in flat memory; the same command continues a broken run.

    The table holds the columns of the library, and for each molecule the outcomes with 90 % intervals,
    the score, and a flag where the prediction is not to be trusted. Rows that cannot be used come with
    their problem and never stop it. Its rows are those of the library, in the same order; a column of
    the library that has the name of one of ours gets `library_` before it.

    Args:
        library: A .smi, .csv, .tsv or .sdf file, which may be gzipped.
        objective: Such as "maximize electron_affinity; require sa_score < 4".
        out: The table, .csv or .parquet.
        model: A run folder, model file or shipped world, such as organic, or several, such as
            ["runs/world0", "runs/world1"], which make an ensemble, and with it intervals.
        table: CSV file of measured molecules with columns named as the outcomes. Calibrates the
            intervals; without models outcomes are predicted from it alone.
        units: Of outcomes that only the table knows, such as {"potential": "V"}.
        smiles: Column of the library with the SMILES, where its name does not tell.
        elements: Refuse molecules with other elements, such as ["C", "N", "O"].
        alerts: Refuse what matches PAINS or BRENK alerts.
        max_heavy: Refuse molecules with more heavy atoms.
        workers: Processes of this machine, where no cluster is named.
        cluster: YAML file that says where molecules are judged instead, as for campaigns.
        limit: Rows to stop after.
        top: Of the best, to print at the end.
        seed: Of conformers, velocities and noise.
    """
    from pathlib import Path
    from typing import Any

    from sciwm.core.bounds import require_counts
    from sciwm.discovery.experiment.oracle.parsl_executor import Cluster
    from sciwm.discovery.screening.judge import Screening
    from sciwm.discovery.screening.progress import progress_file
    from sciwm.discovery.screening.screening import screen as run
    from sciwm.discovery.screening.table import best, to_parquet

    require_counts(0, top=top)
    require_counts(max_heavy=max_heavy)
    target = Path(out)
    if target.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{out} is neither .csv nor .parquet; name one of these")
    rows = target if target.suffix == ".csv" else target.with_name(target.name + ".csv")
    if rows != target and target.exists() and not rows.exists():
        raise ValueError(f"{out} is complete, or not ours; move it, or name another output")
    gates: list[dict[str, Any]] = [
        {
            "class_path": "sciwm.discovery.problem.gates.Size",
            "init_args": {"max_atoms": 5 * max_heavy, "max_heavy": max_heavy},
        },
        {"class_path": "sciwm.discovery.problem.gates.ChargeAndSpin"},
    ]
    if elements:
        gates.append(
            {
                "class_path": "sciwm.discovery.problem.gates.Elements",
                "init_args": {"allowed": elements},
            }
        )
    if alerts:
        gates += [
            {"class_path": "sciwm.discovery.problem.gates.Alerts", "init_args": {"catalogue": name}}
            for name in ("PAINS", "BRENK")
        ]
    models = [model] if isinstance(model, str) else model or []
    screening = Screening(objective, models, table, units or {}, [], gates, seed)
    nodes = Cluster.read(Path(cluster)) if cluster else None
    tally = run(screening, Path(library), rows, workers, limit, smiles, nodes)
    print(f"{tally.rows:,} rows judged, {tally.flagged:,} flagged, which says why")
    for problem, count in sorted(tally.problems.items(), key=lambda one: -one[1]):
        print(f"{count:>12,} without a result: {problem}")
    print(f"\nbest {top}:")
    for row in best(rows, top):
        goals = ", ".join(f"{k} {v}" for k, v in row.items() if k.startswith("score"))
        print(f"  line {row['line']}: {row['smiles']}  {goals}")
    if rows != target:
        to_parquet(rows, target)
        if tally.done:
            rows.unlink()
            progress_file(rows).unlink()
    print(f"table: {target}")
    return 0
