"""Files that change all at once: a kill or a full disk leaves the old content or the new one, whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sciwm.core.file_lock import sole_writer


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write the new content of `path` to; it takes its place when the block ends well.

    Raises:
        OSError: If it cannot be written, with what is still there.
    """
    # Beside it, since only within one file system a file can take the place of another at once.
    partial = path.with_name(path.name + ".partial")
    try:
        # Two that write under one name at the same time would mix what they write.
        with sole_writer(path, "give the same command again when it has ended"):
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            state = "is as it was" if path.exists() else "is not there yet"
            raise OSError(
                f"cannot write {path} ({error.strerror or error}); it {state}. Make room or mend the "
                "permissions, then give the same command again"
            ) from error
        raise
