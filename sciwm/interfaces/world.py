"""A trained model to ask questions of: `world = sciwm.load("runs/acac")`."""

import copy
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import numpy as np
import torch
from ase import Atoms

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Frame
from sciwm.core.random import NUDGES, RandomStreams
from sciwm.core.state import State, atoms_from_frame
from sciwm.core.units import UnitSystem, parse_quantity
from sciwm.evaluation.run import model_file
from sciwm.interfaces.calculator import SciwmCalculator
from sciwm.interfaces.motion import MotionSettings
from sciwm.interfaces.what_if import WhatIf
from sciwm.models import archive
from sciwm.models.archive import Archive
from sciwm.models.domain import OutsideDomainWarning
from sciwm.models.dynamics.potential import Potential
from sciwm.models.dynamics.stride_map import StrideMap
from sciwm.models.programs.compilation import accelerated, compile_model
from sciwm.models.programs.stride_program import (
    CompiledStrideMap,
    accelerated_stride_map,
    compile_stride_map,
)
from sciwm.simulation.actions import Action, acted, numbers_before
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import Propagator, strides_within
from sciwm.simulation.relaxation import relax
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import maxwell_boltzmann

System = State | Frame | Atoms | str
"""A state, a frame (of a file, or the last of a motion that is to go on), an ASE Atoms, or a SMILES."""


def load(path: str | os.PathLike[str], threads: int | None = None, device: str = "cpu") -> "World":
    """The model of a run folder, a model file, or a world that comes with sciwm, such as "organic".

    Args:
        threads: See `World`.
        device: "cpu", or "cuda" for a GPU, which pays from some hundred molecules or atoms on.

    Raises:
        FileNotFoundError: If there is none.
        sciwm.models.archive.ModelFileError: If it cannot be read.
        ValueError: If torch cannot use that device here.
    """
    return World(archive.load(model_file(path), usable_device(device)), threads)


def usable_device(name: str) -> str:
    """The same name.

    Raises:
        ValueError: If torch cannot use a device of that name here.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if not found:
        raise ValueError(f'device {name!r} is not known; use "cpu", "cuda" or "cuda:1"')
    if name != "cpu" and int(found[1] or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"torch finds {torch.cuda.device_count()} GPUs here, so {name!r} cannot be used; "
            "`sciwm doctor` says more"
        )
    return name


class World:
    """A learned world: ask it for energies, or let it imagine what happens next.

    Args:
        source: The model and its origin.
        threads: That evaluations take. Without it, or $SCIWM_THREADS, small ones take one and large ones
            as many as pay, of those that torch may use; what else torch does keeps those it had.
    """

    def __init__(self, source: Archive, threads: int | None = None):
        self.archive = source
        self.model = source.model
        self._warned = False
        self.threads = threads
        self._mover: Potential | CompiledStrideMap
        if isinstance(source.model, StrideMap):
            self._use(accelerated_stride_map(source.model))
        else:
            self._use(accelerated(source.potential, threads))

    @property
    def units(self) -> UnitSystem:
        """What its numbers are in."""
        return self.model.units

    def compile(self) -> None:
        """Builds a program for this model, which takes a minute and is found again by later sessions.

        Evaluations and simulations are then faster and give the same numbers. Where several `threads` were
        asked for, here or by $SCIWM_THREADS, a second one is built that spreads its loops over them.

        Raises:
            sciwm.models.programs.tracing.CompilationError: If it cannot be built, such as without a compiler.
        """
        if isinstance(self.model, StrideMap):
            self._use(compile_stride_map(self.model))
        else:
            self._use(compile_model(self.archive.potential, self.threads))

    def mover(self) -> LearnedSimulator | CompiledStrideMap:
        """What moves systems: its forces, or its strides."""
        if isinstance(self._mover, CompiledStrideMap):
            return self._mover
        return LearnedSimulator(self._mover)

    def simulator(self) -> LearnedSimulator:
        """For integrators, rollouts and relaxation.

        Raises:
            ValueError: If it has no energies, as a flow map.
        """
        return LearnedSimulator(self._potential)

    def evaluate(self, system: System, stress: bool = False) -> Evaluation:
        """Energies, forces and, if asked for, stress; warns once if training did not cover a system."""
        simulator, state = self.simulator(), self.state(system)
        found = simulator.evaluate(state, stress)
        if self._warned:
            return found
        for index, reason in list(simulator.outside(state, found).items())[:1]:
            self._warned = True
            warnings.warn(
                f"training did not cover system {index}: {reason}. Its energy and forces may be wrong by any "
                "amount; train on data that has the like (said once)",
                OutsideDomainWarning,
                stacklevel=3,
            )
        return found

    def energy(self, system: System) -> float:
        """Potential energy of one system."""
        return float(self.evaluate(system).energy[0])

    def forces(self, system: System) -> np.ndarray:
        """(N, 3) forces on one system or several."""
        return self.evaluate(system).forces.double().cpu().numpy()

    def calculator(self) -> SciwmCalculator:
        """For ASE."""
        return SciwmCalculator(self._potential)

    def relax(
        self,
        system: System,
        fmax: float = 0.01,
        max_steps: int = 500,
        max_seconds: float | None = None,
    ) -> Atoms:
        """The nearest minimum of the learned energy.

        Args:
            max_seconds: Wall time after which no further step is begun.

        Raises:
            ArithmeticError: If forces do not fall below `fmax` within those limits.
        """
        state = self.state(system)
        result = relax(self.simulator(), state, fmax, max_steps, max_seconds=max_seconds)
        if not bool(result.converged.all()):
            worst = int(result.fmax.argmax())
            reason = result.reasons[worst] or f"{max_steps} steps were not enough"
            raise ArithmeticError(
                f"not relaxed: {reason}; the largest force is {float(result.fmax[worst]):.3g} "
                f"{self.units.force}. Allow more, or start nearer"
            )
        return result.state.to_ase()

    def imagine(
        self,
        system: System,
        time: str | float,
        temperature: str | float | None = None,
        dt: str | float | None = None,
        every: int = 4,
        seed: int = 0,
        friction: str | float | None = None,
        actions: Sequence[Action] = (),
    ) -> "Imagination":
        """Molecular dynamics in the learned world; of a flow map, its long strides.

        A motion that goes on from the last frame of another begins its time anew, and needs another seed
        where a thermostat draws, or else it draws the same once more.

        Args:
            system: Where to start. Without velocities, and with a temperature, it is given thermal ones.
            time: How long, such as "2ps"; a bare number is in the model's units.
            temperature: Of a Langevin thermostat; without one, energy is conserved.
            dt: Time step: 0.5 where absent, and of a flow map its longest stride.
            every: Steps between frames.
            seed: Of velocities and thermostat.
            friction: Of the thermostat, such as "0.002/fs"; by default 0.01/fs, or 1 in reduced units.
            actions: What is done to it from then on (see `sciwm.simulation.actions`).

        Raises:
            ValueError: If an action cannot be taken on this system.
            KeyboardInterrupt: If it is stopped; its frames are dropped, the world stays as it was.
        """
        motion = MotionSettings(dt, temperature, friction=friction, seed=seed)
        propagator, state = self._started(motion, self.state(system))
        steps = self._strides(time, propagator)
        propagator, state = acted(propagator, state, actions)
        result = Rollout(propagator, every=every).run(state, steps)
        return Imagination(result.frames[0], result.reasons[0], self.units)

    def what_if(
        self,
        system: System,
        time: str | float,
        actions: Sequence[Action],
        temperature: str | float | None = None,
        dt: str | float | None = None,
        every: int = 4,
        seeds: int = 8,
        friction: str | float | None = None,
        resolution: str | float = 0.001,
        others: Sequence["World"] = (),
    ) -> "WhatIf":
        """What actions change: the same runs with and without them, under the same random numbers.

        Args:
            system: As for `imagine`.
            time: How long.
            actions: What is done (see `sciwm.simulation.actions`).
            temperature: Of a Langevin thermostat, and of velocities where the system has none; without it,
                energy is conserved.
            dt: Time step: 0.5 where absent, and of a flow map its longest stride.
            every: Steps between frames.
            seeds: Runs, which differ in velocities and noise wherever these are drawn.
            friction: Of the thermostat.
            resolution: A length: how well the start is known. Twins whose particles are displaced by it at
                random (root mean square), and that nobody acts on, show for how long anything can be said.
            others: More worlds to ask the same, such as members of an ensemble: where they disagree, the
                interval of an effect is wider.

        Raises:
            ValueError: If an action cannot be taken on this system, or another world has other units.
        """
        require_counts(seeds=seeds)
        worlds = [self, *others]
        for one in others:
            if one.units != self.units:
                raise ValueError(
                    f"worlds that are asked together share their units; got {self.units.name} and "
                    f"{one.units.name}"
                )
        motion = MotionSettings(dt, temperature, friction=friction)
        away = parse_quantity(str(resolution), "length", self.units)
        without, done, twins = list[list[Frame]](), list[list[Frame]](), list[list[Frame]]()
        stopped: list[str | None] = []
        for world in worlds:
            propagator, state = world._started(motion, State.collate([world.state(system)] * seeds))
            steps = world._strides(time, propagator)
            acting, changed = acted(propagator, state, actions)
            rollout = Rollout(propagator, every=every)
            without += rollout.run(state, steps).frames
            nudges = RandomStreams(0, NUDGES).at(0, state).to(state.positions)
            moved = state.positions + away / 3**0.5 * state.within_dimensions(nudges)
            twins += rollout.run(state.moved(moved, state.velocities), steps).frames
            result = Rollout(acting, every=every).run(changed, steps)
            done += result.frames
            stopped += result.reasons
        before = numbers_before(actions, int(state.counts[0]))
        return WhatIf(without, done, twins, before, stopped, self.units, len(worlds))

    def _started(self, motion: MotionSettings, state: State) -> tuple[Propagator, State]:
        """What moves a state, and the state with thermal velocities where it has none."""
        kelvin = motion.kelvin(self.units)
        if kelvin is not None and not bool(state.velocities.any()):
            state = maxwell_boltzmann(state, kelvin, self.units, motion.seed)
        return motion.propagator(self.mover()), state

    def _strides(self, time: str | float, propagator: Propagator) -> int:
        return strides_within(parse_quantity(str(time), "time", self.units), propagator.stride)

    def _use(self, mover: Potential | CompiledStrideMap) -> None:
        self._mover = mover
        model = mover.model if isinstance(mover, CompiledStrideMap) else mover
        model.threads = self.threads

    @property
    def _potential(self) -> Potential:
        if isinstance(self._mover, CompiledStrideMap):
            return self.archive.potential  # which says that there is none
        return self._mover

    def state(self, system: System) -> State:
        """Any of the accepted descriptions as a state, in the model's precision and where it is."""
        weight = next(self.model.parameters())
        if isinstance(system, str):
            system = State.from_smiles(system, dtype=weight.dtype)
        if isinstance(system, Atoms):
            system = State.from_ase(system, dtype=weight.dtype)
        if isinstance(system, Frame):
            _require_finite(system)
            system = State.from_frame(system, dtype=weight.dtype)
        # Of PyG, `to` moves what it is called on.
        return copy.copy(system).to(weight.device)

    def __repr__(self) -> str:
        kind = type(self.model).__name__
        size = sum(p.numel() for p in self.model.parameters())
        species = torch.nonzero(self.model.domain.seen)[:, 0].tolist()
        return f"World({kind}, {size:,} parameters, cutoff {self.model.cutoff:g}, types {species})"


def _require_finite(frame: Frame) -> None:
    """Raises ValueError if a frame, which a file may have been the source of, is not all numbers."""
    for name in ("positions", "velocities", "masses", "charges", "cell", "total_charge"):
        value = getattr(frame, name)
        if value is None:
            continue
        if not np.isfinite(value).all():
            raise ValueError(f"{name} of a frame to start from are not all finite numbers: {value}")
        if name in ("velocities", "masses", "charges") and len(frame) != len(value):
            raise ValueError(
                f"a frame to start from has {len(frame)} particles and {len(value)} {name}"
            )


@dataclass(frozen=True, eq=False)
class Imagination:
    """A trajectory that a world imagined; a notebook shows it as a picture.

    Attributes:
        frames: With time, energy and velocities.
        stopped: Why it ended early; None if it did not.
        units: What the numbers are in.
    """

    frames: list[Frame]
    stopped: str | None
    units: UnitSystem

    @cached_property
    def atoms(self) -> list[Atoms]:
        """The frames for ASE, such as for `ase.visualize.view`."""
        return [atoms_from_frame(frame) for frame in self.frames]

    @property
    def times(self) -> np.ndarray:
        """(T,) in the units' time."""
        return np.array([frame.time for frame in self.frames], dtype=float)

    @property
    def energies(self) -> np.ndarray:
        """(T,) potential energy of each frame."""
        return np.array([frame.energy for frame in self.frames], dtype=float)

    def __repr__(self) -> str:
        ended = f"; stopped: {self.stopped}" if self.stopped else ""
        unit = f" {self.units.time}".rstrip()
        last = f", {self.times[-1]:g}{unit}" if self.frames else ""
        return f"Imagination({len(self.frames)} frames{last}{ended})"

    def distance(self, first: int, second: int) -> np.ndarray:
        """(T,) distance between two particles in each frame."""
        return np.array(
            [
                np.linalg.norm(frame.positions[first] - frame.positions[second])
                for frame in self.frames
            ]
        )

    def _repr_png_(self) -> bytes:
        from sciwm.report.plots import time_series

        figure = time_series(
            self.times,
            {"potential energy": self.energies - self.energies[0]},
            x_label=f"time ({self.units.time})" if self.units.time else "time",
            y_label=f"energy change ({self.units.energy})"
            if self.units.energy
            else "energy change",
        )
        stream = BytesIO()
        figure.savefig(stream, format="png", dpi=110)
        return stream.getvalue()
