"""Maps of strides as programs: what `compilation` does for potentials."""

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.models.dynamics.stride_map import StrideMap
from sciwm.models.programs.compilation import (
    VARYING,
    BuiltFor,
    Traced,
    example,
    find,
    find_or_build,
    from_inputs,
    program_inputs,
)
from sciwm.models.programs.tracing import Function

STRIDE_VARYING = (*VARYING, (0,), (0,), (0,))
"""`compilation.VARYING`, with those of velocities, masses and strides."""


def stride_inputs(state: State, table: NeighbourTable, stride: Tensor) -> tuple[Tensor, ...]:
    """What a program of a map takes."""
    further = (state.velocities, state.masses, stride)
    dtype = state.positions.dtype
    return *program_inputs(state, table), *(one.to(dtype).contiguous() for one in further)


def changes(model: StrideMap, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """`StrideMap.changes` as a function of tensors alone."""
    state, table = from_inputs(inputs[: len(VARYING)])
    state.velocities, state.masses, stride = inputs[len(VARYING) : len(VARYING) + 3]
    return model.changes(state, table, stride)


def strides_example(model: StrideMap) -> tuple[State, NeighbourTable, Tensor]:
    """What `StrideMap.changes` takes, for particles that the map knows."""
    state, table = example(model)
    turned = state.positions.roll(1, dims=1).sin()
    state.velocities = model.speeds[state.numbers][:, None] * turned
    return state, table, model.strides[1].expand(state.n_systems)


def stride_example(model: StrideMap) -> tuple[Tensor, ...]:
    """Inputs of `changes` to trace with."""
    return stride_inputs(*strides_example(model))


def fixed(model: StrideMap) -> StrideMap:
    """The map itself, in evaluation mode, its weights fixed, and in the precision that it is used in."""
    return (model.double() if model.precise else model).eval().requires_grad_(False)


class CompiledStrideMap:
    """A map, and its program where there is one.

    The map itself is asked in other precisions or places than the program was built for, and once its
    weights have changed.

    Args:
        model: In evaluation mode, its weights fixed.
        program: What was built from it.
    """

    def __init__(self, model: StrideMap, program: Function | None):
        self.model = fixed(model)
        self._program = program
        self._built_for = BuiltFor(model)

    @property
    def units(self) -> UnitSystem:
        return self.model.units

    def __call__(
        self, state: State, table: NeighbourTable, stride: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `StrideMap.changes`."""
        if self._program is None or not self._built_for.fits(state.positions):
            with torch.no_grad():
                return self.model.changes(state, table, stride)
        stray, gain = self._program(*stride_inputs(state, table, stride))
        return stray, gain


def compile_stride_map(model: StrideMap) -> CompiledStrideMap:
    """The map as a program, from the cache or newly built, which takes about a minute.

    Raises:
        CompilationError: If it cannot be built.
        DeviationError: If its results are not the map's.
    """
    fixed(model)
    return CompiledStrideMap(model, find_or_build(model, CHANGES))


def accelerated_stride_map(model: StrideMap) -> CompiledStrideMap:
    """The program built for exactly this map, if there is one, else the map.

    Raises:
        DeviationError: If there is one that does not give the map's results.
    """
    fixed(model)
    return CompiledStrideMap(model, find(model, CHANGES))


def _changes_of(model: StrideMap) -> Function:
    return lambda *inputs: changes(model, *inputs)


CHANGES = Traced(_changes_of, stride_example, STRIDE_VARYING)
"""Of a map: what it adds to straight motion."""
