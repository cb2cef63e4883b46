"""Learning from labels: energies, forces and stress of single frames."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_counts, require_not_negative, require_positive
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.data.modules import Data, FrameData
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.outcome_model import OutcomeModel
from sciwm.models.programs.tracing import CompilationError
from sciwm.models.statistics import Statistics, survey
from sciwm.simulation.learned import predict
from sciwm.training.compiled_loss import CompiledLoss
from sciwm.training.force_errors import (
    LOSS_VARYING,
    SUM_OF_TERM,
    SUMS,
    labelled_example,
    loss_counts,
    loss_inputs,
    squared_errors,
)
from sciwm.training.muon import Muon
from sciwm.training.processor_time import processor_seconds
from sciwm.training.task import SURVEYED, Task


class ForceTask(Task):
    """Fits energies, forces and stress.

    The loss is the sum of mean squared errors of energy per particle, of force components, and of
    stress times volume per particle; late in the run the energy counts more, when forces have settled
    (MACE's second stage, arXiv:2206.07697, appendix A).

    Args:
        model: The potential to fit.
        start: A run folder, model file or shipped world to start from, such as one trained on a cheaper
            method's labels: its weights and scales; the zero of energies is this data's.
        energy_weight: Of the energy term, in eV² per particle² against eV²/Å² of forces.
        late_energy_weight: The same in the last quarter of the run.
        stress_weight: Of the stress term; needs data with `stress: true`.
        learning_rate: The highest rate, of parameters that are not matrices.
        matrix_rate: The highest rate of matrices (see `Muon`).
        matrix_rounds: Of orthogonalisation (see `Muon`); one is best where frames are few.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training, instead of a number of steps.
        compiled: Build forces, loss and gradients as one program: a minute's wait, then steps about
            twice as fast. Later runs find it in the compiler's cache.
    """

    def __init__(
        self,
        model: Potential,
        start: str | None = None,
        energy_weight: float = 2.0,
        late_energy_weight: float = 10.0,
        stress_weight: float = 0.0,
        learning_rate: float = 3e-3,
        matrix_rate: float = 0.005,
        matrix_rounds: int = 5,
        warmup: int = 100,
        cpu_seconds: float | None = None,
        compiled: bool = False,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        require_not_negative(
            energy_weight=energy_weight,
            late_energy_weight=late_energy_weight,
            stress_weight=stress_weight,
        )
        require_positive(matrix_rate=matrix_rate)
        require_counts(0, matrix_rounds=matrix_rounds)
        if start is not None and not isinstance(model, ForceField):
            raise ValueError(
                f"only a ForceField can start from another, this is a {type(model).__name__}; "
                "leave `start` out"
            )
        self.compiled = compiled
        self._compiled: CompiledLoss | None = None
        self.model = model
        self.start = start
        self.energy_weight = energy_weight
        self.late_energy_weight = late_energy_weight
        self.stress_weight = stress_weight
        self.matrix_rate = matrix_rate
        self.matrix_rounds = matrix_rounds

    @property
    def monitored(self) -> str:
        return "valid/force"

    def weights(self) -> dict[str, float]:
        late = self._done > 0.75
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
        whole = data.training_frames() if len(data.training_entries) > len(frames) else None
        statistics = survey(frames, self.model.cutoff, data.collection.units, given, whole)
        require_varying_labels(frames)
        self.model.adapt(statistics)
        # It holds the scales of the data it was built for.
        self._compiled = None
        if self.start is not None and not self.resumed:
            self._start_from(archive.load(model_file(self.start)).model, frames, statistics)
        return statistics

    def _start_from(self, other: Potential, frames: list[Frame], statistics: Statistics) -> None:
        if isinstance(other, OutcomeModel):
            other = other.force_field
        assert isinstance(self.model, ForceField)
        self.model.start_from(other)
        self.model.domain.widen(statistics)
        learned = []
        for frame in frames:
            state = State.from_frame(frame)
            energy = predict(self.model, state).energy - self.model.total_offset(state)
            learned.append(float(energy))
        self.model.rebase(statistics, np.array(learned))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        embeddings = {m.weight for m in self.modules() if isinstance(m, torch.nn.Embedding)}
        matrices = [
            p
            for p in self.learned
            if p.dim() >= 2 and min(p.shape[-2:]) > 1 and p not in embeddings
        ]
        chosen = set(matrices)
        others = [p for p in self.learned if p not in chosen]
        return Muon(matrices, others, self.matrix_rate, self.learning_rate, self.matrix_rounds)

    def on_train_start(self) -> None:
        if self.compiled and self._compiled is None:
            inputs = labelled_example(self.model, bool(self.stress_weight))
            varying = LOSS_VARYING[: len(inputs)]
            began = processor_seconds()
            try:
                self._compiled = CompiledLoss(self.model, squared_errors, inputs, varying)
            except CompilationError as error:
                warnings.warn(f"{error}. Training goes on without, slower", stacklevel=2)
            self.build_cpu_seconds = processor_seconds() - began
        super().on_train_start()

    def weighted_loss(self, batch: State) -> Tensor:
        if self._compiled is None:
            return super().weighted_loss(batch)
        inputs = loss_inputs(self.model, batch, NeighbourTable.from_pairs(batch))
        counts, weights = loss_counts(batch), self.weights()
        coefficients = batch.positions.new_zeros(len(SUMS))
        for name, weight in weights.items():
            coefficients[SUMS.index(SUM_OF_TERM[name])] = weight / self.shared(counts[name])
        return self._compiled(coefficients, inputs)

    def errors(self, batch: State) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        inputs = loss_inputs(self.model, batch, NeighbourTable.from_pairs(batch))
        found = squared_errors(self.model, *inputs, differentiable=self.training)
        sums = dict(zip(SUMS, found.unbind(), strict=True))
        counts = loss_counts(batch)
        terms = {name: sums[SUM_OF_TERM[name]] for name in counts}
        terms |= {f"count_{name}": count for name, count in counts.items()}
        metrics = {
            "energy": (sums["energy"], counts["energy"]),
            "energy_per_atom": (sums["energy_per_atom"], counts["energy"]),
            "force": (sums["force"], counts["force"]),
        }
        if "stress" in counts:
            metrics["stress"] = (sums["stress"], counts["stress"])
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
