"""Text files line by line, plain or compressed, with line numbers for error messages."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

from sciwm.data.importers.source import SourceError

_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What the decompressors raise."""

_OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def open_text(path: Path) -> IO[str]:
    """The file as text, decompressed where its first bytes say gzip, bzip2 or xz."""
    with path.open("rb") as file:
        opener = _OPENERS.get(file.read(2), open)
    # A comment in another encoding is no reason to refuse: what matters in these files is ASCII.
    return opener(path, "rt", encoding="utf-8", errors="replace")  # type: ignore[operator]


def first_lines(path: Path, count: int) -> list[str]:
    """Up to `count` lines from the start; empty if the file cannot be read as text."""
    try:
        with open_text(path) as file:
            # Binary files may hold no line end for gigabytes.
            return [file.readline(65536) for _ in range(count)]
    except _DAMAGE:
        return []


class NumberedLines:
    """Reads lines and knows which one it is at.

    Attributes:
        number: Line number, from 1, of the line read last.
    """

    def __init__(self, path: Path):
        self.path = path
        self.number = 0
        self._file = open_text(path)

    def __enter__(self) -> "NumberedLines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def next(self) -> str | None:
        """The next line without its end; None after the last one."""
        try:
            line = self._file.readline()
        except _DAMAGE as error:
            raise SourceError(
                self.path,
                f"after line {self.number}",
                f"the compressed data break off ({error})",
                "Copy or download the file again",
            ) from error
        if not line:
            return None
        self.number += 1
        return line.rstrip("\r\n")

    def next_filled(self) -> str | None:
        """The next line that is not blank."""
        line = self.next()
        while line is not None and not line.strip():
            line = self.next()
        return line

    def take(self, count: int) -> list[str]:
        """Up to `count` lines; fewer at the end of the file."""
        lines: list[str] = []
        while len(lines) < count and (line := self.next()) is not None:
            lines.append(line)
        return lines
