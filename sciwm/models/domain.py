"""Where a model may be trusted: what its training data covered, and how to tell that a state is outside."""

import numpy as np
import torch
from torch import Tensor, nn

from sciwm.core.state import MAX_NUMBER
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics

CLOSER = 0.8
"""A pair nearer than this share of its closest approach in training is outside."""

STRONGER = 5.0
"""A force larger than this multiple of the largest in training is outside."""


class UnseenSpeciesError(ValueError):
    """A particle type that the training data never held."""


class Domain(nn.Module):
    """The species, closest approaches and forces of the training data, stored with the model."""

    seen: Tensor
    closest: Tensor
    force_max: Tensor

    def __init__(self) -> None:
        super().__init__()
        size = MAX_NUMBER + 1
        self.register_buffer("seen", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("closest", torch.zeros(size, size))
        self.register_buffer("force_max", torch.tensor(np.inf))

    def adapt(self, statistics: Statistics) -> None:
        self.seen[statistics.species] = True
        # A pair that never met in training has no known closest approach: any distance is outside.
        closest = np.where(np.isfinite(statistics.closest), statistics.closest, 0.0)
        self.closest.copy_(torch.as_tensor(closest))
        self.force_max.fill_(statistics.force_max)

    def require_species(self, numbers: Tensor) -> None:
        """Raises UnseenSpeciesError unless every particle type occurred in training."""
        unseen = ~self.seen[numbers]
        if bool(unseen.any()):
            names = sorted({int(n) for n in numbers[unseen]})
            known = [int(n) for n in torch.nonzero(self.seen)[:, 0]]
            raise UnseenSpeciesError(
                f"particle types {names} were not in the training data, which held {known}; "
                "train on data that has them, or leave these systems out"
            )

    def outside(self, geometry: Geometry, forces: Tensor) -> dict[int, str]:
        """Systems beyond what training covered, each with the reason."""
        reasons: dict[int, str] = {}
        n = geometry.numbers
        limit = CLOSER * self.closest[n[:, None], n[geometry.sender]]
        near = (geometry.distance < limit) & geometry.real
        for atom, slot in torch.nonzero(near)[:50].tolist():
            s = int(geometry.batch[atom])
            other = int(geometry.sender[atom, slot])
            reasons.setdefault(
                s,
                f"particles of types {int(n[atom])} and {int(n[other])} are "
                f"{float(geometry.distance[atom, slot]):.3f} apart; training came no nearer than "
                f"{float(limit[atom, slot]) / CLOSER:.3f}",
            )
        size = forces.norm(dim=-1)
        for atom in torch.nonzero(size > STRONGER * self.force_max)[:50, 0].tolist():
            reasons.setdefault(
                int(geometry.batch[atom]),
                f"a force of {float(size[atom]):.3g} exceeds {STRONGER:g} times the largest in "
                f"training ({float(self.force_max):.3g})",
            )
        return reasons
