"""Partial charges of atoms, and the dipole that they and atomic dipoles make."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.heads.head import (
    Head,
    ScalarReadout,
    TensorReadout,
    sum_per_system,
)
from sciwm.models.statistics import LabelStatistics


class ConservedCharges(nn.Module):
    """Charges that sum to the total charge.

    What is missing to the total is shared out by learned positive weights, as electronegativity
    equalisation shares it by softness (Mortier, Ghosh & Shankar 1986, J. Am. Chem. Soc. 108, 4315).

    Args:
        encoder: Whose features are read.
        hidden: Width of the readout.
    """

    elements: Tensor
    scale: Tensor

    def __init__(self, encoder: Encoder, hidden: int):
        super().__init__()
        self.readout = ScalarReadout(encoder, hidden, 2)
        self.register_buffer("elements", torch.zeros(MAX_NUMBER + 1))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        """(A,)."""
        learned, softness = self.readout(features).unbind(-1)
        charges = self.elements[state.numbers] + self.scale * learned
        # The small constant keeps the sum of weights from vanishing.
        weights = softplus(softness) + 1e-3
        total = sum_per_system(weights, state)
        missing = state.total_charge - sum_per_system(charges, state)
        return charges + (missing / total)[state.batch] * weights


class ChargeHead(Head):
    """The partial charge of every atom.

    Args:
        hidden: Width of the readout.
    """

    def __init__(self, hidden: int = 32):
        super().__init__()
        self.name = "charges"
        self.hidden = hidden

    def connect(self, encoder: Encoder) -> None:
        self.charges = ConservedCharges(encoder, self.hidden)

    def adapt(self, labels: LabelStatistics) -> None:
        self.charges.elements.copy_(torch.as_tensor(labels.elements))
        self.charges.scale.fill_(labels.rest or 1.0)

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        return self.charges(features, state)


class DipoleHead(Head):
    """The dipole of a molecule: partial charges at their places, and a dipole on every atom.

    Its charges are its own and sum to the total charge, so that the dipole of a neutral molecule
    does not depend on the origin; that of an ion is about the centre of mass. Systems that repeat
    have none.

    Args:
        hidden: Width of the readouts.
    """

    scale: Tensor

    def __init__(self, hidden: int = 32):
        super().__init__()
        self.name = "dipole"
        self.hidden = hidden
        self.register_buffer("scale", torch.tensor(1.0))

    def connect(self, encoder: Encoder) -> None:
        self.charges = ConservedCharges(encoder, self.hidden)
        self.atomic = TensorReadout(encoder, self.hidden, degree=1)

    def adapt(self, labels: LabelStatistics) -> None:
        # Charges of this size, an ångström apart, make a dipole of the size of the labels'.
        self.charges.scale.fill_(labels.rest or 1.0)
        self.scale.fill_(labels.rest or 1.0)

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        arms = state.positions - centre_of_mass(state)[state.batch]
        moments = self.charges(features, state)[:, None] * arms
        dipole = sum_per_system(moments + self.scale * self.atomic(features), state)
        return torch.where(state.pbc.any(dim=1)[:, None], torch.nan, dipole)


def centre_of_mass(state: State) -> Tensor:
    """(S, 3)."""
    weighted = sum_per_system(state.masses[:, None] * state.positions, state)
    return weighted / sum_per_system(state.masses, state)[:, None]
