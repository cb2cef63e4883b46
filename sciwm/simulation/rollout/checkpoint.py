"""Where a run stands, on disk."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm.core.replacement import replacing
from sciwm.simulation.rollout.snapshot import Snapshot


class Checkpoint:
    """Where a run stands, in a file beside its output.

    Args:
        identity: A digest of what must be the same for the run to be continued.
        seconds: Wall time from one to the next.
    """

    def __init__(self, path: Path, identity: str, seconds: float):
        self._path = path
        self._identity = identity
        self._seconds = seconds
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved > self._seconds

    def save(self, snapshot: Snapshot, written: list[int]) -> None:
        """A crash leaves the old checkpoint or the new one, whole.

        Args:
            snapshot: Merged.
            written: Frames of each system in the output.
        """
        content: dict[str, Any] = {
            "identity": np.array(self._identity),
            "step": np.array(snapshot.step),
            "written": np.array(written),
            "steps": np.array(snapshot.steps),
            "reasons": np.array([reason or "" for reason in snapshot.reasons]),
            "positions": snapshot.whole.positions.cpu().numpy(),
            "velocities": snapshot.whole.velocities.cpu().numpy(),
            "cell": snapshot.whole.cell.cpu().numpy(),
            "energy": snapshot.energy.cpu().numpy(),
            "forces": snapshot.forces.cpu().numpy(),
            "start_energy": snapshot.start_energy.cpu().numpy(),
        }
        if snapshot.force_error is not None:
            content["force_error"] = snapshot.force_error.cpu().numpy()
        if "work" in snapshot.whole:
            content["work"] = snapshot.whole.work.cpu().numpy()
        with replacing(self._path) as file:
            np.savez(file, **content)
        self._saved = time.monotonic()

    def load(self, blank: Snapshot) -> tuple[Snapshot, list[int]]:
        """Where the run stood, and how many frames of each system the output should hold.

        Raises:
            ValueError: If there is no checkpoint, or it is of another run.
        """
        if not self._path.exists():
            raise ValueError(f"cannot resume: the output has no checkpoint {self._path} beside it")
        with np.load(self._path, allow_pickle=False) as content:
            if str(content["identity"]) != self._identity:
                raise ValueError(
                    f"{self._path} belongs to another run: its start, model, propagator, names or "
                    "frame spacing differ. Resume with the same ones, or choose another output"
                )
            whole = blank.whole

            def tensor(name: str) -> Tensor:
                return torch.from_numpy(content[name]).to(whole.positions.device)

            there = whole.moved(tensor("positions"), tensor("velocities"))
            if "cell" in content:  # older ones are of runs in which it stayed
                there.cell = tensor("cell")
            if "work" in content:
                there.work = tensor("work")
            snapshot = replace(
                blank,
                step=int(content["step"]),
                whole=there,
                energy=tensor("energy"),
                forces=tensor("forces"),
                start_energy=tensor("start_energy"),
                steps=content["steps"].tolist(),
                reasons=[reason or None for reason in content["reasons"].tolist()],
                force_error=tensor("force_error") if "force_error" in content else None,
            )
            evaluated = bool(snapshot.start_energy.isfinite().any())
            return snapshot.resumed(blank.propagator, evaluated), content["written"].tolist()
