"""What a potential sees of a state: distances and directions, never positions.

Built once per evaluation from the vectors between neighbours, so that translation invariance and
periodic images are settled before any model looks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State


@dataclass(frozen=True)
class Geometry:
    """Neighbour distances and directions of all particles of a state.

    Attributes:
        numbers: (A,) atomic numbers or particle types.
        charges: (A,) charge of each particle.
        total_charge: (S,) net charge of each system.
        batch: (A,) system of each particle.
        sender: (A, K) neighbour in each slot.
        reverse: (A*K,) flat slot of the same edge seen from its other end.
        real: (A, K) bool, False in empty slots.
        distance: (A, K); `beyond` in empty slots.
        direction: (A, K, 3) unit vectors from receiver to sender.
    """

    numbers: Tensor
    charges: Tensor
    total_charge: Tensor
    batch: Tensor
    sender: Tensor
    reverse: Tensor
    real: Tensor
    distance: Tensor
    direction: Tensor

    @staticmethod
    def of(state: State, table: NeighbourTable, vectors: Tensor, beyond: float) -> "Geometry":
        """The geometry of given (differentiable) vectors to neighbours.

        Args:
            vectors: (A, K, 3) as `NeighbourTable.vectors` gives them.
            beyond: Distance to put in empty slots; where every radial function is zero.
        """
        # Empty slots point along z, so that no gradient meets a zero vector.
        filler = vectors.new_tensor([0.0, 0.0, beyond])
        vectors = torch.where(table.real[..., None], vectors, filler)
        distance = vectors.square().sum(-1).sqrt()
        return Geometry(
            numbers=state.numbers,
            charges=state.charges,
            total_charge=state.total_charge,
            batch=state.batch,
            sender=table.sender,
            reverse=table.reverse.flatten(),
            real=table.real,
            distance=distance,
            direction=vectors / distance[..., None],
        )
