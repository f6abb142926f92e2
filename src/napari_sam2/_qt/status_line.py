"""The line at the bottom of the dock: the latest message, for as long as it is true, and notifications of napari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.layout import column, line

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StatusLine"]

_NOTIFY_AFTER_MS = 250  # messages that follow each other at once become one notification


class StatusLine(QWidget):
    """Shows messages until they are outdated.

    Parameters
    ----------
    state : callable
        Returns what a message may be about: the latest change of the session and the plane shown; None without one.
    text : str
        The text at the start.
    """

    def __init__(self, state: Callable[[], tuple[Any, int] | None], text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._said_in: tuple[Any, int] | None = None
        self._model_text = ""  # what the model says while a server is lost or busy
        self._pending: list[tuple[str, bool]] = []
        self.label = line("sam2_message", "Latest message.", text)
        layout = column(self)
        layout.addWidget(self.label)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_NOTIFY_AFTER_MS)
        self._timer.timeout.connect(self._notify)

    @property
    def text(self) -> str:
        """The message that is shown."""
        return self.label.text()

    @property
    def model_text(self) -> str:
        """What the model waits for; empty if for nothing."""
        return self._model_text

    def say(self, text: str, is_error: bool = False) -> None:
        """Show a message; messages that come together become one notification."""
        self.show_text(text)
        self._said_in = self._state()
        self._pending.append((text, is_error))
        self._timer.start()  # again: until no more messages come

    def say_error(self, error: Exception) -> None:
        """Show what went wrong."""
        self.say(str(error) if isinstance(error, NapariSAM2Error) else f"{type(error).__name__}: {error}", True)

    def show_text(self, text: str) -> None:
        """Show a message in this line only, until the next one."""
        self._said_in = None
        self.label.setText(text)
        self.label.setVisible(bool(text))

    def show_model(self, text: str) -> None:
        """Show what the model waits for, in this line only, until it is over; empty once it is."""
        if text or self.text == self._model_text:
            self.show_text(text)
        self._model_text = text

    def drop_old(self) -> None:
        """Remove a message if something else was done, or another slice is shown."""
        state, before = self._state(), self._said_in
        if state is None or before is None or (state[0] is before[0] and state[1] == before[1]):
            return
        self.show_text("")

    def forget_pending(self) -> None:
        """Drop notifications that were not shown yet."""
        self._pending.clear()

    def stop(self) -> None:
        """Show no more notifications."""
        self._timer.stop()

    def _notify(self) -> None:
        pending, self._pending = self._pending, []
        for is_error, tell in ((True, show_warning), (False, show_info)):
            texts = dict.fromkeys(text for text, is_bad in pending if is_bad == is_error)
            if texts:
                tell("\n".join(texts))
