"""What a model file may hold, and a digest by which every change of it is found."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sciwm.core.units import UNIT_SYSTEMS
from sciwm.models.construction import ModelFileError

DEPTH = 20
"""Dictionaries and lists inside one another, at most."""

PRECISIONS = ("float64", "float32", "bfloat16", "float16")

LAYOUT: dict[str, type] = {
    "model": dict,
    "state": dict,
    "dtype": str,
    "units": str,
    "versions": dict,
    "data": dict,
    "check": dict,
}
"""What every file has."""


def weights_digest(model: nn.Module) -> str:
    """A digest of every number that a model holds."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def content_digest(content: dict[str, Any], most: float = float("inf")) -> str:
    """A digest of plain values and tensors, whatever the order of the keys.

    Args:
        most: Values inside one another, and bytes of all tensors.

    Raises:
        ModelFileError: If there are more, as few bytes of a file can stand for (by naming one list
            many times, or repeating one number along a dimension), or something of another kind.
    """
    digest = hashlib.sha256()
    for count, (part, size) in enumerate(_parts(content)):
        most -= size
        if count > most:
            raise ModelFileError(
                "it holds more than the bytes of the file can; it is not from sciwm"
            )
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any, depth: int = 0) -> Iterator[tuple[Any, int]]:
    """Bytes that together say everything about a value, and the size of the tensors among it.

    The size of a tensor comes before its bytes, which may be many times what is in memory.
    """
    if depth > DEPTH:
        raise ModelFileError(
            f"its contents are nested more than {DEPTH} deep; it is not from sciwm"
        )
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ModelFileError(
                f"it holds a tensor in a form ({value.layout}) that sciwm never writes"
            )
        yield f"tensor {value.dtype} {tuple(value.shape)}\n".encode(), value.nbytes
        # An empty tensor may have strides that no view of bytes has, unless it is copied.
        copy = value.detach().clone(memory_format=torch.contiguous_format)
        yield copy.reshape(-1).view(torch.uint8).numpy(), 0
    elif isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ModelFileError("it holds a table with keys that are not words")
        yield f"dict {len(value)}\n".encode(), 0
        for name in sorted(value):
            yield f"{name!r}\n".encode(), 0
            yield from _parts(value[name], depth + 1)
    elif isinstance(value, (list, tuple)):
        yield f"list {len(value)}\n".encode(), 0
        for one in value:
            yield from _parts(one, depth + 1)
    elif value is None or isinstance(value, (str, int, float)):
        yield f"{value!r}\n".encode(), 0
    else:
        raise ModelFileError(f"it holds a {type(value).__name__}, which sciwm never writes")


def require_layout(content: dict[str, Any]) -> None:
    """Raises ModelFileError unless everything is there, and of the kind that it should be."""
    for name, kind in LAYOUT.items():
        if not isinstance(content.get(name), kind):
            found = type(content[name]).__name__ if name in content else "absent"
            raise ModelFileError(f"{name!r} is {found} in it, not {kind.__name__}")
    if content["units"] not in UNIT_SYSTEMS:
        raise ModelFileError(f"its units are {content['units']!r}, not {' or '.join(UNIT_SYSTEMS)}")
    if content["dtype"] not in PRECISIONS:
        raise ModelFileError(f"its numbers are {content['dtype']!r}, not {' or '.join(PRECISIONS)}")
    if not all(isinstance(value, Tensor) for value in content["state"].values()):
        raise ModelFileError("its 'state' holds other things than tensors")
    if not all(isinstance(value, str) for value in content["versions"].values()):
        raise ModelFileError("its 'versions' are not words")
    if content["check"] and not isinstance(content["check"].get("verdict"), str):
        raise ModelFileError("its 'check' has no verdict")
    _require_records(content["data"].get("files", []), "data: files", ("name",))
    _require_records(content["check"].get("checks", []), "check: checks", ("name", "status"))
    expected = content.get("probe")
    numbers = expected if isinstance(expected, list) else [expected]
    if expected is not None and not all(isinstance(one, float) for one in numbers):
        raise ModelFileError("its 'probe' does not consist of numbers")


def _require_records(records: Any, where: str, words: tuple[str, ...]) -> None:
    sound = isinstance(records, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(word), str) for word in words)
        for one in records
    )
    if not sound:
        raise ModelFileError(f"its {where} are no list of records with {' and '.join(words)}")
