"""What a campaign shows in the terminal while it runs: its budget as a bar, and a line per round."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType

from sciwm.core.progress import Bar
from sciwm.discovery.analysis import scorecard
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.scoring import met
from sciwm.report.campaign.amounts import Amounts, percent, share_interval
from sciwm.report.numerals import plain

BAR = "{percentage:3.0f} % of budget |{bar}| {desc} [{elapsed} < {remaining}]"


class LiveView:
    """A bar that follows whichever budget runs out first, with the time that is left.

    Where the output is no terminal, such as a batch system's log file, a line now and then stands for it.

    Args:
        total_calls: Runs of the reference, at most.
        total_seconds: Seconds of the reference, at most.
        units: Of the outcomes by name, for the lines.
        before: Hypotheses of a campaign that is resumed: what they cost is spent already.
        objective: Whose requirements the best so far must meet, if it has any.
    """

    def __init__(
        self,
        total_calls: int,
        total_seconds: float,
        units: Mapping[str, str] | None = None,
        before: Sequence[Hypothesis] = (),
        objective: Objective | None = None,
    ):
        if total_calls <= 0 or total_seconds <= 0:
            raise ValueError(
                f"{total_calls=} and {total_seconds=} must be positive; a campaign needs a budget"
            )
        self.total_calls = total_calls
        self.total_seconds = total_seconds
        self._units = dict(units or {})
        self._objective = objective
        runs = scorecard.paid(before)
        self._calls, self._seconds = len(runs), sum(h.cost for h in runs)
        self._bar = Bar(
            total=1.0,
            initial=self._spent(),
            delay=0.0,
            bar_format=BAR,
            dynamic_ncols=True,
        )
        self._describe()

    def measured(self, hypothesis: Hypothesis) -> None:
        """One more run of the reference has ended, whether it succeeded or failed."""
        before = self._spent()
        self._calls += 1
        self._seconds += hypothesis.cost
        self._bar.update(self._spent() - before)
        self._describe()

    def round_ended(self, number: int, hypotheses: Sequence[Hypothesis]) -> None:
        """The line of a round.

        Args:
            number: Of the round.
            hypotheses: All of the campaign so far.
        """
        if self._objective is not None:
            hypotheses = met(hypotheses, self._objective)
        self._bar.clear()
        print(round_line(number, hypotheses, self._units), file=sys.stderr, flush=True)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "LiveView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spent(self) -> float:
        """Share of the budget, at most one: a last run may overdraw it."""
        return min(max(self._calls / self.total_calls, self._seconds / self.total_seconds), 1.0)

    def _describe(self) -> None:
        rate = f"{plain(self._seconds / self._calls)} s each" if self._calls else "none yet"
        self._bar.set_description_str(
            f"{self._calls:,}/{self.total_calls:,} runs, "
            f"{self._seconds:,.0f}/{self.total_seconds:,.0f} s, {rate}"
        )


def round_line(number: int, hypotheses: Sequence[Hypothesis], units: Mapping[str, str]) -> str:
    """What a round did, the best so far with its predicted interval, and the coverage so far."""
    group = [h for h in hypotheses if h.round == number]
    rejected = sum(h.decision == "rejected" for h in group)
    failed = sum(h.failure is not None and h.decision != "rejected" for h in group)
    measured = sum(bool(h.measurements) for h in group)
    parts = [
        f"round {number}: {len(group):,} proposed, {rejected:,} rejected by gates, "
        f"{measured:,} measured, {failed:,} failed"
    ]
    front = scorecard.front(hypotheses)
    if front:
        parts.append(f"best {_best(front[0], hypotheses, units)}")
        if len(front[0].measured_score) > 1:
            parts.append(f"Pareto front of {len(front)}")
    names = sorted({name for h in hypotheses for name in h.predictions})
    covered = scorecard.coverage(hypotheses, names)
    if covered.trials:
        parts.append(f"coverage {percent(covered.value)} ({share_interval(covered)})")
    return "; ".join(parts)


def _best(best: Hypothesis, hypotheses: Sequence[Hypothesis], units: Mapping[str, str]) -> str:
    values = []
    for name, measurement in best.measurements.items():
        amount = Amounts.of(hypotheses, name, units.get(name, ""))
        text = f"{name} {amount.with_unit(amount.measured(measurement))}"
        if name in best.predictions:
            text += f" (predicted {amount.interval(best.predictions[name])})"
        values.append(text)
    return f"{best.candidate.smiles}: {', '.join(values)}"
