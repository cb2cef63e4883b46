"""Acetylacetone with more time: GFN2-xTB first, then the 450 frames.

Longer training on 450 frames alone does not help (results/search.md). So dynamics with GFN2-xTB from five of
them makes 4,000 labels, a model learns those, and then the 450 frames from there, once for each seed. Root
mean square errors on test_MD_300K, beside the null model; about 40 minutes of one core, and 9 more for each
further seed. Published after 2 to 6 hours on a GPU, from the 450 frames alone: MACE 0.9 meV and 5.1 meV/Å
(arXiv:2206.07697).

    python scripts/bench_acac_long.py [--seeds 3] [--json_file FILE]
"""

import json
import os
import statistics
from pathlib import Path

import torch
from gfn2_first import GFN2_ATOMS, cost, labelled, sciwm_command, trained
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate

PRESET = "configs/acac.yaml"

GENTLY = (
    "--task.matrix_rounds",
    "1",
    "--task.matrix_rate",
    "0.001",
    "--task.learning_rate",
    "5e-4",
)
"""From weights that know much already."""


def main(
    source: str = "../shared/data/acac",
    seeds: int = 1,
    reference_time: str = "6.4ps",
    reference_budget: int = 1500,
    budget: int = 480,
    json_file: str | None = None,
    folder: str = "runs/bench_acac_long",
) -> None:
    """Prints the errors.

    Args:
        source: Folder with train_300K.xyz and test_MD_300K.xyz.
        seeds: Runs on the 450 frames, each with its own held-back frames and order; all start from the
            same model of GFN2-xTB.
        reference_time: How long each of the five simulations with GFN2-xTB is; every 8 fs is labelled.
        reference_budget: Processor seconds of learning GFN2-xTB.
        budget: Processor seconds of learning the 450 frames.
        json_file: Where to write the figures as JSON too.
        folder: Where to work; what it already holds is not done again.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    train, test, labels = (
        place / name for name in ("train.h5md", "test.h5md", f"gfn2-{reference_time}.h5md")
    )
    for target, name in ((train, "train_300K.xyz"), (test, "test_MD_300K.xyz")):
        if not target.is_file():
            sciwm_command("import", f"{source}/{name}", "--to", str(target))
    words = ["--frames", "0,100,200,300,400", "--temperature", "400K", "--every", "16"]
    labelling = labelled(labels, "gfn2", train, reference_time, *words)
    first = (*GFN2_ATOMS, "--data.split", "time")
    learned = trained(
        PRESET, place / f"{labels.stem}-{reference_budget}s", labels, reference_budget, 0, *first
    )
    values: dict[str, list[float]] = {"force": [], "energy": []}
    nulls: dict[str, float] = {}
    costs: list[float] = []
    steps: list[list[int]] = []
    for seed in range(seeds):
        start = ("--task.start", str(learned), *GENTLY)
        name = f"{learned.name}-refined{seed}-{budget}s"
        run = trained(PRESET, place / name, train, budget, seed, *start)
        rows = {row.name: row for row in evaluate(sciwm.load(run).model, Collection([test])).rows}
        for name, found in values.items():
            found.append(rows[name].errors.rmse)
            nulls[name] = rows[name].null.rmse
        costs.append(labelling + cost(learned) + cost(run))
        metrics = [json.loads((one / "metrics.json").read_text()) for one in (learned, run)]
        steps.append([one["steps"] for one in metrics])
    figures: dict[str, object] = {
        "budget": round(statistics.median(costs)),
        "labels": len(Collection([labels]).frames),
        "steps": steps,
    }
    for name, unit in (("force", "meV/Å"), ("energy", "meV")):
        found, null = values[name], nulls[name]
        middle = statistics.median(found)
        each = ", ".join(f"{one:.2f}" for one in found)
        print(f"{name} {middle:.2f} {unit} ({each}), null model {null:.0f}")
        kept = {"value": middle, "unit": unit, "each": found, "null": null}
        figures[f"{name}_rmse_300K"] = kept
    print(f"{figures['budget']} s in all for one of them, labels and compiling included")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    auto_cli(main)
