"""What moves a state on: integrators on a simulator's forces."""

from sciwm.simulation.propagators.csvr import CSVR
from sciwm.simulation.propagators.integrator import Integrator, steps_within
from sciwm.simulation.propagators.langevin import Langevin
from sciwm.simulation.propagators.verlet import VelocityVerlet

__all__ = ["CSVR", "Integrator", "Langevin", "VelocityVerlet", "steps_within"]
