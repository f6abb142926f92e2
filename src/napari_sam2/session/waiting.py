"""Blocking calls: wait for another thread while results that belong to this one are written here."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_until"]

_PAUSE = 0.002  # s between looks


def wait_until(
    is_done: Callable[[], bool],
    timeout: float | None,
    deliver: Callable[[Callable[[], None]], None] | None,
) -> None:
    """Wait; a ``deliver`` with a method ``process`` is given the chance to run what was delivered.

    Raises
    ------
    TimeoutError
        If it takes longer than ``timeout`` seconds.
    """
    process = getattr(deliver, "process", None)
    end = None if timeout is None else time.monotonic() + timeout
    while not is_done():
        if process is not None:
            process()
        if is_done():
            return
        if end is not None and time.monotonic() > end:
            raise TimeoutError(f"no answer within {timeout:g} s; the model may still be loading")
        time.sleep(_PAUSE)
