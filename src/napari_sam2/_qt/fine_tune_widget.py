"""The tab that fine-tunes a model on labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QProgressBar,
    QSizePolicy,
    QWidget,
)

from napari_sam2._errors import TrainingError
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.forms import Form
from napari_sam2._qt.layer_combo import LayerCombo
from napari_sam2._qt.layout import (
    button,
    column,
    combo,
    forget_refusal,
    line,
    name_planes,
    named,
    open_dialog,
    row,
    set_check_text,
    show_error,
    show_instead,
    show_refusal,
)
from napari_sam2._qt.line_plot import Curve, LinePlot
from napari_sam2._qt.model_chooser import ModelChooser
from napari_sam2._qt.model_section import ModelSection
from napari_sam2._viewer.automatic_work import leave_a_core_to_the_window
from napari_sam2._viewer.layer_frames import layer_plane_word
from napari_sam2._viewer.tasks import fine_tune_layers

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_sam2.training.finetune import FineTuneResult
    from napari_sam2.training.tuning_settings import FineTuneReport

__all__ = ["FineTuneWidget"]

_OVERWRITE = "Replace an existing file"
_IN_THE_FORM = {"overwrite": f'check "{_OVERWRITE}"'}
_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "part": {
            "label": "Train",
            "choices": [("decoder (quick)", "decoder"), ("decoder and adapters", "adapters"), ("everything", "all")],
        },
        "minutes": {"label": "At most", "min": 1, "max": 24 * 60, "step": 1, "suffix": " min"},
        "overwrite": {"label": _OVERWRITE},
        "linked": {"label": "Same numbers on all frames"},
        "all_labelled": {"label": "Every object is labelled"},
    }
)
_NO_REPORT = "IoU on held-out objects, for a click and for a box."
_NO_LOSS = "The loss appears here."
_LOSS_MS = 250
_SMOOTH_STEPS = 10  # the loss of single steps jumps with what they show


class FineTuneWidget(QWidget):
    """Fine-tune a model on labels of this viewer or of files.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
        Whose layers can be learned from.

    Attributes
    ----------
    weights_chosen : Signal
        Emitted with the path of new weights when the user wants them used.
    """

    weights_chosen = Signal(str)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_fine_tune")
        self.viewer = viewer
        self.reports: list[FineTuneReport] = []
        self.losses: list[tuple[int, float]] = []
        self.result: FineTuneResult | None = None
        self._before: tuple[list[FineTuneReport], list[tuple[int, float]], FineTuneResult | None] = ([], [], None)
        self._started = 0.0
        self._task = BackgroundTask(self, "napari-sam2 fine-tune")
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._loss_timer = QTimer(self)  # a fast device makes many steps a second
        self._loss_timer.setSingleShot(True)
        self._loss_timer.setInterval(_LOSS_MS)
        self._make_controls()
        self._arrange()
        self._loss_timer.timeout.connect(self._show_curves)
        self._task.progressed.connect(self._take_report)
        self._task.succeeded.connect(self._take_result)
        self._task.failed.connect(self._show_failure)
        self._task.ended.connect(self._show_state)
        self._clock.timeout.connect(self._show_time)
        for path in (self.output, self.image_folder, self.label_folder):
            path.textChanged.connect(lambda _text: forget_refusal(self.state))
        self.source.currentIndexChanged.connect(lambda _index: forget_refusal(self.state))
        self.image.layer_changed.connect(self._name_planes)
        self._name_planes(self.image.layer)
        self._show_source()
        self._show_state()
        self._show_curves()

    def _name_planes(self, layer: Any) -> None:
        """Say slices of a stack or frames of a movie, as the axis of the image is called."""
        word = "slice" if layer is None else layer_plane_word(layer)
        name_planes(self, word)
        set_check_text(self.linked, f"Same numbers on all {word}s")
        self._show_linked()

    def _show_linked(self) -> None:
        """A single image has no slices whose numbers could agree."""
        layer = self.image.layer
        is_single = self.source.currentData() == "layers" and layer is not None and layer.ndim == 2
        self.form.show("linked", not is_single)

    # ------------------------------------------------------------------ parts
    def _make_controls(self) -> None:
        self.source = combo("sam2_tune_source", "Train on layers of this viewer, or on two folders of files.")
        self.source.addItem("open layers", "layers")  # has room in a narrow dock
        self.source.addItem("two folders", "folders")
        self.source.currentIndexChanged.connect(self._show_source)
        self.image = LayerCombo(self.viewer, "Image", "sam2_tune_image", "The image that the labels belong to.")
        self.labels = LayerCombo(
            self.viewer,
            "Labels",
            "sam2_tune_labels",
            "Labels to train on: at least ten objects, preferably more. Pixels without a label count as unknown.",
        )
        self.image_folder = named(QLineEdit(), "sam2_tune_image_folder", "Folder of images.")
        self.label_folder = named(
            QLineEdit(), "sam2_tune_label_folder", "Folder of label images with the same names as the images."
        )
        self.image_folder_button = self._folder_button(self.image_folder, "sam2_tune_image_folder_button")
        self.label_folder_button = self._folder_button(self.label_folder, "sam2_tune_label_folder_button")
        self.start_from = ModelChooser()
        self.start_from.combo.setObjectName("sam2_tune_start_from")
        self.form = Form(fine_tune_layers, "sam2_tune", _OPTIONS)
        self.part, self.minutes, self.replaces, self.linked, self.all_labelled = (
            self.form.native(name) for name in _OPTIONS
        )
        self.output = named(
            QLineEdit(str(Path.home() / "my_model.safetensors")), "sam2_tune_output", "File for the best weights."
        )
        self.output_button = button(
            "...", "sam2_tune_output_button", "Choose a file for the best weights.", self.ask_for_output
        )
        self.start_button = button(
            "Start", "sam2_tune_start", "Train in the background; the window stays usable.", self.start
        )
        self.stop_button = button("Stop", "sam2_tune_stop", "Stop now; the best weights so far are kept.", self.stop)
        self.use_button = button(
            "Use these weights",
            "sam2_tune_use",
            "Use the new weights for prompts, and copy their path.",
            self.use_weights,
        )
        self.progress = named(QProgressBar(), "sam2_tune_progress", "Elapsed time and time limit.")
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.state = line("sam2_tune_state", "Progress and result.")
        self.iou_plot = named(
            LinePlot(), "sam2_tune_iou", "Mean IoU on the held-out objects by training step, 1 is perfect."
        )
        self.loss_plot = named(LinePlot(), "sam2_tune_loss", "Training loss by step; it should decrease.")

    def _folder_button(self, target: QLineEdit, name: str) -> Any:
        return button("...", name, "Choose the folder.", lambda: self._ask_for_folder(target))

    def _arrange(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Learn from", self.source)
        self._rows = {}
        for text, kind, widgets in (
            ("Image", "layers", (self.image,)),
            ("Labels", "layers", (self.labels,)),
            ("Images", "folders", (self.image_folder, self.image_folder_button)),
            ("Labels", "folders", (self.label_folder, self.label_folder_button)),
        ):
            holder = QWidget()
            holder.setLayout(row(*widgets))
            form.addRow(text, holder)
            self._rows[holder] = kind
        form.addRow("Start from", self.start_from)
        saving = QWidget()
        saving.setLayout(row(self.output, self.output_button))
        form.addRow("Save as", saving)
        self._form = form
        layout = column(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(form)
        layout.addWidget(self.form.gui.native)
        layout.addLayout(row(self.start_button, self.progress, self.stop_button))
        layout.addWidget(self.state)
        layout.addWidget(self.iou_plot)
        layout.addWidget(self.loss_plot)
        layout.addWidget(self.use_button)
        layout.addStretch(1)

    def _show_source(self) -> None:
        kind = self.source.currentData()
        for holder, own in self._rows.items():
            self._form.setRowVisible(holder, own == kind)
        self._show_linked()

    # ------------------------------------------------------------------ dialogs
    def _ask_for_folder(self, target: QLineEdit) -> None:
        dialog = QFileDialog(self, "Choose a folder", target.text() or str(Path.home()))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(target.setText)
        open_dialog(dialog)

    def ask_for_output(self) -> None:
        """Let the user choose where the weights go."""
        dialog = QFileDialog(self, "Save the weights as", self.output.text(), "Weights (*.safetensors)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("safetensors")
        dialog.fileSelected.connect(self.output.setText)
        open_dialog(dialog)

    # ------------------------------------------------------------------ running
    @property
    def is_running(self) -> bool:
        """Whether training goes on."""
        return self._task.is_running

    def start(self) -> None:
        """Train in the background."""
        try:
            source = self._source()
        except TrainingError as error:
            show_refusal(self.state, error)
            return
        values = self.form.values()
        output, start_from = self.output.text().strip(), self.start_from.chosen

        def work(context: TaskContext) -> FineTuneResult:
            leave_a_core_to_the_window()
            from napari_sam2.training.finetune import fine_tune

            images, labels = source()
            return fine_tune(
                images,
                labels,
                output,
                start_from=start_from,
                **values,
                on_report=context.report,
                on_step=lambda step, loss: context.report((step, loss)),
                should_stop=context.should_stop,
            )

        if not self._task.start(work):
            return
        self._before = (self.reports, self.losses, self.result)
        self.reports, self.losses, self.result = [], [], None
        self._started = time.monotonic()
        self.state.setText("reading the labels and loading the model...")
        self._clock.start()
        self._show_state()
        self._show_curves()

    def _source(self) -> Callable[[], tuple[Any, Any]]:
        """The training data, as a function that reads it in the background; raises if something is missing."""
        if not self.output.text().strip():
            raise TrainingError("no file was given for the new weights; choose one at 'Save as'")
        if self.source.currentData() == "folders":
            folders = self.image_folder.text().strip(), self.label_folder.text().strip()
            if not all(folders):
                raise TrainingError("two folders are needed: one of images, one of label images of the same names")
            return lambda: folders
        image, labels = self.image.layer, self.labels.layer
        if image is None or labels is None:
            raise TrainingError(
                "an image is missing; open the one that the labels belong to"
                if image is None
                else "a Labels layer is missing; open or draw one with at least ten labelled objects"
            )
        from napari_sam2._viewer.layer_frames import training_frames

        return lambda: training_frames(image, labels)

    def stop(self) -> None:
        """End the training; the best weights so far are kept."""
        self._task.stop()
        if self._task.is_running:
            self.state.setText("stopping after this step; the best weights so far are kept")
        self._show_state()

    # ------------------------------------------------------------------ results
    def _take_report(self, report: FineTuneReport | tuple[int, float]) -> None:
        if isinstance(report, tuple):
            self.losses.append(report)
            if not self._loss_timer.isActive():
                self._loss_timer.start()
            return
        self.reports.append(report)
        best = max(self.reports, key=lambda each: each.iou)
        if not self._task.is_stopping:
            self.state.setText(
                f"step {report.step}: IoU {report.iou:.3f} on held-out objects "
                f"(start {self.reports[0].iou:.3f}, best {best.iou:.3f} at step {best.step})"
            )
        self._show_curves()

    def _take_result(self, result: FineTuneResult) -> None:
        self.result = result
        goes_on = " Start resumes this run." if result.stopped == "asked" else ""
        self.state.setText(result.summary() + goes_on)
        self._task.tell_end(f"Training: {result.summary()}")

    def _show_failure(self, error: Exception) -> None:
        if not self.reports:  # it has not begun: what the run before gave is still there
            self.reports, self.losses, self.result = self._before
        show_error(self.state, error, _IN_THE_FORM)
        self._show_curves()

    def use_weights(self) -> None:
        """Hand the new weights on: to listeners, to the SAM 2 widget if it is open, and to the clipboard."""
        if self.result is None:
            return
        path = str(self.result.weights)
        if not Path(path).is_file():
            show_refusal(self.state, TrainingError(f"{path} is not there any more; put it back, or press Start again"))
            return
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(path)
        self.weights_chosen.emit(path)
        used = False
        for widget in self._docked():
            section = getattr(widget, "model", None)
            if isinstance(section, ModelSection):
                section.choose(path)
                used = True
        self.state.setText(f"{path} is used from now on" if used else f"the path {path} is on the clipboard")

    def _docked(self) -> list[Any]:
        window = getattr(self.viewer, "window", None)
        return [] if window is None else list(getattr(window, "dock_widgets", {}).values())

    # ------------------------------------------------------------------ showing
    def _show_curves(self) -> None:
        steps = np.array([report.step for report in self.reports], float)
        curves: tuple[Curve, ...] = ()
        losses: tuple[Curve, ...] = ()
        if self.reports:
            curves = (
                Curve(steps, np.array([report.click for report in self.reports]), "IoU, click"),
                Curve(steps, np.array([report.box for report in self.reports]), "IoU, box"),
            )
            values = np.array([np.nan if report.loss is None else report.loss for report in self.reports])
            losses = (Curve(steps, values, "loss"),) if np.isfinite(values).any() else ()
        if self.losses:
            taken, of_steps = np.array(self.losses, float).T
            losses = (Curve(taken, _running_mean(of_steps), "loss"),)
            self._tell_step(int(taken[-1]), float(of_steps[-_SMOOTH_STEPS:].mean()))
        last = max([*steps.tolist(), *(step for step, _ in self.losses[-1:]), 1.0])
        x_range = (0.0, float(last))
        self.iou_plot.show_curves(curves, x_range=x_range, empty_text=_NO_REPORT)
        self.loss_plot.show_curves(losses, x_range=x_range, empty_text=_NO_LOSS)
        self.iou_plot.setVisible(bool(self.reports) or self._task.is_running)
        self.loss_plot.setVisible(self._task.is_running)

    def _tell_step(self, step: int, loss: float) -> None:
        """What happens between two measurements."""
        if self._task.is_stopping or not self._task.is_running or not self.reports or step <= self.reports[-1].step:
            return
        best = max(self.reports, key=lambda each: each.iou)
        self.state.setText(
            f"step {step}: loss {loss:.3f}; IoU on held-out objects {self.reports[-1].iou:.3f} at step "
            f"{self.reports[-1].step} (start {self.reports[0].iou:.3f}, best {best.iou:.3f} at step {best.step})"
        )

    def _show_state(self) -> None:
        runs = self._task.is_running
        if not runs:
            self._clock.stop()
        self.start_button.setEnabled(not runs)
        self.stop_button.setEnabled(runs and not self._task.is_stopping)
        show_instead(*(self.stop_button, self.start_button) if runs else (self.start_button, self.stop_button))
        self.use_button.setVisible(self.result is not None)
        self.progress.setVisible(runs)
        self.loss_plot.setVisible(runs)  # of no use once it has ended, and the page is high
        self._show_time()

    def _show_time(self) -> None:
        allowed = round(self.minutes.value() * 60)
        spent = min(int(time.monotonic() - self._started), allowed)
        self.progress.setMaximum(allowed)
        self.progress.setValue(spent)
        self.progress.setFormat(f"{spent // 60}:{spent % 60:02d} of at most {self.minutes.value():.0f} min")

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Align the form in the font of the window."""
        super().showEvent(event)
        self.form.keep_aligned(self._form)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Stop; what was best so far stays on disk."""
        self._clock.stop()
        self._loss_timer.stop()
        self._task.close()
        self.start_from.close_tasks()
        self.image.let_go()
        self.labels.let_go()
        super().closeEvent(event)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each value and up to nine before it."""
    total = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - _SMOOTH_STEPS, 0)
    return np.asarray((total[ends] - total[starts]) / (ends - starts))
