"""The parser of all commands: jsonargparse, reading YAML of limited size only."""

import importlib
import inspect
import re
from dataclasses import is_dataclass
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from sciwm.core.yaml_text import require_bounded

MODE = "bounded_yaml"

WRAPPING = re.compile(
    r"Does not validate against any of the Union subtypes|Subtypes: |Errors:$|Given value|"
    r"Expected a <class 'NoneType'>|Problem with given class_path .*:$"
)
"""Lines of jsonargparse that say what type was tried, and not what is wrong."""


class CommandParser(ArgumentParser):
    """A parser that tells what is wrong in one line, as all of our errors do."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the process with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        options = (
            " --options"
            if self.prog in ("sciwm train", "sciwm discover", "sciwm plan")
            else " --help"
        )
        self.exit(2, f"{self.prog}: {plain(message)}; `{self.prog}{options}` lists all options\n")


def new_parser(prog: str, description: str) -> CommandParser:
    """A parser whose options and files may not stand for more than the memory holds."""
    set_loader(MODE, _load, exceptions=(yaml.YAMLError,))
    return CommandParser(prog=prog, description=description, parser_mode=MODE)


def plain(message: str) -> str:
    """An error of jsonargparse in one line: the option, as it is written, and what is wrong there.

    Its own has a line and an indent for every class and type on the way there.
    """
    keys, problems, given = list[str](), list[str](), ""
    for line in map(str.strip, message.splitlines()):
        line = line.removeprefix("- ")
        if found := re.match(r'Parser key "(.*?)": ?(.*)', line):
            keys.append(found[1])
            line = found[2]
        if line.startswith("Given value: "):
            given = re.sub(
                r"NestedArg\(.*, val='(.*)'\)", r"\1", line.removeprefix("Given value: ")
            )
        elif line and not WRAPPING.match(line):
            problems.append(re.sub(r"<class '(.*?)'>", r"\1", line))
    for number, line in enumerate(problems):
        if found := re.match(r"Expected an? ([\w. ]*?)(?:: .*|\. Got value: (.*))?$", line):
            problems[number] = f"expected {found[1]}, got {found[2] or given}"
    return ": ".join([".".join(keys)] * bool(keys) + [" ".join(dict.fromkeys(problems)) or message])


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
