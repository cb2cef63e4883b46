"""Arrays inside an .npz archive, a few rows at a time.

`numpy.load` unpacks a member whole; these archives reach the size of the memory.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sciwm.data.importers.source import SourceError, foreign_reader

ROWS = 256
"""Rows unpacked at a time."""


def npz_names(path: Path) -> set[str]:
    """Names of the arrays; empty if the file is no .npz archive."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        return {name[:-4] for name in archive.namelist() if name.endswith(".npy")}


class NpzArray:
    """One array of the archive.

    Attributes:
        shape: Its shape.
    """

    def __init__(self, path: Path, name: str):
        self.path = path
        self.name = name
        with (
            foreign_reader(path, name),
            zipfile.ZipFile(path) as archive,
            archive.open(f"{name}.npy") as member,
        ):
            self.shape, self._fortran, self._dtype = _header(member)
        if self._dtype.hasobject:
            raise SourceError(
                path,
                name,
                "holds pickled Python objects, which could run code when read",
                "Save it again as a plain numeric array",
            )

    def read(self) -> np.ndarray:
        """The whole array."""
        with (
            foreign_reader(self.path, self.name),
            np.load(self.path, allow_pickle=False) as archive,
        ):
            return archive[self.name]

    def rows(self) -> Iterator[np.ndarray]:
        """One row after another."""
        if self._fortran or not self.shape:
            yield from self.read()
            return
        shape = self.shape[1:]
        size = self._dtype.itemsize * int(np.prod(shape))
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as member:
            _header(member)
            for start in range(0, self.shape[0], ROWS):
                count = min(ROWS, self.shape[0] - start)
                with foreign_reader(self.path, f"{self.name}, row {start}"):
                    content = member.read(count * size)
                if len(content) < count * size:
                    raise SourceError(
                        self.path,
                        self.name,
                        f"declares {self.shape[0]} rows, but holds {start + len(content) // size}",
                        "Copy or download the file again",
                    )
                yield from np.frombuffer(content, dtype=self._dtype).reshape(count, *shape)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)
