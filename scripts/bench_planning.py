"""How many steps of the true simulator it takes to learn what to do: planned in worlds that are learned on
the way, against the cross-entropy method and PPO (Stable-Baselines3) on the true simulator.

Four tasks (`sciwm.planning.environments`), one setting for all of them. A return is told as a share: 0 is the
mean of plans drawn at random, 1 the best return known, of a long search for a plan and of long learning of a
policy in the true simulator (their steps are not counted). What each method would do is judged by fresh runs
of the true simulator, which are not counted either: imagination after each motion, from the fifth on, the
cross-entropy method after each round, by the better of its best plan and the mean of its elites, PPO after
each 512 stages. Imagination is asked for a plan, which is made beforehand, and for a policy, which sees what
comes. A motion that teaches a world gives forces at every second step, and what acts on a system from outside
(the field, the trap of the mixture) is known to imagination; the other methods see returns only.
With --second true a second task in the same system (another goal, another trap) is learned with a library
and without: it holds the plan of the first task, proved by four runs, and the motions that were made for it,
none of which are counted. About three hours on one core.

    python scripts/bench_planning.py [--tasks double_well,ions] [--second true] [--seeds 5] [--json_file FILE]
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Array
from sciwm.planning.environments.setting import Setting
from sciwm.planning.episodes import Episodes
from sciwm.planning.library import ProtocolLibrary
from sciwm.planning.planners import CrossEntropy, Round
from sciwm.planning.planners.planner import drawn
from sciwm.planning.policy import ActorCritic, Lessons, Policy, returns_of
from sciwm.planning.policy_practice import practise_policy
from sciwm.planning.practice import Schedule, practise
from sciwm.planning.search import Budget, round_of, search
from sciwm.planning.trial import Trial, carry_out

SECOND: dict[str, dict[str, object]] = {
    "double_well": {"begin": 1.0},
    "muller_brown": {"target": (0.5, 0.1)},
    "ions": {"target": (1.3, 0.7)},
    "mixture": {"stiffness": 1.15},
}
"""What is another in the second task, for which a library may know something."""

TASKS = ("double_well", "muller_brown", "ions", "mixture")
ENOUGH = 0.95
JUDGED = 32  # fresh runs
PLANNER = CrossEntropy(population=192, rounds=12, elites=12)
SCHEDULE = Schedule(first=4, rounds=10, members=2, train_steps=1500, matrix_rate=0.03)
BUDGET = {"runs": 1, "finalists": 6, "trials": 16, "caution": 0.5}
LESSONS = Lessons(batches=60, motions=64, caution=0.5)
MOST_STEPS = 60_000  # of the true simulator, for the methods without a world
POPULATIONS = (16, 64)  # of the cross-entropy method there; the best of them is told
LOOK = 512  # stages after which PPO learns, and is judged


def setting_of(task: str, **changes: object) -> Setting:
    module = import_module(f"sciwm.planning.environments.{task}")
    made: Setting = getattr(module, task)(**changes)
    return made


def judged(setting: Setting, plan: Array) -> float:
    """Mean true return of a plan."""
    seeds = range(10**7, 10**7 + JUDGED)
    return float(np.nanmean(setting.problem.run(setting.truth, plan[None], seeds).scores))


def in_imagination(
    setting: Setting,
    seed: int,
    folder: Path,
    schedule: Schedule,
    library: ProtocolLibrary | None = None,
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Steps so far, true return of the plan that was found, and what was predicted of it."""
    budget = Budget(seed=seed, **BUDGET)
    model, problem, truth = setting.untrained, setting.problem, setting.truth
    known = None if library is None else library.related_plans(problem)
    experience = [] if library is None else library.motions.of(problem, truth)
    for one in practise(
        problem, truth, model, folder, PLANNER, budget, schedule, known, experience
    ):
        if one.found is None:
            continue
        low, high = one.found.interval
        seeds = range(10**7, 10**7 + JUDGED)
        true = setting.problem.run(setting.truth, one.plan[None], seeds).scores[0]
        inside = float(((true >= low) & (true <= high)).mean())
        yield one.steps, float(np.nanmean(true)), {"inside": inside, "predicted": one.found.mean}


def led(setting: Setting, policy: Policy) -> Array:
    """True returns under a policy."""
    judge = Episodes(setting.problem, setting.truth, setting.observed)
    return returns_of(policy, judge, range(10**7, 10**7 + JUDGED))


def by_policy(
    setting: Setting, seed: int, folder: Path, schedule: Schedule
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Steps so far, true return of the policy learned in imagination, and what was predicted of it."""
    budget = Budget(seed=seed, **BUDGET)
    for one in practise_policy(
        setting.problem,
        setting.truth,
        setting.observed,
        setting.untrained,
        folder,
        budget,
        schedule,
        LESSONS,
    ):
        low, high = one.interval
        true = led(setting, one.policy)
        inside = float(((true >= low) & (true <= high)).mean())
        predicted = float(np.nanmean(one.predicted))
        yield one.steps, float(np.nanmean(true)), {"inside": inside, "predicted": predicted}


def best_plan(setting: Setting) -> float:
    """Mean true return of the best plan that a long search in the true simulator found."""
    budget = Budget(runs=4, trials=64, finalists=8, seed=99)
    planner = CrossEntropy(population=128, rounds=20, elites=16)
    return judged(setting, search(setting.problem, [setting.truth], planner, budget).plan)


def best_policy(setting: Setting) -> float:
    """The same of a policy that learned for long in the true simulator."""
    episodes = Episodes(setting.problem, setting.truth, setting.observed)
    agent = ActorCritic(episodes, seed=99)
    agent.improve([episodes], Lessons(batches=200))
    return float(np.nanmean(led(setting, agent.policy)))


def with_library(
    task: str, seed: int, folder: Path, schedule: Schedule
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """The second task, after a plan of the first proved itself in the true simulator and was kept."""
    first, second = setting_of(task), setting_of(task, **SECOND[task])
    library = ProtocolLibrary(folder / "protocols.json")
    library.path.unlink(missing_ok=True)
    budget = Budget(seed=seed, **BUDGET)
    short = replace(schedule, rounds=2)
    *_, last = practise(
        first.problem, first.truth, first.untrained, folder / "first", PLANNER, budget, short
    )
    proof = folder / "first" / "proof.h5md"
    runs = carry_out(first.problem, first.truth, last.plan, range(10**8, 10**8 + 4), proof)
    library.keep(first.problem, Trial(last.found, runs))
    for motion in sorted((folder / "first").glob("*.h5md")):
        library.motions.add(first.problem, first.truth, motion)
    yield from in_imagination(second, seed, folder / "second", schedule, library)


def by_cross_entropy(
    setting: Setting, seed: int, population: int
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """The same way of searching, in motions of the true simulator."""
    history: list[Round] = []
    steps, planner = 0, CrossEntropy(population=population, elites=max(2, population // 8), kept=2)
    while steps < MOST_STEPS:
        rng = np.random.default_rng([seed, len(history)])
        plans = planner.ask(history, setting.problem.controls, rng)
        found = setting.problem.run(setting.truth, plans, [1000 * seed + len(history)], bar=False)
        steps += found.steps
        history.append(round_of(plans, [found], 0.0))
        order = history[-1].order
        candidates = plans[order[0]], plans[order[: planner.elites]].mean(axis=0)
        yield steps, max(judged(setting, one) for one in candidates), {}


def by_ppo(setting: Setting, seed: int) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Proximal policy optimisation with its usual settings, but that it learns more often."""
    from stable_baselines3 import PPO

    from sciwm.planning.environments.motion_env import MotionEnv

    env = MotionEnv(setting.problem, setting.truth, setting.observed, first_seed=10**6 * (seed + 1))
    judge = Episodes(setting.problem, setting.truth, setting.observed)
    agent = PPO("MlpPolicy", env, n_steps=LOOK, seed=seed, device="cpu")
    while env.steps < MOST_STEPS:
        agent.learn(LOOK, reset_num_timesteps=False)
        seen = judge.begin(range(10**7, 10**7 + JUDGED))
        while not judge.over:
            actions, _ = agent.predict(seen.astype(np.float32), deterministic=True)
            seen, _ = judge.step(0.5 + 0.5 * actions)
        lost = [reason is not None for reason in judge.reasons]
        yield env.steps, float(np.nanmean(np.where(lost, np.nan, judge.worth))), {}


def first_enough(
    found: Iterator[tuple[int, float, dict[str, float]]],
    share: Callable[[float], float],
) -> tuple[int | None, float, list[dict[str, float]]]:
    """Steps until a return is enough, the best share, and what else was told."""
    when, best, told = None, -np.inf, []
    for steps, value, more in found:
        best = max(best, share(value))
        told.append(more | {"share": share(value), "steps": steps})
        if share(value) >= ENOUGH:
            when = steps
            break
    return when, best, told


def main(
    tasks: str = ",".join(TASKS),
    seeds: int = 5,
    json_file: str | None = None,
    folder: str = "runs/bench_planning",
    methods: str = "policy,imagination,cross entropy 16,cross entropy 64,PPO",
    second: bool = False,
    worlds: int = SCHEDULE.members,
) -> None:
    """Prints a row for each task and method.

    Args:
        json_file: Where to write the figures as JSON too.
        folder: For the motions and models of what is learned.
        methods: Which ways to learn are tried.
        second: Whether, instead, a second task like each is learned with a library of protocols and without;
            the best return known is that of a plan then.
        worlds: That are learned, and planned or taught in together.
    """
    schedule = replace(SCHEDULE, members=worlds)
    warnings.filterwarnings("ignore", message="no reference_energies")
    figures: dict[str, object] = {}
    for task in tasks.split(","):
        setting = setting_of(task, **(SECOND[task] if second else {}))
        known = {"plan": best_plan(setting)}
        if not second:
            known["policy"] = best_policy(setting)
        best = max(known.values())
        luck = drawn(64, setting.problem.controls, np.random.default_rng(99))
        null = float(np.nanmean(setting.problem.run(setting.truth, luck, [0, 1]).scores))

        def share(value: float, best: float = best, null: float = null) -> float:
            return (value - null) / (best - null)

        print(f"\n{task}: plans at random {null:.3f}, best known {known}", flush=True)
        figures[f"{task}{'_second' * second}_returns"] = {"random": null, "best": best, **known}
        ways: dict[str, Callable[[int], Iterator[tuple[int, float, dict[str, float]]]]] = {
            "policy": lambda seed, s=setting, t=task: by_policy(
                s, seed, Path(folder, "policy", t, str(seed)), schedule
            ),
            "imagination": lambda seed, s=setting, t=task: in_imagination(
                s, seed, Path(folder, t, str(seed)), schedule
            ),
            **{
                f"cross entropy {count}": lambda seed, s=setting, k=count: by_cross_entropy(
                    s, seed, k
                )
                for count in POPULATIONS
            },
        }
        ways["PPO"] = lambda seed, s=setting: by_ppo(s, seed)
        wanted = methods.split(",")
        if second:
            ways["library"] = lambda seed, t=task: with_library(
                t, seed, Path(folder, "library", t, str(seed)), schedule
            )
            wanted = ["imagination", "library"]
        for name in wanted:
            method = ways[name]
            rows = []
            for seed in range(seeds):
                rows.append(first_enough(method(seed), share))
                print(
                    f"  {name}, seed {seed}: {rows[-1][0]} steps, best {rows[-1][1]:.2f}",
                    flush=True,
                )
            steps = [np.inf if row[0] is None else row[0] for row in rows]
            median = float(np.median(steps))
            key = f"{task}{'_second' * second}_{name.replace(' ', '_')}"
            figures[f"{key}_steps"] = {
                "value": None if np.isinf(median) else median,
                "seeds": [None if np.isinf(one) else one for one in steps],
                "best_share": [row[1] for row in rows],
            }
            told = [one for row in rows for one in row[2] if "inside" in one]
            if told:
                figures[f"{key}_inside"] = {
                    "value": float(np.mean([one["inside"] for one in told]))
                }
            print(f"{name:16s} median {median:.0f} true steps until {ENOUGH:.0%}", flush=True)
            if json_file:
                Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)
