"""Structures of molecules, turning on their own axis in the viewer of motions."""

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_masses

from sciwm.core.frame import Frame
from sciwm.report import page, viewer
from sciwm.simulation.observables.motion import Motion

STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .9rem; }
.gallery .viewer { margin: .6rem 0; min-width: 0; max-width: 30rem; }
.gallery .view b { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.gallery .viewer output { display: none; }
.gallery .viewer input { min-width: 0; }
"""

TURN = 90
"""Moments of one turn, 4 degrees apart."""

LARGEST_TITLE = 40
"""Letters of a SMILES above a view, at most."""


def turning(frame: Frame) -> Motion:
    """One turn about the vertical axis, the molecule's longest axis lying across.

    Raises:
        ValueError: If the structure is empty or not finite.
    """
    if len(frame) == 0 or not np.isfinite(frame.positions).all():
        raise ValueError(f"{len(frame)} atoms whose positions must be finite")
    masses = frame.masses if frame.masses is not None else atomic_masses[frame.numbers]
    places = frame.positions - np.average(frame.positions, axis=0, weights=masses)
    axes = np.linalg.svd(places, full_matrices=True)[2]
    if np.linalg.det(axes) < 0:
        axes[2] *= -1  # or it would be drawn as its mirror image
    angles = np.linspace(0.0, 2 * np.pi, TURN, endpoint=False)
    cosines, sines, zeros, ones = np.cos(angles), np.sin(angles), 0 * angles, 0 * angles + 1
    turns = np.array([[cosines, zeros, sines], [zeros, ones, zeros], [-sines, zeros, cosines]])
    turned = np.einsum("xyt,ny->tnx", turns, places @ axes.T)
    return Motion(frame.numbers, masses, turned, timestep=None)


def gallery(geometries: Mapping[str, Frame], titles: Mapping[str, str]) -> list[str]:
    """A view of each structure, and a note on those that cannot be shown.

    Args:
        geometries: By SMILES.
        titles: Of those to show, by SMILES.
    """
    views, notes = [], []
    for smiles, title in titles.items():
        try:
            views.append(viewer.viewer({_shortened(title): turning(geometries[smiles])}))
        except ValueError as error:
            notes.append(page.note(f"No view of {smiles}: {error}."))
    shown = [f'<div class="gallery">{"".join(views)}</div>'] if views else []
    return [*shown, *notes]


def _shortened(title: str) -> str:
    return title if len(title) <= LARGEST_TITLE else f"{title[: LARGEST_TITLE - 1]}…"
