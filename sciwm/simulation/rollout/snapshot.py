"""How far a run has come: all that its next stride depends on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciwm.core.state import State
from sciwm.simulation.propagators.propagator import Propagator
from sciwm.simulation.simulator import Evaluation


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that the next stride depends on; replaced whole, so that no interrupt finds it half done.

    `state`, `evaluation` and `propagator` are those of the running systems only; `whole`, `energy`, `forces`,
    `force_error` and `steps` hold every system, up to date for those that stopped. There is no
    evaluation, and energies and forces are not numbers, where energies play no part.
    """

    step: int
    running: list[int]
    state: State
    evaluation: Evaluation | None
    propagator: Propagator
    whole: State
    energy: Tensor
    forces: Tensor
    start_energy: Tensor  # potential and kinetic, at step 0
    steps: list[int]
    reasons: list[str | None]
    force_error: Tensor | None = None  # None where nobody tells it

    @staticmethod
    def beginning(state: State, propagator: Propagator) -> "Snapshot":
        """Every system at its start, nothing evaluated yet."""
        whole = state.moved(state.positions, state.velocities)
        # Energies stay in double precision: changes of large ones matter more than their size.
        unknown = whole.positions.new_full((whole.n_systems,), torch.nan, dtype=torch.float64)
        return Snapshot(
            step=0,
            running=list(range(whole.n_systems)),
            state=whole,
            evaluation=None,
            propagator=propagator,
            whole=whole,
            energy=unknown,
            forces=torch.full_like(whole.positions, torch.nan),
            start_energy=unknown,
            steps=[0] * whole.n_systems,
            reasons=[None] * whole.n_systems,
        )

    def merged(self) -> "Snapshot":
        """With every system up to date."""
        if not self.running:
            return self
        rows = _rows(self.whole, self.running)
        positions, velocities = self.whole.positions.clone(), self.whole.velocities.clone()
        energy, forces, steps = self.energy.clone(), self.forces.clone(), list(self.steps)
        positions[rows], velocities[rows] = self.state.positions, self.state.velocities
        cell = self.whole.cell.clone()
        cell[self.running] = self.state.cell
        if self.evaluation is not None:
            energy[self.running] = self.evaluation.energy.to(energy)
            forces[rows] = self.evaluation.forces.to(forces)
        error = self.force_error
        if self.evaluation is not None and self.evaluation.force_error is not None:
            error = forces.new_full((len(forces),), torch.nan) if error is None else error.clone()
            error[rows] = self.evaluation.force_error.to(error)
        for s in self.running:
            steps[s] = self.step
        whole = self.whole.moved(positions, velocities)
        whole.cell = cell
        if "work" in self.state:
            whole.work = self.whole.work.clone()
            whole.work[self.running] = self.state.work
        return replace(
            self, whole=whole, energy=energy, forces=forces, steps=steps, force_error=error
        )

    def without(self, stopped: dict[int, str], propagator: Propagator) -> "Snapshot":
        """With some of the running systems stopped where they are now.

        Args:
            stopped: Index among the running systems, and the reason.
            propagator: The one of all systems.
        """
        reasons = list(self.reasons)
        for s, reason in stopped.items():
            reasons[self.running[s]] = reason
        evaluated = self.evaluation is not None
        return replace(self.merged(), reasons=reasons).resumed(propagator, evaluated)

    def resumed(self, propagator: Propagator, evaluated: bool) -> "Snapshot":
        """With the systems that have no reason to stop running on from `whole`."""
        running = [s for s, reason in enumerate(self.reasons) if reason is None]
        rows = _rows(self.whole, running)
        everyone = len(running) == len(self.reasons)
        error = None if self.force_error is None else self.force_error[rows]
        evaluation = Evaluation(self.energy[running], self.forces[rows], force_error=error)
        return replace(
            self,
            running=running,
            state=self.whole if everyone or not running else self.whole.select(running),
            evaluation=evaluation if evaluated else None,
            propagator=propagator if everyone else propagator.select(running),
        )


def _rows(state: State, systems: Sequence[int]) -> Tensor:
    """Mask (A,) over the atoms of those systems."""
    chosen = torch.zeros(state.n_systems, dtype=torch.bool, device=state.batch.device)
    chosen[list(systems)] = True
    return chosen[state.batch]
