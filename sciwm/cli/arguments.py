"""Arguments of the command line in the form that their parser reads."""

from collections.abc import Collection, Sequence
from typing import Any


def readable(arguments: Sequence[str], options: Collection[str] = ()) -> list[str]:
    """The arguments with names of options as the parser spells them, and each value with its option.

    `--skip-bad` becomes `--skip_bad`; values stay as they are, and one that begins with a minus, as
    in `--frames -2:`, is joined to its option, or it would be taken for another.

    Args:
        options: Names in which dashes may stand for underscores.
    """
    given: list[str] = []
    waiting = False  # whether the last argument is an option without a value
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*given, *arguments[position:]]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            first, dot, rest = name[2:].partition(".")
            if (spelled := first.replace("-", "_")) in options:
                argument = f"--{spelled}{dot}{rest}{equals}{value}"
            waiting = not equals
            given.append(argument)
        elif waiting and argument.startswith("-") and argument != "-h":
            given[-1] += f"={argument}"
            waiting = False
        else:
            waiting = False
            given.append(argument)
    return given


def built(parser: Any, parsed: Any) -> Any:
    """What a jsonargparse parser has read, with its classes as objects.

    Raises:
        ValueError: If one of them refuses what it was given.
    """
    from sciwm.cli.parser import plain

    # Its name before version 4.49 of jsonargparse.
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    try:
        return instantiate(parsed)
    except ValueError as error:
        if "Union subtypes" not in str(error):
            raise
        raise ValueError(plain(str(error))) from error
