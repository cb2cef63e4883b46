"""A campaign spends its budget, learns, resumes, and finds more than chance does."""

import contextlib
import csv
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from sciwm.discovery.experiment.ledger import Ledger
from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.loop import Loop
from sciwm.discovery.plan import CampaignPlan
from sciwm.discovery.planners.acquisition import UpperConfidence
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.gates import Elements, Gates
from sciwm.discovery.problem.hypothesis import Candidate, Failure, Measurement
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value
from sciwm.discovery.problem.scoring import NothingScoredError
from sciwm.discovery.surrogate.predictors.corrected import CorrectedOutcomes
from sciwm.discovery.surrogate.predictors.imagined import ImaginedOutcomes
from sciwm.discovery.surrogate.predictors.predictor import Expectation
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess

# Chains of C, N, O and F: 4^4 molecules with an answer that a count gives.
POOL = sorted(
    {
        Chem.CanonSmiles(f"C{a}{b}{c}{d}C")
        for a in "CNOS"
        for b in "CNOS"
        for c in "CNOS"
        for d in ("C", "C(F)", "C(O)")
    }
)


def law(smiles: str) -> float:
    """The outcome nobody knows beforehand: what nitrogen and fluorine are worth."""
    counts = Counter(atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles).GetAtoms())
    return 1.0 * counts["N"] + 1.7 * counts["F"] - 0.5 * counts["S"]


class Pool:
    """Offers a list, in random order."""

    name = "pool"

    def __init__(self, molecules=POOL):
        self.left = list(molecules)
        self.told: list[Scored] = []

    def ask(self, n, rng):
        order = rng.permutation(len(self.left))[:n]
        return [Candidate(self.left[k], self.name) for k in order]

    def tell(self, scored):
        self.told += scored
        known = {one.candidate.smiles for one in scored if one.cost}
        self.left = [one for one in self.left if one not in known]


class Oracle:
    """Answers by the law; counts what it was asked."""

    def __init__(self, failing=(), stop_after=math.inf):
        self.asked: list[str] = []
        self.failing = failing
        self.stop_after = stop_after

    def run(self, tasks):
        for task in tasks:
            if len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(task.smiles)
            if task.smiles in self.failing:
                failure = Failure("calculation", "SCF not converged")
                yield CalculationResult(task.smiles, task.key, failure=failure, seconds=2.0)
            else:
                found = {"worth": Measurement(law(task.smiles))}
                yield CalculationResult(task.smiles, task.key, found, seconds=1.0)


OBJECTIVE = Objective.parse(
    "maximize worth; require heavy_atoms < 9", {"worth": "eV", "heavy_atoms": ""}
)


def loop(ledger, oracle, plan, seed=0, pool=POOL, predictor=None, objective=OBJECTIVE, name="c"):
    return Loop(
        ledger.begin(name, {}, seed, {}),
        objective,
        lambda: Pool(pool),
        Gates([Elements(["H", "C", "N", "O", "F"])]),
        predictor or TanimotoGaussianProcess(["worth"]),
        UpperConfidence(1.0),
        oracle,
        lambda smiles: Calculation(smiles, (), {}),
        plan,
        seed,
    )


PLAN = CampaignPlan(calls=40, start=10, batch=10, controls=0.2, pool=500)


def test_it_spends_the_calls_it_has_and_no_more(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        oracle = Oracle()
        found = loop(ledger, oracle, replace(PLAN, calls=27)).run()
    assert len(oracle.asked) == len(set(oracle.asked)) == 27
    decisions = Counter(one.decision for one in found)
    assert decisions["chosen"] + decisions["control"] == 27
    assert decisions["control"] > 0
    # What holds sulphur is refused with a reason, and never measured.
    refused = [one for one in found if one.decision == "rejected"]
    assert refused
    assert all("S" in one.candidate.smiles and one.failure is not None for one in refused)


def test_a_budget_of_seconds_ends_it_too(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        oracle = Oracle()
        loop(ledger, oracle, replace(PLAN, seconds=15.0)).run()
    assert len(oracle.asked) == 20  # the round in which the seconds ran out is the last


def test_choosing_beats_drawing_and_intervals_hold(tmp_path):
    best, drawn, inside = [], [], []
    for seed in range(4):
        with Ledger(tmp_path / f"l{seed}.sqlite") as ledger:
            found = loop(ledger, Oracle(), PLAN, seed).run()
        best += [one.measured_score[0] for one in found if one.decision == "chosen" and one.round]
        drawn += [one.measured_score[0] for one in found if one.decision == "control"]
        inside += [one.verdict == "confirmed" for one in found if one.predictions]
    assert np.mean(best) > np.mean(drawn) + 0.5
    assert np.mean(inside) > 0.75


def test_proposals_are_recorded_before_they_are_measured(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = loop(ledger, Oracle(), PLAN).run()
        later = [one for one in found if one.round and one.decision == "chosen"]
        assert all(one.predictions["worth"].spread > 0 for one in later)
        assert all(one.score and one.model for one in later)
        versions = [one.version for one in ledger.campaign("c").models()]
    assert {one.model for one in later} == set(versions)


def test_an_interrupted_campaign_ends_as_an_undisturbed_one(tmp_path):
    with Ledger(tmp_path / "whole.sqlite") as ledger:
        whole = loop(ledger, Oracle(), PLAN).run()
    asked: list[str] = []
    for stop in (3, 9, 14, 100):
        oracle = Oracle(stop_after=stop)
        with Ledger(tmp_path / "parts.sqlite") as ledger, contextlib.suppress(KeyboardInterrupt):
            parts = loop(ledger, oracle, PLAN).run()
        asked += oracle.asked
    assert len(asked) == len(set(asked)) == 40
    assert [one.candidate.smiles for one in parts] == [one.candidate.smiles for one in whole]
    assert [one.measured_score for one in parts] == [one.measured_score for one in whole]
    with Ledger(tmp_path / "other.sqlite") as ledger:
        other = loop(ledger, Oracle(), PLAN, seed=1).run()
    assert [one.candidate.smiles for one in other] != [one.candidate.smiles for one in whole]


def test_failures_are_counted_and_do_not_stop_it(tmp_path):
    failing = [one for one in POOL if "N" in one][::2]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = loop(ledger, Oracle(failing), PLAN).run()
    failed = [one for one in found if one.failure and one.decision != "rejected"]
    assert failed
    assert all(one.failure.stage == "calculation" and not one.measurements for one in failed)
    measured = [one for one in found if one.measurements]
    assert len(failed) + len(measured) == 40


def test_a_requirement_of_the_molecule_leaves_no_score(tmp_path):
    objective = Objective.parse(
        "maximize worth; require heavy_atoms < 6.5", {"worth": "eV", "heavy_atoms": ""}
    )
    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = loop(ledger, Oracle(), PLAN, objective=objective).run()
    for one in found:
        if one.measurements:
            heavy = Chem.MolFromSmiles(one.candidate.smiles).GetNumHeavyAtoms()
            assert bool(one.measured_score) == (heavy < 6.5)


def test_it_ends_when_nobody_has_an_idea(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        oracle = Oracle()
        loop(ledger, oracle, PLAN, pool=POOL[:25]).run()
    sound = [one for one in POOL[:25] if "S" not in one]
    assert sorted(oracle.asked) == sorted(sound)


def test_an_objective_of_an_outcome_nobody_measures_is_refused(tmp_path):
    objective = Objective.parse("maximize gap", {"gap": "eV"})
    with Ledger(tmp_path / "l.sqlite") as ledger, pytest.raises(ValueError, match="gap"):
        loop(ledger, Oracle(), PLAN, objective=objective)


def test_flagged_candidates_are_never_favourites(tmp_path):
    class Wary(TanimotoGaussianProcess):
        def predict(self, smiles):
            said = super().predict(smiles)
            flags = ["outside" if "F" in one else None for one in smiles]
            return Expectation(said.mean, said.spread, flags)

    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = loop(ledger, Oracle(), PLAN, predictor=Wary(["worth"])).run()
    later = [one for one in found if one.round]
    assert not any("F" in one.candidate.smiles for one in later if one.decision == "chosen")
    with Ledger(tmp_path / "free.sqlite") as ledger:
        free = [one for one in loop(ledger, Oracle(), PLAN).run() if one.round]
    assert any("F" in one.candidate.smiles for one in free if one.decision == "chosen")


class Counting(Outcome):
    """An outcome that a world makes up from its atoms."""

    name = "worth"
    unit = "eV"

    def evaluate_many(self, world, structures, seed=0):
        found = []
        for one in structures:
            if 9 in one.numbers:
                found.append(Failure("relaxation", "fluorine flies away"))
            else:
                found.append(Value(world * len(one), 0.1, flag="far" if 8 in one.numbers else None))
        return found


def test_imagination_adds_disagreement_and_sampling_in_squares():
    predictor = ImaginedOutcomes([1.0, 1.2], [Counting()])
    said = predictor.predict(["C", "CO", "CF", "C(", "C"])
    assert said.mean[0, 0] == pytest.approx(1.1 * 5)
    spread = math.hypot(np.std([5.0, 6.0], ddof=1), 0.1)
    assert said.spread[0, 0] == pytest.approx(spread)
    assert np.isnan(said.mean[2:4]).all()
    assert [flag and flag.split(":")[0] for flag in said.flags] == [
        None,
        "far",
        "relaxation",
        "embedding",
        None,
    ]
    with pytest.raises(ValueError, match="at least one"):
        ImaginedOutcomes([], [Counting()])


def test_a_world_with_a_constant_error_is_corrected():
    class Wrong:
        outcomes = ("worth",)
        version = "wrong"
        taught = frozenset()

        def fit(self, smiles, values):
            pass

        def predict(self, smiles):
            mean = np.array([[law(one) + 3.0] for one in smiles])
            mean[[one == POOL[0] for one in smiles]] = np.nan
            return Expectation(mean, np.full_like(mean, 0.1), [None] * len(smiles))

    sound = [one for one in POOL[1:] if "S" not in one]
    known, new = sound[:20], sound[20:40]
    predictor = CorrectedOutcomes(Wrong())
    before = predictor.predict(new).mean[:, 0] - [law(one) for one in new]
    predictor.fit(known, np.array([[law(one)] for one in known]))
    after = predictor.predict(new).mean[:, 0] - [law(one) for one in new]
    assert np.abs(before).max() == pytest.approx(3.0)
    assert np.abs(after).max() < 0.1
    # Where the world has no answer, the measured molecules still do.
    assert np.isfinite(predictor.predict(POOL[:1]).mean).all()


def test_a_campaign_without_one_finite_score_ends_and_says_why(tmp_path):
    units = {"worth": "eV", "heavy_atoms": ""}
    texts = [
        "maximize log(0 * worth / (1 eV))",
        "maximize heavy_atoms / (heavy_atoms - heavy_atoms)",
    ]
    for k, (text, paid) in enumerate(zip(texts, (10, 0), strict=True)):
        oracle = Oracle()
        with Ledger(tmp_path / f"{k}.sqlite") as ledger:
            one = loop(ledger, oracle, PLAN, objective=Objective.parse(text, units))
            with pytest.raises(NothingScoredError, match=r"finite score.*(log of 0|division of)"):
                one.run()
            # What the molecule alone tells costs nothing; what is measured, the first round.
            assert len(oracle.asked) == paid
            flaws = one.scores.flaws(one.campaign.hypotheses())
            assert set(flaws) == set(oracle.asked)
            one.campaign.export(tmp_path / "table.csv", flaws)
        with (tmp_path / "table.csv").open(newline="") as file:
            told = [row for row in csv.DictReader(file) if row["worth_measured"]]
        assert len(told) == paid
        assert all("log of 0" in row["score_flag"] for row in told)


def test_a_campaign_whose_molecules_miss_a_requirement_ends_quietly(tmp_path):
    text = Objective.parse("maximize worth; require worth > 99 eV", {"worth": "eV"})
    with Ledger(tmp_path / "l.sqlite") as ledger:
        found = loop(ledger, Oracle(), replace(PLAN, calls=10), objective=text).run()
    assert not any(one.measured_score for one in found)
