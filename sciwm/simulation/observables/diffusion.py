"""How far particles get: mean squared displacement and the diffusion coefficient."""

import numpy as np
from scipy import fft

from sciwm.core.frame import Array
from sciwm.core.units import MOLECULAR
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable

BLOCKS = 8
"""Stretches of the motion whose scatter gives the error of a diffusion coefficient."""


def mean_squared_displacement(motion: Motion, species: int | None = None) -> Observable:
    """<|r(t0 + t) - r(t0)|²> over time origins and particles, for lags up to half the motion.

    The error takes particles as independent, which a lone tracer cannot show: it has NaN. Subtract
    the drift of the whole (`motion.without_drift()`) where the centre of mass wanders.
    """
    squares = _squared_displacements(_coordinates(motion, species))
    n = squares.shape[1]
    error = squares.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(squares), np.nan)
    length, time = motion.units.length, motion.units.time
    return Observable(
        "mean squared displacement",
        squares.mean(axis=1),
        error,
        f"{length}²" if length else "",
        np.arange(len(squares), dtype=np.float64) * motion.frame_spacing,
        "lag",
        time,
    )


def diffusion_coefficient(
    motion: Motion, lags: tuple[float, float], species: int | None = None
) -> Observable:
    """Einstein's D: slope of the mean squared displacement over 2d, in Å²/ps or reduced.

    A free intercept takes up the ballistic start. The error is the scatter of the slope over eight
    consecutive stretches of the motion.

    Args:
        motion: Continuous positions; without its drift, where the whole wanders.
        lags: First and last lag time of the fit, within the diffusive regime.
        species: Only particles of this type.

    Raises:
        ValueError: If the window holds fewer than two lags, or reaches past half a stretch.
    """
    step = motion.frame_spacing
    first, last = int(np.ceil(lags[0] / step - 1e-9)), int(np.floor(lags[1] / step + 1e-9))
    longest = len(motion) // BLOCKS // 2
    if not 0 <= first < last:
        raise ValueError(
            f"{lags=} holds fewer than two multiples of the frame spacing {step}; widen the window"
        )
    if last > longest:
        raise ValueError(
            f"a lag of {lags[1]} is more than half of one of {BLOCKS} stretches of {len(motion)} "
            f"frames; end the fit at {longest * step:.6g} or run longer"
        )
    coordinates = _coordinates(motion, species)
    scale = 1.0 / (2 * motion.dimension)
    if motion.units is MOLECULAR:
        scale *= 1e3  # per fs to per ps
    stretches = np.array_split(coordinates, BLOCKS)
    slopes = [_slope(stretch, first, last) / step for stretch in stretches]
    return Observable(
        "diffusion coefficient",
        _slope(coordinates, first, last) / step * scale,
        float(np.std(slopes, ddof=1) / np.sqrt(BLOCKS)) * scale,
        "Å²/ps" if motion.units is MOLECULAR else "",
    )


def _coordinates(motion: Motion, species: int | None) -> Array:
    return motion.positions[:, motion.of_species(species), : motion.dimension]


def _slope(coordinates: Array, first: int, last: int) -> float:
    """Squared distance per frame."""
    curve = _squared_displacements(coordinates)[first : last + 1].mean(axis=1)
    return float(np.polyfit(np.arange(first, last + 1), curve, 1)[0])


def _squared_displacements(coordinates: Array) -> Array:
    """(T/2, N) squared displacement over every lag, averaged over time origins.

    By Fourier transform (Kneller et al. 1995): |r(t+s) - r(t)|² is two sums of squares, which
    a recursion gives, less twice an autocorrelation.
    """
    frames = len(coordinates)
    r = coordinates - coordinates.mean(axis=0)  # small numbers cancel better
    spectrum = fft.rfft(r, n=fft.next_fast_len(2 * frames), axis=0)
    correlation = fft.irfft(np.abs(spectrum) ** 2, n=fft.next_fast_len(2 * frames), axis=0)
    squares = np.concatenate([np.zeros((1, r.shape[1])), np.cumsum((r**2).sum(axis=2), axis=0)])
    lags = np.arange(frames // 2 + 1)[: max(frames - 1, 1)]
    # Sum of r² over the origins t, and over the ends t + lag.
    both = squares[frames - lags] + (squares[frames] - squares[lags])
    total = both - 2 * correlation[: len(lags)].sum(axis=2)
    return np.maximum(total, 0.0) / (frames - lags)[:, None]
