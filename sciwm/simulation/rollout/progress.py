"""How far a run has come: all that its next step depends on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciwm.core.state import State, moved, select
from sciwm.simulation.propagators import Integrator
from sciwm.simulation.simulator import Evaluation


@dataclass(frozen=True, eq=False)
class Progress:
    """All that the next step depends on; replaced whole, so that no interrupt finds it half done.

    `state`, `evaluation` and `integrator` are those of the running systems only; `whole`, `energy`,
    `forces` and `steps` hold every system, up to date for those that stopped.
    """

    step: int
    running: list[int]
    state: State
    evaluation: Evaluation
    integrator: Integrator
    whole: State
    energy: Tensor
    forces: Tensor
    start_energy: Tensor  # potential and kinetic, at step 0
    steps: list[int]
    reasons: list[str | None]

    @staticmethod
    def beginning(state: State, integrator: Integrator) -> "Progress":
        """Every system at its start, nothing evaluated yet."""
        whole = moved(state, state.positions, state.velocities)
        # Energies stay in double precision: changes of large ones matter more than their size.
        unknown = whole.positions.new_full((whole.n_systems,), torch.nan, dtype=torch.float64)
        forces = torch.full_like(whole.positions, torch.nan)
        return Progress(
            step=0,
            running=list(range(whole.n_systems)),
            state=whole,
            evaluation=Evaluation(unknown, forces),
            integrator=integrator,
            whole=whole,
            energy=unknown,
            forces=forces,
            start_energy=unknown,
            steps=[0] * whole.n_systems,
            reasons=[None] * whole.n_systems,
        )

    def merged(self) -> "Progress":
        """With every system up to date."""
        if not self.running:
            return self
        rows = _rows(self.whole, self.running)
        positions, velocities = self.whole.positions.clone(), self.whole.velocities.clone()
        energy, forces, steps = self.energy.clone(), self.forces.clone(), list(self.steps)
        positions[rows], velocities[rows] = self.state.positions, self.state.velocities
        energy[self.running] = self.evaluation.energy.to(energy)
        forces[rows] = self.evaluation.forces.to(forces)
        for s in self.running:
            steps[s] = self.step
        whole = moved(self.whole, positions, velocities)
        return replace(self, whole=whole, energy=energy, forces=forces, steps=steps)

    def without(self, stopped: dict[int, str], integrator: Integrator) -> "Progress":
        """With some of the running systems stopped where they are now.

        Args:
            stopped: Index among the running systems, and the reason.
            integrator: The one of all systems.
        """
        reasons = list(self.reasons)
        for s, reason in stopped.items():
            reasons[self.running[s]] = reason
        return replace(self.merged(), reasons=reasons).resumed(integrator)

    def resumed(self, integrator: Integrator) -> "Progress":
        """With the systems that have no reason to stop running on from `whole`."""
        running = [s for s, reason in enumerate(self.reasons) if reason is None]
        rows = _rows(self.whole, running)
        everyone = len(running) == len(self.reasons)
        return replace(
            self,
            running=running,
            state=self.whole if everyone or not running else select(self.whole, running),
            evaluation=Evaluation(self.energy[running], self.forces[rows]),
            integrator=integrator if everyone else integrator.select(running),
        )


def _rows(state: State, systems: Sequence[int]) -> Tensor:
    """Mask (A,) over the atoms of those systems."""
    chosen = torch.zeros(state.n_systems, dtype=torch.bool, device=state.batch.device)
    chosen[list(systems)] = True
    return chosen[state.batch]
