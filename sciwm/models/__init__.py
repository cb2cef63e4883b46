"""What is learned: perception (`encoder`) and dynamics (`force_field`, `pair_potential`)."""

from importlib import import_module
from typing import Any

_HOME = {
    "BesselBasis": "sciwm.models.radial",
    "Encoder": "sciwm.models.encoder",
    "ForceField": "sciwm.models.force_field",
    "InverseMultiquadricBasis": "sciwm.models.radial",
    "PairPotential": "sciwm.models.pair_potential",
    "Potential": "sciwm.models.potential",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sciwm.models' has no attribute {name!r}")
