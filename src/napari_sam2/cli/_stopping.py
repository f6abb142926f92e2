"""Ctrl-C, or the wish of a job scheduler, ends a command: what is under way is finished, and what is done is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import typer

__all__ = ["StopRequest", "termination_interrupts"]

_WISHES = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; the end of a job's time, or of the machine's


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within it, SIGTERM does what Ctrl-C does, so that nothing half-written is left behind."""
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

    Elsewhere than on the main thread, where Python lets nobody listen for signals, nothing is changed.

    Parameters
    ----------
    unit : str, default "frame"
        What is finished first, for the message.
    """

    def __init__(self, unit: str = "frame") -> None:
        self._unit = unit
        self._is_set = False
        is_listening = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in _WISHES} if is_listening else {}

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed, or the process told to end."""
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
        typer.echo(f"\nstopping after this {self._unit} (Ctrl-C again: at once)", err=True)
