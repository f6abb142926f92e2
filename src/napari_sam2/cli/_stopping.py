"""Ctrl-C as a wish: the frame or step under way is finished, and what is done is kept."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import typer

__all__ = ["StopRequest"]


class StopRequest:
    """Within ``with``, the first Ctrl-C only makes ``is_set()`` true; the second interrupts at once.

    Elsewhere than on the main thread, where Python lets nobody listen for signals, nothing is changed.

    Parameters
    ----------
    unit : str, default "frame"
        What is finished first, for the message.
    """

    def __init__(self, unit: str = "frame") -> None:
        self._unit = unit
        self._is_set = False
        self._is_listening = threading.current_thread() is threading.main_thread()
        self._before = signal.getsignal(signal.SIGINT) if self._is_listening else None

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._is_set

    def __enter__(self) -> Self:
        if self._is_listening:
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_listening:
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._before is None else self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
        typer.echo(f"\nstopping after this {self._unit} (Ctrl-C again: at once)", err=True)
