"""Checks of maps that take long strides: what holds by construction, and what had to be learned.

Symmetries and conserved momenta are to hold at round-off. Energy, reversibility and the share of heat of
every element are learned, and a map that errs in them drifts, or heats one element at another's cost.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sciwm.core.rotations import random_rotation
from sciwm.core.state import State
from sciwm.data.collection import Collection
from sciwm.data.datasets import WindowDataset
from sciwm.evaluation.checks.check import Check, collated, judged, largest
from sciwm.evaluation.checks.statistics import heat_checks, stability_check
from sciwm.evaluation.checks.symmetry import BROKEN, ROUND_OFF, reordered, turned
from sciwm.models.dynamics.stride_map import StrideMap
from sciwm.models.programs.stride_program import CompiledStrideMap, accelerated_stride_map
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.propagators import LangevinSplitting, strides_by
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import SimulatorError
from sciwm.simulation.thermostats import FRICTION
from sciwm.simulation.velocities import maxwell_boltzmann, sum_by_system

COPIES = 16
"""Independent simulations, from whose scatter the errors follow."""

STRIDES = 1000
"""Of a copy."""

WINDOWS = 200
"""Of the data, at most, that one stride is compared with."""

ACCURATE, POOR = 0.05, 0.5
"""Errors of velocities after a stride, as shares of the usual change, that are no fault and that are one."""

Ends = tuple[Tensor, Tensor]


def flow_checks(
    model: StrideMap,
    double: StrideMap,
    systems: Sequence[State],
    dimension: int,
    temperature: float,
    data: Collection,
) -> dict[str, Callable[[], list[Check]]]:
    """By the name of its family, what makes the checks of a map.

    Args:
        model: As it is used.
        double: The same in float64.
        systems: One system each, in float64.
        dimension: That they lie in.
        temperature: Of the motion.
        data: What one stride is compared with, where it has velocities.
    """
    moving = [maxwell_boltzmann(one, temperature, model.units, 0) for one in systems]
    return {
        "symmetry": lambda: solvable(lambda: symmetry_checks(double, moving)),
        "conservation": lambda: solvable(lambda: conservation_checks(double, moving)),
        "accuracy": lambda: solvable(lambda: [accuracy_check(model, data)]),
        "statistics": lambda: thermal_checks(model, moving, temperature, dimension),
    }


def solvable(checks: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or one that failed because the equations of a stride have no solution."""
    try:
        return checks()
    except SimulatorError as error:
        return [Check("strides are solved", "fail", float("nan"), "", 0.0, str(error))]


def symmetry_checks(model: StrideMap, systems: Sequence[State]) -> list[Check]:
    """That systems turned, mirrored, shifted, renumbered, moving or batched otherwise move alike."""
    generator = torch.Generator().manual_seed(0)
    state = collated(systems)
    ends = _after(model, state)
    scale = _usual(model, state)

    def compared(name: str, found: Ends, expected: Ends, explanation: str) -> Check:
        apart = largest((found[1] - expected[1]) / scale)
        stride = float(model.strides[1])
        apart = max(apart, largest((found[0] - expected[0]) / (stride * scale)))
        return judged(name, apart, "", ROUND_OFF, BROKEN, explanation)

    checks = []
    for name, reflect in (("rotation", False), ("reflection", True)):
        turn = random_rotation(generator, reflect).to(state.positions)
        expected = ends[0] @ turn.T, ends[1] @ turn.T
        found = _after(model, turned(state, turn))
        checks.append(compared(name, found, expected, "what is turned so moves turned so"))
    shift, speed = torch.randn(2, 3, generator=generator, dtype=torch.float64).to(state.positions)
    shifted = state.moved(state.positions + 3.0 * shift, state.velocities)
    checks.append(
        compared(
            "translation", _after(model, shifted), (ends[0] + 3.0 * shift, ends[1]),
            "where a system is does not matter",
        )
    )  # fmt: skip
    speed = speed * scale
    boosted = state.moved(state.positions, state.velocities + speed)
    expected = ends[0] + float(model.strides[1]) * speed, ends[1] + speed
    checks.append(
        compared(
            "uniform motion", _after(model, boosted), expected, "nor how fast it moves as a whole"
        )
    )
    order = torch.randperm(state.num_nodes, generator=generator)
    order = order[torch.argsort(state.batch[order], stable=True)]
    expected = ends[0][order], ends[1][order]
    found = _after(model, reordered(state, order))
    checks.append(compared("permutation", found, expected, "the order of atoms is arbitrary"))
    alone = [_after(model, one) for one in systems]
    apart = torch.cat([one[0] for one in alone]), torch.cat([one[1] for one in alone])
    checks.append(
        compared("batch independence", ends, apart, "a batch of many moves as many batches of one")
    )
    return checks


def conservation_checks(model: StrideMap, systems: Sequence[State]) -> list[Check]:
    """Momenta, which hold by construction, and the way back, which is learned."""
    state = collated(systems)
    positions, velocities = _after(model, state)
    scale = _usual(model, state)
    masses = state.masses[:, None]
    lost = sum_by_system(masses * (velocities - state.velocities), state)
    mass = sum_by_system(masses, state)
    checks = [
        judged(
            "momentum", largest(lost / mass) / scale, "", ROUND_OFF, BROKEN,
            "a stride leaves the total momentum as it was",
        )
    ]  # fmt: skip
    free = ~state.pbc.any(dim=1)
    if bool(free.any()):
        before = sum_by_system(
            masses * torch.linalg.cross(state.positions, state.velocities), state
        )
        after = sum_by_system(masses * torch.linalg.cross(positions, velocities), state)
        size = (
            sum_by_system(masses * state.positions.square().sum(1, keepdim=True).sqrt(), state)
            * scale
        )
        checks.append(
            judged(
                "angular momentum", largest(((after - before) / size)[free]), "", ROUND_OFF, BROKEN,
                "and the angular momentum of what does not repeat",
            )
        )  # fmt: skip
    back = _after(model, state.moved(positions, -velocities))
    off = float((back[1] + state.velocities).square().mean().sqrt()) / scale
    checks.append(
        judged(
            "reversibility", off, "", 3 * ACCURATE, POOR,
            "a stride, velocities turned round, and a stride lead back: error of velocities over usual ones",
        )
    )  # fmt: skip
    return checks


def accuracy_check(model: StrideMap, data: Collection) -> Check:
    """One stride, the longest, against what the data did; a warning where the data cannot tell."""
    stride = float(model.strides[1])
    spacing = data.trajectories[0].timestep
    ahead = 0 if spacing is None else round(stride / spacing)
    fitting = spacing is not None and abs(ahead * spacing - stride) <= 1e-3 * spacing
    lacking = [one.name for one in data.trajectories if "velocities" not in one.fields]
    entries = data.windows(2, ahead) if ahead and fitting and not lacking else []
    if not entries:
        reason = (
            f"its frames are {spacing} apart" if not lacking else f"{lacking[0]} has no velocities"
        )
        return Check(
            "one stride", "warn", float("nan"), "", ACCURATE,
            f"the data cannot tell how good a stride of {stride:g} is ({reason}); give --data with "
            "trajectories like those that were trained on",
        )  # fmt: skip
    chosen = np.unique(np.linspace(0, len(entries) - 1, WINDOWS).astype(int))
    windows = WindowDataset(data, [entries[k] for k in chosen], 2, ahead)
    off, usual = [], []
    for k in range(len(windows)):
        window = windows[k]
        start = window.moved(window.path[:, 0], window.path_velocities[:, 0])
        for key in ("positions", "velocities", "masses", "charges", "total_charge", "cell"):
            start[key] = start[key].to(next(model.parameters()).dtype)
        _, found = _after(model, start)
        weight = window.masses.sqrt()[:, None]
        off.append((weight * (found - window.path_velocities[:, 1])).square().sum())
        usual.append(
            (weight * (window.path_velocities[:, 1] - window.path_velocities[:, 0])).square().sum()
        )
    value = float((torch.stack(off).sum() / torch.stack(usual).sum()).sqrt())
    return judged(
        "one stride", value, "", ACCURATE, POOR,
        f"error of velocities after {stride:g} {model.units.time} of the data, by mass, over the change that "
        "they underwent",
    )  # fmt: skip


def thermal_checks(
    model: StrideMap, systems: Sequence[State], temperature: float, dimension: int
) -> list[Check]:
    """The longest strides under a thermostat: how far they come, how warm it is, and how evenly."""
    start = collated([systems[k % len(systems)] for k in range(COPIES)])
    start = maxwell_boltzmann(start, temperature, model.units, 1)
    stride = float(model.strides[1])
    motion = LangevinSplitting(
        strides_by(accelerated_stride_map(model), stride),
        temperature,
        FRICTION[model.units.name],
        2,
    )
    result = Rollout(motion, every=5).run(start, STRIDES)
    checks = [
        stability_check(result.steps, result.reasons, STRIDES, stride, temperature, model.units)
    ]
    whole = [
        Motion.from_frames(
            [one.with_(dimension=dimension) for one in frames[len(frames) // 10 :]], model.units
        )
        for frames, reason in zip(result.frames, result.reasons, strict=True)
        if reason is None
    ]
    return [*checks, *heat_checks(whole, temperature)] if len(whole) > 1 else checks


def _after(model: StrideMap, state: State) -> Ends:
    """Positions and velocities the longest stride later."""
    motion = strides_by(CompiledStrideMap(model, None), float(model.strides[1]))
    moved, _ = motion.advance(state.clone(), None, 0)
    return moved.positions, moved.velocities


def _usual(model: StrideMap, state: State) -> float:
    """The usual speed of what is there."""
    return float(model.speeds[state.numbers].square().mean().sqrt())
