"""Review: scores over the slices, a queue of slices to check, and a button that accepts a mask."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.connections import Connections
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.layout import column, line, name_planes, named, row, shrinking_combo
from napari_sam2._qt.line_plot import Curve, LinePlot, Marks
from napari_sam2._viewer.layer_frames import is_time_axis
from napari_sam2.session.results.divisions import (
    DivisionProposal,
    divisions_beside,
    first_of_each,
    lost_daughter_of,
    parting_of,
)
from napari_sam2.session.results.review import DoubtfulFrame, ReviewQueue, timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.state.store import StoreDelta
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["ReviewSection"]

_PLOT_HEIGHT = 56  # pixels
_INTERVAL_MS = 200
_DOUBTS_S = 0.03  # of each refresh, for the queue; the other objects come with the next one
_DIVISIONS_S = 0.03  # of each refresh, for divisions; the other objects come with the next one
_SHARE = 10  # of the time at least nine tenths belong to others
_MANY_MASKS = 5000  # from here on doubts are looked for when a propagation has ended, not while it runs
_CURVES = {"iou": "IoU", "object_score": "object score", "area": "area (pixels)", "shift": "shift (pixels)"}
_NOTHING = "The score of the object on each slice. Click to go to a slice."


class ReviewSection(QWidget):
    """The timeline of the current object, and the queue of frames to check.

    Times are kept short: nothing is drawn more often than five times a second, however fast a propagation is.

    Attributes
    ----------
    doubts_changed : Signal
        Emitted with object -> number of frames to check.
    """

    doubts_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_review_section")
        self._binding: ViewerBinding | None = None
        self._connections = Connections(self)
        self._queue: ReviewQueue | None = None
        self._is_behind = False  # whether the queue is not up to date yet
        self._doubts: list[DoubtfulFrame] = []
        self._worst: DoubtfulFrame | None = None
        self._clip = range(0)
        self._unchecked: set[int] = set()  # objects whose masks have changed since divisions were looked for
        self._partings: dict[int, DivisionProposal] = {}
        self._beside: list[DivisionProposal] | None = None  # None after a change
        self.num_refreshes = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self.refresh)
        self.curve = shrinking_combo("sam2_review_curve", "What the plot shows of the current object, frame by frame.")
        for value, text in _CURVES.items():
            self.curve.addItem(text, value)
        self.curve.currentIndexChanged.connect(self.refresh)
        self.plot = named(
            LinePlot(),
            "sam2_review_plot",
            "The current object over the slices. Click to go to a slice. Below: prompted slices; green: locked; "
            "above: to check.",
        )
        self.plot.clicked.connect(self._on_plot_clicked)
        self.plot.setMinimumHeight(_PLOT_HEIGHT)
        self.queue = line(
            "sam2_review_queue",
            "Slices whose masks may be wrong: a low score, not found, a sudden change, or tracked from such a mask.",
        )
        self.previous_button = IconButton(
            "previous", "sam2_review_previous", "Go to the previous slice to check. Key: 8"
        )
        self.next_button = IconButton("next", "sam2_review_next", "Go to the next slice to check. Key: 9")
        self.accept_button = IconButton(
            "check",
            "sam2_review_accept",
            "Accept this mask: lock it against changes and go to the next slice to check. Key: Q",
        )
        for made, call in (
            (self.previous_button, self.previous_doubtful),
            (self.next_button, self.next_doubtful),
            (self.accept_button, self.accept),
        ):
            made.clicked.connect(lambda _checked=False, call=call: call())
        layout = column(self)
        self._title = named(QElidingLabel("Review"), "sam2_review_title", "Which object the plot shows.")
        self._title.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._timeline = QWidget()  # there once an object has masks on two slices
        of_object = column(self._timeline)
        heading = QWidget()
        heading.setLayout(title_row := row(self._title, self.curve))
        for at in (0, 1):
            title_row.setStretch(at, 1)
        of_object.addWidget(heading)
        of_object.addWidget(self.plot)
        self.spare_parts = (heading, self.plot)
        layout.addWidget(self._timeline)
        check = row(self.queue, self.previous_button, self.next_button, self.accept_button)
        check.setStretch(0, 1)
        layout.addLayout(check)
        self.refresh()

    # ------------------------------------------------------------------ following
    @property
    def doubts(self) -> list[DoubtfulFrame]:
        """Frames to check, by object, then frame."""
        return list(self._doubts)

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow a session, or none."""
        self._connections.clear()
        self._timer.stop()
        self._binding = binding
        self._unchecked, self._partings, self._beside = set(), {}, None
        self._queue, self._is_behind = None, False
        if binding is not None:
            self._queue = ReviewQueue(binding.session)
            self._unchecked = set(binding.session.store.objects)
            self._connections.connect(binding.session.changed, self._on_session_changed)
            self._connections.connect(binding.session.propagation_changed, self._on_propagation)
            self._connections.connect(binding.current_changed, self._on_current_changed)
            self._connections.connect(binding.viewer.dims.events.current_step, self.follow_step)
            name_planes(self, binding.plane_word)
        self.refresh()

    def _on_session_changed(self, delta: StoreDelta) -> None:
        self._unchecked |= delta.object_ids
        self._beside = None
        for object_id in delta.object_ids:
            self._partings.pop(object_id, None)
        if not self._timer.isActive():
            self._timer.start()

    def _on_propagation(self, handle: PropagationHandle) -> None:
        if not handle.is_running and not self._timer.isActive():
            self._timer.start()

    def _on_current_changed(self, _object_id: int | None) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def follow_step(self, _event: Any = None) -> None:
        """The viewer shows another frame: only the cursor moves."""
        binding = self._binding
        if binding is None:
            return
        plane = binding.current_plane
        if plane not in self._clip and not self._timer.isActive():
            self._timer.start()
        self.plot.set_cursor_x(float(binding.geometry.frame(plane)))
        self._show_buttons()

    def refresh(self, _index: int = 0) -> None:
        """Update the plot and the queue."""
        self.num_refreshes += 1
        started = time.monotonic()
        binding = self._binding
        if binding is None:
            self._doubts, self._worst, self._clip = [], None, range(0)
            self._hide_timeline()
            self.plot.set_cursor_x(None)
        else:
            self._find_doubts(binding)
            self._clip = binding.geometry.clip_range(binding.current_plane)
            self._show_timeline(binding)
        self._show_queue()
        self.follow_step()
        self._show_buttons()
        self._timer.setInterval(max(_INTERVAL_MS, round(1000 * _SHARE * (time.monotonic() - started))))

    def _find_doubts(self, binding: ViewerBinding) -> None:
        session = binding.session
        if len(session.store.masks) > _MANY_MASKS and session.handle is not None and session.handle.is_running:
            return
        assert self._queue is not None
        self._is_behind = not self._queue.update(_DOUBTS_S)
        if self._is_behind:
            QTimer.singleShot(_INTERVAL_MS, self._go_on)
        divisions = self._divisions(binding)
        places = {each.object_id: each.plane for each in divisions}
        # first: what else is wrong with a mask that parts follows from that
        found = divisions + [each for each in self._queue.frames if not _is_of_division(each, places)]
        self._worst = found[0] if found else None
        before, self._doubts = self._doubts, sorted(found, key=lambda doubt: (doubt.object_id, doubt.plane))
        if before != self._doubts:
            self.doubts_changed.emit(dict(Counter(doubt.object_id for doubt in self._doubts)))

    def _divisions(self, binding: ViewerBinding) -> list[DoubtfulFrame]:
        """Where masks part, lose a half, or others begin beside them; Shift-D accepts, Q keeps it as one."""
        axis = binding.geometry.frame_axis
        if axis is None or not is_time_axis(str(binding.labels.axis_labels[axis])):
            return []
        session = binding.session
        begin = time.monotonic()
        while self._unchecked and (session.handle is None or not session.handle.is_running):
            if time.monotonic() - begin > _DIVISIONS_S:
                QTimer.singleShot(_INTERVAL_MS, self._go_on)
                break
            object_id = self._unchecked.pop()
            self._partings.pop(object_id, None)
            if object_id not in session.store.objects:
                continue
            found = parting_of(session, object_id) or lost_daughter_of(session, object_id)
            if found is not None:
                self._partings[object_id] = found
        partings = [each for object_id, each in self._partings.items() if object_id in session.store.objects]
        if self._beside is None:
            self._beside = divisions_beside(session)
        return [
            DoubtfulFrame(each.object_id, each.frame, "may have divided", 2 * each.share)
            for each in first_of_each([*partings, *self._beside])
        ]

    def _go_on(self) -> None:
        if (self._unchecked or self._is_behind) and not self._timer.isActive():
            self._timer.start()

    # ------------------------------------------------------------------ showing
    def _show_timeline(self, binding: ViewerBinding) -> None:
        object_id, session = binding.current, binding.session
        if object_id is None or object_id not in session.store.objects:
            self._hide_timeline()
            return
        self._title.setText(session.store.objects[object_id].name)  # whole in a narrow dock and a large font
        table = timeline(session, object_id)
        table = table[table["plane"].isin(self._clip)]
        name = str(self.curve.currentData())
        if len(table) < 2:
            self._hide_timeline()
            return
        self._timeline.show()
        # frames without a mask are gaps in the line, and of the IoU those where the object was not found
        values = np.full(len(self._clip), np.nan)
        frames = table["frame"].to_numpy()
        is_there = table["area"].to_numpy(float) > 0 if name == "iou" else np.ones(len(table), bool)
        values[frames[is_there]] = table[name].to_numpy(float)[is_there]
        locked = frames[table["locked"].to_numpy(bool)]
        prompts = session.store.prompts_of(object_id, self._clip)
        prompted = [binding.geometry.frame(plane) for plane in prompts]
        doubted = [
            binding.geometry.frame(d.plane) for d in self._doubts if d.object_id == object_id and d.plane in self._clip
        ]
        is_share = name == "iou"
        high = np.nanmax(values) if np.isfinite(values).any() else 1.0
        low = 0.0 if name != "object_score" or not np.isfinite(values).any() else min(0.0, float(np.nanmin(values)))
        self.plot.show_curves(
            (Curve(np.arange(len(values), dtype=float), values, binding.plane_word),),
            marks=(
                Marks(np.asarray(locked, float), "lock"),
                Marks(np.asarray(prompted, float), "prompt"),
                Marks(np.asarray(doubted, float), "doubt"),
            ),
            x_range=(0.0, float(max(1, len(values) - 1))),
            y_range=(0.0, 1.0) if is_share else (low, float(max(high, low + 1e-6))),
        )

    def _hide_timeline(self) -> None:
        self._title.setText("Review")
        self.plot.show_curves((), empty_text=_NOTHING)
        self._timeline.hide()

    def _show_queue(self) -> None:
        count, worst = len(self._doubts), self._worst
        if self._binding is None or worst is None:
            self.queue.setText("Nothing to check.")
            return
        objects = self._binding.session.store.objects
        name = objects[worst.object_id].name if worst.object_id in objects else f"object {worst.object_id}"
        frame = self._binding.geometry.frame(worst.plane)
        word = self._binding.plane_word
        key = " (Shift-D)" if worst.reason == "may have divided" else ""
        many = f"{count} {word}s to check; worst" if count > 1 else f"1 {word} to check"
        self.queue.setText(f"{many}: {name}, {word} {frame}, {worst.reason}{key}")

    def _show_buttons(self) -> None:
        self.previous_button.setEnabled(bool(self._doubts))
        self.next_button.setEnabled(bool(self._doubts))
        self.accept_button.setEnabled(self._place_with_mask() is not None)

    def _place_with_mask(self) -> tuple[int, int] | None:
        """Current object and plane, if there is a mask."""
        binding = self._binding
        if binding is None or binding.current is None:
            return None
        place = (binding.current, binding.current_plane)
        return place if place in binding.session.store.masks else None

    # ------------------------------------------------------------------ what the user does
    def _on_plot_clicked(self, x: float) -> None:
        if self._binding is not None and len(self._clip):
            frame = int(np.clip(round(x), 0, len(self._clip) - 1))
            self._binding.go_to(self._clip[frame])

    def next_doubtful(self) -> None:
        """Go to the next frame to check, of this object first; after the last one comes the first."""
        self._go(1)

    def previous_doubtful(self) -> None:
        """Go to the frame to check before."""
        self._go(-1)

    def _go(self, step: int) -> None:
        binding = self._binding
        if binding is None:
            return
        if self._timer.isActive():
            self._timer.stop()
            self.refresh()
        if not self._doubts:  # as the line above the buttons says
            return
        here = (binding.current or 0, binding.current_plane)
        places = [(doubt.object_id, doubt.plane) for doubt in self._doubts]
        if step > 0:
            place = next((p for p in places if p > here), places[0])
        else:
            place = next((p for p in reversed(places) if p < here), places[-1])
        doubt = self._doubts[places.index(place)]
        binding.select(doubt.object_id)
        binding.go_to(doubt.plane)
        name = binding.session.store.objects[doubt.object_id].name
        then = "; Shift-D divides it, Q keeps it as one" if doubt.reason == "may have divided" else ""
        where = f"{binding.plane_word} {binding.geometry.frame(doubt.plane)}"
        if then or doubt is not self._worst:  # the line above the buttons names the worst one
            binding.notice.emit(f"{name}, {where}: {doubt.reason}{then}", False)

    def accept(self) -> None:
        """Lock the current object on the frame shown, and go to the next frame to check."""
        binding, place = self._binding, self._place_with_mask()
        if binding is None:
            return
        if place is None:
            binding.notice.emit("the current object has no mask here; there is nothing to accept", True)
            return
        try:
            binding.session.lock(place[0], [place[1]])
        except NapariSAM2Error as error:
            binding.notice.emit(binding.in_words(error), True)
            return
        self._timer.stop()
        self.refresh()
        if self._doubts:
            self._go(1)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session."""
        self.set_binding(None)
        super().closeEvent(event)


def _is_of_division(doubt: DoubtfulFrame, places: Mapping[int, int]) -> bool:
    """Whether a mask is doubtful because its object may have divided there, or before: by object, on which plane."""
    at = places.get(doubt.object_id)
    return at is not None and (doubt.plane == at or (doubt.plane > at and doubt.reason == "several pieces"))
