"""Propagation: direction, range, progress, pause and stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from napari.utils import progress
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QProgressBar, QSizePolicy, QSpinBox, QWidget

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.background import TELL_AFTER
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.layout import button, column, duration, line, name_planes, named, row, shrinking_combo
from napari_sam2.session.results.review import objects_not_found

if TYPE_CHECKING:
    from napari_sam2._types import Direction
    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["THROUGH_TIME", "PropagateSection"]

THROUGH_TIME = "TIME"
"""Instead of an axis: through each volume, and from one time point to the next."""

_SHOW_EVERY = 0.1  # s: each change of a text repaints the window
_BAR_AFTER_MS = 50
_COUNT_DOWN_MS = 1000
_RANGE_WIDTH = 78  # pixels, so that the row fits in a dock of 250
_LIMIT_WIDTH = 40  # pixels, for four digits
_RANGES = ("all", "from here to", "next")


class PropagateSection(QWidget):
    """Buttons for both directions, a range, progress with the time left."""

    notice = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding: ViewerBinding | None = None
        self._bar: Any = None
        self._wanted: Direction | None = None
        self._axes = ""
        self._shown_at = 0.0
        self._starting = QTimer(self)
        self._starting.setSingleShot(True)
        self._starting.setInterval(_BAR_AFTER_MS)
        self._starting.timeout.connect(self._open_bar)
        self._moving = QTimer(self)
        self._moving.setSingleShot(True)
        self._moving.timeout.connect(self._move_bar)
        self._left: tuple[float, float] | None = None  # seconds left, and when that was estimated
        self._started = 0.0
        self._said_at: object = None  # the latest change when the state was written
        self._counting = QTimer(self)
        self._counting.setInterval(_COUNT_DOWN_MS)
        self._counting.timeout.connect(self._count_down)
        self._settling = QTimer(self)  # until the next turn of the event loop: the change that stopped a run is made
        self._settling.setSingleShot(True)
        self._settling.setInterval(0)
        self.backward = IconButton("backward", "propagate_backward", "Propagate to the slices before. Key: Alt-G")
        self.both = button(
            "Propagate  G",
            "propagate_both",
            "Propagate in both directions from every prompted slice. Key: G",
            lambda: self.propagate("both"),
        )
        self.both.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.forward = IconButton("forward", "propagate_forward", "Propagate to the slices after. Key: Shift-G")
        self.backward.clicked.connect(lambda _=False: self.propagate("backward"))
        self.forward.clicked.connect(lambda _=False: self.propagate("forward"))
        self.range_choice = shrinking_combo("sam2_range", "Which slices to propagate to")
        self.range_choice.addItems(list(_RANGES))
        self.range_choice.currentTextChanged.connect(self._on_range)
        self.limit = named(
            QSpinBox(),
            "sam2_range_limit",
            "The last slice or the number of slices: type a number, or use the arrow keys",
        )
        self.limit.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)  # the row has no room for them in a narrow dock
        self.limit.setStyleSheet(f"min-width: 0px; max-width: {_LIMIT_WIDTH}px;")  # napari's style has wider ones
        self.limit.hide()
        self.range_choice.setMinimumWidth(_RANGE_WIDTH)
        self.this_object = named(
            QCheckBox("this object"),
            "sam2_this_object",
            "Propagate the current object and leave the others as they are",
        )
        self.progress_bar = named(QProgressBar(), "sam2_propagation_progress", "Slices that are finished")
        self.progress_bar.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.pause_button = IconButton("pause", "sam2_pause", "Pause after this slice, or resume. Key: 0")
        self.pause_button.clicked.connect(self.pause_or_resume)
        self.cancel_button = IconButton("stop", "sam2_stop", "Stop. All finished slices are kept. Key: Esc")
        self.cancel_button.clicked.connect(self.cancel)
        self.state = line("sam2_propagation_state", "Progress of the propagation.")
        self.state.hide()
        layout = column(self)
        layout.addLayout(row(self.backward, self.both, self.forward))
        ranges = row(self.range_choice, self.limit, self.this_object)
        ranges.setStretch(0, 1)
        layout.addLayout(ranges)
        layout.addLayout(row(self.progress_bar, self.pause_button, self.cancel_button))
        layout.addWidget(self.state)
        self._show_running(False)
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
        self._axes = ""
        self.setEnabled(binding is not None)
        name_planes(self, self._word)
        if binding is None:
            return
        binding.session.propagation_changed.connect(self._on_progress)
        binding.session.changed.connect(self._on_session)
        count = binding.geometry.num_frames
        self.limit.setRange(0, max(count - 1, 0))
        self.limit.setValue(max(count - 1, 0))
        for widget in (self.backward, self.both, self.forward, self.range_choice):
            widget.setEnabled(count > 1)
        self._say("")

    # ------------------------------------------------------------------ actions
    def propagate(self, direction: Direction = "both") -> None:
        """Start, as soon as every prompt has its mask."""
        binding = self._binding
        if binding is None:
            return
        if binding.session.is_answering:
            self._wanted = direction
            self._say("starts when the mask of the last click is ready")
            return
        self._wanted = None
        clip = binding.geometry.clip_range(binding.current_plane)
        start, stop = self._limits(clip, binding.current_plane, direction)
        ids = [binding.current] if self.this_object.isChecked() and binding.current is not None else None
        if self._axes and self._axes != THROUGH_TIME:
            self._track_along(binding, ids)
            return
        try:
            if self._axes:
                handle = binding.session.propagate_through_time(object_ids=ids, block=False)
            else:
                handle = binding.session.propagate(direction, start=start, stop=stop, object_ids=ids, block=False)
        except NapariSAM2Error as error:
            self.notice.emit(binding.in_words(error))
            return
        if not handle.num_steps:
            self._say(f"nothing to do: every {self._word} in this range is up to date")

    @property
    def axes(self) -> str:
        """Axes of the volume to track along, such as "Y" or "ZYX", or `THROUGH_TIME`; empty: that of the session."""
        return self._axes

    @axes.setter
    def axes(self, axes: str) -> None:
        self._axes = axes
        count = 0 if self._binding is None else self._binding.geometry.num_frames
        for widget in (self.backward, self.forward, self.range_choice):
            widget.setEnabled(count > 1 and not axes)

    def _track_along(self, binding: ViewerBinding, object_ids: list[int] | None) -> None:
        """Track along other axes than the session's; voxels are as large as the layer says."""
        scale, axis = [abs(float(size)) for size in binding.images[0].scale], binding.geometry.frame_axis
        ndim = binding.geometry.ndim
        assert axis is not None, "a volume has a frame axis"
        sizes = [scale[-ndim:][at] for at in (axis, ndim - 2, ndim - 1)]
        try:
            binding.session.track_along(self._axes, voxel_size=sizes, object_ids=object_ids, block=False)
        except NapariSAM2Error as error:
            self.notice.emit(binding.in_words(error))

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
        """Pause or resume."""
        session = None if self._binding is None else self._binding.session
        if session is None or session.handle is None or not session.handle.is_running:
            return
        if session.handle.is_paused:
            session.resume()
        else:
            session.pause()

    def cancel(self) -> None:
        """Stop; finished slices stay."""
        self._wanted = None
        if self._binding is not None:
            self._binding.session.cancel()

    # ------------------------------------------------------------------ following
    def _on_range(self, _text: str) -> None:
        choice = self.range_choice.currentIndex()
        self.limit.setVisible(choice > 0)
        self.limit.setToolTip(f"How many {self._word}s" if choice == 2 else f"The last {self._word}")

    def _say(self, text: str) -> None:
        self._said_at = None if self._binding is None else self._binding.session.history.top
        self.state.setText(text)
        self.state.setVisible(bool(text))

    def _show_running(self, is_running: bool) -> None:
        """Controls of a run, in the place of those that start one."""
        if not is_running and (self.pause_button.hasFocus() or self.cancel_button.hasFocus()):
            self._leave_focus()  # a hidden button would hand the keyboard to the next combo box
        of_run: tuple[QWidget, ...] = (self.progress_bar, self.pause_button, self.cancel_button)
        for widget in of_run:
            widget.setVisible(is_running)
        to_start: tuple[QWidget, ...] = (self.backward, self.both, self.forward, self.range_choice, self.this_object)
        for widget in to_start:
            widget.setVisible(not is_running)
        self.limit.setVisible(not is_running and self.range_choice.currentIndex() > 0)

    def _leave_focus(self) -> None:
        window = self.window()
        if window is not None:
            window.setFocus()

    def _on_session(self, _delta: Any = None) -> None:
        binding = self._binding
        is_idle = self._wanted is None and not self._counting.isActive()
        if binding is not None and is_idle and binding.session.history.top is not self._said_at:
            if self._settling.isActive():  # a run that this change has stopped: it is still to be read
                self._said_at = binding.session.history.top
            else:
                self._say("")  # what it said has changed since, or was undone
        # not at once: this is called during a change, before a new prompt waits or while an old one still does
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
        if running and not self._counting.isActive():
            self._started = now
            self._counting.start()
        left = handle.seconds_left
        self._left = None if left is None or not running else (left, now)
        self._show_running(running)
        self.progress_bar.setMaximum(max(handle.num_steps, 1))
        self.progress_bar.setValue(handle.num_done)
        self.pause_button.set_icon_name("resume" if handle.is_paused else "pause")
        self._say(self._words(handle))
        self._follow_bar(handle)
        if not running:
            self._counting.stop()
            if handle.is_cancelled:
                self._settling.start()
            if handle.num_steps and now - self._started > TELL_AFTER and self._binding is not None:
                self._binding.notice.emit(f"propagation {self._words(handle)}", handle.error is not None)
                self._say("")  # the status line of the dock says it

    def _count_down(self) -> None:
        """Between two slices of a slow run the time left goes on."""
        handle = None if self._binding is None else self._binding.session.handle
        if handle is not None and handle.is_running and not handle.is_paused:
            self._say(self._words(handle))

    @property
    def _word(self) -> Literal["frame", "slice"]:
        return "slice" if self._binding is None else self._binding.plane_word

    def _words(self, handle: PropagationHandle) -> str:
        unit = "step" if self._axes else self._word
        if handle.error is not None:
            return f"failed after {handle.num_done} {unit}s: {handle.error}"
        if not handle.is_running:
            if handle.num_done < handle.num_steps:
                if self._axes and self._axes != THROUGH_TIME:  # their masks come together, at the end
                    return "stopped: nothing was changed"
                finished = f"{handle.num_done} of {handle.num_steps} {unit}s are finished and kept"
                return f"stopped: {finished}; press G to continue"
            return f"done: {handle.num_done} {unit}{'s' * (handle.num_done != 1)}{self._lost()}{self._conditions()}"
        if handle.is_paused:
            return f"paused: {handle.num_done} of {handle.num_steps} {unit}s are done"
        time_left = ""
        if self._left is not None:
            seconds, at = self._left
            time_left = f", {duration(max(1.0, seconds - (time.monotonic() - at)))} left"
        return f"{handle.num_done} of {handle.num_steps} {unit}s{time_left}"

    def _lost(self) -> str:
        """The objects that were there at full size and then not found; those that shrink to nothing have ended."""
        if self._binding is None:
            return ""
        objects = self._binding.session.store.objects
        lost = [objects[i].name for i in objects_not_found(self._binding.session)]
        if not lost:
            return ""
        return f"; not found on some {self._word}s: {_listed(lost)}"

    def _conditions(self) -> str:
        """Slices that could not be used, and those to which the stage has moved."""
        if self._binding is None:
            return ""
        found, frame = self._binding.session.conditions, self._binding.geometry.frame
        unusable = [str(frame(plane)) for plane, each in found.items() if not each.is_usable]
        moved = [f"{frame(p)} ({y:+d}, {x:+d} px)" for p, each in found.items() for y, x in [each.shift_yx] if y or x]
        word = self._word
        text = f"; {word}{'s' * (len(unusable) > 1)} {_listed(unusable)} could not be used" if unusable else ""
        return text + (f"; the stage moved (y, x) before {word} {_listed(moved)}" if moved else "")

    def _follow_bar(self, handle: PropagationHandle) -> None:
        """napari's activity dock, from the next turn of the event loop on: setting its value runs the event loop."""
        if not handle.is_running:
            self._close_bar()
        elif self._bar is not None:
            self._moving.start()
        elif handle.num_steps:
            self._starting.start()

    def _move_bar(self) -> None:
        handle = None if self._binding is None else self._binding.session.handle
        if handle is not None and self._bar is not None:
            self._bar.update(handle.num_done - self._bar.n)

    def _open_bar(self) -> None:
        handle = None if self._binding is None else self._binding.session.handle
        if handle is not None and handle.is_running and self._bar is None:
            self._bar = progress(total=handle.num_steps, desc="SAM 2 propagates")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _listed(texts: list[str]) -> str:
    """The first three of several."""
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
