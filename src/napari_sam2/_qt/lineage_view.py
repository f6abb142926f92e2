"""The lineage of the objects as a tree over time; a click goes to an object and its frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QCloseEvent, QColor, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QWidget

from napari_sam2._qt.connections import Connections
from napari_sam2._qt.layout import column, line, named
from napari_sam2._viewer.labels_layer import object_colour
from napari_sam2._viewer.layer_places import show_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.labels.tracks import Tracks

__all__ = ["LineageTree", "LineageView", "TreeTrack", "place_tracks"]

_ROW = 18  # pixels, at least
_LEFT, _RIGHT, _TOP = 10, 60, 6  # names have more room to the right where they need it
_MOST_FOR_NAMES = 1 / 3  # of the width
_NEAR = 9  # pixels: a click further away means no track
_INTERVAL_MS = 300
_ADVICE = "Press Shift-D on the first frame of two daughters to mark a division of the current object."


@dataclass(frozen=True)
class TreeTrack:
    """One object of the tree.

    Attributes
    ----------
    object_id : int
        Its number.
    first, last : int
        First and last frame that show it.
    parent : int or None
        The object that divided into it.
    name : str
        Shown at its end.
    """

    object_id: int
    first: int
    last: int
    parent: int | None = None
    name: str = ""


def place_tracks(tracks: Sequence[TreeTrack]) -> dict[int, float]:
    """The row of each track: families together, a mother between her daughters.

    Parameters
    ----------
    tracks : sequence of TreeTrack
        A parent that is not among them counts as none.

    Returns
    -------
    dict of int to float
        Object -> row, from 0; tracks without daughters are on whole rows.
    """
    known = {track.object_id for track in tracks}
    daughters: dict[int, list[TreeTrack]] = {}
    roots = []
    for track in sorted(tracks, key=lambda each: (each.first, each.object_id)):
        if track.parent in known and track.parent is not None:
            daughters.setdefault(track.parent, []).append(track)
        else:
            roots.append(track)
    roots.sort(key=lambda each: each.object_id not in daughters)  # families first
    rows: dict[int, float] = {}
    num_leaves = 0
    waiting = [(root, False) for root in reversed(roots)]
    while waiting:
        track, is_below_done = waiting.pop()
        below = daughters.get(track.object_id, [])
        if not below:
            rows[track.object_id] = float(num_leaves)
            num_leaves += 1
        elif is_below_done:
            rows[track.object_id] = float(np.mean([rows[each.object_id] for each in below]))
        else:
            waiting.append((track, True))
            waiting += [(each, False) for each in reversed(below)]
    return rows


class LineageTree(QWidget):
    """Draws tracks as lines over the frames, with forks where they divide.

    Attributes
    ----------
    clicked : Signal
        Emitted with the number of an object and a frame.
    """

    clicked = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tracks: dict[int, TreeTrack] = {}
        self._rows: dict[int, float] = {}
        self._num_frames = 1
        self._name_width = 0  # of the longest
        self._current: int | None = None
        self._frame = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)

    @property
    def tracks(self) -> tuple[TreeTrack, ...]:
        """What is shown."""
        return tuple(self._tracks.values())

    def show_tracks(self, tracks: Sequence[TreeTrack], num_frames: int) -> None:
        """Replace the tracks; ``num_frames`` is the length of the axis."""
        self._tracks = {track.object_id: track for track in tracks}
        self._rows = place_tracks(tracks)
        self._num_frames = max(1, num_frames)
        self._fit()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Rows are as high, and names have as much room, as the font needs."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        self._name_width = max((metrics.horizontalAdvance(each.name) for each in self._tracks.values()), default=0)
        self.setMinimumHeight(2 * _TOP + self._row_height * round(max(self._rows.values(), default=0) + 1))
        self.update()

    @property
    def _row_height(self) -> int:
        return max(_ROW, int(self.fontMetrics().height()))

    @property
    def _right(self) -> int:
        """Room for names, in pixels."""
        return max(_RIGHT, min(self._name_width + 10, int(self.width() * _MOST_FOR_NAMES)))

    def show_place(self, object_id: int | None, frame: int) -> None:
        """Mark the current object and frame."""
        if (object_id, frame) != (self._current, self._frame):
            self._current, self._frame = object_id, frame
            self.update()

    def position_of(self, object_id: int, frame: float) -> tuple[float, float]:
        """Where a frame of a track is drawn, in pixels."""
        room = max(1, self.width() - _LEFT - self._right)
        x = _LEFT + room * frame / max(1, self._num_frames - 1)
        return x, _TOP + self._row_height * (self._rows[object_id] + 0.5)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Emit the object and frame under the mouse."""
        if event is None or not self._tracks:
            return
        at = event.position()
        nearest = min(
            self._tracks, key=lambda each: abs(self.position_of(each, 0)[1] - at.y()) + self._beyond(each, at)
        )
        if abs(self.position_of(nearest, 0)[1] - at.y()) + self._beyond(nearest, at) > _NEAR:
            return
        room = max(1, self.width() - _LEFT - self._right)
        frame = round((at.x() - _LEFT) / room * max(1, self._num_frames - 1))
        track = self._tracks[nearest]
        self.clicked.emit(nearest, int(np.clip(frame, track.first, track.last)))

    def _beyond(self, object_id: int, at: QPointF) -> float:
        """How far a place is outside the length of a track."""
        track = self._tracks[object_id]
        left, right = (self.position_of(object_id, frame)[0] for frame in (track.first, track.last))
        right += self._right if object_id in self._rows else 0  # its name
        return max(0.0, left - at.x(), at.x() - right)

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Draw everything."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        quiet = QColor(text)
        quiet.setAlphaF(0.45)
        if self._tracks:
            x = self.position_of(next(iter(self._tracks)), self._frame)[0]
            painter.setPen(QPen(quiet, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))
        for track in self._tracks.values():
            self._paint_track(painter, track, text, quiet)
        painter.end()

    def _paint_track(self, painter: QPainter, track: TreeTrack, text: QColor, quiet: QColor) -> None:
        begin, end = (QPointF(*self.position_of(track.object_id, f)) for f in (track.first, track.last))
        if track.parent in self._tracks and track.parent is not None:
            mother = self._tracks[track.parent]
            fork = QPointF(*self.position_of(mother.object_id, mother.last))
            painter.setPen(QPen(quiet, 1.5))
            painter.drawLine(fork, QPointF(fork.x(), begin.y()))
            painter.drawLine(QPointF(fork.x(), begin.y()), begin)
        is_current = track.object_id == self._current
        colour = QColor.fromRgbF(*(float(value) for value in object_colour(track.object_id)))
        painter.setPen(QPen(colour, 5 if is_current else 3))
        painter.drawLine(begin, end)
        if begin == end:
            painter.drawPoint(begin)
        painter.setPen(text if is_current else quiet)
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        place = QRectF(end.x() + 6, end.y() - self._row_height / 2, self._right - 8, self._row_height)
        is_mother = any(each.parent == track.object_id for each in self._tracks.values())
        if not is_mother:
            name = painter.fontMetrics().elidedText(track.name, Qt.TextElideMode.ElideMiddle, self._right - 8)
            painter.drawText(place, int(flags.value if hasattr(flags, "value") else flags), name)

    def sizeHint(self) -> QSize:  # noqa: N802 the name is Qt's
        """Wide, and as high as its rows."""
        return QSize(400, self.minimumHeight())


class LineageView(QWidget):
    """The lineage of a session, or of a Labels layer with tracks, to be docked."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_lineage")
        self._binding: ViewerBinding | None = None
        self._viewer: ViewerModel | None = None
        self._layer: Labels | None = None  # whose lineage is shown instead of a session's
        self._connections = Connections(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self.refresh)
        self.tree = named(
            LineageTree(), "sam2_lineage_tree", "Tracks over time. Click on a track to go to its object and frame."
        )
        self.tree.clicked.connect(self._on_clicked)
        self.message = line("sam2_lineage_message", "Number of divisions.", _ADVICE)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(self.tree)
        layout = column(self)
        layout.setContentsMargins(6, 2, 6, 2)
        layout.addWidget(self.message)
        layout.addWidget(area, 1)

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Show another session, or none."""
        self._connections.clear()
        self._timer.stop()
        self._binding, self._viewer, self._layer = binding, None, None
        if binding is not None:
            self._connections.connect(binding.session.changed, self._later)
            self._connections.connect(binding.current_changed, self._later)
            self._connections.connect(binding.viewer.dims.events.current_step, self._on_step)
        self.refresh()

    def show_layer(self, viewer: ViewerModel, layer: Labels, tracks: Tracks, num_frames: int) -> None:
        """Show the lineage of a layer, until `set_binding` is called.

        Parameters
        ----------
        viewer : napari.viewer.Viewer or ViewerModel
            Where the layer is.
        layer : napari.layers.Labels
            The objects, with frames along its first axis.
        tracks : Tracks
            Their lineage.
        num_frames : int
            Length of the axis.
        """
        self.set_binding(None)
        self._viewer, self._layer = viewer, layer
        parents = tracks.parents
        self.tree.show_tracks(
            [TreeTrack(each, *span, parents.get(each), f"{each}") for each, span in tracks.spans().items()], num_frames
        )
        count = sum(len(daughters) > 1 for daughters in tracks.daughters().values())
        self.message.setText(f"{layer.name}: {count} division{'s' * (count != 1)}. Click on a track to go there.")

    def _later(self, _change: Any = None) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def refresh(self) -> None:
        """Show the tracks as they are now."""
        binding = self._binding
        if binding is None:
            self.tree.show_tracks((), 1)
            return
        clip = binding.geometry.clip_range(binding.current_plane)
        table = binding.session.lineage
        tracks = [
            TreeTrack(row.object, max(row.first, clip.start) - clip.start, min(row.last, clip.stop - 1) - clip.start,
                      row.parent or None, row.name)
            for row in table.itertuples()
            if row.first >= 0 and row.first < clip.stop and row.last >= clip.start
        ]  # fmt: skip
        self.tree.show_tracks(tracks, len(clip))
        count = sum(bool(daughters) for daughters in table["daughters"])
        self.message.setText(f"{count} division{'s' * (count != 1)}. {_ADVICE}" if count else _ADVICE)
        self._on_step()

    def _on_step(self, _event: Any = None) -> None:
        binding = self._binding
        if binding is not None:
            self.tree.show_place(binding.current, binding.geometry.frame(binding.current_plane))

    def _on_clicked(self, object_id: int, frame: int) -> None:
        binding, layer, viewer = self._binding, self._layer, self._viewer
        if layer is not None and viewer is not None and layer in viewer.layers:
            layer.selected_label = object_id
            show_plane(viewer, layer, (frame,))
            self.tree.show_place(object_id, frame)
        if binding is not None and object_id in binding.session.store.objects:
            clip = binding.geometry.clip_range(binding.current_plane)
            binding.select(object_id)
            binding.go_to(clip[frame])

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session."""
        self.set_binding(None)
        super().closeEvent(event)
