"""sciwm: a physics-informed graph world model of molecules and particles.

The names below load on first use, so that `import sciwm` and `sciwm --help` stay quick and
reference-simulator workers never import torch.
"""

import gc
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOME = {
    "load": "sciwm.interfaces.world",
    "World": "sciwm.interfaces.world",
    "State": "sciwm.core.state",
    "plan": "sciwm.interfaces.planning",
}

__all__ = ["State", "World", "__version__", "load", "plan"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sciwm' has no attribute {name!r}")
    # Modules are no garbage, and looking for some among them would take half a second.
    collects = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(_HOME[name]), name)
    finally:
        if collects:
            gc.enable()
