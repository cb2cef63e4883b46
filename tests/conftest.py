"""What all tests share: real reference data where it is present, and small systems."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sciwm.core.frame import Frame

OLD_MODEL = Path(__file__).parent / "archives" / "force_field_v1.pt"
"""Written before model files had a digest."""

HUNG = 1200.0
"""Seconds after which something hangs, however busy the machine; no test depends on less."""

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data that is kept beside the project."""
    if not REFERENCE.is_dir():
        pytest.skip("the reference data beside the project (../shared/data) is absent")
    return REFERENCE


def loaded_without_digest(path: Path = OLD_MODEL):
    """The content of a model file that has no digest, which is worth a warning."""
    from sciwm.models import archive

    with pytest.warns(UserWarning, match="before model files had a digest"):
        return archive.load(path)


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


def springs(frame: Frame, stiffness: float = 5.0, rest: float | np.ndarray = 1.0) -> Frame:
    """The frame with energy and forces of springs between all pairs: a law to learn.

    Args:
        rest: Their length, in Å, one for all or (N, N).
    """
    arms = frame.positions[None] - frame.positions[:, None]
    length = np.linalg.norm(arms, axis=-1) + np.eye(len(frame))
    pull = stiffness * (length - rest) * (1 - np.eye(len(frame)))
    return frame.with_(
        energy=float(0.25 * stiffness * ((length - rest) ** 2 * (1 - np.eye(len(frame)))).sum()),
        forces=((pull / length)[..., None] * arms).sum(axis=1),
    )


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> Path:
    """40 frames of water with energies and forces, independent of one another."""
    from sciwm.data.h5md import H5MDWriter

    path = tmp_path_factory.mktemp("data") / "labelled.h5md"
    with H5MDWriter(path) as writer:
        for seed in range(40):
            writer.append(springs(water(seed, 0.1)))
    return path


@pytest.fixture(scope="session")
def moving(tmp_path_factory) -> Path:
    """Six runs of two unlike charges on a softened Coulomb law, 30 frames 0.05 apart, in reduced units."""
    from sciwm.core.units import REDUCED
    from sciwm.data.h5md import H5MDWriter

    path = tmp_path_factory.mktemp("data") / "moving.h5md"
    with H5MDWriter(path, units=REDUCED) as writer:
        for run in range(6):
            rng = np.random.default_rng(run)
            x = rng.normal(size=(2, 3)) * 0.7
            v = rng.normal(size=(2, 3)) * 0.3
            dt = 0.005
            for step in range(300):
                if step % 10 == 0:
                    frame = Frame(
                        numbers=np.zeros(2, dtype=np.int64),
                        positions=x.copy(),
                        velocities=v.copy(),
                        masses=np.ones(2),
                        charges=np.array([1.0, -1.0]),
                        time=step * dt,
                        step=step,
                    )
                    writer.append(frame, group=f"run{run}")
                for _ in range(10):
                    h = dt / 10
                    arm = x[1] - x[0]
                    force = arm / (arm @ arm + 0.01) ** 1.5
                    v = v + h * np.stack([force, -force])
                    x = x + h * v
    return path
