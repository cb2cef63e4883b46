"""The loop: propose, imagine, score, verify with the reference, learn, until the budget is spent.

All that a round depends on is in the ledger: proposers are made anew and told what was measured, the
predictor and its intervals are fitted to it, and random numbers come from the seed and the round. So a
campaign that was killed goes on where it was. Only what worlds imagine of motion is not the same to the last
digit: random numbers of simulations depend on what shares their batch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from sciwm.core.frame import Array
from sciwm.discovery.experiment.ledger import Campaign
from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.experiment.oracle.oracle import Oracle
from sciwm.discovery.plan import CampaignPlan
from sciwm.discovery.planners.acquisition import Acquisition, choose, random_controls
from sciwm.discovery.planners.proposers.proposer import Proposer, Scored
from sciwm.discovery.problem.gates import Gates
from sciwm.discovery.problem.hypothesis import (
    Candidate,
    Decision,
    Hypothesis,
    Prediction,
    verdict_of,
)
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.pareto import dominators
from sciwm.discovery.problem.scoring import Scores
from sciwm.discovery.surrogate.calibration import NORMAL_90, AdaptiveConformal
from sciwm.discovery.surrogate.fingerprints import morgan
from sciwm.discovery.surrogate.fitting import fit_with_intervals
from sciwm.discovery.surrogate.predictors.predictor import Predictor

DRAWS = 256
"""Of each candidate's outcomes, from which its worth is averaged."""


class Listener(Protocol):
    """Is told how a campaign goes."""

    def measured(self, hypothesis: Hypothesis) -> None:
        """A reference run has ended."""

    def round_ended(self, number: int, hypotheses: Sequence[Hypothesis]) -> None:
        """All runs of a round have ended; with every hypothesis so far."""


class Learner(Protocol):
    """Improves the predictor's worlds with the frames of reference runs."""

    @property
    def taught(self) -> frozenset[str]:
        """SMILES whose reference runs the worlds have learned from."""

    def learn(self, round: int) -> None:
        """After a round, on whatever the reference has left behind."""


class Loop:
    """Runs a campaign.

    Args:
        campaign: Of the ledger, begun by this process.
        objective: What is wanted, over outcomes of the predictor and `DESCRIPTORS`.
        proposer: Makes a proposer that knows nothing yet.
        gates: What candidates must pass.
        predictor: What imagines outcomes, and learns from measurements.
        acquisition: What makes a candidate worth a reference run.
        oracle: Runs the reference.
        task: The question put to it about a molecule.
        plan: The budget.
        seed: Of every choice.
        learner: Improves the predictor's worlds between rounds.

    Attributes:
        scores: What measurements are worth to the objective.

    Raises:
        ValueError: If the objective names what is neither an outcome nor a descriptor.
    """

    def __init__(
        self,
        campaign: Campaign,
        objective: Objective,
        proposer: Callable[[], Proposer],
        gates: Gates,
        predictor: Predictor,
        acquisition: Acquisition,
        oracle: Oracle,
        task: Callable[[str], Calculation],
        plan: CampaignPlan,
        seed: int = 0,
        learner: Learner | None = None,
    ):
        self.campaign = campaign
        self.objective = objective
        self.proposer = proposer
        self.gates = gates
        self.predictor = predictor
        self.acquisition = acquisition
        self.oracle = oracle
        self.task = task
        self.plan = plan
        self.seed = seed
        self.learner = learner
        self.scores = Scores(objective, predictor.outcomes)

    def run(self, listener: Listener | None = None) -> list[Hypothesis]:
        """Goes on until the budget is spent or the proposers have no new ideas; all hypotheses.

        Raises:
            LedgerError: If the ledger fails.
            OracleError: If runs cannot be started.
            NothingScoredError: If not one score is finite.
        """
        # What a killed process had chosen, and perhaps paid for, comes first.
        number = self.campaign.rounds()
        if self.campaign.unfinished():
            self._verify(number - 1, listener)
        elif self.learner is not None and number:
            # It may have been killed after the last run of a round, or while it learned.
            self.learner.learn(number - 1)
        while not self._spent():
            found = self._propose(number)
            if not any(one.decision in ("chosen", "control") for one in found):
                if found:
                    self.campaign.propose(found)
                break
            self.campaign.propose(found)
            self._verify(number, listener)
            number += 1
        found = self.campaign.hypotheses()
        self.scores.require_some(found)
        return found

    # -- propose and score -----------------------------------------------------------------------

    def _propose(self, number: int) -> list[Hypothesis]:
        rng = np.random.default_rng([self.seed, number])
        history = self.campaign.hypotheses()
        known = {one.candidate.smiles for one in history}
        proposer = self.proposer()
        proposer.tell(self._lessons(history))
        measured = [one for one in history if one.measurements]
        runs = self.plan.calls - self.campaign.spent()[0]
        judged: dict[str, Hypothesis] = {}
        if not measured:
            asked = proposer.ask(max(self.plan.pool, self.plan.start), rng)
            passed = self._gated(asked, known, number, judged)
            drawn = rng.permutation(len(passed))[: min(self.plan.start, runs)]
            self.scores.require_some([Hypothesis(one, number, "passed over") for one in passed])
            chosen = [
                Hypothesis(passed[k], number, "chosen", "drawn at random: nothing is known yet")
                for k in drawn
            ]
            return list(judged.values()) + chosen
        taught = self.learner.taught if self.learner is not None else frozenset()
        intervals = fit_with_intervals(self.predictor, measured, taught)
        scored = [one.measured_score for one in measured if one.measured_score]
        best = np.array(scored).reshape(len(scored), len(self.objective.goals))
        pool: dict[str, tuple[Candidate, Hypothesis, float]] = {}
        for _ in range(self.plan.generations):
            asked = proposer.ask(self.plan.pool, rng)
            fresh = [one for one in asked if one.smiles not in pool]
            passed = self._gated(fresh, known, number, judged)
            if not passed:
                break
            imagined, worth = self._imagine(passed, number, intervals, best, rng)
            told = []
            for candidate, hypothesis, value in zip(passed, imagined, worth, strict=True):
                pool[candidate.smiles] = (candidate, hypothesis, value)
                told.append(Scored(candidate, self._prospect(hypothesis, value, best)))
            proposer.tell(told)
        if not scored and not any(hypothesis.score for _, hypothesis, _ in pool.values()):
            self.scores.require_some(measured)
        return list(judged.values()) + self._chosen(list(pool.values()), runs, rng)

    def _gated(
        self,
        asked: Sequence[Candidate],
        known: set[str],
        number: int,
        judged: dict[str, Hypothesis],
    ) -> list[Candidate]:
        passed = []
        for candidate in asked:
            if candidate.smiles in known or candidate.smiles in judged:
                continue
            _, failure = self.gates.judge(candidate.smiles)
            if failure is None:
                passed.append(candidate)
            else:
                why = f"{failure.stage}: {failure.reason}"
                judged[candidate.smiles] = Hypothesis(
                    candidate, number, "rejected", why, failure=failure
                )
        return passed

    def _imagine(
        self,
        candidates: Sequence[Candidate],
        number: int,
        intervals: Mapping[str, AdaptiveConformal],
        best: Array,
        rng: np.random.Generator,
    ) -> tuple[list[Hypothesis], Array]:
        """What is expected of candidates, and what a run of each is worth."""
        smiles = [one.smiles for one in candidates]
        started = time.perf_counter()
        expected = self.predictor.predict(smiles)
        self._note_model(number, (time.perf_counter() - started) / len(smiles))
        lower, upper = np.empty_like(expected.mean), np.empty_like(expected.mean)
        for k, name in enumerate(self.predictor.outcomes):
            lower[:, k], upper[:, k] = intervals[name].interval(
                expected.mean[:, k], expected.spread[:, k]
            )
        # What is risked is judged by intervals that have proved themselves.
        calibrated = (upper - lower) / (2 * NORMAL_90)
        names, mean, spread = self.scores.with_descriptors(smiles, expected.mean, calibrated)
        samples = self.objective.sample(mean, spread, names, DRAWS, rng)
        worth = self.acquisition.score(samples, best, rng)
        expected_score = self.objective.evaluate({n: mean[:, k] for k, n in enumerate(names)})
        found = []
        for n, candidate in enumerate(candidates):
            predictions = {
                name: Prediction(
                    float(expected.mean[n, k]),
                    float(expected.spread[n, k]),
                    float(lower[n, k]),
                    float(upper[n, k]),
                    expected.flags[n],
                )
                for k, name in enumerate(self.predictor.outcomes)
                if np.isfinite(expected.mean[n, k])
            }
            score = expected_score[n]
            found.append(
                Hypothesis(
                    candidate,
                    number,
                    "passed over",
                    model=self.predictor.version,
                    predictions=predictions,
                    score=tuple(score.tolist()) if np.isfinite(score).all() else (),
                )
            )
        return found, worth

    def _chosen(
        self,
        pool: Sequence[tuple[Candidate, Hypothesis, float]],
        runs: int,
        rng: np.random.Generator,
    ) -> list[Hypothesis]:
        """The batch; what is passed over may be proposed again, and is not recorded."""
        q = min(self.plan.batch, runs, len(pool))
        controls = random_controls(len(pool), q, self.plan.controls, rng)
        worth = np.array([value for _, _, value in pool])
        flagged = np.array([_flag(hypothesis) is not None for _, hypothesis, _ in pool])
        # Candidates outside what the model knows are never its favourites.
        trusted = np.where(flagged, -np.inf, worth)
        trusted[controls] = -np.inf
        prints = morgan([candidate.smiles for candidate, _, _ in pool])
        picked = choose(trusted, prints, q - len(controls), self.plan.diversity, rng)
        if not len(picked) and not len(controls):
            # Nothing is trusted: what the model cannot judge is drawn, so that it may learn to.
            controls = rng.permutation(len(pool))[:q]
        found = [
            _decided(
                pool[k][1], "chosen", f"worth {worth[k]:.4g} by {type(self.acquisition).__name__}"
            )
            for k in picked
        ]
        return found + [
            _decided(pool[k][1], "control", "drawn at random to compare with") for k in controls
        ]

    def _prospect(self, hypothesis: Hypothesis, worth: float, best: Array) -> float | None:
        """What proposers are told of an imagined candidate, on the scale of measured ones."""
        # Where the model is not to be trusted, its highest hopes would become everyone's parents.
        if _flag(hypothesis) is not None or not hypothesis.score or not np.isfinite(worth):
            return None
        if len(hypothesis.score) > 1:
            return -float(dominators(np.array([hypothesis.score]), best)[0])
        return float(worth) if self.acquisition.in_score_units else hypothesis.score[0]

    # -- verify ----------------------------------------------------------------------------------

    def _verify(self, number: int, listener: Listener | None) -> None:
        waiting = {one.candidate.smiles: one for one in self.campaign.unfinished()}
        for smiles in waiting:
            self.campaign.attempt(smiles)
        for answer in self.oracle.run([self.task(smiles) for smiles in waiting]):
            done = self._recorded(waiting[answer.smiles], answer)
            if listener is not None:
                listener.measured(done)
        if self.learner is not None:
            self.learner.learn(number)
        if listener is not None:
            listener.round_ended(number, self.campaign.hypotheses())

    def _recorded(self, hypothesis: Hypothesis, answer: CalculationResult) -> Hypothesis:
        smiles = answer.smiles
        if answer.failure is not None:
            self.campaign.fail(smiles, answer.failure, answer.seconds)
            return replace(hypothesis, failure=answer.failure, cost=answer.seconds)
        score = self.scores.measured(smiles, answer.measurements)
        self.campaign.finish(
            smiles,
            answer.measurements,
            score,
            answer.seconds,
            str(answer.frames_path or ""),
            answer.frames_hash,
        )
        return replace(
            hypothesis,
            measurements=answer.measurements,
            measured_score=score,
            cost=answer.seconds,
            verdict=verdict_of(hypothesis.predictions, answer.measurements),
        )

    # -- learn -----------------------------------------------------------------------------------

    def _note_model(self, number: int, seconds: float) -> None:
        """Records a model when it is first asked."""
        version = self.predictor.version
        recorded = self.campaign.models()
        if any(one.version == version for one in recorded):
            return
        self.campaign.model(
            version,
            next((one.version for one in reversed(recorded) if one.promoted), ""),
            sum(bool(one.measurements) for one in self.campaign.hypotheses()),
            True,
            f"fitted before round {number}",
            {"seconds per molecule": seconds},
        )

    def _lessons(self, history: Sequence[Hypothesis]) -> list[Scored]:
        """What proposers learn from: scores of one goal, or ranks by domination for several."""
        scores = np.array([one.measured_score for one in history if one.measured_score])
        found = []
        for one in history:
            score: float | None = None
            if one.measured_score:
                score = one.measured_score[0]
                if len(one.measured_score) > 1:
                    score = -float(dominators(np.array([one.measured_score]), scores)[0])
            found.append(Scored(one.candidate, score, one.cost))
        return found

    def _spent(self) -> bool:
        calls, seconds = self.campaign.spent()
        return calls >= self.plan.calls or seconds >= self.plan.seconds


def _flag(hypothesis: Hypothesis) -> str | None:
    flags = [one.flag for one in hypothesis.predictions.values() if one.flag]
    if flags:
        return flags[0]
    return None if hypothesis.predictions else "nothing could be predicted"


def _decided(hypothesis: Hypothesis, decision: Decision, why: str) -> Hypothesis:
    return replace(hypothesis, decision=decision, why=why)
