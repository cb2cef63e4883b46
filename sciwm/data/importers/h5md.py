"""H5MD itself: any legal file, or one of znh5md, rewritten in sciwm's layout and units."""

from collections.abc import Iterator
from pathlib import Path

import h5py

from sciwm.core.frame import Frame
from sciwm.core.units import REDUCED
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.importers.hdf5 import opened
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import LJ, SourceUnits


class H5MD:
    """Every trajectory of the file, one after another."""

    name = "H5MD"
    accepts = frozenset[str]()

    def matches(self, path: Path) -> bool:
        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        with opened(path) as file:
            return _signed(file, 2)

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        if options.units is not None:
            raise SourceError(
                path, "", "an H5MD file states its own units", "Import it without --units"
            )
        with H5MDFile(path) as file:
            return LJ if file.units is REDUCED else SourceUnits()

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        try:
            with H5MDFile(path) as file:
                for trajectory in file.trajectories:
                    for k in range(len(trajectory)):
                        frame = trajectory.frame(k)
                        ordered = bool(frame.trajectory)
                        # Breaks stay inside their group: the steps written with it show them.
                        key = trajectory.name if ordered else ""
                        yield frame.with_(
                            trajectory=key,
                            step=frame.step if ordered else None,
                            time=frame.time if ordered else None,
                        )
        except FormatError as error:
            raise SourceError(path, error.where, error.reason, error.remedy) from error


def _signed(group: h5py.Group, depth: int) -> bool:
    """Whether `group`, or one `depth` levels below it, holds a group h5md with a version."""
    signature = group.get("h5md")
    if isinstance(signature, h5py.Group):
        return "version" in signature.attrs
    return depth > 0 and any(
        _signed(child, depth - 1) for child in group.values() if isinstance(child, h5py.Group)
    )
