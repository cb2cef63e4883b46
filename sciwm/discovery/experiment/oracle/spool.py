"""The spool: a folder where every reference run leaves its answer, and a sign while it is running.

It belongs to the runs, not to whoever asked for them: a campaign that is killed finds there what was
paid for, and what is still being worked on by processes that outlived it. Several campaigns on
several machines may share one, on a file system that all of them see.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.experiment.oracle.owner import Owner
from sciwm.discovery.problem.hypothesis import Failure


class SpoolError(RuntimeError):
    """The folder cannot be used: no task is at fault."""


class Spool:
    """Answers and signs, by the key of the task.

    Args:
        folder: Made if it does not exist.

    Raises:
        SpoolError: If it cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder).resolve()
        with _explain(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def frames(self, task: Calculation) -> Path:
        """Where the frames of a task belong."""
        return self.folder / f"{task.key}.h5md"

    def answer(self, task: Calculation) -> CalculationResult | None:
        """The last answer there is.

        Raises:
            SpoolError: If it cannot be read.
        """
        path = self._answer_path(task)
        with _explain(path):
            try:
                text = path.read_text()
            except FileNotFoundError:
                return None
        try:
            return CalculationResult.from_json(text, self.folder)
        except ValueError as error:
            raise SpoolError(
                f"{path} is damaged ({error}); remove it to have {task.smiles!r} measured again"
            ) from error

    def deliver(self, task: Calculation, answer: CalculationResult) -> None:
        """Store an answer; from here on it outlives a kill, and a failure of power.

        Raises:
            SpoolError: If it cannot be written.
        """
        path = self._answer_path(task)
        partial = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
        with _explain(path):
            with partial.open("w") as file:
                file.write(answer.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def owner(self, task: Calculation) -> Owner | None:
        """Who works on a task, or did when it died."""
        path = self._sign_path(task)
        with _explain(path):
            try:
                return Owner.from_json(path.read_text())
            except FileNotFoundError:
                return None
            except ValueError:
                pass
            # Its maker was caught between making and filling it; only its age can tell.
            try:
                return Owner("", 0, "", path.stat().st_mtime)
            except FileNotFoundError:
                return None

    def at_work(self, task: Calculation, timeout: float) -> bool:
        """Whether somebody works on a task, who may take `timeout` seconds."""
        owner = self.owner(task)
        return owner is not None and owner.at_work(timeout)

    def claim(self, task: Calculation, timeout: float) -> bool:
        """Put this process's sign on a task; False if another one works on it.

        Raises:
            SpoolError: If the folder cannot be written to.
        """
        path = self._sign_path(task)
        with self._alone(), _explain(path):
            if self.at_work(task, timeout):
                return False
            path.unlink(missing_ok=True)
            try:
                sign = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return False  # another machine was quicker
            with os.fdopen(sign, "w") as file:
                file.write(Owner.here().to_json())
            return True

    def release(self, task: Calculation, owner: Owner | None = None) -> None:
        """Take the sign of this process, or that of `owner`, off a task."""
        found = self.owner(task)
        wanted = owner or Owner.here()
        if found is not None and (found.host, found.pid) == (wanted.host, wanted.pid):
            with _explain(self._sign_path(task)):
                self._sign_path(task).unlink(missing_ok=True)

    def bury(self, task: Calculation, failure: Failure) -> CalculationResult | None:
        """Record a try whose process was lost, for what it cost; None if it had not begun.

        Raises:
            SpoolError: If it cannot be written.
        """
        earlier = self.answer(task)
        owner = self.owner(task)
        if earlier is not None and earlier.attempts > task.attempt:
            answer = earlier  # it died when it had answered already
        elif owner is None:
            return None
        else:
            seconds = owner.seconds()
            answer = CalculationResult(
                task.smiles,
                task.key,
                failure=failure,
                seconds=seconds,
                attempts=task.attempt + 1,
                host=owner.host,
                started=owner.since,
                ended=owner.since + seconds,
            ).after(earlier)
            self.deliver(task, answer)
        if owner is not None:
            self.release(task, owner)
        return answer

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this machine is here meanwhile."""
        with _explain(self.folder):
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _answer_path(self, task: Calculation) -> Path:
        return self.folder / f"{task.key}.json"

    def _sign_path(self, task: Calculation) -> Path:
        return self.folder / f"{task.key}.running"


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Troubles of the file system, in words."""
    try:
        yield
    except OSError as error:
        raise SpoolError(
            f"cannot use {path} ({error.strerror or error}); make room or mend the permissions, then "
            "go on: answers in the spool are kept"
        ) from error
