"""Learning from labels: energies, forces and stress of single frames."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciwm.core.bounds import HIGHEST_RATE, require_counts, require_not_negative, require_positive
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.data.modules import Data, FrameData
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.programs.tracing import CompilationError
from sciwm.models.statistics import Statistics, survey
from sciwm.training.calibration import calibrate_errors
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
from sciwm.training.inheritance import descendant, force_field_of, inherit
from sciwm.training.muon import Muon, matrices_of
from sciwm.training.processor_time import processor_seconds
from sciwm.training.replay import Replay, imagine_frames
from sciwm.training.task import SURVEYED, Task


class ForceTask(Task):
    """Fits energies, forces and stress.

    The loss is the sum of mean squared errors of energy per particle, of force components, and of
    stress times volume per particle; late in the run the energy counts more, when forces have settled
    (MACE's second stage, arXiv:2206.07697, appendix A).

    Args:
        model: The potential to fit; where absent, one like that to start from.
        start: A run folder, model file or shipped world to start from, such as one trained on a cheaper
            method's labels: its weights and scales; the zero of energies is this data's.
        replay: What keeps the model to start from from being forgotten: "auto" for frames that it imagines
            and labels itself, or an H5MD file of labelled frames like those it was trained on. Steps then
            cost twice as much.
        energy_weight: Of the energy term, in eV² per particle² against eV²/Å² of forces.
        late_energy_weight: The same in the last quarter of the run.
        stress_weight: Of the stress term; needs data with `stress: true`.
        learning_rate: The highest rate, of parameters that are not matrices.
        matrix_rate: The highest rate of matrices (see `Muon`).
        matrix_rounds: Of orthogonalisation (see `Muon`); one is best where frames are few.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training.
        compiled: Build forces, loss and gradients as one program: a minute's wait, then steps about
            twice as fast. Later runs find it in the compiler's cache.
    """

    def __init__(
        self,
        model: Potential | None = None,
        start: str | None = None,
        replay: str | None = None,
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
        require_positive(most=HIGHEST_RATE, matrix_rate=matrix_rate)
        require_counts(0, matrix_rounds=matrix_rounds)
        if replay is not None and start is None:
            raise ValueError(f"to replay {replay!r} needs a model to start from; give `start`")
        if model is None:
            if start is None:
                raise ValueError("there is nothing to fit: give a model, or one to start from")
            model = descendant(force_field_of(archive.load(model_file(start))))
        if start is not None and not isinstance(model, ForceField):
            raise ValueError(
                f"only a ForceField can start from another, this is a {type(model).__name__}; "
                "leave `start` out"
            )
        self.compiled = compiled
        self._compiled: CompiledLoss | None = None
        self._compiled_replay: CompiledLoss | None = None
        self.model: Potential = model
        self.start = start
        self.replay = replay
        self.replayed: Replay | None = None
        self.energy_weight = energy_weight
        self.late_energy_weight = late_energy_weight
        self.stress_weight = stress_weight
        self.matrix_rate = matrix_rate
        self.matrix_rounds = matrix_rounds

    @property
    def monitored(self) -> str:
        return "valid/force"

    def finish(self, data: Data) -> None:
        if isinstance(self.model, ForceField):
            calibrate_errors(self.model, data)

    @property
    def inherits(self) -> bool:
        return self.start is not None

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
        if given is None and self.start is None:
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
        if self.start is not None:
            assert isinstance(self.model, ForceField)
            parent = archive.load(model_file(self.start))
            base = force_field_of(parent)
            if not self.resumed:
                inherit(self.model, base, frames, statistics)
            if self.replay is not None:
                path = Path(self.replay)
                if self.replay == "auto":
                    path = self.folder / "replay.h5md"
                    imagine_frames(parent, frames, path, data.seed)
                self.replayed = Replay(base, self.model, path, data.batch_size, data.seed)
        return statistics

    def null_errors(self, state: State, statistics: Statistics) -> dict[str, tuple[Tensor, Tensor]]:
        """Of the mean energy of each element, and of no force."""
        means = torch.as_tensor(statistics.reference_energies) + statistics.energy_shift
        rest = state.energy.double().sum() - means[state.numbers].sum()
        count = torch.tensor(state.forces.numel())
        return {
            "energy": (rest.square(), torch.tensor(1)),
            "force": (state.forces.double().square().sum(), count),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        matrices, others = matrices_of(self, self.learned)
        return Muon(matrices, others, self.matrix_rate, self.learning_rate, self.matrix_rounds)

    def on_train_start(self) -> None:
        if self.compiled and self._compiled is None:
            began = processor_seconds()
            try:
                self._compiled = self._program(self.model, bool(self.stress_weight))
                if self.replayed is not None:
                    self._compiled_replay = self._program(self.replayed.model, False)
            except CompilationError as error:
                warnings.warn(f"{error}. Training goes on without, slower", stacklevel=2)
            self.build_cpu_seconds = processor_seconds() - began
        super().on_train_start()

    @staticmethod
    def _program(model: Potential, stress: bool) -> CompiledLoss:
        inputs = labelled_example(model, stress)
        return CompiledLoss(model, squared_errors, inputs, LOSS_VARYING[: len(inputs)])

    def weighted_loss(self, batch: State) -> Tensor:
        loss = self._loss(self.model, self._compiled, batch)
        if self.replayed is None:
            return loss
        remembered = self.replayed.batch(self.global_step).to(batch.positions.device)
        return loss + self._loss(self.replayed.model, self._compiled_replay, remembered)

    def _loss(self, model: Potential, program: CompiledLoss | None, batch: State) -> Tensor:
        """Mean errors of a batch, each times its weight."""
        inputs = loss_inputs(model, batch, NeighbourTable.from_pairs(batch))
        counts = loss_counts(batch)
        coefficients = batch.positions.new_zeros(len(SUMS))
        for name, weight in self.weights().items():
            if name in counts:
                coefficients[SUMS.index(SUM_OF_TERM[name])] = weight / self.shared(counts[name])
        if program is not None:
            return program(coefficients, inputs)
        return (coefficients * squared_errors(model, *inputs)).sum()

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
