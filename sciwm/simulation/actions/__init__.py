"""What can be done to a system while it is simulated, by a learned world or a reference alike."""

from sciwm.simulation.actions.action import Action, Change, Force
from sciwm.simulation.actions.changes import (
    Addition,
    CellChange,
    ChargeChange,
    HeavyHydrogens,
    Ionisation,
    MassChange,
    Removal,
    numbers_before,
)
from sciwm.simulation.actions.driven import Driven, acted
from sciwm.simulation.actions.during import During
from sciwm.simulation.actions.forces import ConstantForce, Spring, Trap, UniformField, Wall
from sciwm.simulation.actions.frozen import Frozen
from sciwm.simulation.actions.kicks import Kicked, outer_forces
from sciwm.simulation.actions.list_file import actions_from, read_actions
from sciwm.simulation.actions.schedule import TemperatureSchedule
from sciwm.simulation.actions.steering import SteeredAngle, SteeredDistance, SteeredTorsion

__all__ = [
    "Action",
    "Addition",
    "CellChange",
    "Change",
    "ChargeChange",
    "ConstantForce",
    "Driven",
    "During",
    "Force",
    "Frozen",
    "HeavyHydrogens",
    "Ionisation",
    "Kicked",
    "MassChange",
    "Removal",
    "Spring",
    "SteeredAngle",
    "SteeredDistance",
    "SteeredTorsion",
    "TemperatureSchedule",
    "Trap",
    "UniformField",
    "Wall",
    "acted",
    "actions_from",
    "numbers_before",
    "outer_forces",
    "read_actions",
]
