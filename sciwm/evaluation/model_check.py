"""The model's licence: every check on a few states, with one verdict."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciwm.core.bounds import require_positive
from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.collection import Collection
from sciwm.evaluation.checks.check import Check, Status
from sciwm.evaluation.checks.conservation import Thermal, conservation_checks, suitable_step
from sciwm.evaluation.checks.cost import cost_checks
from sciwm.evaluation.checks.derivatives import derivative_checks
from sciwm.evaluation.checks.dissociation import dissociation_checks
from sciwm.evaluation.checks.flow import flow_checks
from sciwm.evaluation.checks.smoothness import smoothness_checks
from sciwm.evaluation.checks.statistics import statistics_checks
from sciwm.evaluation.checks.symmetry import symmetry_checks
from sciwm.evaluation.evaluate import require_units
from sciwm.evaluation.table import aligned, number
from sciwm.models.construction import in_double_precision
from sciwm.models.dynamics.potential import Potential
from sciwm.models.dynamics.stride_map import StrideMap
from sciwm.models.model import Model
from sciwm.simulation.observables.motion import Motion

SYSTEMS, ATOMS = 4, 500
"""States checked, and atoms in all of them together, at most."""

ROOM_TEMPERATURE = 300.0  # K

SURVEYED = 50
"""Frames that the temperature of data in reduced units is taken from, at most."""


@dataclass(frozen=True)
class Licence:
    """The checks of a model and what they were made on.

    Attributes:
        checks: In the order they were made.
        temperature: Of the dynamics, in the model's units.
        data: The files the states come from.
    """

    checks: list[Check]
    temperature: float
    data: list[str]

    @property
    def verdict(self) -> Status:
        found = {check.status for check in self.checks}
        return "fail" if "fail" in found else "warn" if "warn" in found else "pass"

    def content(self) -> dict[str, Any]:
        """For JSON and model files; an infinite number becomes None."""
        checks = [
            {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in one.items()
            }
            for one in (asdict(check) for check in self.checks)
        ]
        return {
            "verdict": self.verdict,
            "temperature": self.temperature,
            "data": self.data,
            "checks": checks,
        }

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(self.content(), indent=1, ensure_ascii=False) + "\n")

    def __str__(self) -> str:
        rows = [["", "check", "value", "limit", "unit"]]
        for check in self.checks:
            limit = number(check.limit) if math.isfinite(check.limit) else "-"
            value = number(check.value)
            if check.error is not None:
                value += f" ± {number(check.error)}"
            rows.append([check.status, check.name, value, limit, check.unit or "-"])
        lines = [aligned(rows, left=2), ""]
        for check in self.checks:
            if check.told or check.status != "pass":
                lines.append(f"{check.status}: {check.name}: {check.explanation}")
        lines.append(f"verdict: {self.verdict}")
        return "\n".join(lines)


def check_model(model: Model, data: Collection, temperature: float | None = None) -> Licence:
    """Runs every family of checks on states spread over the data.

    Args:
        temperature: Of the dynamics; where absent 300 K, or in reduced units that of the data.

    Raises:
        ValueError: If the data is in other units, or its temperature is needed and unknown.
        UnseenSpeciesError: If the data holds a particle type the model was not trained on.
    """
    require_positive(temperature=temperature)
    require_units(model, data)
    systems, dimension = chosen_states(data)
    for system in systems:
        model.domain.require_species(system.numbers)
    if temperature is None:
        temperature = _temperature_of(data)
    model = copy.deepcopy(model).eval()  # simulators switch gradients of weights off
    families = _families(model, systems, dimension, temperature, data)
    checks: list[Check] = []
    progress = Bar(families.items(), unit="family")
    for name, family in progress:
        progress.set_description(name)
        checks += family()
    return Licence(checks, temperature, [str(path) for path in data.paths])


def _families(
    model: Model, systems: list[State], dimension: int, temperature: float, data: Collection
) -> dict[str, Callable[[], list[Check]]]:
    """What makes the checks of a kind of model, by name."""
    double = in_double_precision(model)
    if isinstance(model, StrideMap):
        assert isinstance(double, StrideMap)
        return flow_checks(model, double, systems, dimension, temperature, data)
    assert isinstance(model, Potential)
    assert isinstance(double, Potential)
    step = suitable_step(double, systems, temperature)
    thermal = Thermal(temperature, step, dimension)
    return {
        "symmetry": lambda: symmetry_checks(double, systems),
        "derivatives": lambda: derivative_checks(double, systems),
        "smoothness": lambda: smoothness_checks(double, systems),
        "dissociation": lambda: dissociation_checks(double, systems),
        "conservation": lambda: conservation_checks(model, double, systems, thermal),
        "statistics": lambda: statistics_checks(model, systems, thermal),
        "cost": lambda: cost_checks(model, systems),
    }


def chosen_states(data: Collection) -> tuple[list[State], int]:
    """States spread over the data, without labels, in float64; and the dimension they lie in."""
    spread = np.unique(np.linspace(0, len(data.frames) - 1, SYSTEMS).astype(int))
    frames = [data.frame(data.frames[k]) for k in spread]
    kept: list[Frame] = []
    atoms = 0
    for frame in frames:
        if kept and atoms + len(frame) > ATOMS:
            continue
        atoms += len(frame)
        kept.append(frame.with_(energy=None, forces=None, stress=None))
    return [State.from_frame(frame, torch.float64) for frame in kept], kept[0].dimension


def _temperature_of(data: Collection) -> float:
    """300 K, or in reduced units the kinetic temperature of the data.

    Where a time series has no velocities, differences of positions stand in for them.

    Raises:
        ValueError: If particles do not move in the data, or it is no time series either.
    """
    units = data.units
    if units is MOLECULAR:
        return ROOM_TEMPERATURE
    trajectory = data.trajectory(data.frames[0])
    known = "velocities" in trajectory.fields
    if not known and (trajectory.timestep is None or trajectory.n_frames < 2):
        raise ValueError(
            "the data has neither velocities nor times, so its temperature in reduced units is "
            "unknown; give --temperature"
        )
    first_run = int(trajectory.breaks[0]) if len(trajectory.breaks) else trajectory.n_frames
    motion = Motion.from_trajectory(trajectory, units, slice(0, min(first_run, SURVEYED)))
    velocities = motion.velocities
    if velocities is None:
        velocities = np.diff(motion.positions, axis=0) / motion.frame_spacing
    kinetic = float((motion.masses[:, None] * velocities**2).sum(axis=(1, 2)).mean())
    if kinetic == 0.0:
        raise ValueError("nothing moves in the data, so it has no temperature; give --temperature")
    return kinetic / (motion.dimension * len(motion.masses) * units.acceleration * units.boltzmann)
