"""Reference calls until the best molecule of a table is found, beside random choice and plain models.

Of 1,424 homobenzylic ethers with oxidation potentials from density functional theory (Doan et al. 2020),
the one nearest to 1.55 V is sought from ten random molecules, one at a time, by expected improvement of a
Gaussian process. "physics" adds three numbers of GFN2-xTB single points at a force-field geometry
(`redox_gfn2.csv`, by `table_levels.py`, from SMILES alone); "tanimoto" has fingerprints only. The features
were chosen on seeds 100 to 107; seeds from 0 are reported. About 7 minutes.

    python scripts/bench_redox.py [--seeds 12] [--json_file FILE]
    python scripts/bench_redox.py --table MINE.csv --smiles smiles --value gap --unit eV \\
        --objective "maximize gap" --features ""
"""

import csv
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.progress import Bar
from sciwm.discovery.planners.acquisition import ExpectedImprovement
from sciwm.discovery.pool_study import study_pool
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.surrogate.predictors.feature_table import FeatureTable
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess


def main(
    table: str = "../shared/data/redox_cobol/Oxidation-HBE-b3lyp-results-clean.csv",
    smiles: str = "canonSMILES",
    value: str = "Potential",
    unit: str = "V",
    objective: str = "minimize abs(Potential - 1.55 V)",
    features: str = "scripts/results/redox_gfn2.csv",
    columns: list[str] | None = None,
    start: int = 10,
    batch: int = 1,
    seeds: int = 12,
    limit: int = 400,
    json_file: str | None = None,
) -> None:
    """Prints calls to the best molecule, and writes them.

    Args:
        table: CSV of molecules and their measured outcome.
        smiles: Name of its column of molecules.
        value: Name of its column of outcomes, as the objective calls it.
        unit: Of the outcome.
        objective: One goal.
        features: CSV of cheap features; none where empty.
        columns: Of the features; three of GFN2 where absent.
        start: Random molecules.
        batch: Molecules of a round.
        seeds: Repetitions.
        limit: Calls after which a repetition ends, counted as that many.
        json_file: Where to write the figures as JSON too.
    """
    with open(table, newline="") as stream:
        rows = list(csv.DictReader(stream))
    molecules = [row[smiles] for row in rows]
    values = np.array([[float(row[value] or "nan")] for row in rows])
    goal = Objective.parse(objective, {value: unit})
    truth = goal.evaluate({value: values[:, 0]})[:, 0]
    best = int(np.nanargmax(truth))
    print(f"{len(rows)} molecules, best {molecules[best]}: {values[best, 0]:.4f} {unit}")
    methods = {"tanimoto": TanimotoGaussianProcess([value])}
    figures = {}
    if features:
        cheap = FeatureTable(features, columns or ["level_eV", "gap_eV", "hole_atoms"])
        methods["physics"] = TanimotoGaussianProcess([value], cheap)
        seconds = FeatureTable(features, ["seconds"])(molecules).sum()
        figures["physics_features_cost"] = {"value": round(seconds, 1), "unit": "s"}
    calls = {
        name: [
            len(
                study_pool(molecules, values, goal, model, ExpectedImprovement(), seed, start, batch,
                       limit, [best]).order
            )
            for seed in Bar(range(seeds), desc=name, unit="seed")
        ]
        for name, model in methods.items()
    }  # fmt: skip
    # The place of one molecule in a random order, without a limit.
    calls["random"] = [
        int(np.flatnonzero(np.random.default_rng(seed).permutation(len(rows)) == best)[0]) + 1
        for seed in range(1000)
    ]
    print(f"\n{'calls to the best':20s}{'median':>8s}{'quartiles':>16s}{'range':>16s}{'runs':>6s}")
    for name, found in calls.items():
        low, middle, high = np.percentile(found, [25, 50, 75])
        print(
            f"{name:20s}{middle:8.1f}{f'{low:.0f} to {high:.0f}':>16s}"
            f"{f'{min(found)} to {max(found)}':>16s}{len(found):6d}"
        )
        prefix = "" if name == list(methods)[-1] else f"{name}_"
        for figure, number in (
            ("median_calls_to_best", middle),
            ("lower_quartile", low),
            ("upper_quartile", high),
            ("fewest", min(found)),
            ("most", max(found)),
        ):
            figures[prefix + figure] = {"value": float(number), "unit": "calls"}
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)
