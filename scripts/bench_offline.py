"""What control is worth that was learned from logged motions alone, where only a tenth tells what was done.

Logs are motions of the true simulator under plans drawn at random, whose forces are all that act, as another
program would have written them. Three worlds learn from them: of all logs telling what was done, of a tenth
telling it (what was done in the others is found from their forces), and of that tenth alone. In each a policy
is learned that never saw the true simulator, and judged there by fresh runs. Returns are told as shares: 0 is
the mean of the logs', 1 that of the policy of which all logs told.

    python scripts/bench_offline.py [--tasks ions,mixture] [--seeds 5] [--json_file FILE]
"""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from sciwm.core.frame import Array, Frame
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.planning.environments.ions import ions
from sciwm.planning.environments.mixture import STIFFNESS, mixture
from sciwm.planning.environments.setting import Setting
from sciwm.planning.episodes import Episodes
from sciwm.planning.logs import worlds_from_logs
from sciwm.planning.planners.planner import drawn
from sciwm.planning.policy import ActorCritic, Lessons, returns_of
from sciwm.planning.practice import Schedule
from sciwm.planning.recording import Log
from sciwm.planning.trial import carry_out

TASKS = {"ions": ions, "mixture": mixture}
STRONGEST = {"ions": 2.0, "mixture": 1.0}
"""The field that plans are of, from less to more of it."""

LOGS, TOLD = 20, 2
SCHEDULE = Schedule(members=2, train_steps=1500, matrix_rate=0.03)
LESSONS = Lessons(batches=60, motions=64, caution=0.5)
JUDGED = range(10**7, 10**7 + 64)


def outside(task: str, setting: Setting, frame: Frame, plan: Array) -> Array:
    """(N, 3) forces from outside on a frame, written down once more, apart from what is tested."""
    stage = min(int(frame.time / setting.problem.stage + 1e-9), len(plan) - 1)
    field = np.zeros(3)
    field[: plan.shape[1]] = STRONGEST[task] * (2 * plan[stage] - 1)
    trapped = STIFFNESS * frame.positions if task == "mixture" else 0.0
    return frame.charges[:, None] * field - trapped


def recorded(task: str, setting: Setting, seed: int, folder: Path) -> tuple[list[Log], float]:
    """Logs that all tell what was done, and the mean of their returns."""
    plans = drawn(LOGS, setting.problem.controls, np.random.default_rng([seed, 7]))
    logs, returns = [], []
    for number, plan in enumerate(plans):
        within, path = folder / f"within{number}.h5md", folder / f"log{number}.h5md"
        true = carry_out(setting.problem, setting.truth, plan, [1000 * seed + number], within)
        returns.append(true.scores[0, 0])
        with H5MDFile(within) as source, H5MDWriter(path, units=source.units) as file:
            motion = source.trajectories[0]
            for k in range(motion.n_frames):
                frame = motion.frame(k)
                acting = frame.forces + outside(task, setting, frame, plan)
                file.append(frame.with_(forces=acting), group="motion")
        logs.append(Log(path, plan))
    return logs, float(np.nanmean(returns))


def learned(
    setting: Setting, logs: list[Log], seed: int, folder: Path
) -> tuple[float, list[Array]]:
    """Mean true return of a policy from these logs, and what is taken to have been done in each."""
    worlds, plans = worlds_from_logs(
        setting.problem, logs, setting.untrained, folder, seed, SCHEDULE
    )
    daring = replace(setting.problem, daring=True)
    imagined = [Episodes(daring, world, setting.observed) for world in worlds]
    agent = ActorCritic(imagined[0], seed)
    agent.improve(imagined, LESSONS)
    judge = Episodes(setting.problem, setting.truth, setting.observed)
    returns = returns_of(agent.policy, judge, JUDGED)
    if lost := int(np.isnan(returns).sum()):
        print(f"{lost} of {len(returns)} runs could not go on and are left out", flush=True)
    return float(np.nanmean(returns)), plans


def main(
    tasks: str = "ions,mixture",
    seeds: int = 5,
    json_file: str | None = None,
    folder: str = "runs/bench_offline",
) -> None:
    """Prints a row for each task.

    Args:
        json_file: Where to write the figures as JSON too.
        folder: For logs and models; made anew.
    """
    warnings.filterwarnings("ignore", message="no reference_energies")
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise SystemExit(f"{folder} holds something already; name a new folder")
    figures = {}
    for task in tasks.split(","):
        setting = TASKS[task]()
        rows: dict[str, list[float]] = {name: [] for name in ("all", "tenth", "tenth alone")}
        nulls, missed = [], []
        for seed in range(seeds):
            place = Path(folder, task, str(seed))
            place.mkdir(parents=True)
            logs, null = recorded(task, setting, seed, place)
            nulls.append(null)
            silent = [one if k < TOLD else Log(one.path) for k, one in enumerate(logs)]
            some = {"all": logs, "tenth": silent, "tenth alone": logs[:TOLD]}
            for name, given in some.items():
                value, plans = learned(setting, given, seed, place / name.replace(" ", "_"))
                rows[name].append(value)
                if name == "tenth":
                    true = np.array([one.plan for one in logs[TOLD:]])
                    missed.append(float(np.abs(np.array(plans[TOLD:]) - true).mean()))
            told = ", ".join(f"{name} {values[-1]:.3f}" for name, values in rows.items())
            print(
                f"{task}, seed {seed}: logs {null:.3f}, {told}; missed {missed[-1]:.4f}", flush=True
            )
        base, best = np.mean(nulls), np.mean(rows["all"])
        for name, values in rows.items():
            each = [float((value - base) / (best - base)) for value in values]
            figures[f"{task}_{name.replace(' ', '_')}"] = {
                "value": float(np.mean(each)),
                "each": each,
                "returns": values,
            }
            print(f"{task:10s} {name:12s} {np.mean(each):6.1%} of the return with all told")
        figures[f"{task}_logs"] = {"value": float(base), "each": nulls}
        figures[f"{task}_missed"] = {"value": float(np.mean(missed)), "each": missed}
        if json_file:
            Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    auto_cli(main)
