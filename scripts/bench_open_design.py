"""How many reference runs an open search for better molecules takes with a model, and without one.

Wanted are molecules that take up an electron most eagerly: the vertical electron affinity in water
(GFN2-xTB, relaxed), of at most 16 heavy atoms of C, N, O, F and Cl that look easy to make. There is no
pool: all methods start from the same seven quinones and refuse the same molecules.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from tqdm import tqdm

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
from sciwm.discovery.proposers.edits import RandomEdits
from sciwm.discovery.proposers.genetic import Genetic
from sciwm.discovery.proposers.policy import PolicyGradient
from sciwm.discovery.proposers.proposer import Proposer, Scored

HEAVY = 16
START = (
    "O=C1C=CC(=O)C=C1",
    "CC1=CC(=O)C=CC1=O",
    "COC1=CC(=O)C=CC1=O",
    "CC1=CC(=O)C(C)=CC1=O",
    "COC1=CC(=O)C(OC)=CC1=O",
    "O=C1C=CC(=O)c2ccccc21",
    "CC1=CC(=O)c2ccccc2C1=O",
)
OUTCOME = "electron_affinity"
RECIPE = {
    "class_path": "sciwm.discovery.outcomes.properties.RelaxedProperty",
    "init_args": {"property": OUTCOME},
}
REFERENCE = {
    "class_path": "sciwm.simulation.references.xtb.GFN2",
    "init_args": {"solvent": "water"},
}
GATES = Gates(
    [
        Elements(["C", "N", "O", "F", "Cl"]),
        Size(max_atoms=40, max_heavy=HEAVY),
        ChargeAndSpin(),
        SyntheticAccessibility(4.0),
    ]
)
SECONDS = 120.0
"""Time limit of one run."""


class Run(NamedTuple):
    """One call: the score is NaN where it failed."""

    smiles: str
    score: float
    seconds: float


def task(smiles: str) -> Task:
    return Task(smiles, (RECIPE,), REFERENCE)


def searched(proposer: Proposer, oracle: Oracle, calls: int, batch: int, seed: int) -> list[Run]:
    """What a proposer finds that is told of every score as soon as its batch is done."""
    rng = np.random.default_rng(seed)
    runs: list[Run] = []
    with tqdm(total=calls, desc=f"{proposer.name} {seed}", unit="run", mininterval=10) as bar:
        while len(runs) < calls:
            waiting = {}
            while len(waiting) < min(batch, calls - len(runs)):
                asked = proposer.ask(min(batch, calls - len(runs)) - len(waiting), rng)
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


def designed(oracle: Oracle, ledger: Path, plan: Plan, seed: int) -> list[Hypothesis]:
    """What the loop with a model finds."""
    with Ledger(ledger) as open_ledger:
        loop = Loop(
            open_ledger.begin("open design", {}, seed, {}),
            Objective.parse(f"maximize {OUTCOME}", {OUTCOME: "eV"}),
            lambda: Genetic(START, max_heavy=HEAVY),
            GATES,
            TanimotoGaussianProcess([OUTCOME]),
            UpperConfidence(1.0),
            oracle,
            task,
            plan,
            seed,
        )
        return loop.run()
