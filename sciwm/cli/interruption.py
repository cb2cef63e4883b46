"""Ctrl-C while packages are being loaded."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

IMPORT = "<frozen importlib._bootstrap>"

AGAIN = 0.02
"""Seconds."""


@contextmanager
def whole_imports() -> Iterator[None]:
    """Lets a Ctrl-C wait until no module is half loaded, or all is done.

    NumPy and others swallow it, and fail later for want of what was not loaded.

    Raises:
        KeyboardInterrupt: When it has waited long enough.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # it does not arrive here, or somebody else answers it
        return

    waiting: threading.Timer | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal waiting
        place = frame
        while place is not None:
            if place.f_code.co_filename == IMPORT:
                waiting = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
                waiting.daemon = True
                waiting.start()
                return
            place = place.f_back
        waiting = None
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if waiting is not None:
            waiting.cancel()
            raise KeyboardInterrupt
