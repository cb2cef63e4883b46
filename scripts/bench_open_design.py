"""How many reference runs an open search for better molecules takes with a model, and without one.

Wanted are molecules that take up an electron most eagerly: the vertical electron affinity in water
(GFN2-xTB, relaxed), of at most 16 heavy atoms of C, N, O, F and Cl that look easy to make. There is no
pool: all methods start from the same seven quinones and refuse the same molecules. The bar is the best
score of a policy gradient without a model after 500 runs.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from rdkit import Chem
from tqdm import tqdm

from sciwm.core.frame import Array
from sciwm.core.molecules import parsed
from sciwm.discovery import scorecard
from sciwm.discovery.acquisition import UpperConfidence
from sciwm.discovery.favourites import favourites, guarded_favourites
from sciwm.discovery.gates import ChargeAndSpin, Elements, Gates, Size, SyntheticAccessibility
from sciwm.discovery.hypothesis import Hypothesis
from sciwm.discovery.ledger import Ledger
from sciwm.discovery.loop import Loop
from sciwm.discovery.merit import merit_of
from sciwm.discovery.objective.objective import Objective
from sciwm.discovery.oracle.oracle import Oracle
from sciwm.discovery.oracle.pool import WorkerPool
from sciwm.discovery.oracle.spool import Spool
from sciwm.discovery.oracle.task import Task
from sciwm.discovery.plan import Plan
from sciwm.discovery.predictors.tanimoto import TanimotoGaussianProcess
from sciwm.discovery.proportions import Share, share
from sciwm.discovery.proposers.edits import RandomEdits
from sciwm.discovery.proposers.genetic import Genetic
from sciwm.discovery.proposers.policy import PolicyGradient
from sciwm.discovery.proposers.proposer import Proposer, Scored

START = (
    "O=C1C=CC(=O)C=C1",
    "CC1=CC(=O)C=CC1=O",
    "COC1=CC(=O)C=CC1=O",
    "CC1=CC(=O)C(C)=CC1=O",
    "COC1=CC(=O)C(OC)=CC1=O",
    "O=C1C=CC(=O)c2ccccc21",
    "CC1=CC(=O)c2ccccc2C1=O",
)
HEAVY = 16
GATES = Gates(
    [
        Elements(["C", "N", "O", "F", "Cl"]),
        Size(max_atoms=40, max_heavy=HEAVY),
        ChargeAndSpin(),
        SyntheticAccessibility(4.0),
    ]
)
OUTCOME = "electron_affinity"
GOAL = Objective.parse(f"maximize {OUTCOME}", {OUTCOME: "eV"})
RECIPE = {
    "class_path": "sciwm.discovery.outcomes.properties.RelaxedProperty",
    "init_args": {"property": OUTCOME},
}
REFERENCE = {
    "class_path": "sciwm.simulation.references.xtb.GFN2",
    "init_args": {"solvent": "water"},
}
SECONDS = 120.0
"""Time limit of one run."""

BATCH = 10
"""Runs between two lessons of a search without a model."""

PLAN = Plan(calls=150, start=10, batch=5, pool=100, generations=5)
LEAST = 60
"""Runs of the loop even where the bar is passed before, to see how far its intervals hold."""

GROUPS = {
    name: Chem.MolFromSmarts(smarts)
    for name, smarts in {
        "nitrile": "C#N",
        "nitro": "[N+](=O)[O-]",
        "trifluoromethyl": "C(F)(F)F",
        "carbonyl": "[CX3]=O",
        "fluorine": "F",
        "chlorine": "Cl",
        "nitrogen": "[#7]",
        "amine": "[NX3;!$([N+])]",
        "ether or hydroxyl": "[OX2]",
        "saturated carbon": "[CX4]",
        "aromatic atom": "a",
        "heavy atom": "*",
    }.items()
}

COULOMB = {"C": 0.0, "N": 0.5, "O": 1.0, "N:": 1.5, "O:": 2.0, "F:": 3.0, "Cl:": 2.0}
COULOMB |= {"N+": 2.0, "O-": 1.5}
RESONANCE = {"C": 1.0, "N": 1.0, "O": 1.0, "N:": 0.8, "O:": 0.8, "F:": 0.7, "Cl:": 0.4}
RESONANCE |= {"N+": 1.0, "O-": 0.8}
"""Of Hückel theory, in units of the resonance integral of benzene, after Streitwieser (1961); a colon
is a lone pair beside a double bond."""


class Run(NamedTuple):
    """One reference run: the score is NaN where it failed."""

    smiles: str
    score: float
    seconds: float


def features(smiles: Sequence[str]) -> Array:
    """(N, 15) Hückel levels and numbers of groups."""
    return np.array([_features(one) for one in smiles]).reshape(len(smiles), len(GROUPS) + 3)


@cache
def _features(smiles: str) -> list[float]:
    molecule = parsed(smiles)
    counts = [float(len(molecule.GetSubstructMatches(group))) for group in GROUPS.values()]
    return [*_levels(molecule), *counts]


def _levels(molecule: Chem.Mol) -> tuple[float, float, float]:
    """The lowest empty level of the pi electrons, the highest filled one, and the second empty one."""
    flat = [any(b.GetBondTypeAsDouble() > 1 for b in a.GetBonds()) for a in molecule.GetAtoms()]
    Chem.Kekulize(molecule)
    kinds: dict[int, str] = {}
    electrons = 0
    for atom in molecule.GetAtoms():
        double = any(bond.GetBondTypeAsDouble() > 1 for bond in atom.GetBonds())
        beside = any(flat[other.GetIdx()] for other in atom.GetNeighbors())
        sign = {1: "+", -1: "-"}.get(atom.GetFormalCharge(), "" if double else ":")
        kind = atom.GetSymbol() + sign
        if kind in COULOMB and (double or beside):
            kinds[atom.GetIdx()] = kind
            electrons += 1 if double else 2
    matrix = np.zeros((molecule.GetNumAtoms(),) * 2)
    for number, kind in kinds.items():
        matrix[number, number] = COULOMB[kind]
        for other in molecule.GetAtomWithIdx(number).GetNeighbors():
            if kind != "C":
                continue
            # What a neighbour draws from or gives to carbon through the bond between them.
            halogens = sum(one.GetSymbol() in ("F", "Cl") for one in other.GetNeighbors())
            saturated = other.GetSymbol() == "C" and other.GetIdx() not in kinds
            drawn = {"F": 0.2, "C": 0.0}.get(other.GetSymbol(), 0.1)
            matrix[number, number] += 0.2 * (halogens - 1) if saturated else drawn
    for bond in molecule.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if i in kinds and j in kinds:
            # A single bond between unsaturated atoms is longer than one of benzene.
            length = 1.0 if bond.GetBondTypeAsDouble() > 1 else 0.9
            matrix[i, j] = matrix[j, i] = length * min(RESONANCE[kinds[i]], RESONANCE[kinds[j]])
    members = list(kinds)
    levels = np.linalg.eigvalsh(matrix[np.ix_(members, members)])[::-1]
    # Without pi electrons there is nothing low to fill.
    padded = [2.0, *levels.tolist(), -2.0, -2.0]
    filled = electrons // 2
    return padded[filled + 1], padded[filled], padded[filled + 2]


def task(smiles: str) -> Task:
    """The question put to the reference."""
    return Task(smiles, (RECIPE,), REFERENCE)


def searched(proposer: Proposer, oracle: Oracle, calls: int, seed: int) -> list[Run]:
    """What a proposer finds that is told of the scores of each batch."""
    rng = np.random.default_rng(seed)
    runs: list[Run] = []
    with tqdm(total=calls, desc=f"{proposer.name} {seed}", unit="run", mininterval=10) as bar:
        while len(runs) < calls:
            waiting = {}
            size = min(BATCH, calls - len(runs))
            while len(waiting) < size:
                asked = proposer.ask(size - len(waiting), rng)
                if not asked:
                    raise RuntimeError(f"{proposer.name} ran dry after {len(runs)} runs")
                passed = {one.smiles: one for one in asked if GATES.judge(one.smiles)[1] is None}
                # Refusals cost nothing and are heard of at once.
                proposer.tell([Scored(one, None) for one in asked if one.smiles not in passed])
                waiting |= passed
            answers = {one.smiles: one for one in oracle.run([task(one) for one in waiting])}
            told = []
            for smiles, candidate in waiting.items():
                answer = answers[smiles]
                value = None if answer.failure else answer.measurements[OUTCOME].value
                told.append(Scored(candidate, value, answer.seconds))
                runs.append(Run(smiles, math.nan if value is None else value, answer.seconds))
            proposer.tell(told)
            bar.update(len(told))
    return runs


def designed(oracle: Oracle, folder: Path, bar: float, seed: int) -> list[Hypothesis]:
    """The campaign of the loop, ended where it has passed the bar."""
    with Ledger(folder / f"loop_{seed}.sqlite") as ledger:
        campaign = ledger.begin("open design", {"plan": repr(PLAN)}, seed, {})
        for calls in tqdm(range(LEAST, PLAN.calls + 1, PLAN.batch), desc=f"loop {seed}"):
            loop = Loop(
                campaign,
                GOAL,
                partial(Genetic, START, max_heavy=HEAVY),
                GATES,
                TanimotoGaussianProcess([OUTCOME], features),
                UpperConfidence(1.0),
                oracle,
                task,
                replace(PLAN, calls=calls),
                seed,
            )
            found = loop.run()
            if scorecard.progress(found)[1][-1] >= bar:
                break
        return found


def stored(path: Path, make: Callable[[], list[Run]]) -> list[Run]:
    """The runs of an earlier call, or new ones."""
    if not path.is_file():
        path.write_text(json.dumps([[one.smiles, one.score, one.seconds] for one in make()]))
    return [Run(*one) for one in json.loads(path.read_text())]


def reached(runs: Sequence[Run], bar: float) -> float:
    """Runs until one scores at least as much as the bar; infinite where none does."""
    passed = [n for n, one in enumerate(runs, 1) if one.score >= bar]
    return passed[0] if passed else math.inf


def total(shares: Sequence[Share]) -> Share:
    """Of several campaigns together."""
    return share(sum(one.successes for one in shares), sum(one.trials for one in shares))


def main(
    folder: Path = Path("runs/bench_open_design"),
    seeds: int = 5,
    random_seeds: int = 5,
    first: int = 0,
    calls: int = 500,
    workers: int = 2,
    only: str = "",
    json_file: Path | None = None,
) -> None:
    """Prints how many runs each method takes to the bar, and what the intervals were worth.

    Args:
        folder: For answers of the reference and finished searches, which are not made again.
        seeds: Repetitions.
        random_seeds: Repetitions of random edits.
        first: Seed of the first repetition.
        calls: Runs of a search without a model.
        workers: Reference runs at a time.
        only: One method (policy, genetic, random or loop) to run and store, without figures.
        json_file: Where to write the figures as JSON too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool = WorkerPool(workers, SECONDS + 10)
    oracle = Oracle(pool, Spool(folder / "reference"), SECONDS)
    searches: dict[str, Callable[[int], Proposer]] = {
        "policy": lambda seed: PolicyGradient(START, max_heavy=HEAVY, seed=seed),
        "genetic": lambda seed: Genetic(START, max_heavy=HEAVY),
        "random": lambda seed: RandomEdits(START, max_heavy=HEAVY),
    }
    found: dict[str, list[list[Run]]] = {name: [] for name in [*searches, "loop"]}
    campaigns: list[list[Hypothesis]] = []
    for seed in range(first, first + seeds):
        for name, make in searches.items():
            if only not in ("", name) and not (only == "loop" and name == "policy"):
                continue
            if name == "random" and seed - first >= random_seeds:
                continue
            search = partial(searched, make(seed), oracle, calls, seed)
            found[name].append(stored(folder / f"{name}_{calls}_{seed}.json", search))
        if only in ("", "loop"):
            bar = max(one.score for one in found["policy"][-1] if math.isfinite(one.score))
            campaigns.append(designed(oracle, folder, bar, seed))
            paid = scorecard.paid(campaigns[-1])
            found["loop"].append(
                [Run(h.candidate.smiles, *(h.measured_score or (math.nan,)), h.cost) for h in paid]
            )
    pool.shutdown()
    if only:
        return

    def seconds(runs: Sequence[Run], count: float) -> float:
        return sum(one.seconds for one in runs[: int(min(count, len(runs)))])

    figures: dict[str, dict[str, float | str | list[float]]] = {}

    def note(name: str, values: Sequence[float], unit: str) -> None:
        figures[name] = {"value": float(np.median(values)), "unit": unit}
        # JSON knows no infinity.
        figures[name]["each"] = [one if math.isfinite(one) else -1.0 for one in values]

    bars = [max(one.score for one in runs if math.isfinite(one.score)) for runs in found["policy"]]
    note("bar", bars, "eV")
    needed: dict[str, Array] = {}
    for name, all_runs in found.items():
        counts = [reached(runs, bar) for runs, bar in zip(all_runs, bars, strict=False)]
        limit = PLAN.calls if name == "loop" else calls
        needed[name] = np.array([min(one, limit) for one in counts])
        note(f"{name}_runs_to_the_bar", needed[name].tolist(), "runs")
        figures[f"{name}_never_at_the_bar"] = {"value": sum(map(math.isinf, counts)), "unit": ""}
        spent = [seconds(runs, n) for runs, n in zip(all_runs, needed[name], strict=True)]
        note(f"{name}_seconds_to_the_bar", spent, "s")
        best = [np.nanmax([one.score for one in runs]) for runs in all_runs]
        note(f"{name}_best", best, "eV")
        failed = [sum(math.isnan(one.score) for one in runs) / len(runs) for runs in all_runs]
        note(f"{name}_failed", failed, "")
    note("model_free_over_ours", (calls / needed["loop"]).tolist(), "")
    note("model_free_at_its_best_over_ours", (needed["policy"] / needed["loop"]).tolist(), "")
    note("genetic_over_ours", (needed["genetic"] / needed["loop"]).tolist(), "")
    some = len(needed["random"])
    note("random_over_ours", (needed["random"] / needed["loop"][:some]).tolist(), "")
    rounds = sorted({h.round for one in campaigns for h in one})
    everything = [h for one in campaigns for h in one]
    print("\ncoverage of 90 % intervals by round")
    for number in rounds:
        held = scorecard.coverage([h for h in everything if h.round == number], [OUTCOME])
        if held.trials:
            print(f"{number:3d} {held.value:5.2f} of {held.trials}")
    merit = merit_of(GOAL)
    shares = {
        "coverage": scorecard.coverage(everything, [OUTCOME]),
        "favourites_worse": total([favourites(one, merit, [OUTCOME]).worse for one in campaigns]),
        "favourites_refuted": total(
            [favourites(one, merit, [OUTCOME]).outside for one in campaigns]
        ),
        "guarded_worse": total(
            [guarded_favourites(one, merit, [OUTCOME]).worse for one in campaigns]
        ),
        "guarded_refuted": total(
            [guarded_favourites(one, merit, [OUTCOME]).outside for one in campaigns]
        ),
    }
    for name, one in shares.items():
        figures[name] = {"value": one.value, "unit": "", "of": one.trials}
    enrichment = scorecard.enrichment(everything)
    figures["enrichment"] = {
        "value": enrichment.ratio.value,
        "unit": "",
        "each": [enrichment.ratio.low, enrichment.ratio.high],
    }
    print()
    for name, figure in figures.items():
        print(name, figure)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)
