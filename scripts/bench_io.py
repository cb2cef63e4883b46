"""How fast random training windows come out of an H5MD file, and whether reading them leaks memory.

Writes 1 GB of positions and velocities of 500 particles through `H5MDWriter`, then reads windows of
8 frames at random starts, as a data loader does. The null is the same data in h5py's automatic
chunks with gzip 4, the layout of many published data sets. About 4 minutes and 2 GB of disk.

    python scripts/bench_io.py [--size 1.0] [--dir FOLDER] [--json FILE]
"""

import json as json_format
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from jsonargparse import auto_cli
from tqdm import tqdm

from sciwm.core.frame import Frame
from sciwm.data.h5md import H5MDFile, H5MDWriter

PARTICLES, WINDOW, READS = 500, 8, 2000


def main(size: float = 1.0, dir: str | None = None, json: str | None = None) -> None:
    """Prints the table and the figures.

    Args:
        size: Gigabytes of positions and velocities.
        dir: Where to put the files, which are removed again; the system's place by default.
        json: Where to write the figures as JSON too.
    """
    n_frames = int(size * 1e9 / (2 * PARTICLES * 3 * 4))
    with tempfile.TemporaryDirectory(dir=dir) as folder:
        ours, null = Path(folder, "ours.h5md"), Path(folder, "null.h5")
        writing = write(ours, null, n_frames)
        # A fresh process for each, so that memory freed after writing hides no growth.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            window, growth = pool.submit(measure, windows_of_ours, ours, READS).result()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            null_window, null_growth = pool.submit(
                measure, windows_of_null, null, READS // 10
            ).result()
        megabytes = [path.stat().st_size / 1e6 for path in (ours, null)]
    print(f"\n{'':24s}{'sciwm':>12s}{'h5py auto+gzip4':>18s}")
    rows = (
        ("window, median (ms)", np.median(window), np.median(null_window)),
        ("window, 95th perc. (ms)", np.quantile(window, 0.95), np.quantile(null_window, 0.95)),
        ("memory growth (MB)", growth, null_growth),
        ("file (MB)", *megabytes),
    )
    for name, value, null_value in rows:
        print(f"{name:24s}{value:12.3f}{null_value:18.3f}")
    figures = {
        "window_8x500_ms": {"value": float(np.median(window)), "unit": "ms"},
        "window_8x500_p95_ms": {"value": float(np.quantile(window, 0.95)), "unit": "ms"},
        "null_window_8x500_ms": {"value": float(np.median(null_window)), "unit": "ms"},
        "memory_growth_MB": {"value": growth, "unit": "MB"},
        "write_MB_per_s": {"value": 1000 * size / writing, "unit": "MB/s"},
    }
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    if json:
        Path(json).write_text(json_format.dumps(figures, indent=1))


def write(ours: Path, null: Path, n_frames: int) -> float:
    """Store a jiggling crystal in both layouts; the seconds that the writer of sciwm took."""
    rng = np.random.default_rng(0)
    shape = (PARTICLES, 3)
    sites = rng.uniform(0, 20, size=shape)
    displacement = rng.normal(scale=0.2, size=shape)
    numbers = np.full(PARTICLES, 13)
    cell, pbc = 20 * np.eye(3), np.ones(3, dtype=bool)
    seconds = 0.0
    options = {"dtype": "f4", "compression": "gzip", "compression_opts": 4, "chunks": True}
    with H5MDWriter(ours, dtype="float32") as writer, h5py.File(null, "w") as other:
        sets = [
            other.create_dataset(name, (n_frames, *shape), **options)
            for name in ("position", "velocity")
        ]
        # The automatic chunks hold hundreds of frames: written in blocks, each is compressed once.
        block = sets[0].chunks[0]
        frames: list[Frame] = []
        for k in tqdm(range(n_frames), desc="writing", unit="frame"):
            velocity = rng.normal(scale=0.005, size=shape)
            displacement = 0.99 * displacement + velocity
            frames.append(
                Frame(numbers, sites + displacement, cell, pbc, velocity, time=float(k), step=k)
            )
            start = time.perf_counter()
            writer.append(frames[-1])
            seconds += time.perf_counter() - start
            if len(frames) == block or k == n_frames - 1:
                first = k + 1 - len(frames)
                sets[0][first : k + 1] = [frame.positions for frame in frames]
                sets[1][first : k + 1] = [frame.velocities for frame in frames]
                frames.clear()
    return seconds


def windows_of_ours(path: Path) -> tuple[Callable[[int], object], int]:
    """Reads the window at a frame, and the number of frames."""
    (trajectory,) = H5MDFile(path).trajectories
    return lambda k: trajectory.window(k, WINDOW), trajectory.n_frames


def windows_of_null(path: Path) -> tuple[Callable[[int], object], int]:
    """The same for the null."""
    file = h5py.File(path)
    sets = file["position"], file["velocity"]
    return lambda k: [one[k : k + WINDOW] for one in sets], len(sets[0])


def measure(
    opened: Callable[[Path], tuple[Callable[[int], object], int]], path: Path, reads: int
) -> tuple[np.ndarray, float]:
    """(reads,) milliseconds of windows at random starts, and the MB that memory grew meanwhile."""
    read, n_frames = opened(path)
    starts = np.random.default_rng(1).integers(0, n_frames - WINDOW, size=reads)
    read(0)
    before = resident_megabytes()
    times = []
    for k in tqdm(starts, desc="reading", unit="window"):
        start = time.perf_counter()
        read(int(k))
        times.append(time.perf_counter() - start)
    return 1000 * np.array(times), resident_megabytes() - before


def resident_megabytes() -> float:
    """Memory of this process that is not swapped out (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    auto_cli(main)
