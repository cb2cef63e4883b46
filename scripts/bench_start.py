"""What it takes from a new interpreter to the first energy of a world that was compiled before.

Each is a process of its own, and they take turns: `import sciwm` alone; torch, torch-geometric and e3nn
alone, which no energy goes without; and a world that is loaded and asked for one energy. The first turn is
not counted, because it reads files that are in memory afterwards.

    python scripts/bench_start.py [--world organic] [--rounds 10] [--json_file FILE]
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from jsonargparse import auto_cli

import sciwm

ENERGY = """
import sciwm
from ase import Atoms
sciwm.load({world!r}).energy(Atoms("OHH", [[0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]]))
"""


TOLD = """
import os, time
print(time.time(), sum(os.times()[:4]))
"""


def main(world: str = "organic", rounds: int = 10, json_file: str | None = None) -> None:
    """Prints seconds of the clock and of the processor, medians over turns.

    Args:
        world: A shipped one, a run folder or a model file.
        json_file: Where to write the figures as JSON.
    """
    sciwm.load(world).compile()
    programs = {
        "interpreter": "",
        "import_sciwm": "import sciwm",
        "libraries": "import torch, torch_geometric, e3nn.o3, ase",
        "first_energy": ENERGY.format(world=world),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            seconds = measured(program)
            if turn:
                taken[name].append(seconds)
    figures = {}
    for name, turns in taken.items():
        wall, processor = (statistics.median(one) for one in zip(*turns, strict=True))
        each = [one for one, _ in turns]
        figures[name] = {"value": wall, "processor": processor, "each": each, "unit": "s"}
        print(f"{name:14s} {wall:6.2f} s of the clock, {processor:6.2f} s of the processor")
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


def measured(program: str) -> tuple[float, float]:
    """Seconds of the clock and of the processor from the start of a process to the end of its program."""
    start = time.time()
    told = subprocess.run(
        [sys.executable, "-c", program + TOLD], check=True, stdout=subprocess.PIPE, text=True
    )
    end, used = told.stdout.split()
    return float(end) - start, float(used)


if __name__ == "__main__":
    auto_cli(main)
