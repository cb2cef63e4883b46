"""How fast random training windows come out of an H5MD file, and whether reading them leaks memory.

Writes 1 GB of positions and velocities of 500 particles through `H5MDWriter`, compressed and not,
then reads windows of 8 frames at random starts, as a data loader does. The null is the same data in
h5py's automatic chunks with gzip 4, the layout of many published data sets. About 4 minutes and
1 GB of disk.

    python scripts/bench_io.py [--size 1.0] [--dir FOLDER] [--json FILE]
"""

import json as json_format
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
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
    columns: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=dir) as folder:
        for name, write, opened, reads in (
            ("lzf", partial(write_ours, compression="lzf"), windows_of_ours, READS),
            ("uncompressed", partial(write_ours, compression=None), windows_of_ours, READS),
            ("auto + gzip 4", write_null, windows_of_null, READS // 10),
        ):
            path = Path(folder, "trajectory.h5")
            seconds = write(path, n_frames)
            # A fresh process, so that memory freed after writing hides no growth.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                times, growth = pool.submit(measure, opened, path, reads).result()
            columns[name] = [
                float(np.median(times)),
                float(np.quantile(times, 0.95)),
                growth,
                path.stat().st_size / 1e6,
                1000 * size / seconds,
            ]
            path.unlink()
    titles = (
        "window, median (ms)",
        "window, 95th percentile (ms)",
        "memory growth (MB)",
        "file (MB)",
        "writing (MB/s)",
    )
    print(f"\n{'':30s}" + "".join(f"{name:>16s}" for name in columns))
    for row, title in enumerate(titles):
        print(f"{title:30s}" + "".join(f"{column[row]:16.3f}" for column in columns.values()))
    lzf, raw, null = columns.values()
    figures = {
        "window_8x500_ms": {"value": raw[0], "unit": "ms"},
        "window_8x500_p95_ms": {"value": raw[1], "unit": "ms"},
        "window_8x500_lzf_ms": {"value": lzf[0], "unit": "ms"},
        "window_8x500_null_ms": {"value": null[0], "unit": "ms"},
        "memory_growth_MB": {"value": raw[2], "unit": "MB"},
        "write_MB_per_s": {"value": raw[4], "unit": "MB/s"},
    }
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    if json:
        Path(json).write_text(json_format.dumps(figures, indent=1))


def crystal(n_frames: int) -> Iterator[Frame]:
    """Particles that jiggle about their sites, the same at every call."""
    rng = np.random.default_rng(0)
    shape = (PARTICLES, 3)
    sites = rng.uniform(0, 20, size=shape)
    displacement = rng.normal(scale=0.2, size=shape)
    numbers = np.full(PARTICLES, 13)
    cell, pbc = 20 * np.eye(3), np.ones(3, dtype=bool)
    for k in Bar(range(n_frames), desc="writing", unit="frame"):
        velocity = rng.normal(scale=0.005, size=shape)
        displacement = 0.99 * displacement + velocity
        yield Frame(numbers, sites + displacement, cell, pbc, velocity, time=float(k), step=k)


def write_ours(path: Path, n_frames: int, compression: Literal["lzf"] | None) -> float:
    """Seconds that the writer took, the making of the frames not counted."""
    seconds = 0.0
    with H5MDWriter(path, dtype="float32", compression=compression) as writer:
        for frame in crystal(n_frames):
            start = time.perf_counter()
            writer.append(frame)
            seconds += time.perf_counter() - start
    return seconds


def write_null(path: Path, n_frames: int) -> float:
    """The same for plain h5py."""
    shape = (n_frames, PARTICLES, 3)
    options = {"dtype": "f4", "compression": "gzip", "compression_opts": 4, "chunks": True}
    seconds = 0.0
    with h5py.File(path, "w") as file:
        position = file.create_dataset("position", shape, **options)
        velocity = file.create_dataset("velocity", shape, **options)
        # The automatic chunks hold hundreds of frames: written in blocks, each is compressed once.
        frames = crystal(n_frames)
        for first in range(0, n_frames, position.chunks[0]):
            block = list(islice(frames, position.chunks[0]))
            start = time.perf_counter()
            position[first : first + len(block)] = [frame.positions for frame in block]
            velocity[first : first + len(block)] = [frame.velocities for frame in block]
            seconds += time.perf_counter() - start
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
    for k in Bar(starts, desc="reading", unit="window"):
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
