"""The effort that code makes, in numbers that do not depend on the machine: calls and bytes, not seconds."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


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
def measured_effort() -> Iterator[Effort]:
    """Count the calls and the memory of a block; its numbers are complete when the block has ended."""
    effort = Effort()

    def count(_frame: object, event: str, _argument: object) -> None:
        effort.calls += event in ("call", "c_call")

    before = sys.getprofile()
    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield effort
    finally:
        sys.setprofile(before)
        effort.peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
