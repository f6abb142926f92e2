"""Ctrl-C, SIGTERM and SIGHUP: the frame being computed is finished, and finished results are kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from napari_sam2.cli._terminal import say

__all__ = ["StopRequest", "termination_interrupts"]


def _ending_signals() -> list[int]:
    """Job schedulers and shutdown send SIGTERM; a terminal that is closed SIGHUP, unless nohup has it ignored."""
    hangup: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise KeyboardInterrupt like Ctrl-C, so that incomplete files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ending_signals()}
    try:
        yield
    finally:
        _restore(before)


def _restore(handlers: Mapping[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]


class StopRequest:
    """Within ``with``, the first Ctrl-C, SIGTERM or SIGHUP only makes ``is_set()`` true; the second interrupts at once.

    On other threads than the main one, on which Python allows no signal handlers, it does nothing.

    Parameters
    ----------
    unit : str, default "frame"
        What is finished first, for the message.
    """

    def __init__(self, unit: str = "frame") -> None:
        self._unit = unit
        self._is_set = False
        is_main = threading.current_thread() is threading.main_thread()
        numbers = [signal.SIGINT, *_ending_signals()] if is_main else []
        self._before: dict[int, object] = {number: signal.getsignal(number) for number in numbers}

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed, or SIGTERM or SIGHUP received."""
        return self._is_set

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _restore(self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
        say(f"\nstopping after this {self._unit} (Ctrl-C again: immediately)", err=True)
