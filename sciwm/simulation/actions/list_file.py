"""Actions in a YAML file: a list, each with the name of its class and what it is given.

- Frozen: {particles: [0, 1]}
- ConstantForce: {particles: [5], force: [0.05 eV/Å, 0, 0]}
"""

from pathlib import Path
from typing import Any

from sciwm.core.construction import construct_named
from sciwm.core.yaml_text import read_yaml
from sciwm.simulation.actions.action import Action
from sciwm.simulation.actions.changes import (
    Addition,
    CellChange,
    ChargeChange,
    HeavyHydrogens,
    Ionisation,
    MassChange,
    Removal,
)
from sciwm.simulation.actions.during import During
from sciwm.simulation.actions.forces import ConstantForce, Spring, Trap, UniformField, Wall
from sciwm.simulation.actions.frozen import Frozen
from sciwm.simulation.actions.schedule import TemperatureSchedule
from sciwm.simulation.actions.steering import SteeredAngle, SteeredDistance, SteeredTorsion

ACTIONS: dict[str, type[Action]] = {
    kind.__name__: kind
    for kind in (
        Addition,
        CellChange,
        ChargeChange,
        ConstantForce,
        During,
        Frozen,
        HeavyHydrogens,
        Ionisation,
        MassChange,
        Removal,
        Spring,
        SteeredAngle,
        SteeredDistance,
        SteeredTorsion,
        TemperatureSchedule,
        Trap,
        UniformField,
        Wall,
    )
}
"""By the name that a file calls them by."""


def read_actions(path: Path) -> list[Action]:
    """The actions of a file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no list of actions.
    """
    content = read_yaml(path)
    try:
        return actions_from(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def actions_from(content: Any) -> list[Action]:
    """Actions as `Action.written` gives them.

    Raises:
        ValueError: If this is no list of actions.
    """
    if not isinstance(content, list):
        raise ValueError("actions are a list, each beginning with `- NAME:`")
    actions = []
    for one in content:
        inside = one.get(During.__name__) if isinstance(one, dict) else None
        if isinstance(inside, dict) and "actions" in inside:
            one = {During.__name__: inside | {"actions": actions_from(inside["actions"])}}
        actions.append(construct_named(one, ACTIONS, "action"))
    return actions
