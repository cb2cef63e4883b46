"""An observable: how far two particles are apart, on average, with its statistical error."""

import numpy as np

from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.statistics import mean_with_error


def mean_distance(motion: Motion, first: int, second: int) -> Observable:
    """Mean over time of |r₁ - r₂|.

    Raises:
        ValueError: If there is no such particle.
    """
    count = len(motion.numbers)
    if not (0 <= first < count and 0 <= second < count):
        raise ValueError(f"no particles {first} and {second} among {count}; count from 0")
    distances = np.linalg.norm(motion.positions[:, first] - motion.positions[:, second], axis=-1)
    value, error = mean_with_error(distances)  # knows that neighbouring frames resemble each other
    return Observable("mean distance", float(value), float(error), motion.units.length)
