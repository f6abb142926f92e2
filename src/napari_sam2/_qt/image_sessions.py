"""The image that prompts go to and its session: following the viewer, switching, restoring, opening files."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_sam2._errors import FrameError, NapariSAM2Error
from napari_sam2._qt.dispatch import QtDelivery
from napari_sam2._qt.layout import button, column
from napari_sam2._qt.restore_offer import RestoreOffer
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import matching_channels, seen_through
from napari_sam2._viewer.label_images import as_labels, looks_like_labels
from napari_sam2._viewer.saved_sessions import open_saved_session
from napari_sam2.session.files.autosave_folder import default_autosave_path

if TYPE_CHECKING:
    import napari

    from napari_sam2.session.session import Session
    from napari_sam2.session.state.settings import SessionSettings

__all__ = ["ImageSessions", "SessionChoices"]

_IMAGE = "napari_sam2_image"  # in the metadata of the layers of a session: a reference to their image
_SAVED_IN = "napari_sam2_saved_in"  # in the metadata of the layers of a session: the file it is saved in


@dataclass(frozen=True)
class SessionChoices:
    """What new sessions start with.

    Attributes
    ----------
    model : str
        Name of a model, or path of weights.
    settings : SessionSettings
        Of the session.
    mixes_channels : bool
        Whether the model sees all visible images of the same shape.
    """

    model: str
    settings: SessionSettings
    mixes_channels: bool


class ImageSessions(QWidget):
    """Owns the sessions of the images of a viewer, and the offers to switch between them or restore earlier ones.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose images are followed, until ``shut_down``.
    choices : callable
        Returns what a new session starts with.

    Attributes
    ----------
    binding : ViewerBinding or None
        The session that prompts go to, bound to its layers.
    followed : Signal
        Emitted with a binding when prompts go to it from now on.
    left : Signal
        Emitted with a binding when they no longer do.
    started : Signal
        Emitted after ``followed``, for new sessions only.
    removed : Signal
        Emitted with the name of an image that was removed, and whether its session had objects.
    images_changed : Signal
        Emitted when images were added, removed, moved or renamed.
    notice : Signal
        Emitted with a message, and whether it is about a problem.
    """

    followed = Signal(object)
    left = Signal(object)
    started = Signal()
    removed = Signal(str, bool)
    images_changed = Signal()
    notice = Signal(str, bool)

    def __init__(
        self, viewer: napari.viewer.Viewer, choices: Callable[[], SessionChoices], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.binding: ViewerBinding | None = None
        self._choices = choices
        self._kept: list[ViewerBinding] = []
        self._refused: list[Any] = []  # images on which no session could be started; not tried again automatically
        self._delivery = QtDelivery()
        self._is_closed = False
        self.offer = RestoreOffer()
        self.offer.accepted.connect(self._restore)
        self.switch_button = button(
            "",
            "sam2_switch",
            "Switch to the selected image; the session of the other one is kept",
            self._switch,
        )
        self.labels_button = button(
            "",
            "sam2_as_labels",
            "Turn the image into a Labels layer: objects can be started from it, and models trained on it",
            self._use_as_labels,
        )
        self._label_image: Any = None
        self.show_layers_button = button(
            "Show the layers again",
            "sam2_show_layers",
            "Restore the points, shapes or labels layers that were removed",
            self._show_layers,
        )
        self.restart_button = button(
            "",
            "sam2_restart",
            "Start a new session on the image as it is now; the objects made before stay in a hidden layer",
            self.restart,
        )
        layout = column(self)
        for widget in (
            self.offer,
            self.switch_button,
            self.labels_button,
            self.show_layers_button,
            self.restart_button,
        ):
            widget.hide()
            layout.addWidget(widget)
        events = viewer.layers.events
        self._connections = [
            (events.inserted, self._on_layers),
            (events.removed, self._on_layers),
            (events.reordered, self._on_layers),
            (events.renamed, self._on_renamed),
            (viewer.layers.selection.events.active, self._on_active),
        ]
        for event, slot in self._connections:
            event.connect(slot)

    @property
    def images(self) -> list[Any]:
        """The Image layers of the viewer."""
        return [layer for layer in self.viewer.layers if _is_image(layer)]

    @property
    def kept(self) -> tuple[ViewerBinding, ...]:
        """Sessions of images that were worked on before, to be continued."""
        return tuple(self._kept)

    # ------------------------------------------------------------------ following the viewer
    def _on_layers(self, _event: Any = None) -> None:
        layers = self.viewer.layers
        self._refused = [image for image in self._refused if image in layers]
        for kept in [kept for kept in self._kept if kept.images[0] not in layers]:
            self._kept.remove(kept)
            _end(kept)
        if self.binding is not None and self.binding.images[0] not in layers:
            self._leave_image()
        self.images_changed.emit()
        binding = self.binding
        self.show_layers_button.setVisible(binding is not None and any(layer not in layers for layer in binding.layers))
        if binding is None:
            QTimer.singleShot(0, self.start_on_active)

    def _leave_image(self) -> None:
        """The image is gone: its session ends, to be restored when the image is opened again."""
        assert self.binding is not None
        name, has_objects = self.binding.images[0].name, bool(self.binding.session.objects)
        self._let_go()
        self.offer.hide()
        self.removed.emit(name, has_objects)

    def _on_active(self, _event: Any = None) -> None:
        """Another image was selected: offer to continue with it."""
        active = self.viewer.layers.selection.active
        is_other = self.binding is not None and _is_image(active) and active not in self.binding.images
        if is_other and self.binding is not None:
            self.switch_button.setText(f"Prompts go to {self.binding.images[0].name}: use {active.name}")
        self.switch_button.setVisible(is_other)
        self._offer_labels()

    def _offer_labels(self) -> None:
        """Offer to use the selected image, or the one worked on, as labels: napari opens 16-bit labels as images."""
        active, binding = self.viewer.layers.selection.active, self.binding
        found = active if _is_image(active) else (None if binding is None else binding.images[0])
        self._label_image = found if found is not None and looks_like_labels(found) else None
        if self._label_image is not None:
            self.labels_button.setText(f"{self._label_image.name} holds labels: use as labels")
        self.labels_button.setVisible(self._label_image is not None)

    def _use_as_labels(self) -> None:
        """Replace an image by a Labels layer of the same values."""
        image = self._label_image
        if image is None or image not in self.viewer.layers:
            return
        try:
            labels = as_labels(image, self.viewer.layers)
        except NapariSAM2Error as error:
            self.notice.emit(str(error), True)
            return
        told = self._retire(self.binding) if self.binding is not None and self.binding.images[0] == image else ""
        empty = [b for b in self._kept if b.images[0] == image and not b.session.objects]
        for layer in (image, *(layer for binding in empty for layer in binding.layers)):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.viewer.add_layer(labels)
        self._on_active()
        then = told or ("objects can be started from it (menu of the objects)" if self.images else "")
        self.notice.emit(f"{labels.name} is a Labels layer now" + f"; {then}" * bool(then), False)

    def _on_renamed(self, _event: Any = None) -> None:
        self.images_changed.emit()

    def _switch(self) -> None:
        active = self.viewer.layers.selection.active
        self.switch_button.hide()
        if _is_image(active):
            self.choose(active)

    def _show_layers(self) -> None:
        if self.binding is not None:
            self.binding.show_again()
            self.notice.emit("the layers are shown again", False)  # instead of the message that one was removed

    # ------------------------------------------------------------------ choosing
    def start_on_active(self) -> None:
        """Start a session on the active image, the one whose layers are active, or else the last one, unless it failed
        there before.
        """
        if self.binding is not None or self._is_closed:
            return
        images = [image for image in self.images if image not in self._refused]
        active = self.viewer.layers.selection.active
        meant = (active, None if active is None else active.metadata.get(_IMAGE, _nothing)())
        chosen = next((layer for layer in images if layer in meant), images[-1] if images else None)
        if chosen is not None and len(images) > 1 and looks_like_labels(chosen):  # opened together with its image
            chosen = next((layer for layer in reversed(images) if not looks_like_labels(layer)), chosen)
        if chosen is not None:
            self.start(chosen)

    def choose(self, image: Any) -> None:
        """Continue with an image that the user chose, and show one of its planes where the viewer is beyond them."""
        if self.binding is not None and image == self.binding.images[0]:
            if not self.binding.fits_image():  # its data was replaced by data of another shape
                self.restart()
            return
        before = self.binding
        handle = None if before is None else before.session.handle
        is_stopped = handle is not None and handle.is_running
        self.start(image)
        if self.binding is not None and self.binding.images[0] == image:
            self.binding.go_to(self.binding.current_plane)
            self.binding.bring_to_top()
        if before is not None and is_stopped:
            kept = f"finished {before.plane_word}s are kept"
            self.notice.emit(f"the propagation of {before.images[0].name} was stopped; {kept}", False)

    def choose_axis(self, axis: int) -> None:
        """Start a session that propagates along another axis of the same image; labels made so far stay."""
        if self.binding is None or axis == self.binding.geometry.frame_axis:
            return
        self._start_anew(axis)

    def restart(self) -> None:
        """Start a new session on the same image, for example with other channels."""
        if self.binding is not None:
            self._start_anew(self.binding.geometry.frame_axis)

    def _start_anew(self, axis: int | None) -> None:
        """Start another session on the image; the layers of the one before are hidden, or removed if it is empty."""
        assert self.binding is not None
        image = self.binding.images[0]
        told = self._retire(self.binding)
        self.start(image, frame_axis=axis, is_new=True)
        if told:
            self.notice.emit(f"a new session was started; {told}", False)

    def _retire(self, binding: ViewerBinding) -> str:
        """End a session for another one on its image; what became of its objects, empty if it has none."""
        layers, name = binding.layers, binding.labels.name
        count = len(binding.session.objects)
        if binding is self.binding:
            self._let_go()
        else:
            self._kept.remove(binding)
            _end(binding)
        for layer in layers:
            if layer in self.viewer.layers:
                if count:
                    layer.visible = False  # prompts that nothing hears of any more, and masks under new ones
                else:
                    self.viewer.layers.remove(layer)
        if not count:
            return ""
        made = f"{count} objects made before are" if count != 1 else "object made before is"
        return f"the {made} in the hidden layer {name}"

    def start(
        self,
        image: Any,
        *,
        frame_axis: int | None = None,
        images: Sequence[Any] | None = None,
        session: Session | None = None,
        autosave_path: str | None = None,
        is_new: bool = False,
    ) -> None:
        """Start a session on an image, or go on with the one that was started on it before.

        Parameters
        ----------
        image : napari.layers.Image
            A layer of the viewer.
        frame_axis : int, optional
            The axis to propagate along.
        images : sequence of napari.layers.Image, optional
            What the model sees. Default: the image, or all channels that are mixed with it.
        session : Session, optional
            One that exists already, such as a restored one.
        autosave_path : str, optional
            Where that session is saved automatically. Default: a new file, after an offer to restore an earlier one.
        is_new : bool, default False
            Whether earlier sessions of the image are left alone: neither continued nor offered.
        """
        is_plain = session is None and frame_axis is None and not is_new
        kept = next((b for b in self._kept if b.images[0] == image and is_plain), None)
        if self.binding is not None:
            self._set_aside()
        if kept is not None:
            self._kept.remove(kept)
            self._follow(kept)
            return
        choices, seen = self._choices(), list(images) if images is not None else self._channels(image)
        # until it has worked: the layers that a start adds and takes back would have it tried again
        self._refused.append(image)
        try:
            binding = ViewerBinding(
                self.viewer,
                seen,
                model=choices.model,
                frame_axis=frame_axis,
                settings=choices.settings,
                deliver=self._delivery,
                session=session,
            )
        except NapariSAM2Error as error:
            self.notice.emit(str(error), True)
            return
        self._refused = [other for other in self._refused if other != image]
        binding.session.binding = binding
        self._keep_safe(binding, autosave_path, is_offered=is_plain)
        self._follow(binding)
        self.started.emit()
        others = seen_through(image, list(self.viewer.layers)) if len(seen) == 1 else []
        if others:
            names = ", ".join(other.name for other in others)
            text = f"the model sees {image.name} only, not {names}; use Mix visible channels (gear) to show all of them"
            self.notice.emit(text, False)
        binding.session.prepare(binding.current_plane)

    def _channels(self, image: Any) -> list[Any]:
        """What the model sees: the image, or with all channels that are mixed with it."""
        return matching_channels(image, list(self.viewer.layers)) if self._choices().mixes_channels else [image]

    def open_session(self, path: str, *, autosave_path: str | None = None, image: Any = None) -> None:
        """Open a saved session on an image layer; by default on the one that prompts go to, or else the last one.

        With ``autosave_path``, it was saved automatically, and messages do not name its file.
        """
        if image is None:
            image = self.binding.images[0] if self.binding is not None else next(reversed(self.images), None)
        if image is None:
            self.notice.emit("open the image of the session first, then the session", True)
            return
        from napari_sam2._viewer.readers import in_a_window

        try:
            session, images = open_saved_session(path, image, list(self.viewer.layers), deliver=self._delivery)
        except FrameError as error:
            self.notice.emit(in_a_window(error), True)
            return
        except NapariSAM2Error as error:
            self.notice.emit(str(error), True)
            return
        told = ""
        for before in [each for each in (self.binding, *self._kept) if each is not None]:
            is_left = before is self.binding and not before.session.objects
            if before.images[0] == images[0] or is_left:
                told = self._retire(before) or told  # an image has one session: it would be the one to come back to
        self.start(images[0], images=images, session=session, autosave_path=autosave_path)
        if self.binding is not None:
            count = len(session.objects)
            objects = f"{count} object{'s' * (count != 1)}"
            text = f"{objects} opened from {Path(path).name}" if autosave_path is None else f"{objects} restored"
            self.notice.emit(f"{text}; {told}" if told else text, False)

    # ------------------------------------------------------------------ restoring
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
                layer.metadata[_IMAGE] = weakref.ref(getattr(binding.images[0], "__wrapped__", binding.images[0]))
        except NapariSAM2Error as error:
            self.notice.emit(str(error), True)

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

    # ------------------------------------------------------------------ beginning and ending
    def _follow(self, binding: ViewerBinding) -> None:
        self.binding = binding
        binding.images[0].events.data.connect(self._on_data)
        self.followed.emit(binding)
        self._on_active()
        self._on_data()

    def _on_data(self, _event: Any = None) -> None:
        """The data of the image was replaced: offer a new session where its shape is another one."""
        binding = self.binding
        is_other = binding is not None and not binding.fits_image()
        if is_other and binding is not None:
            self.restart_button.setText(f"{binding.images[0].name} has another shape now: start a new session")
        self.restart_button.setVisible(is_other)

    def _set_aside(self) -> None:
        """Keep the session of the image that was worked on; its layers stay in the viewer."""
        if self.binding is not None:
            self._kept.append(self._unfollow())

    def _unfollow(self) -> ViewerBinding:
        assert self.binding is not None
        binding, self.binding = self.binding, None
        binding.images[0].events.data.disconnect(self._on_data)
        self.restart_button.hide()
        binding.session.cancel()
        self.left.emit(binding)
        return binding

    def _let_go(self) -> None:
        """End the session of the image; labels and prompts stay as layers."""
        if self.binding is not None:
            _end(self._unfollow())

    def shut_down(self) -> None:
        """Follow the viewer no more and end all sessions; layers stay."""
        if self._is_closed:
            return
        self._is_closed = True
        for event, slot in self._connections:
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        self._let_go()
        for binding in self._kept:
            _end(binding)
        self._kept.clear()
        self._delivery.close()


def _end(binding: ViewerBinding) -> None:
    """Close a session; its automatically saved file stays for the next day if there is anything in it.

    The window does not wait for the frame that is being computed: with a large model it takes many seconds.
    """
    binding.close()
    binding.session.close(keep_autosave=bool(binding.session.objects), timeout=0)


def _nothing() -> None:
    """A reference to what is not there."""


def _is_image(layer: Any) -> bool:
    # through napari's proxy `type(layer)` is the proxy's, while `__class__` is the layer's
    return layer is not None and bool(layer.__class__.__name__ == "Image")
