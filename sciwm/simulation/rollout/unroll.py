"""Strides one after another, through which gradients run; nothing is written, stopped or judged."""

from collections.abc import Iterator

from sciwm.core.state import State
from sciwm.simulation.propagators.propagator import Propagator
from sciwm.simulation.simulator import Evaluation


def unroll(
    propagator: Propagator, state: State, evaluation: Evaluation | None, steps: int
) -> Iterator[tuple[State, Evaluation | None]]:
    """The state after 0, 1, ... strides, and its evaluation where there is one.

    Args:
        evaluation: As the propagator's `start` gave it.
    """
    yield state, evaluation
    for index in range(steps):
        state, evaluation = propagator.advance(state, evaluation, index)
        yield state, evaluation
