"""Outcomes averaged over thermal motion, and the infrared spectrum it shows."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy import fft, signal

from sciwm.core.bounds import require_counts, require_not_negative
from sciwm.core.frame import Array, Frame
from sciwm.core.plausibility import require_plausible
from sciwm.core.random import structure_streams
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value, failure_of
from sciwm.discovery.problem.outcomes.relaxation import Minimum, minima
from sciwm.simulation.observables.gyration import radius_of_gyration
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.statistics import mean_with_error
from sciwm.simulation.observables.vibration import LIGHT
from sciwm.simulation.propagators import Langevin, Propagator, VelocityVerlet, strides_within
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.simulator import PropertySimulator, SimulatorError
from sciwm.simulation.velocities import maxwell_boltzmann

EQUILIBRATION = 0.2
"""Share of a simulation at its start that is not averaged over."""


class ThermalAverage(Outcome):
    """The mean of an observable over Langevin dynamics from the relaxed structure.

    Its standard error comes from the scatter between replicas where there are several, and from
    blocks of the path otherwise, whichever is larger.

    Args:
        observable: The length of the dipole moment, or the radius of gyration.
        temperature: K.
        time: fs, of each replica.
        replicas: Simulations, with their own velocities and noise.
        dt: fs.
        friction: 1/fs.
    """

    def __init__(
        self,
        observable: Literal["dipole", "radius_of_gyration"],
        temperature: float = 300.0,
        time: float = 5000.0,
        replicas: int = 4,
        dt: float = 0.5,
        friction: float = 0.002,
    ):
        if observable not in ("dipole", "radius_of_gyration"):
            raise ValueError(f'no observable {observable!r}; use "dipole" or "radius_of_gyration"')
        require_plausible("temperature", temperature, MOLECULAR)
        require_not_negative(friction=friction)
        require_counts(replicas=replicas)
        self.observable = observable
        self.temperature = temperature
        self.steps = strides_within(time, dt)
        self.replicas = replicas
        self.dt = dt
        self.friction = friction

    @property
    def name(self) -> str:
        return f"mean_{self.observable}"

    @property
    def unit(self) -> str:
        return "e Å" if self.observable == "dipole" else "Å"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("dipole",) if self.observable == "dipole" else ()

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        langevin = Langevin(world, self.dt, self.temperature, self.friction, seed)
        every = max(1, round(10.0 / self.dt))
        found: list[Value | Failure] = []
        for paths in _paths(
            world, structures, langevin, self.temperature, self.steps, self.replicas, every, seed
        ):
            if isinstance(paths, Failure):
                found.append(paths)
                continue
            frames, flag = paths
            try:
                series = [
                    self._series(world, path[int(EQUILIBRATION * len(path)) :]) for path in frames
                ]
            except SimulatorError as error:
                found.append(failure_of(error))
                continue
            found.append(self._value(series, [one for path in frames for one in path], flag))
        return found

    def _series(self, world: PropertySimulator, path: list[Frame]) -> Array:
        if self.observable == "dipole":
            return np.linalg.norm(_dipoles(world, path), axis=1)
        single = (Motion.from_frames([frame], world.units) for frame in path)
        return np.array([radius_of_gyration(one).value for one in single], dtype=float)

    def _value(self, series: list[Array], frames: list[Frame], flag: str | None) -> Value:
        within = [mean_with_error(one) for one in series]
        means = np.array([float(mean) for mean, _ in within])
        error = np.sqrt(sum(float(e) ** 2 for _, e in within)) / len(within)
        if len(means) > 1:
            error = max(error, means.std(ddof=1) / np.sqrt(len(means)))
        return Value(float(means.mean()), float(error), frames, flag)


class InfraredSpectrum(Outcome):
    """The strongest infrared band between two wavenumbers, from the dipole's motion at constant energy.

    The absorption is proportional to the power spectrum of the dipole's time derivative (the
    classical limit with the harmonic quantum correction; Thomas et al., Phys. Chem. Chem. Phys. 15,
    6608 (2013), eq. 10), averaged over replicas; `Value.curve` holds it, with unit area, against
    wavenumber.

    Args:
        lowest: 1/cm.
        highest: 1/cm.
        temperature: K, of the velocities at the start.
        time: fs, of each replica; the spectrum resolves one over it.
        replicas: Simulations.
        dt: fs.
    """

    def __init__(
        self,
        lowest: float = 400.0,
        highest: float = 4000.0,
        temperature: float = 300.0,
        time: float = 4000.0,
        replicas: int = 4,
        dt: float = 0.5,
    ):
        if not 0 <= lowest < highest:
            raise ValueError(f"no band between {lowest} and {highest} 1/cm; give lowest < highest")
        require_plausible("temperature", temperature, MOLECULAR)
        require_not_negative(highest=highest)
        require_counts(replicas=replicas)
        self.lowest = lowest
        self.highest = highest
        self.temperature = temperature
        self.steps = strides_within(time, dt)
        self.replicas = replicas
        self.dt = dt

    @property
    def name(self) -> str:
        return "infrared_band"

    @property
    def unit(self) -> str:
        return "1/cm"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("dipole",)

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        # The fastest bond swings in 9 fs, and is seen four times in it.
        every = max(1, int(2.0 / self.dt))
        found: list[Value | Failure] = []
        for paths in _paths(
            world,
            structures,
            VelocityVerlet(world, self.dt),
            self.temperature,
            self.steps,
            self.replicas,
            every,
            seed,
        ):
            if isinstance(paths, Failure):
                found.append(paths)
                continue
            frames, flag = paths
            try:
                spectra = [absorption(_dipoles(world, path), every * self.dt) for path in frames]
            except SimulatorError as error:
                found.append(failure_of(error))
                continue
            wavenumber = spectra[0][0]
            inside = (wavenumber >= self.lowest) & (wavenumber <= self.highest)
            bands = [wavenumber[inside][np.argmax(one[1][inside])] for one in spectra]
            mean = np.mean([one[1] for one in spectra], axis=0)
            strongest = float(wavenumber[inside][np.argmax(mean[inside])])
            resolution = float(wavenumber[1])
            spread = max(resolution / 2, float(np.std(bands)) / np.sqrt(len(bands)))
            curve = np.stack([wavenumber, mean])
            kept = [one for path in frames for one in path]
            found.append(Value(strongest, spread, kept, flag, curve))
        return found


def absorption(dipoles: Array, spacing: float) -> tuple[Array, Array]:
    """Wavenumbers in 1/cm and the absorption there, with unit area.

    Args:
        dipoles: (T, 3).
        spacing: fs between them.
    """
    swing = dipoles - dipoles.mean(axis=0)
    window = signal.windows.hann(len(swing), sym=False)[:, None]
    frequency = fft.rfftfreq(len(swing), spacing)
    # The derivative is taken of the spectrum: differences of frames would lower fast vibrations.
    power = (np.abs(fft.rfft(swing * window, axis=0)) ** 2).sum(axis=1) * frequency**2
    wavenumber = frequency / LIGHT
    total = power.sum() * wavenumber[1]
    return wavenumber, power / total if total > 0 else power


def _dipoles(world: PropertySimulator, path: list[Frame]) -> Array:
    """(T, 3)."""
    found = []
    for start in range(0, len(path), 256):
        states = [State.from_frame(one, torch.float64) for one in path[start : start + 256]]
        found.append(world.observe(State.collate(states), ["dipole"])["dipole"])
    return torch.cat(found).double().cpu().numpy()


def _paths(
    world: PropertySimulator,
    structures: Sequence[Frame],
    propagator: Propagator,
    temperature: float,
    steps: int,
    replicas: int,
    every: int,
    seed: int,
) -> list[tuple[list[list[Frame]], str | None] | Failure]:
    """Of each structure the frames of its replicas, relaxed and thermalised before."""
    before = minima(world, structures)
    ready = [k for k, one in enumerate(before) if isinstance(one, Minimum)]
    found: list[tuple[list[list[Frame]], str | None] | Failure] = []
    runs: dict[int, tuple[list[list[Frame]], str | None] | Failure] = {}
    if ready:
        starts = [
            State.from_frame(before[k].frame, torch.float64)  # type: ignore[union-attr]
            for k in ready
            for _ in range(replicas)
        ]
        # Half of what a minimum is given in motion goes into its springs.
        heat = 2 * temperature if propagator.temperature is None else temperature
        state = State.collate(starts)
        state.stream = structure_streams([structures[k] for k in ready], replicas)
        state = maxwell_boltzmann(state, heat, world.units, seed)
        result = Rollout(propagator, every=every).run(state, steps)
        for place, k in enumerate(ready):
            mine = range(place * replicas, (place + 1) * replicas)
            whole = [s for s in mine if result.reasons[s] is None]
            lost = [result.reasons[s] for s in mine if result.reasons[s] is not None]
            if not whole:
                runs[k] = Failure("calculation", f"no simulation came to an end: {lost[0]}")
                continue
            flag = f"{len(lost)} of {replicas} simulations: {lost[0]}" if lost else None
            runs[k] = ([result.frames[s] for s in whole], flag)
    for k, one in enumerate(before):
        found.append(one if isinstance(one, Failure) else runs[k])
    return found
