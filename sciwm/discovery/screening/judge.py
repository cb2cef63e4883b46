"""What is said of a molecule of a library: outcomes with intervals, a score, a flag, or a problem."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rdkit import Chem

from sciwm.core.bounds import require_seed
from sciwm.core.construction import Description, construct
from sciwm.core.frame import Array
from sciwm.discovery.planners.proposers.library import read_library
from sciwm.discovery.problem.descriptors import DESCRIPTORS, described
from sciwm.discovery.problem.gates import Gate, Gates
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.outcomes.recipes import recipes_for
from sciwm.discovery.surrogate.calibration import Conformal
from sciwm.discovery.surrogate.predictors.predictor import Expectation, Predictor
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess

if TYPE_CHECKING:
    from sciwm.discovery.problem.outcomes.outcome import Outcome

FAMILIAR = 0.99
"""Share of the measured molecules that are less uncertain, left out in turn, than a molecule which is
flagged: of others like them one in a hundred is."""

Record = dict[str, str]
"""Cells of the table by column; those that are left out are empty."""


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

    def __post_init__(self) -> None:
        require_seed(self.seed)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What takes time to find out and is the same in every worker.

    Attributes:
        units: Of every outcome that the objective may name.
        process: Fitted to the table, where it predicts the outcomes.
        intervals: By outcome, calibrated by the table.
        widest: Largest spread that is believed, by outcome.
    """

    units: dict[str, str]
    process: TanimotoGaussianProcess | None = None
    intervals: dict[str, Conformal] = field(default_factory=dict)
    widest: dict[str, float] = field(default_factory=dict)


class Judge:
    """Predicts, scores and flags molecules.

    Args:
        learnt: Of another judge of this screening; found out where absent.

    Raises:
        ValueError: If there is nothing to predict with, or the objective cannot be read.
    """

    def __init__(self, screening: Screening, learnt: Learnt | None = None):
        recipes: list[Outcome] = []
        units = screening.units if learnt is None else learnt.units
        if learnt is None or screening.models:
            named = screening.outcomes or recipes_for(screening.objective)
            if named:
                from sciwm.discovery.experiment.oracle.measurement import recipes_of  # brings torch

                recipes = recipes_of(named)
            units = {one.name: one.unit for one in recipes} | units
        known = {name: one.unit for name, one in DESCRIPTORS.items()} | units
        self.objective = Objective.parse(screening.objective, known)
        self.outcomes = tuple(n for n in self.objective.outcomes if n not in DESCRIPTORS)
        self.exact = tuple(n for n in self.objective.outcomes if n in DESCRIPTORS)
        if self.outcomes and not (screening.models or screening.table):
            raise ValueError(
                f"nothing to predict {', '.join(self.outcomes)} with; name models that imagine "
                "it, or a table of measured molecules"
            )
        self._gates = Gates([construct(one, Gate) for one in screening.gates])
        self._world: Predictor | None = None
        if screening.models and self.outcomes:
            from sciwm.discovery.surrogate.predictors.imagined import (
                ImaginedOutcomes,  # brings torch
            )

            wanted = [one for one in recipes if one.name in self.outcomes]
            self._world = ImaginedOutcomes.load(screening.models, wanted, screening.seed)
        self.learnt = learnt or self._learnt(units, screening.table)

    def header(self) -> list[str]:
        """Columns of what is found, in order."""
        ends = [f"{name}{end}" for name in self.outcomes for end in ("", "_lower", "_upper")]
        return ["problem", *ends, *self.exact, *self._goals, "feasible", "flag"]

    def judge(self, smiles: Sequence[str]) -> list[Record]:
        """A record for each molecule, with a problem where there is nothing else to tell."""
        found: list[Record] = []
        sound: list[tuple[Record, Chem.Mol]] = []
        for one in smiles:
            molecule, failure = self._gates.judge(one)
            record: Record = {}
            if failure is not None:
                record["problem"] = f"{failure.stage}: {failure.reason}"
            elif molecule is not None:
                sound.append((record, molecule))
            found.append(record)
        if sound:
            self._fill([record for record, _ in sound], [molecule for _, molecule in sound])
        return found

    @property
    def _goals(self) -> list[str]:
        count = len(self.objective.goals)
        return ["score"] if count == 1 else [f"score_{k + 1}" for k in range(count)]

    def _fill(self, records: Sequence[Record], molecules: Sequence[Chem.Mol]) -> None:
        values = {
            name: np.array([described(name, one) for one in molecules]) for name in self.exact
        }
        ends: dict[str, tuple[Array, Array]] = {}
        flags: list[str | None] = [None] * len(records)
        if self.outcomes:
            said, columns = self._expected(molecules)
            flags = said.flags
            for name, k in zip(self.outcomes, columns, strict=True):
                mean, spread = said.mean[:, k], said.spread[:, k]
                values[name] = mean
                ends[name] = self.learnt.intervals[name].interval(mean, spread)
                widest = self.learnt.widest.get(name, math.inf)
                for n in np.flatnonzero(spread > widest).tolist():
                    flags[n] = (
                        flags[n] or f"unlike the measured molecules: {name} ± {spread[n]:.3g}"
                    )
        scores = self.objective.evaluate(values)
        feasible = self.objective.feasible(values)
        for n, record in enumerate(records):
            record |= {name: _plain(column[n]) for name, column in values.items()}
            for name, (lower, upper) in ends.items():
                record[f"{name}_lower"] = _plain(lower[n])
                record[f"{name}_upper"] = _plain(upper[n])
            record |= {name: _plain(scores[n, g]) for g, name in enumerate(self._goals)}
            record["feasible"] = str(int(feasible[n]))
            reasons = [flags[n]]
            if not (feasible[n] and np.isfinite(scores[n]).all()):
                reasons.append(self.objective.flaw({name: own[n] for name, own in values.items()}))
            if any(reasons):
                record["flag"] = "; ".join(reason for reason in reasons if reason)

    def _expected(self, molecules: Sequence[Chem.Mol]) -> tuple[Expectation, list[int]]:
        """With the columns of the outcomes."""
        if self._world is not None:
            said = self._world.predict([Chem.MolToSmiles(one) for one in molecules])
            return said, [self._world.outcomes.index(name) for name in self.outcomes]
        assert self.learnt.process is not None
        return self.learnt.process.predict_read(molecules), list(range(len(self.outcomes)))

    def _learnt(self, units: dict[str, str], table: str | None) -> Learnt:
        learnt = Learnt(units, None, {name: Conformal() for name in self.outcomes})
        if not self.outcomes or table is None:
            return learnt
        smiles, values = _measured(table, self.outcomes)
        if self._world is not None:
            said = self._world.predict(smiles)
            columns = [self._world.outcomes.index(name) for name in self.outcomes]
            said = Expectation(said.mean[:, columns], said.spread[:, columns], said.flags)
        else:
            process = TanimotoGaussianProcess(self.outcomes)
            process.fit(smiles, values)
            said = process.leave_one_out()
            widest = {n: _familiar(said.spread[:, k]) for k, n in enumerate(self.outcomes)}
            learnt = Learnt(units, process, learnt.intervals, widest)
        for k, name in enumerate(self.outcomes):
            learnt.intervals[name].update(said.mean[:, k], said.spread[:, k], values[:, k])
        return learnt


def _familiar(spreads: Array) -> float:
    known = np.sort(spreads[np.isfinite(spreads)])
    rank = min(len(known), math.ceil((len(known) + 1) * FAMILIAR))
    return float(known[rank - 1])


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


def _plain(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
