"""The base of a session in a viewer: its layers, and where the viewer is."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sam2._errors import FrameError
from napari_sam2._messages import shown
from napari_sam2._types import Prompt
from napari_sam2._viewer.image_source import describe_contrast, file_of, level_of, open_layers
from napari_sam2._viewer.layer_frames import in_plane_words, plane_word
from napari_sam2._viewer.layer_places import show_plane, to_layer_units, to_viewer_units
from napari_sam2._viewer.prompt_layers import PromptKey, PromptLayers
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Points, Shapes
    from numpy.typing import NDArray


__all__ = ["BindingBase"]

_MARGIN_IN_VIEW = 0.1  # of the part of the image that is shown, between a place that was brought into view and its edge
_HIDING = ("opaque", "translucent", "translucent_no_depth")  # blending of images that are drawn over others


class BindingBase(ABC):
    """A session and the layers that show it; parameters and signals as for ``ViewerBinding``."""

    current_changed = Signal(object)
    tool_changed = Signal(object)
    notice = Signal(str, bool)

    labels: Labels
    shapes: Shapes
    points: Points
    prompts: PromptLayers

    def __init__(
        self,
        viewer: ViewerModel,
        images: Sequence[Image],
        *,
        model: Any = "sam2_micro",
        frame_axis: int | None = None,
        settings: SessionSettings | None = None,
        deliver: Callable[[Callable[[], None]], None] | None = None,
        session: Session | None = None,
    ) -> None:
        self.viewer = viewer
        self.images = list(images)
        if not self.images:
            raise FrameError("no image was given; open an image first")
        is_new = session is None
        if session is None:
            planes, self.level = open_layers(self.images, frame_axis=frame_axis)
            session = Session(planes, model=model, settings=settings, deliver=deliver)
            session.origin = replace(session.origin, stack_path=file_of(self.images[0]))
        else:
            geometry = session.geometry
            # the file may have been moved since the session was saved
            found = file_of(self.images[0]) or session.origin.stack_path
            session.origin = replace(session.origin, stack_path=found)
            level = level_of(self.images[0], geometry.shape)
            planes, self.level = open_layers(self.images, frame_axis=geometry.frame_axis, level=level)
            if isinstance(session.frames, ArrayPlanes):
                planes = session.frames  # a restored session keeps the contrast it was made with
        self.contrast = describe_contrast(planes)
        self.session = session
        self.geometry = session.geometry
        self._depth = threading.local()
        self._current: int | None = None
        self._is_positive = True
        self._is_splitting = False
        self._before_split: tuple[Any, str] | None = None  # active layer and mode
        self._is_stroke_explained = False
        self._is_coloured_by_class = False
        self._painted: set[int] = set()
        self._reported: set[str] = set()
        self._colours: object = None
        self._next_style: object = None
        self._is_restyling_later = False
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        self._pyramid: list[Any] | None = None  # of the labels of large planes
        self._known_prompts: dict[PromptKey, Prompt] = {}
        before = list(viewer.layers)
        try:
            self._attach()
        except BaseException as error:
            self.close()
            self._remove_added(before, error)
            if is_new:
                session.close()
            raise

    @abstractmethod
    def _attach(self) -> None:
        """Add the layers to the viewer, and follow them and the session."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the viewer; layers and session stay."""

    def _remove_added(self, before: list[Any], error: BaseException) -> None:
        """Take back what was added before ``error``, which is the one to report."""
        for layer in [layer for layer in self.viewer.layers if layer not in before]:
            try:
                self.viewer.layers.remove(layer)
            except Exception as further:  # noqa: BLE001 napari fails again on a layer that it could not draw
                error.add_note(f"removing {shown(layer.name)} again: {shown(further)}")

    @property
    def layers(self) -> tuple[Any, Any, Any]:
        """Labels, shapes and points."""
        return self.labels, self.shapes, self.points

    def fits_image(self) -> bool:
        """Whether the image still has the shape that the session was started with."""
        image = self.images[0]
        shape = tuple(image.data.shape if self.level is None else image.data[self.level].shape)
        return (shape[:-1] if image.rgb else shape) == self.geometry.shape

    @property
    def _is_syncing(self) -> bool:
        """Whether this thread is writing to layers, so that their events are its own."""
        return bool(getattr(self._depth, "value", 0))

    @contextlib.contextmanager
    def _syncing(self) -> Iterator[None]:
        # by thread: without a window, results are written by the compute thread while a script goes on
        self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            yield
        finally:
            self._depth.value -= 1

    @property
    def plane_word(self) -> Literal["frame", "slice"]:
        """What users call a plane: see `plane_word`."""
        axis, labels = self.geometry.frame_axis, self.images[0].axis_labels
        return plane_word(str(labels[axis]) if axis is not None and axis < len(labels) else "")

    def in_words(self, error: Exception) -> str:
        """An error of the session, in which planes are called what users call them."""
        names = [layer.name for layer in self.viewer.layers] + [each.name for each in self.session.objects]
        return in_plane_words(str(error), self.plane_word, names)

    @property
    def current_plane(self) -> int:
        """The plane on screen; the nearest one where the viewer has moved beyond the image."""
        ndim = self.geometry.ndim
        position = np.asarray(self.labels.world_to_data(self._in_layer_units(self.viewer.dims.point)), float)
        sizes = np.array(self.geometry.shape[:-2])
        index = np.clip(np.rint(position[: ndim - 2]), 0, sizes - 1) if ndim > 2 else ()
        return self.geometry.plane(tuple(int(i) for i in index))

    def _in_layer_units(self, world: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """World coordinates of the viewer as the layers' ``world_to_data`` takes them."""
        return to_layer_units(self.viewer, self.labels, world)

    def go_to(self, plane: int) -> None:
        """Show a plane."""
        show_plane(self.viewer, self.labels, self.geometry.index(plane))

    def bring_to_top(self) -> None:
        """Show the image, and its layers, above the image of another session that hides it."""
        layers = self.viewer.layers
        order = list(layers)
        for image in self.images:
            image.visible = True
        above = order[min(order.index(image) for image in self.images) + 1 :]
        # `__class__`: through napari's proxy `type` is the proxy's
        others = [each for each in above if each.__class__.__name__ == "Image" and each not in self.images]
        if any(each.visible and str(each.blending) in _HIDING for each in others):
            for each in [each for each in order if each in (*self.images, *self.layers)]:
                layers.move(layers.index(each), len(layers))

    def bring_into_view(self, yx: tuple[float, float]) -> None:
        """Move the camera to a pixel of the plane shown, if it is outside the window, and no farther than needed."""
        level = self.labels.downsample_factors[self.labels.data_level][-2:]  # which the corners are pixels of
        low, high = np.asarray(self.labels.corner_pixels, float)[:, -2:] * level
        is_drawn = bool((high > low).all())  # else nothing of the image is in the window
        if is_drawn and (low <= yx).all() and (yx <= high).all():
            return
        margin = _MARGIN_IN_VIEW * (high - low)
        nearest = np.clip(yx, low + margin, high - margin)
        index = self.geometry.index(self.current_plane)
        scene = getattr(self.viewer, "scene", self.viewer)  # before napari 0.9 the camera was the viewer's own
        there, here = (
            np.asarray(to_viewer_units(self.viewer, self.labels, self.labels.data_to_world((*index, *place))))[-2:]
            for place in (yx, nearest)
        )
        centre = np.asarray(scene.camera.center[-2:], float) + there - here if is_drawn else there
        scene.camera.center = (*tuple(scene.camera.center)[:-2], *(float(each) for each in centre))
