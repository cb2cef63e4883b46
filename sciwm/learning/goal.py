"""What a world is to reach, in the words of a user: "force_error < 20 meV/Å"."""

import re
from dataclasses import dataclass

from sciwm.core.bounds import require_positive
from sciwm.core.units import MOLECULAR, UnitError, parse_quantity

_FORM = re.compile(r"\s*([A-Za-z_]+)\s*<=?\s*(.+)")


class GoalError(ValueError):
    """A goal that cannot be read."""


@dataclass(frozen=True)
class ErrorGoal:
    """An error to come below.

    Attributes:
        force_error: Root mean square error of force components, in eV/Å.
    """

    force_error: float

    @staticmethod
    def parse(text: str) -> "ErrorGoal":
        """Raises GoalError if it names no known error, or no positive number with a unit that fits."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise GoalError(f'{text!r} is no goal; write one such as "force_error < 20 meV/Å"')
        name, amount = match.groups()
        if name != "force_error":
            raise GoalError(
                f"{name!r} in {text!r} is no error that can be a goal; the one that can is force_error"
            )
        if re.fullmatch(r"[\s\d.eE+-]+", amount):
            raise GoalError(f"{text!r} has no unit; write {amount.strip()} meV/Å, or eV/Å")
        try:
            error = parse_quantity(amount, "force", MOLECULAR)
            require_positive(force_error=error)
        except (UnitError, ValueError) as problem:
            raise GoalError(f"{text!r} is no goal: {problem}") from problem
        return ErrorGoal(error)
