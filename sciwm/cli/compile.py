"""`sciwm compile`: a trained model as a native program."""


def compile(model: str, *, threads: int | None = None) -> int:
    """Builds a program for a trained model, which `simulate` and notebooks then use.

    It takes about a minute and a C++ compiler. The program is compared with the model and kept in
    ~/.cache/sciwm (or $SCIWM_CACHE), for exactly these weights and this kind of machine.

    Args:
        model: A run folder, a model file, or a world that comes with sciwm, such as "organic".
        threads: Build a second program, for large systems, whose loops are spread over so many threads,
            which are found wherever at least as many may be used. Without it, $SCIWM_THREADS.
    """
    import time
    from functools import partial

    from sciwm.evaluation.run import model_file
    from sciwm.evaluation.timing import median_seconds
    from sciwm.models import archive
    from sciwm.models.dynamics.stride_map import StrideMap
    from sciwm.models.programs.compilation import compile_model, example, program_file
    from sciwm.models.programs.stride_program import (
        CompiledStrideMap,
        compile_stride_map,
        strides_example,
    )

    source = archive.load(model_file(model))
    original = source.model
    file = program_file(original)
    found, began = file.is_file(), time.monotonic()
    if isinstance(original, StrideMap):
        if threads is not None:
            raise ValueError("programs of flow maps take one thread; leave --threads out")
        flow, compiled = CompiledStrideMap(original, None), compile_stride_map(original)
        ways = [partial(one, *strides_example(original)) for one in (flow, compiled)]
    else:
        potential = source.potential
        program = compile_model(potential, threads)
        ways = [partial(one, *example(potential)) for one in (potential, program)]
    what = "found" if found else f"built in {time.monotonic() - began:.0f} s"
    print(f"{file}: {what}, gives the model's numbers")
    state, _ = example(original)
    before, after = (1e3 * median_seconds(one, 20, state.positions.device) for one in ways)
    print(f"{len(state.numbers)} atoms: {before:.2f} ms without, {after:.2f} ms with the program")
    return 0
