"""`sciwm evaluate`: how wrong a model is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciwm.evaluation.result import EvaluationResult


FRAMES_AHEAD = 10
"""How far motion is followed where nobody says."""


def evaluate(
    run: str,
    *,
    data: str | list[str],
    out: str | None = None,
    batch_size: int = 16,
    frames: int | None = None,
    substeps: int = 10,
    start: int | None = None,
) -> int:
    """Errors of a model on data it has not seen, with units, beside those of null models.

    Frames with energies, forces or stress are compared label by label. A time series without them
    is evaluated as motion: where particles are some frames later, ten unless `frames` says otherwise.

    Args:
        run: A run folder, a model file, or a world that comes with sciwm, such as "organic".
        data: H5MD files.
        out: Folder for metrics.json and plots; a folder `evaluation` beside the model where absent.
        batch_size: Systems predicted together.
        frames: Evaluate motion, even where there are labels, this many stored frames ahead.
        substeps: Of motion: integrator steps between two stored frames.
        start: Of motion: the frame to start from in every trajectory; where absent, windows follow
            one another.
    """
    from pathlib import Path

    from sciwm.data.collection import Collection
    from sciwm.evaluation.evaluate import LABELS
    from sciwm.evaluation.evaluate import evaluate as evaluate_frames
    from sciwm.evaluation.motion import MotionResult, evaluate_motion
    from sciwm.evaluation.result import EvaluationResult
    from sciwm.evaluation.run import model_file
    from sciwm.models import archive
    from sciwm.report import plots

    file = model_file(run)
    model = archive.load(file).potential
    folder = file.parent / "evaluation" if out is None else Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be made ({error.strerror}); name another folder with --out"
        ) from error
    collection = Collection([data] if isinstance(data, str) else data)
    fields = {field for f in collection.files for t in f.trajectories for field in t.fields}
    outcome: EvaluationResult | MotionResult
    if frames is None and fields & set(LABELS):
        if start is not None:
            raise ValueError(
                f"the data has labels, which are compared frame by frame, so {start=} means nothing; "
                "give --frames to evaluate motion"
            )
        outcome = evaluate_frames(model, collection, batch_size)
        figures = label_figures(outcome)
    else:
        try:
            ahead = FRAMES_AHEAD if frames is None else frames
            outcome = evaluate_motion(model, collection, ahead, substeps, start)
        except ValueError as error:
            if frames is None:
                raise ValueError(
                    f"the data has no labels, so motion is evaluated: {error}"
                ) from error
            raise
        motion = (outcome.times, outcome.model, outcome.null, outcome.time_unit, outcome.unit)
        figures = {"motion": plots.horizon(*motion)}
    outcome.write(folder / "metrics.json")
    written = plots.save(figures, folder)
    print(outcome)
    print(f"\nwritten to {folder}: metrics.json, {', '.join(path.name for path in written)}")
    return 0


def label_figures(result: "EvaluationResult") -> "dict[str, Figure]":
    """Parity plots and error histograms of each quantity, and force errors by species."""
    from sciwm.report import plots

    figures = {}
    for name, short in (("energy per atom", "energy"), ("force", "force"), ("stress", "stress")):
        for row in (row for row in result.rows if row.name == name):
            figures[f"parity_{short}"] = plots.parity(row.predicted, row.reference, name, row.unit)
            figures[f"errors_{short}"] = plots.error_histogram(
                row.predicted, row.reference, name, row.unit
            )
    species = {
        row.name.removeprefix("force, species "): row
        for row in result.rows
        if row.name.startswith("force, species ")
    }
    if species:
        errors = {name: row.errors.rmse for name, row in species.items()}
        nulls = {name: row.null.rmse for name, row in species.items()}
        unit = next(iter(species.values())).unit
        figures["species_force"] = plots.error_bars(errors, nulls, unit)
    return figures
