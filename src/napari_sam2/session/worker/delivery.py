"""How results get from the compute thread to the thread that owns a session, also while a call blocks there."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Delivery", "wait_until"]

_POLL_INTERVAL_S = 0.002


class Delivery:
    """Runs functions on the thread that owns a session.

    Parameters
    ----------
    deliver : callable or None
        As for ``Session``.
    """

    def __init__(self, deliver: Callable[[Callable[[], None]], None] | None) -> None:
        self._deliver = deliver

    @property
    def runs_while_waiting(self) -> bool:
        """Whether results are applied while the owner's thread is in ``wait``."""
        return self._deliver is None or hasattr(self._deliver, "process")

    def hand_over(self, function: Callable[[], None]) -> None:
        """Run a function on the thread that owns the session; at once where there is none."""
        if self._deliver is not None:
            self._deliver(function)
        else:
            function()

    def wait(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        """Block until ``is_done()``; raises as ``wait_until``."""
        wait_until(is_done, timeout, self._deliver)


def wait_until(
    is_done: Callable[[], bool],
    timeout: float | None,
    deliver: Callable[[Callable[[], None]], None] | None,
) -> None:
    """Block until ``is_done()``. If ``deliver`` has a ``process`` method it is called meanwhile, so that queued results
    are applied.

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
        time.sleep(_POLL_INTERVAL_S)
