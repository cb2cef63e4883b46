"""Minima as recipes start from: relaxed side by side, and still the molecule that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sciwm.core.bonds import bonds
from sciwm.core.electrons import ionised
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import failure_of
from sciwm.simulation.relaxation import relax
from sciwm.simulation.simulator import PropertySimulator, SimulatorError

FMAX = 0.05
"""eV/Å, at which a structure counts as relaxed."""

HIGHEST = 0.0
"""eV per atom. A bound molecule lies below its free electrons and nuclei; GFN2 gives large positive
energies for atoms on top of each other without complaint."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """A relaxed structure.

    Attributes:
        frame: With energy and forces.
        energy: eV.
        flag: Why the world should not be trusted there; None where it should.
    """

    frame: Frame
    energy: float
    flag: str | None


def minima(
    world: PropertySimulator, structures: Sequence[Frame], charge: int = 0, max_steps: int = 300
) -> list[Minimum | Failure]:
    """The nearest minimum of each structure, at its total charge plus `charge`: 0, +1 or -1."""
    starts = [
        State.from_frame(
            (ionised(one, charge) if charge else one).with_(energy=None, forces=None), torch.float64
        )
        for one in structures
    ]
    try:
        result = relax(world, State.collate(starts), FMAX, max_steps)
    except SimulatorError as error:
        if len(structures) == 1:
            return [failure_of(error)]
        # One that has no energy at all must not take the others along.
        return [minima(world, [one], charge, max_steps)[0] for one in structures]
    found: list[Minimum | Failure] = []
    for s, start in enumerate(structures):
        frame = result.state.frame(s).with_(smiles=start.smiles)
        energy, fmax = float(result.energy[s]), float(result.fmax[s])
        reason = result.reasons[s]
        changed = changed_bonds(start, frame)
        if not fmax < FMAX:
            reason = reason or f"not at rest after {max_steps} steps"
            found.append(Failure("relaxation", f"{reason}; the largest force is {fmax:.3g} eV/Å"))
        elif not np.isfinite(energy) or energy > HIGHEST * len(frame):
            found.append(
                Failure("calculation", f"an energy of {energy:.4g} eV is that of no molecule")
            )
        elif changed:
            found.append(Failure("connectivity", f"relaxing it {changed}"))
        else:
            # At rest in a place where the world is not to be trusted.
            found.append(Minimum(frame, energy, reason))
    return found


def changed_bonds(before: Frame, after: Frame) -> str:
    """What happened to the bond graph, in words; empty if nothing did."""
    old = {tuple(pair) for pair in bonds(before.numbers, before.positions).tolist()}
    new = {tuple(pair) for pair in bonds(after.numbers, after.positions).tolist()}
    # A long bond at the edge of the criterion is no reaction: it must be clearly broken or formed.
    parts = []
    clear = {tuple(p) for p in bonds(after.numbers, after.positions, scale=1.45).tolist()}
    if old - clear:
        parts.append("broke " + ", ".join(f"{i}-{j}" for i, j in sorted(old - clear)))
    tight = {tuple(p) for p in bonds(after.numbers, after.positions, scale=1.2).tolist()}
    if (new - old) & tight:
        parts.append("formed " + ", ".join(f"{i}-{j}" for i, j in sorted((new - old) & tight)))
    return " and ".join(parts)
