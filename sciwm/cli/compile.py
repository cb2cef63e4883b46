"""`sciwm compile`: a trained model as a native program."""


def compile(model: str) -> int:
    """Builds a program for a trained model: `simulate` and notebooks then use it, several times faster.

    It takes about a minute and a C++ compiler. The program is compared with the model and kept in
    ~/.cache/sciwm (or $SCIWM_CACHE), for exactly these weights and this kind of machine.

    Args:
        model: A run folder or a model file.
    """
    import time

    from sciwm.evaluation.run import model_file
    from sciwm.models import archive
    from sciwm.models.compilation import compile_model, example, program_file
    from sciwm.simulation.learned import seconds_per_evaluation

    content = archive.load(model_file(model))
    began = time.monotonic()
    program = compile_model(content.model)
    state, table = example(content.model)
    before, after = (
        1e3 * seconds_per_evaluation(one, state, table) for one in (content.model, program)
    )
    print(f"{program_file(content.model)}: built and compared in {time.monotonic() - began:.0f} s")
    print(f"{len(state.numbers)} atoms: {before:.2f} ms without, {after:.2f} ms with the program")
    return 0
