"""Model files: a description of the model and its numbers, never code.

A file holds the class names and constructor arguments, the state dict, the units, the versions that
wrote it, the fingerprint of the training data, the result of `sciwm check`, what the model gives for
a probe, and a digest of all that. It is read with `weights_only=True`, and only classes of
`sciwm.models` are built, so a file from anyone is safe to open.
"""

import io
import os
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciwm import __version__
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.replacement import replacing
from sciwm.core.state import State
from sciwm.models.construction import ModelFileError, build, describe, in_double_precision
from sciwm.models.content import content_digest, require_layout, weights_digest
from sciwm.models.dynamics.potential import Potential
from sciwm.models.model import Model

__all__ = [
    "Archive", "ModelFileError", "build", "describe", "load", "probe", "save", "weights_digest",
]  # fmt: skip

FORMAT = "sciwm-model"
VERSION = 2
"""Files of version 1 have no digest; in their models free atoms are not at their reference energies, and
the repulsion is added to what was learned."""

SHARE = 4
"""Numbers that may be made while a model is built, for each that its file holds."""

CONSTANTS = 20_000_000
"""And beside them: coupling coefficients are computed anew, and need more room the higher the degree."""


TOLERANCE = 1e-5
"""Of the largest number of a probe: other machines and versions of torch round differently."""


@dataclass
class Archive:
    """A model and where it comes from.

    Attributes:
        model: Ready to evaluate.
        data: Fingerprint and origin of the training data.
        check: The result of `sciwm check`, empty until it was run.
        versions: Of the packages that wrote the file.
    """

    model: Model
    data: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def potential(self) -> Potential:
        """The model where it is one.

        Raises:
            ValueError: If it has no energies.
        """
        if not isinstance(self.model, Potential):
            raise ValueError(
                f"the model is a {type(self.model).__name__}: it moves things by long strides and has no "
                "energies or forces; use `sciwm simulate` or `sciwm check`, or give a force field"
            )
        return self.model


def probe(model: Model) -> list[float] | None:
    """What a model gives, in float64, for two fixed arrangements of the particles that it knows.

    Of potentials, first their energies without the constant parts, then the components of all forces;
    None before it knows any particle. Stored with the model and compared at loading: code or coupling
    coefficients that changed since would otherwise give other numbers in silence.
    """
    species = torch.nonzero(model.domain.seen)[:, 0]
    if not len(species):
        return None
    exact = in_double_precision(model).to(species.device)
    corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.2, 1.1, 0.0], [0.3, 0.4, 1.2]])
    states = [
        State.from_frame(
            Frame(
                numbers=species.cpu().numpy()[np.arange(4) % len(species)],
                positions=share * min(model.cutoff, 5.0) * corners,
                charges=np.array([1.0, -1.0, 1.0, -1.0]),
            ),
            torch.float64,
        )
        for share in (0.3, 0.5)  # as near as bonds, and where only the learned part acts
    ]
    state = attach_pairs(State.collate(states), model.cutoff).to(species.device)
    answers = exact.answers(state, NeighbourTable.from_pairs(state))
    return [number for one in answers for number in one.flatten().tolist()]


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
    content["digest"] = content_digest(content)
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
    content = _content(path)
    try:
        return _archive(content, path, device)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _content(path: Path) -> dict[str, Any]:
    """What the file holds, as it was written."""
    try:
        # Records are stored as they are: packed ones could unpack to any size.
        with zipfile.ZipFile(path) as records:
            if any(one.compress_type != zipfile.ZIP_STORED for one in records.infolist()):
                raise zipfile.BadZipFile("its records are packed")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, pickle's and zip's among them
        raise ModelFileError(
            f"{path} cannot be read as a model file ({type(error).__name__}); it is damaged, or "
            "not written by sciwm. Train again or restore a copy."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a sciwm model file")
    return content


def _archive(content: dict[str, Any], path: Path, device: str) -> Archive:
    """The model of a file that was read; the errors do not name the file."""
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"the version of its format is {version!r}; the file is damaged")
    if version > VERSION:
        raise ModelFileError(
            f"it has format version {version}, newer than {VERSION}, which this sciwm "
            f"({__version__}) reads; upgrade sciwm"
        )
    expected = content.pop("digest", None)
    found = content_digest(content, most=path.stat().st_size)
    if version == 1:
        warnings.warn(
            f"{path} was written before model files had a digest, so damage to it cannot be told; "
            "`sciwm check` writes it anew with one",
            stacklevel=3,
        )
    elif found != expected:
        raise ModelFileError(
            "it is damaged: its digest is not that of what it holds. Train again or restore a copy"
        )
    require_layout(content)
    if version == 1:
        _mark_first_version(content["model"])
    state = content["state"]
    held = sum(value.numel() for value in state.values())
    model = build(content["model"], SHARE * held + CONSTANTS)
    if not isinstance(model, Model):
        raise ModelFileError(f"it holds a {type(model).__name__}, which is not a model")
    if model.unit_system != content["units"]:
        raise ModelFileError(f"it is in {content['units']} units, its model in {model.unit_system}")
    model = model.to(getattr(torch, content["dtype"]))
    kinds = {name: value.dtype for name, value in model.state_dict().items()}
    odd = [name for name in state if state[name].dtype != kinds.get(name, state[name].dtype)]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError("the weights do not fit the model it describes") from error
    if odd:
        raise ModelFileError(f"{odd[0]} is {state[odd[0]].dtype} in it, not {kinds[odd[0]]}")
    model = model.to(device).eval()
    _require_same_numbers(probe(model), content.get("probe"), content["versions"])
    return Archive(model, content["data"], content["check"], content["versions"])


def _mark_first_version(description: dict[str, Any]) -> None:
    """Has force fields built as they were in version 1."""
    arguments = description.get("init_args")
    if not isinstance(arguments, dict):
        return  # told where it is built
    if description.get("class_path") == "sciwm.models.force_field.ForceField":
        arguments["exact_limits"] = False
    elif isinstance(arguments.get("force_field"), dict):
        _mark_first_version(arguments["force_field"])


def _require_same_numbers(
    found: list[float] | None, expected: list[float] | float | None, versions: dict[str, str]
) -> None:
    if expected is None:
        return
    if isinstance(expected, float):  # the first energy, in single precision
        same = found is not None and bool(np.isclose(found[0], expected, 1e-3, 1e-3))
    else:
        scale = max(map(abs, expected), default=0.0)
        same = (
            found is not None
            and len(found) == len(expected)
            and np.allclose(found, expected, 0.0, TOLERANCE * scale, equal_nan=True)
        )
    if not same:
        raise ModelFileError(
            f"it gives other numbers than when it was written by {versions}: the code "
            "has changed since. Install those versions, or train again"
        )
