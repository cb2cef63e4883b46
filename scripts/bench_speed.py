"""Speed of training, of molecular dynamics and of forces, ours beside the rivals' in one interleaved run.

Every code runs in a worker process of its own (rivals in their own environments, see `--peers`), and the
workers take turns, A B C A B C, so that all meet the same load of the machine. One thread, float32, cutoff
5 Å, weights untrained. A rival that is not installed is skipped and named.

| figure | what is timed |
|---|---|
| train_step_ms | one optimiser step on 10 molecules of acetylacetone; only ours with collation |
| md_step_ms | one step of dynamics of one molecule; ours keeps its neighbour list, theirs is ASE's |
| batch64_system_steps_per_cpu_s | 64 molecules at once; ours whole steps of dynamics, theirs forces alone |
| si216_ms | forces of 216 silicon atoms, without the neighbour list |

    python scripts/bench_speed.py [--rounds 4] [--json_file FILE]
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

OURS = {
    "sciwm small": "configs/acac_small.yaml",
    "sciwm medium": "configs/acac.yaml",
    "sciwm large": "configs/acac_large.yaml",
    "sciwm medium, not compiled": "configs/acac.yaml",
}
RIVALS = {
    "PaiNN 64": ("venv-spk", "painn", "64"),
    "NequIP S": ("venv-nequip", "nequip", "S"),
    "NequIP 3 layers": ("venv-nequip", "nequip", "3"),
    "NequIP 3 layers, compiled": ("venv-nequip", "nequip", "3-c"),
    "NequIP 3 layers, ahead of time": ("venv-nequip", "nequipaot", "3"),
    "MACE 32x0e": ("venv-mace", "mace", "32L0"),
    "GFN2-xTB": ("venv-xtb", "xtb", "gfn2"),
}
DYNAMICS_ONLY = ("NequIP 3 layers, ahead of time", "GFN2-xTB")
TRAINING_ONLY = ("NequIP 3 layers, compiled",)
FIGURES = {
    "train_step_ms": ("train", "train"),
    "md_step_ms": ("md1", "md1"),
    "batch64_system_steps_per_cpu_s": ("md64", "eval64"),
    "si216_ms": ("si216", "si216"),
}
"""Of each figure, the operation of our worker and of a rival's."""


class Worker:
    """A process that times what it is asked to."""

    def __init__(self, name: str, command: Sequence[str], folder: Path | None, log: Path):
        self.name = name
        self.ours = name.startswith("sciwm")
        # What `nequip-compile --mode aotinductor` made of an untrained model of the same settings.
        compiled = str(peers_home() / "acac.nequip.pt2")
        environment = {"NEQUIP_PT2": compiled} | os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            cwd=folder,
            env=environment,
        )
        self.failed = ""
        self.size = self._answer().get("params", 0)

    def time(self, op: str, seconds: float) -> dict[str, Any]:
        """Seconds of one repetition; empty once it has failed."""
        if self.failed:
            return {}
        assert self.process.stdin is not None
        try:
            print(
                json.dumps({"op": op, "threads": 1, "seconds": seconds}),
                file=self.process.stdin,
                flush=True,
            )
        except OSError:
            self.failed = "its worker died"
            return {}
        answer = self._answer()
        if "error" in answer:
            print(f"{self.name}, {op}: {answer['error']}", file=sys.stderr)
            return {}
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        self.failed = "its worker died"
        return {}


def main(
    rounds: int = 4,
    seconds: float = 2.0,
    peers: str = "../shared/peers",
    json_file: str | None = None,
    folder: str = "runs/bench_speed",
    only: list[str] | None = None,
) -> None:
    """Prints the table.

    Args:
        rounds: Turns that every code takes.
        seconds: How long a turn is.
        peers: Folder with the rivals' workers; their environments are in $PEERS_HOME or
            ~/.cache/sciwm-peers.
        json_file: Where to write the figures as JSON.
        folder: For logs.
        only: Names of the codes to run; all by default.
    """
    logs = Path(folder)
    logs.mkdir(parents=True, exist_ok=True)
    workers = started(Path(peers).resolve(), logs, only)
    results: dict[str, dict[str, Any]] = {w.name: {"parameters": w.size} for w in workers}
    for figure, ops in FIGURES.items():
        taken: dict[str, list[dict[str, Any]]] = {w.name: [] for w in workers}
        for turn in range(rounds + 1):
            for worker in workers:
                if not offers(worker.name, figure):
                    continue
                answer = worker.time(ops[0 if worker.ours else 1], seconds)
                if answer and turn:  # the first turn warms up
                    taken[worker.name].append(answer)
        for name, answers in taken.items():
            if answers:
                results[name][figure] = figure_of(figure, answers)
    for worker in workers:
        worker.process.terminate()
    print_table(results)
    if json_file:
        Path(json_file).write_text(json.dumps(results, indent=1, ensure_ascii=False))


def peers_home() -> Path:
    return Path(os.environ.get("PEERS_HOME", Path.home() / ".cache" / "sciwm-peers"))


def started(peers: Path, logs: Path, only: list[str] | None) -> list[Worker]:
    """A worker of each code that is there; those that are not are named."""
    home = peers_home()
    workers = []
    for name, preset in OURS.items():
        if only is None or name in only:
            mode = ["eager"] if "not compiled" in name else []
            command = [sys.executable, "-W", "ignore", "scripts/speed_worker.py", preset, *mode]
            workers.append(Worker(name, command, None, logs / f"{name}.log"))
    for name, (venv, code, config) in RIVALS.items():
        if only is not None and name not in only:
            continue
        python = home / venv / "bin" / "python"
        if not python.exists() or not (peers / "worker.py").exists():
            print(f"{name} is not installed ({python}): skipped", file=sys.stderr)
            continue
        command = [str(python), "-W", "ignore", "worker.py", code, config]
        workers.append(Worker(name, command, peers, logs / f"{name}.log"))
    for worker in workers:
        if worker.failed:
            print(f"{worker.name}: {worker.failed}, see {logs}: skipped", file=sys.stderr)
    return [worker for worker in workers if not worker.failed]


def offers(name: str, figure: str) -> bool:
    if name in DYNAMICS_ONLY:
        return figure == "md_step_ms"
    return name not in TRAINING_ONLY or figure == "train_step_ms"


def figure_of(figure: str, answers: list[dict[str, Any]]) -> dict[str, float]:
    """Median, lowest and highest over the turns, and the wall time beside the processor's."""
    rate = figure == "batch64_system_steps_per_cpu_s"
    cpu = [64 / one["cpu"] if rate else 1e3 * one["cpu"] for one in answers]
    wall = [64 / one["wall"] if rate else 1e3 * one["wall"] for one in answers]
    middle = statistics.median(cpu)
    return {"cpu": middle, "low": min(cpu), "high": max(cpu), "wall": statistics.median(wall)}


def print_table(results: dict[str, dict[str, Any]]) -> None:
    print(
        f"\nMedian over turns of processor time (lowest-highest)\n{'':32s}{'parameters':>11s}",
        end="",
    )
    print("".join(f"{figure.removesuffix('_per_cpu_s'):>32s}" for figure in FIGURES))
    for name, found in results.items():
        cells = []
        for figure in FIGURES:
            one = found.get(figure)
            text = f"{one['cpu']:.4g} ({one['low']:.4g}-{one['high']:.4g})" if one else ""
            cells.append(f"{text:>32s}")
        print(f"{name:32s}{found['parameters']:11d}" + "".join(cells))
    for figure in FIGURES:
        rate = figure.endswith("cpu_s")
        theirs = {n: f[figure]["cpu"] for n, f in results.items() if figure in f and n in RIVALS}
        if not theirs:
            continue
        best = (max if rate else min)(theirs, key=lambda name: theirs[name])
        for name in OURS:
            if figure in results.get(name, {}):
                mine = results[name][figure]["cpu"]
                ratio = mine / theirs[best] if rate else theirs[best] / mine
                print(f"{figure}: {name} is {ratio:.2f} times as fast as {best}")


if __name__ == "__main__":
    auto_cli(main)
