"""GROMACS trajectories, XTC and TRR, through MDAnalysis' reader of single frames.

That reader, unlike the one behind `Universe`, keeps no file of offsets beside the source.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.elements import numbers_of_atoms, required_mdanalysis
from sciwm.data.importers.source import ImportOptions, foreign_reader
from sciwm.data.importers.source_units import GROMACS, SourceUnits

_MAGIC = {b"\x00\x00\x07\xcb": "xtc", b"\x00\x00\x07\xe7": "xtc", b"\x00\x00\x07\xc9": "trr"}


class Gromacs:
    """nm, ps and kJ/mol; velocities and forces where a TRR frame has them."""

    name = "GROMACS XTC or TRR"

    def matches(self, path: Path) -> bool:
        return path.is_file() and _kind(path) is not None

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return GROMACS.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        required_mdanalysis(path)
        from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

        reader = XTCFile if _kind(path) == "xtc" else TRRFile
        with foreign_reader(path, "header"):
            file = reader(str(path))
        with file:
            numbers = numbers_of_atoms(file.n_atoms, options, path)
            index = 0
            while True:
                with foreign_reader(path, f"frame {index}"):
                    try:
                        raw = file.read()
                    except StopIteration:
                        return
                index += 1
                # A box without volume means that nothing repeats.
                periodic = abs(np.linalg.det(raw.box)) > 0

                def part(name: str, raw=raw) -> np.ndarray | None:
                    there = getattr(raw, f"has{name}", name == "x")
                    return getattr(raw, name).astype(np.float64) if there else None

                positions = part("x")
                if positions is None:
                    continue  # TRR may store velocities more often than positions
                yield units.applied(
                    Frame(
                        numbers=numbers,
                        positions=positions,
                        cell=raw.box.astype(np.float64) * periodic,
                        pbc=np.full(3, periodic),
                        velocities=part("v"),
                        forces=part("f"),
                        time=float(raw.time),
                        step=int(raw.step),
                        trajectory=path.name,
                    )
                )


def _kind(path: Path) -> str | None:
    with path.open("rb") as file:
        return _MAGIC.get(file.read(4))
