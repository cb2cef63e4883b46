"""Whether a value that somebody wrote down is of the type that a parameter is annotated with."""

import math
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

LISTS = (list, Sequence, Collection, Iterable)


def fits(value: Any, hint: Any, most: float = math.inf) -> bool:
    """Whether a value is of an annotated type.

    A whole number is a float too, a truth value is no number, and a word is no list of letters.

    Args:
        most: The largest whole number, either way.
    """
    origin, of = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return fits(value, of[0], most)
    if origin in (Union, types.UnionType):
        return any(fits(value, one, most) for one in of)
    if origin is Literal:
        return value in of
    if origin in LISTS:
        return isinstance(value, (list, tuple)) and all(fits(one, of[0], most) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(name, of[0], most) and fits(one, of[1], most) for name, one in value.items()
        )
    if hint is int:
        return type(value) is int and abs(value) <= most
    if hint is float:
        return type(value) in (int, float)
    kind = origin or hint  # an array has the types of its numbers in brackets
    is_class = isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
    return is_class and isinstance(value, kind)


def shown(value: Any) -> str:
    """A value in a few words, for errors."""
    simple = value is None or isinstance(value, (str, int, float))
    text = repr(value) if simple else type(value).__name__
    return text if len(text) < 60 else f"{text[:60]}..."
