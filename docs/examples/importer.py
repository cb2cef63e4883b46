"""An importer: trajectories as CSV, one line per atom with `time,element,x,y,z` in ps and nm."""

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from sciwm.core.frame import Frame
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

HEADER = "time,element,x,y,z"


class CSVTrajectory:
    """Lines with the same time make a frame."""

    name = "CSV trajectory"
    accepts = frozenset[str]()  # options of its own, beside those of every format

    def matches(self, path: Path) -> bool:
        """Told from the first bytes, never from the suffix."""
        with path.open("rb") as file:
            return file.read(len(HEADER)) == HEADER.encode()

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        """The format's own, unless the user corrects them."""
        return SourceUnits(length="nm", time="ps").overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        """One frame in memory at a time."""
        units = self.units(path, options)
        with path.open(newline="") as file:
            rows = groupby(csv.DictReader(file), key=lambda row: row["time"])
            for index, (time, atoms) in enumerate(rows):
                try:
                    listed = list(atoms)
                    numbers = [atomic_numbers[atom["element"]] for atom in listed]
                    places = [[float(atom[axis]) for axis in "xyz"] for atom in listed]
                    frame = Frame(
                        numbers=np.array(numbers),
                        positions=np.array(places),
                        time=float(time),
                        trajectory=path.stem,  # frames of one trajectory follow one another
                    )
                except (KeyError, TypeError, ValueError) as error:
                    raise SourceError(
                        path,
                        f"frame {index}",
                        f"cannot be read ({type(error).__name__}: {error})",
                        f"Every line needs {HEADER}",
                    ) from error
                yield units.applied(frame)
