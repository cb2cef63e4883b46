"""Scalars of a whole system: those that grow with it, and those that do not."""

import torch
from torch import Tensor, nn
from torch_geometric.utils import softmax

from sciwm.core.state import MAX_NUMBER, State
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.heads.head import Head, ScalarReadout, require_property, sum_per_system
from sciwm.models.statistics import LabelStatistics


class ExtensiveHead(Head):
    """A sum over atoms, such as a solvation energy: two molecules far apart have the sum of both.

    Args:
        name: Of the property.
        hidden: Width of the readout.
    """

    elements: Tensor
    scale: Tensor

    def __init__(self, name: str, hidden: int = 32):
        super().__init__()
        require_property(name, (), per_atom=False)
        self.name = name
        self.hidden = hidden
        self.register_buffer("elements", torch.zeros(MAX_NUMBER + 1))
        self.register_buffer("scale", torch.tensor(1.0))

    def connect(self, encoder: Encoder) -> None:
        self.readout = ScalarReadout(encoder, self.hidden)

    def adapt(self, labels: LabelStatistics) -> None:
        self.elements.copy_(torch.as_tensor(labels.elements))
        self.scale.fill_(labels.rest or 1.0)

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        learned = self.readout(features)[:, 0]
        return sum_per_system(self.elements[state.numbers] + self.scale * learned, state)


class IntensiveHead(Head):
    """A number that does not grow with the system, such as an orbital gap.

    Features are pooled twice, by their mean and by a mean whose weights are learned (a softmax over
    the atoms of a system, channel by channel): a gap is set by a few atoms, wherever they are.

    Args:
        name: Of the property.
        hidden: Width of what is pooled.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, name: str, hidden: int = 64):
        super().__init__()
        require_property(name, (), per_atom=False)
        self.name = name
        self.hidden = hidden
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def connect(self, encoder: Encoder) -> None:
        self.readout = ScalarReadout(encoder, self.hidden, 2 * self.hidden)
        self.net = nn.Sequential(
            nn.Linear(2 * self.hidden, self.hidden), nn.SiLU(), nn.Linear(self.hidden, 1)
        )

    def adapt(self, labels: LabelStatistics) -> None:
        self.mean.fill_(float(labels.mean))
        self.scale.fill_(labels.spread or 1.0)

    def forward(self, features: list[Tensor], state: State) -> Tensor:
        values, logits = self.readout(features).chunk(2, dim=-1)
        n_systems = state.n_systems
        attention = softmax(logits, state.batch, num_nodes=n_systems)
        share = 1 / state.counts[state.batch].to(values.dtype)[:, None]
        pooled = torch.cat([values * share, values * attention], dim=-1)
        return self.mean + self.scale * self.net(sum_per_system(pooled, state))[:, 0]
