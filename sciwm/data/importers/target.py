"""The place of a new file: nobody's before, and taken only once the file is complete."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciwm.core.file_lock import FileLock


@contextmanager
def replacing(to: Path, overwrite: bool) -> Iterator[Path]:
    """A name to write the file under that takes its place at `to` where the block ends well.

    Until then whatever stands at `to` stays as it is. Leftovers of killed processes are removed.

    Raises:
        FileNotFoundError: If there is no folder to write into.
        FileExistsError: If something stands at `to` and is not to be replaced, or if another
            process is about to put something there.
    """
    if not to.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {to.parent} to write {to.name} into")
    _require_free(to, overwrite)
    try:
        lock = FileLock(to.with_name(f"{to.name}.importing"))
    except BlockingIOError as error:
        raise FileExistsError(
            f"another import is writing {to}; wait for it, or choose another target"
        ) from error
    partial = to.with_name(f"{to.name}.{secrets.token_hex(4)}.partial")
    try:
        ours = re.compile(re.escape(to.name) + r"\.[0-9a-f]{8}\.partial")
        for leftover in to.parent.iterdir():
            if ours.fullmatch(leftover.name):
                leftover.unlink()
        yield partial
        _require_free(to, overwrite)
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # what is replaced must not go before its successor is safe
        os.replace(partial, to)
    finally:
        # Also when interrupted from the keyboard; the lock goes while it is still held.
        partial.unlink(missing_ok=True)
        lock.release()


def _require_free(to: Path, overwrite: bool) -> None:
    if to.is_dir():
        raise FileExistsError(f"{to} is a folder; name a file in it")
    if os.path.lexists(to) and not overwrite:
        raise FileExistsError(
            f"{to} exists; pass --overwrite to replace it, or choose another target"
        )
