"""`sciwm simulate`: molecular dynamics in the learned world, or with a reference simulator."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciwm.simulation.simulator import Simulator


SOME_STOPPED = 3


def simulate(
    model: str,
    start: str,
    time: str,
    *,
    out: str,
    temperature: str | None = None,
    thermostat: str | None = None,
    dt: str = "0.5",
    every: int = 10,
    frames: str = "-1",
    copies: int = 1,
    seed: int = 0,
    resume: bool = True,
    threads: int | None = None,
) -> int:
    """Simulates systems side by side and writes H5MD as it goes; the same command continues a broken run.

    Ends with status 3 if some systems stopped early; what they did until then is in the file.

    Args:
        model: A run folder, a model file, a world that comes with sciwm, such as "organic", or the
            reference "gfn2" or "emt". Several of the first separated by commas move things by their mean,
            which is what frames are then labelled with; where they disagree is not looked at.
        start: H5MD file to start from; velocities are kept where it has them and no temperature is given.
        time: How long, such as 10ps (a bare number is in the model's units).
        out: The H5MD file to write, one group per system.
        temperature: Such as 300K; without it the energy is conserved.
        thermostat: "langevin" (BAOAB), the usual one, or "csvr" (stochastic velocity rescaling).
        dt: Time step, such as 0.5fs.
        every: Steps between written frames.
        frames: Frames of each trajectory to start from: numbers or slices separated by commas, such as
            0,10 or :20 or ::5; -1 is the last, and -2: the last two.
        copies: Simulations from each of them, with their own random numbers.
        seed: Of velocities and thermostat.
        resume: Continue an unfinished `out`; otherwise it must not exist.
        threads: That evaluations of a model take. Without it, or $SCIWM_THREADS, small ones take one and
            large ones as many as pay.
    """
    from pathlib import Path

    import torch

    from sciwm.core.bounds import require_counts, require_positive, require_seed
    from sciwm.core.state import State
    from sciwm.core.units import parse_quantity
    from sciwm.data.frame_numbers import frames_named
    from sciwm.data.h5md import H5MDFile
    from sciwm.simulation.integrators import (
        CSVR,
        Integrator,
        Langevin,
        VelocityVerlet,
        steps_within,
    )
    from sciwm.simulation.rollout import Rollout
    from sciwm.simulation.thermostats import maxwell_boltzmann

    if thermostat not in (None, "langevin", "csvr"):
        raise ValueError(f'no thermostat {thermostat!r}; use "langevin" or "csvr"')
    if thermostat is not None and temperature is None:
        raise ValueError(
            f"a thermostat of {thermostat!r} needs a --temperature; without both, energy is conserved"
        )
    require_counts(copies=copies)
    require_seed(seed)
    simulator = simulator_named(model, threads)
    units = simulator.units
    with H5MDFile(start) as source:
        if source.units != units:
            raise ValueError(f"{start} is in {source.units.name} units, the model in {units.name}")
        found = [t.frame(k) for t in source.trajectories for k in frames_named(frames, len(t))]
    states = [State.from_frame(frame, torch.float64) for frame in found for _ in range(copies)]
    state = State.collate(states)
    for label in ("energy", "forces", "stress"):
        if label in state:
            del state[label]
    step = parse_quantity(dt, "time", units)
    steps = steps_within(parse_quantity(time, "time", units), step)
    integrator: Integrator = VelocityVerlet(step)
    if temperature is not None:
        kelvin = parse_quantity(temperature, "temperature", units)
        require_positive(temperature=kelvin)  # a thermostat at zero only takes motion away
        if thermostat in (None, "langevin"):
            integrator = Langevin(step, kelvin, friction=1 / (200 * step), seed=seed)
        else:
            integrator = CSVR(step, kelvin, time_constant=200 * step, seed=seed)
        state = maxwell_boltzmann(state, kelvin, units, seed)
    output = Path(out)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = Rollout(simulator, integrator, output, every).run(state, steps, resume=resume)
    for number, (done, reason) in enumerate(zip(result.steps, result.reasons, strict=True)):
        ended = "completed" if reason is None else f"stopped: {reason}"
        print(f"system {number}: {done} of {steps} steps, {ended}")
    print(f"trajectory: {output}")
    # Not 1, with which Python itself ends where it crashes.
    return 0 if all(reason is None for reason in result.reasons) else SOME_STOPPED


def simulator_named(model: str, threads: int | None = None) -> "Simulator":
    """A trained model, the mean of several, or a reference simulator, as a `Simulator`."""
    from pathlib import Path

    from sciwm.evaluation.run import shipped_worlds

    if model in ("gfn2", "emt") and threads is not None:
        raise ValueError(f"the reference {model!r} has one thread; --threads is for trained models")
    if model == "gfn2":
        from sciwm.simulation.references.xtb import GFN2

        return GFN2()
    if model == "emt":
        from sciwm.simulation.references.ase_potentials import emt

        return emt()
    from sciwm.interfaces.world import load

    # A folder may have a comma in its name.
    names = [model] if Path(model).exists() else [name.strip() for name in model.split(",")]
    for name in names:
        known = name in shipped_worlds() or Path(name or "nothing").exists()
        if len(names) > 1 and not known:
            raise FileNotFoundError(
                f"there is no run folder or model file {name!r} to take the mean of {model} with; "
                "reference simulators move things alone"
            )
    simulators = [load(name, threads).simulator() for name in names]
    if len(simulators) == 1:
        return simulators[0]
    from sciwm.simulation.ensemble import Ensemble

    return Ensemble([one.model for one in simulators])
