"""An HDF5 file under construction that outlives kills and full disks.

HDF5 keeps a file sound at every moment only in its single-writer mode (SWMR), in which nothing
new can be created; it gives its own lock up there; and it does not survive a write that fails.
So this class switches the mode on and off, holds a lock of its own, and claims disk space before
HDF5 writes.
"""

import fcntl
import os
from pathlib import Path

import h5py

from sciwm.data.h5md.contained import ContainedFile
from sciwm.data.h5md.superblock_repair import recorded_size, recover

FORMAT = ("v110", "v110")
"""The oldest HDF5 that knows the single-writer mode: version 1.10, of 2016."""

MARGIN_BYTES = 1 << 18
"""Disk space claimed beyond the data, for HDF5's own records."""


class Storage:
    """A file to write to, locked against other writers for as long as it is open.

    Args:
        path: The file.
        resume: Whether it may exist; what a killed writer left open is repaired.

    Raises:
        FileExistsError: If it exists and `resume` is false.
        FormatError: If it exists and is not HDF5.
        OSError: If another process has it open.
    """

    def __init__(self, path: Path, resume: bool):
        self.path = path
        self._descriptor = _locked(path, resume)
        try:
            self.empty = os.fstat(self._descriptor).st_size == 0
            if not self.empty:
                recover(path)
            self.file = self._open("w" if self.empty else "r+")
        except BaseException:
            os.close(self._descriptor)
            raise

    def clear(self) -> None:
        """Start the file afresh."""
        self.file.close()
        self.file = self._open("w")

    def protect(self) -> None:
        """From here on a kill leaves the file sound, but nothing new can be created in it."""
        if not self.file.swmr_mode:
            self.file.swmr_mode = True

    def unprotect(self) -> None:
        """Allow new groups and datasets."""
        if self.file.swmr_mode:
            self.file.close()
            self.file = self._open("r+")

    def claim(self, size: int) -> None:
        """Make sure that `size` more bytes fit on the disk, or raise with the file untouched.

        Zeros behind the end of the file hold the place, since a limit on the size of files or of
        a user's share of the disk shows only when something is written.

        Raises:
            OSError: If they do not fit.
        """
        known = os.fstat(self._descriptor).st_size
        missing = self.file.id.get_filesize() + size + MARGIN_BYTES - known
        done = 0
        try:
            while done < missing:
                block = bytes(min(missing - done, 1 << 20))
                done += os.pwrite(self._descriptor, block, known + done)
        except OSError:
            os.ftruncate(self._descriptor, known)
            raise

    def close(self) -> None:
        """Close the file and give back claimed space that was not needed."""
        try:
            self.file.close()
            size = recorded_size(self.path)
            if os.fstat(self._descriptor).st_size > size:
                os.ftruncate(self._descriptor, size)
        finally:
            os.close(self._descriptor)

    def _open(self, mode: str) -> h5py.File:
        return ContainedFile(self.path, mode, libver=FORMAT, locking=False)


def _locked(path: Path, resume: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        raise FileExistsError(
            f"{path} exists; continue it with resume=True, or remove it first"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OSError(
            f"{path} is in use ({error.strerror}): another process has it open, or an H5MDFile of "
            "this one; wait for it, close it, or write to another file"
        ) from error
    return descriptor
