"""Does everything work on a GPU, does it give the processor's numbers, and how fast is it?

Trains a preset for a few steps on the GPU and on the processor, from the same weights in the same order,
and compares losses, then energies and forces of the trained model; trains as one process of several would
(DDP), and with a compiled loss; moves 1 to 10,000 molecules, compiled too; and asks the memory probe how much
fits. Each part is reported by itself, with its error where it fails. Under four minutes on a GPU, without a
network. `--device cpu --small true` goes through all but the compiling in less than a minute.

    python scripts/gpu_check.py [--data acac.extxyz] [--json_file scripts/results/gpu.json]
    python scripts/gpu_check.py --device cpu --small true
"""

import csv
import json
import math
import platform
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import auto_cli

from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.data import FrameData
from sciwm.data.collection import Collection
from sciwm.data.importers.convert import convert
from sciwm.models import Encoder, ForceField, archive
from sciwm.models.dynamics.passes import PROBED_SLOTS, bytes_per_slot, slots_that_fit
from sciwm.models.dynamics.potential import Potential
from sciwm.models.programs.compilation import compile_model
from sciwm.simulation.learned import LearnedSimulator, predict
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.velocities import maxwell_boltzmann
from sciwm.training import ForceTask
from sciwm.training.fit import fit

SMALL = {"cutoff": 3.0, "channels": 4, "lmax": 1, "layers": 1}
EXACT = 1e-9
"""How far energies and forces of one model may differ between machines in double precision, relative to the
largest."""

CLOSE = 0.02
"""How far losses may differ, relatively, after some steps in single precision."""


def main(
    data: str = "datasets/ethanol_xtb/ethanol_400K.extxyz",
    preset: str = "configs/acac.yaml",
    device: str = "cuda",
    small: bool = False,
    steps: int = 200,
    patience: float = 170.0,
    json_file: str | None = None,
) -> None:
    """Prints what was found, and ends with status 1 if anything failed.

    Args:
        data: Extended XYZ file with energies and forces.
        preset: The job whose model is trained.
        device: "cuda" or "cpu".
        small: A tiny model, and few molecules and steps.
        steps: Of training, on each of the two.
        patience: Seconds after which no further part is begun.
        json_file: Where to write the figures as JSON too.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU that torch can use here; give --device cpu --small true")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(Path(data), Path(preset), torch.device(device), small, steps, Path(scratch))
        # What takes longest comes last.
        parts = (check.training, check.same_numbers, check.motion, check.memory, check.one_of_several,
                 check.compiled_training, check.program)  # fmt: skip
        report: dict[str, Any] = {"machine": machine(device)}
        for part in parts:
            name = part.__name__
            if time.monotonic() - began > patience:
                report[name] = {"skipped": "no time was left"}
            else:
                report[name] = outcome(part)
            print(f"{name}: {json.dumps(report[name], ensure_ascii=False)}", flush=True)
    report["seconds"] = round(time.monotonic() - began, 1)
    if json_file:
        Path(json_file).write_text(json.dumps(report, indent=1, ensure_ascii=False))
    failed = [part.__name__ for part in parts if "error" in report[part.__name__]]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


class Check:
    """The parts, each of which gives figures or raises.

    Args:
        data: Extended XYZ file.
        preset: Job file.
        device: What is compared with the processor.
        small: Whether everything is small.
        steps: Of training.
        scratch: Folder to work in.
    """

    def __init__(
        self, data: Path, preset: Path, device: torch.device, small: bool, steps: int, scratch: Path
    ):
        self.device, self._small, self._scratch = device, small, scratch
        self._steps = 10 if small else steps
        self._file = scratch / "frames.h5md"
        convert(data, self._file, progress=False)
        frames = Collection([self._file])
        self._frames = [frames.frame(entry) for entry in frames.frames[:32]]
        self._settings = yaml.safe_load(preset.read_text())["task"]["init_args"]["model"][
            "init_args"
        ]

    def training(self) -> dict[str, Any]:
        """Losses there and on the processor, from the same start."""
        there, here = (
            self._trained("there", self.device),
            self._trained("here", torch.device("cpu")),
        )
        found = {"steps": self._steps, "there": there, "here": here}
        worst = max(abs(there["valid"][key] / here["valid"][key] - 1) for key in here["valid"])
        require(worst < CLOSE, f"validation errors differ by {100 * worst:.3g} %: {found}")
        return found | {"validation_errors_differ_by": worst}

    def same_numbers(self) -> dict[str, Any]:
        """Energies and forces of one model there and on the processor, relative to the largest."""
        found = {}
        for dtype in (torch.float32, torch.float64):
            state = State.collate([State.from_frame(frame, dtype) for frame in self._frames])
            here = predict(self._model("cpu").to(dtype), state)
            there = predict(self._model(self.device).to(dtype), state.clone().to(self.device))
            name = str(dtype).removeprefix("torch.")
            for key in ("energy", "forces"):
                one, other = getattr(here, key).double(), getattr(there, key).double().cpu()
                found[f"{key} {name}"] = float((one - other).abs().max() / one.abs().max())
        worst = max(value for key, value in found.items() if key.endswith("float64"))
        require(worst < EXACT, f"in double precision results differ by {worst:.3g}: {found}")
        return found

    def motion(self) -> dict[str, Any]:
        """Speed of dynamics of more and more molecules."""
        counts = (1, 4) if self._small else (1, 10, 100, 1000, 10000)
        return {str(count): self._moved(self._model(self.device), count) for count in counts}

    def memory(self) -> dict[str, Any]:
        """What the probe promises of a slot, and what a batch far larger than the probe's takes."""
        if self.device.type != "cuda":
            return {"skipped": "the probe is of a GPU's memory"}
        model, state = self._model(self.device), self._molecules(300)
        table = NeighbourTable.from_pairs(attach_pairs(state, model.cutoff))
        each = bytes_per_slot(model.differentiated, state, table)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        model.differentiated(state, table)
        taken = (torch.cuda.max_memory_allocated() - before) / table.sender.numel()
        require(
            0.5 < taken / each < 1.5, f"a slot takes {taken:.0f} bytes, the probe said {each:.0f}"
        )
        fit_now = slots_that_fit(each, self.device)
        slots = table.sender.numel()
        return {
            "probed": PROBED_SLOTS,
            "said": each,
            "taken": taken,
            "slots": slots,
            "fit": fit_now,
        }

    def compiled_training(self) -> dict[str, Any]:
        """The same steps with loss and gradients as one program."""
        if self._small:
            return {"skipped": "compiling alone takes half a minute"}
        return self._trained("compiled", self.device, compiled=True)

    def program(self) -> dict[str, Any]:
        """Dynamics with the model as a program, which is compared with the model when it is built."""
        if self._small:
            return {"skipped": "compiling alone takes half a minute"}
        began = time.monotonic()
        program = compile_model(self._model(self.device))
        built = {"seconds": round(time.monotonic() - began, 1)}
        return built | {str(count): self._moved(program, count) for count in (1, 1000)}

    def one_of_several(self) -> dict[str, Any]:
        """Training as a process that shares its gradients, alone in its group."""
        try:
            return self._trained("ddp", self.device, strategy="ddp")
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()

    def _trained(
        self, name: str, device: torch.device, compiled: bool = False, **trainer: Any
    ) -> dict[str, Any]:
        torch.manual_seed(0)
        settings = dict(self._settings)
        settings["encoder"] = Encoder(**(SMALL if self._small else settings.get("encoder", {})))
        task = ForceTask(ForceField(**settings), compiled=compiled)
        accelerator = "gpu" if device.type == "cuda" else "cpu"
        options = {"accelerator": accelerator, "enable_progress_bar": False, "log_every_n_steps": 1}
        data = FrameData(train=str(self._file), valid=20)
        began = time.monotonic()
        run = fit(data, task, name, max_steps=self._steps, validate_every=self._steps,
                  trainer=options | trainer, folder=str(self._scratch))  # fmt: skip
        seconds = time.monotonic() - began
        record = json.loads((run / "metrics.json").read_text())
        with (run / "log" / "metrics.csv").open(newline="") as file:
            losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        require(all(map(math.isfinite, losses)), f"losses are not finite: {losses}")
        require(
            losses[-1] < losses[0], f"the loss did not fall: {losses[0]:.4g} to {losses[-1]:.4g}"
        )
        return {
            "loss": [losses[0], losses[len(losses) // 2], losses[-1]],
            "valid": {
                key: value for key, value in record["last"].items() if key.startswith("valid/")
            },
            "seconds": round(seconds, 1),
            "build_cpu_seconds": round(record["build_cpu_seconds"], 1),
        }

    def _model(self, device: torch.device | str) -> Potential:
        return archive.load(self._scratch / "there" / "model.pt", str(device)).model

    def _molecules(self, count: int) -> State:
        frames: list[Frame] = [self._frames[k % len(self._frames)] for k in range(count)]
        state = State.collate([State.from_frame(frame, torch.float32) for frame in frames])
        for label in ("energy", "forces", "stress"):
            state.stores[0].pop(label, None)
        return state.to(self.device)

    def _moved(self, model: Potential, count: int) -> dict[str, float]:
        """Steps of so many molecules by so many seconds, and memory.

        Every step has its neighbour table looked at, and searched anew where atoms have moved.
        """
        propagator = VelocityVerlet(LearnedSimulator(model), 0.5)
        state = maxwell_boltzmann(self._molecules(count), 300.0, model.units)
        evaluation = propagator.start(state)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for index in range(3):
            state, evaluation = propagator.advance(state, evaluation, index)
        self._finish()
        taken, began = 0, time.monotonic()
        while taken < 5 or (time.monotonic() - began < 2 and taken < 500 and not self._small):
            state, evaluation = propagator.advance(state, evaluation, taken)
            self._finish()
            taken += 1
        seconds = time.monotonic() - began
        require(bool(evaluation.forces.isfinite().all()), "forces are not finite")
        if self.device.type == "cuda":
            peak = float(torch.cuda.max_memory_allocated())
        else:
            peak = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"system_steps_per_second": count * taken / seconds, "peak_bytes": peak}

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def outcome(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a part, or how it failed: the others are worth having without it."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = part()
    except Exception as error:
        place = traceback.format_exc().splitlines()[-8:]
        return {"error": f"{type(error).__name__}: {error}"[:2000], "where": place}
    told = sorted({str(one.message)[:200] for one in caught if one.category is UserWarning})
    return found | ({"warnings": told} if told else {})


def require(holds: bool, otherwise: str) -> None:
    """Raises ArithmeticError with what was found where something does not hold."""
    if not holds:
        raise ArithmeticError(otherwise)


def machine(device: str) -> dict[str, str]:
    """What it runs on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "cpu"
    return {"device": name, "torch": str(torch.__version__), "python": platform.python_version()}


if __name__ == "__main__":
    auto_cli(main)
