"""How a system is to be moved, in a user's words, and what moves it so."""

from dataclasses import dataclass
from typing import Literal, get_args

from sciwm.core.bounds import require_counts, require_positive
from sciwm.core.units import UnitSystem, parse_quantity
from sciwm.models.dynamics.generating_map import GeneratingMap
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.simulation.propagators import (
    CSVR,
    GHMC,
    RESPA,
    CellRescaling,
    FullCellRescaling,
    Integrator,
    IsotropicRescaling,
    Langevin,
    LangevinSplitting,
    MappedMotion,
    MidpointPropagator,
    Propagator,
    SemiIsotropicRescaling,
    VelocityVerlet,
    strides_by,
)
from sciwm.simulation.simulator import Simulator
from sciwm.simulation.thermostats import FRICTION

Thermostat = Literal["langevin", "csvr", "ghmc"]

STEP = 0.5
"""Usual time step of forces, in the units' time."""

SLOWER = 10
"""Times slower than velocities, which must follow them, volumes relax."""


BAROSTATS: dict[str, type[CellRescaling]] = {
    "isotropic": IsotropicRescaling,
    "semi-isotropic": SemiIsotropicRescaling,
    "full": FullCellRescaling,
}
"""By the name that an option calls them by."""


@dataclass(frozen=True)
class MotionSettings:
    """Quantities may be texts with units; bare numbers are in the model's.

    Attributes:
        dt: Time step; without it 0.5 of the units' time, and of a flow map its longest stride.
        temperature: Without it, energy is conserved.
        thermostat: "langevin" without it.
        friction: How fast the thermostat takes hold; without it 0.01/fs, or 1 in reduced units.
        pressure: At which the cell fluctuates.
        barostat: What may change of it: "isotropic" without it.
        cheap: Forces that stand in for the dear ones within a step (see `RESPA`); or a generating map, whose
            strides are accepted or refused by the dear energy (see `MappedMotion`).
        cheap_steps: Of the forces in a step.
        seed: Of the noise.
    """

    dt: str | float | None = None
    temperature: str | float | None = None
    thermostat: str | None = None
    friction: str | float | None = None
    pressure: str | float | None = None
    cheap: Simulator | CompiledStrideMap | None = None
    cheap_steps: int | None = None
    seed: int = 0
    barostat: str | None = None

    def __post_init__(self) -> None:
        if self.thermostat is not None and self.thermostat not in get_args(Thermostat):
            raise ValueError(f'no thermostat {self.thermostat!r}; use "langevin", "csvr" or "ghmc"')
        for option in ("thermostat", "friction", "pressure"):
            value = getattr(self, option)
            if value is not None and self.temperature is None:
                raise ValueError(
                    f"a {option} of {value!r} needs a temperature; without both, energy is conserved"
                )
        if self.barostat is not None and self.barostat not in BAROSTATS:
            raise ValueError(f"no barostat {self.barostat!r}; use one of {', '.join(BAROSTATS)}")
        if self.barostat is not None and self.pressure is None:
            raise ValueError(
                f"a barostat of {self.barostat!r} needs a pressure; without one the cell stays as it is"
            )
        if isinstance(self.cheap, CompiledStrideMap):
            self._require_judge(self.cheap)
            return
        if (self.cheap is None) != (self.cheap_steps is None):
            raise ValueError("cheap forces and the number of cheap steps go together; give both")
        require_counts(cheap_steps=self.cheap_steps)
        if self.cheap is not None and self.dt is None:
            raise ValueError(
                f"cheap forces are for longer time steps than usual; give dt, such as {STEP:g} times the "
                f"{self.cheap_steps} cheap steps"
            )

    def _require_judge(self, strides: CompiledStrideMap) -> None:
        if not isinstance(strides.model, GeneratingMap):
            raise ValueError(
                "strides of a flow map are not reversible, and cannot be accepted or refused; train a "
                "GeneratingMap, or give a model that has forces"
            )
        if self.thermostat != "ghmc" or self.cheap_steps is not None:
            raise ValueError(
                "strides of a map stand in for forces where they may be refused: give the thermostat ghmc, "
                "and no cheap steps; or simulate with the map itself"
            )

    def kelvin(self, units: UnitSystem) -> float | None:
        """The temperature as a number.

        Raises:
            ValueError: If it is not positive: a thermostat at zero only takes motion away.
        """
        if self.temperature is None:
            return None
        found = parse_quantity(str(self.temperature), "temperature", units)
        require_positive(temperature=found)
        return found

    def propagator(self, mover: Simulator | CompiledStrideMap) -> Propagator:
        """What moves systems so.

        Raises:
            ValueError: If the mover cannot.
        """
        units = mover.units
        kelvin, rate = self.kelvin(units), FRICTION[units.name]
        if self.friction is not None:
            rate = parse_quantity(str(self.friction), "rate", units)
            require_positive(friction=rate)  # without any, nothing holds the temperature
        if isinstance(mover, CompiledStrideMap):
            return self._strides(mover, kelvin, rate)
        integrator: Integrator
        if isinstance(self.cheap, CompiledStrideMap):
            longest = float(self.cheap.model.strides[1])
            strides = MidpointPropagator(self.cheap, self._step(self.cheap.units, longest))
            integrator = MappedMotion(mover, strides)
        elif self.cheap is None:
            integrator = VelocityVerlet(mover, self._step(units, STEP))
        else:
            assert self.cheap_steps is not None
            step = self._step(units, STEP)
            integrator = RESPA(mover, self.cheap, step, self.cheap_steps)
        if kelvin is None:
            return integrator
        held = self._held(integrator, kelvin, rate)
        if self.pressure is None:
            return held
        if not isinstance(held, Integrator):
            raise ValueError(
                f"a pressure of {self.pressure!r} needs one time step and a thermostat that is langevin or "
                "csvr; leave cheap forces and ghmc out"
            )
        pressure = parse_quantity(str(self.pressure), "stress", units)
        kind = BAROSTATS[self.barostat or "isotropic"]
        return kind(held, pressure, SLOWER / rate, seed=self.seed)

    def _held(self, integrator: Integrator, kelvin: float, rate: float) -> Propagator:
        if self.thermostat == "ghmc":
            return GHMC(integrator, kelvin, rate, self.seed)
        if self.cheap is not None:
            if self.thermostat == "csvr":
                raise ValueError("with cheap forces the thermostat is langevin or ghmc, not csvr")
            return LangevinSplitting(integrator, kelvin, rate, self.seed)
        if self.thermostat == "csvr":
            return CSVR(integrator.simulator, integrator.stride, kelvin, 1 / rate, self.seed)
        return Langevin(integrator.simulator, integrator.stride, kelvin, rate, self.seed)

    def _strides(self, flow: CompiledStrideMap, kelvin: float | None, rate: float) -> Propagator:
        """Of a flow map."""
        if self.thermostat not in (None, "langevin"):
            raise ValueError(
                f"a map of strides takes the thermostat langevin, not {self.thermostat}"
            )
        if self.pressure is not None or self.cheap is not None:
            what = "cheap forces" if self.pressure is None else "pressure"
            raise ValueError(f"a map of strides has no forces, and takes no {what}")
        motion = strides_by(flow, self._step(flow.units, float(flow.model.strides[1])))
        if kelvin is None:
            return motion
        return LangevinSplitting(motion, kelvin, rate, self.seed)

    def _step(self, units: UnitSystem, usual: float) -> float:
        return usual if self.dt is None else parse_quantity(str(self.dt), "time", units)
