"""Objects written down as a class path and its arguments, so that they can travel to other machines.

Only classes that are defined in this package and of the kind that is asked for are built, so a
description from anyone is safe to run.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from sciwm.core.annotations import fits, shown
from sciwm.core.former_names import current_path

T = TypeVar("T")

Description = dict[str, Any]
"""`class_path` and `init_args`, which may hold descriptions again; anything else is plain JSON."""


def construct(description: Description, *wanted: type) -> Any:
    """The object that a description names.

    Args:
        wanted: What it is to be one of: classes, or protocols whose methods it is to have; if none,
            anything.

    Raises:
        ValueError: If it names anything but a class of this package, another kind of object, or
            arguments that the class does not take.
    """
    odd = description.keys() - {"class_path", "init_args"}
    path = current_path(str(description.get("class_path", "")))
    module_name, _, class_name = path.rpartition(".")
    if odd or not path:
        raise ValueError(
            f"{description!r} is no description of an object; give 'class_path' and 'init_args' only"
        )
    if not module_name.startswith("sciwm."):
        raise ValueError(f"refusing to build {path!r}: only classes under 'sciwm.' are built")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no {path!r}: {error}; check the spelling") from error
    # A module also holds the classes that it imports from elsewhere.
    if not (isinstance(kind, type) and kind.__module__.startswith("sciwm.")):
        raise ValueError(f"refusing to build {path!r}: it is not a class of this package")
    if wanted and not any(_is_a(kind, one) for one in wanted):
        raise ValueError(f"{path} is no {' or '.join(one.__name__ for one in wanted)}")
    given = description.get("init_args", {})
    if not isinstance(given, dict):
        raise ValueError(f"init_args of {path} is {given!r}; write each argument with its name")
    signature = inspect.signature(kind, eval_str=True)
    hints = {name: one.annotation for name, one in signature.parameters.items()}
    arguments = {name: _argument(value, hints.get(name, Any)) for name, value in given.items()}
    for name, value in arguments.items():
        if not fits(value, hints.get(name, Any)):
            takes = inspect.formatannotation(hints[name])
            raise ValueError(f"{name} of {path} cannot be {shown(value)}; it takes {takes}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{path} cannot be built from {sorted(map(str, arguments))}: {error}"
        ) from error


def construct_named(content: Any, kinds: Mapping[str, type[T]], what: str) -> T:
    """The object that `NAME: {arguments}` stands for.

    Args:
        kinds: Classes by the names that files call them by.
        what: They are, for errors.

    Raises:
        ValueError: If it is none of them, or takes no such arguments.
    """
    if isinstance(content, str):
        content = {content: {}}
    if not isinstance(content, dict) or len(content) != 1 or next(iter(content)) not in kinds:
        raise ValueError(f"{content!r} is no {what}; there are {', '.join(kinds)}")
    ((name, given),) = content.items()
    kind = kinds[name]
    path = f"{kind.__module__}.{name}"
    made: T = construct({"class_path": path, "init_args": given or {}}, kind)
    return made


def _argument(value: Any, hint: Any) -> Any:
    """An argument as it is, or the object that it describes."""
    if not (isinstance(value, dict) and "class_path" in value):
        return value
    return construct(value, *(one for one in (hint, *get_args(hint)) if isinstance(one, type)))


def _is_a(kind: type, wanted: type) -> bool:
    """Whether objects of a class are of another kind, told without making one."""
    if not getattr(wanted, "_is_protocol", False):
        return issubclass(kind, wanted)
    methods = [
        name for name, one in vars(wanted).items() if inspect.isfunction(one) and name[0] != "_"
    ]
    return all(callable(getattr(kind, name, None)) for name in methods)
