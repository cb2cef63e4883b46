"""What is learned: perception (`encoders`), dynamics (`force_field`, `pair_potential`, `flow_map`), and
outcomes (`heads`, joined to a force field in `outcome_model`)."""

from importlib import import_module
from typing import Any

_HOME = {
    "BesselBasis": "sciwm.models.encoders.radial",
    "ChargeHead": "sciwm.models.heads.charges",
    "DipoleHead": "sciwm.models.heads.charges",
    "Encoder": "sciwm.models.encoders.encoder",
    "ExtensiveHead": "sciwm.models.heads.scalars",
    "FlowMap": "sciwm.models.dynamics.flow_map",
    "GeneratingMap": "sciwm.models.dynamics.generating_map",
    "ForceField": "sciwm.models.dynamics.force_field",
    "IntensiveHead": "sciwm.models.heads.scalars",
    "InverseMultiquadricBasis": "sciwm.models.encoders.radial",
    "Model": "sciwm.models.model",
    "MotionEncoder": "sciwm.models.encoders.motion_encoder",
    "OutcomeModel": "sciwm.models.outcome_model",
    "PairPotential": "sciwm.models.dynamics.pair_potential",
    "Potential": "sciwm.models.dynamics.potential",
    "TensorHead": "sciwm.models.heads.tensor",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sciwm.models' has no attribute {name!r}")
