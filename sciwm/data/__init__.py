"""Trajectories: files, importers, splits, and what training is given."""

from importlib import import_module
from typing import Any

_HOME = {"FrameData": "sciwm.data.modules", "WindowData": "sciwm.data.modules"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sciwm.data' has no attribute {name!r}")
