"""Optimisation: tasks, and `fit`, which runs one."""

from importlib import import_module
from typing import Any

_HOME = {
    "FlowTask": "sciwm.training.flow_task",
    "ForceTask": "sciwm.training.force_task",
    "MotionTask": "sciwm.training.motion_task",
    "OutcomeTask": "sciwm.training.outcome_task",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sciwm.training' has no attribute {name!r}")
