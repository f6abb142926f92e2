"""The effort that code makes, in numbers that do not depend on the machine: calls and bytes, not seconds."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_PATIENCE = 30.0  # s
_WAITING_PLACES = (  # of idle threads
    "threading.py",
    "selectors.py",
    "queue.py",
    "socket.py",
    "futures/thread.py",
    "execnet/gateway_base.py",
)


@dataclass
class Effort:
    """What the block of `measured_effort` did.

    Attributes
    ----------
    calls : int
        The number of calls of Python and of C functions, in this thread.
    peak_bytes : int
        The most memory that was allocated at a time (numpy's arrays are counted).
    """

    calls: int = 0
    peak_bytes: int = 0


@contextmanager
def traced_memory() -> Iterator[None]:
    """Trace memory with `tracemalloc` during a block, and until no other thread is at work.

    Python before 3.12.9 and 3.13.2 may crash if tracing stops while another thread decompresses with zlib
    (https://github.com/python/cpython/issues/128679). Threads still do after a chunk of an image was refused.
    """
    tracemalloc.start()
    try:
        yield
    finally:
        end = time.monotonic() + _PATIENCE
        while (busy := _busy_threads()) and time.monotonic() < end:
            time.sleep(0.01)
        assert not busy, f"threads are still at work: {busy}"
        tracemalloc.stop()


def _busy_threads() -> list[str]:
    """Where the threads are that do not wait."""
    here = threading.get_ident()
    tops = [frame.f_code for thread, frame in sys._current_frames().items() if thread != here]
    return [f"{code.co_filename}: {code.co_name}" for code in tops if not code.co_filename.endswith(_WAITING_PLACES)]


@contextmanager
def measured_effort() -> Iterator[Effort]:
    """Count the calls and the memory of a block; its numbers are complete when the block has ended."""
    effort = Effort()

    def count(_frame: object, event: str, _argument: object) -> None:
        effort.calls += event in ("call", "c_call")

    before = sys.getprofile()
    with traced_memory():
        sys.setprofile(count)
        try:
            yield effort
        finally:
            sys.setprofile(before)
            effort.peak_bytes = tracemalloc.get_traced_memory()[1]
