"""What a campaign is after, stated as text: goals and conditions over outcomes with units.

    maximize electron_affinity; minimize abs(potential - 1.55 V); require sa_score < 4

The text is data. It is read by a parser that knows arithmetic, comparisons and a dozen functions;
nothing in it can run code, so an objective may come from a file or from a language model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sciwm.core.frame import Array
from sciwm.discovery.problem.objective.expression import Expression, Inequality, flaw
from sciwm.discovery.problem.objective.lexer import ObjectiveError
from sciwm.discovery.problem.objective.parser import DIRECTIONS, Parser

__all__ = ["Goal", "Objective", "ObjectiveError"]


@dataclass(frozen=True)
class Goal:
    """One quantity to make large or small.

    Attributes:
        text: As it was written, without the direction.
        direction: 1 to maximise, -1 to minimise.
        expression: What the text means.
    """

    text: str
    direction: int
    expression: Expression

    @property
    def unit(self) -> str:
        """Of its score, in the units of `Dimension.unit`; empty for a plain number."""
        return self.expression.dimension.unit

    def __str__(self) -> str:
        return f"{'maximize' if self.direction > 0 else 'minimize'} {self.text}"


@dataclass(frozen=True)
class Requirement:
    """A condition, as it was written and what it means."""

    text: str
    condition: Inequality

    def __str__(self) -> str:
        return f"require {self.text}"


@dataclass(frozen=True)
class Objective:
    """Goals to trade off and requirements to meet; `str` gives a text that parses to the same.

    Attributes:
        goals: At least one.
        requirements: All must hold.
    """

    goals: tuple[Goal, ...]
    requirements: tuple[Requirement, ...] = ()

    @staticmethod
    def parse(text: str, units: Mapping[str, str]) -> "Objective":
        """The objective a text states.

        Args:
            text: Goals and requirements with `;` between them.
            units: Unit of every outcome it may name; empty for a plain number.

        Raises:
            ObjectiveError: If it cannot be read, names an unknown outcome or function, mixes
                dimensions, has no goal, or is longer or deeper than anyone would write.
        """
        parser = Parser(text, units)
        goals: list[Goal] = []
        requirements: list[Requirement] = []
        while parser.word.kind != "end":
            opening = parser.take(*DIRECTIONS, "require")
            if opening is None:
                raise parser.error("every part begins with maximize, minimize or require")
            start = parser.word
            if opening.text == "require":
                condition = parser.condition()
                requirements.append(Requirement(parser.since(start), condition))
            else:
                expression = parser.sum()
                goal = Goal(parser.since(start), DIRECTIONS[opening.text], expression)
                if not any(True for _ in expression.names()):
                    raise parser.error("a goal needs an outcome; this one is a constant", start)
                goals.append(goal)
            if not parser.take(";") and parser.word.kind != "end":
                raise parser.error(f"expected ; or the end, found {parser.word.text!r}")
        if not goals:
            raise parser.error("the objective has no goal; add one that begins with maximize")
        return Objective(tuple(goals), tuple(requirements))

    def __str__(self) -> str:
        return "; ".join(map(str, (*self.goals, *self.requirements)))

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names it depends on, in order of appearance."""
        trees = [goal.expression for goal in self.goals]
        trees += [requirement.condition for requirement in self.requirements]
        return tuple(dict.fromkeys(name for tree in trees for name in tree.names()))

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        """(..., G) scores, larger is better, requirements aside.

        NaN where an outcome that the goal depends on is NaN, or where the score is not finite, as
        in a division by zero.

        Args:
            values: (...) of every outcome, in its unit.

        Raises:
            KeyError: If one is missing.
        """
        self._check(values)
        with np.errstate(all="ignore"):
            scores = [goal.direction * goal.expression.evaluate(values) for goal in self.goals]
        stacked = np.stack(np.broadcast_arrays(*scores), axis=-1)
        return np.where(np.isfinite(stacked), stacked, np.nan)

    def feasible(self, values: Mapping[str, Array]) -> NDArray[np.bool_]:
        """(...) whether all requirements hold; false where one depends on a NaN."""
        self._check(values)
        shape = np.broadcast_shapes(*(np.shape(values[name]) for name in self.outcomes))
        met: NDArray[np.bool_] = np.ones(shape, dtype=bool)
        with np.errstate(all="ignore"):
            for requirement in self.requirements:
                met = met & (requirement.condition.evaluate(values) == 1)
        return met

    def flaw(self, values: Mapping[str, float]) -> str | None:
        """Why there is no score although every outcome is known; None where there is one, or where
        an outcome is not finite.

        A requirement of something that is no number is never met: that is told too.

        Args:
            values: Of every outcome, in its unit.

        Raises:
            KeyError: If one is missing.
        """
        columns = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        self._check(columns)
        if not all(np.isfinite(columns[name]) for name in self.outcomes):
            return None
        for goal in self.goals:
            if reason := flaw(goal.expression, columns):
                return f"the score is not finite: {reason}"
        for requirement in self.requirements:
            if reason := flaw(requirement.condition, columns):
                return f"{requirement.text} has no answer: {reason}"
        return None

    def sample(
        self,
        mean: Array,
        spread: Array,
        names: Sequence[str],
        draws: int,
        rng: np.random.Generator,
    ) -> Array:
        """(N, draws, G) scores of outcomes drawn from independent normal distributions.

        Draws that break a requirement are -inf, so that they improve on nothing: the mean
        improvement is weighted by the probability of being feasible (Gardner et al. 2014). NaN
        where a mean is NaN. Draws are stratified: each of `draws` equal parts of the
        distribution gives one, in random order, which takes most noise out of their averages.

        Args:
            mean, spread: (N, K), in the outcomes' units.
            names: Of the K columns; those the objective does not use are passed over.
        """
        columns = [list(names).index(name) for name in self.outcomes]
        n = len(mean)
        values = {}
        for name, column in zip(self.outcomes, columns, strict=True):
            strata = rng.permuted(np.tile(np.arange(draws), (n, 1)), axis=1)
            noise = ndtri((strata + rng.random((n, draws))) / draws)
            values[name] = mean[:, column, None] + spread[:, column, None] * noise
        scores = self.evaluate(values)
        allowed = self.feasible(values)
        unknown = np.isnan(np.stack([values[name] for name in self.outcomes])).any(axis=0)
        scores[~allowed & ~unknown] = -np.inf
        scores[unknown] = np.nan
        return scores

    def _check(self, values: Mapping[str, Array]) -> None:
        missing = [name for name in self.outcomes if name not in values]
        if missing:
            raise KeyError(f"no values of {', '.join(missing)}; given are {', '.join(values)}")
