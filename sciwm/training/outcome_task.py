"""Learning outcomes: properties of single frames, beside their energies and forces."""

import warnings

import numpy as np
import torch
from torch import Tensor

from sciwm.core.bounds import require_not_negative, require_positive
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable
from sciwm.core.properties import PROPERTIES, property_field
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.modules import Data, FrameData
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.outcome_model import OutcomeModel
from sciwm.models.statistics import LabelStatistics, Statistics, survey
from sciwm.training.calibration import calibrate_errors
from sciwm.training.force_errors import SUMS, loss_inputs, squared_errors
from sciwm.training.task import SURVEYED, Task

Terms = dict[str, tuple[Tensor, Tensor]]
"""Sum of squares and count, by name."""


class OutcomeTask(Task):
    """Fits energies, forces, and the property of every head.

    The loss is the sum of mean squared errors, each in its own measure: a property over the spread
    of its training labels, force components and the energy per particle over the root mean square
    force. Frames that lack a label do not count for it. A weight of zero leaves a term out, and its
    labels need not be there. Where neither energies nor forces are learned, the force field of the model to
    start from stays exactly as it is, and only heads are fitted to its features.

    Args:
        model: The force field with its heads.
        start: A run folder or model file to start from: its force field, and those of its heads that
            this model has too, with their scales.
        energy_weight: Of the energy term.
        force_weight: Of the force term.
        property_weight: Of every property.
        learning_rate: The highest rate.
        warmup: Steps of linear increase.
        cpu_seconds: Processor time to spend on training.
    """

    model: OutcomeModel

    def __init__(
        self,
        model: OutcomeModel,
        start: str | None = None,
        energy_weight: float = 2.0,
        force_weight: float = 1.0,
        property_weight: float = 1.0,
        learning_rate: float = 3e-3,
        warmup: int = 100,
        cpu_seconds: float | None = None,
    ):
        super().__init__(learning_rate, warmup, cpu_seconds)
        require_not_negative(energy_weight=energy_weight, force_weight=force_weight)
        require_positive(property_weight=property_weight)
        self.model = model
        self.start = start
        self.energy_weight = energy_weight
        self.force_weight = force_weight
        self.property_weight = property_weight
        self._labels: dict[str, LabelStatistics] = {}
        self._force_rms = 1.0

    def finish(self, data: Data) -> None:
        if self.force_weight:
            calibrate_errors(self.model.force_field, data)

    @property
    def monitored(self) -> str:
        return "valid/score"

    def weights(self) -> dict[str, float]:
        weights = {"energy": self.energy_weight, "force": self.force_weight}
        weights |= dict.fromkeys(self.model.properties, self.property_weight)
        return {name: weight for name, weight in weights.items() if weight}

    def adapt(self, data: Data) -> Statistics:
        if not isinstance(data, FrameData):
            raise ValueError("OutcomeTask learns from FrameData; for WindowData use MotionTask")
        self._require_labels(data)
        given = self.model.reference_table()
        if self.energy_weight and given is None and self.start is None:
            warnings.warn(
                "no reference_energies are given, so the energies of isolated atoms are fitted: total "
                "energies will be right near the data, energies of dissociation will not",
                stacklevel=2,
            )
        frames = data.sample_frames(SURVEYED)
        whole = data.training_frames() if len(data.training_entries) > len(frames) else None
        statistics = survey(frames, self.model.cutoff, data.collection.units, given, whole)
        self._require_varying(frames)
        self.model.adapt(statistics)
        if self.start is not None:
            if not self.resumed:
                self.model.start_from(archive.load(model_file(self.start)).potential)
                self.model.domain.widen(statistics)
            if not (self.energy_weight or self.force_weight):
                self.model.force_field.requires_grad_(False)
        elif self.start is None and not self.force_weight:
            warnings.warn(
                "force_weight is zero and there is no model to start from, so the forces of this model "
                "will mean nothing; give `start`, or use it for its properties alone",
                stacklevel=2,
            )
        self._labels = statistics.labels
        self._force_rms = statistics.force_rms
        return statistics

    def errors(self, batch: State) -> tuple[dict[str, Tensor], Terms]:
        table = NeighbourTable.from_pairs(batch)
        metrics: Terms = {}
        scaled: Terms = {}
        if self.energy_weight or self.force_weight:
            inputs = loss_inputs(self.model, batch, table)
            found = squared_errors(self.model, *inputs, differentiable=self.training)
            metrics |= self._weighted(dict(zip(SUMS, found.unbind(), strict=True)), batch)
            for name, source in (("energy", "energy_per_atom"), ("force", "force")):
                if source in metrics:
                    total, count = metrics[source]
                    scaled[name] = (total / self._force_rms**2, count)
        for name, found in self.model.observe(batch, table).items():
            label = batch[property_field(name)]
            known = ~label.isnan()
            total = (found - label)[known].square().sum()
            count = known.sum().to(total.dtype)
            metrics[name] = (total, count)
            # A batch without any label of a property contributes nothing to it.
            scaled[name] = (total / self._labels[name].spread ** 2, count.clamp(min=1))
        terms: dict[str, Tensor] = {}
        score = torch.zeros((), device=batch.positions.device)
        for name, weight in self.weights().items():
            terms[name], terms[f"count_{name}"] = scaled[name]
            score = score + weight * scaled[name][0].detach() / scaled[name][1]
        metrics["score"] = (score * batch.n_systems, torch.tensor(float(batch.n_systems)).to(score))
        return terms, metrics

    def null_errors(self, state: State, statistics: Statistics) -> Terms:
        """Of the mean training label (for atoms, of their element), the mean energy and no force."""
        metrics: Terms = {}
        if self.energy_weight:
            target = state.energy - self.model.total_offset(state)
            metrics["energy"] = (target.square().sum(), torch.tensor(float(state.n_systems)))
        if self.force_weight:
            count = torch.tensor(float(state.forces.numel()))
            metrics["force"] = (state.forces.square().sum(), count)
        for name, known in self._labels.items():
            if name not in self.model.properties:
                continue
            label = state[property_field(name)]
            guess = torch.as_tensor(known.mean).expand(label.shape)
            if PROPERTIES[name].per_atom:
                guess = torch.as_tensor(known.elements)[state.numbers]
            off = (label - guess)[~label.isnan()]
            metrics[name] = (off.square().sum(), torch.tensor(float(off.numel())))
        return metrics

    @property
    def units_of_errors(self) -> dict[str, str]:
        units = super().units_of_errors
        if self.units is MOLECULAR:
            units |= {name: PROPERTIES[name].unit for name in self.model.properties}
        return units

    def _weighted(self, sums: dict[str, Tensor], batch: State) -> Terms:
        """Sums of squared errors of energies and forces with their counts, for those that have a weight."""
        systems = sums["energy"].new_tensor(float(batch.n_systems))
        components = sums["force"].new_tensor(float(batch.positions.numel()))
        counts = {"energy": systems, "energy_per_atom": systems, "force": components}
        kept = ["energy", "energy_per_atom"] if self.energy_weight else []
        kept += ["force"] if self.force_weight else []
        return {name: (sums[name], counts[name]) for name in kept}

    def _require_labels(self, data: FrameData) -> None:
        if set(self.model.properties) != set(data.properties):
            raise ValueError(
                f"the heads predict {', '.join(self.model.properties)} but the data gives "
                f"{', '.join(data.properties) or 'no properties'}; set the data's properties: "
                f"[{', '.join(self.model.properties)}]"
            )
        if data.stress:
            raise ValueError("OutcomeTask does not learn stress; set the data's stress: false")
        for label, weight in (("energy", self.energy_weight), ("forces", self.force_weight)):
            if weight and label not in data.labels:
                raise ValueError(
                    f"the data has no {label} in every trajectory to learn from; import it with them, "
                    f"or set {label.removesuffix('s')}_weight: 0"
                )

    def _require_varying(self, frames: list[Frame]) -> None:
        values: dict[str, np.ndarray] = {
            name: np.concatenate(
                [np.ravel(one.properties[name]) for one in frames if name in one.properties]
                or [np.zeros(0)]
            )
            for name in self.model.properties
        }
        if self.energy_weight:
            values["energy"] = np.array([one.energy for one in frames], dtype=float)
        if self.force_weight:
            values["forces"] = np.concatenate([np.ravel(one.forces) for one in frames])  # type: ignore[arg-type]
        for name, found in values.items():
            if not len(found):
                raise ValueError(
                    f"none of {len(frames)} training frames has the property {name}; import the data "
                    "with it, or leave its head out"
                )
            if len(frames) > 1 and np.ptp(found) == 0:
                raise ValueError(
                    f"{name} is {found[0]:g} in all of {len(frames)} frames, so there is nothing to "
                    "learn; the label was probably lost or filled in by the program that wrote the file"
                )
