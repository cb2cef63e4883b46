"""Rollouts: many different systems simulated at once, written as they go, resumed exactly.

A rollout survives three things. A system that blows up or leaves the simulator's domain stops with
a diagnosis, and the others go on as if it had never been there. Ctrl-C writes what is done. After
`kill -9` the same call with `resume=True` continues from the last checkpoint, and gives the numbers
an unbroken run would have given wherever the simulator's forces depend on the state alone.
"""

from sciwm.simulation.rollout.run import Rollout, RolloutResult
from sciwm.simulation.rollout.unroll import unroll

__all__ = ["Rollout", "RolloutResult", "unroll"]
