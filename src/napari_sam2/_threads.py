"""Threads that compute, which are stopped and waited for when the process ends."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

__all__ = ["start_thread"]

_PATIENCE_S = 60.0  # for what cannot be interrupted: encoding an image with a large model on a CPU


def start_thread(run: Callable[[], object], stop: Callable[[], object], *, name: str) -> threading.Thread:
    """Start a thread that does not keep the process alive, and does not abort it at its end either.

    Python ends daemon threads in the middle of what they do when the interpreter shuts down. One that is inside
    torch then aborts the whole process.

    Parameters
    ----------
    run : callable
        What the thread does.
    stop : callable
        Asks it to stop; called at the end of the process, which then waits up to a minute for the thread.
    name : str
        Name of the thread.

    Returns
    -------
    threading.Thread
        Running.
    """

    def end() -> None:
        stop()
        thread.join(_PATIENCE_S)

    def work() -> None:
        try:
            run()
        finally:
            atexit.unregister(end)

    thread = threading.Thread(target=work, name=name, daemon=True)
    atexit.register(end)
    thread.start()
    return thread
