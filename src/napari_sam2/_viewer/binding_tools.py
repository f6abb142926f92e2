"""Tools of a viewer for the objects of a session: the current object, drawing, painting, splitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._viewer.binding_display import BindingDisplay
from napari_sam2._viewer.labels_layer import (
    LARGEST_PAINTED,
)
from napari_sam2._viewer.paint_guard import PAINT_MODES
from napari_sam2.labels.waists import narrowest_chord

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["BindingTools", "Tool"]

Tool = Literal["point", "box", "lasso", "scribble", "paint"]
_SHAPE_MODES: dict[Tool, str] = {"box": "add_rectangle", "lasso": "add_polygon_lasso", "scribble": "add_path"}


class BindingTools(BindingDisplay):
    """The part of a ``ViewerBinding`` that chooses objects and tools."""

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

    def _refuse_in_3d(self) -> None:
        word = self.plane_word
        self.notice.emit(f"prompts are placed on {word}s: go back to the 2D display (Ctrl-Y) and click there", True)

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

    def show_again(self) -> None:
        """Bring back layers that were removed, with everything in them."""
        missing = [layer for layer in self.layers if layer not in self.viewer.layers]
        with self.tool_changed.blocked():  # napari selects each: nobody chose their tools
            for layer in missing:
                self.viewer.layers.append(layer)
        self._refresh()

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
