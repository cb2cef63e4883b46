"""Energy conservation of the model of `bench_acac.py`: drift at 0.5 fs, and fluctuation against dt².

Eight copies are warmed to 300 K by a thermostat for 0.5 ps and then run at constant energy, 2 ps at 0.5 fs;
the fluctuation is compared with that over 1 ps at 1 fs. About 4 minutes on one core.

    python scripts/bench_drift.py [--run runs/bench_acac/seed0-480s] [--json_file FILE]
"""

import json
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.data.h5md import H5MDFile
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.thermodynamics import energy_drift, energy_fluctuation
from sciwm.simulation.propagators import Langevin, Propagator, VelocityVerlet
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann


def motions(propagator: Propagator, state: State, steps: int) -> tuple[State, list[Motion]]:
    """The state after so many steps, and how each system got there."""
    result = Rollout(propagator, every=2).run(state, steps)
    broken = [reason for reason in result.reasons if reason is not None]
    if broken:
        raise ArithmeticError(f"a simulation stopped: {broken[0]}")
    return result.state, [Motion.from_frames(frames, MOLECULAR) for frames in result.frames]


def main(
    run: str = "runs/bench_acac/seed0-480s",
    start: str = "runs/bench_acac/test_300K.h5md",
    json_file: str | None = None,
) -> None:
    """Prints the figures.

    Args:
        run: The trained model.
        start: Where the copies begin.
        json_file: Where to write the figures as JSON too.
    """
    torch.set_num_threads(1)
    model = sciwm.load(run).model
    with H5MDFile(start) as file:
        frames = [file.trajectories[0].frame(k) for k in range(0, 640, 80)]
    cold = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    simulator = LearnedSimulator(model)
    langevin = Langevin(simulator, 0.5, 300.0, 0.01)
    warm, _ = motions(langevin, maxwell_boltzmann(cold, 300.0, MOLECULAR), 1000)
    _, fine = motions(VelocityVerlet(simulator, 0.5), warm, 4000)
    _, coarse = motions(VelocityVerlet(simulator, 1.0), warm, 1000)
    drifts = [energy_drift(motion) for motion in fine]
    drift = float(np.mean([d.value for d in drifts]))
    error = float(np.sqrt(np.mean([d.error**2 for d in drifts]) / len(drifts)))
    at_half = float(np.mean([energy_fluctuation(motion).value for motion in fine]))
    at_one = float(np.mean([energy_fluctuation(motion).value for motion in coarse]))
    unit = drifts[0].unit
    print(f"drift at 0.5 fs {drift:.4f} ± {error:.4f} {unit}, mean of {len(drifts)} runs of 2 ps")
    print(f"fluctuation {at_one:.4f} at 1 fs, {at_half:.4f} at 0.5 fs; dt² says a ratio of 4")
    figures = {
        "nve_drift": {"value": abs(drift), "unit": unit},
        "nve_drift_error": {"value": error, "unit": unit},
        "fluctuation_ratio": {"value": at_one / at_half, "unit": ""},
    }
    for name, figure in figures.items():
        print(name, f"{figure['value']:.4g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    auto_cli(main)
