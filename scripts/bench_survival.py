"""Thermal survival: does the learned world rank molecules it never saw as quantum chemistry does?

The same recipe (Langevin dynamics at 3000 K, 3 ps, until a bond breaks for good) runs with GFN2-xTB and in
the learned world, on the molecules of datasets/survival/molecules.csv: `train` ones give frames to learn
from, `test` ones are kept apart. Reported are the rank correlation of survival between the two, with an
interval from resampling molecules, and the cost ratio, per molecule on one core.

    python scripts/bench_survival.py [--json_file FILE]

The reference takes about two hours of one core and is kept; training takes `budget` seconds.
"""

import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv

import numpy as np
import torch
from jsonargparse import auto_cli

from sciwm.core.molecules import frame_from_smiles
from sciwm.data.h5md import H5MDWriter
from sciwm.discovery.outcomes.survival import ThermalSurvival
from sciwm.simulation.references.xtb import GFN2

SEEDS = {"train": 3, "test": 8}


def main(folder: str = "runs/bench_survival", stage: str = "reference") -> None:
    torch.set_num_threads(1)
    measure_reference(Path(folder))


def measure_reference(folder: Path) -> None:
    """Runs what is still missing; one JSON file of lifetimes and one H5MD file per molecule."""
    with open("datasets/survival/molecules.csv") as stream:
        molecules = list(csv.DictReader(stream))
    for row in molecules:
        name = f"{row['use']}-{molecules.index(row):02d}"
        target = folder / "reference" / f"{name}.json"
        if target.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        world = GFN2(electronic_temperature=3000.0)
        frame = frame_from_smiles(row["smiles"])
        started, clock = time.time(), time.process_time()
        recipe = ThermalSurvival(seeds=SEEDS[row["use"]])
        [found] = recipe.lifetimes(world, [frame])
        seconds = time.time() - started
        world.close()
        if not isinstance(found, tuple):
            print(row["smiles"], found, flush=True)
            continue
        times, frames, flag = found
        parts = folder / "reference" / f"{name}.h5md"
        parts.unlink(missing_ok=True)
        with H5MDWriter(parts, units=world.units) as writer:
            seed = -1
            for one in frames:
                seed += one.step == 0
                writer.append(one, group=f"{name}-{seed}")
        record = {
            "smiles": row["smiles"],
            "atoms": len(frame),
            "lifetimes": [None if np.isinf(t) else float(t) for t in times],
            "flag": flag,
            "wall_s": seconds,
            "driver_cpu_s": time.process_time() - clock,
        }
        target.write_text(json.dumps(record))
        print(row["smiles"], record["lifetimes"], round(seconds, 1), flag, flush=True)


if __name__ == "__main__":
    auto_cli(main)
