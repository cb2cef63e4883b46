"""How far a step is from what the machine could do: operations and bytes, against measured rates.

Counts the matrix products of one training step and one evaluation of a preset, and the bytes that its
operations would move if nothing were fused; measures this machine's rate of large matrix products and of
copying; and prints how long the products alone would take, how long the compiled program takes, and the
ratio.

    python scripts/bench_floor.py [--preset configs/acac.yaml] [--json_file FILE]
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from jsonargparse import auto_cli
from speed_worker import Worker
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sciwm.evaluation.timing import median_seconds


class ByteCounter(TorchDispatchMode):
    """Bytes of the tensors that operations read and write, views apart."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for one in tree_leaves((args, kwargs, result)):
                if isinstance(one, Tensor):
                    self.total += one.numel() * one.element_size()
        return result


def seconds(work: Callable[[], object], repeats: int = 30) -> float:
    return median_seconds(work, repeats, torch.device("cpu"))


def main(preset: str = "configs/acac.yaml", json_file: str | None = None) -> None:
    """Prints the table.

    Args:
        preset: A job file with the model.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    square, memory = torch.randn(1024, 1024), torch.randn(16_000_000)
    products = 2 * 1024**3 / seconds(lambda: square @ square)
    copies = 2 * memory.nbytes / seconds(lambda: memory.clone())
    print(f"matrix products {products / 1e9:.0f} GFLOP/s, copying {copies / 1e9:.1f} GB/s\n")
    print(
        f"{'':22s}{'GFLOP':>8s}{'GB':>8s}{'floor ms':>10s}{'eager ms':>10s}{'ms':>8s}{'reached':>9s}"
    )
    rows = {}
    eager, built = Worker(Path(preset), False), Worker(Path(preset), True)
    for op in ("train", "eval1", "eval64", "si216"):
        plain, program = eager.repetition(op), built.repetition(op)
        with FlopCounterMode(display=False) as counted:
            plain()
        with ByteCounter() as moved:
            plain()
        floor = counted.get_total_flops() / products
        row = {
            "gflop": counted.get_total_flops() / 1e9,
            "gigabytes": moved.total / 1e9,
            "floor_ms": 1e3 * floor,
            "eager_ms": 1e3 * seconds(plain, 10),
            "ms": 1e3 * seconds(program),
        }
        row["reached"] = row["floor_ms"] / row["ms"]
        rows[op] = row
        print(
            f"{op:22s}{row['gflop']:8.3f}{row['gigabytes']:8.3f}{row['floor_ms']:10.2f}"
            f"{row['eager_ms']:10.2f}{row['ms']:8.2f}{row['reached']:9.0%}"
        )
    if json_file:
        rates = {"gflops": products / 1e9, "copy_gb_per_s": copies / 1e9}
        Path(json_file).write_text(json.dumps({"machine": rates, "steps": rows}, indent=1))


if __name__ == "__main__":
    auto_cli(main)
