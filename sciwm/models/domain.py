"""Where a model may be trusted: what its training data covered, and how to tell that a state is outside."""

from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from sciwm.core.state import MAX_NUMBER
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

CLOSER = 0.9
"""A pair nearer than this share of its closest approach in training is outside. There, nine tenths of what
was learned of its atoms count, and all of it from 0.92 on (`short_range`)."""

STRONGER = 5.0
"""A force larger than this multiple of the largest in training is outside."""

ANY_DISTANCE = 1e-3
"""Closest approach of all pairs before a domain is adapted, in Å or reduced units: none is too near."""

HIGHEST_CHARGE = 20
"""Total charges beyond this, of either sign, count as this."""


class UnseenSpeciesError(ValueError):
    """A particle type that the training data never held.

    Attributes:
        systems: The reason for each system that has one, by its index.
    """

    def __init__(self, message: str, systems: dict[int, str] | None = None):
        super().__init__(message)
        self.systems = systems or {}


class OutsideDomainWarning(UserWarning):
    """A state beyond what training covered was evaluated."""


class Domain(nn.Module):
    """The species, net charges, closest approaches and forces of the training data, stored with the model.

    Before it is adapted any distance and charge is inside, and any charge in files older than their record.
    """

    seen: Tensor
    charged: Tensor
    closest: Tensor
    force_max: Tensor

    def __init__(self) -> None:
        super().__init__()
        size = MAX_NUMBER + 1
        self.register_buffer("seen", torch.zeros(size, dtype=torch.bool))
        # Entry q + HIGHEST_CHARGE: whether systems of net charge q occurred.
        self.register_buffer("charged", torch.ones(2 * HIGHEST_CHARGE + 1, dtype=torch.bool))
        self.register_buffer("closest", torch.full((size, size), ANY_DISTANCE))
        self.register_buffer("force_max", torch.tensor(np.inf))

    def adapt(self, statistics: Statistics) -> None:
        self.seen[statistics.species] = True
        # A pair that never met in training has no known closest approach: any distance is outside.
        closest = np.where(np.isfinite(statistics.closest), statistics.closest, 0.0)
        self.closest.copy_(torch.as_tensor(closest))
        self.force_max.fill_(statistics.force_max)
        if statistics.total_charges:
            self.charged.fill_(False)
            self.charged[_charge_entry(torch.tensor(statistics.total_charges))] = True

    def widen(self, statistics: Statistics) -> None:
        """Counts further training data as covered, beside what already is."""
        further = Domain().to(self.seen.device)
        further.adapt(statistics)
        self.seen |= further.seen
        self.charged |= further.charged
        closest, other = self.closest, further.closest.to(self.closest)
        met = (closest > 0) & (other > 0)
        self.closest.copy_(
            torch.where(met, torch.minimum(closest, other), torch.maximum(closest, other))
        )
        self.force_max.copy_(torch.maximum(self.force_max, further.force_max.to(self.force_max)))

    def closest_of(self, geometry: Geometry) -> Tensor:
        """(A, K) closest approach in training of the types of each pair; zero if they never met."""
        return self._closest(geometry.numbers, geometry.sender)

    def _closest(self, numbers: Tensor, sender: Tensor) -> Tensor:
        kinds = numbers[:, None] * len(self.closest) + numbers[sender]
        return self.closest.flatten()[kinds]

    def unseen(self, numbers: Tensor, batch: Tensor) -> dict[int, str]:
        """Systems that hold a particle type which never occurred in training, each with the reason.

        Args:
            numbers: (A,) particle types.
            batch: (A,) the system of each particle.
        """
        odd = self._never_seen(numbers)
        if not bool(odd.any()):
            return {}
        known = _named(torch.nonzero(self.seen)[:, 0])
        return {
            s: f"holds {_named(numbers[odd & (batch == s)])}, and the training data only {known}"
            for s in batch[odd].unique().tolist()
        }

    def _never_seen(self, numbers: Tensor) -> Tensor:
        """(A,) of which particles the type did not occur in training, or cannot."""
        possible = (numbers >= 0) & (numbers <= MAX_NUMBER)
        return ~(possible & self.seen[numbers.clamp(0, MAX_NUMBER)])

    def require_species(self, numbers: Tensor, batch: Tensor | None = None) -> None:
        """Raises UnseenSpeciesError, which names the systems, unless all types occurred in training."""
        unseen = self._never_seen(numbers)
        if bool(unseen.any()):
            systems = self.unseen(numbers, torch.zeros_like(numbers) if batch is None else batch)
            names = sorted({int(n) for n in numbers[unseen]})
            known = [int(n) for n in torch.nonzero(self.seen)[:, 0]]
            raise UnseenSpeciesError(
                f"particle types {names} ({_named(numbers[unseen])}) were not in the training data, "
                f"which held {known} ({_named(torch.tensor(known))}); train on data that has them, or "
                "leave these systems out",
                systems,
            )

    def covers_charges(self, total_charge: Tensor) -> bool:
        """Whether systems of every one of these net charges occurred in training."""
        return bool(self.charged[_charge_entry(total_charge)].all())

    def nearest(self, numbers: Tensor, sender: Tensor, real: Tensor, cutoff: float) -> Tensor:
        """(A, K) distance of each neighbour below which its system is outside; zero in empty slots."""
        closest = self._closest(numbers, sender)
        return torch.where(closest == 0, cutoff, CLOSER * closest) * real

    def within(self, nearest: Tensor, squares: Tensor, forces: Tensor) -> bool:
        """Whether no neighbours are too near and no force is too large, in few operations.

        Args:
            nearest: (A, K) as `nearest` gives them.
            squares: (A, K) squared distances.
            forces: (A, 3) as the model gives them.
        """
        strongest = (STRONGER * self.force_max) ** 2
        near = (squares < nearest.square()).any()
        # Not `>`, so that what is no number is not within.
        return not bool(near) and bool((forces.square().sum(-1) <= strongest).all())

    def outside(self, geometry: Geometry, forces: Tensor, cutoff: float) -> dict[int, str]:
        """Systems beyond what training covered, each with the reason.

        Args:
            geometry: Of neighbours within the cutoff at least.
            forces: (A, 3) as the model gives them.
            cutoff: The model's.
        """
        n = geometry.numbers
        reasons = self.unseen(n, geometry.batch)
        strange = ~self.charged[_charge_entry(geometry.total_charge)]
        for s in torch.nonzero(strange)[:, 0].tolist():
            known = torch.nonzero(self.charged)[:, 0] - HIGHEST_CHARGE
            reasons.setdefault(
                s,
                f"has a total charge of {float(geometry.total_charge[s]):+g}; training held "
                f"{', '.join(f'{q:+d}' if q else '0' for q in known.tolist())}",
            )
        closest = self.closest_of(geometry)
        near = geometry.distance < CLOSER * closest
        strangers = (closest == 0) & (geometry.distance < cutoff)
        odd = torch.nonzero((near | strangers) & geometry.real)
        for s, row in _first_of_each(geometry.batch[odd[:, 0]]).items():
            atom, slot = odd[row].tolist()
            nearest = float(closest[atom, slot])
            reasons.setdefault(
                s,
                f"particles of types {int(n[atom])} and {int(n[geometry.sender[atom, slot]])} are "
                f"{float(geometry.distance[atom, slot]):.3f} apart; "
                + (
                    f"training came no nearer than {nearest:.3f}"
                    if nearest
                    else "in training such particles were never within the cutoff of each other"
                ),
            )
        size = forces.norm(dim=-1)
        pulled = torch.nonzero(size > STRONGER * self.force_max)[:, 0]
        for s, row in _first_of_each(geometry.batch[pulled]).items():
            reasons.setdefault(
                s,
                f"a force of {float(size[pulled[row]]):.3g} exceeds {STRONGER:g} times the largest in "
                f"training ({float(self.force_max):.3g})",
            )
        return reasons

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(prefix + "charged", torch.ones_like(self.charged))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _first_of_each(systems: Tensor) -> dict[int, int]:
    """The first row of each system, of rows sorted by system."""
    first: dict[int, int] = {}
    for row, system in enumerate(systems.tolist()):
        first.setdefault(system, row)
    return first


def _charge_entry(charges: Tensor) -> Tensor:
    return charges.round().long().clamp(-HIGHEST_CHARGE, HIGHEST_CHARGE) + HIGHEST_CHARGE


def _named(numbers: Tensor) -> str:
    """Particle types as element symbols, X for a type that is none."""
    names = (
        chemical_symbols[n] if 0 <= n <= MAX_NUMBER else "X" for n in numbers.unique().tolist()
    )
    return ", ".join(names) or "nothing"
