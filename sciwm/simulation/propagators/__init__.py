"""What moves a state on: integrators on a simulator's forces, and the protocol they share."""

from sciwm.simulation.propagators.csvr import CSVR
from sciwm.simulation.propagators.flow import FlowPropagator
from sciwm.simulation.propagators.ghmc import GHMC
from sciwm.simulation.propagators.integrator import Integrator
from sciwm.simulation.propagators.langevin import Langevin
from sciwm.simulation.propagators.map_propagator import MapPropagator
from sciwm.simulation.propagators.mapped import MappedMotion
from sciwm.simulation.propagators.maps import strides_by
from sciwm.simulation.propagators.midpoint import MidpointPropagator
from sciwm.simulation.propagators.pressure import (
    CellRescaling,
    FullCellRescaling,
    IsotropicRescaling,
    SemiIsotropicRescaling,
)
from sciwm.simulation.propagators.propagator import Propagator, strides_within
from sciwm.simulation.propagators.respa import RESPA
from sciwm.simulation.propagators.splitting import LangevinSplitting
from sciwm.simulation.propagators.verlet import VelocityVerlet

__all__ = [
    "CSVR",
    "GHMC",
    "RESPA",
    "CellRescaling",
    "FlowPropagator",
    "FullCellRescaling",
    "Integrator",
    "IsotropicRescaling",
    "Langevin",
    "LangevinSplitting",
    "MapPropagator",
    "MappedMotion",
    "MidpointPropagator",
    "Propagator",
    "SemiIsotropicRescaling",
    "VelocityVerlet",
    "strides_by",
    "strides_within",
]
