"""How many steps of the true simulator it takes to learn what to do: planned in worlds that are learned on
the way, against the cross-entropy method and PPO (Stable-Baselines3) on the true simulator.

Four tasks (`sciwm.planning.environments`), one setting for all of them. A return is told as a share: 0 is the
mean of plans drawn at random, 1 the best return known, which a long search in the true simulator found (its
steps are not counted). What each method would do is judged by fresh runs of the true simulator, which are not
counted either: imagination after each motion, from the fifth on, the cross-entropy method after each round,
by the better of its best plan and the mean of its elites, PPO after each 512 stages. A motion that teaches a
world gives forces at every second step; the other methods see returns only. With --second true a second task
like each is learned with a library of protocols and without; what the first task took, and four runs that
prove its plan, are not counted. About an hour and a half on one core.

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
from sciwm.planning.library import ProtocolLibrary
from sciwm.planning.planners import CrossEntropy, Round
from sciwm.planning.planners.planner import drawn
from sciwm.planning.practice import Schedule, practise
from sciwm.planning.search import Budget, round_of, search
from sciwm.planning.trial import Comparison

SECOND: dict[str, dict[str, object]] = {
    "double_well": {"height": 2.3},
    "muller_brown": {"target": (0.5, 0.1)},
    "ions": {"target": (1.3, 0.7)},
    "mixture": {"stiffness": 1.15},
}
"""What is another in the second task, for which a library may know something."""

TASKS = ("double_well", "muller_brown", "ions", "mixture")
ENOUGH = 0.95
JUDGED = 32  # fresh runs
PLANNER = CrossEntropy(population=192, rounds=12, elites=12)
SCHEDULE = Schedule(first=4, rounds=6, members=2, train_steps=1500, matrix_rate=0.03)
BUDGET = {"runs": 1, "finalists": 6, "trials": 16, "caution": 0.5}
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
    setting: Setting, seed: int, folder: Path, known: Array | None = None
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Steps so far, true return of the plan that was found, and what was predicted of it."""
    budget = Budget(seed=seed, **BUDGET)
    given = 0 if known is None else len(known)
    # What is known stands for some of the plans at random.
    schedule = replace(SCHEDULE, first=max(2, SCHEDULE.first - given))
    model, problem = setting.untrained, setting.problem
    for number, one in enumerate(
        practise(problem, setting.truth, model, folder, PLANNER, budget, schedule, known)
    ):
        if one.found is None:
            if number < given:
                yield one.steps, judged(setting, one.plan), {}
            continue
        low, high = one.found.interval
        seeds = range(10**7, 10**7 + JUDGED)
        true = setting.problem.run(setting.truth, one.plan[None], seeds).scores[0]
        inside = float(((true >= low) & (true <= high)).mean())
        yield one.steps, float(np.nanmean(true)), {"inside": inside, "predicted": one.found.mean}


def with_library(
    task: str, seed: int, folder: Path
) -> Iterator[tuple[int, float, dict[str, float]]]:
    """The second task, after a plan of the first proved itself in the true simulator and was kept."""
    first, second = setting_of(task), setting_of(task, **SECOND[task])
    library = ProtocolLibrary(folder / "protocols.json")
    library.path.unlink(missing_ok=True)
    budget = Budget(seed=seed, **BUDGET)
    short = replace(SCHEDULE, rounds=2)
    *_, last = practise(
        first.problem, first.truth, first.untrained, folder / "first", PLANNER, budget, short
    )
    runs = first.problem.run(first.truth, last.plan[None], range(10**8, 10**8 + 4))
    library.keep(first.problem, Comparison(last.found, runs))
    yield from in_imagination(
        second, seed, folder / "second", library.related_plans(second.problem)
    )


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
    judge = MotionEnv(setting.problem, setting.truth, setting.observed)
    agent = PPO("MlpPolicy", env, n_steps=LOOK, seed=seed, device="cpu")
    while env.steps < MOST_STEPS:
        agent.learn(LOOK, reset_num_timesteps=False)
        returns = []
        for run in range(16):
            seen, _ = judge.reset(seed=10**7 + run)
            over = False
            while not over:
                action, _ = agent.predict(seen, deterministic=True)
                seen, _, ended, cut, _ = judge.step(action)
                over = ended or cut
            returns.append(judge.worth)
        yield env.steps, float(np.mean(returns)), {}


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
    ppo: bool = True,
    second: bool = False,
) -> None:
    """Prints a row for each task and method.

    Args:
        json_file: Where to write the figures as JSON too.
        folder: For the motions and models of what is learned.
        ppo: Whether PPO is tried too.
        second: Whether, instead, a second task like each is learned with a library of protocols and without.
    """
    warnings.filterwarnings("ignore", message="no reference_energies")
    figures: dict[str, object] = {}
    for task in tasks.split(","):
        setting = setting_of(task, **(SECOND[task] if second else {}))
        long = search(
            setting.problem,
            [setting.truth],
            CrossEntropy(population=128, rounds=20, elites=16),
            Budget(runs=4, trials=64, finalists=8, seed=99),
        )
        best = judged(setting, long.plan)
        luck = drawn(64, setting.problem.controls, np.random.default_rng(99))
        null = float(np.nanmean(setting.problem.run(setting.truth, luck, [0, 1]).scores))

        def share(value: float, best: float = best, null: float = null) -> float:
            return (value - null) / (best - null)

        print(f"\n{task}: plans at random {null:.3f}, best known {best:.3f}", flush=True)
        figures[f"{task}{'_second' * second}_returns"] = {"random": null, "best": best}
        methods = {
            "imagination": lambda seed, s=setting, t=task: in_imagination(
                s, seed, Path(folder, t, str(seed))
            ),
            **{
                f"cross entropy {count}": lambda seed, s=setting, k=count: by_cross_entropy(
                    s, seed, k
                )
                for count in POPULATIONS
            },
        }
        if second:
            methods = {"imagination": methods["imagination"]}
            methods["library"] = lambda seed, t=task: with_library(
                t, seed, Path(folder, "library", t, str(seed))
            )
        elif ppo:
            methods["PPO"] = lambda seed, s=setting: by_ppo(s, seed)
        for name, method in methods.items():
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
