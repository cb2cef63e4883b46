"""How a system vibrates: the vibrational density of states."""

import numpy as np
from scipy import fft, signal

from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable

LIGHT = 2.99792458e-5
"""Speed of light in cm/fs: a frequency over it is a wavenumber."""


def vibrational_density_of_states(
    motion: Motion, segments: int = 1, species: int | None = None
) -> Observable:
    """Power spectrum of the mass-weighted velocities, with unit area, against wavenumber in 1/cm.

    By the Wiener-Khinchin theorem it is the Fourier transform of the velocity autocorrelation
    function. Each segment is tapered by a Hann window; the spectrum resolves 1 over a segment's
    duration. Reduced units give cycles per time in place of wavenumbers.

    Where the motion has no velocities, central differences of the positions stand in: the peaks
    stay where they are, and their height at frequency f falls by sinc²(2 f dt).

    Args:
        motion: Frames close enough to catch the fastest vibration at least twice a period.
        segments: More of them give error bars and cost resolution.
        species: Only particles of this type.

    Raises:
        ValueError: If a segment has fewer than 8 frames.
    """
    velocities = _velocities(motion)[:, motion.of_species(species), : motion.dimension]
    masses = motion.masses[motion.of_species(species)]
    length = len(velocities) // segments
    if segments < 1 or length < 8:
        raise ValueError(
            f"{segments=} of {len(velocities)} velocity frames leave {length} frames each, and a "
            "spectrum needs at least 8; use fewer segments or a longer motion"
        )
    weighted = np.sqrt(masses)[:, None] * velocities[: segments * length]
    window = signal.windows.hann(length, sym=False)[:, None]
    pieces = weighted.reshape(segments, length, -1)
    power = (np.abs(fft.rfft(pieces * window, axis=1)) ** 2).sum(axis=2)
    # The two-sided transform folds onto positive frequencies, save its two ends.
    power[:, 1 : (length + 1) // 2] *= 2
    frequency = fft.rfftfreq(length, motion.frame_spacing)
    if motion.units is MOLECULAR:
        x, x_name, x_unit, unit = frequency / LIGHT, "wavenumber", "1/cm", "cm"
    else:
        x, x_name, x_unit, unit = frequency, "frequency", "", ""
    total = power.mean(axis=0).sum()
    if total == 0.0:
        raise ValueError("nothing moves in these frames, so there is no spectrum")
    density = power / (total * (x[1] - x[0]))
    scatter = density.std(axis=0, ddof=1) if segments > 1 else np.full(len(x), np.nan)
    error = scatter / np.sqrt(segments)
    name = "vibrational density of states"
    return Observable(name, density.mean(axis=0), error, unit, x, x_name, x_unit)


def _velocities(motion: Motion) -> Array:
    if motion.velocities is not None:
        return motion.velocities
    return (motion.positions[2:] - motion.positions[:-2]) / (2 * motion.frame_spacing)
