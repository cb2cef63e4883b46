"""Learning from labels: energies, forces and stress of single frames."""

import warnings
from typing import Any

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.data.modules import Data, FrameData
from sciwm.models.potential import Potential
from sciwm.models.statistics import Statistics, survey
from sciwm.training.task import SURVEYED, Task


class ForceTask(Task):
    """Fits energies, forces and stress.

    The loss is the sum of mean squared errors of energy per particle, of force components, and of
    stress times volume per particle; late in the run the energy counts more, when forces have settled
    (MACE's second stage, arXiv:2206.07697, appendix A).

    Args:
        model: The potential to fit.
        energy_weight: Of the energy term, in eV² per particle² against eV²/Å² of forces.
        late_energy_weight: The same in the last quarter of the run.
        stress_weight: Of the stress term; needs data with `stress: true`.
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training, instead of a number of steps.
    """

    def __init__(
        self,
        model: Potential,
        energy_weight: float = 2.0,
        late_energy_weight: float = 10.0,
        stress_weight: float = 0.0,
        learning_rate: float = 3e-3,
        warmup: int = 100,
        cpu_seconds: float | None = None,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        self.model = model
        self.energy_weight = energy_weight
        self.late_energy_weight = late_energy_weight
        self.stress_weight = stress_weight

    @property
    def monitored(self) -> str:
        return "valid/force"

    def weights(self) -> dict[str, float]:
        late = self.progress() > 0.75
        weights = {"energy": self.late_energy_weight if late else self.energy_weight, "force": 1.0}
        if self.stress_weight:
            weights["stress"] = self.stress_weight
        return weights

    def adapt(self, data: Data) -> Statistics:
        if not isinstance(data, FrameData):
            raise ValueError("ForceTask learns from FrameData; for WindowData use MotionTask")
        if bool(self.stress_weight) != data.stress:
            raise ValueError(
                f"stress_weight is {self.stress_weight:g} but the data has stress: {data.stress}; "
                "set both or neither"
            )
        given = self.model.reference_table()
        if given is None:
            warnings.warn(
                "no reference_energies are given, so the energies of isolated atoms are fitted: total "
                "energies will be right near the data, energies of dissociation will not",
                stacklevel=2,
            )
        frames = data.sample_frames(SURVEYED)
        statistics = survey(frames, self.model.cutoff, data.collection.units, given)
        require_varying_labels(frames)
        self.model.adapt(statistics)
        return statistics

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        table = NeighbourTable.from_pairs(batch)
        wants_stress = "stress" in batch
        energy, forces, stress = self.model(
            batch, table, wants_stress, differentiable=self.training
        )
        target = (batch.energy - self.model.total_offset(batch)).to(energy.dtype)
        atoms = batch.counts.to(energy.dtype)
        per_atom = (energy - target) / atoms
        off = forces - batch.forces
        systems = torch.tensor(float(batch.n_systems), device=energy.device)
        components = torch.tensor(float(off.numel()), device=energy.device)
        terms = {
            "energy": per_atom.square().sum(),
            "count_energy": systems,
            "force": off.square().sum(),
            "count_force": components,
        }
        metrics = {
            "energy": ((energy - target).square().sum(), systems),
            "energy_per_atom": (terms["energy"], systems),
            "force": (terms["force"], components),
        }
        if stress is not None:
            wrong = (stress - batch.stress).square()
            scaled = wrong * (torch.linalg.det(batch.cell).abs() / atoms).square()[:, None, None]
            terms["stress"], terms["count_stress"] = scaled.sum(), systems * 9
            metrics["stress"] = (wrong.sum(), systems * 9)
        return terms, metrics


def require_varying_labels(frames: list[Any]) -> None:
    """Raises ValueError if energies or forces carry no information."""
    energies = {frame.energy for frame in frames}
    if len(frames) > 1 and len(energies) == 1:
        raise ValueError(
            f"the energy is {frames[0].energy} in all of {len(frames)} frames, so there is nothing "
            "to learn; the label was probably lost or filled in by the program that wrote the file"
        )
    if len(frames) > 1 and all(not frame.forces.any() for frame in frames):
        raise ValueError(
            f"forces are zero in all of {len(frames)} frames; the label was probably lost or filled "
            "in by the program that wrote the file"
        )
