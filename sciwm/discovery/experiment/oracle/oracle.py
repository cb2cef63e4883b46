"""The oracle: reference runs on whatever executes Python functions elsewhere.

Tasks go to any `concurrent.futures.Executor`, such as `WorkerPool` on one machine or Parsl on many.
Answers go through a spool folder, where they outlive whoever asked. So a campaign that was killed asks
the same again: what was answered is not paid twice, and what still runs is waited for.
"""

import math
import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import replace

from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.experiment.oracle.measurement import measure, recipes_of
from sciwm.discovery.experiment.oracle.spool import Spool, SpoolError
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.simulation.references.registry import reference_from

POLL = 0.5
"""Seconds between looks at runs that somebody else pays."""

STARTS = 3
"""Times that a run may come to nothing without having begun: then the molecule is not at fault."""

PASSING = frozenset({"time", "worker"})
"""Failures that another try may not meet."""


class OracleError(RuntimeError):
    """Runs cannot be started: no task is at fault."""


class Oracle:
    """Measures molecules.

    Args:
        executor: Runs in processes (`WorkerPool`, Parsl), not threads, if time limits are to hold.
        spool: Of this campaign, or shared by several.
        timeout: Seconds that one run may take. It notices by itself and keeps what it has found; an
            executor that ends processes should leave it a few seconds more.
        retries: Further tries after a failure that may pass.
    """

    def __init__(
        self, executor: Executor, spool: Spool, timeout: float = math.inf, retries: int = 1
    ):
        self._executor = executor
        self._spool = spool
        self._timeout = timeout
        self._retries = retries

    def run(self, tasks: Iterable[Calculation]) -> Iterator[CalculationResult]:
        """Answers in the order in which they come; equal tasks are answered once.

        A task that fails is answered with its failure. Closing the iterator cancels what is left,
        except the runs of others.

        Raises:
            ValueError: If recipes or reference cannot be built.
            ImportError: If the program of the reference is not installed.
            SpoolError: If the spool cannot be used.
            OracleError: If runs cannot be started.
        """
        asked = {task.key: task for task in tasks}
        described = {repr((task.outcomes, task.reference)): task for task in asked.values()}
        for task in described.values():
            recipes_of(task.outcomes)
            reference_from(task.reference)
        batch = _Batch(self._executor, self._spool, self._timeout, self._retries)
        try:
            yield from batch.run(asked.values())
        finally:
            batch.cancel()


class _Batch:
    """The tasks of one call, between asking and answer."""

    def __init__(self, executor: Executor, spool: Spool, timeout: float, retries: int):
        self._executor = executor
        self._spool = spool
        self._timeout = timeout
        self._retries = retries
        self._ours: dict[Future[CalculationResult | None], Calculation] = {}
        self._others: dict[str, Calculation] = {}
        self._lost: dict[str, int] = {}
        self._done: queue.SimpleQueue[Future[CalculationResult | None]] = queue.SimpleQueue()

    def run(self, tasks: Iterable[Calculation]) -> Iterator[CalculationResult]:
        known = [self._placed(task, self._spool.answer(task)) for task in tasks]
        yield from (answer for answer in known if answer is not None)
        while self._ours or self._others:
            try:
                future = self._done.get(timeout=POLL if self._others else None)
            except queue.Empty:
                pass
            else:
                task = self._ours.pop(future)
                answer = self._placed(task, self._outcome(future, task))
                if answer is not None:
                    yield answer
            for task in list(self._others.values()):
                if not self._spool.at_work(task, self._timeout):
                    del self._others[task.key]
                    answer = self._placed(task, self._spool.answer(task))
                    if answer is not None:
                        yield answer

    def cancel(self) -> None:
        for future in self._ours:
            # Parsl cannot.
            try:
                future.cancel()
            except NotImplementedError:
                return

    def _placed(
        self, task: Calculation, answer: CalculationResult | None
    ) -> CalculationResult | None:
        """The answer if it is final; else the task is on its way to the next one."""
        if answer is not None:
            failure = answer.failure
            if failure is None or failure.stage not in PASSING or answer.attempts > self._retries:
                return answer
            task = replace(task, attempt=answer.attempts)
        if self._spool.at_work(task, self._timeout):
            self._others[task.key] = task
        else:
            future = self._executor.submit(run, task, str(self._spool.folder), self._timeout)
            self._ours[future] = task
            future.add_done_callback(self._done.put)
        return None

    def _outcome(
        self, future: "Future[CalculationResult | None]", task: Calculation
    ) -> CalculationResult | None:
        """What came of a run of ours; None if somebody else is at it, or it never began."""
        try:
            return future.result()
        except (SpoolError, CancelledError):
            raise
        except TimeoutError:
            failure = Failure("time", f"{task.smiles} was ended after {self._timeout:g} s")
        except Exception as error:  # every executor has its own for a process that died
            failure = Failure("worker", _reason_of_loss(error))
        answer = self._spool.bury(task, failure)
        if answer is None:
            self._lost[task.key] = self._lost.get(task.key, 0) + 1
            if self._lost[task.key] >= STARTS:
                raise OracleError(
                    f"{type(self._executor).__name__} could not run {task.smiles}, {STARTS} times over, "
                    f"through no fault of the molecule: {failure.reason}"
                )
        return answer


def run(task: Calculation, folder: str, timeout: float) -> CalculationResult | None:
    """What an executor runs: measures and leaves the answer in the spool.

    Returns:
        None if another process works on it.

    Raises:
        SpoolError: If the spool cannot be used.
    """
    spool = Spool(folder)
    if not spool.claim(task, timeout):
        return None
    try:
        earlier = spool.answer(task)
        if earlier is not None and earlier.attempts > task.attempt:
            return earlier
        try:
            answer = measure(task, spool.frames(task), timeout).after(earlier)
        except OSError as error:
            raise SpoolError(f"cannot write the frames of {task.smiles}: {error}") from error
        spool.deliver(task, answer)
        return answer
    finally:
        spool.release(task)


def _reason_of_loss(error: BaseException) -> str:
    code = getattr(error, "exitcode", None)
    ending = f" with exit status {code}" if code is not None else ""
    return f"the process was lost{ending}: {type(error).__name__}: {error}"
