"""Objects written down as a class path and its arguments, so that they can travel to other machines.

Only classes that are defined in this package are built, so a description from anyone is safe to run.
"""

import importlib
from typing import Any

Description = dict[str, Any]
"""`class_path` and `init_args`, which may hold descriptions again; anything else is plain JSON."""


def construct(description: Description) -> Any:
    """The object that a description names.

    Raises:
        ValueError: If it names anything but a class of this package, or arguments that the class
            does not take.
    """
    odd = description.keys() - {"class_path", "init_args"}
    path = str(description.get("class_path", ""))
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
    given = description.get("init_args", {})
    if not isinstance(given, dict):
        raise ValueError(f"init_args of {path} is {given!r}; write each argument with its name")
    arguments = {
        name: construct(value) if isinstance(value, dict) and "class_path" in value else value
        for name, value in given.items()
    }
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path} cannot be built from {sorted(arguments)}: {error}") from error
