"""YAML of limited size: a few lines of it may stand for more than any memory holds."""

from pathlib import Path
from typing import Any

import yaml

LONGEST = 1 << 20
"""Characters; settings that people write are a thousandth of it."""

MOST_VALUES = 100_000
"""Once every alias is replaced by what it stands for."""

DEEPEST = 50
"""Lists and mappings inside one another."""


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: If it is no YAML, or too large.
    """
    try:
        text = path.read_text()
        require_bounded(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML that can be read: {error}") from error


def require_bounded(text: str) -> None:
    """Raises yaml.YAMLError if the text is long, deep, or grows too much when aliases are replaced."""
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"the text has {len(text)} characters, and {LONGEST} at most are read")
    sizes: dict[str, int] = {}  # values that each anchor stands for
    open_ones: list[tuple[str | None, int]] = []  # anchors, and how many values came before
    count = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"the alias *{event.anchor} stands for what it is part of")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_ones.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if count > MOST_VALUES or len(open_ones) > DEEPEST:
            raise yaml.YAMLError(
                f"the text stands for more than {MOST_VALUES} values, or is nested more than {DEEPEST} deep"
            )
