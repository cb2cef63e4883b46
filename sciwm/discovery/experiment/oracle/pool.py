"""Worker processes on this machine that may be lost one by one: to a crash, to time, to memory."""

import functools
import math
import multiprocessing
import os
import resource
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessPool

from sciwm.core.bounds import MOST_WORKERS, require_counts

P = ParamSpec("P")
T = TypeVar("T")

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "SCIWM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}
"""Of workers: one thread each, and no progress bars, which nobody would see the right one of."""


TICK = 0.1
"""Seconds between looks at tasks that have a time limit."""


def now() -> float:
    """Seconds on a clock that nobody sets, and that stands while the machine sleeps."""
    return time.monotonic()


class _Limited(Future[T]):
    """A task of pebble's with a time limit by that clock: pebble's own goes by the time of day."""

    def __init__(self, task: "Future[T]", seconds: float):
        super().__init__()
        self._task = task
        self._seconds = seconds
        self._began: float | None = None
        self._late = False
        task.add_done_callback(self._settle)

    def running(self) -> bool:
        return self._task.running()

    def cancel(self) -> bool:
        """Ends the worker where the task runs already."""
        return self._task.cancel()

    def look(self) -> None:
        """Ends a task that has run for too long."""
        if not self._task.running():
            return
        if self._began is None:
            self._began = now()
        elif now() - self._began > self._seconds:
            self._late = True
            self._task.cancel()

    def _settle(self, task: "Future[T]") -> None:
        if task.cancelled() and self._late:
            self.set_exception(TimeoutError(f"the task ran for more than {self._seconds:g} s"))
        elif task.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())


class WorkerPool(Executor):
    """An executor whose tasks can only harm themselves.

    A task whose process dies raises pebble's ProcessExpired, one that takes too long TimeoutError;
    the process is replaced and the others go on. Cancelling a task that runs ends its process.

    Args:
        workers: Processes, each with one thread.
        timeout: Seconds that a task may run.
        memory: Bytes that a task may add to what its process holds already, kept on Linux: beyond
            it allocations fail, usually with MemoryError. Libraries take some of it when they are
            first used, so that less than 200 MB is too little for chemistry. Each process that the
            task starts may hold as much as the worker.
        prepare: Called by each new process before its first task.
    """

    def __init__(
        self,
        workers: int,
        timeout: float = math.inf,
        memory: int | None = None,
        prepare: Callable[[], None] | None = None,
    ):
        require_counts(most=MOST_WORKERS, workers=workers)
        if timeout <= 0:
            raise ValueError(f"a time limit must be positive, got {timeout=} s")
        if memory is not None and memory <= 0:
            raise ValueError(f"a memory limit must be positive, got {memory=} bytes")
        self._workers = workers
        self._timeout = timeout
        self._memory = memory
        # Packed, so that a worker has one thread before it loads what preparing needs.
        self._prepare = None if prepare is None else bytes(ForkingPickler.dumps(prepare))
        self._lock = threading.Lock()
        self._closed = False
        self._unfinished: set[_Limited[Any]] = set()
        self._pool = self._made()
        if timeout < math.inf:
            watched = self._unfinished, weakref.ref(self)
            threading.Thread(target=_watch, args=watched, name="time limits", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See `concurrent.futures.Executor`.

        Raises:
            RuntimeError: After a shutdown.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool was shut down; make a new one")
            # Pebble gives up when a worker dies at rest, though nothing is lost then.
            if not _active(self._pool):
                self._pool.stop()
                self._pool.join()
                self._pool = self._made()
                _active(self._pool)
            task = self._pool.schedule(_limited, (self._memory, fn, args, kwargs))
            future = _Limited(task, self._timeout)
            self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if cancel_futures:
            for future in list(self._unfinished):
                if not future.running():
                    future.cancel()
        self._pool.close()
        if wait:
            self._pool.join()
        else:
            threading.Thread(target=self._pool.join, daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether it was shut down."""
        return self._closed

    def _made(self) -> ProcessPool:
        # Spawned, since forking a process with threads, as torch has, may leave locks held for ever.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(
            self._workers, initializer=_begin, initargs=(self._prepare,), context=context
        )


def _active(pool: ProcessPool) -> bool:
    """Whether it takes tasks; the first call starts its workers.

    In a thread, where no Ctrl-C comes between the start of a process and telling it what it is for: it
    would miss that with a traceback.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: pool.active).result()


def _watch(unfinished: set[_Limited[Any]], pool: "weakref.ref[WorkerPool]") -> None:
    """Ends tasks that run for too long, while there are any or may be; keeps no pool alive."""
    while unfinished or ((one := pool()) is not None and not one.closed):
        one = None
        for future in list(unfinished):
            future.look()
        time.sleep(TICK)


def _begin(prepare: bytes | None = None) -> None:
    """Makes a new process a worker; it ignores Ctrl-C already."""
    os.environ.update(ENVIRONMENT)
    from tqdm import tqdm

    # Whoever imported tqdm before this process became a worker wanted bars; here nobody sees them.
    tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore that would outlive a killed process
    leave = signal.getsignal(signal.SIGTERM)
    assert callable(leave)  # pebble's

    def end(number: int, frame: FrameType | None) -> None:
        # Children may be deep in a calculation and would only notice after it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        leave(number, frame)

    os.setpgrp()
    signal.signal(signal.SIGTERM, end)
    if prepare is not None:
        ForkingPickler.loads(prepare)()


def _limited(
    memory: int | None, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    statistics = Path("/proc/self/statm")
    if memory is not None and statistics.exists():
        # Counted from here, since what earlier tasks left behind is not this one's.
        limit = int(statistics.read_text().split()[5]) * resource.getpagesize() + memory
        if before[1] != resource.RLIM_INFINITY:
            limit = min(limit, before[1])
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        return fn(*args, **kwargs)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
