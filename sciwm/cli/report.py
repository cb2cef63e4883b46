"""`sciwm report`: a run on one page."""


def report(
    run: str,
    *,
    true: str | None = None,
    imagined: str | None = None,
    strides: str | None = None,
    out: str | None = None,
) -> int:
    """One HTML page on a run: what was learned, how wrong it is, what it imagines, with pictures.

    The page holds everything it shows, so it opens offline and can be mailed. It says what it finds
    in the run folder; evaluate and check first to have those results on it.

    Args:
        run: A run folder.
        true: H5MD file of a reference trajectory to compare with.
        imagined: H5MD file that the model wrote, from the same start.
        strides: H5MD file from the same start by long strides, to be compared with the true one too.
        out: The page; report.html in the run folder where absent. For molecules, the picture
            overview.png lies beside it.
    """
    from pathlib import Path

    from sciwm.report.run import write_report

    if true is not None and imagined is None and strides is None:
        raise ValueError(
            f"{true} has nothing to be compared with; make an imagined trajectory with "
            f"`sciwm simulate {run} {true} TIME --frames 0 --out FILE`, and give it as --imagined"
        )
    if strides is not None and true is None:
        raise ValueError(f"{strides} has nothing to be compared with; give a --true motion too")
    target = Path(run) / "report.html" if out is None else Path(out)
    for path in write_report(run, target, true, imagined, strides):
        print(f"written: {path}")
    return 0
