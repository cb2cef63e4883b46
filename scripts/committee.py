"""One model that learned what several agree on, for the benchmarks of learning from few labels.

Models of the same frames that start from other weights err differently; their mean errs less (deep
ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474). It moves the molecules and labels them on the way,
from the frames they learned on, and one model learns those labels (distillation, Hinton et al. 2015,
arXiv:1503.02531): as good as the mean, as fast as one. No other method's labels enter.
"""

import resource
from pathlib import Path

from gfn2_first import sciwm_command, trained


def taught(
    preset: str,
    folder: Path,
    frames: Path,
    members: list[Path],
    *options: str,
    starts: str,
    time_each: str,
    temperature: str,
    budget: int,
    seed: int,
) -> tuple[Path, float]:
    """The run folder of the model that was taught, and the processor seconds that labelling took.

    Args:
        members: Run folders of trained models.
        options: Further options of its training.
        starts: Of the frames, those that dynamics starts from, as `sciwm simulate --frames` takes them.
        time_each: How long dynamics goes on from each; every tenth step of 1 fs is labelled.
        budget: Processor seconds of training.
    """
    labels = folder / f"labels-of-{len(members)}.h5md"
    cost = labels.with_suffix(".seconds")
    if not cost.is_file():
        began = _spent_by_commands()
        names = ",".join(str(member) for member in members)
        words = ["--frames", starts, "--temperature", temperature, "--dt", "1fs", "--every", "10"]
        words += ["--seed", str(seed), "--out", str(labels)]
        sciwm_command("simulate", names, str(frames), time_each, *words)
        cost.write_text(f"{_spent_by_commands() - began:.0f}")
    run = folder / f"taught-by-{len(members)}-{budget}s"
    words = ("--data.split", "time", "--data.valid", "0.04", *options)
    student = trained(preset, run, labels, budget, seed, *words)
    return student, float(cost.read_text())


def _spent_by_commands() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
