"""`sciwm info`: what a file or run folder holds."""


def info(path: str) -> int:
    """Shows what a data file, a model or a run folder holds.

    For data: one line per field with its unit, range and gaps. For a model: what it is, its units,
    training data and versions, and the verdicts of its last check.

    Args:
        path: An H5MD file, a model file, a run folder, or a world that comes with sciwm, such as "organic".
    """
    from pathlib import Path

    import h5py

    if Path(path).is_file() and h5py.is_hdf5(path):
        from sciwm.data.table import describe

        print(describe(path))
        return 0
    from sciwm.evaluation.description import described
    from sciwm.evaluation.run import model_file
    from sciwm.models import archive

    file = model_file(path)
    print(f"{file}\n{described(archive.load(file))}")
    return 0
