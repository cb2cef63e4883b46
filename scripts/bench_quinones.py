"""How much of the best of a pool is found for how many reference runs, beside random choice and plain models.

600 quinones with vertical electron affinities in water (GFN2-xTB, relaxed); wanted are the best 5 %, from 20
random molecules in batches of 10. "tanimoto" models have fingerprints only, "physics" also the same quantity
at a force-field geometry (`quinones_gfn2.csv`, by `table_levels.py`), whose cost is printed beside that of
the runs. The forest needs scikit-learn and is left out without it. Nothing was tuned on seeds below 100.
About 10 minutes.

    python scripts/bench_quinones.py [--seeds 12] [--json_file FILE]
"""

import csv
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Array
from sciwm.core.progress import Bar
from sciwm.discovery.analysis import binomial_intervals
from sciwm.discovery.planners.acquisition import Acquisition, Greedy, UpperConfidence
from sciwm.discovery.pool_study import PoolStudy, study_pool
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.surrogate.fingerprints import morgan
from sciwm.discovery.surrogate.predictors.feature_table import FeatureTable
from sciwm.discovery.surrogate.predictors.predictor import Expectation, Predictor
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess

try:
    from sklearn.ensemble import RandomForestRegressor
except ImportError:
    RandomForestRegressor = None


class Forest:
    """A random forest on the same fingerprints, its spread the disagreement of the trees."""

    version = "forest"

    def __init__(self, outcome: str):
        self.outcomes = (outcome,)

    def fit(self, smiles: Sequence[str], values: Array) -> None:
        self._columns = np.unique(morgan(smiles).ones.indices)
        self._trees = RandomForestRegressor(200, min_samples_leaf=2, random_state=0)
        self._trees.fit(self._table(smiles), values[:, 0])

    def predict(self, smiles: Sequence[str]) -> Expectation:
        table = self._table(smiles)
        votes = np.array([tree.predict(table) for tree in self._trees.estimators_])
        return Expectation(votes.mean(0)[:, None], votes.std(0)[:, None], [None] * len(smiles))

    def _table(self, smiles: Sequence[str]) -> Array:
        ones = morgan(smiles).ones.tocoo()
        places = np.searchsorted(self._columns, ones.col).clip(max=len(self._columns) - 1)
        known = self._columns[places] == ones.col
        table = np.zeros((len(smiles), len(self._columns)))
        table[ones.row[known], places[known]] = 1
        return table


def main(
    table: str = "../shared/data/quinone_pool/quinones.csv",
    smiles: str = "smiles",
    value: str = "vertical_ea_water_eV",
    unit: str = "eV",
    objective: str = "maximize vertical_ea_water_eV",
    seconds: str = "reference_cpu_s",
    features: str = "scripts/results/quinones_gfn2.csv",
    columns: list[str] | None = None,
    start: int = 20,
    batch: int = 10,
    checkpoints: tuple[int, int] = (60, 120),
    share: float = 0.05,
    seeds: int = 12,
    json_file: str | None = None,
) -> None:
    """Prints shares found, coverage of the intervals and enrichment, and writes them.

    Args:
        table: CSV of molecules and their measured outcome.
        smiles: Name of its column of molecules.
        value: Name of its column of outcomes, as the objective calls it.
        unit: Of the outcome.
        objective: One goal.
        seconds: Name of its column of reference costs; none where empty.
        features: CSV of cheap features; none where empty.
        columns: Of the features.
        start: Random molecules.
        batch: Molecules of a round.
        checkpoints: Evaluations after which to count.
        share: Of the table that is wanted.
        seeds: Repetitions.
        json_file: Where to write the figures as JSON too.
    """
    with open(table, newline="") as stream:
        rows = list(csv.DictReader(stream))
    molecules = [row[smiles] for row in rows]
    values = np.array([[float(row[value] or "nan")] for row in rows])
    goal = Objective.parse(objective, {value: unit})
    truth = goal.evaluate({value: values[:, 0]})[:, 0]
    wanted = np.zeros(len(rows), dtype=bool)
    wanted[np.argsort(-np.nan_to_num(truth, nan=-np.inf))[: round(share * len(rows))]] = True
    plain = TanimotoGaussianProcess([value])
    methods: dict[str, tuple[Predictor, Acquisition]] = {}
    if RandomForestRegressor is not None:
        methods["forest greedy"] = (Forest(value), Greedy())
    methods["tanimoto greedy"] = (plain, Greedy())
    methods["tanimoto ucb"] = (plain, UpperConfidence(1.0))
    figures = {}
    if features:
        cheap = FeatureTable(features, columns or ["level_eV"])
        methods["physics ucb"] = (TanimotoGaussianProcess([value], cheap), UpperConfidence(1.0))
        cost = FeatureTable(features, ["seconds"])(molecules).sum()
        figures["physics_features_cost"] = {"value": round(float(cost), 1), "unit": "s"}
    runs = {
        name: [
            study_pool(molecules, values, goal, model, rule, seed, start, batch, checkpoints[-1])
            for seed in Bar(range(seeds), desc=name, unit="seed")
        ]
        for name, (model, rule) in methods.items()
    }
    runs["random"] = [
        PoolStudy([int(i) for i in np.random.default_rng(seed).permutation(len(rows))])
        for seed in range(1000)
    ]
    print(f"\n{'share of the best found':25s}" + "".join(f"{c:>18d}" for c in checkpoints))
    for name, found in runs.items():
        cells = ""
        for count in checkpoints:
            shares = [100 * wanted[one.order[:count]].sum() / wanted.sum() for one in found]
            middle, low, high = np.median(shares), min(shares), max(shares)
            cells += f"{middle:7.1f} ({low:.0f}-{high:.0f})".rjust(18)
            key = f"{name.replace(' ', '_')}_recall_{count}"
            figures[key] = {"value": float(middle), "unit": "%"}
            figures[f"{key}_mean"] = {"value": float(np.mean(shares)), "unit": "%"}
            figures[f"{key}_lowest"] = {"value": float(low), "unit": "%"}
        print(f"{name:25s}{cells}")
    if seconds:
        each = np.array([float(row[seconds]) for row in rows])
        spent = np.median([each[one.order].sum() for one in list(runs.values())[-2]])
        figures["reference_cost"] = {"value": round(float(spent), 1), "unit": "s"}
        figures["reference_cost_of_all"] = {"value": round(float(each.sum()), 1), "unit": "s"}
    print("\ncoverage of 90 % intervals by round: conformal, and in brackets the model's own")
    for name in methods:
        inside = np.array([[one.mean() for one in run.inside] for run in runs[name]])
        own = np.array([[one.mean() for one in run.unscaled] for run in runs[name]])
        by_round = zip(inside.mean(0), own.mean(0), strict=True)
        print(f"{name:18s}" + " ".join(f"{100 * a:3.0f} ({100 * b:3.0f})" for a, b in by_round))
        key = name.replace(" ", "_")
        figures[f"{key}_coverage"] = {"value": float(100 * inside.mean()), "unit": "%"}
        figures[f"{key}_coverage_uncalibrated"] = {"value": float(100 * own.mean()), "unit": "%"}
    print(
        "\nhits among chosen over hits among as many random controls, first checkpoint, 95 % interval"
    )
    for name in methods:
        chosen = controls = 0
        total = seeds * (checkpoints[0] - start)
        for seed, run in enumerate(runs[name]):
            # Controls come from what the model could choose from, the random start aside.
            rest = np.setdiff1d(np.arange(len(rows)), run.order[:start])
            drawn = np.random.default_rng([seed, 1]).permutation(rest)[: checkpoints[0] - start]
            chosen += int(wanted[run.order[start : checkpoints[0]]].sum())
            controls += int(wanted[drawn].sum())
        found = binomial_intervals.ratio(
            binomial_intervals.share(chosen, total), binomial_intervals.share(controls, total)
        )
        print(f"{name:18s}{found.value:6.1f}  ({found.low:.1f} to {found.high:.1f})")
        key = f"{name.replace(' ', '_')}_enrichment"
        figures[key] = {"value": found.value, "unit": ""}
        figures[f"{key}_lower"] = {"value": found.low, "unit": ""}
        figures[f"{key}_upper"] = {"value": found.high, "unit": ""}
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)
