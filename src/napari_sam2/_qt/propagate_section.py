"""Propagation: where to, how far it is, pause and cancel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari.utils import progress
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_sam2._errors import NapariSAM2Error

if TYPE_CHECKING:
    from napari_sam2._types import Direction
    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["PropagateSection"]

_SHOW_EVERY = 0.1  # s: each change of a text has the window painted anew
_BAR_AFTER_MS = 50
_RANGES = ("all frames", "from here to", "only next")


class PropagateSection(QWidget):
    """Buttons for both directions, a range, progress with the time left."""

    said = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding: ViewerBinding | None = None
        self._bar: Any = None
        self._wanted: Direction | None = None
        self._shown_at = 0.0
        self._starting = QTimer(self)
        self._starting.setSingleShot(True)
        self._starting.setInterval(_BAR_AFTER_MS)
        self._starting.timeout.connect(self._open_bar)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        self.backward = _button("\N{LEFTWARDS DOUBLE ARROW} back Alt-G", "Propagate to the frames before (Alt-G)")
        self.both = _button("both  G", "Propagate in both directions from every prompted frame (G)")
        self.forward = _button(
            "\N{RIGHTWARDS DOUBLE ARROW} fwd \N{UPWARDS WHITE ARROW}G", "Propagate to the frames after (Shift-G)"
        )
        for button, direction in ((self.backward, "backward"), (self.both, "both"), (self.forward, "forward")):
            button.setObjectName(f"propagate_{direction}")
            button.clicked.connect(lambda _=False, direction=direction: self.propagate(direction))
            row.addWidget(button)
        layout.addLayout(row)
        row = QHBoxLayout()
        self.range_choice = QComboBox()
        self.range_choice.addItems(list(_RANGES))
        self.range_choice.setToolTip("Which frames to fill")
        self.range_choice.currentTextChanged.connect(self._on_range)
        self.limit = QSpinBox()
        self.limit.setToolTip("Last frame to fill, or how many")
        self.limit.setVisible(False)
        self.this_object = QCheckBox("this object only")
        self.this_object.setToolTip("Leave the other objects as they are")
        for widget in (self.range_choice, self.limit):
            row.addWidget(widget)
        layout.addLayout(row)
        layout.addWidget(self.this_object)
        self.progress_bar = QProgressBar()
        self.progress_bar.setVisible(False)
        layout.addWidget(self.progress_bar)
        row = QHBoxLayout()
        self.state = QLabel("")
        self.state.setWordWrap(True)
        self.pause_button = _button("pause  0", "Wait after this frame; go on with the same button (0)")
        self.pause_button.clicked.connect(self.pause_or_resume)
        self.cancel_button = _button("cancel Ctrl-0", "Stop; all finished frames stay (Ctrl-0)")
        self.cancel_button.clicked.connect(self.cancel)
        row.addWidget(self.state, 1)
        for button in (self.pause_button, self.cancel_button):
            button.setVisible(False)
            row.addWidget(button)
        layout.addLayout(row)
        self.setEnabled(False)

    # ------------------------------------------------------------------ binding
    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow another binding, or none."""
        if self._binding is not None:
            self._binding.session.propagation_changed.disconnect(self._on_progress)
            self._binding.session.changed.disconnect(self._on_session)
        self._close_bar()
        self._binding = binding
        self._wanted = None
        self.setEnabled(binding is not None)
        if binding is None:
            return
        binding.session.propagation_changed.connect(self._on_progress)
        binding.session.changed.connect(self._on_session)
        count = binding.geometry.num_frames
        self.limit.setRange(0, max(count - 1, 0))
        self.limit.setValue(max(count - 1, 0))
        for widget in (self.backward, self.both, self.forward, self.range_choice):
            widget.setEnabled(count > 1)
        self.state.setText("" if count > 1 else "one frame: nothing to propagate to")

    # ------------------------------------------------------------------ actions
    def propagate(self, direction: Direction = "both") -> None:
        """Start, as soon as every prompt has its mask."""
        binding = self._binding
        if binding is None:
            return
        if binding.session.is_answering:
            self._wanted = direction
            self.state.setText("starts when the last click is answered")
            return
        self._wanted = None
        clip = binding.geometry.clip_range(binding.current_plane)
        start, stop = self._limits(clip, binding.current_plane, direction)
        ids = [binding.current] if self.this_object.isChecked() and binding.current is not None else None
        try:
            handle = binding.session.propagate(direction, start=start, stop=stop, object_ids=ids, block=False)
        except NapariSAM2Error as error:
            self.said.emit(str(error))
            return
        if not handle.num_steps:
            self.state.setText("nothing to do: every frame in this range is up to date")

    def _limits(self, clip: range, plane: int, direction: Direction) -> tuple[int, int]:
        choice = self.range_choice.currentIndex()
        if choice == 0:
            return clip.start, clip.stop
        if choice == 1:
            other = clip.start + self.limit.value()
            return min(plane, other), max(plane, other) + 1
        count = self.limit.value()
        start = plane if direction == "forward" else max(plane - count, clip.start)
        stop = plane + 1 if direction == "backward" else min(plane + count + 1, clip.stop)
        return start, stop

    def pause_or_resume(self) -> None:
        """Wait, or go on."""
        session = None if self._binding is None else self._binding.session
        if session is None or session.handle is None or not session.handle.is_running:
            return
        if session.handle.is_paused:
            session.resume()
        else:
            session.pause()

    def cancel(self) -> None:
        """Stop; what is finished stays."""
        self._wanted = None
        if self._binding is not None:
            self._binding.session.cancel()

    # ------------------------------------------------------------------ following
    def _on_range(self, _text: str) -> None:
        choice = self.range_choice.currentIndex()
        self.limit.setVisible(choice > 0)
        self.limit.setSuffix(" frames" if choice == 2 else "")

    def _on_session(self, _delta: Any = None) -> None:
        # not at once: this is told amid a change, before a new prompt waits for its mask or while an old one still does
        if self._wanted is not None:
            QTimer.singleShot(0, self._start_wanted)

    def _start_wanted(self) -> None:
        if self._wanted is not None and self._binding is not None and not self._binding.session.is_answering:
            self.propagate(self._wanted)

    def _on_progress(self, handle: PropagationHandle) -> None:
        running, now = handle.is_running, time.monotonic()
        if running and handle.num_done > 0 and not handle.is_paused and now - self._shown_at < _SHOW_EVERY:
            return
        self._shown_at = now
        for widget in (self.progress_bar, self.pause_button, self.cancel_button):
            widget.setVisible(running)
        self.progress_bar.setMaximum(max(handle.num_steps, 1))
        self.progress_bar.setValue(handle.num_done)
        self.pause_button.setText("go on  0" if handle.is_paused else "pause  0")
        self.state.setText(self._words(handle))
        self._follow_bar(handle)

    def _words(self, handle: PropagationHandle) -> str:
        if handle.error is not None:
            return f"stopped after {handle.num_done} frames: {handle.error}"
        if not handle.is_running:
            if handle.num_done < handle.num_steps:
                return f"stopped; {handle.num_done} of {handle.num_steps} frames are finished and stay"
            return f"done: {handle.num_done} frames{self._lost()}"
        if handle.is_paused:
            return f"paused at {handle.num_done} of {handle.num_steps}"
        left = handle.seconds_left
        time_left = "" if left is None else f", {left:.0f} s left"
        return f"frame {handle.num_done} of {handle.num_steps}{time_left}"

    def _lost(self) -> str:
        """Which objects ended before the stack did."""
        if self._binding is None:
            return ""
        store = self._binding.session.store
        lost = [o.name for o in self._binding.session.objects if store.stats(o.object_id).num_lost]
        if not lost:
            return ""
        shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        return f"; lost on the way and left empty from there: {shown}"

    def _follow_bar(self, handle: PropagationHandle) -> None:
        """napari's activity dock, from the next turn of the event loop on: it has all of the window painted at once."""
        if handle.is_running and self._bar is None and handle.num_steps:
            self._starting.start()
        if self._bar is not None:
            self._bar.update(handle.num_done - self._bar.n)
            if not handle.is_running:
                self._close_bar()

    def _open_bar(self) -> None:
        handle = None if self._binding is None else self._binding.session.handle
        if handle is not None and handle.is_running and self._bar is None:
            self._bar = progress(total=handle.num_steps, desc="SAM 2 propagates")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setMinimumWidth(40)
    return button
