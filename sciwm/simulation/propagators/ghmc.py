"""Canonical averages that no error of the motion can bend."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciwm.core.random import ACCEPTANCE, RandomStreams
from sciwm.core.state import State
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.splitting import Splitting
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import kinetic_energy, temperature_of_systems


@dataclass
class Acceptance:
    """Strides that were tried, and of them, as a sum of probabilities, those accepted.

    Strides that were taken again, because another system of the batch stopped in them, count again.
    """

    tried: int = 0
    accepted: float = 0.0

    @property
    def share(self) -> float:
        """NaN before the first."""
        return self.accepted / self.tried if self.tried else math.nan


class GHMC(Splitting):
    """Langevin dynamics whose strides are accepted or refused (generalised hybrid Monte Carlo: Horowitz,
    Phys. Lett. B 268, 247 (1991); Lelièvre, Rousset & Stoltz, Free Energy Computations, algorithm 2.11).

    A stride that raises the energy by ΔE is taken with probability min(1, exp(-ΔE / k T)); otherwise
    positions stay and velocities turn round. With a motion that is reversible and preserves volume,
    averages are canonical at any stride, for the energy of its simulator.

    Args:
        motion: Reversible, and of constant energy but for the error of the stride.
        temperature: Above zero, one for all systems, or (S,).
        friction: Inverse time, in the units' time.
        seed: Of the noise, together with each system's `State.streams`.

    A system whose stride cannot be evaluated stops, as in any motion.

    Attributes:
        score: What was accepted since it was made, by it and whatever `select` and `held_at` made of it.

    Raises:
        ValueError: If the motion does not conserve energy, or the temperature is not positive.
    """

    name = "GHMC"

    def __init__(
        self, motion: Integrator, temperature: float | Tensor, friction: float, seed: int = 0
    ):
        super().__init__(motion, temperature, friction, seed)
        if not bool((torch.as_tensor(temperature) > 0).all()):
            raise ValueError(f"at a temperature of {temperature} every rise of energy is refused")
        if not isinstance(motion, Integrator) or "energy" not in motion.conserves:
            raise ValueError(
                f"{type(motion).__name__} does not conserve energy, so its strides cannot be accepted or "
                "refused by it; give VelocityVerlet or RESPA"
            )
        self._uniform = RandomStreams(seed, ACCEPTANCE)
        self.score = Acceptance()

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        assert evaluation is not None
        state = self._disturbed(state, 2 * index)
        outer = self.motion.outer_energy(state, index)
        moved, after = self.motion.advance(state, evaluation, index)
        assert after is not None
        fallen = outer - self.motion.outer_energy(moved, index)
        rise = after.energy - evaluation.energy - fallen
        rise = rise + kinetic_energy(moved, self.units) - kinetic_energy(state, self.units)
        thermal = self.units.boltzmann * temperature_of_systems(self.temperature, state)
        probability = (-rise / thermal.to(rise)).exp().clamp(max=1.0).nan_to_num(0.0)
        chosen = self._draws(index, state).to(probability) < probability
        self.score.tried += len(chosen)
        self.score.accepted += float(probability.sum())
        if not bool(chosen.all()):
            taken = chosen[state.batch][:, None]
            moved = state.moved(
                torch.where(taken, moved.positions, state.positions),
                torch.where(taken, moved.velocities, -state.velocities),
            )
            after = Evaluation(
                torch.where(chosen, after.energy, evaluation.energy),
                torch.where(taken, after.forces, evaluation.forces.to(after.forces)),
                force_error=_of_taken(chosen[state.batch], after, evaluation),
            )
        if "work" in state.fields:
            # What the kicks did holds the error of the stride, which is accepted or refused, and is no work.
            moved.work = state.work + torch.where(chosen, fallen, 0.0)
        return self._disturbed(moved, 2 * index + 1), after

    def _draws(self, index: int, state: State) -> Tensor:
        """(S,) uniform random numbers, one for each system."""
        first = torch.cumsum(state.counts, 0) - state.counts
        normal = self._uniform.at(index, state)[first, 0].double()
        return torch.special.ndtr(normal)


def _of_taken(taken: Tensor, after: Evaluation, before: Evaluation) -> Tensor | None:
    """(A,) expected errors; not numbers where those of a refused stride's start are unknown."""
    if after.force_error is None:
        return None
    known = before.force_error
    if known is None:  # checkpoints of before it was kept
        known = torch.full_like(after.force_error, math.nan)
    return torch.where(taken, after.force_error, known.to(after.force_error))
