"""What is installed here, what is fast, and what is not, with the reason."""

import importlib.metadata
import os
import platform
import shutil
import time

import torch
from ase.build import molecule
from packaging.requirements import Requirement

import sciwm
from sciwm.evaluation.run import model_file, shipped_worlds
from sciwm.evaluation.timing import median_seconds
from sciwm.interfaces.world import load
from sciwm.models import archive
from sciwm.models.programs.compilation import CompiledPotential, program_file
from sciwm.models.programs.tracing import CompilationError, compiler

FOR_DEVELOPERS = ("dev", "docs")
"""Extras for those who change the package, not for those who use it."""


def report() -> list[str]:
    """Lines of a name and what there is to say of it, first what everything stands on."""
    lines = [
        ("sciwm", f"{sciwm.__version__}, Python {platform.python_version()}"),
        ("processor", _processor()),
        ("GPU", _gpu()),
        ("compiler", _compiler()),
        ("programs", _programs()),
        ("worlds", ", ".join(shipped_worlds())),
    ]
    lines += [(f"[{name}]", text) for name, text in extras().items()]
    lines += [("speed", _speed())]
    return [f"{name:11s}{text}" for name, text in lines]


def extras() -> dict[str, str]:
    """What each extra of the package brings, with versions, or what to install."""
    found: dict[str, list[str]] = {}
    missing: set[str] = set()
    for text in importlib.metadata.requires("sciwm") or []:
        needed = Requirement(text)
        for name in importlib.metadata.metadata("sciwm").get_all("Provides-Extra") or []:
            if name in FOR_DEVELOPERS or needed.marker is None:
                continue
            if needed.marker.evaluate({"extra": ""}) or not needed.marker.evaluate({"extra": name}):
                continue
            try:
                version = importlib.metadata.version(needed.name)
                old = not needed.specifier.contains(version, prereleases=True)
                missing |= {name} if old else set()
                wanted = f" is not {needed.specifier}" if old else ""
                found.setdefault(name, []).append(f"{needed.name} {version}{wanted}")
            except importlib.metadata.PackageNotFoundError:
                missing.add(name)
                found.setdefault(name, []).append(f"{needed.name} is missing")
    return {
        name: ", ".join(parts) + (f": pip install 'sciwm[{name}]'" if name in missing else "")
        for name, parts in found.items()
    }


def _processor() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{cores} cores for this process, torch {torch.__version__} with {torch.get_num_threads()} threads"
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.7 * (cores or 1):
        text += (
            f"; SLOW: the machine is busy (load {load:.1f}), and others take their share; wait for them, or "
            "set SCIWM_THREADS=1"
        )
    return text


def _gpu() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, used by training; simulations take --device cuda"
    if torch.version.cuda is None:
        return "none that this build of torch could use; small molecules are fast without"
    return "none found; check the driver (nvidia-smi) if there should be one"


def _compiler() -> str:
    found = compiler()
    if found is None:
        return "SLOW: nothing can be compiled; install g++, or name a compiler in $CXX"
    return f"{found}: models can be compiled (`sciwm compile`, `compiled: true`)"


def _programs() -> str:
    try:
        place = program_file(archive.load(model_file(shipped_worlds()[0])).potential).parent
    except CompilationError as error:
        return f"SLOW: {error}"
    if not place.is_dir():
        return f"none yet; they will lie in {place}"
    files = [file for file in place.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    room = shutil.disk_usage(place).free / 1e9
    text = f"{len(files)} in {place}, {size:.0f} MB; {room:.0f} GB are free there"
    return text if os.access(place, os.W_OK) else f"SLOW: {place} cannot be written"


def _speed() -> str:
    name = shipped_worlds()[0]
    began = time.perf_counter()
    world = load(name)
    loaded = time.perf_counter() - began
    simulator, state = world.simulator(), world.state(molecule("CH3CH2OH"))
    milliseconds = 1e3 * median_seconds(lambda: simulator.evaluate(state), 20, torch.device("cpu"))
    text = (
        f"forces of ethanol by {name!r} take {milliseconds:.2f} ms, after {loaded:.1f} s of loading"
    )
    if not isinstance(simulator.model, CompiledPotential):
        text += f"; SLOW: no program is built for it, `sciwm compile {name}` does that once"
    return text
