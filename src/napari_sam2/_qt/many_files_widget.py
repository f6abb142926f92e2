"""The tab that segments many files: a form, the list of files with their states, and a picture of each result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QCloseEvent, QImage, QPainter, QPaintEvent, QPixmap, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFormLayout,
    QHeaderView,
    QProgressBar,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._messages import counted, is_or_are
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.forms import Form
from napari_sam2._qt.layout import (
    button,
    column,
    duration,
    forget_refusal,
    line,
    named,
    row,
    show_error,
    show_instead,
    show_refusal,
)
from napari_sam2._qt.model_chooser import ModelChooser
from napari_sam2._viewer.many_files import picture_of, result_layers, segment_files
from napari_sam2.batch.inputs import find_sources, plan_pieces
from napari_sam2.batch.pieces import DONE, FAILED, RUNNING, PieceRecord
from napari_sam2.batch.report import BatchProgress
from napari_sam2.batch.session_prompts import Prompts, usable_prompts

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_sam2.batch.pieces import Piece
    from napari_sam2.batch.report import BatchReport
    from napari_sam2.session.session import Session

__all__ = ["ManyFilesWidget"]

_RESTART = "Process finished files again"
_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "inputs": {"label": "Images", "mode": "d"},
        "pattern": {"label": "Pattern"},
        "output": {"label": "Results", "mode": "d"},
        "what": {
            "label": "Segment",
            "choices": [("everything", "automatic"), ("the prompts of this session", "session")],
        },
        "suffix": {
            "label": "Format",
            "choices": [("TIFF", ".tif"), ("OME-TIFF", ".ome.tif"), ("OME-Zarr", ".ome.zarr")],
        },
        "min_area": {"label": "Area from", "min": 0.0, "max": 1e9, "step": 1, "suffix": " px²"},
        "exclude_border": {"label": "Exclude objects at the border"},
        "workers": {
            "widget_type": "FloatSpinBox",
            "label": "Workers",
            "min": 1,
            "max": 256,
            "step": 1,
            "automatic": "automatic",
        },
        "restart": {"label": _RESTART},
    }
)
_IN_THE_FORM = {
    "restart": f'"{_RESTART}"',
    "again": "press Start",
    "shapes.min_area": str(_OPTIONS["min_area"]["label"]),
    "shapes.exclude_border": str(_OPTIONS["exclude_border"]["label"]),
}
_OF_AUTOMATIC = ("min_area", "exclude_border")
_COLUMNS = ("File", "State", "Objects")
_FILE, _STATE, _COUNT = range(3)
_TABLE_HEIGHT = 72  # pixels
_PICTURE_HEIGHT = 48


class _Picture(QWidget):
    """A picture as large as there is room for, in its own proportions."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap: QPixmap | None = None
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(_PICTURE_HEIGHT)

    def show_array(self, rgb: NDArray[np.uint8] | None) -> None:
        """Show an (H, W, 3) picture, or none."""
        self._pixmap = None
        if rgb is not None:
            data = np.ascontiguousarray(rgb)
            height, width = data.shape[:2]
            image = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
            self._pixmap = QPixmap.fromImage(image)
        self.setVisible(rgb is not None)
        self.update()

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Draw it in the middle."""
        if self._pixmap is None:
            return
        scaled = self._pixmap.scaled(
            self.size(), Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        )
        painter = QPainter(self)
        painter.drawPixmap((self.width() - scaled.width()) // 2, 0, scaled)
        painter.end()

    def sizeHint(self) -> QSize:  # noqa: N802 the name is Qt's
        """As wide as the dock."""
        return QSize(200, 2 * _PICTURE_HEIGHT)


class ManyFilesWidget(QWidget):
    """Segment the files of a folder in worker processes; the window stays usable.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
        Where results are opened.
    session : callable
        Gives the session whose prompts can be used, or None.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, session: Callable[[], Session | None], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_files")
        self.viewer = viewer
        self.report: BatchReport | None = None
        self._session = session
        self._pieces: list[Piece] = []
        self._records: dict[str, PieceRecord] = {}
        self._row_of: dict[str, int] = {}  # by the name of the result
        self._task = BackgroundTask(self, "napari-sam2 many files")
        self._picture_task = BackgroundTask(self, "napari-sam2 picture")
        self._wanted: Piece | None = None  # whose picture is to be drawn next
        self._make_controls()
        self._arrange()
        self._task.progressed.connect(self._take_news)
        self._task.succeeded.connect(self._take_report)
        self._task.failed.connect(self._show_failure)
        self._task.ended.connect(self._show_state)
        self._picture_task.succeeded.connect(self._take_picture)
        self._picture_task.failed.connect(self._show_failure)
        self._picture_task.ended.connect(self._draw_next)
        self._show_state()

    # ------------------------------------------------------------------ parts
    def _make_controls(self) -> None:
        self.form = Form(segment_files, "sam2_files", _OPTIONS)
        self.model = ModelChooser()
        self.model.combo.setObjectName("sam2_files_model")
        self.what = self.form.native("what")
        self.what.currentIndexChanged.connect(self._show_state)
        self.start_button = button(
            "Start", "sam2_files_start", "Process the files in the background; the window stays usable.", self.start
        )
        self.cancel_button = button(
            "Cancel", "sam2_files_cancel", "Finish the files that are being processed, and stop.", self.cancel
        )
        self.progress = named(QProgressBar(), "sam2_files_progress", "Files that are finished.")
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.state = line("sam2_files_state", "Progress and result.")
        self.form.gui.changed.connect(lambda _value: forget_refusal(self.state))
        self.table: Any = QTableWidget(0, len(_COLUMNS))
        self.table.setTabKeyNavigation(False)  # the Tab key leaves the table
        named(self.table, "sam2_files_table", "Files. Select a row to see its result")
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        table: Any = self.table
        table.verticalHeader().setVisible(False)
        self.table.setWordWrap(False)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.table.setMinimumHeight(_TABLE_HEIGHT)
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_FILE, QHeaderView.ResizeMode.Stretch)
        self.table.itemSelectionChanged.connect(self._on_row)
        self.picture = _Picture()
        named(self.picture, "sam2_files_picture", "Result of the selected file.")
        self.picture.hide()
        self.open_button = button(
            "Open in napari", "sam2_files_open", "Open the selected image and its result as layers.", self.open_selected
        )

    def _arrange(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model)
        self._rows = form
        layout = column(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.form.gui.native)
        layout.addLayout(form)
        layout.addLayout(row(self.start_button, self.progress, self.cancel_button))
        layout.addWidget(self.state)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.picture, 1)
        layout.addWidget(self.open_button)
        layout.addStretch(0)

    def _show_state(self, _index: int = 0) -> None:
        runs = self._task.is_running
        for name in _OF_AUTOMATIC:
            self.form.show(name, self.what.currentData() == "automatic")
        self.start_button.setEnabled(not runs)
        self.cancel_button.setEnabled(runs and not self._task.is_stopping)
        show_instead(*(self.cancel_button, self.start_button) if runs else (self.start_button, self.cancel_button))
        self.progress.setVisible(runs)
        self.state.setVisible(bool(self.state.text()))
        self.table.setVisible(bool(self._pieces))
        self.open_button.setVisible(bool(self._pieces))
        self.open_button.setEnabled(self._selected_result() is not None)

    def _say(self, text: str) -> None:
        self.state.setText(text)
        self.state.setVisible(bool(text))

    def _show_failure(self, error: Exception) -> None:
        show_error(self.state, error, _IN_THE_FORM)

    # ------------------------------------------------------------------ running
    @property
    def is_running(self) -> bool:
        """Whether files are processed, or a picture is drawn."""
        return self._task.is_running or self._picture_task.is_running

    def start(self) -> None:
        """List the files, and process them in the background."""
        if self._task.is_running:
            return
        values = self.form.values()
        inputs, output = values.pop("inputs"), values.pop("output")
        if str(inputs) in ("", ".") or str(output) in ("", "."):
            show_refusal(self.state, "choose the folder of the images, and a folder for the results")
            return
        try:
            sources = find_sources([inputs], values["pattern"] or None)
            pieces = plan_pieces(sources, Path(output).expanduser().absolute(), values["suffix"])
            session = self._session()
            prompts = None
            if values["what"] == "session":
                prompts = None if session is None else _prompts_of(session)
        except NapariSAM2Error as error:
            show_refusal(self.state, error)
            return
        self._list(pieces)
        work = partial(segment_files, inputs, output, prompts=prompts, model=self.model.chosen, **values)

        def run(context: TaskContext) -> BatchReport:
            return work(
                on_progress=context.report,
                on_plan=context.report,
                on_piece=context.report,
                should_stop=context.should_stop,
            )

        self.report = None
        self.progress.setMaximum(0)
        self._task.start(run)
        self._say("starting workers...")
        self._show_state()

    def cancel(self) -> None:
        """Stop after the files that are being processed."""
        self._task.stop()
        if self._task.is_running:
            self._say("finishing the files that are being processed...")
        self._show_state()

    def _list(self, pieces: list[Piece]) -> None:
        self._pieces, self._records = pieces, {}
        self.picture.show_array(None)
        self.table.setRowCount(len(pieces))
        for at, piece in enumerate(pieces):
            for column_, text in ((_FILE, piece.source.title), (_STATE, "waiting"), (_COUNT, "")):
                item = QTableWidgetItem(text)
                item.setToolTip(str(piece.source.path))
                self.table.setItem(at, column_, item)
        self._row_of = {piece.name: at for at, piece in enumerate(pieces)}

    def _take_news(self, news: BatchProgress | PieceRecord | list[Piece]) -> None:
        if isinstance(news, list):
            if [piece.name for piece in news] != [piece.name for piece in self._pieces]:  # files of several positions
                self._list(news)
                self._show_state()
            return
        if isinstance(news, PieceRecord):
            self._show_record(news)
            return
        ended = news.done + news.failed
        self.progress.setMaximum(max(1, news.total))
        self.progress.setValue(ended)
        if not self._task.is_stopping and news.workers:
            self._say(f"{ended} of {news.total} files; workers: {news.workers}")

    def _show_record(self, record: PieceRecord) -> None:
        self._records[record.name] = record
        at = self._row_of.get(record.name)
        if at is None:
            return
        text = {DONE: "done", FAILED: "failed", RUNNING: "running"}.get(record.state, "waiting")
        self.table.item(at, _STATE).setText(text)
        self.table.item(at, _STATE).setToolTip(record.reason or text)
        self.table.item(at, _COUNT).setText("" if record.outcome is None else str(record.outcome.objects))
        if at == self.table.currentRow():
            self._on_row()

    def _take_report(self, report: BatchReport) -> None:
        self.report = report
        for record in report.records:
            self._show_record(record)
        num_files = len(report.pieces)
        parts = [f"{report.num_done} of {counted(num_files, 'file')} {is_or_are(num_files)} done"]
        if report.num_failed:
            parts.append(f"{report.num_failed} failed (hover over the state to see why)")
        if report.num_not_run:
            parts.append("stopped; Start continues")
        if report.others:
            parts.append(f"{counted(len(report.others), 'result')} of other inputs in the folder, see report.csv")
        text = f"{'; '.join(parts)}; {duration(report.seconds)}"
        self._say(text)
        self._task.tell_end(f"Many files: {text}")

    # ------------------------------------------------------------------ results
    def _selected_result(self) -> Piece | None:
        """The file of the selected row, if its result is there."""
        at = self.table.currentRow()
        piece = self._pieces[at] if 0 <= at < len(self._pieces) else None
        record = None if piece is None else self._records.get(piece.name)
        return piece if record is not None and record.state == DONE else None

    def _on_row(self) -> None:
        self._wanted = self._selected_result()
        if self._wanted is None:
            self.picture.show_array(None)
        self._draw_next()
        self._show_state()

    def _draw_next(self) -> None:
        wanted = self._wanted
        if wanted is None or self._picture_task.is_running:
            return
        self._wanted = None
        source, result = wanted.source, wanted.output
        self._picture_task.start(lambda _context: (wanted, picture_of(source, result)))

    def _take_picture(self, found: tuple[Piece, NDArray[np.uint8]]) -> None:
        if found[0] is self._selected_result():
            self.picture.show_array(found[1])

    def open_selected(self) -> None:
        """Open the selected image and its result as layers."""
        piece = self._selected_result()
        if piece is None:
            return
        try:
            layers = result_layers(piece.source, piece.output)
        except NapariSAM2Error as error:
            show_error(self.state, error)
            return
        for data, options, kind in layers:
            add = self.viewer.add_labels if kind == "labels" else self.viewer.add_image
            add(data, **options)

    # ------------------------------------------------------------------ Qt
    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Align the form in the font of the window."""
        super().showEvent(event)
        self.form.keep_aligned(self._rows)
        self._show_state()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Leave nothing running; files that are being processed are finished."""
        self._task.close()
        self._picture_task.close()
        self.model.close_tasks()
        super().closeEvent(event)


def _prompts_of(session: Session) -> Prompts:
    """The prompts of a session for other files; raises PromptError as ``usable_prompts``."""
    entries = session.store.prompts.items()
    return usable_prompts({key: entry.prompt for key, entry in entries}, session.geometry.ndim)
