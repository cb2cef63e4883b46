"""A lock that the operating system releases when its owner dies, however it dies."""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class FileLock:
    """An exclusive lock on a file of its own, held from construction until `release`.

    Raises:
        BlockingIOError: If it is held already, by this process or another.
        OSError: If the file cannot be opened, or its disk knows no locks.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor: int | None = self._locked()
        _HELD.add(self)

    def _locked(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            # Its last owner may have removed the file between opening and locking; a lock on
            # a removed file would keep nobody out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor
            os.close(descriptor)

    def release(self) -> None:
        """Removes the file, while it is still locked, and lets others in."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """Closes this process's share of the lock, which other shares keep locked."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _HELD.discard(self)


@contextmanager
def sole_writer(path: Path, remedy: str) -> Iterator[None]:
    """Keeps other processes from writing a file or folder meanwhile; this one may enter again.

    Args:
        path: What is written; the lock lies in a folder, or beside a file.
        remedy: What to do instead.

    Raises:
        OSError: If another process writes it, or this one may not.
    """
    lock_path = path / ".lock" if path.is_dir() else path.with_name(path.name + ".lock")
    lock_path = lock_path.resolve()
    if any(lock.path == lock_path for lock in _HELD):
        yield
        return
    try:
        lock = FileLock(lock_path)
    except BlockingIOError as error:
        raise OSError(f"another process is writing {path}; {remedy}") from error
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}); name a place where you may write"
        ) from error
    try:
        yield
    finally:
        lock.release()


_HELD: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


# A forked worker shares its parent's locks and, outliving the parent, would keep them.
os.register_at_fork(after_in_child=_forget_all)
