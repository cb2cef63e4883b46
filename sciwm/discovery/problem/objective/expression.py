"""Expressions over outcomes as trees that know their dimension and do arithmetic, nothing else.

Numbers inside a tree are in the units of `Dimension.unit`; outcomes are converted as they enter.
"""

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np

from sciwm.core.frame import Array
from sciwm.discovery.problem.objective.dimension import NUMBER, Dimension


class Expression(abc.ABC):
    """Something with a value and a dimension."""

    dimension: Dimension

    @abc.abstractmethod
    def evaluate(self, values: Mapping[str, Array]) -> Array:
        """Of arrays that broadcast; NaN wherever something it depends on is NaN."""

    @property
    def parts(self) -> tuple["Expression", ...]:
        """What it is made of."""
        return ()

    def names(self) -> Iterator[str]:
        """Outcomes in order of appearance, with repeats."""
        for part in self.parts:
            yield from part.names()


@dataclass(frozen=True)
class Number(Expression):
    """A number with its dimension."""

    value: float
    dimension: Dimension = NUMBER

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        return np.asarray(self.value)


@dataclass(frozen=True)
class OutcomeName(Expression):
    """An outcome by name; `size` is its unit's."""

    name: str
    size: float
    dimension: Dimension

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        return np.asarray(values[self.name], dtype=np.float64) * self.size

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Operation(Expression):
    """Elementwise arithmetic that keeps NaN."""

    symbol: str
    operands: tuple[Expression, ...]
    dimension: Dimension

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        arguments = [operand.evaluate(values) for operand in self.operands]
        return OPERATIONS[self.symbol](*arguments)

    @property
    def parts(self) -> tuple[Expression, ...]:
        return self.operands


@dataclass(frozen=True)
class Power(Expression):
    """Another expression to a rational power."""

    base: Expression
    exponent: Fraction

    @property
    def dimension(self) -> Dimension:  # type: ignore[override]
        return self.base.dimension.to(self.exponent)

    @property
    def parts(self) -> tuple[Expression, ...]:
        return (self.base,)

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        return np.power(self.base.evaluate(values), float(self.exponent))


@dataclass(frozen=True)
class Inequality(Expression):
    """One where all hold, zero where one does not: `low < x < high`, or several joined by `and`.

    Attributes:
        pairs: Left side, symbol, right side of each.
    """

    pairs: tuple[tuple[Expression, str, Expression], ...]
    dimension: Dimension = NUMBER

    @property
    def parts(self) -> tuple[Expression, ...]:
        return tuple(side for left, _, right in self.pairs for side in (left, right))

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        found = []
        for left, symbol, right in self.pairs:
            a, b = left.evaluate(values), right.evaluate(values)
            holds = COMPARISONS[symbol](a, b).astype(np.float64)
            found.append(np.where(np.isnan(a) | np.isnan(b), np.nan, holds))
        return reduce(np.multiply, found)


def flaw(expression: Expression, values: Mapping[str, Array]) -> str | None:
    """What keeps the expression from being finite, such as "log of -2"; None where it is.

    Args:
        values: One finite number for every outcome.
    """
    with np.errstate(all="ignore"):
        if np.isfinite(expression.evaluate(values)):
            return None
        for part in expression.parts:
            if (deeper := flaw(part, values)) is not None:
                return deeper
        # Adding zero turns -0 into 0.
        numbers = [f"{float(part.evaluate(values)) + 0.0:.4g}" for part in expression.parts]
    if isinstance(expression, Power):
        return f"{numbers[0]} to the power of {expression.exponent}"
    assert isinstance(expression, Operation)
    if expression.symbol == "/":
        return f"division of {numbers[0]} by {numbers[1]}"
    return f"{expression.symbol} of {' and '.join(numbers)}"


def _rise(x: Array, low: Array, high: Array) -> Array:
    """The logistic curve with 0.05 at `low` and 0.95 at `high`."""
    steps = (2 * x - low - high) / (high - low)
    return 0.5 * (1 + np.tanh(0.5 * np.log(19) * steps))


def _fall(x: Array, low: Array, high: Array) -> Array:
    return 1 - _rise(x, low, high)


def _plateau(x: Array, low: Array, high: Array, width: Array) -> Array:
    """About one between `low` and `high`, one half on either, with slopes `width` wide."""
    half = width / 2
    return _rise(x, low - half, low + half) * _fall(x, high - half, high + half)


def _bell(x: Array, goal: Array, width: Array) -> Array:
    return np.exp(-0.5 * ((x - goal) / width) ** 2)


OPERATIONS: dict[str, Callable[..., Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "negative": np.negative,
    "abs": np.abs,
    "min": lambda *xs: reduce(np.minimum, xs),
    "max": lambda *xs: reduce(np.maximum, xs),
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "sigmoid": _rise,
    "reverse_sigmoid": _fall,
    "double_sigmoid": _plateau,
    "target": _bell,
}

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
