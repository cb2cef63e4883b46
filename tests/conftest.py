"""What all tests share: real reference data where it is present, and small systems."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sciwm.core.frame import Frame

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data that is kept beside the project."""
    if not REFERENCE.is_dir():
        pytest.skip("the reference data beside the project (../shared/data) is absent")
    return REFERENCE


@pytest.fixture
def double():
    """Float64 for the length of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def water(seed: int = 0, spread: float = 0.05) -> Frame:
    """One water molecule, shaken."""
    rng = np.random.default_rng(seed)
    places = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    return Frame(
        numbers=np.array([8, 1, 1]), positions=places + spread * rng.standard_normal((3, 3))
    )
