"""Effects of actions that no training saw: what a world says they change, against the true simulator.

Two worlds. Charged particles: a pair potential learned from motion alone (softened family, 3 to 8 particles),
against the law that made it, by the same code. Ethanol: the world that comes with sciwm, against GFN2-xTB.
Each start is run with and without each action in both; an effect is the displacement of all particles. Errors
are |Δworld - Δtrue| / |Δtrue| at the valid prediction time, the latest frame at which without any action the
median error is below a tenth of the motion. Beside it stands what particles that do not interact would do.
The charged world is learned four times, with other seeds: effects told by all four have bounds, as those of
`World.what_if(..., others=...)`, and it is counted how many true ones they hold.
About 20 minutes on one core, most of it training.

    python scripts/bench_interventions.py [--json_file FILE]
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.core.frame import Array, Frame
from sciwm.core.state import State
from sciwm.core.units import UnitSystem
from sciwm.interfaces.what_if import likely
from sciwm.planning.environments.charges import SoftenedCoulomb
from sciwm.simulation.actions import (
    Action,
    ChargeChange,
    ConstantForce,
    During,
    Frozen,
    MassChange,
    Removal,
    SteeredTorsion,
    UniformField,
    acted,
    numbers_before,
)
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import VelocityVerlet
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.rollout.stability import Finiteness
from sciwm.simulation.simulator import Evaluation, Simulator
from sciwm.simulation.velocities import maxwell_boltzmann

WITHIN = 0.1  # of the motion, an error that a valid prediction may have
MEMBERS = 4
SOFTENING = 0.2  # of datasets/charged_nbody/recipe.py softened
CHARGED: dict[str, list[Action]] = {
    "charge turned round": [ChargeChange([0], 1.25)],
    "charge doubled": [ChargeChange([0], -2.5)],
    "particle removed": [Removal([0])],
    "particle frozen": [Frozen([0])],
    "mass tripled": [MassChange([0], 4.0)],
    "field switched on": [UniformField([0.5, 0.0, 0.0])],
    "force on one": [ConstantForce([0], [0.0, 0.5, 0.0])],
}
ETHANOL: dict[str, list[Action]] = {
    "deuterated": [MassChange([8], "2.014 u")],
    "carbon frozen": [Frozen([0])],
    "hydroxyl pulled": [ConstantForce([8], ["0.2 eV/Å", 0, 0])],
    "hydroxyl turned": [SteeredTorsion([8, 2, 1, 0], "100 fs", "2 eV", 180.0, 60.0)],
    "hydrogen removed": [Removal([3])],
    "field switched on": [UniformField(["0.05 V/Å", 0, 0])],
}
ROUNDS, STEPS = 30, 200
"""Of timing."""


class NoInteraction:
    """Particles that know nothing of one another: what an action does by itself."""

    def __init__(self, units: UnitSystem):
        self.units = units

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        still = torch.zeros_like(state.positions)
        return Evaluation(still.new_zeros(state.n_systems), still)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        return {}

    feels_fields = True

    def field_response(
        self, state: State, field: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """They have no charges."""
        still = torch.zeros_like(state.positions)
        return still.new_zeros(state.n_systems), still


def overhead(simulator: Simulator, state: State, dt: float) -> dict[str, dict[str, object]]:
    """Time of a motion that is given an empty list of actions, and of one under a force that is over before
    it acts, over that of one which knows of no actions; taken in turns."""
    never = [During(-2.0, -1.0, [ConstantForce([0], [0.1, 0.0, 0.0])])]
    lists: list[list[Action] | None] = [None, [], [*never]]
    seconds = np.zeros((ROUNDS, len(lists)))
    for number in range(ROUNDS):
        for way in np.roll(np.arange(len(lists)), number):
            done = lists[way]
            begin = time.process_time()
            propagator, start = VelocityVerlet(simulator, dt), state
            if done is not None:
                propagator, start = acted(propagator, start, done)
            Rollout(propagator, every=STEPS, guard=Finiteness(), bar=False).run(start, STEPS)
            seconds[number, way] = time.process_time() - begin
    ratios = seconds[2:, 1:] / seconds[2:, :1]
    figures: dict[str, dict[str, object]] = {}
    for name, ratio in zip(("overhead", "overhead_of_a_force_that_is_over"), ratios.T, strict=True):
        low, middle, high = (100 * (np.quantile(ratio, [0.25, 0.5, 0.75]) - 1)).tolist()
        figures[f"{name}_percent"] = {
            "value": middle,
            "quartiles": [low, high],
            "rounds": len(ratio),
        }
    return figures


def paths(
    simulator: Simulator, state: State, actions: Sequence[Action], dt: float, every: int, steps: int
) -> Array:
    """(T, S, n, 3) positions."""
    propagator, start = acted(VelocityVerlet(simulator, dt), state, actions)
    result = Rollout(propagator, every=every, guard=Finiteness()).run(start, steps)
    lost = [reason for reason in result.reasons if reason is not None]
    if lost:
        raise ArithmeticError(f"{len(lost)} of {len(result.reasons)} runs stopped: {lost[0]}")
    return np.stack([[f.positions for f in frames] for frames in result.frames], axis=1)


def compared(
    world: Simulator,
    truth: Simulator,
    state: State,
    actions: dict[str, list[Action]],
    dt: float,
    every: int,
    steps: int,
    prefix: str,
    others: Sequence[Simulator] = (),
) -> dict[str, dict[str, object]]:
    """Prints a row for each action, and returns the figures."""
    settings = dt, every, steps
    free = NoInteraction(world.units)
    plain = {name: paths(s, state, [], *settings) for name, s in named(world, truth, free)}
    moved = norm(plain["true"] - plain["true"][:1])
    wrong = np.median(norm(plain["world"] - plain["true"]) / np.maximum(moved, 1e-12), axis=1)
    wrong[0] = 0.0
    late = np.flatnonzero(wrong > WITHIN)
    at = int(late[0]) - 1 if len(late) else len(wrong) - 1
    if at == 0:
        raise ArithmeticError("no prediction is valid even at the first frame; look more often")
    latest = at * every * dt
    unit = world.units.time or "time"
    print(f"\n{prefix}: {state.n_systems} starts; valid prediction time {latest:g} {unit}")
    if at == len(wrong) - 1:
        print("(as long as was looked)")
    figures: dict[str, dict[str, object]] = {
        f"{prefix}_valid_time": {"value": latest, "unit": unit, "starts": state.n_systems}
    }
    print(
        f"{'':24s}{'error':>10s}{'90th':>10s}{'sign right':>12s}{'no interaction':>16s}{'inside':>8s}"
    )
    errors, signs, inside = [], [], []
    unmoved = [paths(one, state, [], *settings)[at] for one in others]
    for name, done in actions.items():
        kept = [k for k in numbers_before(done, int(state.counts[0])) if k is not None]
        effect = {
            which: paths(s, state, done, *settings)[at] - plain[which][at][:, kept]
            for which, s in named(world, truth, free)
        }
        size = norm(effect["true"])
        error = norm(effect["world"] - effect["true"]) / size
        null = norm(effect["free"] - effect["true"]) / size
        clear = np.abs(effect["true"]) > 0.1 * np.abs(effect["true"]).max((1, 2), keepdims=True)
        right = (np.sign(effect["world"]) == np.sign(effect["true"]))[clear].mean()
        told = ""
        if others:
            said = [
                paths(one, state, done, *settings)[at] - still[:, kept]
                for one, still in zip(others, unmoved, strict=True)
            ]
            low, high = likely(np.stack([effect["world"], *said])[:, None])
            held = (low <= effect["true"]) & (effect["true"] <= high)
            inside.append(held.mean(axis=(1, 2)))
            told = f"{inside[-1].mean():8.1%}"
        errors.append(error)
        signs.append(right)
        print(
            f"{name:24s}{np.median(error):10.3g}{np.quantile(error, 0.9):10.3g}{right:12.1%}"
            f"{np.median(null):16.3g}{told}"
        )
        key = f"{prefix}_{name.replace(' ', '_')}"
        figures[f"{key}_error"] = {"value": float(np.median(error)), "null": float(np.median(null))}
        figures[f"{key}_sign"] = {"value": float(right)}
    figures[f"{prefix}_error"] = {"value": float(np.median(np.concatenate(errors))), "unit": ""}
    figures[f"{prefix}_sign"] = {"value": float(np.mean(signs)), "unit": ""}
    if others:
        figures[f"{prefix}_inside"] = {
            "value": float(np.mean(inside)),
            "actions": {name: float(one.mean()) for name, one in zip(actions, inside, strict=True)},
        }
    return figures


def named(*simulators: Simulator) -> list[tuple[str, Simulator]]:
    return list(zip(("world", "true", "free"), simulators, strict=True))


def norm(vectors: Array) -> Array:
    """Of the displacements of all particles together."""
    return np.asarray(np.sqrt((vectors**2).sum((-1, -2))))


def charged_starts(count: int, seed: int = 99) -> State:
    """Five particles each, of the kind that training saw, with a first one of charge -1.25 and mass 1.3."""
    rng = np.random.default_rng(seed)
    states = []
    for _ in range(count):
        velocities = rng.standard_normal((5, 3))
        velocities *= 0.5 / np.linalg.norm(velocities, axis=-1, keepdims=True)
        charges = rng.uniform(0.5, 1.5, 5) * rng.choice([-1.0, 1.0], 5)
        masses = rng.uniform(0.5, 2.0, 5)
        charges[0], masses[0] = -1.25, 1.3
        frame = Frame(
            numbers=np.ones(5, dtype=np.int64),
            positions=rng.standard_normal((5, 3)),
            velocities=velocities,
            masses=masses,
            charges=charges,
        )
        states.append(State.from_frame(frame, torch.float64))
    return State.collate(states)


def of_charges(data: str, run: str, starts: int) -> dict[str, dict[str, object]]:
    """Figures of charged particles."""
    if not Path(data, "softened.h5md").is_file():
        recipe = [sys.executable, "datasets/charged_nbody/recipe.py", "softened", "--n_max", "8"]
        subprocess.run([*recipe, "--out", data], check=True)
    members = [Path(run if k == 0 else f"{run}_{k}") for k in range(MEMBERS)]
    for seed, member in enumerate(members):
        if not (member / "model.pt").is_file():
            where = ["--name", member.name, "--folder", str(member.parent), "--seed", str(seed)]
            files = ["--data.train", f"{data}/softened.h5md"]
            command = [sys.executable, "-m", "sciwm", "train", "configs/charged_nbody.yaml"]
            subprocess.run([*command, *where, *files], check=True)
    world, *others = (LearnedSimulator(sciwm.load(str(one)).model.double()) for one in members)
    state = charged_starts(starts)
    law = SoftenedCoulomb(softening=SOFTENING)
    return compared(world, law, state, CHARGED, 0.002, 50, 2500, "charged", others)


def of_ethanol(starts: int) -> dict[str, dict[str, object]]:
    """Figures of ethanol, and of what actions cost."""
    organic = LearnedSimulator(sciwm.load("organic").model.double())
    one = State.from_smiles("CCO", dtype=torch.float64)
    state = maxwell_boltzmann(State.collate([one] * starts), 300.0, organic.units, 0)
    truth = GFN2()
    figures = compared(organic, truth, state, ETHANOL, 0.5, 10, 200, "ethanol")
    truth.close()
    return figures | overhead(organic, state, 0.5)


def main(
    json_file: str | None = None,
    data: str = "runs/charged",
    run: str = "runs/charged_softened",
    starts: int = 200,
    ethanol_starts: int = 8,
    worlds: str = "charged,ethanol",
) -> None:
    """Prints the tables.

    Args:
        json_file: Where to write the figures as JSON too.
        data: Where the softened data is, or is to be made.
        run: Where the models of it are, or are to be made: the name of the first.
        starts: Of charged particles.
        ethanol_starts: Of ethanol at 300 K.
        worlds: Which of the two are asked.
    """
    figures = {}
    if "charged" in worlds.split(","):
        figures |= of_charges(data, run, starts)
    if "ethanol" in worlds.split(","):
        figures |= of_ethanol(ethanol_starts)
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure.get("unit", ""))
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)
