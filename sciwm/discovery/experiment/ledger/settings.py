"""Whether a campaign is resumed with the settings it began with."""

import json
from collections.abc import Mapping
from typing import Any

from sciwm.discovery.experiment.ledger.database import LedgerError


def as_json(settings: Mapping[str, Any], meaning: str) -> str:
    """Raises LedgerError if they are more than texts, numbers, lists and mappings."""
    try:
        return json.dumps(dict(settings), ensure_ascii=True, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"{meaning} cannot be stored ({error}); use texts, numbers, lists and mappings of them"
        ) from error


def first_difference(stored: Any, given: Any, key: str) -> str | None:
    """Where two readings of JSON differ, with both values; None where they agree.

    Args:
        key: Where the two were found.
    """
    if isinstance(stored, dict) and isinstance(given, dict):
        for name in sorted(stored.keys() | given.keys()):
            if name not in given:
                return f"{key}.{name} was {stored[name]!r} and is gone"
            if name not in stored:
                return f"{key}.{name} is {given[name]!r} and was absent"
            if found := first_difference(stored[name], given[name], f"{key}.{name}"):
                return found
        return None
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        for index, pair in enumerate(zip(stored, given, strict=True)):
            if found := first_difference(*pair, f"{key}[{index}]"):
                return found
        return None
    # 1 and 1.0 are the same setting, 1 and true are not; NaN is the same as NaN.
    same = stored == given and isinstance(stored, bool) == isinstance(given, bool)
    if same or (stored != stored and given != given):
        return None
    return f"{key} was {stored!r} and is {given!r}"
