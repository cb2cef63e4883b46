"""Job files: those that users have, and those that come with the package, by name."""

from pathlib import Path
from typing import Any

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


def read_job(
    arguments: list[str], command: str, kind: type, what: str, further: Any = None
) -> tuple[Any, Any] | None:
    """A job file and the options after it, as an object of a dataclass and as they were parsed.

    `name` of what was parsed is the file's own where none is given. None if the options were only listed.

    Args:
        kind: The dataclass.
        what: A job of that kind is, with its article.
        further: Adds options that are not the job's to a parser.

    Raises:
        ValueError: If there is neither a file nor a name, or the job cannot be.
    """
    from dataclasses import fields

    from sciwm.cli.arguments import built, readable
    from sciwm.cli.parser import new_parser, require_values

    parser = new_parser(f"sciwm {command}", f"All options of {what}.")
    parser.add_argument("--config", action="config", help="The job file.")
    parser.add_class_arguments(kind, fail_untyped=True)
    parser.add_argument("--name", type=str, default=None, help=f"Of the folder of {what}.")
    parser.add_argument("--folder", type=str, default="runs", help="Where folders are made.")
    if further is not None:
        further(parser)
    if arguments == ["--options"]:
        parser.print_help()
        return None
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--config", str(job_file(arguments[0])), *arguments[1:]]
    parsed = parser.parse_args(readable(arguments))
    require_values(parsed.as_dict(), kind)
    found = built(parser, parsed)
    job = kind(**{field.name: found[field.name] for field in fields(kind)})
    if not (parsed.name or parsed.config):
        raise ValueError(f"{what} without a job file needs a --name")
    parsed.name = parsed.name or Path(str(parsed.config[0])).stem
    return job, parsed
