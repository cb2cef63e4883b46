"""Temperature, equipartition and the steadiness of the energy."""

from typing import Literal

import numpy as np

from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.statistics import mean_with_error, slope_with_error

GRAM_PER_CM3 = 1.66053906660
"""Of one u/Å³ (CODATA 2018)."""

Conserved = Literal["nothing", "momentum", "momentum and angular momentum"]
"""What the dynamics that made a motion keeps at zero; it holds no thermal energy."""


def kinetic_energies(motion: Motion) -> Array:
    """(T, N) kinetic energy of each particle, m v² / 2.

    Raises:
        ValueError: If the motion has no velocities.
    """
    if motion.velocities is None:
        raise ValueError(
            "this motion has no velocities, and differences of positions would understate fast "
            "vibrations; store velocities"
        )
    squared = (motion.velocities**2).sum(axis=-1)
    return 0.5 * motion.masses * squared / motion.units.acceleration


def degrees_of_freedom(motion: Motion, conserved: Conserved) -> Array:
    """(T, N) share of each particle in the thermal motion; over particles they sum to the total.

    A particle's mean kinetic energy is kT/2 times its share. With the total momentum fixed at zero
    the share is d (1 - m/M), so heavy particles look colder than they are unless it is counted.
    With the angular momentum fixed too, it falls by m [r² tr I⁻¹ - r·I⁻¹r], I the inertia tensor:
    the trace of the projection on rigid rotations.
    """
    d, masses = motion.dimension, motion.masses
    share = np.full(motion.positions.shape[:2], float(d))
    if conserved == "nothing":
        return share
    share -= d * masses / masses.sum()
    if conserved == "momentum":
        return share
    if np.any(motion.pbc):
        raise ValueError(
            f"a system periodic along {np.flatnonzero(motion.pbc).tolist()} does not conserve "
            "angular momentum; use conserved='momentum'"
        )
    r = motion.without_drift().positions
    squared = (r**2).sum(axis=-1)
    if d == 2:
        return share - masses * squared / (masses * squared).sum(axis=1, keepdims=True)
    outer = np.einsum("n,tna,tnb->tab", masses, r, r)
    inertia = (masses * squared).sum(axis=1)[:, None, None] * np.eye(3) - outer
    # A linear molecule has no rotation about its own axis: the pseudo-inverse leaves it out.
    inverse = np.linalg.pinv(inertia, rcond=1e-8, hermitian=True)
    turning = squared * np.trace(inverse, axis1=1, axis2=2)[:, None]
    return share - masses * (turning - np.einsum("tna,tab,tnb->tn", r, inverse, r))


def kinetic_energy(motion: Motion) -> Observable:
    """Mean kinetic energy of the system."""
    value, error = mean_with_error(kinetic_energies(motion).sum(axis=1))
    return Observable("kinetic energy", float(value), float(error), motion.units.energy)


def temperature(motion: Motion, conserved: Conserved, species: int | None = None) -> Observable:
    """Kinetic temperature, of all particles or of one species."""
    series = _temperatures(motion, conserved, motion.of_species(species))
    value, error = mean_with_error(series)
    name = "temperature" if species is None else f"temperature of species {species}"
    return Observable(name, float(value), float(error), motion.units.temperature)


def equipartition(motion: Motion, conserved: Conserved) -> dict[int, Observable]:
    """Temperature of each species over that of the system: one, in equilibrium.

    The error is that of a ratio of means, from the series T_s(t) - ratio T(t).
    """
    whole = _temperatures(motion, conserved, motion.of_species(None))
    ratios = {}
    for species in np.unique(motion.numbers).tolist():
        part = _temperatures(motion, conserved, motion.of_species(species))
        ratio = part.mean() / whole.mean()
        error = mean_with_error(part - ratio * whole)[1] / whole.mean()
        ratios[species] = Observable(
            f"equipartition ratio of species {species}", float(ratio), float(error), ""
        )
    return ratios


def density(motion: Motion) -> Observable:
    """Mass over volume, in g/cm³, or reduced.

    Raises:
        ValueError: If the system does not repeat in all of its directions.
    """
    if motion.pbc.sum() != motion.dimension:
        raise ValueError("only a system that repeats in all directions has a density")
    rows = motion.cells[:, motion.pbc]
    volumes = np.sqrt(np.linalg.det(rows @ rows.swapaxes(1, 2)))
    size, unit = (GRAM_PER_CM3, "g/cm³") if motion.units is MOLECULAR else (1.0, "")
    value, error = mean_with_error(size * motion.masses.sum() / volumes)
    return Observable("density", float(value), float(error), unit)


def energy_drift(motion: Motion) -> Observable:
    """Slope of the total energy per particle against time, in meV/atom/ps, or reduced."""
    energies, scale, _ = _total_energies(motion)
    times: Array = np.arange(len(motion), dtype=np.float64) * motion.frame_spacing
    slope, error = slope_with_error(times, energies)
    if motion.units is MOLECULAR:
        scale, unit = scale * 1e3, "meV/atom/ps"
    else:
        unit = ""
    return Observable("energy drift", slope * scale, error * scale, unit)


def energy_fluctuation(motion: Motion) -> Observable:
    """Root mean square wobble of the total energy about its trend, per particle, in meV/atom."""
    energies, scale, unit = _total_energies(motion)
    frames = np.arange(len(energies))
    wobble = energies - np.polynomial.Polynomial.fit(frames, energies, 1)(frames)
    square, error = mean_with_error(wobble**2)
    rms = float(np.sqrt(square))
    return Observable(
        "energy fluctuation", rms * scale, float(error) / (2 * rms) * scale if rms else 0.0, unit
    )


def _temperatures(motion: Motion, conserved: Conserved, rows: np.ndarray) -> Array:
    """(T,) twice the kinetic energy over k times the degrees of freedom."""
    energy = kinetic_energies(motion)[:, rows].sum(axis=1)
    freedom = degrees_of_freedom(motion, conserved)[:, rows].sum(axis=1)
    if freedom.min() < 1e-6:
        raise ValueError(
            f"with {conserved} conserved, {int(rows.sum())} of {len(motion.numbers)} particles "
            "have no thermal motion left; their temperature is not defined"
        )
    return 2 * energy / (motion.units.boltzmann * freedom)


def _total_energies(motion: Motion) -> tuple[Array, float, str]:
    """(T,) potential plus kinetic energy per particle, and what turns it into readable units."""
    if motion.energy is None:
        raise ValueError("this motion has no potential energies, so its total energy is unknown")
    energies = (motion.energy + kinetic_energies(motion).sum(axis=1)) / len(motion.numbers)
    return (energies, 1e3, "meV/atom") if motion.units is MOLECULAR else (energies, 1.0, "")
