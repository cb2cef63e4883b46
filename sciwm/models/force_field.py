"""The many-body force field: an encoder's features summed up to an energy.

E = Σ_i [E0(z_i) + shift + scale · readout(features_i)] + short-range repulsion.
"""

import inspect
from typing import Any, Self

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.state import MAX_NUMBER
from sciwm.models.domain import Domain
from sciwm.models.encoder import Encoder
from sciwm.models.geometry import Geometry
from sciwm.models.potential import Potential
from sciwm.models.repulsion import ScreenedNuclearRepulsion
from sciwm.models.statistics import Statistics


class ForceField(Potential):
    """A learned energy with many-body messages, for molecules, materials and particles.

    Args:
        encoder: Perception; it owns the cutoff.
        repulsion: Adds the ZBL potential between nuclei; leave it off in reduced units.
        reference_energies: Energy of each isolated atom by element symbol, in eV. Where absent they
            are fitted to the training energies, which leaves dissociation energies undetermined.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
    """

    scale: Tensor
    constants: Tensor

    def __init__(
        self,
        encoder: Encoder,
        repulsion: bool = True,
        reference_energies: dict[str, float] | None = None,
        unit_system: str = "molecular",
    ):
        super().__init__()
        if repulsion and unit_system != "molecular":
            raise ValueError(
                "nuclear repulsion is in eV and Å; set repulsion: false in reduced units"
            )
        for symbol in reference_energies or {}:
            if symbol not in atomic_numbers:
                raise ValueError(
                    f"reference_energies names {symbol!r}, which is not an element symbol; "
                    f"use symbols such as {', '.join(chemical_symbols[1:9])}"
                )
        self.encoder = encoder
        self.repulsion = repulsion
        self.reference_energies = reference_energies
        self.unit_system = unit_system
        self.cutoff = encoder.cutoff
        self.domain = Domain()
        self.nuclear = ScreenedNuclearRepulsion() if repulsion else None
        channels = encoder.channels
        linear = [nn.Linear(channels, 1, bias=False) for _ in range(encoder.layers - 1)]
        final = nn.Linear(32, 1, bias=False)
        with torch.no_grad():  # start near the mean energy and zero force
            for last in (*linear, final):
                last.weight.mul_(0.1)
        self.readouts = nn.ModuleList(
            [*linear, nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), final)]
        )
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("constants", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64))

    def adapt(self, statistics: Statistics) -> None:
        self.domain.adapt(statistics)
        self.encoder.neighbour_count.fill_(statistics.neighbour_count)
        self.scale.fill_(statistics.force_rms)
        constants = torch.as_tensor(statistics.reference_energies) + statistics.energy_shift
        self.constants.copy_(constants)

    def reference_table(self) -> Array | None:
        """(119,) given energies of isolated atoms; None where they are to be fitted."""
        if self.reference_energies is None:
            return None
        table = np.zeros(MAX_NUMBER + 1)
        for symbol, energy in self.reference_energies.items():
            table[atomic_numbers[symbol]] = energy
        return table

    def start_from(self, other: Potential) -> None:
        """Takes over the weights, scales and domain of a trained force field.

        Raises:
            ValueError: If it is built differently.
        """
        mine, theirs = _settings(self), _settings(other)
        odd = [name for name in mine if mine[name] != theirs.get(name)]
        if odd:
            differences = ", ".join(
                f"{name} {theirs.get(name)} instead of {mine[name]}" for name in odd
            )
            raise ValueError(
                f"the model to start from is a {type(other).__name__} with {differences}; give this one "
                "the same encoder and force field"
            )
        self.load_state_dict(other.state_dict())

    def rebase(self, statistics: Statistics, learned: float) -> None:
        """Moves the zero of energies to that of other data, such as another method's.

        Args:
            learned: Mean energy per particle that the weights give on that data.
        """
        shift = statistics.energy_shift - learned
        self.constants.copy_(torch.as_tensor(statistics.reference_energies) + shift)

    def energy(self, geometry: Geometry) -> Tensor:
        features = self.encoder(geometry)
        learned = sum(
            readout(feature)[:, 0] for readout, feature in zip(self.readouts, features, strict=True)
        )
        energy = self.scale * learned
        if self.nuclear is not None:
            energy = energy + self.nuclear(geometry)
        return energy

    def offsets(self, numbers: Tensor) -> Tensor:
        return self.constants[numbers]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # `model.float()` must not round total energies of 1e4 eV to single precision.
        constants = self.constants
        super()._apply(fn, recurse)
        self.constants = constants.to(self.scale.device)
        return self


def _settings(model: Potential) -> dict[str, Any]:
    """What weights of one force field must share with another's to mean the same."""
    encoder = getattr(model, "encoder", None)
    names = inspect.signature(Encoder).parameters
    return {name: getattr(encoder, name, None) for name in names} | {
        "repulsion": getattr(model, "repulsion", None),
        "unit_system": model.unit_system,
    }
