"""Long work of a widget on a thread of its own; the GUI polls its reports, so that no Qt object changes thread."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam2._threads import start_thread

__all__ = ["TELL_AFTER", "BackgroundTask", "TaskContext"]

TELL_AFTER = 20.0  # s: the end of longer work is announced by a notification
_INTERVAL_MS = 40


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The result of a task, or its error."""

    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class TaskContext:
    """What the work may use: report progress, and ask whether to stop."""

    _reports: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _stop: threading.Event = field(default_factory=threading.Event)

    def report(self, value: Any) -> None:
        """Send the GUI a value; emitted there by ``BackgroundTask.progressed``."""
        self._reports.put(value)

    def should_stop(self) -> bool:
        """Whether the user asked to stop, or closed the widget."""
        return self._stop.is_set()

    def ask_to_stop(self) -> None:
        """Ask the work to stop."""
        self._stop.set()

    def next_report(self) -> Any:
        """What was reported next.

        Raises
        ------
        queue.Empty
            If there is nothing more yet.
        """
        return self._reports.get_nowait()


class _Running:
    """Stops the work when the task is destroyed."""

    def __init__(self) -> None:
        self.context: TaskContext | None = None

    def stop(self, _gone: object = None) -> None:
        """Ask the work to stop."""
        if self.context is not None:
            self.context.ask_to_stop()


class BackgroundTask(QObject):
    """One piece of work at a time.

    Parameters
    ----------
    parent : QObject
        The widget that it belongs to.
    name : str
        Of the thread.

    Attributes
    ----------
    progressed : Signal
        Emitted with each value that the work reports.
    succeeded : Signal
        Emitted with what the work returns.
    failed : Signal
        Emitted with the exception that ended it.
    ended : Signal
        Emitted after either of them.
    """

    progressed = Signal(object)
    succeeded = Signal(object)
    failed = Signal(object)
    ended = Signal()

    def __init__(self, parent: QObject, name: str) -> None:
        super().__init__(parent)
        self._name = name
        self._began = 0.0
        self._context: TaskContext | None = None
        self._running = _Running()
        # a method of a plain object: Qt must not call into anything that Python may be collecting just then
        self.destroyed.connect(self._running.stop)
        weakref.finalize(self, self._running.stop)
        self._thread: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._read)

    @property
    def is_running(self) -> bool:
        """Whether the work is running, or its result has not been delivered yet."""
        return self._context is not None

    @property
    def is_stopping(self) -> bool:
        """Whether it runs but was asked to stop."""
        return self._context is not None and self._context.should_stop()

    def start(self, work: Callable[[TaskContext], Any]) -> bool:
        """Run ``work`` on a new thread; False, and nothing happens, while another piece runs."""
        if self._context is not None:
            return False
        context = self._context = TaskContext()
        self._began = time.monotonic()
        self._running.context = context
        self._thread = start_thread(lambda: _run(work, context), context.ask_to_stop, name=self._name)
        self._timer.start()
        return True

    def stop(self) -> None:
        """Ask the work to stop; its result is still delivered."""
        if self._context is not None:
            self._context.ask_to_stop()

    def tell_end(self, text: str) -> None:
        """Announce the result of the work that just ended in a notification, if the work was long."""
        from napari.utils.notifications import show_info

        if time.monotonic() - self._began > TELL_AFTER:
            show_info(text)

    def close(self, timeout: float = 0.0) -> bool:
        """Ask the work to stop and drop its result; whether its thread ended within ``timeout`` seconds."""
        self.stop()
        self._timer.stop()
        self._context = None
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _read(self) -> None:
        context = self._context
        while context is not None and context is self._context:
            try:
                report = context.next_report()
            except queue.Empty:
                return
            if not isinstance(report, _Outcome):
                self.progressed.emit(report)
                continue
            self._timer.stop()
            self._context = self._thread = None
            if report.error is not None:
                self.failed.emit(report.error)
            else:
                self.succeeded.emit(report.result)
            self.ended.emit()


def _run(work: Callable[[TaskContext], Any], context: TaskContext) -> None:
    try:
        outcome = _Outcome(result=work(context))
    except Exception as error:  # noqa: BLE001 handed to the GUI, which shows it
        outcome = _Outcome(error=error)
    context.report(outcome)
