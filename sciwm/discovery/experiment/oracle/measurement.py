"""A reference run: from a SMILES to measurements, or to the reason why there are none."""

import math
import re
import resource
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np

from sciwm.core.construction import Description, construct
from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles, parsed
from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.experiment.oracle.frames import write_frames
from sciwm.discovery.problem.hypothesis import Failure, Measurement
from sciwm.discovery.problem.outcomes.outcome import Outcome, OutcomeError, Value, failure_of
from sciwm.simulation.references.registry import reference_from
from sciwm.simulation.simulator import PropertySimulator, SimulatorError

LARGEST = 1e6
"""In any of our units, no outcome is larger; what is larger is nonsense that nobody noticed."""

LARGEST_FORCE = 1e3
"""eV/Å. Atoms pushed harder than this were put into one another."""

_OUT_OF_MEMORY = re.compile("MemoryError|allocat|bad_alloc|start new thread")


class _TimeUp(BaseException):
    """Not an Exception, so that no simulator takes it for a failure of its own."""


def measure(task: Calculation, frames_path: Path, timeout: float = math.inf) -> CalculationResult:
    """Runs a task in this process; whatever goes wrong with the molecule is part of the answer.

    The reference is built afresh, so that answers do not depend on what was asked before, and what
    its own processes cost is known to the end.

    Args:
        frames_path: Where the structures met on the way are written.
        timeout: Seconds; only kept in the main thread of a process.

    Raises:
        ValueError: If recipes or reference cannot be built.
        ImportError: If the program of the reference is not installed.
        OSError: If the frames cannot be written.
    """
    started, before = time.time(), _processor_seconds()
    recipes = recipes_of(task.outcomes)
    reference = reference_from(task.reference)
    found: dict[str, Measurement] = {}
    frames: dict[str, list[Frame]] = {}
    failure = None
    try:
        with _time_limit(timeout):
            structure = structure_of(task.smiles, task.seed)
            for name, value in evaluated(structure, recipes, reference, task.seed):
                frames[name] = value.frames
                found[name] = Measurement(float(value.mean), float(value.spread))
    except _TimeUp:
        failure = Failure("time", f"{task.smiles} was not done within {timeout:g} s")
    except (
        Exception
    ) as error:  # recipes and simulators may raise anything, and must not stop others
        failure = _failure(error)
    finally:
        reference.close()
    digest = ""
    try:
        digest = write_frames(frames_path, frames, {"smiles": task.smiles, "seed": task.seed})
    except (ValueError, MemoryError) as error:
        failure = failure or _failure(error)
    return CalculationResult(
        task.smiles,
        task.key,
        measurements=found,
        failure=failure,
        seconds=_processor_seconds() - before,
        attempts=task.attempt + 1,
        frames_path=frames_path if digest else None,
        frames_hash=digest,
        host=socket.gethostname(),
        started=started,
        ended=time.time(),
    )


def recipes_of(outcomes: Sequence[Description]) -> list[Outcome]:
    """The recipes of a task.

    Raises:
        ValueError: If one cannot be built, is no recipe, or has the name of another.
    """
    recipes = [construct(one, Outcome) for one in outcomes]
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise ValueError(f"outcomes must have different names, got {names}")
    return recipes


def structure_of(smiles: str, seed: int) -> Frame:
    """One conformer.

    Raises:
        OutcomeError: If the SMILES names no molecule, or no conformer is found.
    """
    try:
        parsed(smiles)
    except ValueError as error:
        raise OutcomeError(Failure("parsing", str(error))) from error
    try:
        return frame_from_smiles(smiles, seed)
    except ValueError as error:
        raise OutcomeError(Failure("embedding", str(error))) from error


def evaluated(
    structure: Frame, recipes: Sequence[Outcome], reference: PropertySimulator, seed: int
) -> Iterator[tuple[str, Value]]:
    """The outcomes of a structure, one after another, as long as they are sound.

    Raises:
        OutcomeError: If one is not.
    """
    for recipe in recipes:
        value = recipe.evaluate(reference, structure, seed)
        problem = _problem(recipe, value)
        if problem:
            raise OutcomeError(Failure("calculation", f"{recipe.name}: {problem}"))
        yield recipe.name, value


def _problem(recipe: Outcome, value: Value) -> str:
    """Why a value must not be believed; empty if it may."""
    if not math.isfinite(value.mean) or abs(value.mean) > LARGEST:
        return f"{value.mean} {recipe.unit} is no sound value"
    if not 0 <= value.spread < math.inf:
        return f"its standard error is {value.spread} {recipe.unit}"
    if value.flag is not None:
        return f"not even the reference trusts it: {value.flag}"
    for k, frame in enumerate(value.frames):
        if frame.energy is not None and not math.isfinite(frame.energy):
            return f"the energy of structure {k} is {frame.energy}"
        forces = np.zeros(1) if frame.forces is None else np.abs(frame.forces)
        if not forces.max() <= LARGEST_FORCE:
            return f"a force in structure {k} is {forces.max():g} eV/Å"
    return ""


def _failure(error: Exception) -> Failure:
    if isinstance(error, OutcomeError):
        failure = error.failure
    elif isinstance(error, SimulatorError):
        failure = failure_of(error)
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        failure = Failure("calculation", f"{type(error).__name__} in {where}: {error}")
    # Every library has its own words for it, and a process that dies of it leaves only words.
    if failure.stage in ("calculation", "worker") and _OUT_OF_MEMORY.search(failure.reason):
        failure = Failure("memory", failure.reason)
    return failure


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _TimeUp inside; signals reach only the main thread, elsewhere there is no limit."""
    if seconds == math.inf or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeUp

    start, handler = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    waiting, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        # There is only one such timer; somebody else's goes on.
        rest = max(waiting - (time.monotonic() - start), 1e-3) if waiting else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, rest, interval)


def _processor_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
