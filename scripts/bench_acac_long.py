"""Acetylacetone with more time: GFN2-xTB first, then the 450 frames.

Longer training on 450 frames alone does not help (results/search.md). So dynamics with GFN2-xTB from five of
them makes 2,000 labels, a model learns those, and then the 450 frames from there. Root mean square errors on
test_MD_300K, beside the null model; about half an hour of one core. Published after 2 to 6 hours on a GPU,
from the 450 frames alone: MACE 0.9 meV and 5.1 meV/Å (arXiv:2206.07697).

    python scripts/bench_acac_long.py [--json_file FILE]
"""

import json
import os
from pathlib import Path

import torch
from gfn2_first import GFN2_ATOMS, labelled, sciwm_command, trained
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate

PRESET = "configs/acac.yaml"


def main(
    source: str = "../shared/data/acac",
    reference_budget: int = 700,
    budget: int = 480,
    json_file: str | None = None,
    folder: str = "runs/bench_acac_long",
) -> None:
    """Prints the errors.

    Args:
        source: Folder with train_300K.xyz and test_MD_300K.xyz.
        reference_budget: Processor seconds of learning GFN2-xTB.
        budget: Processor seconds of learning the 450 frames.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    train, test, labels = (place / name for name in ("train.h5md", "test.h5md", "gfn2.h5md"))
    for target, name in ((train, "train_300K.xyz"), (test, "test_MD_300K.xyz")):
        if not target.is_file():
            sciwm_command("import", f"{source}/{name}", "--to", str(target))
    words = ["--frames", "0,100,200,300,400", "--temperature", "400K", "--every", "16"]
    labelling = labelled(labels, "gfn2", train, "3.2ps", *words)
    first = (*GFN2_ATOMS, "--data.split", "time")
    learned = trained(PRESET, place / "gfn2", labels, reference_budget, 0, *first)
    refined = trained(
        PRESET,
        place / "refined",
        train,
        budget,
        0,
        *("--task.start", str(learned), "--task.matrix_rounds", "1"),
        *("--task.matrix_rate", "0.001", "--task.learning_rate", "5e-4"),
    )
    rows = {row.name: row for row in evaluate(sciwm.load(refined).model, Collection([test])).rows}
    spent = [json.loads((run / "metrics.json").read_text()) for run in (learned, refined)]
    seconds = labelling + sum(one["cpu_seconds"] + one["build_seconds"] for one in spent)
    figures: dict[str, object] = {
        "budget": round(seconds),
        "steps": [one["steps"] for one in spent],
    }
    for name, unit in (("force", "meV/Å"), ("energy", "meV")):
        errors, null = rows[name].errors.rmse, rows[name].null.rmse
        print(f"{name} {errors:.2f} {unit}, null model {null:.0f}")
        figures[f"{name}_rmse_300K"] = {"value": errors, "unit": unit, "null": null}
    print(f"{seconds:.0f} s in all, labels and compiling included")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    auto_cli(main)
