"""The dock "SAM 2": one line of facts, a tab for each task, and a status line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.settings import get_settings
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.advanced_section import AdvancedSection
from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._qt.dispatch import QtDelivery
from napari_sam2._qt.fine_tune_widget import FineTuneWidget
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.keys import KeyBindings
from napari_sam2._qt.layout import button, column, fit_tabs, keep_keys_on_canvas, line, order_tabs, row, shrinking_combo
from napari_sam2._qt.lineage_view import LineageView
from napari_sam2._qt.looking_ahead import LookingAhead
from napari_sam2._qt.many_files_widget import ManyFilesWidget
from napari_sam2._qt.measurements_table import MeasurementsTable
from napari_sam2._qt.model_section import ModelSection
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._qt.propagate_section import PropagateSection
from napari_sam2._qt.restore_offer import RestoreOffer
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.save_section import SaveSection
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import matching_channels
from napari_sam2._viewer.layer_frames import is_time_axis
from napari_sam2._viewer.preferences import Preferences, read_preferences
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.session.files.autosave_folder import default_autosave_path
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings, threads_beside_a_window

if TYPE_CHECKING:
    import napari

__all__ = ["SAM2Widget"]

_NO_IMAGE = "Open an image: drag it onto the window, or try a sample. A click on an object then segments it."
_FIRST_CLICK = "Click on an object: its mask appears. W begins the next object."
_LAYER_KEYS = ("Control-Z", "Control-Shift-Z")
_RUN_KEYS = ("Escape",)
_WIDTH = 290  # pixels, to begin with
_NOTIFY_AFTER_MS = 250  # messages that follow each other at once become one notification
_CLICK_RADIUS = 3.0  # pixels of the canvas: a longer way of the mouse is a drag
_SAMPLES = (
    ("nuclei", "Nuclei (z-stack)", "A z-stack of nuclei, as in the tutorial"),
    ("embryo", "Embryo (z-stack)", "Nuclei of a mouse embryo, a real confocal stack"),
    ("c2c12", "Cells (movie)", "C2C12 cells: a real phase-contrast movie"),
    ("tissue_nuclei", "Tissue (image)", "A real fluorescence image"),
)
_SAVED_IN = "napari_sam2_saved_in"  # in the metadata of the layers of a session: the file it is saved in
_TABS = ("Click", "Everything", "Many files", "Train")

_VOLUME_AXES = {"Y": "rows of the volume (Y)", "X": "columns of the volume (X)", "ZYX": "Z, Y and X, fused by vote"}
"""Beside the axes that sessions run along: ``Session.track_along``."""


class SAM2Widget(QWidget):
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
        self.binding: ViewerBinding | None = None
        self._kept: list[ViewerBinding] = []
        self._refused: list[Any] = []  # images on which no session could be started; not tried again automatically
        self._delivery = QtDelivery()
        self._keys = KeyBindings(self)
        self._layer_keys = KeyBindings(self)
        self._run_keys = KeyBindings(self)  # of the layers, whose own Esc would otherwise come first
        self._is_closed = False
        self._has_preferences = False
        self._main_window: QMainWindow | None = None
        self._is_window_closing = False
        self._pending: list[tuple[str, bool]] = []
        self._message_state: tuple[Any, int] | None = None
        self._waits_for = ""  # what the model says while a server is lost or busy
        self._notifying = QTimer(self)
        self._notifying.setSingleShot(True)
        self._notifying.setInterval(_NOTIFY_AFTER_MS)
        self._notifying.timeout.connect(self._notify)
        self._build()
        self._keys.bind(viewer)
        events = viewer.layers.events
        self._viewer_connections = [
            (events.inserted, self._on_layers),
            (events.removed, self._on_layers),
            (events.reordered, self._on_layers),
            (events.renamed, self._on_renamed),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.dims.events.current_step, self._on_step),
        ]
        for event, slot in self._viewer_connections:
            event.connect(slot)
        self._font_size = get_settings().appearance.events.font_size
        self._font_size.connect(self._follow_font)
        self._follow_font()
        viewer.mouse_drag_callbacks.append(self._on_mouse)
        self._ahead = LookingAhead(viewer, lambda: self.binding, self)
        self._fill_images()
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)
        # after the window is drawn: the first session imports and reads
        QTimer.singleShot(0, self._start_on_active)

    def _apply_preferences(self) -> None:
        """Begin with the model and device of napari's Preferences page, unless they were chosen here already."""
        self._has_preferences = True
        if self.model.chosen_model != Preferences.model:
            return
        preferences = read_preferences()
        if preferences.model != Preferences.model:
            self.model.choose(preferences.model)
        if preferences.device != Preferences.device:
            self.advanced.set_device(preferences.device)

    # ------------------------------------------------------------------ parts
    def _build(self) -> None:
        self.model = ModelSection()
        self.objects = ObjectsSection(lambda: self.model.chosen_model)
        self.propagation = PropagateSection()
        self.review = ReviewSection()
        self.saving = SaveSection()
        self.advanced = AdvancedSection()
        self.sections = (self.model, self.objects, self.propagation, self.review, self.saving, self.advanced)
        self._measurements: MeasurementsTable | None = None
        self._lineage: LineageView | None = None
        self._tasks: dict[str, QWidget] = {}  # widgets of tabs other than the first, made when they are first shown
        self.facts = QElidingLabel("")
        self.facts.setObjectName("sam2_facts")
        self.settings_button = IconButton(
            "gear", "sam2_settings", "Image, axis, model, device and contrast", checkable=True
        )
        self.settings_button.toggled.connect(self._show_settings)
        self.offer = RestoreOffer()
        self.offer.accepted.connect(self._restore)
        self.switch_button = button(
            "",
            "sam2_switch",
            "Continue with the selected image; the session of the other one is kept",
            self._switch,
        )
        self.switch_button.hide()
        self.show_layers_button = button(
            "Show the layers again",
            "sam2_show_layers",
            "Bring back the points, shapes or labels that were removed",
            self._show_layers,
        )
        self.show_layers_button.hide()
        self.message = line("sam2_message", "Latest message.", _NO_IMAGE)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(False)
        self.tabs.setElideMode(Qt.TextElideMode.ElideRight)
        bar = self.tabs.tabBar()
        if bar is not None:
            bar.setExpanding(True)
        self.tabs.addTab(self._make_click_page(), _TABS[0])
        for name in _TABS[1:]:
            self.tabs.addTab(_scrolling(QWidget()), name)
        self.tabs.currentChanged.connect(self._make_tab)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.tabs)
        self.pages.addWidget(self._make_settings_page())
        outer = column(self)
        outer.setContentsMargins(4, 2, 4, 2)
        facts = row(self.facts, self.settings_button)
        facts.setStretch(0, 1)
        outer.addLayout(facts)
        for widget in (self.offer, self.switch_button, self.show_layers_button):
            outer.addWidget(widget)
        outer.addWidget(self.pages, 1)
        outer.addWidget(self.message)
        self._show_parts(None)
        self.objects.notice.connect(lambda text: self._say(text, True))
        self.propagation.notice.connect(lambda text: self._say(text, True))
        self.review.doubts_changed.connect(self.objects.show_checks)
        self.saving.session_opened.connect(self.open_session)
        self.saving.measurements_asked.connect(self.show_measurements)
        self.saving.lineage_asked.connect(self.show_lineage)
        self.advanced.channels_changed.connect(self._restart)
        keep_keys_on_canvas(self)
        order_tabs(self)

    def _make_click_page(self) -> QWidget:
        page = QWidget()
        layout = column(page)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.objects, 1)
        self._stack_parts = (_line(), self.propagation, _line(), self.review)
        for part in self._stack_parts:
            layout.addWidget(part)
        self._image_parts = (self.objects, _line(), self.saving)
        layout.addWidget(self._image_parts[1])
        layout.addWidget(self.saving)
        self.samples = self._make_samples()
        layout.addWidget(self.samples)
        layout.addStretch(0)
        return _scrolling(page)

    def _make_samples(self) -> QWidget:
        """What is shown without an image: samples to begin with."""
        holder = QWidget()
        layout = column(holder)
        layout.setContentsMargins(6, 12, 6, 4)
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
        self.samples.setVisible(binding is None and not self._images())

    def _make_settings_page(self) -> QWidget:
        page = QWidget()
        layout = column(page)
        layout.addLayout(self._image_row())
        layout.addWidget(_line())
        layout.addWidget(self.model)
        layout.addWidget(_line())
        layout.addWidget(self.advanced)
        layout.addStretch(1)
        return _scrolling(page)

    def _image_row(self) -> QVBoxLayout:
        rows = QVBoxLayout()
        self.image_choice = shrinking_combo(
            "image_choice", "The image to segment. Prompts and labels get layers of their own"
        )
        self.image_choice.activated.connect(self._on_image_chosen)
        self.axis_choice = shrinking_combo(
            "axis_choice", "The axis that objects are propagated along. The other axes stay where the sliders are"
        )
        self.axis_choice.activated.connect(self._on_axis_chosen)
        self.axis_title = QLabel("Axis")
        for title, box in ((QLabel("Image"), self.image_choice), (self.axis_title, self.axis_choice)):
            line_of_box = row(title, box)
            line_of_box.setStretch(1, 1)
            rows.addLayout(line_of_box)
        self.image_line = line("sam2_image_line", "Size of the image.")
        rows.addWidget(self.image_line)
        return rows

    def _show_settings(self, is_shown: bool) -> None:
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
            area.setWidget(made)
            keep_keys_on_canvas(made)
            order_tabs(self)

    def _session(self) -> Session | None:
        return None if self.binding is None else self.binding.session

    def show_measurements(self) -> MeasurementsTable:
        """Open the table of measurements below the canvas, or measure again in the one that is open."""
        shown = self._measurements
        if shown is not None and shown.parent() is not None:
            shown.measure()
            return shown
        made = self._measurements = MeasurementsTable(self.viewer)
        self._follow_font()
        self._keep_height_of_side_docks()
        self.viewer.window.add_dock_widget(made, name="SAM 2 measurements", area="bottom")
        made.set_binding(self.binding)
        return made

    def show_lineage(self) -> LineageView:
        """Open the lineage below the canvas, or show the one that is open."""
        shown = self._lineage
        if shown is not None and shown.parent() is not None:
            shown.refresh()
            return shown
        made = self._lineage = LineageView()
        self._follow_font()
        self._keep_height_of_side_docks()
        self.viewer.window.add_dock_widget(made, name="SAM 2 lineage", area="bottom")
        made.set_binding(self.binding)
        return made

    def _keep_height_of_side_docks(self) -> None:
        """A dock below the canvas takes height from the canvas, not from the docks beside it."""
        self._watch_window()
        if self._main_window is not None:
            for corner, area in (
                (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
                (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
            ):
                self._main_window.setCorner(corner, area)

    def _follow_font(self, _event: Any = None) -> None:
        """Use napari's font size also where its style sheet names none: tables, and buttons with icons."""
        for each in (self, self._measurements, self._lineage):
            if each is not None:
                font = each.font()
                font.setPointSize(get_settings().appearance.font_size)
                each.setFont(font)
        self._fit_tabs()

    def _fit_tabs(self) -> None:
        bar = self.tabs.tabBar()
        if bar is not None:
            fit_tabs(bar, get_settings().appearance.font_size)

    def sizeHint(self) -> QSize:  # noqa: N802 Qt's name
        """Wide enough for names in the table, where the window has room."""
        hint = super().sizeHint()
        return QSize(max(hint.width(), _WIDTH), hint.height())

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 Qt's name
        """The names of the tabs have room at any width."""
        super().resizeEvent(event)
        self._fit_tabs()

    # ------------------------------------------------------------------ images
    def _images(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if _is_image(layer)]

    def _on_layers(self, _event: Any = None) -> None:
        layers = self.viewer.layers
        self._refused = [image for image in self._refused if image in layers]
        for kept in [kept for kept in self._kept if kept.images[0] not in layers]:
            self._kept.remove(kept)
            _end(kept)
        if self.binding is not None and self.binding.images[0] not in layers:
            self._leave_image()
        self._fill_images()
        binding = self.binding
        self.show_layers_button.setVisible(binding is not None and any(layer not in layers for layer in binding.layers))
        if binding is None:
            QTimer.singleShot(0, self._start_on_active)

    def _leave_image(self) -> None:
        """The image is gone: its session ends, to be restored when the image is opened again."""
        assert self.binding is not None
        name, has_objects = self.binding.images[0].name, bool(self.binding.session.objects)
        self._let_go()
        self.offer.hide()
        self._pending.clear()  # about layers of that session
        if has_objects:
            self._say(f"{name} was removed; its session is saved, and offered when the image is opened again")
        else:
            self._show_message(_NO_IMAGE)

    def _on_active(self, _event: Any = None) -> None:
        """Another image was selected: offer to continue with it."""
        active = self.viewer.layers.selection.active
        is_other = self.binding is not None and _is_image(active) and active not in self.binding.images
        if is_other and self.binding is not None:
            self.switch_button.setText(f"Prompts go to {self.binding.images[0].name}: use {active.name}")
        self.switch_button.setVisible(is_other)

    def _switch(self) -> None:
        active = self.viewer.layers.selection.active
        self.switch_button.hide()
        if _is_image(active):
            self._start_on_choice(active)

    def _start_on_choice(self, image: Any) -> None:
        """Start on an image that the user chose, and show one of its planes where the viewer is beyond them."""
        self.start(image)
        if self.binding is not None and self.binding.images[0] == image:
            self.binding.go_to(self.binding.current_plane)

    def _on_renamed(self, _event: Any = None) -> None:
        self._fill_images()

    def _fill_images(self) -> None:
        names = [layer.name for layer in self._images()]
        shown = None if self.binding is None else self.binding.images[0].name
        self.image_choice.clear()
        self.image_choice.addItems(names)
        if shown in names:
            self.image_choice.setCurrentText(shown)

    def _start_on_active(self) -> None:
        """Start a session on the active image, or else the last one, unless it failed there before."""
        if self.binding is not None or self._is_closed:
            return
        self._watch_window()
        if not self._has_preferences:
            self._apply_preferences()
        images = [image for image in self._images() if image not in self._refused]
        active = self.viewer.layers.selection.active
        chosen = next((layer for layer in images if layer == active), images[-1] if images else None)
        if chosen is not None:
            self.start(chosen)

    def _show_layers(self) -> None:
        if self.binding is not None:
            self.binding.show_again()

    def _on_image_chosen(self, index: int) -> None:
        images = self._images()
        if self.binding is not None and 0 <= index < len(images) and images[index] == self.binding.images[0]:
            if not self.binding.fits_image():  # its data was replaced by data of another shape
                self._restart()
            return
        if 0 <= index < len(images) and (self.binding is None or images[index] != self.binding.images[0]):
            self._start_on_choice(images[index])

    def _on_axis_chosen(self, index: int) -> None:
        axis = self.axis_choice.itemData(index)
        self.propagation.axes = axis if isinstance(axis, str) else ""
        if isinstance(axis, str):
            return
        if self.binding is not None and axis != self.binding.geometry.frame_axis:
            has_prompts = bool(self.binding.session.store.prompts)
            self._let_go()
            self.start(self._images()[self.image_choice.currentIndex()], frame_axis=axis)
            if has_prompts:
                self._say("a new session propagates along this axis; the labels made so far stay in their layer")

    def _restart(self) -> None:
        """Start a new session on the same image, for example with other channels."""
        if self.binding is not None:
            image, axis = self.binding.images[0], self.binding.geometry.frame_axis
            self._let_go()
            self.start(image, frame_axis=axis)

    def start(
        self,
        image: Any,
        *,
        frame_axis: int | None = None,
        session: Session | None = None,
        autosave_path: str | None = None,
    ) -> None:
        """Start a session on an image, or go on with the one that was started on it before.

        Parameters
        ----------
        image : napari.layers.Image
            A layer of the viewer.
        frame_axis : int, optional
            The axis to propagate along.
        session : Session, optional
            One that exists already, such as a restored one.
        autosave_path : str, optional
            Where that session is saved automatically. Default: a new file, after an offer to restore an earlier one.
        """
        is_plain = session is None and frame_axis is None
        kept = next((b for b in self._kept if b.images[0] == image and is_plain), None)
        if self.binding is not None:
            self._set_aside()
        if kept is not None:
            self._kept.remove(kept)
            self._follow(kept)
            return
        images = matching_channels(image, list(self.viewer.layers)) if self.advanced.mixes_channels else [image]
        # until it has worked: the layers that a start adds and takes back would have it tried again
        self._refused.append(image)
        try:
            binding = ViewerBinding(
                self.viewer,
                images,
                model=self.model.chosen_model,
                frame_axis=frame_axis,
                settings=self._settings(),
                deliver=self._delivery,
                session=session,
            )
        except NapariSAM2Error as error:
            self._say(str(error), True)
            return
        self._refused = [other for other in self._refused if other != image]
        binding.session.binding = binding
        self._keep_safe(binding, autosave_path, is_offered=is_plain)
        self._follow(binding)
        self.objects.use_tool("point")
        # images on top of each other are channels only where they are blended
        others = [
            each for each in matching_channels(image, list(self.viewer.layers))[1:] if each.blending == "additive"
        ]
        if others and not self.advanced.mixes_channels:
            names = ", ".join(other.name for other in others)
            self._say(f"the model sees {image.name} only, and not {names}; Mix visible channels (gear) shows it all")
        binding.session.prepare(binding.current_plane)
        self._ahead.begin()

    def _settings(self) -> SessionSettings:
        given = self.advanced.settings()
        return given if given.threads is not None else replace(given, threads=threads_beside_a_window())

    def _keep_safe(self, binding: ViewerBinding, path: str | None, *, is_offered: bool) -> None:
        """Save automatically, and offer what an earlier session on this image left behind."""
        self.offer.hide()
        try:
            if path is not None:
                binding.session.autosave_path = path
            elif binding.session.autosave_path is None:
                if is_offered:
                    self.offer.look_for(binding)
                binding.session.autosave_path = default_autosave_path(binding.images[0].name)
                if is_offered and self.offer.path is not None and self._layers_of(self.offer.path):
                    QTimer.singleShot(0, partial(self._restore, self.offer.path))  # the dock was closed in between
            for layer in binding.layers:
                layer.metadata[_SAVED_IN] = str(binding.session.autosave_path)
        except NapariSAM2Error as error:
            self._say(str(error), True)

    def _restore(self, path: str) -> None:
        """Open a session again, in place of the layers that it left in this viewer."""
        if self._is_closed:
            return
        self.offer.hide()
        left = [(layer, layer.name) for layer in self._layers_of(path)]
        for layer, name in left:
            layer.name = f"{name} (before)"  # the new ones have these names
        self.open_session(path, autosave_path=path)
        is_open = self.binding is not None and str(self.binding.session.autosave_path) == path
        for layer, name in left:
            if is_open:
                self.viewer.layers.remove(layer)
            else:
                layer.name = name

    def _layers_of(self, path: str) -> list[Any]:
        """Layers of a session that has ended, which are still in the viewer."""
        own = () if self.binding is None else self.binding.layers
        return [each for each in self.viewer.layers if each.metadata.get(_SAVED_IN) == path and each not in own]

    def _follow(self, binding: ViewerBinding) -> None:
        self.binding = binding
        binding.notice.connect(self._say)
        binding.session.failed.connect(self._on_failed)
        binding.session.changed.connect(self._on_session_changed)
        binding.session.model_changed.connect(self._on_model)
        binding.session.propagation_changed.connect(self._on_propagation)
        for section in self.sections:
            section.set_binding(binding)
        if self._measurements is not None:
            self._measurements.set_binding(binding)
        if self._lineage is not None:
            self._lineage.set_binding(binding)
        self._show_parts(binding)
        for layer in binding.layers:
            self._layer_keys.bind(layer, _LAYER_KEYS)
        self._fill_images()
        self._describe()
        self._on_active()
        self._message_state = None
        self._show_message(_FIRST_CLICK if not binding.session.objects else "")

    def _set_aside(self) -> None:
        """Keep the session of the image that was worked on; its layers stay in the viewer."""
        if self.binding is not None:
            binding = self.binding
            self._unfollow()
            self._kept.append(binding)

    def _unfollow(self) -> None:
        assert self.binding is not None
        binding, self.binding = self.binding, None
        binding.session.cancel()
        self._layer_keys.release()
        self._run_keys.release()
        if self._measurements is not None:
            self._measurements.set_binding(None)
        if self._lineage is not None:
            self._lineage.set_binding(None)
        for section in self.sections:
            section.set_binding(None)
        session = binding.session
        for signal, slot in (
            (binding.notice, self._say),
            (session.failed, self._on_failed),
            (session.changed, self._on_session_changed),
            (session.model_changed, self._on_model),
            (session.propagation_changed, self._on_propagation),
        ):
            with contextlib.suppress(ValueError):
                signal.disconnect(slot)
        self.facts.setText("")
        self._show_parts(None)

    def _let_go(self) -> None:
        """End the session of the image; labels and prompts stay as layers."""
        if self.binding is not None:
            binding = self.binding
            self._unfollow()
            _end(binding)

    def _describe(self) -> None:
        """The line of facts, and the choices behind the gear."""
        assert self.binding is not None
        geometry: StackGeometry = self.binding.geometry
        image = self.binding.images[0]
        self.axis_choice.clear()
        for axis in range(geometry.ndim - 2):
            self.axis_choice.addItem(f"{self._axis_name(axis)}, {geometry.shape[axis]} {self._frames(axis)}", axis)
        if geometry.frame_axis is not None:
            if geometry.num_frames > 1 and not is_time_axis(self._axis_name(geometry.frame_axis)):
                for axes, text in _VOLUME_AXES.items():
                    self.axis_choice.addItem(text, axes)
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

    def _frames(self, axis: int) -> str:
        return "slices" if self._axis_name(axis).lower() == "z" else "frames"

    def _on_model(self, _state: Any = None) -> None:
        if self.binding is None:
            return
        self._describe()
        state = self.binding.session.model_state
        waits = state.message if state.stage == "loading" else ""
        if waits or self.message.text() == self._waits_for:
            self._show_message(waits)  # in the status line only, until it is over: nothing is to be done about it
            self._message_state = None
        self._waits_for = waits

    def _on_step(self, _event: Any = None) -> None:
        self.objects.follow_step()
        self.review.follow_step()
        self._drop_old_message()

    def _on_session_changed(self, _delta: Any = None) -> None:
        self._drop_old_message()
        if self.message.text() == _FIRST_CLICK:
            self._show_message("")

    def _on_propagation(self, handle: Any) -> None:
        """Esc stops a run whatever layer is active, also one with an Esc of its own."""
        if self.binding is None:
            return
        if not handle.is_running:
            self._run_keys.release()
        elif not self._run_keys.is_bound:
            for layer in self.binding.layers:
                self._run_keys.bind(layer, _RUN_KEYS)

    def _on_mouse(self, viewer: Any, event: Any) -> Any:
        """A click with the arrow tool, or a Ctrl-click with any tool, selects the object under it."""
        binding = self.binding
        active = viewer.layers.selection.active
        if binding is None or active is None or event.button != 1:
            return
        is_ctrl = "Control" in event.modifiers
        if not is_ctrl and str(getattr(active, "mode", "")) != "pan_zoom":
            return
        mode = str(active.mode) if is_ctrl and active in binding.layers else "pan_zoom"
        if mode != "pan_zoom":
            active.mode = "pan_zoom"  # else the tool of the layer, which hears of the click next, makes a prompt of it
        pressed = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if mode != "pan_zoom":
            active.mode = mode
        way = max(abs(a - b) for a, b in zip(event.pos, pressed, strict=True))
        found = binding.object_at(event.position) if way <= _CLICK_RADIUS and viewer.dims.ndisplay == 2 else None
        if found is not None and self.binding is binding:
            binding.select(found)

    # ------------------------------------------------------------------ messages
    def _state(self) -> tuple[Any, int] | None:
        """What a message may be about: the latest change and the plane."""
        return None if self.binding is None else (self.binding.session.history.top, self.binding.current_plane)

    def _say(self, text: str, is_error: bool = False) -> None:
        """Show a message in the status line; messages that come together become one notification."""
        self._show_message(text)
        self._message_state = self._state()
        self._pending.append((text, is_error))
        self._notifying.start()  # again: until no more messages come

    def _show_message(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _drop_old_message(self) -> None:
        """A message goes when something else was done or another slice is shown."""
        state = self._state()
        if (
            state is None
            or self._message_state is None
            or (state[0] is self._message_state[0] and state[1] == self._message_state[1])
        ):
            return
        self._message_state = None
        self._show_message("")

    def _notify(self) -> None:
        pending, self._pending = self._pending, []
        for is_error, tell in ((True, show_warning), (False, show_info)):
            texts = dict.fromkeys(text for text, is_bad in pending if is_bad == is_error)
            if texts:
                tell("\n".join(texts))

    def _on_failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, NapariSAM2Error) else f"{type(error).__name__}: {error}"
        self._say(text, True)

    def open_session(self, path: str, *, autosave_path: str | None = None, image: Any = None) -> None:
        """Open a saved session on an image layer; by default on the one that is chosen."""
        if image is None and self._images():
            image = self._images()[self.image_choice.currentIndex()]
        if image is None:
            self._say("open the image of the session first, then the session", True)
            return
        from napari_sam2._viewer.image_source import open_layers

        try:
            planes, _ = open_layers([image])
            session = Session.load(path, planes, deliver=self._delivery)
        except NapariSAM2Error as error:
            self._say(str(error), True)
            return
        if self.binding is not None and not self.binding.session.store.prompts:
            empty = self.binding.layers
            self._let_go()
            for layer in empty:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        self.start(image, session=session, autosave_path=autosave_path)
        if self.binding is not None:
            count = len(session.objects)
            self._say(f"{count} object{'s' * (count != 1)} opened from {Path(path).name}")

    # ------------------------------------------------------------------ what keys call
    def new_object(self) -> None:
        """Begin a new object with the next prompts."""
        self.objects.new_object()

    def toggle_positive(self) -> None:
        """The next prompt is background instead of object, or the other way round."""
        self.objects.toggle_positive()

    def use_points(self) -> None:
        """Prompt with points."""
        self.objects.use_tool("point")

    def use_box(self) -> None:
        """Prompt with boxes."""
        self.objects.use_tool("box")

    def use_lasso(self) -> None:
        """Draw around objects."""
        self.objects.use_tool("lasso")

    def use_scribble(self) -> None:
        """Draw lines along objects."""
        self.objects.use_tool("scribble")

    def use_brush(self) -> None:
        """Paint on masks."""
        self.objects.use_tool("paint")

    def next_tool(self) -> None:
        """Go through the tools."""
        self.objects.next_tool()

    def next_candidate(self) -> None:
        """Another candidate of an ambiguous click."""
        self.objects.next_candidate()

    def next_object(self) -> None:
        """Select the next object."""
        self.objects.next_object()

    def previous_object(self) -> None:
        """Select the object before."""
        self.objects.previous_object()

    def delete_object(self) -> None:
        """Delete the current object."""
        self.objects.delete_object()

    def show_only_current(self) -> None:
        """Hide the other objects, or show all again."""
        self.objects.show_only_current()

    def divide_here(self) -> None:
        """The current object has divided: its daughters begin on this frame."""
        self.objects.divide_here()

    def cut_here(self) -> None:
        """From this frame on the current object is a new one."""
        self.objects.cut_here()

    def rename_object(self) -> None:
        """Rename the current object."""
        self.objects.rename_object()

    def propagate_both(self) -> None:
        """Propagate in both directions."""
        self.propagation.propagate("both")

    def propagate_forward(self) -> None:
        """Propagate to the frames after."""
        self.propagation.propagate("forward")

    def propagate_backward(self) -> None:
        """Propagate to the frames before."""
        self.propagation.propagate("backward")

    def pause_or_resume(self) -> None:
        """Pause or resume the propagation."""
        self.propagation.pause_or_resume()

    def find_alike(self) -> None:
        """Offer the next object like the current one."""
        self.objects.alike.find_next()

    def accept_alike(self) -> None:
        """Accept the object that is offered."""
        self.objects.alike.accept()

    def cancel(self) -> None:
        """Stop the propagation, and offer no more objects."""
        self.propagation.cancel()
        self.objects.alike.end()

    def accept(self) -> None:
        """Lock the object on this frame and go to the next one to check."""
        self.review.accept()

    def next_doubtful(self) -> None:
        """Go to the next frame to check."""
        self.review.next_doubtful()

    def previous_doubtful(self) -> None:
        """Go to the frame to check before."""
        self.review.previous_doubtful()

    def undo(self) -> None:
        """Undo the latest change."""
        if self.binding is not None and not self.binding.session.undo():
            self._say("nothing to undo")

    def redo(self) -> None:
        """Redo what was undone."""
        if self.binding is not None and not self.binding.session.redo():
            self._say("nothing to redo")

    # ------------------------------------------------------------------ end
    def shut_down(self) -> None:
        """Give back keys and connections, end threads; layers stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self._notifying.stop()  # closing, napari removes all layers one by one
        if self._main_window is not None:
            self._main_window.removeEventFilter(self)
            self._main_window = None
        for event, slot in self._viewer_connections:
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        if self._on_mouse in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_mouse)
        with contextlib.suppress(ValueError, RuntimeError):
            self._font_size.disconnect(self._follow_font)
        self._ahead.stop()
        self._keys.release()
        self.objects.close_tasks()
        for task in self._tasks.values():
            task.close()
        if self._measurements is not None:
            self._measurements.close()
            self._measurements = None
        if self._lineage is not None:
            self._lineage.close()
            self._lineage = None
        self._let_go()
        for binding in self._kept:
            _end(binding)
        self._kept.clear()
        self._delivery.close()
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


def _end(binding: ViewerBinding) -> None:
    """Close a session; its automatically saved file stays for the next day if there is anything in it."""
    binding.close()
    binding.session.close(keep_autosave=bool(binding.session.objects))


def _is_image(layer: Any) -> bool:
    # through napari's proxy `type(layer)` is the proxy's, while `__class__` is the layer's
    return layer is not None and bool(layer.__class__.__name__ == "Image")


class _Page(QScrollArea):
    """A page that is scrolled only where the window is too low for it: the dock is never narrower than its controls."""

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the Tab key is for the controls in it
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(page)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 Qt's name
        """As wide as the page at least, and of any height."""
        page = self.widget()
        hint = super().minimumSizeHint()
        return hint if page is None else QSize(page.minimumSizeHint().width(), hint.height())


def _scrolling(page: QWidget) -> QScrollArea:
    return _Page(page)


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
