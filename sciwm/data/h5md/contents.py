"""What HDF5 allows and H5MD does not: other kinds of values, and links that lead nowhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import h5py
from h5py import h5o

from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import OBSERVABLE_FIELDS


def require_values(dataset: h5py.Dataset) -> None:
    """Raises FormatError unless a dataset holds numbers.

    Labels of frames are text.
    """
    kind = dataset.dtype.kind
    is_label = OBSERVABLE_FIELDS["label"].name in dataset.name.split("/")
    is_text = kind == "S" or h5py.check_string_dtype(dataset.dtype) is not None
    if dataset.shape is None or not (kind in "iufb" or (is_label and is_text)):
        raise FormatError(
            dataset.file.filename,
            dataset.name,
            f"it holds {_kind(dataset)}, not numbers",
            "Store numbers, one array for each element",
        )


@contextmanager
def diagnosed(file: h5py.File) -> Iterator[None]:
    """Tells which object of a file is not as H5MD has it, where one makes reading fail.

    Raises:
        FormatError: With that object.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        fault = next(_faults(file, "/", set()), None)
        if fault is None:
            raise
        where, reason = fault
        raise FormatError(
            file.filename, where, reason, "Write the file as H5MD 1.1, or repair that object"
        ) from error


def _faults(group: h5py.Group, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Paths of odd objects in a group and below, and what is odd about them."""
    try:
        place = h5o.get_info(group.id).addr
        names = list(group)
    except (KeyError, OSError, RuntimeError) as error:
        yield path, f"it is damaged ({error})"
        return
    if place in seen:
        return
    seen.add(place)
    for name in names:
        below = f"{path}{name}"
        try:
            node = group[name]
        except (KeyError, OSError, RuntimeError) as error:
            yield below, f"its link leads nowhere ({error})"
            continue
        yield from ((below, reason) for reason in _odd_attributes(node))
        if isinstance(node, h5py.Group):
            yield from _faults(node, f"{below}/", seen)
        elif path == "/":
            yield below, "it is no group"
        elif isinstance(node, h5py.Datatype):
            yield below, "it is a type, without values"
        elif node.shape is None or node.dtype.kind not in "iufbSO":
            yield below, f"it holds {_kind(node)}"


def _odd_attributes(node: h5py.HLObject) -> Iterator[str]:
    for name in node.attrs:
        try:
            value = node.attrs[name]
        except (OSError, TypeError, ValueError) as error:
            yield f"its attribute {name!r} cannot be read ({error})"
            continue
        if isinstance(value, h5py.Empty):
            yield f"its attribute {name!r} is empty"
        elif getattr(getattr(value, "dtype", None), "kind", "S") not in "iufbSUO":
            yield f"its attribute {name!r} has values of several parts"


def _kind(dataset: h5py.Dataset) -> str:
    """What a dataset holds, in words."""
    if dataset.shape is None:
        return "nothing"
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return "text"
    if h5py.check_ref_dtype(dataset.dtype) is not None:
        return "references to other objects"
    if h5py.check_vlen_dtype(dataset.dtype) is not None:
        return "rows of unlike length"
    return f"values of type {dataset.dtype}"
