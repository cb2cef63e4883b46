"""A run folder seen from outside: its model file, and the data it was trained on."""

import os
from pathlib import Path
from typing import Any

from sciwm.core.yaml_text import read_yaml
from sciwm.data.collection import Collection

MODEL = "model.pt"

WORLDS = Path(__file__).parents[1] / "worlds"
"""Where the worlds lie that come with the package: NAME.pt, and beside it its card NAME.md."""


def shipped_worlds() -> list[str]:
    """Names of the worlds that come with the package."""
    return sorted(file.stem for file in WORLDS.glob("*.pt"))


def model_file(run: str | os.PathLike[str]) -> Path:
    """The model of a run folder, the model file itself, or a shipped world by its name.

    A file or run folder of that name in the current folder goes first.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(run)
    if path.is_file():
        return path
    if str(run) in shipped_worlds() and not (path / "config.yaml").is_file():
        return path / MODEL if (path / MODEL).is_file() else WORLDS / f"{run}.pt"
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no run folder or model file {path}, and no world of that name comes with "
            f"sciwm; those that do are: {', '.join(shipped_worlds())}"
        )
    if not (path / MODEL).is_file():
        raise FileNotFoundError(
            f"{path} holds no {MODEL}: either it is no run folder, or its training is unfinished and "
            f"`sciwm train {path / 'config.yaml'}` continues it"
        )
    return path / MODEL


def run_folder(run: str | Path) -> Path | None:
    """The folder of the run a model belongs to; None for a model file on its own."""
    folder = model_file(run).parent
    return folder if (folder / "config.yaml").is_file() else None


def training_files(folder: Path) -> list[str]:
    """The files that a run was trained on, as its job names them.

    Raises:
        ValueError: If the job cannot be read.
    """
    return named_training_files(folder / "config.yaml")


def named_training_files(job: Path) -> list[str]:
    """The files that a job file names to learn from.

    Raises:
        ValueError: If it cannot be read.
    """
    config = read_yaml(job)
    for key in ("data", "init_args", "train"):
        config = config.get(key, []) if isinstance(config, dict) else []
    names = [config] if isinstance(config, str) else config
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{job} names {names!r} as training data; name files")
    return names


def training_data(run: str | Path, recorded: dict[str, Any]) -> Collection:
    """The files a model was trained on, where they still are and are still the same.

    Args:
        recorded: The fingerprint kept in the model file.

    Raises:
        FileNotFoundError: If the run does not say where they were, or they are not there any more.
        ValueError: If they have changed since.
    """
    folder = run_folder(run)
    if folder is None:
        raise FileNotFoundError(
            f"{run} is a model file without its run folder, so its data is unknown; give --data FILE"
        )
    names = training_files(folder)
    missing = [name for name in names if not Path(name).is_file()]
    if missing or not names:
        raise FileNotFoundError(
            f"the training data {', '.join(missing) or 'of this run'} is not found from "
            f"{Path.cwd()}; give --data FILE"
        )
    data = Collection(names)
    if recorded and data.fingerprint() != recorded:
        raise ValueError(
            f"{', '.join(names)} has changed since the model was trained on it; give --data FILE to "
            "check on other data"
        )
    return data
