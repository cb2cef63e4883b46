"""One training run: from data and a model to a folder that explains itself."""

import inspect
import json
import logging
import math
import platform
import warnings
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from sciwm.core.bounds import require_counts, require_positive, require_seed
from sciwm.core.file_lock import sole_writer
from sciwm.core.replacement import replacing
from sciwm.core.threads import on_threads, threads_for
from sciwm.data.modules import Data
from sciwm.models import archive
from sciwm.models.statistics import Statistics
from sciwm.training.averaging import RunningAverage
from sciwm.training.callbacks import ErrorBar
from sciwm.training.checkpoint import WholeCheckpoints
from sciwm.training.log import put_back, rows_before
from sciwm.training.task import Task

PACKAGES = ("sciwm", "torch", "torch-geometric", "e3nn", "lightning", "numpy", "h5py", "ase")

STEPS = 20_000
"""Of a run that is given neither their number nor a budget."""

UNLIMITED = -1

OWNED = {
    "callbacks": "the training itself",
    "logger": "the training itself",
    "plugins": "the training itself",
    "max_steps": "max_steps of the job",
    "max_epochs": "max_steps of the job",
    "val_check_interval": "validate_every of the job",
    "gradient_clip_val": "gradient_clip of the job",
}
"""Options of Lightning's trainer that a job states elsewhere."""

GUIDE = """\
What lies here
  config.yaml       the job as it was run, every option resolved; `sciwm train config.yaml` repeats it
  model.pt          the model: weights, description, units, training-data fingerprint (safe to open)
  metrics.json      best validation errors and the null models beside them, with units
  log/              losses and errors: metrics.csv, and the same for `tensorboard --logdir`
  checkpoints/      last.ckpt continues an interrupted run; best.ckpt is the best so far
  provenance.json   seed, versions, fingerprint and statistics of the data
"""


def fit(
    data: Data,
    task: Task,
    name: str,
    seed: int = 0,
    max_steps: int | None = None,
    validate_every: int = 500,
    ema_decay: float = 0.99,
    gradient_clip: float = 10.0,
    trainer: dict[str, Any] | None = None,
    folder: str = "runs",
) -> Path:
    """Trains, keeps the best model, and returns the run folder.

    A run whose folder holds an unfinished checkpoint is continued from there.

    Args:
        data: What to learn from: FrameData or WindowData.
        task: What to fit, with the model inside.
        name: Of the run; results go to `folder`/`name`.
        seed: Of weights, splits and shuffling.
        max_steps: Optimiser steps; without it and without the task's `cpu_seconds`, 20,000.
        validate_every: Steps between validations and checkpoints.
        ema_decay: Of the running average of the weights, which is what is validated and kept.
        gradient_clip: Largest norm of the gradient.
        trainer: Further options of Lightning's Trainer, such as devices or accelerator.
        folder: Where run folders are made.

    Raises:
        OSError: If another process trains in that folder, or it cannot be written.
    """
    require_seed(seed)
    require_counts(max_steps=max_steps, validate_every=validate_every)
    require_positive(gradient_clip=gradient_clip)
    average = RunningAverage(ema_decay)
    run = Path(folder) / name
    run.mkdir(parents=True, exist_ok=True)
    with claimed(run):
        if max_steps is None:
            max_steps = STEPS if task.cpu_seconds is None else UNLIMITED
        _fit(data, task, run, seed, max_steps, validate_every, average, gradient_clip, trainer)
    return run


def claimed(run: Path) -> AbstractContextManager[None]:
    """Keeps others from training in a run folder meanwhile.

    Raises:
        OSError: If another process does.
    """
    if getattr(rank_zero_only, "rank", 0):
        return nullcontext()  # one process of several, whose first has claimed it for all
    return sole_writer(run, "wait until it ends, stop it, or give another --name")


def _fit(
    data: Data,
    task: Task,
    run: Path,
    seed: int,
    max_steps: int,
    validate_every: int,
    average: RunningAverage,
    gradient_clip: float,
    trainer: dict[str, Any] | None,
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Deterministic mode would fill every new tensor with NaN first: a check for other people's bugs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    finished = run / "model.pt"
    last = run / "checkpoints" / "last.ckpt"
    seed_everything(seed, verbose=False)
    if hasattr(data, "cutoff"):
        data.cutoff = task.model.cutoff
    data.divide(seed)
    # It may have been written on a machine with a GPU.
    checkpoint = torch.load(last, map_location="cpu", weights_only=True) if last.is_file() else None
    task.resumed, task.folder = checkpoint is not None, run
    earlier = (
        rows_before(run / "log" / "metrics.csv", checkpoint["global_step"]) if checkpoint else []
    )
    statistics = task.adapt(data)
    nulls = null_errors(data, task, statistics)
    parent = Parent(last.with_name("parent.pt"), data, task) if task.inherits else None

    best = ModelCheckpoint(
        dirpath=last.parent,
        filename="best",
        monitor=task.monitored,
        save_last=True,
        enable_version_counter=False,
    )
    log = CSVLogger(str(run), name="", version="log")
    options: dict[str, Any] = {
        "accelerator": "auto",
        "devices": 1,
        "max_steps": max_steps,
        "max_epochs": -1,
        "val_check_interval": min(validate_every, max_steps) if max_steps > 0 else validate_every,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": gradient_clip,
        "log_every_n_steps": 50,
        "inference_mode": False,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "deterministic": "warn",
        "logger": [log, TensorBoardLogger(str(run), name="", version="log")],
        "callbacks": [
            average,
            best,
        ],
        "plugins": [WholeCheckpoints()],
    }
    if (trainer or {}).get("enable_progress_bar", True):
        options["callbacks"].append(ErrorBar(nulls))
    engine = built_trainer(options, trainer or {})
    if engine.is_global_zero:
        put_back(log, earlier)
        (run / "README.txt").write_text(GUIDE)
        provenance = {
            "seed": seed,
            "python": platform.python_version(),
            "versions": {package: version(package) for package in PACKAGES},
            "data": data.collection.fingerprint(),
            "training_items": len(data.training_entries),
            "species": statistics.species,
            "mean_neighbours": statistics.neighbour_count,
        }
        (run / "provenance.json").write_text(json.dumps(provenance, indent=1))
    # For the whole run, so that what is compiled in it is for the threads that it runs on.
    threads = threads_for(round(statistics.neighbour_count * data.step_particles))
    with warnings.catch_warnings(), on_threads(threads):
        # Reading ahead is a choice (`workers`), and small data is faster without it.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
        warnings.filterwarnings("ignore", message=".*may not be resumable.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            engine.fit(task, datamodule=data, ckpt_path=str(last) if checkpoint else None)
        except SystemExit:
            # Lightning answers Ctrl-C by leaving; who called `fit` should decide that.
            if engine.interrupted:
                raise KeyboardInterrupt from None
            raise
        except MisconfigurationException as error:  # some options wait for the data
            raise ValueError(f"the trainer cannot train with {trainer}: {error}") from error
    if engine.is_global_zero:
        if best.best_model_score is None:
            raise ValueError(
                f"with {trainer} the trainer never validated, so no model is the best; leave out "
                "what keeps it from doing so"
            )
        score = float(best.best_model_score)
        if parent is not None and not score < parent.error:
            warnings.warn(
                f"nothing was learned that is better than the model to start from: its {task.monitored} "
                f"is {parent.error:.4g}, after training at best {score:.4g}. It is kept, with the atomic "
                "energies of this data; train longer, or with smaller rates",
                stacklevel=3,
            )
            score = parent.error
            task.model.load_state_dict(parent.weights())
        else:
            chosen = torch.load(last.with_name("best.ckpt"), map_location="cpu", weights_only=True)
            task.load_state_dict(chosen["state_dict"])
        task.finish(data)
        errors = {key: float(value) for key, value in engine.callback_metrics.items()}
        summary = {
            "best": {task.monitored: score},
            "last": errors,
            "null": nulls,
            "units": task.units_of_errors,
            "steps": engine.global_step,
            "cpu_seconds": task.spent(),
            "build_cpu_seconds": task.build_cpu_seconds,
            "parameters": sum(p.numel() for p in task.model.parameters()),
        }
        with replacing(run / "metrics.json") as file:
            file.write(json.dumps(summary, indent=1).encode())
        # Last, since a run that has a model counts as finished.
        archive.save(archive.Archive(task.model, data=data.collection.fingerprint()), finished)


class Parent:
    """The model that a run starts from, with the new data's atomic energies: nothing worse is kept.

    Args:
        path: Where it is kept for when the run is continued.
        task: Its model is the parent's now, unless the run is a continued one.

    Attributes:
        error: What the run is judged by, of this model.
    """

    def __init__(self, path: Path, data: Data, task: Task):
        self._path = path
        if task.resumed:
            # Runs that began before this was kept have nothing to fall back to.
            known = torch.load(path, weights_only=True) if path.is_file() else {"error": math.inf}
            self.error = float(known["error"])
            return
        path.parent.mkdir(exist_ok=True)
        self.error = task.validated(data.val_dataloader())[task.monitored]
        with replacing(path) as file:
            torch.save({"error": self.error, "weights": task.model.state_dict()}, file)

    def weights(self) -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self._path, weights_only=True)
        return dict(content["weights"])


def built_trainer(options: dict[str, Any], further: dict[str, Any]) -> Trainer:
    """Lightning's trainer with our options and those of the job.

    Raises:
        ValueError: If the job's are unknown, not to be changed, or not possible here.
    """
    known = inspect.signature(Trainer).parameters
    unknown = sorted(str(name) for name in further if name not in known)
    if unknown:
        close = get_close_matches(unknown[0], known, 3)
        raise ValueError(
            f"Lightning's trainer has no option {', '.join(unknown)}"
            + (f"; did you mean {' or '.join(close)}?" if close else "")
        )
    owned = sorted(further.keys() & OWNED.keys())
    if owned:
        raise ValueError(f"trainer: {owned[0]} is set by {OWNED[owned[0]]}; leave it out there")
    try:
        return Trainer(**options | further)
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        # Lightning names a mistake in its options in any of these ways.
        raise ValueError(f"the trainer cannot be had with {further}: {error}") from error


def null_errors(data: Data, task: Task, statistics: Statistics) -> dict[str, float]:
    """Root mean square validation errors of the task's null model.

    Raises:
        ValueError: If no validation frame has a label that is to be learned.
    """
    squares: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for index in range(len(data.validation_set)):  # type: ignore[arg-type]
        found = task.null_errors(data.validation_set[index], statistics)
        for name, (total, known) in found.items():
            squares.setdefault(name, []).append(float(total))
            counts[name] = counts.get(name, 0) + int(known)
    for key, count in counts.items():
        if count == 0:
            raise ValueError(
                f"no validation frame has {key}; hold back more frames, or others (split, seed)"
            )
    return {key: (sum(values) / counts[key]) ** 0.5 for key, values in squares.items()}
