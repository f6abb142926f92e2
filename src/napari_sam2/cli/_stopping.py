"""Ctrl-C and SIGTERM: the frame being computed is finished, and finished results are kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from napari_sam2.cli._terminal import say

__all__ = ["StopRequest", "termination_interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; job schedulers and shutdown


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt like Ctrl-C, so that incomplete files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


class StopRequest:
    """Within ``with``, the first Ctrl-C or SIGTERM only makes ``is_set()`` true; the second interrupts at once.

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
        self._before = {number: signal.getsignal(number) for number in _SIGNALS} if is_main else {}

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed or SIGTERM received."""
        return self._is_set

    def __enter__(self) -> Self:
        for number in self._before:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
        say(f"\nstopping after this {self._unit} (Ctrl-C again: immediately)", err=True)
