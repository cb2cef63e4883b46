"""Errors of energies, forces and stress as a function of tensors alone, so that it can be compiled."""

import torch
from torch import Tensor

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.models.dynamics.potential import Potential
from sciwm.models.programs.compilation import VARYING, example, from_inputs, program_inputs

SUMS = ("energy", "energy_per_atom", "force", "stress", "virial_per_atom")
"""Squared errors in the order of `squared_errors`."""

SUM_OF_TERM = {"energy": "energy_per_atom", "force": "force", "stress": "virial_per_atom"}
"""Which of them a term of the loss is made of."""

LOSS_VARYING = (*VARYING, (0,), (0,), (0,), (0,))


def loss_inputs(model: Potential, batch: State, table: NeighbourTable) -> tuple[Tensor, ...]:
    """What `squared_errors` takes: the program's inputs, atoms per system, and labels.

    Zeros stand for labels that the batch has none of, and their sums mean nothing.
    """
    inputs = program_inputs(batch, table)
    dtype = batch.positions.dtype
    target = batch.positions.new_zeros(batch.n_systems)
    if "energy" in batch:
        target = (batch.energy - model.total_offset(batch)).to(dtype)
    forces = batch.forces if "forces" in batch else torch.zeros_like(batch.positions)
    labels = [batch.counts.to(dtype), target, forces]
    return (*inputs, *labels, batch.stress) if "stress" in batch else (*inputs, *labels)


def squared_errors(model: Potential, *inputs: Tensor, differentiable: bool = True) -> Tensor:
    """(5,) the sums named in `SUMS`, over systems and over components."""
    n = len(VARYING)
    counts, target, expected, *stresses = inputs[n:]
    state, table = from_inputs(inputs[:n])
    energy, forces, virial, _ = model.differentiated(state, table, differentiable)
    off = energy - target
    sums = [off.square().sum(), (off / counts).square().sum(), (forces - expected).square().sum()]
    for stress in stresses:
        volume = torch.linalg.det(state.cell).abs()[:, None, None]
        wrong = virial / volume - stress
        sums += [wrong.square().sum(), (wrong * volume / counts[:, None, None]).square().sum()]
    return torch.stack(sums + [sums[0].new_zeros(())] * (len(SUMS) - len(sums)))


def loss_counts(batch: State) -> dict[str, Tensor]:
    """How many numbers each term of the loss is a sum over."""
    systems = batch.positions.new_tensor(float(batch.n_systems))
    counts = {"energy": systems, "force": systems.new_tensor(float(batch.forces.numel()))}
    return counts | ({"stress": systems * 9} if "stress" in batch else {})


def labelled_example(model: Potential, stress: bool) -> tuple[Tensor, ...]:
    """Inputs of `squared_errors` to trace with."""
    state, table = example(model)
    state.energy = model.total_offset(state)
    state.forces = torch.zeros_like(state.positions)
    if stress:
        state.stress = torch.zeros_like(state.cell)
        boundless = (state.cell == 0).all(dim=2, keepdim=True)
        state.cell = torch.where(boundless, 9.0 * torch.eye(3).to(state.cell), state.cell)
    return loss_inputs(model, state, table)
