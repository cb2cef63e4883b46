"""What a world comes upon by itself: its motion at rising temperatures, up to where it is unsure.

Copies of the structure move side by side, each at a temperature of its own. A copy ends where the world
doubts itself, which is where a label teaches most; from all that was met, and from bonds turned and
stretched, those structures are asked that are the least like what is known.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sciwm.core.bounds import LARGEST_SEED
from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.learning.deformations import shaken, sound, turned_or_stretched
from sciwm.learning.diversity import farthest
from sciwm.learning.plan import Plan
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

SHARES: dict[Kind, float] = {"unsure": 0.4, "turned": 0.1, "stretched": 0.1, "heated": 1.0}
"""Of a round's questions, at most; what one kind leaves over falls to the next."""

FASTEST, SLOWEST = 0.5, 4.0
"""fs, time steps: with hydrogen, and with heavy atoms alone."""


def first_questions(structure: Frame, plan: Plan) -> list[Question]:
    """What is asked before there is a world: the structure, shaken ever harder, and with bonds changed."""
    rng = np.random.default_rng(plan.seed)
    found = [Question("000-structure", "structure", "", structure.positions)]
    wanted = plan.questions(0)
    changed = _changed(structure, plan, rng, wanted // 4)
    for k in range(wanted - len(changed) - 1):
        heat = plan.temperatures()[k * plan.copies // wanted]
        for _ in range(20):
            frame = shaken(structure, heat, rng)
            if sound(frame):
                reason = f"atoms moved as at {heat:.0f} K on modelled springs"
                found.append(Question(f"000-shaken-{k:02d}", "shaken", reason, frame.positions))
                break
    return found + _named(0, changed)


def fresh_questions(world: Potential, structure: Frame, plan: Plan, round: int) -> list[Question]:
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
    world: Potential, structure: Frame, known: Sequence[Frame], plan: Plan, round: int, count: int
) -> list[Question]:
    """What is to be asked of the places a world came to; fewer where there is not so much that is new."""
    rng = np.random.default_rng(_seed(plan, round, 1))
    temperatures = plan.temperatures()
    result = _moved(world, structure, temperatures, plan, _seed(plan, round, 2))
    met: list[tuple[Kind, str, Array]] = []
    for k, (reason, frames) in enumerate(zip(result.reasons, result.frames, strict=True)):
        heat = f"at {temperatures[k]:.0f} K"
        if reason is not None:
            end = result.state.frame(k).positions
            met.append(("unsure", f"{heat}, after {result.steps[k]} steps: {reason}", end))
        for frame in frames[1:]:
            met.append(("heated", f"{heat}, after {frame.step} steps", frame.positions))
    met += _changed(structure, plan, rng, 4 * count)
    met = [one for one in met if sound(structure.with_(positions=one[2]))]
    seen = list(known)
    chosen: list[tuple[Kind, str, Array]] = []
    for kind, share in SHARES.items():
        own = [one for one in met if one[0] == kind]
        frames = [structure.with_(positions=one[2]) for one in own]
        wanted = min(round_up(share * count), count - len(chosen))
        for index in farthest(frames, seen, wanted):
            chosen.append(own[index])
            seen.append(frames[index])
    return _named(round, chosen)


def round_up(number: float) -> int:
    """The next whole number."""
    return int(np.ceil(number))


def exploring_simulator(world: Potential) -> Simulator:
    """The world as it explores: `outside` says where it is unsure, which ends a copy."""
    return LearnedSimulator(accelerated(world))


def _moved(
    world: Potential, structure: Frame, temperatures: Sequence[float], plan: Plan, seed: int
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
    structure: Frame, plan: Plan, rng: np.random.Generator, count: int
) -> list[tuple[Kind, str, Array]]:
    return [
        ("turned" if turned else "stretched", what, frame.positions)
        for frame, turned, what in turned_or_stretched(structure, plan.temperature, rng, count)
    ]


def _named(round: int, found: Sequence[tuple[Kind, str, Array]]) -> list[Question]:
    return [
        Question(f"{round:03d}-{kind}-{k:02d}", kind, reason, places)
        for k, (kind, reason, places) in enumerate(found)
    ]


def _seed(plan: Plan, round: int, purpose: int) -> int:
    """Its own for each round and purpose."""
    return int(np.random.default_rng([plan.seed, round, purpose]).integers(LARGEST_SEED))
