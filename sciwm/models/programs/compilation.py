"""Trained models as programs built ahead of time: the same numbers, several times faster.

`compile_model` traces energy, forces and virial into one graph, builds a native program for any number of
systems, atoms and neighbours, compares it with the model, and keeps it in the user's cache under a
fingerprint of the weights. `accelerated` finds it again. Programs are native code and are never read from
a run folder, so a model file from someone else stays safe to open.

A program's loops run on the threads that it was built for. The usual one has one, which small work is
fastest on (`core.threads`); products of matrices in it take more where evaluations do. For large systems
on many cores a second one can be built, whose loops are spread too.
"""

import copy
import hashlib
import math
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm import __version__
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.threads import fixed_threads, most_threads, on_threads
from sciwm.models.archive import describe, weights_digest
from sciwm.models.dynamics.potential import DerivedPotential, Potential
from sciwm.models.model import Model
from sciwm.models.programs.tracing import (
    CompilationError,
    Function,
    export_program,
    load_program,
    require_same,
)
from sciwm.models.statistics import Statistics


class BuiltFor:
    """What a program was built for: the numbers of a model as they were, their precision and place.

    Args:
        model: As it is now.
    """

    def __init__(self, model: Model):
        weight = next(model.parameters())
        self._place = (weight.dtype, weight.device)
        self._numbers = (*model.parameters(), *model.buffers())
        self._changes = self._counted_changes()

    def fits(self, positions: Tensor) -> bool:
        """Whether the program may be asked of these positions, and the model is as it was."""
        here = (positions.dtype, positions.device)
        return here == self._place and self._counted_changes() == self._changes

    def _counted_changes(self) -> int:
        """Grows whenever a number of the model is written in place."""
        return sum([one._version for one in self._numbers])  # a list: asked at every step


class CompiledPotential(DerivedPotential):
    """A potential whose energies, forces and virials come from a program.

    What must be differentiated by the weights goes to the model itself; so does everything once they have
    changed, and other precisions or devices than the program was built for.

    Args:
        model: What the program was built from.
        program: (positions, numbers, charges, total_charge, batch, cell, sender, real, shift, reverse)
            to (energy, forces, virial) and, of models that can tell it, the expected errors of forces.
        spread: The same over several threads, and how many: for evaluations that take as many.
    """

    def __init__(
        self, model: Potential, program: Function, spread: tuple[int, Function] | None = None
    ):
        super().__init__()
        self.model = model
        self.program = program
        self._spread = spread
        self.cutoff = model.cutoff
        self.unit_system = model.unit_system
        self._built_for = BuiltFor(model)

    @property
    def base(self) -> Potential:
        return self.model

    def adapt(self, statistics: Statistics) -> None:
        raise TypeError("a compiled model is finished; adapt the model it was built from")

    def differentiated(
        self, state: State, table: NeighbourTable, differentiable: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        if differentiable or not self._built_for.fits(state.positions):
            return self.model.differentiated(state, table, differentiable)
        program = self.program
        if self._spread is not None and self._spread[0] <= torch.get_num_threads():
            program = self._spread[1]
        energy, forces, virial, *error = program(*program_inputs(state, table))
        return energy, forces, virial, error[0] if error else None


def compile_model(model: Potential, threads: int | None = None) -> CompiledPotential:
    """The model as a program, from the cache or newly built, which takes about a minute.

    Args:
        threads: If several, a second program is built whose loops are spread over so many. Without it,
            $SCIWM_THREADS.

    Raises:
        ValueError: If either is no positive number.
        CompilationError: If it cannot be built.
        DeviationError: If its results are not the model's.
    """
    threads = fixed_threads(threads) or 1
    model.eval().requires_grad_(False)
    spread = (threads, find_or_build(model, ENERGIES, threads)) if threads > 1 else None
    return CompiledPotential(model, find_or_build(model, ENERGIES), spread)


@dataclass(frozen=True)
class Traced:
    """What of a model becomes a program.

    Attributes:
        function: Of a model, what the program computes.
        inputs: Of a model, examples of what it takes.
        varying: Of each input, the dimensions whose size may change from call to call.
    """

    function: Callable[[Any], Function]
    inputs: Callable[[Any], tuple[Tensor, ...]]
    varying: Sequence[tuple[int, ...]]


def find_or_build(model: Model, traced: Traced, threads: int = 1) -> Function:
    """The program of a model, from the cache or newly built.

    Raises:
        CompilationError: If it cannot be built.
        DeviationError: If its results are not the model's.
    """
    file = program_file(model, threads)
    if _is_there(file):
        with suppress(CompilationError):
            return _checked(model, traced, file)
    unfinished = file.with_name(f"{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(file.parent)
        # Built elsewhere first: where the disk is full, torch ends the process instead of raising.
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / file.name
            export_program(
                traced.function(model), traced.inputs(model), traced.varying, fresh, threads
            )
            shutil.copyfile(fresh, unfinished)
        unfinished.chmod(0o600)
        built = _checked(model, traced, unfinished)
        os.replace(unfinished, file)
    except OSError as error:
        raise CompilationError(
            f"{file} cannot be written ({error.strerror}); make room there, or set SCIWM_CACHE to "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return built


def accelerated(model: Potential, threads: int | None = None) -> Potential:
    """The program built for exactly this model, if there is one, else the model.

    One that cannot be read is left alone, with a warning.

    Args:
        threads: That evaluations take; None for as many as their size pays.

    Raises:
        DeviationError: If there is one that does not give the model's results.
    """
    found = find(model, ENERGIES)
    if found is None:
        return model
    many = _widest(model, most_threads(threads))
    wide = None if many is None else find(model, ENERGIES, many)
    return CompiledPotential(model, found, None if many is None or wide is None else (many, wide))


def find(model: Model, traced: Traced, threads: int = 1) -> Function | None:
    """The program that was built for exactly this model, if there is one."""
    try:
        file = program_file(model, threads)
    except CompilationError:
        return None  # where there is no cache, nothing was put
    if _is_there(file):
        try:
            return _checked(model, traced, file)
        except CompilationError as error:
            warnings.warn(f"{error}. The model runs without it, slower", stacklevel=4)
    return None


def _widest(model: Potential, most: int) -> int | None:
    """Over how many threads, `most` at most, the widest spread program that was built takes its loops."""
    single = program_file(model)
    numbers = [
        file.stem.rpartition("-")[2]
        for file in single.parent.glob(f"{single.stem}-*{single.suffix}")
    ]
    fitting = [int(one) for one in numbers if one.isdecimal() and int(one) <= most]
    return max(fitting, default=None)


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:
        return False


def _checked(model: Model, traced: Traced, file: Path) -> Function:
    """The program of a file, compared with the model it claims to be."""
    _require_private(file)
    _require_private(file.parent)
    program = load_program(file, next(model.parameters()).device)
    inputs = traced.inputs(model)
    with torch.no_grad(), on_threads(1):
        found = program(*inputs)
        expected = traced.function(model)(*inputs)

    def exactly() -> tuple[Tensor, ...]:
        exact = copy.deepcopy(model).double()
        with torch.no_grad():
            return traced.function(exact)(*traced.inputs(exact))

    require_same(found, expected, exactly, f"{file} (delete it to build it anew)")
    return program


def differentiated(model: Potential, state: State, table: NeighbourTable) -> tuple[Tensor, ...]:
    """What a program of the model gives."""
    return tuple(one for one in model.differentiated(state, table) if one is not None)


def _require_private(place: Path) -> None:
    about = place.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise CompilationError(
            f"{place} could be written by others, and what it holds is run as it is: make it yours "
            f"alone (chmod go-w), or set SCIWM_CACHE to a folder that is"
        )


def program_file(model: Model, threads: int = 1) -> Path:
    """Where the program of a model is kept: $SCIWM_CACHE or ~/.cache/sciwm, by weights and machine.

    The machine is its processor's instruction set and the GPU.

    Args:
        threads: That its loops are spread over.

    Raises:
        CompilationError: If there is no home folder and no $SCIWM_CACHE.
    """
    digest = hashlib.sha256(f"{describe(model)} {weights_digest(model)}".encode())
    device = next(model.parameters()).device
    built_on = (
        __version__,
        torch.__version__,
        device.type,
        _instruction_set(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
    )
    digest.update(repr(built_on).encode())
    try:
        home = os.environ.get("SCIWM_CACHE") or Path.home() / ".cache" / "sciwm"
    except RuntimeError as error:
        raise CompilationError(f"{error} Set SCIWM_CACHE to a folder for programs") from error
    spread = f"-{threads}" if threads > 1 else ""
    return Path(home) / "programs" / f"{digest.hexdigest()[:32]}{spread}.pt2"


def _instruction_set() -> str:
    """Everything the processor understands: programs are built for all of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


STATE_FIELDS = ("positions", "numbers", "charges", "total_charge", "batch", "cell")
"""Of a state, what energies depend on."""

VARYING = ((0,), (0,), (0,), (0,), (0,), (0,), (0, 1), (0, 1), (0, 1), (0, 1))
"""Dimensions of a program's inputs that are atoms, neighbours or systems."""


def program_inputs(state: State, table: NeighbourTable) -> tuple[Tensor, ...]:
    """What a program takes, contiguous, since it reads memory as it was laid out in the example."""
    shift = table.shift
    if shift is None:
        shift = state.positions.new_zeros(*table.sender.shape, 3)
    tensors = (*(state[field] for field in STATE_FIELDS), table.sender, table.real)
    return tuple(one.contiguous() for one in (*tensors, shift, table.reverse))


def from_inputs(inputs: Sequence[Tensor]) -> tuple[State, NeighbourTable]:
    """The state and table that `program_inputs` took apart."""
    fields = dict(zip(STATE_FIELDS, inputs, strict=False))
    sender, real, shift, reverse = inputs[len(STATE_FIELDS) : len(STATE_FIELDS) + 4]
    return State(**fields), NeighbourTable(sender, real, shift, reverse)


def example(model: Model) -> tuple[State, NeighbourTable]:
    """A charged cluster and a small crystal of the particles that the model knows.

    Their numbers of atoms, neighbours and systems all differ. They are loose: in tight ones energies of
    an untrained model are so steep that rounding alone sets two ways to compute them apart.
    """
    weight = next(model.parameters())
    # Farther apart than elements that never met collide, where nothing of what was learned would be seen.
    spacing = min(0.75 * model.cutoff, 3.0)
    generator = torch.Generator().manual_seed(0)
    known = torch.nonzero(model.domain.seen)[:, 0].cpu().numpy()
    frames = []
    for n, repeats in ((5, False), (6, math.isfinite(model.cutoff))):
        grid = torch.cartesian_prod(*[torch.arange(2.0)] * 3)[:n]
        positions = spacing * (grid + 0.1 * torch.rand(n, 3, generator=generator))
        frames.append(
            Frame(
                numbers=known[np.arange(n) % len(known)] if len(known) else np.ones(n, np.int64),
                positions=positions.double().numpy(),
                charges=np.arange(n) / 10,
                total_charge=1.0,
                cell=2.5 * spacing * repeats * (np.eye(3) + 0.1 * np.eye(3, k=1)),
                pbc=np.full(3, repeats),
            )
        )
    state = State.collate([State.from_frame(frame, weight.dtype) for frame in frames])
    state = attach_pairs(state, 3 * spacing).to(weight.device)
    return state, NeighbourTable.from_pairs(state)


def _evaluation(model: Potential) -> Function:
    def evaluation(*inputs: Tensor) -> tuple[Tensor, ...]:
        return differentiated(model, *from_inputs(inputs))

    return evaluation


ENERGIES = Traced(_evaluation, lambda model: program_inputs(*example(model)), VARYING)
"""Of a potential: energies, forces, virials and expected errors."""
