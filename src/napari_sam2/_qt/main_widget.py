"""The dock widget "SAM 2": image and model, objects, propagate, review, save, in the order in which people work."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.advanced_section import AdvancedSection
from napari_sam2._qt.dispatch import QtDelivery
from napari_sam2._qt.keys import KeyBindings
from napari_sam2._qt.layout import shrinking_combo
from napari_sam2._qt.looking_ahead import LookingAhead
from napari_sam2._qt.model_section import ModelSection
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._qt.propagate_section import PropagateSection
from napari_sam2._qt.restore_offer import RestoreOffer
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.save_section import SaveSection
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import matching_channels
from napari_sam2._viewer.preferences import Preferences, read_preferences
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.session.files.autosave_folder import default_autosave_path
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings, threads_beside_a_window

if TYPE_CHECKING:
    import napari

__all__ = ["SAM2Widget"]

_NO_IMAGE = "Open an image, or File > Open Sample > SAM 2. The next click on it then segments."
_LAYER_KEYS = ("Control-Z", "Control-Shift-Z")
_TOLD_AFTER_MS = 250  # notifications wait for what else is said in the same breath


class SAM2Widget(QWidget):
    """Click an object, see its mask, propagate it through the stack.

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
        self._refused: list[Any] = []  # images that a session could not be started on; not tried again by themselves
        self._delivery = QtDelivery()
        self._keys = KeyBindings(self)
        self._layer_keys = KeyBindings(self)
        self._is_closed = False
        self._has_preferences = False
        self._main_window: QMainWindow | None = None
        self._is_window_closing = False
        self._untold: list[tuple[str, bool]] = []
        self._telling = QTimer(self)
        self._telling.setSingleShot(True)
        self._telling.setInterval(_TOLD_AFTER_MS)
        self._telling.timeout.connect(self._notify)
        self._build()
        self._keys.bind(viewer)
        events = viewer.layers.events
        self._viewer_connections = [
            (events.inserted, self._on_layers),
            (events.removed, self._on_layers),
            (events.reordered, self._on_layers),
            (events.renamed, self._on_renamed),
            (viewer.dims.events.current_step, self._on_step),
        ]
        for event, slot in self._viewer_connections:
            event.connect(slot)
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
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        outer.addWidget(scroll)
        inside = QWidget()
        scroll.setWidget(inside)
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        layout.addLayout(self._image_row())
        self.model = ModelSection()
        self.objects = ObjectsSection()
        self.propagation = PropagateSection()
        self.review = ReviewSection()
        self.saving = SaveSection()
        self.advanced = AdvancedSection()
        self.message = QLabel(_NO_IMAGE)
        self.message.setObjectName("message")
        self.message.setWordWrap(True)
        self.message.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.offer = RestoreOffer()
        self.offer.accepted.connect(self._restore)
        layout.addWidget(self.model)
        layout.addWidget(self.message)
        layout.addWidget(self.offer)
        self.show_layers_button = QPushButton("show the layers again")
        self.show_layers_button.setToolTip("Bring back the points, shapes or labels that were removed")
        self.show_layers_button.clicked.connect(self._show_layers)
        self.show_layers_button.hide()
        layout.addWidget(self.show_layers_button)
        for section in (self.objects, self.propagation, self.review, self.saving):
            layout.addWidget(_line())
            layout.addWidget(section)
        folded = QCollapsible("Advanced")
        folded.toggleButton().setToolTip("Device, precision, contrast, channels, overlap, memory")
        folded.addWidget(self.advanced)
        layout.addWidget(folded)
        layout.addStretch(1)
        self.sections = (self.model, self.objects, self.propagation, self.review, self.saving, self.advanced)
        self.objects.said.connect(lambda text: self._say(text, True))
        self.propagation.said.connect(lambda text: self._say(text, True))
        self.saving.session_opened.connect(self.open_session)
        self.advanced.channels_changed.connect(self._restart)

    def _image_row(self) -> QVBoxLayout:
        column = QVBoxLayout()
        row = QHBoxLayout()
        self.image_choice = shrinking_combo(
            "image_choice", "The image to segment; prompts and labels get layers of their own"
        )
        self.image_choice.activated.connect(self._on_image_chosen)
        self.axis_choice = shrinking_combo(
            "axis_choice", "The axis that objects are followed along; others stay where the sliders are"
        )
        self.axis_choice.activated.connect(self._on_axis_chosen)
        row.addWidget(QLabel("Image"))
        row.addWidget(self.image_choice, 1)
        row.addWidget(self.axis_choice, 1)
        column.addLayout(row)
        self.image_line = QLabel("")
        self.image_line.setWordWrap(True)
        column.addWidget(self.image_line)
        return column

    # ------------------------------------------------------------------ images
    def _images(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if type(layer).__name__ == "Image"]

    def _on_layers(self, _event: Any = None) -> None:
        self._refused = [image for image in self._refused if image in self.viewer.layers]
        self._fill_images()
        self.objects.show_layers()
        binding = self.binding
        self.show_layers_button.setVisible(
            binding is not None and any(layer not in self.viewer.layers for layer in binding.layers)
        )
        if self.binding is None:
            QTimer.singleShot(0, self._start_on_active)

    def _on_renamed(self, _event: Any = None) -> None:
        self._fill_images()
        self.objects.show_layers()

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
            self.start(images[index])

    def _on_axis_chosen(self, index: int) -> None:
        axis = self.axis_choice.itemData(index)
        if self.binding is not None and axis != self.binding.geometry.frame_axis:
            if self.binding.session.store.prompts:
                self._say("objects are followed along the new axis in a new session; the labels so far stay", False)
            self._let_go()
            self.start(self._images()[self.image_choice.currentIndex()], frame_axis=axis)

    def _restart(self) -> None:
        """Start anew on the same image, such as with other channels."""
        if self.binding is not None:
            image, axis = self.binding.images[0], self.binding.geometry.frame_axis
            self._let_go()
            self.start(image, frame_axis=axis)

    def start(self, image: Any, *, frame_axis: int | None = None, session: Session | None = None) -> None:
        """Make an image ready for prompts; a session that was begun on it before is taken up again."""
        kept = next((b for b in self._kept if b.images[0] == image and session is None and frame_axis is None), None)
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
        self._keep_safe(binding)
        self._follow(binding)
        self.objects.use_tool("point")
        binding.session.prepare(binding.current_plane)
        self._ahead.begin()

    def _settings(self) -> SessionSettings:
        given = self.advanced.settings()
        return given if given.threads is not None else replace(given, threads=threads_beside_a_window())

    def _keep_safe(self, binding: ViewerBinding) -> None:
        """Save by itself, and offer what an earlier session on this image left behind."""
        try:
            if binding.session.autosave_path is None:
                self.offer.look_for(binding)
                binding.session.autosave_path = default_autosave_path(binding.images[0].name)
        except NapariSAM2Error as error:
            self._say(str(error), True)

    def _restore(self, path: str) -> None:
        self.open_session(path)
        if self.binding is not None:
            self.binding.session.autosave_path = path

    def _follow(self, binding: ViewerBinding) -> None:
        self.binding = binding
        binding.said.connect(self._say)
        binding.session.failed.connect(self._on_failed)
        for section in self.sections:
            section.set_binding(binding)
        for layer in binding.layers:
            self._layer_keys.bind(layer, _LAYER_KEYS)
        self._fill_images()
        self._describe()
        self.message.setText("Click on an object: its mask appears. W begins the next object, G propagates.")

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
        for section in self.sections:
            section.set_binding(None)
        with contextlib.suppress(ValueError):
            binding.said.disconnect(self._say)
            binding.session.failed.disconnect(self._on_failed)

    def _let_go(self) -> None:
        """End the session of the image; labels and prompts stay as layers."""
        if self.binding is not None:
            binding = self.binding
            self._unfollow()
            _end(binding)

    def _describe(self) -> None:
        assert self.binding is not None
        geometry: StackGeometry = self.binding.geometry
        image = self.binding.images[0]
        self.axis_choice.clear()
        labels = [str(label) for label in image.axis_labels]
        for axis in range(geometry.ndim - 2):
            name = labels[axis] if axis < len(labels) and not labels[axis].lstrip("-").isdigit() else f"axis {axis}"
            self.axis_choice.addItem(f"{name}: {geometry.shape[axis]} frames", axis)
        if geometry.frame_axis is not None:
            self.axis_choice.setCurrentIndex(geometry.frame_axis)
        self.axis_choice.setVisible(geometry.ndim > 2)
        size = " x ".join(str(n) for n in geometry.shape)
        level = "" if self.binding.level is None else f", level {self.binding.level} of the pyramid"
        self.image_line.setText(f"{size}{level}; contrast {self.binding.contrast}")

    def _on_step(self, _event: Any = None) -> None:
        self.objects._later()  # noqa: SLF001 the table tells what the frame on screen has
        self.review.follow_step()

    # ------------------------------------------------------------------ messages
    def _say(self, text: str, is_error: bool = False) -> None:
        """At once in the widget; as notifications, what is said in one go is told together."""
        self.message.setText(text)
        self._untold.append((text, is_error))
        self._telling.start()  # anew: until nothing more is said

    def _notify(self) -> None:
        untold, self._untold = self._untold, []
        for is_error, tell in ((True, show_warning), (False, show_info)):
            texts = dict.fromkeys(text for text, is_bad in untold if is_bad == is_error)
            if texts:
                tell("\n".join(texts))

    def _on_failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, NapariSAM2Error) else f"{type(error).__name__}: {error}"
        self._say(text, True)

    def open_session(self, path: str) -> None:
        """Open a saved session on the image that is chosen."""
        image = self._images()[self.image_choice.currentIndex()] if self._images() else None
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
        self.start(image, session=session)
        self._say(f"opened {path}: {len(session.objects)} objects", False)

    # ------------------------------------------------------------------ what keys call
    def new_object(self) -> None:
        """The next prompts are about a new object."""
        self.objects.new_object()

    def toggle_positive(self) -> None:
        """The next click says the opposite."""
        self.objects.toggle_positive()

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
        """Pause the propagation, or go on."""
        self.propagation.pause_or_resume()

    def cancel(self) -> None:
        """Cancel the propagation."""
        self.propagation.cancel()

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
        """Take the latest change back."""
        if self.binding is not None and not self.binding.session.undo():
            self._say("nothing to undo", False)

    def redo(self) -> None:
        """Do again what was undone."""
        if self.binding is not None and not self.binding.session.redo():
            self._say("nothing to redo", False)

    # ------------------------------------------------------------------ end
    def shut_down(self) -> None:
        """Give back keys and connections, end threads; layers stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self._telling.stop()  # closing, napari removes all layers: nobody is to hear of each
        if self._main_window is not None:
            self._main_window.removeEventFilter(self)
            self._main_window = None
        for event, slot in self._viewer_connections:
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        self._ahead.stop()
        self._keys.release()
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
        """Closing a viewer, napari closes its window and tells the widgets in it nothing."""
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


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
