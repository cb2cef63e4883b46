"""Accuracy on acetylacetone after a fixed budget of processor time, beside the null model.

Imports the published files (train_300K: 450 to learn from, 50 held back), trains `configs/acac.yaml` for
480 processor seconds on one thread (compiling comes before and is reported), and reports root mean square
errors on test_MD_300K, once for each seed; about 10 minutes a seed. Rivals that are installed (see `--peers`)
are trained for as long on the same frames with one recipe for all, by their own script. Any other test file
can be added. Published after full training on a GPU: MACE 0.9 meV and 5.1 meV/Å (arXiv:2206.07697).

    python scripts/bench_acac.py [--seeds 3] [--rivals '["painn:64"]'] [--test 600K=FILE] [--json_file FILE]
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.data.collection import Collection
from sciwm.evaluation.evaluate import evaluate


def main(
    source: str = "../shared/data/acac",
    budget: int = 480,
    seeds: int = 1,
    test: str | list[str] | None = None,
    json_file: str | None = None,
    folder: str = "runs/bench_acac",
    preset: str = "configs/acac.yaml",
    rivals: list[str] | None = None,
    peers: str = "../shared/peers",
) -> None:
    """Prints the table and the figures.

    Args:
        source: Folder with train_300K.xyz and test_MD_300K.xyz.
        budget: Processor seconds of training.
        seeds: Runs, each with its own weights and split.
        test: A further test file as NAME=FILE, or a list of such.
        json_file: Where to write the figures as JSON too.
        folder: Where to work.
        preset: The job to run.
        rivals: Codes to train beside ours, as CODE:CONFIG.
        peers: Folder with the rivals' scripts; their environments are in $PEERS_HOME or
            ~/.cache/sciwm-peers.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    tests = {"300K": f"{source}/test_MD_300K.xyz"}
    further = [test] if isinstance(test, str) else test or []
    tests |= dict(entry.split("=", 1) for entry in further)
    sciwm_command = [sys.executable, "-m", "sciwm"]
    files = {name: Path(folder, f"test_{name}.h5md") for name in tests}
    sources = {Path(folder, "train.h5md"): f"{source}/train_300K.xyz"}
    sources |= {files[name]: path for name, path in tests.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for target, path in sources.items():
        if not target.is_file():
            subprocess.run([*sciwm_command, "import", path, "--to", str(target)], check=True)
    values: dict[str, list[float]] = {}
    nulls: dict[str, float] = {}
    costs: list[dict[str, float]] = []
    for seed in range(seeds):
        run = Path(folder, f"{Path(preset).stem}-seed{seed}-{budget}s")
        if not (run / "model.pt").is_file():
            options = ["--data.train", f"{folder}/train.h5md", "--task.cpu_seconds", str(budget)]
            where = ["--name", run.name, "--folder", folder, "--seed", str(seed)]
            command = [*sciwm_command, "train", preset, *options, *where]
            subprocess.run(command, check=True)
        record = json.loads((run / "metrics.json").read_text())
        kept = ("steps", "cpu_seconds", "build_cpu_seconds", "parameters")
        costs.append({key: record[key] for key in kept if key in record})
        model = sciwm.load(run).model
        for name, file in files.items():
            rows = {row.name: row for row in evaluate(model, Collection([file])).rows}
            for figure, row in (("force", rows["force"]), ("energy", rows["energy"])):
                values.setdefault(f"{figure}_rmse_{name}", []).append(row.errors.rmse)
                nulls[f"{figure}_rmse_{name}"] = row.null.rmse
    print(f"\n{'':20s}{'median':>10s}{'lowest':>10s}{'highest':>10s}{'null':>10s}")
    figures = {}
    for name, found in values.items():
        unit = "meV/Å" if name.startswith("force") else "meV"
        middle = statistics.median(found)
        row = (middle, min(found), max(found), nulls[name])
        print(f"{name:20s}" + "".join(f"{value:10.2f}" for value in row) + f"  {unit}")
        figures[name] = {"value": middle, "unit": unit, "each": found, "null": nulls[name]}
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    for seed, cost in enumerate(costs):
        print(f"seed {seed}:", ", ".join(f"{value:.5g} {key}" for key, value in cost.items()))
    rivalled = {name: trained_rival(name, Path(peers).resolve(), budget) for name in rivals or []}
    for name, found in rivalled.items():
        print(name, found or "is not installed: skipped")
    if json_file:
        content = figures | {"budget": budget, "costs": costs, "rivals": rivalled}
        Path(json_file).write_text(json.dumps(content, indent=1, ensure_ascii=False))


def trained_rival(name: str, peers: Path, budget: int) -> dict[str, float]:
    """Errors of a rival on the same test frames; empty if it is not installed."""
    code, config = name.split(":")
    home = Path(os.environ.get("PEERS_HOME", Path.home() / ".cache" / "sciwm-peers"))
    venvs = {"painn": "venv-spk", "mace": "venv-mace", "nequip": "venv-nequip", "tmd": "venv-tmd"}
    python = home / venvs[code] / "bin" / "python"
    if not python.exists() or not (peers / "train.py").exists():
        return {}
    if not (home / "acac" / "train.xyz").is_file():
        subprocess.run([str(python), "split.py"], cwd=peers, check=True)
    command = [str(python), "-W", "ignore", "train.py", code, config, str(budget)]
    subprocess.run(command, cwd=peers, check=True)
    found = json.loads((home / "out" / f"{code}-{config}.json").read_text())
    errors = {key: found["test300"][key] for key in ("F_rmse", "E_rmse")}
    return errors | {key: found[key] for key in ("steps", "cpu_s", "params")}


if __name__ == "__main__":
    auto_cli(main)
