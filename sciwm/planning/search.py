"""Planning in imagination: what promises most in every world that was learned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri, stdtrit

from sciwm.core.bounds import require_counts, require_not_negative, require_seed
from sciwm.core.frame import Array
from sciwm.core.progress import Bar
from sciwm.planning.gradients import gradients
from sciwm.planning.ledger import PlanLedger, Unkept, best_so_far
from sciwm.planning.planners.cross_entropy import CrossEntropy
from sciwm.planning.planners.planner import Planner, Round, best_of, drawn
from sciwm.planning.problem import Problem, Returns
from sciwm.simulation.simulator import Simulator

LIKELY = (0.05, 0.95)
"""Between these parts of the runs a return is predicted to be."""

SEARCH, FINAL, PREDICTION, EXECUTION = range(4)
"""What runs are for; each has random numbers of its own, so that a plan does not owe its rank to luck."""

MOST_RUNS = 10_000
"""Of one kind."""


@dataclass(frozen=True)
class Budget:
    """How hard to think.

    Attributes:
        runs: Of each plan in each world while searching; more where much is left to chance.
        finalists: Best plans that are looked at again with other random numbers.
        trials: Runs in each world of each finalist, and of the plan from which its return is predicted; with
            fewer than twenty in all, nine of ten is more than can be told.
        caution: Standard deviations between worlds that are taken off the mean return.
        seed: Of everything random.
    """

    runs: int = 2
    finalists: int = 4
    trials: int = 20
    caution: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_counts(most=MOST_RUNS, runs=self.runs, trials=self.trials)
        require_counts(finalists=self.finalists)
        require_not_negative(caution=self.caution)
        require_seed(self.seed)

    def seeds(self, purpose: int, count: int) -> list[int]:
        """Of that many runs."""
        first = (4 * self.seed + purpose) * MOST_RUNS
        return list(range(first, first + count))


def interval_of(predicted: Array) -> tuple[float, float]:
    """In which nine of ten runs are predicted to be; the least and the most of fewer than twenty.

    Where several worlds were asked, it is that of a run in one more such world, which is what the true
    simulator is to them: wider than that of all their runs, because few worlds tell little of how much such
    worlds differ. The bounds are Student's, with the degrees of freedom of a sum of two variances
    (Satterthwaite, Biometrics Bull. 2, 110 (1946), equation 17): where there are only two, and these differ
    much more than runs do, they hold 84 of 100.

    Args:
        predicted: (W, R) returns; those that are no number do not count.
    """
    worlds = [row[np.isfinite(row)] for row in predicted]
    worlds = [row for row in worlds if len(row)]
    if not worlds:
        return float("nan"), float("nan")
    means = np.array([row.mean() for row in worlds])
    runs = np.concatenate([row - mean for row, mean in zip(worlds, means, strict=True)])
    # Weibull's places of ranked values, i / (n + 1), hold for a few runs as well.
    ends = np.quantile(runs, LIKELY, method="weibull")
    if len(worlds) > 1:
        apart = (1 + 1 / len(worlds)) * means.var(ddof=1)
        within = runs.var()
        chance = within**2 / max(len(runs) - len(worlds), 1) + apart**2 / (len(worlds) - 1)
        freedom = (within + apart) ** 2 / chance if chance else np.inf
        normal = ndtri(LIKELY[1])
        wider = stdtrit(freedom, LIKELY[1]) / normal
        side = np.array([-1.0, 1.0])
        reach = np.maximum(side * ends, 0.0)
        ends = wider * side * np.sqrt(reach**2 + normal**2 * apart)
    low, high = means.mean() + ends
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Found:
    """The plan that promises most.

    Attributes:
        plan: (stages, size).
        predicted: (W, trials) its scores in each world, from runs that did not choose it.
        null: (P,) mean scores of plans drawn at random; NaN where none of its runs counted.
        rounds: All that was tried.
        returns: What came of the plan in each world.
    """

    plan: Array
    predicted: Array
    null: Array
    rounds: list[Round]
    returns: list[Returns]

    @property
    def interval(self) -> tuple[float, float]:
        """See `interval_of`."""
        return interval_of(self.predicted)

    @property
    def luck(self) -> float:
        """What random plans were imagined to earn on the mean; not a number where that is not known."""
        known = self.null[np.isfinite(self.null)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def mean(self) -> float:
        """The predicted return."""
        known = self.predicted[np.isfinite(self.predicted)]
        return float(known.mean()) if len(known) else float("nan")


def search(
    problem: Problem,
    worlds: Sequence[Simulator],
    planner: Planner | None = None,
    budget: Budget | None = None,
    ledger: PlanLedger | Unkept | None = None,
    known: Array | None = None,
) -> Found:
    """Plans in the mean of some worlds, and does not believe where they disagree.

    Args:
        known: (K, stages, size) plans that did well elsewhere, to try first.

    Raises:
        ValueError: If the planner cannot choose here, what a plan does cannot be done, or no run of any
            plan came to its end and met what is required.
    """
    planner, budget, ledger = planner or CrossEntropy(), budget or Budget(), ledger or Unkept()
    planner.require_fitting(problem.controls)
    seeds = budget.seeds(SEARCH, budget.runs)
    bar = Bar(total=planner.rounds, initial=len(ledger.rounds), unit="round", delay=2.0)
    try:
        for number in range(len(ledger.rounds), planner.rounds):
            rng = np.random.default_rng([budget.seed, number])
            plans = planner.ask(ledger.rounds, problem.controls, rng)
            if not len(plans):
                break
            if number == 0 and known is not None:
                plans[: len(known)] = known[: len(plans)]
            found = [problem.run(world, plans, seeds, bar=False) for world in worlds]
            tried = round_of(plans, found, budget.caution)
            if planner.uses_gradients:
                each = np.stack(
                    [
                        gradients(problem, world, plans, seeds, one)
                        for world, one in zip(worlds, found, strict=True)
                    ]
                )
                tried = replace(tried, gradients=_gradients_of(found, each, budget.caution))
            if number == 0 and np.isinf(tried.merits).all():
                raise ValueError(f"no plan of {len(plans)} comes to anything: {_why(found)}")
            ledger.add(tried)
            bar.set_postfix_str(f"best {best_so_far(ledger.rounds)[-1]:.4g}")
            bar.update()
    finally:
        bar.close()
    rounds = ledger.rounds[: planner.rounds]
    finalists = best_of(rounds, budget.finalists)
    seeds = budget.seeds(FINAL, budget.trials)
    again = [problem.run(world, finalists, seeds) for world in worlds]
    plan = finalists[round_of(finalists, again, budget.caution).order[0]]
    seeds = budget.seeds(PREDICTION, budget.trials)
    returns = [problem.run(world, plan[None], seeds) for world in worlds]
    predicted = np.stack([one.scores[0] for one in returns])
    if not np.isfinite(predicted).any(axis=1).all():
        raise ValueError(f"the best plan comes to nothing in some world: {_why(returns)}")
    rng = np.random.default_rng([budget.seed, planner.rounds])
    luck = drawn(min(planner.population, 32), problem.controls, rng)
    null = _mean(problem.run(worlds[0], luck, budget.seeds(PREDICTION, budget.runs)).scores)
    return Found(plan, predicted, null, rounds, returns)


def round_of(plans: Array, found: Sequence[Returns], caution: float) -> Round:
    """How good plans are by what came of them in each world: the mean of their mean scores, less `caution`
    standard deviations between worlds.
    """
    means = np.stack([_mean(one.scores) for one in found])
    lost = np.sum([np.isnan(one.scores).sum(axis=1) for one in found], axis=0)
    merits = cautious_mean(means, caution)
    return Round(plans, np.where(np.isnan(merits), -np.inf, merits), lost)


def cautious_mean(values: Array, caution: float) -> Array:
    """Mean over W worlds, less `caution` standard deviations between them.

    Args:
        values: (W, ...) that each of them tells.
    """
    return np.asarray(values.mean(axis=0) - caution * values.std(axis=0, ddof=len(values) > 1))


def _gradients_of(found: Sequence[Returns], each: Array, caution: float) -> Array:
    """(P, stages, size) derivatives of merits.

    Args:
        each: (W, P, stages, size) derivatives of the mean score in each world.
    """
    means = np.stack([_mean(one.scores) for one in found])
    away, spread = means - means.mean(axis=0), means.std(axis=0, ddof=len(found) > 1)
    share = away / np.maximum(spread, 1e-300) / max(len(found) - 1, 1)
    share = np.where(np.isfinite(share), share, 0.0)[..., None, None]
    return np.asarray(each.mean(axis=0) - caution * (share * each).sum(axis=0))


def _mean(scores: Array) -> Array:
    """(P,) of those runs that count; NaN where none does."""
    counts = np.isfinite(scores).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts, np.nansum(scores, axis=-1) / counts, np.nan))


def _why(found: Sequence[Returns]) -> str:
    """What most runs failed by, in words."""
    reasons = [reason for one in found for row in one.reasons for reason in row if reason]
    broken = sum(int(one.broken.sum()) for one in found)
    if broken > len(reasons):
        return f"{broken} runs end without meeting what is required; ask for less, or allow more"
    if reasons:
        return f"{len(reasons)} runs ended early, the first one because: {reasons[0]}"
    return "the goal is no finite number in any run"
