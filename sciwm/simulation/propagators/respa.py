"""Newton's equations with two time steps: a cheap force often, and what it lacks seldom."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sciwm.core.bounds import require_counts
from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.propagator import Conserved
from sciwm.simulation.propagators.verlet import VelocityVerlet
from sciwm.simulation.simulator import Evaluation, Simulator


class RESPA(Integrator):
    """Reversible multiple time steps (Tuckerman, Berne & Martyna, J. Chem. Phys. 97, 1990 (1992),
    equation 2.22): half a kick by what the cheap forces lack, n cheap velocity Verlet steps, half a kick.

    The energy that is conserved is the dear one's, whatever the cheap forces are; the nearer these, the
    longer the stride may be. Vibrations whose period the cheap forces miss by much set the limit: at half
    of it the kicks are in resonance with them.

    Args:
        simulator: Whose motion it is; asked once a stride.
        cheap: Asked `steps` times a stride.
        dt: The stride, in the units' time.
        steps: Cheap ones in a stride.

    Raises:
        ValueError: If the two are in different units.
    """

    conserves: frozenset[Conserved] = frozenset({"energy", "momentum", "angular momentum"})
    temperature = None

    def __init__(self, simulator: Simulator, cheap: Simulator, dt: float, steps: int):
        super().__init__(simulator, dt)
        require_counts(steps=steps)
        if cheap.units != simulator.units:
            raise ValueError(
                f"the cheap forces are in {cheap.units.name} units, those they stand in for in "
                f"{simulator.units.name}; give two of one kind"
            )
        self.cheap = cheap
        self.steps = steps
        self._inner = VelocityVerlet(cheap, dt / steps)
        # The cheap forces where the last stride ended, which is where the next begins.
        self._known: tuple[Tensor, int, Evaluation] | None = None

    def start(self, state: State) -> Evaluation:
        self._remember(state, self.cheap.evaluate(state))
        return super().start(state)

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation]:
        cheap = self._cheap_at(state)
        state = state.moved(state.positions, self._corrected(state, evaluation, cheap))
        for step in range(self.steps):
            state, cheap = self._inner.advance(state, cheap, self.steps * index + step)
        evaluation = self.simulator.evaluate(state)
        state.velocities = self._corrected(state, evaluation, cheap)
        self._remember(state, cheap)
        return state, evaluation

    def _remember(self, state: State, cheap: Evaluation) -> None:
        self._known = state.positions, state.positions._version, cheap

    def _cheap_at(self, state: State) -> Evaluation:
        known = self._known
        # The very same numbers: not another state's, nor changed in place since.
        if known is not None and known[0] is state.positions and known[1] == known[0]._version:
            return known[2]
        return self.cheap.evaluate(state)

    def _corrected(self, state: State, dear: Evaluation | None, cheap: Evaluation) -> Tensor:
        """(A, 3) velocities after what the cheap forces lack has acted for half a stride."""
        assert dear is not None
        lacking = dear.forces.to(state.velocities) - cheap.forces.to(state.velocities)
        return torch.addcdiv(state.velocities, lacking, state.masses[:, None], value=self.impulse)

    def select(self, keep: Sequence[int]) -> "RESPA":
        return RESPA(self.simulator, self.cheap, self.stride, self.steps)

    @property
    def parameters(self) -> dict[str, str | float]:
        return {
            "integrator": "RESPA",
            "dt": self.stride,
            "cheap_steps": self.steps,
            "cheap_simulator": getattr(self.cheap, "fingerprint", type(self.cheap).__name__),
        }
