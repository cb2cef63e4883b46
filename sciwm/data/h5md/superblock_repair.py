"""Bringing back a file whose writer was killed.

Files are written in HDF5's single-writer mode, in which the order of writes keeps the file sound
at every moment. All that a killed writer leaves behind is the mark "open for writing" in the
superblock, and an end-of-file address that may lag behind. Both are set right here, as the
HDF5 tool h5clear does.
"""

import os
import struct
from pathlib import Path

from sciwm.data.h5md.errors import FormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FLAGS = 11
"""Byte with the marks, in version 3 of the superblock (HDF5 file format, section II.A)."""
END_OF_FILE = 28
"""Byte at which the eight bytes of the end-of-file address start."""
SIZE = 44
"""Bytes of the superblock before its checksum."""

_MASK = 0xFFFFFFFF


def recover(path: Path) -> bool:
    """Make the file of a killed writer fit to be opened again; say whether it needed that.

    Only call this while holding the writer's lock: a file marked as open may really be.

    Raises:
        FormatError: If the superblock is not one that sciwm writes.
    """
    with open(path, "r+b") as file:
        head = bytearray(file.read(SIZE + 4))
        if len(head) < SIZE + 4 or head[:8] != SIGNATURE:
            raise FormatError(
                path, "/", "this is not an HDF5 file", "Delete it, or write to another path"
            )
        if head[8] != 3 or head[FLAGS] == 0:
            return False
        (checksum,) = struct.unpack_from("<I", head, SIZE)
        if checksum != lookup3(bytes(head[:SIZE])):
            raise FormatError(
                path,
                "/",
                "the superblock does not match its checksum",
                "The disk or a copy has damaged the file: restore it from a backup",
            )
        size = os.path.getsize(path)
        (end,) = struct.unpack_from("<Q", head, END_OF_FILE)
        head[FLAGS] = 0
        struct.pack_into("<Q", head, END_OF_FILE, max(end, size))
        struct.pack_into("<I", head, SIZE, lookup3(bytes(head[:SIZE])))
        # Space that was reserved but not yet written holds nothing that a sound record points to.
        if size < end:
            file.truncate(end)
        file.seek(0)
        file.write(head)
    return True


def recorded_size(path: Path) -> int:
    """Bytes that a closed file takes according to its superblock; what follows is not part of it."""
    with open(path, "rb") as file:
        (end,) = struct.unpack_from("<Q", file.read(SIZE), END_OF_FILE)
    return end


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hash of 2006, HDF5's checksum of metadata, of a non-empty string of bytes."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    blocks = (len(data) - 1) // 12
    padded = data.ljust(12 * (blocks + 1), b"\0")
    for index in range(blocks):
        x, y, z = struct.unpack_from("<3I", padded, 12 * index)
        a, b, c = _mixed((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
    x, y, z = struct.unpack_from("<3I", padded, 12 * blocks)
    return _finished((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _turned(c, turn)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _finished(a: int, b: int, c: int) -> int:
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, turn)) & _MASK
        a, b, c = b, c, a
    return b


def _turned(word: int, places: int) -> int:
    return ((word << places) | (word >> (32 - places))) & _MASK
