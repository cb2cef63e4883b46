"""Where learning starts: a structure by SMILES, or from any file that can be imported."""

from collections import deque
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.core.units import MOLECULAR
from sciwm.data.importers.detection import detect
from sciwm.data.importers.source import ImportOptions, foreign_reader
from sciwm.data.importers.virtual_sites import without_virtual_sites


def structure_from(text: str, seed: int = 0) -> Frame:
    """A file's structure, its last where it holds several, or the molecule that a SMILES names.

    Labels and velocities are left behind; a crystal keeps its cell.

    Args:
        seed: Of the conformer.

    Raises:
        ValueError: If it is neither, is in reduced units, or is a single atom.
    """
    path = Path(text)
    if path.exists():
        found = _last_frame(path)
    else:
        try:
            found = frame_from_smiles(text, seed)
        except ValueError as error:
            raise ValueError(
                f"there is no file {text!r}, and as a SMILES it cannot be used: {error}"
            ) from error
    if len(found) < 2:
        raise ValueError(
            f"{text!r} is a single atom, on which no force ever acts; give a larger one"
        )
    return Frame(
        numbers=found.numbers,
        positions=found.positions,
        cell=found.cell,
        pbc=found.pbc,
        masses=found.masses,
        total_charge=found.total_charge,
        unpaired=found.unpaired,
        smiles=found.smiles,
    )


def _last_frame(path: Path) -> Frame:
    importer, options = detect(path), ImportOptions()
    with foreign_reader(path, ""):
        if importer.units(path, options).system is not MOLECULAR:
            raise ValueError(f"{path} is in reduced units; give a structure of atoms, in Å")
        frames = deque(importer.frames(path, options), maxlen=1)
    if not frames:
        raise ValueError(f"{path} holds no structure")
    if not np.isfinite(frames[0].positions).all():
        raise ValueError(f"positions in the last frame of {path} are not finite")
    return without_virtual_sites(frames[0], options.remarks)
