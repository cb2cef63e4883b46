"""Files that change all at once: a kill or a full disk leaves the old content or the new one, whole."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sciwm.core.file_lock import sole_writer


@contextmanager
def successor(path: Path) -> Iterator[Path]:
    """A name to write the new content of `path` under; it takes its place when the block ends well.

    One at a time: leftovers of killed processes are removed, and they look like what another is writing.
    """
    ours = re.compile(re.escape(path.name) + r"(\.[0-9a-f]{8})?\.partial")
    for leftover in path.parent.iterdir():
        if ours.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)
    # Beside it, since only within one file system a file can take the place of another at once.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # what is replaced must not go before its successor is safe
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # also when interrupted from the keyboard


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write the new content of `path` to; it takes its place when the block ends well.

    Raises:
        OSError: If it cannot be written, with what is still there.
    """
    try:
        with (
            sole_writer(path, "give the same command again when it has ended"),
            successor(path) as partial,
            partial.open("wb") as file,
        ):
            yield file
    except OSError as error:
        state = "is as it was" if path.exists() else "is not there yet"
        raise OSError(
            f"cannot write {path} ({error.strerror or error}); it {state}. Make room or mend the "
            "permissions, then give the same command again"
        ) from error
