"""From the text of an objective to its words, and errors that point at one of them."""

import re
from dataclasses import dataclass
from typing import Literal

LONGEST = 2000
"""Characters an objective may have."""

_WORD = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    # A unit such as Å, Å² or mol-1 also begins like a name; the parser decides by the place.
    r"|(?P<name>[A-Za-zÅåµ_][A-Za-z0-9Ååµ_]*(?:\^-?\d|[²³])?)"
    r"|(?P<symbol>\*\*|<=|>=|[-+*/<>(),;])"
)


class ObjectiveError(ValueError):
    """A text that states no sound objective; the message shows the place."""

    def __init__(self, text: str, start: int, message: str, end: int | None = None):
        width = max(1, (end or start + 1) - start)
        line = re.sub(r"\s", " ", text)
        left = max(0, start - 60)
        right = max(left + 100, start + min(width, 40))
        shown = line[left:right]
        pointer = " " * (start - left) + "^" * min(width, max(1, len(shown) - (start - left)))
        super().__init__(f"{message}\n  {shown}\n  {pointer}")
        self.position = start


@dataclass(frozen=True)
class Word:
    """A piece of the text, from `start` up to `end`."""

    kind: Literal["number", "name", "symbol", "end"]
    text: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The text in pieces, and an empty one at its end.

    Raises:
        ObjectiveError: If it is too long or holds a character that has no place in an objective.
    """
    if len(text) > LONGEST:
        raise ObjectiveError(
            text, LONGEST, f"the objective has {len(text)} characters; at most {LONGEST} are read"
        )
    found = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _WORD.match(text, place)
        if match is None:
            raise ObjectiveError(
                text,
                place,
                f"{text[place]!r} has no meaning here; an objective holds names, numbers with "
                "units, + - * / **, comparisons, functions and ; between its parts",
            )
        found.append(Word(match.lastgroup, match.group(), place, match.end()))  # type: ignore[arg-type]
        place = match.end()
    return [*found, Word("end", "", len(text), len(text))]
