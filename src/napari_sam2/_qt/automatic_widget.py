"""The dock widget that segments without a click: everything on a frame or in a stack, and labels of others tracked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QFormLayout, QProgressBar, QSizePolicy, QWidget

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._messages import counted
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.forms import Form
from napari_sam2._qt.layer_combo import LayerCombo
from napari_sam2._qt.layout import (
    button,
    column,
    duration,
    line,
    name_planes,
    named,
    row,
    set_check_text,
    show_error,
    show_instead,
    show_item,
)
from napari_sam2._qt.model_chooser import ModelChooser
from napari_sam2._viewer.automatic_work import Filters, Found, Searcher, Tracked
from napari_sam2._viewer.layer_frames import ShownImage, in_plane_words, layer_plane_word, open_image, seed_labels
from napari_sam2._viewer.layer_places import to_layer_units
from napari_sam2._viewer.overall_progress import OverallProgress
from napari_sam2._viewer.region import Region, region_of
from napari_sam2._viewer.search_results import SearchResults
from napari_sam2._viewer.tasks import filters_of, run_segmentation, segment_layer

if TYPE_CHECKING:
    import napari

__all__ = ["AutomaticWidget"]

_FILTER_MS = 150
_SECOND_MS = 1000
_STEPS = 1000  # of the progress bar
_THRESHOLD = {"widget_type": "FloatSpinBox", "min": 0.0, "max": 1.0, "step": 0.01, "automatic": "auto", "middle": 0.5}
_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "scope": {
            "label": "Segment",
            "choices": [
                ("this slice", "plane"),
                ("the whole stack", "stack"),
                ("all stacks, linked in time", "volumes"),
                ("movie, cells that divide", "divisions"),
            ],
        },
        "every": {
            "widget_type": "FloatSpinBox",
            "label": "Detect every",
            "min": 1,
            "max": 999,
            "step": 1,
            "automatic": "automatic",
            "suffix": " slices",
        },
        "split_stacked": {
            "label": "Stacked in z",
            "choices": [("automatic", "automatic"), ("split", "split"), ("do not split", "keep")],
        },
        "min_iou": {"label": "IoU at least", **_THRESHOLD},
        "min_stability": {"label": "Stability", **_THRESHOLD},
        "min_area": {"label": "Area from", "min": 0.0, "max": 1e9, "step": 0.01},
        "max_area": {
            "widget_type": "FloatSpinBox",
            "label": "Area up to",
            "min": 0.01,
            "max": 1e9,
            "step": 0.01,
            "automatic": "any",
        },
        "exclude_border": {"label": "Exclude objects at the border"},
    }
)


class AutomaticWidget(QWidget):
    """Everything on the frame shown, or in the whole stack, as a Labels layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer or ViewerModel
        Whose images are segmented.

    Attributes
    ----------
    lineage_found : Signal
        Emitted with a Labels layer of cells that divide and their ``Tracks``.
    correction_asked : Signal
        Emitted with the image and the Labels layer of the objects found on one plane, to be corrected by prompts.
    """

    lineage_found = Signal(object, object)
    correction_asked = Signal(object, object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_automatic")
        self.viewer = viewer
        self.found: Found | None = None
        self._limits: Region | None = None  # of what is searched or was found
        self._searcher = Searcher()
        self._stage = ""  # of the work
        self._progress = OverallProgress()
        self._image: Any = None
        self._shown: ShownImage | None = None
        self._results = SearchResults(viewer)
        self._task = BackgroundTask(self, "napari-sam2 everything")
        self._filter_task = BackgroundTask(self, "napari-sam2 filter")
        self._filter_timer = QTimer(self)
        self._filter_timer.setSingleShot(True)
        self._filter_timer.setInterval(_FILTER_MS)
        self._clock = QTimer(self)  # the time left runs down between reports
        self._clock.setInterval(_SECOND_MS)
        self._clock.timeout.connect(self._show_time_left)
        self._make_controls()
        self._arrange()
        self._filter_timer.timeout.connect(self._filter_again)
        self._task.progressed.connect(self._show_progress)
        self._task.succeeded.connect(self._take_result)
        self._task.failed.connect(self._show_failure)
        self._task.ended.connect(self._show_state)
        self._filter_task.succeeded.connect(self._take_filtered)
        self._filter_task.failed.connect(self._show_failure)
        self._on_image(self.image.layer)
        self._show_state()

    # ------------------------------------------------------------------ parts
    def _make_controls(self) -> None:
        self.image = LayerCombo(self.viewer, "Image", "sam2_auto_image", "The image to segment, as displayed.")
        self.image.layer_changed.connect(self._on_image)
        self.model = ModelChooser()
        self.model.combo.setObjectName("sam2_auto_model")
        self.region = LayerCombo(
            self.viewer,
            "Shapes",
            "sam2_auto_region",
            "Segment only what is inside the rectangles, polygons or ellipses of this layer, on all slices.",
            none_text="whole image",
        )
        self.region.layer_changed.connect(lambda _layer: self._on_region())
        self.form = Form(segment_layer, "sam2_auto", _OPTIONS)
        self.scope, self.every, self.split_stacked, self.min_iou, self.min_stability, self.min_area, self.max_area = (
            self.form.native(name)
            for name in ("scope", "every", "split_stacked", "min_iou", "min_stability", "min_area", "max_area")
        )
        self.exclude_border = self.form.native("exclude_border")
        self.scope.currentIndexChanged.connect(self._show_state)
        for spin in (self.min_iou, self.min_stability, self.min_area, self.max_area):
            spin.valueChanged.connect(self._on_filter)
        self.exclude_border.toggled.connect(self._on_filter)
        self.start_button = button(
            "Segment everything", "sam2_auto_start", "Segment in the background; the window stays usable.", self.segment
        )
        self.cancel_button = button(
            "Cancel", "sam2_auto_cancel", "Stop. Finished slices of a stack are kept.", self.cancel
        )
        self.correct_button = button(
            "Correct these objects",
            "sam2_auto_correct",
            "Make them objects of the session, to be corrected by clicks, merged, split and deleted in the tab Click.",
            self._ask_for_correction,
        )
        self._result: Any = None  # the layer of what was found on a plane
        self.progress = named(QProgressBar(), "sam2_auto_progress", "Progress.")
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.state = line("sam2_auto_state", "Progress and result.")
        self.seeds = LayerCombo(
            self.viewer,
            "Labels",
            "sam2_auto_seeds",
            "Labels to track, such as those found here or by Cellpose.",
        )
        self.seeds.layer_changed.connect(lambda _layer: self._show_state())
        self.all_frames = named(
            QCheckBox("On all slices with labels"),
            "sam2_auto_all_frames",
            "Use the labels of all slices of the stack; the same number is the same object. Between two labelled "
            "slices, each half is tracked from the nearer one. Off: only this slice.",
        )
        self.track_button = button(
            "Track these labels",
            "sam2_auto_track",
            "Track the labels in both directions through the stack; numbers are kept.",
            self.track,
        )

    def _arrange(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, control in (("Image", self.image), ("Region", self.region), ("Model", self.model)):
            form.addRow(text, control)
        layout = column(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(form)
        layout.addWidget(self.form.gui.native)
        layout.addLayout(row(self.start_button, self.progress, self.cancel_button))
        layout.addWidget(self.state)
        layout.addWidget(self.correct_button)
        self.tracking = QWidget()  # of labels, in a stack
        below = column(self.tracking)
        seeds = QFormLayout()
        seeds.setContentsMargins(0, 0, 0, 0)
        seeds.setSpacing(4)
        seeds.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        seeds.addRow("Labels", self.seeds)
        below.addLayout(seeds)
        below.addWidget(self.all_frames)
        below.addWidget(self.track_button)
        layout.addWidget(self.tracking)
        layout.addStretch(1)
        self._forms = (form, seeds)

    # ------------------------------------------------------------------ showing
    @property
    def is_running(self) -> bool:
        """Whether something is searched, tracked or filtered."""
        return self._task.is_running or self._filter_task.is_running or self._filter_timer.isActive()

    def _on_image(self, layer: Any) -> None:
        self.found = None
        unit = "px"
        if layer is not None:
            try:
                unit = open_image(layer).pixel_size.unit
            except NapariSAM2Error as error:
                show_error(self.state, error)
        for spin in (self.min_area, self.max_area):
            spin.setSuffix(f" {unit}²")
            spin.setDecimals(0 if unit == "px" else 2)
            spin.setSingleStep(1.0 if unit == "px" else 0.01)
        self._name_planes()
        self._show_state()

    @property
    def _word(self) -> Literal["frame", "slice"]:
        """What a plane of the chosen image is called."""
        return "slice" if self.image.layer is None else layer_plane_word(self.image.layer)

    def _name_planes(self) -> None:
        """Say slices of a stack or frames of a movie, as the axis is called."""
        word = self._word
        name_planes(self, word)
        whole = "the whole movie" if word == "frame" else "the whole stack"
        for scope, text in (("plane", f"this {word}"), ("stack", whole)):
            self.scope.setItemText(self.scope.findData(scope), text)
        self.every.setSuffix(f" {word}s")
        set_check_text(self.all_frames, f"On all {word}s with labels")

    def _on_region(self) -> None:
        self.found = None  # thresholds choose among the candidates of one region

    def _show_state(self, _index: int = 0) -> None:
        runs = self._task.is_running
        layer = self.image.layer
        is_stack = layer is not None and layer.ndim > 2
        has_stacks = layer is not None and sum(size > 1 for size in _leading(layer)) > 1
        for name, is_there in (("stack", is_stack), ("volumes", has_stacks), ("divisions", _may_be_movie(layer))):
            show_item(self.scope, self.scope.findData(name), is_there)
        self.form.show("scope", is_stack)
        for name in ("every", "split_stacked"):
            self.form.show(name, is_stack and self.scope.currentData() in ("stack", "volumes"))
        self.tracking.setVisible(is_stack)
        self.start_button.setEnabled(not runs and layer is not None)
        self.cancel_button.setEnabled(runs and not self._task.is_stopping)
        show_instead(*(self.cancel_button, self.start_button) if runs else (self.start_button, self.cancel_button))
        self.track_button.setEnabled(not runs and is_stack and self.seeds.layer is not None)
        self.progress.setVisible(runs)
        self.correct_button.setVisible(not runs and self._result is not None and self._image is layer)

    def _show_progress(self, report: tuple[str, int, int]) -> None:
        self._stage = report[0]
        self._progress.update(*report)
        self.progress.setMaximum(_STEPS)
        self.progress.setValue(round(_STEPS * self._progress.fraction))
        self._show_time_left()

    def _show_time_left(self) -> None:
        if not self._task.is_running or self._task.is_stopping:
            self._clock.stop()
        elif self._stage:
            seconds = self._progress.seconds_left
            left = "" if seconds is None else f"; {duration(seconds)} left"
            self.state.setText(f"{self._stage}{left}")

    def _show_failure(self, error: Exception) -> None:
        word = self._word if self._shown is None else self._shown.plane_word
        text = in_plane_words(str(error), word, [layer.name for layer in self.viewer.layers])
        show_error(self.state, text or type(error).__name__)

    # ------------------------------------------------------------------ running
    def _filters(self, shown: ShownImage) -> Filters:
        values = self.form.values()
        names = ("min_iou", "min_stability", "min_area", "max_area", "exclude_border")
        return filters_of(shown, *(values[name] for name in names))

    def _begin(self) -> tuple[ShownImage, int] | None:
        """The image as displayed and the plane shown."""
        layer = self.image.layer
        if layer is None:
            show_error(self.state, "there is no image; open one first")
            return None
        if self._task.is_running:
            return None
        try:
            shown = open_image(layer)
        except NapariSAM2Error as error:
            show_error(self.state, error)
            return None
        self._image, self._shown, self._result = layer, shown, None
        return shown, shown.plane_at(layer, to_layer_units(self.viewer, layer, self.viewer.dims.point))

    def segment(self) -> None:
        """Search everything, on the frame shown or in the whole stack."""
        begun = self._begin()
        if begun is None:
            return
        shown, plane = begun
        values, name, searcher = self.form.values(), self.model.chosen, self._searcher
        self.found = None
        shapes = self.region.layer
        try:
            limits = self._limits = None if shapes is None else region_of(shapes, shown)
            part = shown if self._limits is None else open_image(self._limits.crop(self._image))
        except NapariSAM2Error as error:
            show_error(self.state, error)
            return

        def work(context: TaskContext) -> Any:
            return run_segmentation(searcher, part, context, model=name, plane=plane, region=limits, **values)

        self._start(work)

    def track(self) -> None:
        """Follow the chosen labels of the frame shown through the stack."""
        begun = self._begin()
        seeds = self.seeds.layer
        if begun is None or seeds is None:
            return
        shown, plane = begun
        try:
            labels = seed_labels(
                seeds,
                shown.geometry,
                plane,
                image=shown.pixels_layer(),
                viewer=self.viewer,
                whole_clip=self.all_frames.isChecked(),
            )
        except NapariSAM2Error as error:
            self._show_failure(error)
            return
        name, clip, searcher = self.model.chosen, shown.geometry.clip_range(plane), self._searcher
        self._start(lambda context: searcher.track(name, shown.planes, clip, labels, context))

    def _start(self, work: Any) -> None:
        self._filter_timer.stop()
        self._stage, self._progress = "", OverallProgress()
        self._task.start(work)
        self._clock.start()
        self.progress.setMaximum(0)
        self.state.setText("searching..." if self._searcher.has_loaded(self.model.chosen) else "loading the model...")
        self._show_state()

    def cancel(self) -> None:
        """End what runs."""
        self._task.stop()
        if self._task.is_running:
            self.state.setText("stopping...")
        self._show_state()

    # ------------------------------------------------------------------ results
    def _take_result(self, result: Found | Tracked | None) -> None:
        shown = self._shown
        if result is None or shown is None:
            self.state.setText("cancelled")
            return
        if isinstance(result, Tracked) and not result.is_complete and result.num_objects == 0:
            self.state.setText("stopped before any object was found")
            return
        if isinstance(result, Found):
            self.found = result
            layer, text = self._show_labels(shown, result), _describe(result)
            self._result = layer if result.num_objects else None
        elif result.is_search:
            layer = self._results.show_stack(self._image, shown, result, self._limits)
            text = result.text
            if result.tracks is not None:
                self._results.show_lineage(self._image, shown, result, result.tracks, layer)
                self.lineage_found.emit(layer, result.tracks)
        else:
            name = f"{self._image.name} tracked"
            layer = self.viewer.add_labels(result.as_image(shown.geometry), name=name, **shown.placement.arguments())
            text = result.text
        self.seeds.choose(layer)
        text = in_plane_words(text, shown.plane_word)
        self.state.setText(text)
        self._task.tell_end(f"{self._image.name}: {text}")

    def _show_labels(self, shown: ShownImage, found: Found) -> Any:
        return self._results.show_plane(self._image, shown, found.plane, found.labels, self._limits)

    def _ask_for_correction(self) -> None:
        layer, self._result = self._result, None
        self._show_state()
        if layer in self.viewer.layers:
            self.correction_asked.emit(self._image, layer)

    # ------------------------------------------------------------------ filters
    def _on_filter(self, _value: Any = None) -> None:
        """Thresholds moved: choose again among the masks that there are."""
        if self.found is not None and self.found.can_filter:
            self._filter_timer.start()

    def _filter_again(self) -> None:
        found, shown = self.found, self._shown
        if found is None or found.proposals is None or shown is None or self._task.is_running:
            return
        if self._filter_task.is_running:
            self._filter_timer.start()
            return
        filters, searcher, plane, proposals = self._filters(shown), self._searcher, found.plane, found.proposals
        self._filter_task.start(lambda _context: searcher.filter(plane, proposals, filters))

    def _take_filtered(self, found: Found) -> None:
        if self.found is None or self._shown is None or found.proposals is not self.found.proposals:
            return  # another frame was searched meanwhile
        self.found = found
        layer = self._show_labels(self._shown, found)
        self._result = layer if found.num_objects else None
        self.state.setText(_describe(found))
        self._show_state()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Align the form in the font of the window."""
        super().showEvent(event)
        self.form.keep_aligned(*self._forms)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """End what runs, and follow the viewer no more."""
        self._filter_timer.stop()
        self._clock.stop()
        self._task.close()
        self._filter_task.close()
        self.model.close_tasks()
        self.image.let_go()
        self.seeds.let_go()
        self.region.let_go()
        super().closeEvent(event)


def _describe(found: Found) -> str:
    count = counted(found.num_objects, "object")
    if found.num_candidates is None:
        return count
    hint = "thresholds apply immediately" if found.is_all else "segment again to find more at low thresholds"
    return f"{count} of {counted(found.num_candidates, 'candidate')}; {hint}"


def _may_be_movie(layer: Any) -> bool:
    """Whether a layer has one axis of several frames, the first, which is not named z."""
    sizes = () if layer is None else _leading(layer)
    return len(sizes) == 1 and sizes[0] > 1 and str(layer.axis_labels[0]).lower() != "z"


def _leading(layer: Any) -> tuple[int, ...]:
    """Lengths of the axes before H and W."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(size) for size in data.shape[: layer.ndim - 2])
