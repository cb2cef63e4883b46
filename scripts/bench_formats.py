"""Three public data sets from their own files, through `sciwm import` with no code written: error over null.

Aspirin (rMD17, extended XYZ in meV), silicon with stress (mlearn, gzipped extended XYZ) and liquid water
(DeePMD folders) are imported, trained as configs/{aspirin,silicon,water}.yaml say, and evaluated; silicon and
water on files of their own, aspirin, which is one file, on the held-back frames. About 25 minutes.

    OMP_NUM_THREADS=1 python scripts/bench_formats.py [--json_file FILE] [--only silicon]
"""

import json
import subprocess
import sys
from pathlib import Path

import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate

SOURCES = {
    "aspirin": {"train": ("rmd17/aspirin_meV.xyz", "meV")},
    "silicon": {
        "train": ("mlearn/Si_train.extxyz.gz", None),
        "test": ("mlearn/Si_test.extxyz.gz", None),
    },
    "water": {
        "train_0": ("deepmd_water/data_0", None),
        "train_1": ("deepmd_water/data_1", None),
        "train_2": ("deepmd_water/data_2", None),
        "test": ("deepmd_water/data_3", None),
    },
}


def main(
    source: str = "../shared/data", only: str | None = None, json_file: str | None = None
) -> None:
    """Prints the table and the figures.

    Args:
        source: Folder of the reference data.
        only: One of aspirin, silicon, water.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    command = [sys.executable, "-m", "sciwm"]
    figures: dict[str, dict[str, object]] = {}
    print(f"{'':12s}{'force RMSE':>12s}{'null':>10s}{'ratio':>8s}")
    for name in [only] if only else list(SOURCES):
        folder = Path("runs", name)
        folder.mkdir(parents=True, exist_ok=True)
        for target, (path, units) in SOURCES[name].items():
            file = folder / f"{target}.h5md"
            if not file.is_file():
                options = ["--to", str(file), *(["--units", units] if units else [])]
                subprocess.run([*command, "import", f"{source}/{path}", *options], check=True)
        if not (folder / "model.pt").is_file():
            subprocess.run([*command, "train", f"configs/{name}.yaml"], check=True)
        if (folder / "test.h5md").is_file():
            result = evaluate(sciwm.load(folder).model, Collection([folder / "test.h5md"]))
            row = {r.name: r for r in result.rows}["force"]
            error, null = row.errors.rmse, row.null.rmse
        else:
            metrics = json.loads((folder / "metrics.json").read_text())
            error, null = 1e3 * metrics["best"]["valid/force"], 1e3 * metrics["null"]["force"]
        print(f"{name:12s}{error:12.1f}{null:10.1f}{null / error:8.1f}  meV/Å")
        figures[f"{name}_force_rmse"] = {"value": error, "unit": "meV/Å"}
        figures[f"{name}_null_over_error"] = {"value": null / error, "unit": ""}
    for figure, entry in figures.items():
        print(figure, f"{entry['value']:.4g}", entry["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)
