"""The dock "SAM 2": one line of facts, a tab for each task, and a status line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.advanced_section import AdvancedSection
from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._qt.canvas_clicks import CanvasClicks
from napari_sam2._qt.docks_below import DocksBelow, keep_height_of_side_docks
from napari_sam2._qt.fine_tune_widget import FineTuneWidget
from napari_sam2._qt.fitted_spin import keep_values_readable
from napari_sam2._qt.focus_ring import FocusRing
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.image_sessions import ImageSessions, SessionChoices
from napari_sam2._qt.key_commands import KeyCommands
from napari_sam2._qt.keys import KeyBindings
from napari_sam2._qt.layout import (
    align_labels,
    button,
    column,
    fit_tabs,
    keep_keys_on_canvas,
    keep_tabs_fitted,
    line,
    order_tabs,
    row,
    shrinking_combo,
    wrap_check_boxes,
)
from napari_sam2._qt.lineage_view import LineageView
from napari_sam2._qt.looking_ahead import LookingAhead
from napari_sam2._qt.many_files_widget import ManyFilesWidget
from napari_sam2._qt.measurements_table import MeasurementsTable
from napari_sam2._qt.model_section import ModelSection
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._qt.pages import Page, separator
from napari_sam2._qt.propagate_section import THROUGH_TIME, PropagateSection
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.room_for_table import RoomForTable
from napari_sam2._qt.save_section import SaveSection
from napari_sam2._qt.status_line import StatusLine
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.layer_frames import is_time_axis, plane_word
from napari_sam2._viewer.paint_guard import PaintGuard
from napari_sam2._viewer.preferences import Preferences, read_preferences
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import threads_beside_a_window

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sam2.labels.tracks import Tracks

__all__ = ["SAM2Widget"]

_NO_IMAGE = "Open an image or a sample. Then click on an object to segment it."
_LAYER_KEYS = ("Control-Z", "Control-Shift-Z")
_RUN_KEYS = ("Escape",)
_WIDTH = 290  # pixels, to begin with
_SAMPLES = (
    ("nuclei", "Nuclei (z-stack)", "A z-stack of nuclei, as in the tutorial"),
    ("embryo", "Embryo (z-stack)", "Nuclei of a mouse embryo, a real confocal stack"),
    ("c2c12", "Cells (movie)", "C2C12 cells: a real phase-contrast movie"),
    ("tissue_nuclei", "Tissue (image)", "A real fluorescence image"),
)
_TABS = ("Click", "Everything", "Many files", "Train")

_VOLUME_AXES = {"Y": "rows of the volume (Y)", "X": "columns of the volume (X)", "ZYX": "Z, Y and X, combined by vote"}
"""Beside the axes that sessions run along: ``Session.track_along``."""


class SAM2Widget(KeyCommands):
    """Click an object, see its mask, propagate it through the stack; and everything without a click, and training.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer that the widget is docked to.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        self._is_docked = False
        super().__init__(parent)
        self.viewer = viewer
        self._keys = KeyBindings(self)
        self._layer_keys = KeyBindings(self)
        self._run_keys = KeyBindings(self)  # of the layers, whose own Esc would otherwise come first
        self._is_closed = False
        self._main_window: QMainWindow | None = None
        self._is_window_closing = False
        self._build()
        self._keys.bind(viewer)
        viewer.dims.events.current_step.connect(self._on_step)
        viewer.dims.events.ndisplay.connect(self._on_display)
        self._font_size = get_settings().appearance.events.font_size
        self._font_size.connect(self._follow_font)
        self._follow_font()
        self._clicks = CanvasClicks(viewer, lambda: self.binding)
        self._paint_guard = PaintGuard(viewer, lambda text: self.status.say(text, True))
        self._ahead = LookingAhead(viewer, lambda: self.binding, self)
        self._fill_images()
        self._show_parts(None)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)
        # after the window is drawn: the first session imports and reads
        QTimer.singleShot(0, self._begin)

    @property
    def binding(self) -> ViewerBinding | None:
        """The session that prompts go to, bound to its layers."""
        return self.sessions.binding

    def _begin(self) -> None:
        if not self._is_closed:
            self._watch_window()
            self._apply_preferences()
            self.sessions.start_on_active()

    def _apply_preferences(self) -> None:
        """Begin with the model and device of napari's Preferences page, unless they were chosen here already."""
        if self.model.chosen_model != Preferences.model:
            return
        preferences = read_preferences()
        if preferences.model != Preferences.model:
            self.model.choose(preferences.model)
        if preferences.device != Preferences.device:
            self.advanced.set_device(preferences.device)

    # ------------------------------------------------------------------ parts
    def _build(self) -> None:
        self.sessions = ImageSessions(self.viewer, self._session_choices)
        self.model = ModelSection()
        self.objects = ObjectsSection(lambda: self.model.chosen_model)
        self.propagation = PropagateSection()
        self.review = ReviewSection()
        self.saving = SaveSection()
        self.advanced = AdvancedSection()
        self.sections = (self.model, self.objects, self.propagation, self.review, self.saving, self.advanced)
        self._below = DocksBelow(self.viewer, lambda: self.binding, self._prepare_below)
        self._tasks: dict[str, QWidget] = {}  # widgets of tabs other than the first, made when they are first shown
        self.facts = QElidingLabel("")
        self.facts.setObjectName("sam2_facts")
        self.settings_button = IconButton(
            "gear", "sam2_settings", "Image, axis, model, device and contrast", checkable=True
        )
        self.settings_button.toggled.connect(self._show_settings)
        self.status = StatusLine(self._state, _NO_IMAGE)
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Tasks")
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(False)
        self.tabs.setElideMode(Qt.TextElideMode.ElideRight)
        bar = self.tabs.tabBar()
        if bar is not None:
            bar.setAccessibleName("Tasks")
            bar.setExpanding(True)
        keep_tabs_fitted(self.tabs, lambda: int(get_settings().appearance.font_size))
        self.tabs.addTab(self._make_click_page(), _TABS[0])
        for name in _TABS[1:]:
            self.tabs.addTab(Page(QWidget()), name)
        self.tabs.currentChanged.connect(self._make_tab)
        self.tabs.currentChanged.connect(self._begin_message)
        self.tabs.currentChanged.connect(self._take_up_tool)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.tabs)
        self.pages.addWidget(self._make_settings_page())
        outer = column(self)
        outer.setContentsMargins(4, 2, 4, 2)
        # else napari puts an empty space below, which takes more of the height with each dock that was opened before
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        facts = row(self.facts, self.settings_button)
        facts.setStretch(0, 1)
        outer.addLayout(facts)
        outer.addWidget(self.sessions)
        outer.addWidget(self.pages, 1)
        outer.addWidget(self.status)
        for signal, slot in (
            (self.sessions.followed, self._on_followed),
            (self.sessions.left, self._on_left),
            (self.sessions.started, self._on_started),
            (self.sessions.removed, self._on_removed),
            (self.sessions.images_changed, self._fill_images),
            (self.sessions.notice, self.status.say),
        ):
            signal.connect(slot)
        self.objects.notice.connect(lambda text: self.status.say(text, True))
        self.propagation.notice.connect(lambda text: self.status.say(text, True))
        self.review.doubts_changed.connect(self.objects.show_checks)
        self.sessions.show_layers_button.clicked.connect(self.objects.take_up_tool)  # after they are shown
        self.saving.session_opened.connect(self.sessions.open_session)
        self.saving.measurements_asked.connect(self.show_measurements)
        self.saving.lineage_asked.connect(self.show_lineage)
        self.advanced.channels_changed.connect(self.sessions.restart)
        keep_keys_on_canvas(self)
        keep_values_readable(self)
        FocusRing(self)
        order_tabs(self)

    def _make_click_page(self) -> QWidget:
        page = QWidget()
        layout = column(page)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.objects, 1)
        self._stack_parts = (separator(), self.propagation, separator(), self.review)
        for part in self._stack_parts:
            layout.addWidget(part)
        self._image_parts = (self.objects, separator(), self.saving)
        layout.addWidget(self._image_parts[1])
        layout.addWidget(self.saving)
        self.samples = self._make_samples()
        layout.addWidget(self.samples)
        layout.addStretch(0)
        area = Page(page)
        self._room = RoomForTable(area, self.objects.table, self.review.spare_parts)
        return area

    def _make_samples(self) -> QWidget:
        """What is shown without an image: samples to begin with."""
        holder = QWidget()
        layout = column(holder)
        layout.setContentsMargins(6, 12, 6, 4)
        layout.addWidget(QLabel("Samples"))
        for key, text, tip in _SAMPLES:
            layout.addWidget(button(text, f"sam2_sample_{key}", tip, partial(self._open_sample, key)))
        return holder

    def _open_sample(self, key: str) -> None:
        self.viewer.open_sample("napari-sam2", key)

    def _show_parts(self, binding: ViewerBinding | None) -> None:
        """What does not apply is hidden: without an image everything but samples, of a single image propagation."""
        parts: tuple[QWidget, ...] = self._image_parts
        for part in parts:
            part.setVisible(binding is not None)
        of_stack: tuple[QWidget, ...] = self._stack_parts
        for part in of_stack:
            part.setVisible(binding is not None and binding.geometry.num_frames > 1)
        self._show_samples()

    def _show_samples(self) -> None:
        self.samples.setVisible(self.binding is None and not self.sessions.images)

    def _make_settings_page(self) -> QWidget:
        page = QWidget()
        layout = column(page)
        layout.setSpacing(3)  # at 16 points it just fits into the window that napari makes then
        layout.addLayout(self._image_row())
        layout.addWidget(separator())
        layout.addWidget(self.model)
        layout.addWidget(separator())
        layout.addWidget(self.advanced)
        layout.addStretch(1)
        return Page(page)

    def _image_row(self) -> QVBoxLayout:
        rows = QVBoxLayout()
        self.image_choice = shrinking_combo(
            "image_choice", "The image to segment. Prompts and labels are stored in new layers"
        )
        self.image_choice.activated.connect(self._on_image_chosen)
        self.axis_choice = shrinking_combo(
            "axis_choice",
            "Axis along which objects are propagated. The other axes stay at the position of their sliders",
        )
        self.axis_choice.activated.connect(self._on_axis_chosen)
        self.image_title, self.axis_title = QLabel("Image"), QLabel("Axis")
        for title, box in ((self.image_title, self.image_choice), (self.axis_title, self.axis_choice)):
            line_of_box = row(title, box)
            line_of_box.setStretch(1, 1)
            rows.addLayout(line_of_box)
        self.image_line = line("sam2_image_line", "Size of the image.")
        rows.addWidget(self.image_line)
        return rows

    def _show_settings(self, is_shown: bool) -> None:
        align_labels((self.image_title, self.axis_title, *self.advanced.labels))  # the style gives them their margins
        self.pages.setCurrentIndex(int(is_shown))

    def show_tab(self, name: str) -> QWidget:
        """Bring a tab to the front: "Click", "Everything", "Many files" or "Train"; the widget in it."""
        self.settings_button.setChecked(False)
        self.tabs.setCurrentIndex(_TABS.index(name))
        return self._tasks.get(name, self)

    def _make_tab(self, index: int) -> None:
        """The widget of a tab, when the tab is shown for the first time."""
        name = _TABS[index]
        kinds: dict[str, Callable[[Any], QWidget]] = {
            "Everything": AutomaticWidget,
            "Many files": partial(ManyFilesWidget, session=self._session),
            "Train": FineTuneWidget,
        }
        make = kinds.get(name)
        area = self.tabs.widget(index)
        if make is not None and name not in self._tasks and isinstance(area, QScrollArea):
            made = self._tasks[name] = make(self.viewer)
            if isinstance(made, AutomaticWidget):
                made.lineage_found.connect(self._show_found_lineage)
                made.correction_asked.connect(self._correct)
            self._choose_image(made)
            area.setWidget(made)
            self._follow_font()
            keep_keys_on_canvas(made)
            wrap_check_boxes(made)
            keep_values_readable(made)
            order_tabs(self)

    def _correct(self, image: Image, layer: Labels) -> None:
        """Start objects from what was found in an image, and show them in place of the layer."""
        self.show_tab("Click")
        if self.binding is None or image not in self.binding.images:
            self.status.say(f"choose {image.name} as the image behind the gear, then start objects from {layer.name}")
            return
        if self.objects.start_from_layer(layer):
            layer.visible = False

    def _choose_image(self, task: QWidget) -> None:
        """Begin in another tab with the image that prompts go to."""
        if self.binding is not None and isinstance(task, AutomaticWidget | FineTuneWidget):
            task.image.choose(self.binding.images[0])

    def _begin_message(self, _index: int = 0) -> None:
        """Clear messages of another tab; the advice to open an image belongs to the first one."""
        if self.binding is not None:
            self.status.show_text(self.status.model_text)
        elif self.status.text in ("", _NO_IMAGE):
            self.status.show_text(_NO_IMAGE if self.tabs.currentIndex() == 0 else "")

    def _take_up_tool(self, index: int) -> None:
        """Back in the first tab, clicks are prompts again, unless another image was selected in between."""
        binding, active = self.binding, self.viewer.layers.selection.active
        if index == 0 and binding is not None and active not in (*self.sessions.images, *binding.layers):
            self.objects.take_up_tool()

    def _session(self) -> Session | None:
        return None if self.binding is None else self.binding.session

    def show_measurements(self) -> MeasurementsTable:
        """Open the table of measurements below the canvas, or measure again in the one that is open."""
        return self._below.show_measurements()

    def show_lineage(self) -> LineageView:
        """Open the lineage of the session below the canvas, or show it in the view that is open."""
        return self._below.show_lineage()

    def _show_found_lineage(self, layer: Labels, tracks: Tracks) -> None:
        """Open the lineage of cells that were found without a click."""
        self.show_lineage().show_layer(self.viewer, layer, tracks, int(layer.data.shape[0]))

    def _prepare_below(self) -> None:
        """Give a new dock below the canvas its font, and its height from the canvas, not from the docks beside it."""
        self._follow_font()
        self._watch_window()
        if self._main_window is not None:
            keep_height_of_side_docks(self._main_window)

    def _follow_font(self, _event: Any = None) -> None:
        """Use napari's font size also where its style sheet names none: tables, and buttons with icons."""
        for each in (self, *self._below.all, *self._tasks.values()):
            font = each.font()
            font.setPointSize(get_settings().appearance.font_size)
            each.setFont(font)
        self._fit_tabs()
        align_labels((self.image_title, self.axis_title, *self.advanced.labels))

    def _fit_tabs(self) -> None:
        bar = self.tabs.tabBar()
        if bar is not None:
            fit_tabs(bar, get_settings().appearance.font_size)

    def sizeHint(self) -> QSize:  # noqa: N802 Qt's name
        """Wide enough for names in the table, where the window has room."""
        hint = super().sizeHint()
        return QSize(max(hint.width(), _WIDTH), hint.height())

    # ------------------------------------------------------------------ images
    def _fill_images(self) -> None:
        names = [layer.name for layer in self.sessions.images]
        shown = None if self.binding is None else self.binding.images[0].name
        self.image_choice.clear()
        self.image_choice.addItems(names)
        if shown in names:
            self.image_choice.setCurrentText(shown)
        self._show_samples()
        self._bind_layers()

    def _bind_layers(self) -> None:
        """Bind undo in the layers of all sessions: napari's own would change labels without their session.

        Those of sessions that are set aside are among them.
        """
        bindings = [*self.sessions.kept, *([] if self.binding is None else [self.binding])]
        layers = [layer for each in bindings for layer in each.layers]
        self._layer_keys.release(layers)
        for layer in layers:
            self._layer_keys.bind(layer, _LAYER_KEYS)

    def _on_image_chosen(self, index: int) -> None:
        images = self.sessions.images
        if 0 <= index < len(images):
            self.sessions.choose(images[index])

    def _on_axis_chosen(self, index: int) -> None:
        axis = self.axis_choice.itemData(index)
        self.propagation.axes = axis if isinstance(axis, str) else ""
        if isinstance(axis, str):
            self._describe()
        else:
            self.sessions.choose_axis(axis)

    def _session_choices(self) -> SessionChoices:
        given = self.advanced.settings()
        settings = given if given.threads is not None else replace(given, threads=threads_beside_a_window())
        return SessionChoices(self.model.chosen_model, settings, self.advanced.mixes_channels)

    def _on_followed(self, binding: ViewerBinding) -> None:
        self._watch_window()
        binding.notice.connect(self.status.say)
        binding.session.failed.connect(self._say_failure)
        binding.session.changed.connect(self._on_session_changed)
        binding.session.model_changed.connect(self._on_model)
        binding.session.propagation_changed.connect(self._on_propagation)
        for section in self.sections:
            section.set_binding(binding)
        self._below.set_binding(binding)
        for task in self._tasks.values():
            self._choose_image(task)
        self._show_parts(binding)
        self._fill_images()
        self._describe()
        self._begin_message()
        self.objects.take_up_tool()

    def _on_started(self) -> None:
        self._ahead.begin()

    def _on_removed(self, name: str, has_objects: bool) -> None:
        self.status.forget_pending()  # about layers of that session
        if has_objects:
            self.status.say(f"{name} was removed; its session is saved, and offered when the image is opened again")
        else:
            self.status.show_text(_NO_IMAGE)

    def _on_left(self, binding: ViewerBinding) -> None:
        self._run_keys.release()
        self._below.set_binding(None)
        for section in self.sections:
            section.set_binding(None)
        session = binding.session
        for signal, slot in (
            (binding.notice, self.status.say),
            (session.failed, self._say_failure),
            (session.changed, self._on_session_changed),
            (session.model_changed, self._on_model),
            (session.propagation_changed, self._on_propagation),
        ):
            with contextlib.suppress(ValueError):
                signal.disconnect(slot)
        self.facts.setText("")
        self._show_parts(None)

    def _describe(self) -> None:
        """The line of facts, and the choices behind the gear."""
        assert self.binding is not None
        geometry: StackGeometry = self.binding.geometry
        image = self.binding.images[0]
        self.axis_choice.clear()
        for axis in range(geometry.ndim - 2):
            name = self._axis_name(axis)
            self.axis_choice.addItem(f"{name}, {geometry.shape[axis]} {plane_word(name)}s", axis)
        if geometry.frame_axis is not None:
            if geometry.num_frames > 1 and not is_time_axis(self._axis_name(geometry.frame_axis)):
                for axes, text in _VOLUME_AXES.items():
                    self.axis_choice.addItem(text, axes)
                if len(others := [a for a in geometry.fixed_axes if geometry.shape[a] > 1]) == 1:
                    names = self._axis_name(geometry.frame_axis), self._axis_name(others[0])
                    self.axis_choice.addItem("{} and {}, all volumes".format(*names), THROUGH_TIME)
            self.axis_choice.setCurrentIndex(self.axis_choice.findData(self.propagation.axes or geometry.frame_axis))
        for widget in (self.axis_title, self.axis_choice):
            widget.setVisible(geometry.ndim > 2)
        size = " x ".join(str(n) for n in geometry.shape)
        level = "" if self.binding.level is None else f", level {self.binding.level} of the pyramid"
        self.image_line.setText(f"{size} pixels{level}")
        facts = [image.name]
        if geometry.frame_axis is not None and geometry.num_frames > 1:
            facts.append(self.axis_choice.currentText())
        facts.append(self.model.describe())
        self.facts.setText(" \N{MIDDLE DOT} ".join(facts))
        self.facts.setToolTip("\n".join((*facts, self.image_line.text())))

    def _axis_name(self, axis: int) -> str:
        assert self.binding is not None
        labels = [str(label) for label in self.binding.images[0].axis_labels]
        name = labels[axis] if axis < len(labels) else ""
        return name if name and not name.lstrip("-").isdigit() else f"axis {axis}"

    def _on_model(self, _state: Any = None) -> None:
        if self.binding is None:
            return
        self._describe()
        state = self.binding.session.model_state
        waits = state.message if state.stage == "loading" else ""
        self.status.show_model(waits)

    def _on_step(self, _event: Any = None) -> None:
        self.objects.follow_step()
        self.review.follow_step()
        self.status.drop_old()

    def _on_display(self, _event: Any = None) -> None:
        """Back in 2D, the tool that napari has put down for the 3D display is taken up again."""
        self.status.drop_old()
        binding = self.binding
        is_flat = self.viewer.dims.ndisplay == 2
        if binding is not None and is_flat and self.viewer.layers.selection.active in binding.layers:
            self.objects.take_up_tool()

    def _on_session_changed(self, _delta: Any = None) -> None:
        self.status.drop_old()

    def _on_propagation(self, handle: Any) -> None:
        """Esc stops a run with any layer active, also one with an Esc of its own."""
        if self.binding is None:
            return
        if not handle.is_running:
            self._run_keys.release()
        elif not self._run_keys.is_bound:
            for layer in self.binding.layers:
                self._run_keys.bind(layer, _RUN_KEYS)

    def _say_failure(self, error: Exception) -> None:
        """Show what went wrong in the session."""
        if isinstance(error, NapariSAM2Error) and self.binding is not None:
            self.status.say(self.binding.in_words(error), True)
        else:
            self.status.say_error(error)

    def _state(self) -> tuple[Any, int] | None:
        """What a message may be about: the latest change, and the plane or the whole volume that is shown."""
        if self.binding is None:
            return None
        is_volume = self.viewer.dims.ndisplay == 3
        return (self.binding.session.history.top, -1 if is_volume else self.binding.current_plane)

    # ------------------------------------------------------------------ end
    def shut_down(self) -> None:
        """Give back keys and connections, end threads; layers stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self.status.stop()  # closing, napari removes all layers one by one
        if self._main_window is not None:
            self._main_window.removeEventFilter(self)
            self._main_window = None
        for event, slot in (
            (self.viewer.dims.events.current_step, self._on_step),
            (self.viewer.dims.events.ndisplay, self._on_display),
        ):
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        self._clicks.close()
        with contextlib.suppress(ValueError, RuntimeError):
            self._font_size.disconnect(self._follow_font)
        self._paint_guard.close()
        self._ahead.stop()
        self._keys.release()
        self._layer_keys.release()
        self.objects.close_tasks()
        for task in self._tasks.values():
            task.close()
        self._below.close()
        self.sessions.shut_down()
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 Qt's name
        """Qt calls this when the widget is closed."""
        self.shut_down()
        super().closeEvent(event)

    def _watch_window(self) -> None:
        """Watch the window: napari closes it without notifying the widgets in it."""
        above = self.parentWidget()
        while above is not None and not isinstance(above, QMainWindow):
            above = above.parentWidget()
        if above is not None and above is not self._main_window:
            above.installEventFilter(self)
            self._main_window = above

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """End once the window hides itself to close: it may still be asked not to, and is destroyed afterwards."""
        if event is not None and event.type() == QEvent.Type.Close:
            self._is_window_closing = True
            if isinstance(watched, QWidget) and not watched.isVisible():
                self.shut_down()  # a window that was never shown does not ask, and does not hide
        elif event is not None and event.type() == QEvent.Type.Hide and self._is_window_closing:
            self.shut_down()
        return super().eventFilter(watched, event)

    def changeEvent(self, event: Any) -> None:  # noqa: N802 Qt's name
        """Closing its dock, napari takes the widget out and does not close it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._is_docked = True
                self._watch_window()
            elif self._is_docked:
                self.shut_down()
