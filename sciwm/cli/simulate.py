"""`sciwm simulate`: molecular dynamics in the learned world, or with a reference simulator."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sciwm.core.frame import Frame
    from sciwm.core.units import UnitSystem
    from sciwm.models.programs.stride_program import CompiledStrideMap
    from sciwm.simulation.propagators import Propagator
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
    friction: str | None = None,
    pressure: str | None = None,
    barostat: str | None = None,
    cheap: str | None = None,
    cheap_steps: int | None = None,
    dt: str | None = None,
    every: int = 10,
    frames: str = "-1",
    copies: int = 1,
    actions: str | None = None,
    seed: int = 0,
    resume: bool = True,
    threads: int | None = None,
    device: str = "cpu",
) -> int:
    """Simulates systems side by side and writes H5MD as it goes; the same command continues a broken run.

    Ends with status 3 if some systems stopped early; what they did until then is in the file.

    Args:
        model: A run folder, a model file, a world that comes with sciwm, such as "organic", or a reference:
            "gfn1", "gfn2", "dft", "emt", the class path of another, or either with arguments, as in
            "{class_path: dft, init_args: {functional: pbe0}}". Several run folders or files separated by
            commas move things by their mean, which is what frames are then labelled with; where they
            disagree is not looked at.
        start: H5MD file to start from, of which velocities are kept where it has them and no temperature is
            given; or a SMILES, or any file that can be imported, of which the last structure is taken.
        time: How long, such as 10ps (a bare number is in the model's units).
        out: The H5MD file to write, one group per system.
        temperature: Such as 300K; without it the energy is conserved.
        thermostat: "langevin" (BAOAB), the usual one, "csvr" (stochastic velocity rescaling), or "ghmc"
            (Langevin dynamics whose steps are accepted or refused, so that averages are right at any step).
        friction: How fast the thermostat takes hold, such as 0.01/fs, which is the default (1 in reduced
            units); weaker friction disturbs the motion less.
        pressure: Such as 1bar, at which the cell fluctuates (stochastic cell rescaling).
        barostat: What may change of the cell: its size (isotropic, the usual one), its area and its length
            along z (semi-isotropic), or all lengths and angles (full).
        cheap: A model whose forces stand in for those of the first within a time step, which is then a
            stride of several (reversible multiple time steps); or a generating map, whose strides are
            accepted or refused by the first one's energy (thermostat ghmc, no cheap steps).
        cheap_steps: How many steps with the cheap forces make up a time step.
        dt: Time step, such as 0.5fs, which is the usual one; of a flow map a stride that it was trained
            on, the longest where absent.
        every: Steps between written frames.
        frames: Frames of each trajectory to start from: numbers or slices separated by commas, such as
            0,10 or :20 or ::5; -1 is the last, and -2: the last two. Of H5MD files only.
        copies: Simulations from each of them, with their own random numbers.
        actions: YAML file with a list of what is done to the systems meanwhile: forces, fields, steering,
            temperature schedules, frozen particles, changes of who is there.
        seed: Of velocities, thermostat, and the conformer of a SMILES.
        resume: Continue an unfinished `out`; otherwise it must not exist.
        threads: That evaluations of a model take. Without it, or $SCIWM_THREADS, small ones take one and
            large ones as many as pay.
        device: "cpu", or "cuda" or "cuda:1" for a GPU.
    """
    from pathlib import Path

    import torch

    from sciwm.core.bounds import require_counts, require_seed
    from sciwm.core.state import State
    from sciwm.core.units import parse_quantity
    from sciwm.interfaces.motion import MotionSettings
    from sciwm.simulation.actions import acted, read_actions
    from sciwm.simulation.propagators import GHMC, strides_within
    from sciwm.simulation.references.registry import names_reference
    from sciwm.simulation.rollout import Rollout
    from sciwm.simulation.velocities import maxwell_boltzmann

    require_counts(copies=copies)
    require_seed(seed)
    motion = MotionSettings(
        dt, temperature, thermostat, friction, pressure,
        None if cheap is None else stand_in_named(cheap, threads, device), cheap_steps, seed, barostat,
    )  # fmt: skip
    if cheap is not None and names_reference(model):  # the options are the cheap model's
        mover = mover_named(model)
    else:
        mover = mover_named(model, threads, device)
    units = mover.units
    found = starting_frames(start, frames, units, seed)
    states = [State.from_frame(frame, torch.float64) for frame in found for _ in range(copies)]
    state = State.collate(states).to(device)
    for label in ("energy", "forces", "stress"):
        if label in state:
            del state[label]
    moving = motion.propagator(mover)
    steps = strides_within(parse_quantity(time, "time", units), moving.stride)
    kelvin = motion.kelvin(units)
    if kelvin is not None:
        state = maxwell_boltzmann(state, kelvin, units, seed)
    done_to_it = read_actions(Path(actions)) if actions is not None else []
    propagator, state = acted(moving, state, done_to_it)
    output = Path(out)
    output.parent.mkdir(parents=True, exist_ok=True)
    result = Rollout(propagator, output, every).run(state, steps, resume=resume)
    for number, (done, reason) in enumerate(zip(result.steps, result.reasons, strict=True)):
        ended = "completed" if reason is None else f"stopped: {reason}"
        print(f"system {number}: {done} of {steps} steps, {ended}")
    if isinstance(propagator, GHMC) and propagator.score.tried:
        print(
            f"accepted: {propagator.score.share:.1%} of {propagator.score.tried} steps, this time"
        )
    told = strides_told(moving)
    if told:
        print(told)
    print(f"trajectory: {output}")
    for line in expected_errors(output, units):
        print(line)
    # Not 1, with which Python itself ends where it crashes.
    return 0 if all(reason is None for reason in result.reasons) else SOME_STOPPED


def strides_told(moving: "Propagator") -> str:
    """For how many strides of a generating map no solution was found; empty of other motions."""
    from sciwm.simulation.propagators import MappedMotion, MidpointPropagator
    from sciwm.simulation.propagators.splitting import Splitting

    inner = moving.motion if isinstance(moving, Splitting) else moving
    judged = isinstance(inner, MappedMotion)
    strides = inner.strides if isinstance(inner, MappedMotion) else inner
    if not isinstance(strides, MidpointPropagator) or not strides.solutions.taken:
        return ""
    count, done = strides.solutions, "refused" if judged else "taken in parts"
    return f"{done} for want of a solution: {count.unsolved} of {count.taken} strides, this time"


def starting_frames(start: str, frames: str, units: "UnitSystem", seed: int) -> "list[Frame]":
    """What to start from: chosen frames of an H5MD file, or the one structure of anything else.

    Args:
        seed: Of the conformer of a SMILES.
    """
    from pathlib import Path

    from sciwm.core.units import MOLECULAR
    from sciwm.data.frame_numbers import frames_named
    from sciwm.data.h5md import H5MDFile
    from sciwm.data.importers.detection import detect
    from sciwm.data.importers.h5md import H5MD
    from sciwm.learning.structures import structure_from

    if Path(start).is_file() and isinstance(detect(Path(start)), H5MD):
        with H5MDFile(start) as source:
            if source.units != units:
                raise ValueError(
                    f"{start} is in {source.units.name} units, the model in {units.name}"
                )
            return [t.frame(k) for t in source.trajectories for k in frames_named(frames, len(t))]
    if frames != "-1":
        raise ValueError(
            f"--frames {frames} chooses from H5MD files, and {start!r} is none; `sciwm import` makes one, or "
            "leave the option out to start from its last structure"
        )
    if units is not MOLECULAR:
        raise ValueError(
            f"the model is in {units.name} units, so it starts from an H5MD file of particles, not {start!r}"
        )
    return [structure_from(start, seed)]


def expected_errors(output: "Path", units: "UnitSystem") -> list[str]:
    """How wrong the forces of each system may have been, where the model can tell."""
    import numpy as np

    from sciwm.core.properties import property_field
    from sciwm.data.h5md import H5MDFile
    from sciwm.evaluation.metrics import reported_in

    field = property_field("force_error")
    unit, factor = reported_in("force", units)
    lines = []
    with H5MDFile(output) as file:
        for trajectory in file.trajectories:
            if field not in trajectory.fields:
                continue
            errors = factor * trajectory.read(field)
            worst = np.unravel_index(int(errors.argmax()), errors.shape)
            lines.append(
                f"{trajectory.name}: expected error of forces {np.sqrt(np.mean(errors**2)):.3g} {unit}, "
                f"at most {errors.max():.3g} on atom {worst[1]} in frame {worst[0]}"
            )
    return lines


def mover_named(
    model: str, threads: int | None = None, device: str = "cpu"
) -> "Simulator | CompiledStrideMap":
    """As `simulator_named`, or a flow map."""
    from pathlib import Path

    from sciwm.evaluation.run import shipped_worlds
    from sciwm.simulation.references.registry import names_reference

    if not names_reference(model) and (model in shipped_worlds() or Path(model).exists()):
        from sciwm.interfaces.world import load

        return load(model, threads, device).mover()
    return simulator_named(model, threads, device)


def stand_in_named(
    model: str, threads: int | None = None, device: str = "cpu"
) -> "Simulator | CompiledStrideMap":
    """What is cheaper than forces of its kind: other ones, or a map whose strides may be refused."""
    from sciwm.models.dynamics.generating_map import GeneratingMap
    from sciwm.models.programs.stride_program import CompiledStrideMap

    mover = mover_named(model, threads, device)
    if isinstance(mover, CompiledStrideMap) and not isinstance(mover.model, GeneratingMap):
        return simulator_named(model, threads, device)  # which says what is missing
    return mover


def simulator_named(model: str, threads: int | None = None, device: str = "cpu") -> "Simulator":
    """A trained model, the mean of several, or a reference simulator, as a `Simulator`."""
    from pathlib import Path

    from sciwm.evaluation.run import shipped_worlds
    from sciwm.simulation.references.registry import (
        names_reference,
        reference_from,
        references_known,
    )

    if names_reference(model):
        if threads is not None:
            raise ValueError(
                f"the reference {model!r} has one thread; --threads is for trained models"
            )
        if device != "cpu":
            raise ValueError(
                f"the reference {model!r} does not run on {device!r}; --device is for trained models"
            )
        return reference_from(model)
    from sciwm.interfaces.world import load
    from sciwm.models.programs.stride_program import CompiledStrideMap

    # A folder may have a comma in its name.
    names = [model] if Path(model).exists() else [name.strip() for name in model.split(",")]
    for name in names:
        if name in shipped_worlds() or Path(name or "nothing").exists():
            continue
        if len(names) > 1:
            raise FileNotFoundError(
                f"there is no run folder or model file {name!r} to take the mean of {model} with; "
                "reference simulators move things alone"
            )
        raise FileNotFoundError(
            f"there is no run folder or model file {model!r}, and no reference or shipped world of that "
            f"name; worlds are {', '.join(shipped_worlds())}, {references_known()}"
        )
    worlds = [load(name, threads, device) for name in names]
    for name, world in zip(names, worlds, strict=True):
        if isinstance(world.mover(), CompiledStrideMap):
            raise ValueError(
                f"{name} is a flow map, which has no forces to take a mean of or to stand in for others"
            )
    simulators = [world.simulator() for world in worlds]
    if len(simulators) == 1:
        return simulators[0]
    from sciwm.simulation.ensemble import Ensemble

    return Ensemble([one.model for one in simulators])
