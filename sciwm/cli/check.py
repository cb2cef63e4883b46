"""`sciwm check`: what a model may be used for."""


def check(
    run: str,
    *,
    data: str | list[str] | None = None,
    temperature: float | None = None,
    json: bool = False,
) -> int:
    """Checks symmetries, derivatives, conservation, heat and stability of a model, and its cost.

    The result is kept in the model file, unless it came with sciwm, and for a run in its check.json. Ends
    with status 1 if any check fails.

    Args:
        run: A run folder, a model file, or a world that comes with sciwm, such as "organic".
        data: H5MD files to take a few states from; the training data where absent.
        temperature: Of the dynamics, in K; where absent 300 K, or in reduced units that of the data.
        json: Print JSON in place of the table.
    """
    from json import dumps

    from sciwm.data.collection import Collection
    from sciwm.evaluation.model_check import check_model
    from sciwm.evaluation.run import WORLDS, model_file, run_folder, training_data
    from sciwm.models import archive

    file = model_file(run)
    content = archive.load(file)
    if data is None:
        collection = training_data(run, content.data)
    else:
        collection = Collection([data] if isinstance(data, str) else data)
    licence = check_model(content.model, collection, temperature)
    # Before it is kept, which may fail: models of others lie where one may only read.
    print(dumps(licence.content(), indent=1, ensure_ascii=False) if json else licence)
    # A world that comes with the package keeps the result it came with.
    if file.parent != WORLDS:
        content.check = licence.content()
        archive.save(content, file)
    folder = run_folder(run)
    if folder is not None:
        licence.write(folder / "check.json")
    return 1 if licence.verdict == "fail" else 0
