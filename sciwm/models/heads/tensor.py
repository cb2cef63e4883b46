"""Symmetric tensors of a whole system, such as its polarisability."""

import torch
from e3nn import o3
from torch import Tensor

from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.heads.head import (
    Head,
    ScalarReadout,
    TensorReadout,
    require_property,
    sum_per_system,
)
from sciwm.models.statistics import LabelStatistics


class TensorHead(Head):
    """A symmetric 3x3 tensor as a sum over atoms of an isotropic part and one of degree 2.

    Args:
        name: Of the property.
        hidden: Width of the readouts.
    """

    elements: Tensor
    scale: Tensor
    coupling: Tensor

    def __init__(self, name: str = "polarisability", hidden: int = 32):
        super().__init__()
        require_property(name, (3, 3), per_atom=False)
        self.name = name
        self.hidden = hidden
        self.register_buffer("elements", torch.zeros(MAX_NUMBER + 1))
        self.register_buffer("scale", torch.tensor(1.0))
        # (5, 3, 3): the symmetric traceless unit matrix of each component of degree 2.
        coupling = o3.wigner_3j(1, 1, 2, dtype=torch.float64).permute(2, 0, 1) * 5**0.5
        self.register_buffer(
            "coupling", coupling.to(torch.get_default_dtype()).contiguous(), persistent=False
        )

    def connect(self, encoder: Encoder) -> None:
        self.isotropic = ScalarReadout(encoder, self.hidden)
        self.anisotropic = TensorReadout(encoder, self.hidden, degree=2)

    def adapt(self, labels: LabelStatistics) -> None:
        self.elements.copy_(torch.as_tensor(labels.elements))
        self.scale.fill_(labels.rest or 1.0)

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        size = self.elements[state.numbers] + self.scale * self.isotropic(features)[:, 0]
        shape = self.scale * self.anisotropic(features)
        size, shape = sum_per_system(size, state), sum_per_system(shape, state)
        unit = torch.eye(3, dtype=size.dtype, device=size.device)
        return size[:, None, None] * unit + torch.einsum("sm,mij->sij", shape, self.coupling)
