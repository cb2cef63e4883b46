"""Functions of tensors as compiled programs.

A learned energy is differentiated once for forces and again for training. Both derivatives are unrolled
into one graph of plain tensor operations first, so that the compiler sees, fuses and plans all of it;
compiling the energy alone would leave the derivatives to the interpreter (S. Batzner et al. describe the
same way out for NequIP, arXiv:2504.16068). Sizes that vary from batch to
batch (systems, atoms, neighbours) are symbols in that graph: one program serves them all.
"""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

Function = Callable[..., tuple[Tensor, ...]]

CLOSE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""How far a compiled program may be from the function it was made of, relative to the largest value."""

SLACK = 10.0
"""How many times as far from exact results a program may be as the function is, beside `CLOSE`. Both round
differently, and by luck: a sound program was seen to be off by `CLOSE` and five times what its model was."""


class CompilationError(RuntimeError):
    """A program that could not be built, or not be read."""


class DeviationError(RuntimeError):
    """A program that does not compute what it was built from."""


def compiler() -> str | None:
    """The C++ compiler that programs are built with, $CXX or g++, where it is found."""
    return shutil.which(os.environ.get("CXX", "g++"))


def compile_function(
    function: Function, inputs: Sequence[Tensor], varying: Sequence[tuple[int, ...]]
) -> Function:
    """The same function as a program for this process.

    Args:
        inputs: Examples. Sizes that vary must differ from one another and exceed 1 in them, unless
            they are always equal.
        varying: Of each input, the dimensions whose size may change from call to call.

    Raises:
        CompilationError: If there is no working C++ compiler, or the function cannot be traced.
    """
    with _building():
        from torch._inductor import config as inductor
        from torch._inductor.compile_fx import compile_fx

    graph, examples = trace_function(function, inputs, varying)
    with _building(), inductor.patch(cpp_wrapper=not inputs[0].is_cuda), torch.no_grad():
        program: Any = compile_fx(graph, [one.detach() for one in examples])
        # The wrapper that skips Python is itself compiled at the first call.
        program(*(one.detach() for one in inputs))
    return lambda *tensors: tuple(program(*tensors))


def export_program(
    function: Function,
    inputs: Sequence[Tensor],
    varying: Sequence[tuple[int, ...]],
    file: Path,
    threads: int = 1,
) -> None:
    """The same function as a program in a file, for later processes on machines of this kind.

    Args:
        inputs, varying: As for `compile_function`.
        file: Ending in .pt2; `load_program` reads it.
        threads: That its loops are spread over. Products of matrices take torch's, whatever this is.

    Raises:
        CompilationError: As for `compile_function`.
    """
    with _building():
        from torch._inductor import config as inductor
        from torch.export import Dim, export

    graph, _ = trace_function(function, inputs, varying)
    names: dict[int, Any] = {}
    shapes = tuple(
        {d: names.setdefault(one.shape[d], Dim(f"size{one.shape[d]}", min=1)) for d in dimensions}
        for one, dimensions in zip(inputs, varying, strict=True)
    )
    # A fixed number, because sums over threads go into arrays of that size.
    with _building(), inductor.patch({"cpp.threads": threads}), torch.no_grad():
        program = export(graph, tuple(inputs), dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=str(file))


def load_program(file: Path, device: torch.device) -> Function:
    """A program that `export_program` wrote. It is native code: load only what this user built.

    Raises:
        CompilationError: If it cannot be read.
    """
    index = device.index if device.index is not None else -1
    try:
        loader = _loader(str(file), index)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()
        raise CompilationError(
            f"{file} is no program that can be read ({reason[0] if reason else type(error).__name__}); "
            "delete it, or compile again"
        ) from error
    run: Any = loader.run
    return lambda *tensors: tuple(run(list(tensors)))


def _loader(file: str, index: int) -> Any:
    """Torch's loader of a package."""
    try:
        # What `aoti_load_package` does around this is to import the compiler, and to ask it in four
        # processes for the instruction set, which takes as long as all else that a first energy needs.
        return torch._C._aoti.AOTIModelPackageLoader(file, "model", False, 1, index)
    except (AttributeError, TypeError):  # in a torch that has it otherwise
        from torch._inductor import aoti_load_package

        return aoti_load_package(file, device_index=index).loader


def trace_function(
    function: Function, inputs: Sequence[Tensor], varying: Sequence[tuple[int, ...]]
) -> tuple[GraphModule, list[Tensor]]:
    """A graph of tensor operations, derivatives unrolled, and the symbolic inputs it was traced with."""
    with _building():
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import (
            DimDynamic,
            ShapeEnv,
            StatelessSymbolicContext,
        )

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    examples = []
    for one, dimensions in zip(inputs, varying, strict=True):
        sizes = [
            DimDynamic.DUCK if d in dimensions else DimDynamic.STATIC for d in range(one.dim())
        ]
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        symbolic = mode.from_tensor(one.detach(), symbolic_context=context)
        examples.append(symbolic.requires_grad_(one.requires_grad))
    with _building(), mode:
        graph = make_fx(function, tracing_mode="symbolic")(*examples)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph, examples


def require_same(
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    exactly: Callable[[], Sequence[Tensor]],
    what: str,
) -> None:
    """Compares a program's results with those of the function itself.

    Where single precision loses digits, two ways to compute the same differ by more than `CLOSE`. There
    the program may be `SLACK` times as far from the exact result as the function itself is.

    Args:
        exactly: Gives the results in double precision; asked only where the others differ.

    Raises:
        DeviationError: If the program is further off.
    """
    sizes = [max(_largest(other), 1e-6) for other in expected]
    pairs = list(zip(found, expected, sizes, strict=True))
    if all(
        math.isfinite(size) and _largest(one - other) <= CLOSE[other.dtype] * size
        for one, other, size in pairs
    ):
        return
    exact = exactly()
    for index, (one, other, size) in enumerate(pairs):
        off, own = _largest(one - exact[index]), _largest(other - exact[index])
        if not (off <= CLOSE[other.dtype] * size + SLACK * own and math.isfinite(own)):
            raise DeviationError(
                f"{what}: result {index} of the compiled program is off by {off:.3g}, where values "
                f"reach {size:.3g} and the model itself is off by {own:.3g}. Run without "
                f"compiling, and please report this together with the version of torch "
                f"({torch.__version__})"
            )


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


@contextmanager
def _building() -> Any:
    """Where the compiler is imported, which takes seconds and so is not done before, and run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no use to who compiles a model
            yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()
        raise CompilationError(
            f"the model could not be compiled ({type(error).__name__}: {reason[0] if reason else ''}). "
            "A C++ compiler such as g++ must be on the path, and there must be room in the temporary folder"
        ) from error
