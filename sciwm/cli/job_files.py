"""Job files: those that users have, and those that come with the package, by name."""

from pathlib import Path

import sciwm

PACKAGE = Path(sciwm.__file__).parent

SHIPPED = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
"""In an installed package they lie inside it, in the repository beside it."""

DATASETS = SHIPPED.with_name("datasets")


def shipped_jobs() -> list[str]:
    """Names of the job files that come with the package."""
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def job_file(text: str) -> Path:
    """A job file, or one of those that come with the package by its name.

    A file of that name in the current folder goes first.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(text)
    if path.is_file():
        return path
    if text in shipped_jobs():
        return SHIPPED / f"{text}.yaml"
    # As it is written in the documentation, for those who have no repository.
    if path.parent == Path("configs") and path.stem in shipped_jobs():
        return SHIPPED / path.name
    raise FileNotFoundError(
        f"there is no job file {text!r}, and none of that name comes with sciwm; those that do are: "
        + ", ".join(shipped_jobs())
    )
