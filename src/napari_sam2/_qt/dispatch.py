"""Functions queued by the compute thread and run on the GUI's."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, Signal

__all__ = ["QtDelivery"]


class QtDelivery(QObject):
    """Runs functions on the thread it was made on, in order; callable from any thread.

    Blocking calls of a ``Session`` on the GUI thread use ``process`` to have results written while they wait.
    """

    _arrived = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._owner = threading.get_ident()
        self._is_closed = False
        self._arrived.connect(self.process, Qt.ConnectionType.QueuedConnection)

    def __call__(self, function: Callable[[], None]) -> None:
        """Queue a function; a call from the owner's own thread runs it immediately."""
        if threading.get_ident() == self._owner:
            function()
            return
        self._queue.put(function)
        if not self._is_closed:
            with contextlib.suppress(RuntimeError):  # Qt has destroyed this object: there is nothing left to run it for
                self._arrived.emit()

    def process(self) -> None:
        """Run the queued functions; only on the owner's thread."""
        if threading.get_ident() != self._owner or self._is_closed:
            return
        while True:
            try:
                function = self._queue.get_nowait()
            except queue.Empty:
                return
            function()

    def close(self) -> None:
        """Run no more functions."""
        self._is_closed = True
