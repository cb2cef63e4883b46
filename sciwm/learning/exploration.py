"""What a world comes upon by itself: its motion at rising temperatures, up to where it is unsure.

Copies of the structure move side by side, each at a temperature of its own. A copy ends where the world
doubts itself, which is where a label teaches most; from all that was met, and from bonds turned and
stretched, those structures are asked that are the least like what is known.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from sciwm.core.bounds import LARGEST_SEED
from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.learning.deformations import shaken, sound, turned_or_stretched
from sciwm.learning.diversity import descriptors, farthest
from sciwm.learning.plan import RAMP, LearningPlan
from sciwm.learning.questions import Kind, Question
from sciwm.models.dynamics.potential import Potential
from sciwm.models.programs.compilation import accelerated
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.rollout import Rollout, RolloutResult
from sciwm.simulation.simulator import Simulator
from sciwm.simulation.thermostats import FRICTION
from sciwm.simulation.velocities import maxwell_boltzmann

EVERY = 20
"""Steps between looks at whether a copy should go on, and between structures that may be asked."""

UNSURE, CHANGED = 0.3, 0.1
"""Of a round's questions, at most: where copies stopped, and each of turned and stretched bonds."""

Met = tuple[Kind, str, Array]
"""A structure that may be asked: why, the same in words, and positions."""

FASTEST, SLOWEST = 0.5, 4.0
"""fs, time steps: with hydrogen, and with heavy atoms alone."""


def first_questions(structure: Frame, plan: LearningPlan) -> list[Question]:
    """What is asked before there is a world: the structure, shaken ever harder, and with bonds changed."""
    rng = np.random.default_rng(plan.seed)
    found = [Question("000-structure", "structure", "", structure.positions)]
    wanted = plan.questions(0)
    changed = _changed(structure, plan, rng, wanted // 4)
    for k in range(wanted - len(changed) - 1):
        heat = plan.temperatures(RAMP)[k * plan.copies // wanted]
        for _ in range(20):
            frame = shaken(structure, heat, rng)
            if sound(frame):
                reason = f"atoms moved as at {heat:.0f} K on modelled springs"
                found.append(Question(f"000-shaken-{k:02d}", "shaken", reason, frame.positions))
                break
    return found + _named(0, changed)


def fresh_questions(
    world: Potential, structure: Frame, plan: LearningPlan, round: int
) -> list[Question]:
    """Where copies of the structure are after moving in the world at the temperature of the goal.

    Half as many again as are needed, for those on which the reference fails. A copy that had to stop is
    taken where it stopped, and says so.
    """
    copies = plan.fresh + plan.fresh // 2
    seed = _seed(plan, round, 0)
    result = _moved(world, structure, [plan.temperature] * copies, plan, seed)
    found = []
    for k, reason in enumerate(result.reasons):
        places = result.state.frame(k).positions
        found.append(Question(f"{round:03d}-fresh-{k:02d}", "fresh", reason or "", places))
    return found


def new_questions(
    world: Potential,
    structure: Frame,
    known: Sequence[Frame],
    plan: LearningPlan,
    round: int,
    count: int,
) -> list[Question]:
    """What is to be asked of the places a world came to; fewer where there is not so much that is new."""
    rng = np.random.default_rng(_seed(plan, round, 1))
    temperatures = plan.temperatures(round)
    result = _moved(world, structure, temperatures, plan, _seed(plan, round, 2))
    met: list[tuple[str, Met]] = []
    for k, (reason, frames) in enumerate(zip(result.reasons, result.frames, strict=True)):
        heat = f"at {temperatures[k]:.0f} K"
        if reason is not None:
            told = f"{heat}, after {result.steps[k]} steps: {reason}"
            met.append(("unsure", ("unsure", told, result.state.frame(k).positions)))
        for frame in frames[1:]:
            told = f"{heat}, after {frame.step} steps"
            met.append((f"rung {k}", ("heated", told, frame.positions)))
    met += [(one[0], one) for one in _changed(structure, plan, rng, 4 * count)]
    some = math.ceil(CHANGED * count)
    order = [("unsure", math.ceil(UNSURE * count)), ("turned", some), ("stretched", some)]
    # One of each rung in turn: the hottest alone would be the least known every time.
    order += [(f"rung {k}", 1) for k in range(plan.copies)] * count
    return _named(round, _least_known(structure, met, order, known, count))


def _least_known(
    structure: Frame,
    met: Sequence[tuple[str, Met]],
    order: Sequence[tuple[str, int]],
    known: Sequence[Frame],
    count: int,
) -> list[Met]:
    """Up to `count` of what was met.

    Args:
        met: Each with the group it is in.
        order: Groups to choose from one after another, with how many each time.
    """
    frames = [structure.with_(positions=one[2]) for _, one in met]
    places = descriptors([structure, *known, *frames])
    seen, places = places[: len(known) + 1], places[len(known) + 1 :]
    groups: dict[str, list[int]] = {}
    for index, (group, _) in enumerate(met):
        if sound(frames[index]):
            groups.setdefault(group, []).append(index)
    chosen: list[int] = []
    for group, most in order:
        own = groups.get(group, [])
        taken = [own[k] for k in farthest(places[own], seen, min(most, count - len(chosen)))]
        chosen += taken
        seen = np.concatenate([seen, places[taken]])
    return [met[index][1] for index in chosen]


def exploring_simulator(world: Potential) -> Simulator:
    """The world as it explores: `outside` says where it is unsure, which ends a copy."""
    return LearnedSimulator(accelerated(world))


def _moved(
    world: Potential, structure: Frame, temperatures: Sequence[float], plan: LearningPlan, seed: int
) -> RolloutResult:
    state = State.collate([State.from_frame(structure, torch.float64)] * len(temperatures))
    heat = torch.tensor(temperatures, dtype=torch.float64)
    state = maxwell_boltzmann(state, heat, MOLECULAR, seed)
    step = time_step(state)
    langevin = Langevin(exploring_simulator(world), step, heat, FRICTION["molecular"], seed)
    return Rollout(langevin, every=EVERY).run(state, max(round(plan.time / step), EVERY))


def time_step(state: State) -> float:
    """fs, short against the vibrations of the lightest atom."""
    return float((FASTEST * state.masses.min().sqrt()).clamp(FASTEST, SLOWEST))


def _changed(
    structure: Frame, plan: LearningPlan, rng: np.random.Generator, count: int
) -> list[Met]:
    return [
        ("turned" if turned else "stretched", what, frame.positions)
        for frame, turned, what in turned_or_stretched(structure, plan.temperature, rng, count)
    ]


def _named(round: int, found: Sequence[Met]) -> list[Question]:
    return [
        Question(f"{round:03d}-{kind}-{k:02d}", kind, reason, places)
        for k, (kind, reason, places) in enumerate(found)
    ]


def _seed(plan: LearningPlan, round: int, purpose: int) -> int:
    """Its own for each round and purpose."""
    return int(np.random.default_rng([plan.seed, round, purpose]).integers(LARGEST_SEED))
