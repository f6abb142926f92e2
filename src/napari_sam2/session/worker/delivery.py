"""Between the threads of a session: results reach the one that owns it, also while a call blocks there."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Delivery", "wait_until"]

_PAUSE = 0.002  # s between looks


class Delivery:
    """How results reach the thread that owns a session.

    Parameters
    ----------
    deliver : callable or None
        As for ``Session``.
    """

    def __init__(self, deliver: Callable[[Callable[[], None]], None] | None) -> None:
        self._deliver = deliver

    @property
    def goes_on_while_waiting(self) -> bool:
        """Whether results are written while the owner's thread is in ``wait``."""
        return self._deliver is None or hasattr(self._deliver, "process")

    def hand_over(self, function: Callable[[], None]) -> None:
        """Run a function on the thread that owns the session; where there is none, at once."""
        if self._deliver is not None:
            self._deliver(function)
        else:
            function()

    def wait(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        """Block until something is done; raises as ``wait_until``."""
        wait_until(is_done, timeout, self._deliver)


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
