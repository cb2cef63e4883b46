"""From words to expressions, by recursive descent, checking dimensions on the way.

objective  = statement {";" statement}
statement  = ("maximize" | "minimize") sum | "require" condition
condition  = chain {"and" chain}
chain      = sum comparison sum {comparison sum}
sum        = product {("+" | "-") product}
product    = factor {("*" | "/") factor}
factor     = ("+" | "-") factor | atom ["**" ["-"] number]
atom       = number [unit] | outcome | function "(" arguments ")" | "(" sum ")"
"""

import difflib
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeVar

from sciwm.discovery.problem.objective.dimension import (
    NUMBER,
    Dimension,
    Unit,
    known_unit,
    outcome_unit,
)
from sciwm.discovery.problem.objective.expression import (
    COMPARISONS,
    Expression,
    Inequality,
    Number,
    Operation,
    OutcomeName,
    Power,
)
from sciwm.discovery.problem.objective.lexer import ObjectiveError, Word, words

T = TypeVar("T", bound=Expression)

DEEPEST = 40
"""Brackets, signs and functions inside one another."""

MOST_OPERATIONS = 200
"""Sums and products of one text; a long sum is a deep tree too."""

LARGEST_EXPONENT = 8

DIRECTIONS = {"maximize": 1, "maximise": 1, "minimize": -1, "minimise": -1}

_SHAPES = {"sigmoid": 3, "reverse_sigmoid": 3, "double_sigmoid": 4, "target": 3}
"""Functions of a quantity and constants of its kind, with the number of all arguments."""

FUNCTIONS = ("abs", "min", "max", "log", "exp", "sqrt", "step", *_SHAPES)


class Parser:
    """Reads one text.

    Args:
        text: Of the objective.
        units: Of every outcome it may name; empty for plain numbers.

    Raises:
        ObjectiveError: If the text holds characters that cannot be read; so does every method
            where what it reads is not sound.
    """

    def __init__(self, text: str, units: Mapping[str, str]):
        self.text = text
        self._words = words(text)
        self._place = 0
        self._depth = 0
        self._operations = 0
        self._units = {name: outcome_unit(unit) for name, unit in units.items()}
        # A unit that only an outcome knows may be written after numbers too.
        self._labels = {" ".join(unit.split()): self._units[name] for name, unit in units.items()}

    @property
    def word(self) -> Word:
        """The next one."""
        return self._words[self._place]

    def take(self, *texts: str) -> Word | None:
        """The next word, passed over, if it is one of these."""
        if self.word.text not in texts or self.word.kind == "end":
            return None
        self._place += 1
        return self._words[self._place - 1]

    def error(self, message: str, word: Word | None = None) -> ObjectiveError:
        """Pointing at a word, by default the next one."""
        word = word or self.word
        return ObjectiveError(self.text, word.start, message, word.end)

    def since(self, start: Word) -> str:
        """The text from a word up to the next one, with single spaces."""
        end = self._words[self._place - 1].end
        return " ".join(self.text[start.start : end].split())

    def condition(self) -> Inequality:
        pairs: list[tuple[Expression, str, Expression]] = []
        while True:
            left = self.sum()
            if self.word.text not in COMPARISONS:
                raise self.error("expected a comparison: one of < <= > >=")
            while symbol := self.take(*COMPARISONS):
                right = self.sum()
                self._same(left, right, symbol, "compares")
                pairs.append((left, symbol.text, right))
                left = right
            if not self.take("and"):
                return Inequality(tuple(pairs))

    def sum(self) -> Expression:
        left = self._product()
        while symbol := self.take("+", "-"):
            right = self._product()
            self._same(left, right, symbol, "joins")
            left = self._joined(symbol, left, right, left.dimension)
        return left

    def _product(self) -> Expression:
        left = self._factor()
        while symbol := self.take("*", "/"):
            right = self._factor()
            sign = 1 if symbol.text == "*" else -1
            dimension = left.dimension.times(right.dimension, sign)
            left = self._joined(symbol, left, right, dimension)
        return left

    def _joined(
        self, symbol: Word, left: Expression, right: Expression, dimension: Dimension
    ) -> Operation:
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise self.error(f"more than {MOST_OPERATIONS} operations; simplify the text", symbol)
        return Operation(symbol.text, (left, right), dimension)

    def _factor(self) -> Expression:
        if sign := self.take("+", "-"):
            operand = self._nested(self._factor, sign)
            if sign.text == "+":
                return operand
            return Operation("negative", (operand,), operand.dimension)
        base = self._atom()
        if not self.take("**"):
            return base
        sign = self.take("-")
        if self.word.kind != "number":
            raise self.error("an exponent must be a number")
        if float(self.word.text) > LARGEST_EXPONENT:
            raise self.error(f"exponents go up to {LARGEST_EXPONENT}, got {self.word.text}")
        # From the float: the fraction of a text such as 1e-999999999 would take all memory.
        exponent = Fraction(float(self.word.text)).limit_denominator(1000) * (-1 if sign else 1)
        self._place += 1
        return Power(base, exponent)

    def _atom(self) -> Expression:
        word = self.word
        if word.kind == "number":
            return self._number()
        if opening := self.take("("):
            inner = self._nested(self.sum, opening)
            self._close(opening)
            return inner
        if word.kind != "name":
            raise self.error(f"expected a number, an outcome or a function, found {_shown(word)}")
        self._place += 1
        if opening := self.take("("):
            return self._function(word, opening)
        if "^" in word.text and word.text.partition("^")[0] in self._units:
            raise self.error("write powers with **", word)
        if word.text not in self._units:
            raise self.error(
                f"there is no outcome {word.text!r}{self._nearest(word.text, self._units)}; "
                f"outcomes are {', '.join(sorted(self._units)) or 'none'}",
                word,
            )
        unit = self._units[word.text]
        return OutcomeName(word.text, unit.size, unit.dimension)

    def _number(self) -> Number:
        word = self.word
        value = float(word.text)
        if not math.isfinite(value):
            raise self.error(f"{word.text} is too large a number")
        self._place += 1
        unit = self._unit() if self.word.kind == "name" and self.word.text != "and" else None
        if unit is None:
            return Number(value)
        if not math.isfinite(value * unit.size):
            raise self.error(f"{self.since(word)} is too large a quantity", word)
        return Number(value * unit.size, unit.dimension)

    def _unit(self) -> Unit:
        """The longest run of words after a number that names a unit, such as `kcal/mol`."""
        first = self._place
        places = [first]
        while True:
            here = places[-1] + 1
            divided = self._words[here].text == "/"
            word = self._words[here + divided]
            if word.kind != "name" or word.text in self._units or word.text == "and":
                break
            places.append(here + divided)
        for last in reversed(places):
            text = self.text[self._words[first].start : self._words[last].end]
            text = " ".join(text.split())
            unit = self._labels.get(text) or known_unit(text)
            if unit is not None:
                self._place = last + 1
                return unit
        name = self.word.text
        if name in self._units or name in FUNCTIONS:
            raise self.error(f"write * between a number and {name!r}")
        raise self.error(
            f"unknown unit {name!r}{self._nearest(name, ['eV', 'kcal/mol', 'Å', 'K', 'V', 'D'])}; "
            "use one such as eV, kJ/mol, Å, ps, K, V, or that of an outcome"
        )

    def _function(self, name: Word, opening: Word) -> Expression:
        if name.text not in FUNCTIONS:
            raise self.error(
                f"there is no function {name.text!r}{self._nearest(name.text, FUNCTIONS)}; "
                f"functions are {', '.join(FUNCTIONS)}",
                name,
            )
        if name.text == "step":
            condition = self._nested(self.condition, opening)
            self._close(opening)
            return condition
        arguments = [self._nested(self.sum, opening)]
        while self.take(","):
            arguments.append(self._nested(self.sum, opening))
        self._close(opening)
        first = arguments[0]
        wanted = _SHAPES.get(name.text, 1)
        if name.text in ("min", "max"):
            wanted = max(2, len(arguments))
        if len(arguments) != wanted:
            count = "at least 2" if name.text in ("min", "max") else str(wanted)
            raise self.error(f"{name.text} takes {count} arguments, got {len(arguments)}", name)
        for other in arguments[1:]:
            self._same(first, other, name, "takes")
        dimension = first.dimension
        if name.text in ("log", "exp"):
            if dimension != NUMBER:
                raise self.error(
                    f"{name.text} needs a plain number, got {dimension}; divide by one unit, as "
                    f"in {name.text}(x / (1 {dimension.unit}))",
                    name,
                )
        elif name.text == "sqrt":
            dimension = dimension.to(Fraction(1, 2))
        elif name.text in _SHAPES:
            dimension = NUMBER
            self._check_shape(name, arguments[1:])
        return Operation(name.text, tuple(arguments), dimension)

    def _check_shape(self, name: Word, constants: list[Expression]) -> None:
        if any(True for constant in constants for _ in constant.names()):
            raise self.error(f"only the first argument of {name.text} may hold outcomes", name)
        values = [float(constant.evaluate({})) for constant in constants]
        rising = name.text == "target" or values[0] < values[1]
        wide = name.text not in ("target", "double_sigmoid") or values[-1] > 0
        if not (rising and wide and all(map(math.isfinite, values))):
            raise self.error(f"{name.text} needs low < high and a width above zero", name)

    def _nested(self, read: Callable[[], T], word: Word) -> T:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep; simplify the expression", word)
        found = read()
        self._depth -= 1
        return found

    def _close(self, opening: Word) -> None:
        if not self.take(")"):
            raise self.error(
                f"expected ) for the bracket at character {opening.start + 1}, "
                f"found {_shown(self.word)}"
            )

    def _same(self, left: Expression, right: Expression, word: Word, verb: str) -> None:
        a, b = left.dimension, right.dimension
        if a != b:
            remedy = _remedy(a, b)
            raise self.error(f"{word.text!r} {verb} {a} with {b}{remedy}", word)

    @staticmethod
    def _nearest(name: str, known: Mapping[str, object] | list[str] | tuple[str, ...]) -> str:
        close = difflib.get_close_matches(name, list(known), n=2)
        return f"; did you mean {' or '.join(close)}?" if close else ""


def _remedy(a: Dimension, b: Dimension) -> str:
    if NUMBER in (a, b):
        return f"; write numbers with their unit, such as 1.5 {(a if b == NUMBER else b).unit}"
    return ""


def _shown(word: Word) -> str:
    return "the end" if word.kind == "end" else repr(word.text)
