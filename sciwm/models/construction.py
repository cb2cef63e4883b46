"""Models as descriptions: class paths and constructor arguments, and the way back.

Every constructor argument of a model is kept by the module as an attribute of the same name; that
is all `describe` relies on. A description may come from anyone: only classes of `sciwm.models` are
built, only from arguments of the types that they declare, and with no more memory than they are
granted.
"""

import importlib
import inspect
from typing import Any, TypeVar, get_type_hints

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sciwm import __version__
from sciwm.core.annotations import fits, shown
from sciwm.core.former_names import current_path

M = TypeVar("M", bound=nn.Module)

HOME = "sciwm.models."
"""Where the classes are that a description may name."""

WHOLE_NUMBERS = 10**6
"""No size that a model is described by comes near, and products of three do not overflow."""

FACTORIES = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
    | {torch.arange, torch.eye, torch.linspace, torch.logspace}
)
"""What makes tensors of a given size."""


class ModelFileError(ValueError):
    """A file, or a description in it, that is not a model this version can read."""


def describe(module: nn.Module) -> dict[str, Any]:
    """Class path and constructor arguments of a module, down to its parts."""
    arguments: dict[str, Any] = {}
    for name in inspect.signature(type(module)).parameters:
        value = getattr(module, name)
        if isinstance(value, nn.ModuleList):
            arguments[name] = [describe(part) for part in value]
        else:
            arguments[name] = describe(value) if isinstance(value, nn.Module) else value
    kind = type(module)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def build(description: dict[str, Any], numbers: int | None = None) -> nn.Module:
    """The module a description names, freshly initialised.

    Args:
        numbers: Elements of all tensors made on the way, at most.

    Raises:
        ModelFileError: If it names anything but a module of this package, with arguments that this
            module does not take, or needs more numbers.
    """
    if numbers is None:
        return _module(description)
    with _Allowance(numbers):
        return _module(description)


def in_double_precision(model: M) -> M:
    """A copy in float64, built anew so that its constants are not rounded to single precision."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            double = build(describe(model))
    finally:
        torch.set_default_dtype(default)
    assert isinstance(double, type(model))
    double = double.double()
    double.load_state_dict(model.state_dict())
    return double.eval()


class _Allowance(TorchFunctionMode):
    """Refuses tensors before memory is taken for them, once so many elements were made."""

    def __init__(self, numbers: int):
        super().__init__()
        self._numbers = numbers
        self._left = numbers

    def __torch_function__(
        self, function: Any, kinds: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        if function in FACTORIES:
            # Tensors on this device have a size and no content.
            self._left -= function(*arguments, **named | {"device": "meta"}).numel()
            if self._left < 0:
                raise ModelFileError(
                    f"the description is of a model that needs more than {self._numbers:,} numbers, "
                    "many times those that the file holds"
                )
        return function(*arguments, **named)


def _module(description: dict[str, Any]) -> nn.Module:
    kind = _class(description.get("class_path", ""))
    given = description.get("init_args", {})
    if not isinstance(given, dict):
        raise ModelFileError(f"the arguments of {kind.__name__} are a {type(given).__name__}")
    parameters = inspect.signature(kind).parameters
    unknown = [str(name) for name in given if name not in parameters]
    if unknown:
        raise ModelFileError(
            f"{kind.__name__} of this version of sciwm ({__version__}) has no argument "
            f"{', '.join(unknown)}; install the version that wrote the model"
        )
    needed = {name for name, one in parameters.items() if one.default is one.empty}
    if needed - given.keys():
        raise ModelFileError(
            f"the description lacks {', '.join(sorted(needed - given.keys()))} of {kind.__name__}"
        )
    arguments = {name: _built(value) for name, value in given.items()}
    hints = get_type_hints(kind.__init__)
    for name, value in arguments.items():
        if not fits(value, hints[name], WHOLE_NUMBERS):
            raise ModelFileError(f"{name} of {kind.__name__} cannot be {shown(value)}")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ModelFileError(f"{kind.__name__} cannot be built: {error}") from error


def _class(path: Any) -> type[nn.Module]:
    module_name, _, class_name = current_path(str(path)).rpartition(".")
    if not module_name.startswith(HOME):
        raise ModelFileError(f"refusing to build {path!r}: only classes under {HOME!r} are built")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ModelFileError(
            f"this version of sciwm ({__version__}) has no {path!r}; install the version that wrote it"
        ) from error
    # A module also holds the classes that it imports from elsewhere.
    ours = isinstance(kind, type) and kind.__module__.startswith(HOME)
    if not ours or not issubclass(kind, nn.Module) or inspect.isabstract(kind):
        raise ModelFileError(f"{path!r} is not a model class")
    return kind


def _built(value: Any) -> Any:
    """An argument as it is, with the modules that it describes."""
    if isinstance(value, list):
        return [_built(part) for part in value]
    return _module(value) if isinstance(value, dict) and "class_path" in value else value
