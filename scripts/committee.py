"""One model that learned what several agree on, for the benchmarks of learning from few labels.

Models of the same frames that start from other weights err differently; their mean errs less (deep
ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474). It moves the molecules and labels them on the way,
from the frames they learned on, and one model learns those labels (distillation, Hinton et al. 2015,
arXiv:1503.02531), so that it errs about as little and is as fast as one. No other method's labels enter.
"""

import hashlib
from pathlib import Path

from gfn2_first import labelled, trained


def taught(
    preset: str,
    folder: Path,
    frames: Path,
    members: list[Path],
    *options: str,
    starts: str,
    duration: str,
    temperature: str,
    budget: int,
    seed: int,
) -> tuple[Path, float]:
    """The run folder of the model that was taught, and the processor seconds that labelling took.

    Args:
        members: Run folders of trained models.
        options: Further options of its training.
        starts: Of the frames, those that dynamics starts from, as `sciwm simulate --frames` takes them.
        duration: How long dynamics goes on from each; every tenth step of 1 fs is labelled.
        budget: Processor seconds of training.
    """
    words = ["--frames", starts, "--temperature", temperature, "--dt", "1fs", "--every", "10"]
    words += ["--seed", str(seed)]
    told = hashlib.sha256(repr((duration, words)).encode())
    for member in members:
        told.update((member / "model.pt").read_bytes())
    labels = folder / f"labels-{told.hexdigest()[:8]}.h5md"
    names = ",".join(str(member) for member in members)
    spent = labelled(labels, names, frames, duration, *words)
    told.update(repr((budget, options, Path(preset).read_text())).encode())
    run = folder / f"taught-{told.hexdigest()[:8]}"
    held = ("--data.split", "time", "--data.valid", "0.04")
    return trained(preset, run, labels, budget, seed, *held, *options), spent
