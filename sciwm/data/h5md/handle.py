"""An open HDF5 file that may be pickled, and passed to other processes, without harm."""

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import h5py
from h5py import h5d

from sciwm.data.h5md.contained import ContainedFile
from sciwm.data.h5md.errors import FormatError

OPEN_DATASETS = 16
"""Datasets kept open at a time: each owns a chunk cache, so that files of many groups add up."""


class Handle:
    """A file opened for reading when first used, and anew in every process.

    An HDF5 handle must not be shared across a fork, nor can it be pickled.

    Args:
        path: The file.
        cache_bytes: Size of HDF5's cache of decompressed chunks, per dataset.
    """

    def __init__(self, path: Path, cache_bytes: int):
        self.path = path
        self.cache_bytes = cache_bytes
        self._file: h5py.File | None = None
        self._process = 0
        self._datasets: OrderedDict[str, h5py.Dataset] = OrderedDict()
        self._contained: set[str] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return Handle, (self.path, self.cache_bytes)

    @property
    def location(self) -> str:
        return str(self.path)

    def file(self) -> h5py.File:
        """The open file.

        Raises:
            FileNotFoundError: If there is no such file.
            FormatError: If HDF5 cannot read it.
        """
        if self._file is None or self._process != os.getpid():
            # Across a fork this closes the copy that the child inherited, not the parent's.
            self.close()
            self._file = open_for_reading(self.path, self.cache_bytes)
            self._process = os.getpid()
        return self._file

    def dataset(self, path: str) -> h5py.Dataset:
        """The dataset at an HDF5 path of the file, kept open for the next call."""
        file = self.file()
        found = self._datasets.pop(path, None)
        if found is None:
            # The way to a dataset, and where its data are, stay what they were when it was first opened.
            if path in self._contained:
                found = h5py.Dataset(h5d.open(file.id, path.encode()), readonly=True)
            else:
                found = file[path]
                self._contained.add(path)
            if len(self._datasets) >= OPEN_DATASETS:
                self._datasets.popitem(last=False)
        self._datasets[path] = found
        return found

    def close(self) -> None:
        """Release the file; the next use opens it again."""
        self._datasets.clear()
        self._contained.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def open_for_reading(path: Path, cache_bytes: int) -> h5py.File:
    """The HDF5 file, also one that is still being written or whose writer was killed.

    Raises:
        FileNotFoundError: If there is no such file.
        FormatError: If HDF5 cannot read it; on use of the file, where its data are in another one.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return ContainedFile(path, "r", rdcc_nbytes=cache_bytes)
    except OSError as error:
        if _in_use(str(error)):
            # What a writer has flushed can be read beside it, or after it was killed. Not tried
            # with damaged files, which HDF5 would wait for a writer to complete.
            with suppress(OSError):
                return ContainedFile(path, "r", rdcc_nbytes=cache_bytes, swmr=True, locking=False)
        reason, remedy = _diagnosis(str(error))
        raise FormatError(path, "/", reason, remedy) from error


def _in_use(message: str) -> bool:
    return "unable to lock" in message or "already open" in message


def _diagnosis(message: str) -> tuple[str, str]:
    if "signature not found" in message:
        return "this is not an HDF5 file", "Convert it with `sciwm import`"
    if "truncated file" in message:
        return (
            f"the file is cut off ({message})",
            "Copy it again; if its writer was killed, H5MDWriter(..., resume=True) repairs it",
        )
    if _in_use(message):
        return (
            f"another process is writing to the file, or died while it did ({message})",
            "Wait for it; if it is dead, continue the file with H5MDWriter(..., resume=True), which "
            "repairs it; where the file system has no locks, set HDF5_USE_FILE_LOCKING=FALSE",
        )
    return f"HDF5 cannot open the file ({message})", "Check that it is complete and readable"
