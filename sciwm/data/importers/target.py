"""The place of a new file: nobody's before, and taken only once the file is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciwm.core.file_lock import FileLock
from sciwm.core.replacement import successor


@contextmanager
def new_file(to: Path, overwrite: bool) -> Iterator[Path]:
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
    try:
        with successor(to) as partial:
            yield partial
            _require_free(to, overwrite)
    finally:
        lock.release()


def _require_free(to: Path, overwrite: bool) -> None:
    if to.is_dir():
        raise FileExistsError(f"{to} is a folder; name a file in it")
    if os.path.lexists(to) and not overwrite:
        raise FileExistsError(
            f"{to} exists; pass --overwrite to replace it, or choose another target"
        )
