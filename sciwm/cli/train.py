"""`sciwm train`: a model from data."""


def train(config: str, *, name: str | None = None, folder: str = "runs") -> int:
    """Trains a model as a YAML file says, and continues the run if it was interrupted.

    Any option of the file can be given after it, such as --max_steps 2000 or
    --task.learning_rate 1e-3; `sciwm train --options` lists them all.

    Args:
        config: The job: data, task with its model, steps, seed (see configs/).
        name: Of the run folder; the file's own name where absent.
        folder: Where run folders are made.
    """
    raise AssertionError("handled by `run`, which knows the options of the job file")


def run(arguments: list[str]) -> int:
    """Parses the job with jsonargparse, seeds, builds, and fits."""
    from pathlib import Path

    from lightning.pytorch import seed_everything

    from sciwm.cli.arguments import built, readable
    from sciwm.cli.parser import new_parser, require_values
    from sciwm.core.bounds import require_seed
    from sciwm.training.fit import claimed, fit

    parser = new_parser("sciwm train", "All options of a training job.")
    parser.add_argument("--config", action="config", help="The job file.")
    parser.add_function_arguments(fit, skip={"name", "folder"}, fail_untyped=True)
    parser.add_argument("--name", type=str, default=None, help="Of the run folder.")
    parser.add_argument("--folder", type=str, default="runs", help="Where run folders are made.")
    if arguments == ["--options"]:
        parser.print_help()
        return 0
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--config", *arguments]
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
    return 0


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
