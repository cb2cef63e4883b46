"""`sciwm train`: a model from data."""

from pathlib import Path

WORTH_A_PROGRAM = 60.0
"""s of training, from which on a model is worth the time of building a program for it."""


def train(job: str, *, name: str | None = None, folder: str = "runs", program: bool = True) -> int:
    """Trains a model, and continues the run if it was interrupted.

    Any option of a job file can be given after it, such as --max_steps 2000 or
    --task.learning_rate 1e-3; `sciwm train --options` lists them all.

    Args:
        job: A job file (YAML: data, task with its model, steps, seed), or the name of one that comes with
            sciwm; or an H5MD file, for which a job is chosen and written into the current folder, as
            FILE.yaml for FILE.h5md, where there is none yet.
        name: Of the run folder; the file's own name where absent.
        folder: Where run folders are made.
        program: After more than a minute of training, build a program (see `sciwm compile`), so that the
            first simulation is already fast.
    """
    raise AssertionError("handled by `run`, which knows the options of the job file")


def run(arguments: list[str]) -> int:
    """Parses the job with jsonargparse, seeds, builds, and fits."""
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from sciwm.cli.arguments import built, readable
    from sciwm.cli.parser import new_parser, require_values
    from sciwm.core.bounds import require_seed
    from sciwm.training.fit import claimed, fit

    parser = new_parser("sciwm train", "All options of a training job.")
    parser.add_argument("--config", action="config", help="The job file.")
    parser.add_function_arguments(fit, skip={"name", "folder"}, fail_untyped=True)
    parser.add_argument("--name", type=str, default=None, help="Of the run folder.")
    parser.add_argument("--folder", type=str, default="runs", help="Where run folders are made.")
    parser.add_argument(
        "--program", type=bool, default=True, help="Build a program after a long training."
    )
    if arguments == ["--options"]:
        parser.print_help()
        return 0
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--config", str(job_for(arguments[0])), *arguments[1:]]
    parsed = parser.parse_args(readable(arguments))
    refuse_foreign_classes(parsed.as_dict())
    name = parsed.name or Path(str(parsed.config[0])).stem
    require_values(parsed.as_dict() | {"name": name}, fit)
    require_seed(parsed.seed)
    seed_everything(parsed.seed, verbose=False)
    folder = Path(parsed.folder) / name
    if (folder / "model.pt").is_file():
        print(
            f"{folder} is finished: {folder / 'model.pt'} exists. Give another --name to train anew."
        )
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        parser.save(parsed, str(folder / "config.yaml"), overwrite=True, multifile=False)
        job = built(parser, parsed)
        done = fit(
            data=job.data,
            task=job.task,
            name=name,
            seed=job.seed,
            max_steps=job.max_steps,
            validate_every=job.validate_every,
            ema_decay=job.ema_decay,
            gradient_clip=job.gradient_clip,
            trainer=job.trainer,
            folder=job.folder,
        )
    print(f"trained model and its record: {done}")
    # Of several processes that train together, one builds for all.
    first = getattr(rank_zero_only, "rank", 0) == 0
    if parsed.program and first and job.task.spent() > WORTH_A_PROGRAM:
        build_program(done)
    return 0


def build_program(run: Path) -> None:
    """Compiles the model of a finished run; says so where it cannot, which is no failure."""
    from sciwm.interfaces.world import load
    from sciwm.models.programs.tracing import CompilationError, DeviationError

    print(
        "building a program for fast simulations, about a minute; Ctrl-C leaves it out", flush=True
    )
    try:
        load(run).compile()
    except (CompilationError, DeviationError) as error:
        print(f"{error}. The model is complete; simulations are slower without")
    except KeyboardInterrupt:
        print(f"left out; `sciwm compile {run}` builds it")


def job_for(text: str) -> Path:
    """The job file that the command line names, or one that is now written for an H5MD file.

    Raises:
        ValueError: If it is data that has to be imported first, or that nothing can be learned from.
    """
    import h5py

    from sciwm.cli.job_files import job_file
    from sciwm.core.replacement import replacing
    from sciwm.evaluation.run import named_training_files
    from sciwm.training.proposal import propose

    data = Path(text)
    if not data.is_file() or not h5py.is_hdf5(data):
        if data.is_file() and data.suffix not in (".yaml", ".yml"):
            raise ValueError(
                f"{data} is neither a job file (.yaml) nor H5MD; if it is data, `sciwm import {data} --to "
                f"{data.stem}.h5md` comes first"
            )
        return job_file(text)
    job = Path(data.with_suffix(".yaml").name)
    if job.exists():
        others = [Path(name) for name in named_training_files(job)]
        if not any(other.exists() and other.samefile(data) for other in others):
            raise ValueError(
                f"{job} is there already and trains on {', '.join(map(str, others)) or 'nothing'}, not on "
                f"{data}; move it away, or rename one of the two"
            )
        print(f"the job is {job}, as it stands there")
        return job
    proposal = propose([data])
    with replacing(job) as file:
        file.write(proposal.text().encode())
    print("\n".join(proposal.reasons) + f"\nthe job is {job}; change in it what you like")
    return job


def refuse_foreign_classes(config: object) -> None:
    """Raises ValueError if a job file names a class outside this package."""
    if isinstance(config, dict):
        path = config.get("class_path")
        if isinstance(path, str) and not path.startswith("sciwm."):
            raise ValueError(f"refusing to build {path!r}: job files may only name sciwm's classes")
        for value in config.values():
            refuse_foreign_classes(value)
    if isinstance(config, list):
        for value in config:
            refuse_foreign_classes(value)
