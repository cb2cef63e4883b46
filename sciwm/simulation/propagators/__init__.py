"""What moves a state on: integrators on a simulator's forces, and the protocol they share."""

from sciwm.simulation.propagators.csvr import CSVR
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.langevin import Langevin
from sciwm.simulation.propagators.pressure import CellRescaling
from sciwm.simulation.propagators.propagator import Propagator, strides_within
from sciwm.simulation.propagators.verlet import VelocityVerlet

__all__ = [
    "CSVR",
    "CellRescaling",
    "Integrator",
    "Langevin",
    "Propagator",
    "VelocityVerlet",
    "strides_within",
]
