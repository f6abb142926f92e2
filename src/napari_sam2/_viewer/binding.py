"""A session in a viewer: three layers that follow it, and that it follows."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from napari_sam2._errors import FrameError, NapariSAM2Error, PromptError
from napari_sam2._messages import shown
from napari_sam2._types import Prompt, is_same
from napari_sam2._viewer.image_source import describe_contrast, open_layers, placement_of
from napari_sam2._viewer.labels_layer import (
    LARGEST_PAINTED,
    label_colours,
    label_levels,
    mark_as_used,
    object_colour,
    painted_planes,
)
from napari_sam2._viewer.layer_frames import LabelSeeds, in_plane_words, plane_word
from napari_sam2._viewer.layer_places import LayerMap, show_plane, to_layer_units, to_viewer_units
from napari_sam2._viewer.paint_guard import PAINT_MODES
from napari_sam2._viewer.point_sizes import limit_sizes
from napari_sam2._viewer.prompt_layers import NEGATIVE, POSITIVE, PromptKey, PromptLayers, read_prompt_layer
from napari_sam2._viewer.writers import LIVE_SESSION_KEY
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.labels.waists import narrowest_chord
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.session.state.store import StoreDelta

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Points, Shapes
    from numpy.typing import NDArray

    from napari_sam2._packed_mask import PackedImage
    from napari_sam2.session.calls.prompts import LabelPrompts

__all__ = ["LayerLabels", "Tool", "ViewerBinding"]

Tool = Literal["point", "box", "lasso", "scribble", "paint"]
_SHAPE_MODES: dict[Tool, str] = {"box": "add_rectangle", "lasso": "add_polygon_lasso", "scribble": "add_path"}
_BACKGROUND_SYMBOL = "x"  # napari's "cross" is a plus
_OUTLINE_PX = 2
_MARGIN_IN_VIEW = 0.1  # of the part of the image that is shown, between a place that was brought into view and its edge
_HIDING = ("opaque", "translucent", "translucent_no_depth")  # blending of images that are drawn over others
_COVERED = 0.5  # share of a box or lasso from which on it lies on another object


@dataclass(frozen=True, eq=False)
class LayerLabels:
    """The labels that a layer shows on one plane, before objects are started from them.

    Attributes
    ----------
    seeds : LabelSeeds
        The labels.
    label : int or None
        The only one that is wanted.
    plane : int
        Of the session.
    session : Session
        Where the objects will be.
    """

    seeds: LabelSeeds
    label: int | None
    plane: int
    session: Session

    def read(self) -> LabelPrompts:
        """The objects; changes nothing, and may run on any thread. Raises PromptError as ``start_from``."""
        found = self.seeds.read()[self.plane]
        if self.label is not None:
            if not (found == self.label).any():
                there = sorted(set(found[found > 0].tolist()))
                raise PromptError(f"{self.seeds.name} has no label {self.label} on this frame; it has {there}")
            found = np.where(found == self.label, found, 0)
        return self.session.label_prompts(found, frame=self.plane)


class ViewerBinding:
    """Keeps the layers of a viewer and a session in step.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layers are.
    images : sequence of napari.layers.Image
        The image, and further channels.
    model, frame_axis
        As for ``Session``.
    deliver : callable, optional
        As for ``Session``.
    session : Session, optional
        One that exists already, such as a restored one.

    Attributes
    ----------
    current_changed : psygnal.Signal
        Emitted with the number of the current object, or None.
    tool_changed : psygnal.Signal
        Emitted with the tool that the viewer's active layer and its mode amount to, or None.
    notice : psygnal.Signal
        Emitted with a line for the user: a text and whether it is an error.
    """

    current_changed = Signal(object)
    tool_changed = Signal(object)
    notice = Signal(str, bool)

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
        planes, self.level = open_layers(self.images, frame_axis=frame_axis)
        is_new = session is None
        if session is None:
            session = Session(planes, model=model, settings=settings, deliver=deliver)
            path = self.images[0].source.path
            session.origin = replace(session.origin, stack_path=None if path is None else str(path))
        elif isinstance(session.frames, ArrayPlanes):
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
        before = list(viewer.layers)
        try:
            self._add_layers()
            self._known_prompts: dict[PromptKey, Prompt] = self.prompts.read(lambda _: None)
            self._connect()
            self._select_latest()
            self.restyle()
        except BaseException as error:
            self.close()
            self._remove_added(before, error)
            if is_new:
                session.close()
            raise

    # ------------------------------------------------------------------ layers
    def _add_layers(self) -> None:
        image = self.images[0]
        placement = placement_of(image, self.level).arguments()
        placement["metadata"] = {LIVE_SESSION_KEY: weakref.ref(self.session)}
        ndim = self.geometry.ndim
        self._colours = self._colours_shown()
        levels = label_levels(self.session.labels)
        self._pyramid = levels if len(levels) > 1 else None
        self.labels: Labels = self.viewer.add_labels(
            levels[0] if self._pyramid is None else levels,
            multiscale=self._pyramid is not None,
            name=f"{image.name} objects",
            opacity=0.8,
            # not later: another colormap has napari read the plane again, which takes long where that is large
            colormap=label_colours(self.session.objects, self._current, by_class=False),
            **placement,
        )
        features = {"object_id": np.zeros(0, int), "kind": np.zeros(0, object)}
        common = {"features": features, "feature_defaults": {"object_id": 1, "kind": POSITIVE}, **placement}
        self.shapes = self.viewer.add_shapes(
            None, ndim=ndim, name=f"{image.name} shapes", face_color="transparent", edge_width=1, **common
        )
        self.points = self.viewer.add_points(
            np.zeros((0, ndim)), ndim=ndim, name=f"{image.name} points", size=6, border_color="white", **common
        )
        self.prompts = PromptLayers(self.points, self.shapes, self.geometry)
        with self._syncing():
            self.prompts.add({key: entry.prompt for key, entry in self.session.store.prompts.items()})
        self._limit_sizes()

    def _limit_sizes(self, _event: Any = None) -> None:
        position = self.points.world_to_data(self._in_layer_units(self.viewer.dims.point))
        limit_sizes(self.viewer, self.points, position)

    def _select_latest(self) -> None:
        """Of a session that has objects already: go on with the one that was prompted last, where it was prompted."""
        prompts = self.session.store.prompts
        if prompts:
            object_id, plane = max(prompts, key=lambda key: prompts[key].stamp)
            self.select(object_id)
            self.go_to(plane)
        elif self.session.objects:
            self.select(self.session.objects[-1].object_id)

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

    def _connect(self) -> None:
        for layer in (self.points, self.shapes):
            self._on(layer.events.data, self._on_prompts)
            self._on(layer.events.features, self._on_features)
        for layer in self.layers:
            self._on(layer.events.mode, self._on_tool)
        self._on(self.viewer.layers.selection.events.active, self._on_tool)
        dims = self.viewer.dims.events
        for event in (dims.current_step, dims.ndisplay, dims.order, self.points.events.data):
            self._on(event, self._limit_sizes)
        self.shapes.mouse_move_callbacks.append(self._on_move)
        self._on(self.labels.events.paint, self._on_paint)
        self._on(self.labels.events.labels_update, self._on_labels_update)
        self._on(self.labels.events.selected_label, self._on_selected_label)
        self._on(self.viewer.layers.events.removed, self._on_layer_removed)
        for image in self.images:
            self._on(image.events.data, self._on_image_data)
        self.session.changed.connect(self._on_session_changed)

    def _on(self, event: Any, slot: Callable[..., Any]) -> None:
        event.connect(slot)
        self._connections.append((event, slot))

    def close(self) -> None:
        """Let go of the viewer; layers and session stay."""
        for event, slot in self._connections:
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        if self._connections:
            self.shapes.mouse_move_callbacks.remove(self._on_move)
        self._connections.clear()
        with contextlib.suppress(ValueError):
            self.session.changed.disconnect(self._on_session_changed)

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

    # ------------------------------------------------------------------ where the user is
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

    def look_ahead(self) -> None:
        """Have the model look at the place under the mouse, or in the middle of the window, before it is clicked."""
        height, width = self.geometry.hw
        scene = getattr(self.viewer, "scene", self.viewer)  # before napari 0.9 the camera was the viewer's own
        for place in (self.viewer.cursor.position, scene.camera.center):
            world = np.asarray((*self.viewer.dims.point[:-2], *place[-2:]), np.float64)
            y, x = np.asarray(self.labels.world_to_data(self._in_layer_units(world)), float)[-2:]
            if -0.5 <= y < height - 0.5 and -0.5 <= x < width - 0.5:
                break
        self.session.look_ahead(self.current_plane, (float(y), float(x)))

    # ------------------------------------------------------------------ objects
    @property
    def current(self) -> int | None:
        """The object that new prompts are about; None before the first."""
        return self._current

    def select(self, object_id: int | None) -> None:
        """Make an object the current one."""
        if object_id == self._current:
            return
        self._current = object_id
        with self._syncing():
            if object_id is not None:
                self.labels.selected_label = object_id
        self.restyle()
        self.current_changed.emit(object_id)

    def select_next(self, step: int = 1) -> None:
        """Go to the next object, or with -1 the one before."""
        ids = [o.object_id for o in self.session.objects]
        if not ids:
            return
        at = ids.index(self._current) if self._current in ids else -step
        self.select(ids[(at + step) % len(ids)])

    def new_object(self) -> int:
        """Make an object and select it; one that has nothing yet is taken first. The next prompt is object."""
        if not self._is_positive:
            self.set_positive(True)
        used = {i for i, _ in (*self.session.store.prompts, *self.session.store.masks)}
        empty = next((o.object_id for o in self.session.objects if o.object_id not in used), None)
        number = self.session.new_object() if empty is None else empty
        self.select(number)
        return number

    @property
    def is_positive(self) -> bool:
        """Whether the next prompt is object, and not background."""
        return self._is_positive

    def set_positive(self, is_positive: bool) -> None:
        """Choose whether the next prompt is object or background; the brush then paints or erases."""
        self._is_positive = is_positive
        if self.tool == "paint" and str(self.labels.mode) in ("paint", "erase"):
            self.labels.mode = self._brush_mode
        self.restyle()
        self.current_changed.emit(self._current)

    @property
    def _brush_mode(self) -> str:
        return "paint" if self._is_positive else "erase"

    @property
    def is_coloured_by_class(self) -> bool:
        """Whether objects have the colours of their classes."""
        return self._is_coloured_by_class

    def colour_by_class(self, is_on: bool) -> None:
        """Show objects in the colours of their classes, or in their own."""
        self._is_coloured_by_class = is_on
        self.restyle()

    @property
    def shows_outlines(self) -> bool:
        """Whether masks are shown as outlines."""
        return bool(self.labels.contour)

    def show_outlines(self, is_on: bool) -> None:
        """Show masks as outlines, or filled."""
        self.labels.contour = _OUTLINE_PX if is_on else 0

    @property
    def is_splitting(self) -> bool:
        """Whether the next line, or click on the current object, cuts it."""
        return self._is_splitting

    def split_next(self) -> None:
        """Take the next line that is drawn, or a click, as a cut through the current object."""
        if self._current is None:
            self.notice.emit("select the object to split first", True)
            return
        active = self.viewer.layers.selection.active
        if not self._is_splitting:
            self._before_split = None if active is None else (active, str(active.mode))
        self.use_tool("scribble")
        self._is_splitting = True
        name = self.session.store.objects[self._current].name
        self.notice.emit(f"click on {name} where it is to be cut, or draw a line across it", False)

    def split_at(self, world: Sequence[float]) -> None:
        """Cut the current object through a position in the world, where it is narrowest."""
        at = np.asarray(self.labels.world_to_data(self._in_layer_units(world)), float)
        index = self.geometry.index(self.current_plane)
        (x0, y0), (x1, y1) = narrowest_chord(self.session.labels[index] == self._current, (at[-1], at[-2]))
        with self._syncing():
            self.prompts.strokes.discard()
        self._split_along(np.array([(*index, y0, x0), (*index, y1, x1)], float))

    def _split(self) -> None:
        """Cut the current object along the line drawn last, which is taken away."""
        row = len(self.shapes.data) - 1
        line = np.array(self.shapes.data[row], float)
        h, w = self.geometry.hw
        line[:, -2:] = np.clip(line[:, -2:], -0.5, (h - 0.501, w - 0.501))
        with self._syncing():
            self.prompts.remove_rows(self.shapes, {row})
        self._split_along(line)

    def _split_along(self, line: NDArray[np.float64]) -> None:
        """Cut the current object; after a line beside it another one may be drawn."""
        self._known_prompts = self.prompts.read(lambda _: None)
        if self._current is None:
            self._end_splitting()
            return
        name = self.session.store.objects[self._current].name
        try:
            made = self.session.split_along(self._current, line)
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            return
        self._end_splitting()
        then = "; G tracks both parts through the stack" if self.geometry.num_frames > 1 else ""
        self.notice.emit(f"{name} was split: the smaller part is object {made}{then}", False)

    def _end_splitting(self) -> None:
        """The tool that was active before is active again."""
        self._is_splitting = False
        layer, mode = self._before_split or (None, "")
        if layer in self.layers and layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer
            layer.mode = mode

    def other_layers(self) -> list[Any]:
        """Labels, Points and Shapes layers of the viewer other than the session's own: objects start from them."""
        kinds = ("Labels", "Points", "Shapes")
        return [layer for layer in self.viewer.layers if type(layer).__name__ in kinds and layer not in self.layers]

    def start_from(self, layer: Labels | Points | Shapes, *, label: int | None = None) -> list[int]:
        """Start objects from another layer, such as one that was read from a file; one ``undo`` takes all back.

        Parameters
        ----------
        layer : napari.layers.Labels, Points or Shapes
            Read through its transform and units: what is shown on a cell starts that cell. Of labels the plane shown
            counts, and numbers are kept. Points and shapes: rows with the same ``object_id`` in their features are one
            object, and without that feature each row is one. ``kind`` "negative" in the features is background.
        label : int, optional
            Of labels only this one. Default: all on the plane.

        Returns
        -------
        list of int
            The objects, ascending.

        Raises
        ------
        PromptError
            If nothing is in the layer, a label is above 2**31 - 1, a row lies outside the image or has no number for
            its object, or an object is locked there; then nothing changes.
        """
        if type(layer).__name__ == "Labels":
            found = self.layer_labels(layer, label).read()
            for _ in self.session.adding_labels(found, seconds=math.inf):
                pass
            ids = found.object_ids
        else:
            first = max((o.object_id for o in self.session.objects), default=0) + 1
            to_image = LayerMap.between(layer, self.labels, self.viewer)
            found_prompts = read_prompt_layer(layer, self.geometry, first_id=first, to_image=to_image)
            self.session.set_prompts(found_prompts)
            ids = sorted({object_id for object_id, _ in found_prompts})
        self.select(ids[0])
        return ids

    def layer_labels(self, layer: Labels, label: int | None = None) -> LayerLabels:
        """The labels of a layer on the plane shown, or one of them; to be read on any thread."""
        plane = self.current_plane
        mark_as_used(layer)
        seeds = LabelSeeds.of(layer, self.geometry, plane, image=self.labels, viewer=self.viewer)
        return LayerLabels(seeds, label, plane, self.session)

    @property
    def tool(self) -> Tool | None:
        """The tool that is active in the viewer; None while another layer is selected, or while dragging pans."""
        active = self.viewer.layers.selection.active
        if active is None or active not in self.layers:
            return None
        mode = str(active.mode)
        if active == self.points:
            return "point" if mode == "add" else None
        if active == self.labels:
            return "paint" if mode in PAINT_MODES else None
        return next((tool for tool, of_tool in _SHAPE_MODES.items() if of_tool == mode), None)

    @property
    def can_paint(self) -> bool:
        """Whether masks can be painted: napari paints on no pyramid, which large labels are shown as."""
        return self._pyramid is None

    def use_tool(self, tool: Tool) -> None:
        """Activate the layer and mode that a kind of prompt is drawn with; a layer that was removed comes back."""
        layer, mode = {"point": (self.points, "add"), "paint": (self.labels, self._brush_mode)}.get(
            tool, (self.shapes, _SHAPE_MODES.get(tool))
        )
        if tool == "paint" and not self.can_paint:
            h, w = self.geometry.hw
            self.notice.emit(
                f"{self.images[0].name} has {w} x {h} pixels; the brush paints on images of at most "
                f"{LARGEST_PAINTED / 1e6:.0f} megapixels. Use the lasso: the area inside becomes the mask",
                True,
            )
            return
        self._is_splitting = False
        was_removed = layer not in self.viewer.layers
        if was_removed:
            self.show_again()
        self.viewer.layers.selection.active = layer
        layer.mode = mode
        if was_removed:  # nothing was heard while the layers came back
            self.tool_changed.emit(self.tool)
        if self.viewer.dims.ndisplay == 3:  # where napari takes no shapes, and says nothing of it
            self._refuse_in_3d()

    def pan(self) -> None:
        """Let dragging move the image, and a click select the object under it."""
        active = self.viewer.layers.selection.active
        if active is not None and active in self.layers:
            active.mode = "pan_zoom"

    def object_at(self, world: Sequence[float]) -> int | None:
        """The object whose mask is shown at a position in the world; None where there is none."""
        at = np.rint(np.asarray(self.labels.world_to_data(self._in_layer_units(world)), float)).astype(int)
        if (at < 0).any() or (at >= self.geometry.shape).any():
            return None
        number = int(self.session.labels[tuple(at)])
        return number if number in self.session.store.objects else None

    def _on_tool(self, _event: Any = None) -> None:
        if not self._is_syncing and self.prompts.strokes.is_drawing and self.tool not in ("lasso", "scribble"):
            with self._syncing():
                self.prompts.strokes.discard()
        self.tool_changed.emit(self.tool)

    def _on_move(self, _layer: Any, _event: Any) -> None:
        """Explain a line that follows the mouse: a click with the lasso or the scribble has begun it."""
        is_begun = self.prompts.strokes.is_drawing and self.tool in ("lasso", "scribble")
        if is_begun and not self._is_stroke_explained:
            self.notice.emit("the line follows the mouse: click to end it, or begin again and drag", False)
        self._is_stroke_explained = is_begun

    # ------------------------------------------------------------------ layers -> session
    def _on_prompts(self, event: Any) -> None:
        action = str(getattr(getattr(event, "action", None), "value", getattr(event, "action", "")))
        is_dropped = False
        if event.source == self.shapes and action in ("added", "removed", "changed"):
            is_dropped = action == "added" and not self.prompts.strokes.is_drawing
            with self._syncing():
                self.prompts.strokes.settle()
        if self._is_syncing or action not in ("added", "removed", "changed"):
            return
        if is_dropped:  # napari tells of a line that was too short as if it were there: the last row is another one
            if self._is_splitting:
                self._end_splitting()
                self.notice.emit("no line was drawn, so nothing was split", False)
            return
        if action == "added":
            if self.viewer.dims.ndisplay == 3:
                self._refuse_rows(event)
                return
            if self._is_splitting and event.source == self.shapes:
                self._split()
                return
            self._drop_slips(event)
            if self._drop_rows_outside(event) or (event.source == self.shapes and self._draw_areas(event)):
                return
        self._take_prompts()

    def _on_features(self, _event: Any = None) -> None:
        if not self._is_syncing:
            self._take_prompts()

    def _refuse_rows(self, event: Any) -> None:
        """Take away what was drawn in the 3D display, where a click has no slice."""
        layer = self.points if event.source == self.points else self.shapes
        with self._syncing():
            self.prompts.remove_rows(layer, {int(row) % len(layer.data) for row in event.data_indices})
        self._refuse_in_3d()

    def _refuse_in_3d(self) -> None:
        word = self.plane_word
        self.notice.emit(f"prompts are placed on {word}s: go back to the 2D display (Ctrl-Y) and click there", True)

    def _draw_areas(self, event: Any) -> bool:
        """An outline stands for the whole mask of its slice, and an area of background is taken away from the mask.

        Returns whether nothing else was drawn.
        """
        count = len(self.shapes.data)
        rows = sorted({int(row) % count for row in event.data_indices}) if count else []
        outlined: set[PromptKey] = set()
        background: dict[int, tuple[PromptKey, PackedImage]] = {}
        for row in rows:
            found = self.prompts.area_of(row)
            if found is not None and self.prompts.is_background(row):
                background[row] = found
            elif found is not None and str(self.shapes.shape_type[row]) != "rectangle":
                outlined.add(found[0])
        with self._syncing():
            self.prompts.remove_rows(self.shapes, background)
            replaced = {key: self.prompts.remove_others(key) for key in outlined}
        if outlined:
            self._take_prompts()
        for (object_id, _), number in replaced.items():
            each = self.session.store.objects.get(object_id)
            if number and each is not None:
                what = f"the {number} other prompts" if number > 1 else "the other prompt"
                self.notice.emit(f"the outline replaces {what} of {each.name} on this {self.plane_word}", False)
        for key, area in background.values():
            self._take_away(key, area)
        return len(background) == len(rows)

    def _take_away(self, key: PromptKey, area: PackedImage) -> None:
        """Erase the inside of what was drawn as background from an object, as the brush does."""
        object_id, plane = key
        each = self.session.store.objects.get(object_id)
        before = self.session.labels[self.geometry.index(plane)] == object_id
        inside = area.to_array()
        if each is None or not (before & inside).any():
            name = "the object" if each is None else each.name
            self.notice.emit(
                f"nothing of {name} is inside; to draw the object, switch to object (N) and draw again", False
            )
            return
        try:
            self.session.paint(plane, {object_id: before & ~inside})
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            return
        if plane not in each.locked:  # else the session says so
            self.notice.emit(f"the area was taken away from {each.name} on this {self.plane_word}", False)

    def _drop_rows_outside(self, event: Any) -> bool:
        """Take away what was drawn outside the image, or on a slice that it does not have; whether anything was."""
        layer = self.points if event.source == self.points else self.shapes
        wrong: dict[int, PromptError] = {}
        for row in {int(row) % len(layer.data) for row in event.data_indices} if len(layer.data) else ():
            try:
                self.prompts.locate(layer.data[row])
            except PromptError as error:
                wrong[row] = error
        if not wrong:
            return False
        first = next(iter(wrong))
        beyond = self._axis_beyond(layer.data[first])
        with self._syncing():
            self.prompts.remove_rows(layer, wrong)
        self.notice.emit(beyond or self.in_words(wrong[first]), True)
        if len(wrong) < len(event.data_indices):
            self._take_prompts()
        return True

    def _axis_beyond(self, points: NDArray[np.float64]) -> str:
        """Where a prompt lies beyond the slices of the image, in words; empty if it does not."""
        for axis, place in enumerate(np.rint(np.atleast_2d(points)[0][: self.geometry.ndim - 2]).astype(int)):
            last = self.geometry.shape[axis] - 1
            if not 0 <= place <= last:
                name = str(self.images[0].axis_labels[axis])
                name = f"axis {axis}" if name.lstrip("-").isdigit() else name
                if axis == self.geometry.frame_axis:
                    name = self.plane_word
                allowed = f"{self.images[0].name} has {name} 0 to {last}"
                return f"{allowed}, but {place} is shown; move the slider into this range first"
        return ""

    def _drop_slips(self, event: Any) -> None:
        """Take away rectangles that are too small to be meant as boxes."""
        if event.source != self.shapes:
            return
        rows = {
            row
            for row, (corners, kind) in enumerate(zip(self.shapes.data, self.shapes.shape_type, strict=True))
            if kind == "rectangle" and np.ptp(np.asarray(corners)[:, -2:], axis=0).min() < 2
        }
        if rows:
            with self._syncing():
                self.prompts.remove_rows(self.shapes, rows)
            self.notice.emit("that box was smaller than 2 pixels and is ignored; drag to draw one", False)

    def _take_prompts(self) -> None:
        """Give the session what changed in the layers since the last call."""
        problems: list[PromptError] = []
        now = self.prompts.read(problems.append)
        # an invalid row may stay in its layer: it is reported once, and not with every later prompt
        reported, self._reported = self._reported, {self.in_words(problem) for problem in problems}
        for text in sorted(self._reported - reported)[:1]:
            self.notice.emit(text, True)
        before, self._known_prompts = self._known_prompts, now
        for key in {*before, *now}:
            old, new = before.get(key), now.get(key)
            if old is not None and new is not None and is_same(old, new) and old.drawn == new.drawn:
                continue
            self._update_session(key, old, new)
        self.restyle()

    def _update_session(self, key: PromptKey, old: Prompt | None, new: Prompt | None) -> None:
        object_id, plane = key
        other = None if new is None else self._object_under(key, old, new)
        try:
            if new is not None or (object_id, plane) in self.session.store.prompts:
                with self._restyling_once():
                    with self._syncing():
                        self.session.set_prompt(plane, new, object_id=object_id, block=False)
                    if new is not None:
                        self.select(object_id)
                if other is not None:
                    names = [self.session.store.objects[i].name for i in (other, object_id)]
                    self.notice.emit(
                        f"this prompt lies on {names[0]} and was added to {names[1]}; to correct {names[0]}, undo "
                        "(Ctrl-Z) and select it first",
                        False,
                    )
                self._explain_background(key, new)
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            with self._syncing():
                self.prompts.write({key: old})
            self._known_prompts = self.prompts.read(lambda _: None)

    def _explain_background(self, key: PromptKey, prompt: Prompt | None) -> None:
        """Say that clicks on background alone do not show where an object is."""
        if prompt is None or prompt.box is not None or prompt.has_mask or (prompt.labels == 1).any():
            return
        mask = self.session.store.masks.get(key)
        if mask is None or not mask.area:
            name = self.session.store.objects[key[0]].name
            text = f"background alone does not show where {name} is: switch to object (N) and click on it"
            self.notice.emit(text, False)

    def _object_under(self, key: PromptKey, old: Prompt | None, new: Prompt) -> int | None:
        """Another object that the part of a prompt that is new lies on."""
        object_id, plane = key
        found = np.asarray(self.session.labels[self.geometry.index(plane)])
        h, w = found.shape
        before = set() if old is None else {tuple(xy) for xy in old.points.tolist()}
        values: list[int] = [
            int(found[min(max(round(y), 0), h - 1), min(max(round(x), 0), w - 1)])
            for (x, y), kind in zip(new.points.tolist(), new.labels, strict=True)
            if kind == 1 and (x, y) not in before
        ]
        drawn = None
        if new.packed_mask is not None and (old is None or old.packed_mask != new.packed_mask):
            drawn = found[new.packed_mask.to_array()]
        elif new.box is not None and (old is None or old.box is None or not np.array_equal(old.box, new.box)):
            x0, y0, x1, y1 = (max(0, round(float(v))) for v in new.box)
            drawn = found[y0 : y1 + 1, x0 : x1 + 1].ravel()
        if drawn is not None and drawn.size:
            counts = np.bincount(drawn[drawn > 0], minlength=1)
            if counts.max() > _COVERED * drawn.size:
                values.append(int(counts.argmax()))
        return next((i for i in values if i not in (0, object_id) and i in self.session.store.objects), None)

    def _on_paint(self, event: Any) -> None:
        if self._is_syncing:
            return
        # napari emits `paint` after a stroke is written, but just before `data_setitem` writes: see `_on_labels_update`
        self._painted |= painted_planes(event, self.geometry, self.current_plane)
        self._adopt_painting()

    def _on_labels_update(self, _event: Any = None) -> None:
        if self._painted and not self._is_syncing:
            self._adopt_painting()

    def _adopt_painting(self) -> None:
        painted = sorted(self._painted)
        try:
            touched = self.session.adopt_painting(painted)
        except NapariSAM2Error as error:
            # forgotten, or each later update of the layer would report it again
            self._painted.clear()
            self.notice.emit(self.in_words(error), True)
            return
        if touched:
            self._painted.clear()
            self.notice.emit(f"the painting is a correction of object {touched[0]}", False)

    def _on_selected_label(self, _event: Any = None) -> None:
        number = int(self.labels.selected_label)
        if not self._is_syncing and number in self.session.store.objects:
            self.select(number)

    def _on_image_data(self, _event: Any = None) -> None:
        self.use_current_contrast(because="the image's data was replaced")

    def use_current_contrast(self, *, because: str = "contrast as displayed now") -> bool:
        """Show the model the image as it is displayed now; whether that was possible."""
        try:
            planes, level = open_layers(self.images, frame_axis=self.geometry.frame_axis, level=self.level)
            if planes.geometry != self.geometry:
                raise FrameError(
                    f"{because}, and its shape {planes.geometry.shape} is not the session's {self.geometry.shape}; "
                    "start a new session on it (choose the image again), the labels made so far stay"
                )
            self.session.cancel()
            self.session.set_frames(planes)
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            return False
        self.level = level
        self.contrast = describe_contrast(planes)
        self.notice.emit(f"{because}: the model sees {self.contrast}", False)
        return True

    @property
    def full_hw(self) -> tuple[int, int] | None:
        """Height and width of the finest level, where the session is on a coarser one; else None."""
        if not self.level:
            return None
        height, width = self.images[0].data[0].shape[self.geometry.ndim - 2 : self.geometry.ndim]
        return int(height), int(width)

    def fits_image(self) -> bool:
        """Whether the image still has the shape that the session was started with."""
        image = self.images[0]
        shape = tuple(image.data.shape if self.level is None else image.data[self.level].shape)
        return (shape[:-1] if image.rgb else shape) == self.geometry.shape

    def _on_layer_removed(self, event: Any) -> None:
        removed = event.value
        if not self._connections:  # closed, by whoever heard of it first
            return
        if removed == self.labels:
            self.session.cancel()
            self.notice.emit(
                "the labels layer was removed; its labels stay in the session (Show the layers again)", True
            )
        elif any(removed == image for image in self.images):
            self.notice.emit(f"{removed.name} was removed; the session keeps its data until it is closed", True)
        elif removed in (self.points, self.shapes):
            self.notice.emit(
                f"{removed.name} was removed; its prompts stay in the session (Show the layers again)", True
            )

    def show_again(self) -> None:
        """Bring back layers that were removed, with everything in them."""
        missing = [layer for layer in self.layers if layer not in self.viewer.layers]
        with self.tool_changed.blocked():  # napari selects each: nobody chose their tools
            for layer in missing:
                self.viewer.layers.append(layer)
        self._refresh()

    # ------------------------------------------------------------------ session -> layers
    def _on_session_changed(self, delta: StoreDelta) -> None:
        colours = self._colours
        edits = [e for e in delta.edits if e.table == "prompts"]
        # Not where an answer came: without a window that is the compute thread, and the layers may hold a click
        # whose event has not been handled yet.
        keys: set[Any] = set()
        if not self._is_syncing:
            keys = {e.key for e in edits if _prompt_of(e.before) is not _prompt_of(e.after)}
        has_objects = any(e.table == "objects" for e in delta.edits)
        if keys or has_objects:
            with self._restyling_once():
                self._show_prompts(keys)
                if has_objects:
                    self._follow_objects()
        if self.current_plane in delta.boxes and colours == self._colours:  # new colours draw the layer already
            self._refresh()

    def _show_prompts(self, keys: set[PromptKey]) -> None:
        if not keys:
            return
        shown = self.prompts.read(lambda _: None)
        changed: dict[PromptKey, Prompt | None] = {}
        for key in keys:
            entry = self.session.store.prompts.get(key)
            wanted = None if entry is None else entry.prompt
            there = shown.get(key)
            if wanted is not None and there is not None and is_same(wanted, there) and wanted.drawn == there.drawn:
                continue
            if entry is not None and entry.is_mask_only and there is None and not entry.prompt.drawn:
                continue  # painted, or from a label: nothing is drawn
            changed[key] = wanted
        if changed:
            with self._syncing():
                self.prompts.write(changed)
        self._known_prompts = self.prompts.read(lambda _: None)

    def _follow_objects(self) -> None:
        ids = [o.object_id for o in self.session.objects]
        if self._current is not None and self._current not in ids:
            self.select(ids[-1] if ids else None)

    def _refresh(self) -> None:
        with self._syncing():
            if self._pyramid is not None and not isinstance(self._pyramid[-1], np.ndarray):
                self.labels.data = self._pyramid  # else napari shows the copy that it keeps of the coarsest level
            else:
                self.labels.refresh()

    def restyle(self) -> None:
        """Colours of objects and prompts, and the label of the next click; only what differs is set, as each change has
        napari draw the layer again.
        """
        if self._is_restyling_later:
            return
        target = self._current or 1
        kind = POSITIVE if self._is_positive else NEGATIVE
        colours = self._colours_shown()
        with self._syncing():
            if colours != self._colours:
                self._colours = colours
                self.labels.colormap = label_colours(
                    self.session.objects, self._current, by_class=self._is_coloured_by_class
                )
            defaults = {"object_id": target, "kind": kind}
            is_new = (target, kind) != self._next_style
            self._next_style = (target, kind)
            for layer in (self.points, self.shapes):
                if is_new or dict(layer.feature_defaults.iloc[0]) != defaults:
                    layer.feature_defaults = defaults
            if is_new:
                # before the rows: napari styles the selected rows with these too
                self.points.current_face_color = object_colour(target)
                self.points.current_symbol = "disc" if self._is_positive else _BACKGROUND_SYMBOL
                self.shapes.current_edge_color = object_colour(target)
            self._restyle_rows()

    @contextlib.contextmanager
    def _restyling_once(self) -> Iterator[None]:
        """Several changes with one `restyle` at the end: each has napari colour all labels of the plane again."""
        try:
            with self.restyling_later():
                yield
        finally:
            self.restyle()

    @contextlib.contextmanager
    def restyling_later(self) -> Iterator[None]:
        """Changes whose colours are shown by ``restyle``, such as with the next event of a window."""
        before, self._is_restyling_later = self._is_restyling_later, True
        try:
            yield
        finally:
            self._is_restyling_later = before

    def _colours_shown(self) -> tuple[object, ...]:
        """What the colours of the labels depend on."""
        shown = tuple((o.object_id, o.is_visible, o.class_name) for o in self.session.objects)
        return self._current, self._is_coloured_by_class, shown

    def _restyle_rows(self) -> None:
        """Colours and symbols of the prompts; those of hidden objects are hidden."""
        hidden = {each.object_id for each in self.session.objects if not each.is_visible}
        if len(self.points.data):
            features = self.points.features
            is_shown = ~features["object_id"].isin(hidden).to_numpy(bool)
            if not np.array_equal(self.points.shown, is_shown):
                self.points.shown = is_shown
            faces = np.stack([object_colour(int(i)) for i in features["object_id"]])
            symbols = ["disc" if k == POSITIVE else _BACKGROUND_SYMBOL for k in features["kind"]]
            if not _is_equal(self.points.face_color, faces):
                self.points.face_color = faces
            if [str(s) for s in self.points.symbol] != symbols:
                self.points.symbol = symbols
        if len(self.shapes.data):
            ids = self.shapes.features["object_id"]
            edges = np.stack([object_colour(int(i)) for i in ids])
            edges[ids.isin(hidden).to_numpy(bool), -1] = 0
            if not _is_equal(self.shapes.edge_color, edges):
                self.shapes.edge_color = edges


def _prompt_of(entry: object) -> object:
    return getattr(entry, "prompt", None)


def _is_equal(shown: Any, wanted: Any) -> bool:
    return np.shape(shown) == np.shape(wanted) and bool(np.allclose(shown, wanted, atol=1e-3))
