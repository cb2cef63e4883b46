"""The parser of all commands: jsonargparse, reading YAML of limited size only."""

import importlib
import inspect
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from sciwm.core.yaml_text import require_bounded

MODE = "bounded_yaml"


def new_parser(prog: str, description: str) -> ArgumentParser:
    """A parser whose options and files may not stand for more than the memory holds."""
    set_loader(MODE, _load, exceptions=(yaml.YAMLError,))
    return ArgumentParser(prog=prog, description=description, parser_mode=MODE)


def require_values(options: dict[str, Any], of: Any, where: str = "") -> None:
    """Raises ValueError for an option that is null where this function or class takes no None.

    jsonargparse hands null on, whatever the type.
    """
    hints = get_type_hints(of if inspect.isfunction(of) else of.__init__)
    for name, value in options.items():
        hint = hints.get(name)
        if value is None and name in hints and type(None) not in get_args(hint):
            raise ValueError(f"{where}{name} cannot be null; give a value, or leave it out")
        for kind in filter(is_dataclass, (hint, *get_args(hint))):
            require_values(value or {}, kind, f"{where}{name}.")
        if isinstance(value, dict) and "class_path" in value:
            module, _, called = str(value["class_path"]).rpartition(".")
            inside = value.get("init_args") or {}
            require_values(
                inside, getattr(importlib.import_module(module), called), f"{where}{name}."
            )


def _load(text: str) -> Any:
    require_bounded(text)
    return get_loader("yaml")(text)
