"""Outcome heads: what a structure's features say about it besides its energy.

A head reads the features of an encoder that it shares with a force field and other heads. Whatever
symmetry a property has is built in: how it turns, what it sums to, how it grows with size.
"""

import abc

import torch
from torch import Tensor, nn

from sciwm.core.properties import PROPERTIES, require_known
from sciwm.core.state import State
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.encoders.spherical import degree_slices
from sciwm.models.statistics import LabelStatistics

WIDEST = 10_000
"""Channels of a hidden layer, at most."""


class Head(nn.Module, abc.ABC):
    """Predicts one property.

    Its weights come into being when it is connected, since their number depends on the encoder.

    Attributes:
        name: Of the property, as in `core.properties.PROPERTIES`.
    """

    name: str

    @abc.abstractmethod
    def connect(self, encoder: Encoder) -> None:
        """Makes the weights for the features of this encoder.

        Raises:
            ValueError: If the encoder lacks the degrees that the property needs.
        """

    @abc.abstractmethod
    def adapt(self, labels: LabelStatistics) -> None:
        """Sets the scales from the training labels, before it learns."""

    @abc.abstractmethod
    def forward(self, features: list[Tensor], state: State) -> Tensor:
        """(S, *shape), or (A, *shape) for what every atom has, in the unit of the property.

        Args:
            features: (A, M, C) of each layer of the encoder.
            state: The systems; NaN answers those that have no such property.
        """


def require_property(name: str, shape: tuple[int, ...], per_atom: bool) -> None:
    """Raises ValueError unless this is the name of a property of that shape."""
    require_known([name])
    one = PROPERTIES[name]
    if (one.shape, one.per_atom) != (shape, per_atom):
        fitting = [
            known for known, p in PROPERTIES.items() if (p.shape, p.per_atom) == (shape, per_atom)
        ]
        raise ValueError(
            f"{name} has shape {one.shape}{' per atom' if one.per_atom else ''}, which this head does "
            f"not predict; it suits {', '.join(fitting)}"
        )


class ScalarReadout(nn.Module):
    """Invariants of all layers through one hidden layer.

    Args:
        encoder: Whose features are read.
        hidden: Width of the hidden layer.
        outputs: Numbers per atom.
    """

    def __init__(self, encoder: Encoder, hidden: int, outputs: int = 1):
        super().__init__()
        _require_width(hidden)
        self.net = nn.Sequential(
            nn.Linear(encoder.layers * encoder.channels, hidden),
            nn.SiLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """(A, outputs)."""
        return self.net(torch.cat([one[:, 0] for one in features], dim=-1))


class TensorReadout(nn.Module):
    """One spherical tensor per atom: features of that degree, mixed and weighed by invariants.

    Args:
        encoder: Whose features are read.
        hidden: Tensors that are weighed.
        degree: Of the tensor.
    """

    def __init__(self, encoder: Encoder, hidden: int, degree: int):
        super().__init__()
        _require_width(hidden)
        if degree > encoder.lmax:
            raise ValueError(
                f"the head needs features of degree {degree}, but the encoder has lmax={encoder.lmax}; "
                f"set lmax: {degree} or more"
            )
        self.part = degree_slices(encoder.lmax)[degree]
        self.mix = nn.Linear(encoder.layers * encoder.channels, hidden, bias=False)
        self.gates = ScalarReadout(encoder, hidden, hidden)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(A, 2 degree + 1) components in e3nn's order; x, y, z for degree 1."""
        tensors = self.mix(torch.cat([one[:, self.part] for one in features], dim=-1))
        return (tensors * self.gates(features)[:, None]).mean(-1)


def _require_width(hidden: int) -> None:
    if not 1 <= hidden <= WIDEST:
        raise ValueError(f"hidden must lie in 1..{WIDEST}, got {hidden}")


def sum_per_system(values: Tensor, state: State) -> Tensor:
    """(A, ...) to (S, ...)."""
    total = values.new_zeros(state.n_systems, *values.shape[1:])
    return total.index_add(0, state.batch, values)
