"""Model files: a description of the model and its numbers, never code.

A file holds the class names and constructor arguments, the state dict, the units, the versions that
wrote it, the fingerprint of the training data, and the result of `sciwm check`. It is read with
`weights_only=True`, and only classes under `sciwm.` are built, so a file from anyone is safe to open.
Every constructor argument of a model is kept by the module as an attribute of the same name; that
is all `describe` relies on.
"""

import hashlib
import importlib
import inspect
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sciwm import __version__
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.replacement import replacing
from sciwm.core.state import State
from sciwm.models.potential import Potential

FORMAT = "sciwm-model"
VERSION = 1


class ModelFileError(ValueError):
    """A file that is not a model this version can read."""


@dataclass
class Archive:
    """A model and where it comes from.

    Attributes:
        model: Ready to evaluate.
        data: Fingerprint and origin of the training data.
        check: The result of `sciwm check`, empty until it was run.
        versions: Of the packages that wrote the file.
    """

    model: Potential
    data: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


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


def weights_digest(model: nn.Module) -> str:
    """A digest of every number that a model holds."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def build(description: dict[str, Any]) -> nn.Module:
    """The module a description names, freshly initialised.

    Raises:
        ModelFileError: If it names anything but a module of this package.
    """
    path = description.get("class_path", "")
    module_name, _, class_name = str(path).rpartition(".")
    if not module_name.startswith("sciwm."):
        raise ModelFileError(f"refusing to build {path!r}: only classes under 'sciwm.' are built")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ModelFileError(
            f"this version of sciwm ({__version__}) has no {path!r}; install the version that wrote it"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ModelFileError(f"{path!r} is not a model class")
    arguments = {name: _built(value) for name, value in description.get("init_args", {}).items()}
    return kind(**arguments)


def _built(value: Any) -> Any:
    """An argument as it is, with the modules that it describes."""
    if isinstance(value, list):
        return [_built(part) for part in value]
    return build(value) if isinstance(value, dict) and "class_path" in value else value


def probe(model: Potential) -> float | None:
    """The energy of a fixed arrangement of the particles a model knows; None before it knows any.

    Stored with the model and compared at loading: code or coupling coefficients that changed since
    would otherwise give other numbers in silence.
    """
    species = torch.nonzero(model.domain.seen)[:, 0]
    if not len(species):
        return None
    size = 0.3 * min(model.cutoff, 5.0)
    corners = [[0.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.2, 1.1, 0.0], [0.3, 0.4, 1.2]]
    frame = Frame(
        numbers=species.cpu().numpy()[np.arange(4) % len(species)],
        positions=size * np.array(corners),
        charges=np.array([1.0, -1.0, 1.0, -1.0]),
    )
    weight = next(model.parameters())
    state = attach_pairs(State.from_frame(frame, weight.dtype), model.cutoff).to(weight.device)
    energy, _, _ = model(state, NeighbourTable.from_pairs(state))
    return float(energy)


def save(archive: Archive, path: str | os.PathLike[str]) -> None:
    """Writes a model file; an older file of that name survives until the new one is whole."""
    import e3nn

    model = archive.model
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": describe(model),
        "state": {name: value.detach().cpu() for name, value in model.state_dict().items()},
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "units": model.unit_system,
        "versions": archive.versions
        or {"sciwm": __version__, "torch": str(torch.__version__), "e3nn": e3nn.__version__},
        "data": archive.data,
        "check": archive.check,
        "probe": probe(model),
    }
    written = io.BytesIO()
    torch.save(content, written)
    written.seek(0)
    torch.load(written, weights_only=True)  # what cannot be read back must not replace anything
    with replacing(Path(path)) as file:
        file.write(written.getbuffer())


def load(path: str | os.PathLike[str], device: str = "cpu") -> Archive:
    """Reads a model file.

    Raises:
        FileNotFoundError: If there is none.
        ModelFileError: If the file is damaged, from a newer version, or not a model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}; `sciwm train` writes runs/<name>/model.pt")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds here, pickle's and zip's among them
        raise ModelFileError(
            f"{path} cannot be read as a model file ({type(error).__name__}); it is damaged, or "
            "not written by sciwm. Train again or restore a copy."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a sciwm model file")
    if content["version"] > VERSION:
        raise ModelFileError(
            f"{path} has format version {content['version']}, newer than {VERSION}, which this "
            f"sciwm ({__version__}) reads; upgrade sciwm"
        )
    model = build(content["model"])
    if not isinstance(model, Potential):
        raise ModelFileError(f"{path} holds a {type(model).__name__}, which is not a potential")
    model = model.to(getattr(torch, content["dtype"])).to(device)
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:
        raise ModelFileError(f"{path}: the weights do not fit the model it describes") from error
    model.eval()
    expected, found = content.get("probe"), probe(model)
    if expected is not None and (found is None or not np.isclose(found, expected, 1e-3, 1e-3)):
        raise ModelFileError(
            f"{path} gives an energy of {found} where it gave {expected} when it was written by "
            f"{content['versions']}: the code has changed since. Install those versions, or train again"
        )
    return Archive(model, content["data"], content["check"], content["versions"])
