"""The many-body force field: an encoder's features summed up to an energy.

E = Σ_i E0(z_i) + Σ_i presence_i · scale · [readout(features_i) - readout(features of i alone)]
    + Σ_pairs repulsion in collisions - Σ_i bond energy(z_i) · half the bonds of i,

so that free atoms have their reference energies, and atoms that collide repel, whatever was learned
(`short_range`).
"""

import inspect
import math
import warnings
from typing import Any, Self

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from sciwm.core.frame import Array
from sciwm.core.state import MAX_NUMBER
from sciwm.models.domain import Domain
from sciwm.models.dynamics.force_error import FARTHER, ForceError
from sciwm.models.dynamics.potential import Potential
from sciwm.models.dynamics.repulsion import ScreenedNuclearRepulsion
from sciwm.models.dynamics.short_range import ShortRange, presence
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

STRONGEST_BOND = 15.0
"""eV. That of carbon monoxide is 11.2."""

STRONGEST_ATOM = 10.0
"""eV. What taking an atom from all its bonds may cost; in tungsten, the most strongly bound, it is 8.9."""

EXPLAINED = 1e-3
"""Share of the widest spread of compositions below which a combination of elements is not told apart."""

UNBOUND = 0.5
"""eV per particle that may be learned without being accounted for by bonds."""

FEWEST_BONDS = 0.05
"""Bonds per particle from which on their mean energy means something."""


class ForceField(Potential):
    """A learned energy with many-body messages, for molecules, materials and particles.

    Args:
        encoder: Perception; it owns the cutoff.
        repulsion: Lets nuclei repel where training never came so close (the ZBL potential), in place of
            what was learned; leave it off in reduced units.
        reference_energies: Energy of each isolated atom by element symbol, in eV. Where absent they
            are fitted to the training energies, which leaves dissociation energies undetermined.
        unit_system: "molecular" (Å, eV, fs, u) or "reduced".
        exact_limits: Off in files of the first format only: there a constant stands for the mean energy of
            an atom in the data, free or not, and the repulsion is added to what was learned.
    """

    scale: Tensor
    constants: Tensor
    bond_energy: Tensor
    bond_corrections: Tensor

    def __init__(
        self,
        encoder: Encoder,
        repulsion: bool = True,
        reference_energies: dict[str, float] | None = None,
        unit_system: str = "molecular",
        exact_limits: bool = True,
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
        self.exact_limits = exact_limits
        self.cutoff = encoder.cutoff
        self.domain = Domain()
        self.nuclear = ScreenedNuclearRepulsion() if repulsion and not exact_limits else None
        self.short_range = ShortRange(encoder.cutoff) if repulsion and exact_limits else None
        channels = encoder.channels
        linear = [nn.Linear(channels, 1, bias=False) for _ in range(encoder.layers - 1)]
        final = nn.Linear(32, 1, bias=False)
        with torch.no_grad():  # start near the mean energy and zero force
            for last in (*linear, final):
                last.weight.mul_(0.1)
        self.readouts = nn.ModuleList(
            [*linear, nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), final)]
        )
        # Only once errors were measured (`calibrate_errors`).
        self.force_error: ForceError | None = None
        self.register_buffer("scale", torch.tensor(1.0))
        # Of the mean bond, and by element what the energy of its half of one is beside that.
        self.register_buffer("bond_energy", torch.tensor(0.0))
        self.register_buffer("bond_corrections", torch.zeros(MAX_NUMBER + 1))
        self.register_buffer("constants", torch.zeros(MAX_NUMBER + 1, dtype=torch.float64))

    def adapt(self, statistics: Statistics) -> None:
        self.domain.adapt(statistics)
        self.encoder.neighbour_count.fill_(statistics.neighbour_count)
        self.scale.fill_(statistics.force_rms)
        self._set_zero(statistics, statistics.formation)

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

    def rebase(self, statistics: Statistics, learned: Array) -> None:
        """Moves the zero of energies to that of other data, such as another method's.

        Args:
            learned: (F,) energies that the model gives on that data, constants aside.
        """
        if self.short_range is not None:
            each = self.bond_energy + self.bond_corrections
            bonded = each.double().numpy(force=True) * self.short_range.mean_bonds(statistics)
            learned = learned + statistics.compositions @ bonded
        self._set_zero(statistics, statistics.formation - learned)

    def _set_zero(self, statistics: Statistics, formation: Array) -> None:
        """Shares out what systems of the data have beyond the reference energies of their particles.

        Bonds take it where they can; then free atoms are at their reference energies.

        Args:
            formation: (F,) energies to be shared out.
        """
        sizes = statistics.compositions.sum(axis=1)
        shift = float((formation / sizes).mean()) if len(sizes) else 0.0
        if self.short_range is not None:
            self.short_range.adapt(statistics)
            halves = self.short_range.mean_bonds(statistics)
            particles = sum(map(len, statistics.bonds.values()))
            total = sum(halves[z] * len(bonds) for z, bonds in statistics.bonds.items())
            bonds = total / max(particles, 1)
            bond_energy = -shift / bonds if bonds > FEWEST_BONDS else 0.0
            self.bond_energy.fill_(0.0)
            self.bond_corrections.fill_(0.0)
            if abs(shift) > UNBOUND and not 0.0 < bond_energy <= STRONGEST_BOND:
                warnings.warn(
                    f"particles of the data have {shift:.4g} eV more than their reference energies and "
                    f"{bonds:.3g} bonds on average, which no bonds account for: reference energies and "
                    "data are of different methods or units. Energies will be right near the data, "
                    "those of free atoms will not",
                    stacklevel=3,
                )
            else:
                self.bond_energy.fill_(min(max(bond_energy, 0.0), STRONGEST_BOND))
                self._correct_bonds(statistics, formation, halves)
                shift = 0.0
        self.constants.copy_(torch.as_tensor(statistics.reference_energies) + shift)

    def _correct_bonds(self, statistics: Statistics, formation: Array, halves: Array) -> None:
        """Gives bonds of each element the energy that explains how the data's depend on composition.

        Of all explanations that are as good, the one nearest the mean bond: none is corrected where every
        system has the same composition.
        """
        mean = float(self.bond_energy)
        rest = formation + mean * statistics.compositions @ halves
        found = np.linalg.lstsq(statistics.compositions, rest, rcond=EXPLAINED)[0]
        bound = halves > 0.5 * FEWEST_BONDS
        energies = mean - np.divide(found, halves, out=np.zeros_like(halves), where=bound)
        most = np.maximum(STRONGEST_ATOM / np.where(bound, halves, 1.0), mean)
        corrections = np.clip(energies, 0.0, most) - mean
        self.bond_corrections.copy_(torch.as_tensor(np.where(bound, corrections, 0.0)))

    def presence(self, geometry: Geometry) -> Tensor | None:
        """(A,) how much of each particle what is learned may see; None where that is all."""
        if self.short_range is None:
            return None
        return presence(self.short_range.contacts(geometry, self.domain))

    def energy(self, geometry: Geometry) -> Tensor:
        return self.energy_and_error(geometry)[0]

    def energy_and_error(self, geometry: Geometry) -> tuple[Tensor, Tensor | None]:
        contacts = seen = None
        if self.short_range is not None:
            contacts = self.short_range.contacts(geometry, self.domain)
            seen = presence(contacts)
        features, alone = self.encoder(geometry, seen), self.encoder.alone(geometry)
        error = None
        if self.force_error is not None:
            error = self.force_error(surroundings(features, alone), geometry.numbers)
        if not self.exact_limits:
            energy = self.scale * self._readout(features)
            return energy if self.nuclear is None else energy + self.nuclear(geometry), error
        energy = self.scale * (self._readout(features) - self._readout(alone))
        if self.short_range is None or contacts is None or seen is None:
            return energy, error
        bonds = self.short_range.bonds(geometry, self.domain, contacts)
        repulsion = self.short_range.repulsion(geometry, contacts)
        worth = self.bond_energy + self.bond_corrections[geometry.numbers]
        return seen * energy + repulsion - worth * bonds, error

    @property
    def largest_error(self) -> float:
        return math.inf if self.force_error is None else FARTHER * float(self.force_error.largest)

    def surroundings(self, geometry: Geometry) -> Tensor:
        """(A, layers × channels) what the features of each particle owe to its surroundings."""
        return surroundings(
            self.encoder(geometry, self.presence(geometry)), self.encoder.alone(geometry)
        )

    def _readout(self, features: list[Tensor]) -> Tensor:
        """(A,) what the invariants of all layers add up to."""
        parts = [read(one)[:, 0] for read, one in zip(self.readouts, features, strict=True)]
        return torch.stack(parts).sum(dim=0)

    def offsets(self, numbers: Tensor) -> Tensor:
        return self.constants[numbers]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("bond_energy", "bond_corrections"):
            state_dict.setdefault(prefix + name, torch.zeros_like(getattr(self, name)))
        known = state_dict.get(prefix + "force_error.whitening")
        size = self.encoder.layers * self.encoder.channels
        if known is None:
            self.force_error = None
        elif self.force_error is None and known.shape == (size, size):  # others do not fit
            self.force_error = self._blank_error()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def calibrate_errors(
        self, known: Tensor, features: Tensor, numbers: Tensor, errors: Tensor
    ) -> None:
        """Learns to tell how wrong forces may be.

        Args:
            known: (A', layers × channels) `surroundings` of particles of the training data.
            features: (A, layers × channels) those of held-back frames.
            numbers: (A,) their particle types.
            errors: (A,) length of the error of the force on each.
        """
        self.force_error = self._blank_error()
        self.force_error.cover(known)
        self.force_error.calibrate(features, numbers, errors)

    def _blank_error(self) -> ForceError:
        return ForceError(self.encoder.layers * self.encoder.channels).to(self.scale)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # `model.float()` must not round total energies of 1e4 eV to single precision.
        constants = self.constants
        super()._apply(fn, recurse)
        self.constants = constants.to(self.scale.device)
        return self


def surroundings(features: list[Tensor], alone: list[Tensor]) -> Tensor:
    """(A, layers × channels) what the features of each particle owe to its surroundings.

    Args:
        features: (A, channels) of each layer.
        alone: What they would be without neighbours.
    """
    away = [one.detach() - other.detach() for one, other in zip(features, alone, strict=True)]
    return torch.cat(away, dim=-1)


def _settings(model: Potential) -> dict[str, Any]:
    """What weights of one force field must share with another's to mean the same."""
    encoder = getattr(model, "encoder", None)
    names = inspect.signature(Encoder).parameters
    return {name: getattr(encoder, name, None) for name in names} | {
        "repulsion": getattr(model, "repulsion", None),
        "exact_limits": getattr(model, "exact_limits", None),
        "unit_system": model.unit_system,
    }
