"""The command line: one thin typed function per command, loaded only when it is called."""

import gc
import inspect
import sys
from collections.abc import Callable
from importlib import import_module

from sciwm.cli.interruption import whole_imports

COMMANDS = {
    "new": ("sciwm.cli.new", "an example project: job file, data, commands"),
    "import": (
        "sciwm.cli.import_command",
        "any trajectory or data set -> H5MD, told what was read",
    ),
    "info": ("sciwm.cli.info", "what a data file, a model or a run folder holds"),
    "train": ("sciwm.cli.train", "a model from data; continues where it was interrupted"),
    "learn": ("sciwm.cli.learn", "from one structure and one reference to a checked world"),
    "evaluate": ("sciwm.cli.evaluate", "errors with units beside null models, with plots"),
    "check": ("sciwm.cli.check", "symmetries, conservation, stability: what a model is good for"),
    "compile": ("sciwm.cli.compile", "a trained model as a program, for faster simulations"),
    "simulate": ("sciwm.cli.simulate", "molecular dynamics in the learned world; continues too"),
    "analyse": ("sciwm.cli.analyse", "what a trajectory shows, with error bars and pictures"),
    "plan": (
        "sciwm.cli.plan",
        "the best actions in imagination, carried out in the true simulator",
    ),
    "screen": ("sciwm.cli.screen", "a ranked table from a library of molecules; continues too"),
    "discover": ("sciwm.cli.discover", "propose, imagine, verify, learn, to a budget"),
    "report": ("sciwm.cli.report", "one page with pictures of a run"),
    "doctor": ("sciwm.cli.doctor", "what is installed, fast or slow, and why"),
}


COLLECTED = 20_000
"""New objects between two searches for garbage. Packages make a million while they load, none of them
garbage, and with the usual 700 a command would take half a second longer to begin."""


def overview() -> str:
    """What `sciwm` alone prints: every command in a line."""
    lines = ["usage: sciwm COMMAND ...", "", "Learns how matter moves, imagines, checks.", ""]
    lines += [f"  {name:10s}{text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "sciwm COMMAND --help says more about each."]
    return "\n".join(lines)


def call(function: Callable[..., int], arguments: list[str], prog: str) -> int:
    """Calls a function with arguments from the command line: keyword-only ones become options."""
    from sciwm.cli.arguments import readable
    from sciwm.cli.parser import new_parser

    parameters = inspect.signature(function).parameters.values()
    options: set[str | int] = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    others: set[str | int] = {p.name for p in parameters if p.name not in options}
    parser = new_parser(prog, (function.__doc__ or "").split("\n\n    Args")[0])
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=options)
    parser.add_function_arguments(function, as_group=False, as_positional=False, skip=others)
    switches = {f"--{p.name}" for p in parameters if p.annotation in (bool, "bool")}
    spelled = readable(arguments, {str(name) for name in options})
    given: list[str] = []
    for position, argument in enumerate(spelled):
        given.append(argument)
        following = spelled[position + 1 : position + 2]
        if argument in switches and following not in (["true"], ["false"]):
            given.append("true")
    return function(**parser.parse_args(given).as_dict())


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; errors a user can mend are printed in one paragraph and end with status 2."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(COLLECTED, *before[1:])
    try:
        with whole_imports():
            return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print(
            "\nsciwm: stopped; what was finished is kept, the same command continues",
            file=sys.stderr,
        )
        return 130
    finally:
        gc.set_threshold(*before)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from sciwm import __version__

        print(__version__)
        return 0
    if arguments[0] not in COMMANDS:
        print(f"sciwm: no command {arguments[0]!r}\n\n{overview()}", file=sys.stderr)
        return 2
    command, rest = arguments[0], arguments[1:]
    module = import_module(COMMANDS[command][0])
    try:
        if command in ("train", "discover", "plan") and not {"-h", "--help"} & set(rest):
            return int(module.run(rest))
        function = getattr(module, "import_" if command == "import" else command)
        return int(call(function, rest, f"sciwm {command}") or 0)
    except (ValueError, OSError, ArithmeticError, ImportError) as error:
        print(f"sciwm {command}: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not type(error).__module__.startswith("sciwm."):
            raise  # not one of ours: whoever reads the traceback can report it
        print(f"sciwm {command}: {error}", file=sys.stderr)
        return 2
