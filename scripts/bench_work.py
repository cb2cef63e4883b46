"""What it takes to turn the hydroxyl group of ethanol from trans to gauche at 300 K: the free-energy
difference from pulls imagined in the world that comes with sciwm, against umbrella sampling with GFN2-xTB.

All tell the same number: the free energy of a spring along H-O-C-C that rests at 60 degrees, less that of
one that rests at 180. Imagined: pulls by a moving spring both ways; Jarzynski's average of the works of each
way (Phys. Rev. Lett. 78, 2690 (1997)), and Bennett's acceptance ratio of both (J. Comput. Phys. 22, 245
(1976)). Corrected: the two ends are reweighted to GFN2-xTB by Zwanzig's average (J. Chem. Phys. 22, 1420
(1954)), for which it is asked for one energy for each pull. Umbrella sampling: springs at rest between both
ends, MBAR (Shirts & Chodera, J. Chem. Phys. 129, 124105 (2008)). The estimators are pymbar's (`pip install
pymbar`). As a null model stands the difference of the energies of the two minima in GFN2-xTB. About 20
minutes on one core.

    python scripts/bench_work.py [--json_file FILE]
"""

import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

import sciwm
from sciwm.core.frame import Array
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.simulation.actions import SteeredTorsion, acted
from sciwm.simulation.collective_variables import Torsion
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.relaxation import relax
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import Simulator
from sciwm.simulation.velocities import maxwell_boltzmann

HYDROXYL = [8, 2, 1, 0]  # H-O-C-C of "CCO"
TRANS, GAUCHE = 180.0, 60.0
STIFFNESS = 1.0  # eV per square radian
TEMPERATURE = 300.0
STEP = 1.0  # fs
FRICTION = 0.01  # 1/fs
SETTLED = 1000  # steps before anything is counted
KT = MOLECULAR.boltzmann * TEMPERATURE
KJ = 96.48533  # kJ/mol in one eV
TORSION = Torsion(HYDROXYL)


def spring(begin: float | torch.Tensor, end: float | torch.Tensor, steps: int) -> SteeredTorsion:
    return SteeredTorsion(HYDROXYL, steps * STEP, STIFFNESS, begin, end)


def turned(molecule: State, degrees: Array) -> State:
    """Copies with the hydroxyl group turned to those angles, and thermal velocities."""
    copies = []
    for one in degrees:
        atoms = molecule.to_ase()
        atoms.set_dihedral(*HYDROXYL[::-1], one, indices=HYDROXYL[:1])
        copies.append(State.from_ase(atoms))
    state = State.collate(copies)
    state.stream = torch.arange(len(copies))
    return maxwell_boltzmann(state, TEMPERATURE, MOLECULAR)


def moved(
    simulator: Simulator, state: State, action: SteeredTorsion, steps: int, seed: int
) -> tuple[State, Array]:
    """Where they come to, and (T, S) torsions on the way, in radian."""
    moving, state = acted(Langevin(simulator, STEP, TEMPERATURE, FRICTION, seed), state, [action])
    seen: list[torch.Tensor] = []

    class Looked:
        def ended(self, systems, now, evaluation, step):  # type: ignore[no-untyped-def]
            seen.append(TORSION.of(now, evaluation, simulator))
            return {}

    result = Rollout(moving, every=5, watch=Looked()).run(state, steps)
    lost = [one for one in result.reasons if one is not None]
    if lost:
        raise ArithmeticError(f"{len(lost)} of {len(result.reasons)} runs stopped: {lost[0]}")
    return result.state, np.deg2rad(np.asarray(torch.stack(seen)))


def pulled(
    simulator: Simulator, molecule: State, begin: float, end: float, copies: int, steps: int
) -> tuple[Array, State]:
    """(copies,) work of moving the spring, and the states that it was moved from."""
    state = turned(molecule, np.full(copies, begin))
    start, _ = moved(simulator, state, spring(begin, begin, SETTLED), SETTLED, 0)
    pull = spring(begin, end, steps)
    done, _ = moved(simulator, start, pull, steps, 1)
    before, after = pull.act(start, 0.0)[0], pull.act(done, steps * STEP)[0]
    return np.asarray(done.work + after - before), start  # the work begins anew with each action


def umbrella(
    reference: Simulator, molecule: State, windows: int, copies: int, steps: int
) -> tuple[float, float, int]:
    """The difference and its standard error in kT, and how often the reference was asked.

    Each copy of all windows gives a difference of its own; their spread is the error.
    """
    from pymbar import MBAR

    centers = np.linspace(TRANS, GAUCHE, windows)
    each = np.repeat(centers, copies)
    rest = spring(torch.tensor(each), torch.tensor(each), SETTLED)
    state, _ = moved(reference, turned(molecule, each), rest, SETTLED, 2)
    _, torsions = moved(reference, state, rest, steps, 3)
    counts = np.full(windows, len(torsions))
    found = []
    for copy in range(copies):
        samples = torsions[:, copy::copies].T.ravel()  # window after window
        arms = samples[None] - np.deg2rad(centers)[:, None]
        arms = (arms + np.pi) % (2 * np.pi) - np.pi
        free = MBAR(0.5 * STIFFNESS * arms**2 / KT, counts).compute_free_energy_differences()
        found.append(free["Delta_f"][0, -1])
    asked = len(each) * (SETTLED + steps)
    return float(np.mean(found)), float(np.std(found, ddof=1) / copies**0.5), asked


def reweighted(reference: Simulator, world: Simulator, state: State) -> tuple[float, float]:
    """Free energy of the reference less that of the world, in kT, and its standard error."""
    from pymbar.other_estimators import exp

    energies = reference.evaluate(state).energy.double() - world.evaluate(state).energy.double()
    least = float(energies.min())
    found = exp(np.asarray(energies - least) / KT)
    return least / KT + float(found["Delta_f"]), float(found["dDelta_f"])


def main(
    json_file: str | None = None,
    pulls: int = 96,
    steps: int = 3000,
    windows: int = 9,
    copies: int = 8,
    umbrella_steps: int = 3000,
) -> None:
    """Prints the table.

    Args:
        json_file: Where to write the figures as JSON too.
        pulls: In each direction.
        steps: Of a pull, of 1 fs.
        windows: Of umbrella sampling.
        copies: Of each window; two or more, whose spread is the error.
        umbrella_steps: Of each copy.
    """
    from pymbar.other_estimators import bar, exp

    loaded = sciwm.load("organic")
    loaded.compile()
    world = loaded.simulator()
    reference = GFN2()
    molecule = State.from_smiles("CCO")

    began = time.process_time()
    forward, at_trans = pulled(world, molecule, TRANS, GAUCHE, pulls, steps)
    backward, at_gauche = pulled(world, molecule, GAUCHE, TRANS, pulls, steps)
    imagined_seconds = time.process_time() - began
    began = time.perf_counter()
    shifts = [reweighted(reference, world, one) for one in (at_trans, at_gauche)]
    correction_seconds = time.perf_counter() - began

    began = time.perf_counter()
    true, true_error, asked = umbrella(reference, molecule, windows, copies, umbrella_steps)
    umbrella_seconds = time.perf_counter() - began
    minima = relax(reference, turned(molecule, np.array([TRANS, GAUCHE]))).state.energy
    reference.close()

    one_way, other_way = exp(forward / KT), exp(backward / KT)
    both = bar(forward / KT, backward / KT)
    between = shifts[1][0] - shifts[0][0]
    between_error = float(np.hypot(shifts[0][1], shifts[1][1]))
    rows = {
        "umbrella": (true, true_error, asked),
        "minima": (float(minima[1] - minima[0]) / KT, 0.0, 0),
        "jarzynski": (one_way["Delta_f"], one_way["dDelta_f"], 0),
        "jarzynski_back": (-other_way["Delta_f"], other_way["dDelta_f"], 0),
        "imagined": (both["Delta_f"], both["dDelta_f"], 0),
        "corrected": (
            both["Delta_f"] + between,
            float(np.hypot(both["dDelta_f"], between_error)),
            2 * pulls,
        ),
    }
    figures: dict[str, dict[str, object]] = {}
    print(f"{'':16s}{'kJ/mol':>10s}{'error':>8s}{'GFN2 asked':>12s}")
    for name, (value, error, times) in rows.items():
        value, error = float(value) * KT * KJ, float(error) * KT * KJ
        figures[name] = {"value": value, "error": error, "asked": times, "unit": "kJ/mol"}
        print(f"{name:16s}{value:10.3f}{error:8.3f}{times:12d}")
    figures["mean_work"] = {
        "value": float(forward.mean()) * KJ,
        "back": float(backward.mean()) * KJ,
        "unit": "kJ/mol",
    }
    figures["reference_seconds"] = {
        "umbrella": umbrella_seconds,
        "corrected": correction_seconds,
        "value": umbrella_seconds / correction_seconds,
    }
    figures["imagined_seconds"] = {"value": imagined_seconds, "unit": "s of processor"}
    print("mean work", figures["mean_work"])
    print("seconds", figures["reference_seconds"], figures["imagined_seconds"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    auto_cli(main)
