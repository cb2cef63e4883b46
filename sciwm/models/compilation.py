"""Trained models as programs built ahead of time: the same numbers, several times faster.

`compile_model` traces energy, forces and virial into one graph, builds a native program for any number of
systems, atoms and neighbours, compares it with the model, and keeps it in the user's cache under a
fingerprint of the weights. `accelerated` finds it again. Programs are native code and are never read from
a run folder, so a model file from someone else stays safe to open.
"""

import hashlib
import math
import os
import platform
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciwm import __version__
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.models.archive import describe
from sciwm.models.potential import DerivedPotential, Potential
from sciwm.models.statistics import Statistics
from sciwm.models.tracing import CompilationError, Function, exported, loaded, require_same


class CompiledPotential(DerivedPotential):
    """A potential whose energies, forces and virials come from a program.

    It holds the weights as they were when it was built. What must be differentiated by them, and other
    precisions or devices than it was built for, go to the model itself.

    Args:
        model: What the program was built from.
        program: (positions, numbers, charges, total_charge, batch, cell, sender, real, shift, reverse)
            to (energy, forces, virial).
    """

    def __init__(self, model: Potential, program: Function):
        super().__init__()
        self.model = model
        self.program = program
        self.cutoff = model.cutoff
        self.unit_system = model.unit_system
        weight = next(model.parameters())
        self._built_for = (weight.dtype, weight.device)

    @property
    def base(self) -> Potential:
        return self.model

    def adapt(self, statistics: Statistics) -> None:
        raise TypeError("a compiled model is finished; adapt the model it was built from")

    def differentiated(
        self, state: State, table: NeighbourTable, differentiable: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        here = (state.positions.dtype, state.positions.device)
        if differentiable or here != self._built_for:
            return self.model.differentiated(state, table, differentiable)
        energy, forces, virial = self.program(*program_inputs(state, table))
        return energy, forces, virial


def compile_model(model: Potential) -> CompiledPotential:
    """The model as a program, from the cache or newly built, which takes about a minute.

    Raises:
        CompilationError: If it cannot be built.
        DeviationError: If its results are not the model's.
    """
    model.eval().requires_grad_(False)
    file = program_file(model)
    if file.is_file():
        with suppress(CompilationError):
            return _checked(model, file)
    inputs = program_inputs(*example(model))
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = file.with_name(f"{os.getpid()}-{file.name}")
    try:
        exported(_evaluation(model), inputs, VARYING, unfinished)
        built = _checked(model, unfinished)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
    return built


def accelerated(model: Potential) -> Potential:
    """The program built for exactly this model, if there is one, else the model.

    One that cannot be read is left alone, with a warning.

    Raises:
        DeviationError: If there is one that does not give the model's results.
    """
    file = program_file(model)
    if file.is_file():
        try:
            return _checked(model, file)
        except CompilationError as error:
            warnings.warn(f"{error}. The model runs without it, slower", stacklevel=3)
    return model


def _checked(model: Potential, file: Path) -> CompiledPotential:
    """The program of a file, compared with the model it claims to be."""
    for place in (file, file.parent):
        about = place.stat()
        if about.st_uid != os.getuid() or about.st_mode & 0o022:
            raise CompilationError(
                f"{place} could be written by others, and what it holds is run as it is: make it yours "
                f"alone (chmod go-w), or set SCIWM_CACHE to a folder that is"
            )
    program = loaded(file, next(model.parameters()).device)
    state, table = example(model)
    with torch.no_grad():
        found = program(*program_inputs(state, table))
    require_same(found, model.differentiated(state, table), f"{file} (delete it to build it anew)")
    return CompiledPotential(model, program)


def program_file(model: Potential) -> Path:
    """Where the program of a model is kept: $SCIWM_CACHE or ~/.cache/sciwm, by weights and machine.

    The machine is its processor's instruction set, the number of threads, and the GPU.
    """
    digest = hashlib.sha256(repr(describe(model)).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    device = next(model.parameters()).device
    built_on = (
        __version__,
        torch.__version__,
        device.type,
        _instruction_set(),
        torch.get_num_threads(),
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
    )
    digest.update(repr(built_on).encode())
    home = os.environ.get("SCIWM_CACHE") or Path.home() / ".cache" / "sciwm"
    return Path(home) / "programs" / f"{digest.hexdigest()[:32]}.pt2"


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
        shift = state.positions.new_zeros(()).expand(*table.sender.shape, 3)
    tensors = (*(state[field] for field in STATE_FIELDS), table.sender, table.real)
    return tuple(one.contiguous() for one in (*tensors, shift, table.reverse))


def from_inputs(inputs: Sequence[Tensor]) -> tuple[State, NeighbourTable]:
    """The state and table that `program_inputs` took apart."""
    fields = dict(zip(STATE_FIELDS, inputs, strict=False))
    sender, real, shift, reverse = inputs[len(STATE_FIELDS) : len(STATE_FIELDS) + 4]
    return State(**fields), NeighbourTable(sender, real, shift, reverse)


def example(model: Potential) -> tuple[State, NeighbourTable]:
    """A charged cluster and a small crystal of the particles that the model knows.

    Their numbers of atoms, neighbours and systems all differ. They are loose: in tight ones energies of
    an untrained model are so steep that rounding alone sets two ways to compute them apart.
    """
    weight = next(model.parameters())
    spacing = min(0.4 * model.cutoff, 1.8)
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
        return model.differentiated(*from_inputs(inputs))

    return evaluation
