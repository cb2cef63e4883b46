"""The parser of all commands: jsonargparse, reading YAML of limited size only."""

from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from sciwm.core.yaml_text import require_bounded

MODE = "bounded_yaml"


def new_parser(prog: str, description: str) -> ArgumentParser:
    """A parser whose options and files may not stand for more than the memory holds."""
    set_loader(MODE, _load, exceptions=(yaml.YAMLError,))
    return ArgumentParser(prog=prog, description=description, parser_mode=MODE)


def _load(text: str) -> Any:
    require_bounded(text)
    return get_loader("yaml")(text)
