"""Points and Shapes layers as prompts, in both directions; here (row, column) becomes (x, y)."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from skimage.draw import polygon2mask

from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._packed_mask import PackedImage
from napari_sam2._types import DrawnShape, Prompt, ShapeKind
from napari_sam2._viewer.strokes import Strokes

if TYPE_CHECKING:
    from napari.layers import Points, Shapes
    from numpy.typing import NDArray

    from napari_sam2._viewer.layer_places import LayerMap
    from napari_sam2.frames.geometry import StackGeometry

__all__ = ["NEGATIVE", "POSITIVE", "PromptKey", "PromptLayers", "read_prompt_layer"]

POSITIVE, NEGATIVE = "positive", "negative"
PromptKey = tuple[int, int]  # object, plane
_SMALLEST_BOX = 2.0  # pixels: less is a click that was not meant as a box
_OUTLINES = ("polygon", "ellipse")
_SCRIBBLE_STEP = 8.0  # pixels between the clicks that a scribble stands for
_SCRIBBLE_CLICKS = 12  # at most


class _Meaning(NamedTuple):
    """What drawn shapes stand for: clicks with their labels, a box and a mask."""

    clicks: list[tuple[NDArray[np.float32], int]]
    box: NDArray[np.float32] | None
    mask: PackedImage | None


class _Row(NamedTuple):
    """One point or shape to add to a layer."""

    data: NDArray[np.float64]
    kind: str
    object_id: int
    sign: str


class PromptLayers:
    """The prompts of the two prompt layers, by object and plane.

    Parameters
    ----------
    points : napari.layers.Points
        With the features ``object_id`` and ``kind`` ("positive", "negative").
    shapes : napari.layers.Shapes
        With the same features. Rectangles are boxes; polygons and ellipses masks; lines and paths scribbles. Of the
        background, rectangles, polygons and ellipses are taken away from masks drawn before them.
    geometry : StackGeometry
        Axes of the stack, in whose pixels both layers are.

    Attributes
    ----------
    strokes : Strokes
        The shape that is being drawn; its owner is told when the shapes have changed.
    """

    def __init__(self, points: Points, shapes: Shapes, geometry: StackGeometry) -> None:
        self.points = points
        self.shapes = shapes
        self.geometry = geometry
        self.strokes = Strokes(shapes)
        # filled shapes of the last reading: to fill them takes longer than all the rest
        self._outlines: dict[DrawnShape, PackedImage] = {}

    # ------------------------------------------------------------------ reading
    def read(self, on_error: Callable[[PromptError], None] | None = None) -> dict[PromptKey, Prompt]:
        """All prompts of the layers without a stroke that is being drawn; invalid rows are passed to ``on_error``."""
        clicks: dict[PromptKey, list[tuple[NDArray[np.float32], int]]] = defaultdict(list)
        drawn: dict[PromptKey, list[DrawnShape]] = defaultdict(list)
        for position, (object_id, kind) in zip(np.asarray(self.points.data), _features(self.points), strict=False):
            try:
                plane, xy = self.geometry.locate(position)
            except PromptError as error:
                _report(error, on_error)
                continue
            clicks[object_id, plane].append((xy[0], int(kind != NEGATIVE)))
        shapes = list(zip(self.shapes.data, self.shapes.shape_type, _features(self.shapes), strict=False))
        if self.strokes.is_drawing:
            shapes = shapes[:-1]
        for corners, kind_of_shape, (object_id, kind) in shapes:
            try:
                plane, xy = self._locate_shape(np.asarray(corners))
                shape = DrawnShape(cast("ShapeKind", str(kind_of_shape)), xy, kind != NEGATIVE)
            except PromptError as error:
                _report(error, on_error)
            else:
                drawn[object_id, plane].append(shape)
        found, outlines = {}, self._outlines
        self._outlines = {}  # those that are still there
        for key in {*clicks, *drawn}:
            meant = self._meaning_of(drawn[key], outlines)
            spots = [*clicks[key], *meant.clicks]
            if not spots and meant.box is None and meant.mask is None:
                continue
            found[key] = Prompt(
                points=np.array([xy for xy, _ in spots], np.float32).reshape(-1, 2),
                labels=np.array([label for _, label in spots], np.int32),
                box=meant.box,
                mask=meant.mask,
                drawn=() if _is_just_the_box(drawn[key], meant.box) else drawn[key],
            )
        return found

    def _meaning_of(self, drawn: Iterable[DrawnShape], known: Mapping[DrawnShape, PackedImage]) -> _Meaning:
        """What shapes of one object and plane stand for; filled shapes among ``known`` are not filled again."""
        clicks: list[tuple[NDArray[np.float32], int]] = []
        box: NDArray[np.float32] | None = None
        mask: PackedImage | None = None
        for shape in drawn:
            if shape.is_scribble:
                clicks += [(spot, int(shape.is_object)) for spot in _along(shape.vertices)]
            elif shape.kind == "rectangle" and shape.is_object:
                low, high = shape.vertices.min(0), shape.vertices.max(0)
                if (high - low).min() >= _SMALLEST_BOX:
                    box = np.concatenate((low, high))
            elif mask is None and not shape.is_object:
                continue
            else:
                filled = known.get(shape)
                filled = self._outlines.setdefault(shape, self.fill(shape) if filled is None else filled)
                if mask is None:
                    mask = filled
                elif shape.is_object:
                    mask = PackedImage.pack(mask.to_array() | filled.to_array())
                else:
                    mask = PackedImage.pack(mask.to_array() & ~filled.to_array())
        return _Meaning(clicks, box, mask if mask is not None and mask.mask.area else None)

    def area_of(self, row: int) -> tuple[PromptKey, PackedImage] | None:
        """Object, plane and inside of a rectangle, polygon or ellipse; None of a line, or outside the image."""
        (object_id, kind), shape_type = _features(self.shapes)[row], str(self.shapes.shape_type[row])
        try:
            plane, xy = self._locate_shape(np.asarray(self.shapes.data[row]))
        except PromptError:
            return None
        shape = DrawnShape(cast("ShapeKind", shape_type), xy, kind != NEGATIVE)
        if shape.is_scribble:
            return None
        if shape not in self._outlines:  # of which the next reading takes it
            self._outlines[shape] = self.fill(shape)
        return (object_id, plane), self._outlines[shape]

    def is_background(self, row: int) -> bool:
        """Whether a shape is background."""
        return _features(self.shapes)[row][1] == NEGATIVE

    def remove_others(self, key: PromptKey) -> int:
        """Take away points, boxes and scribbles of an object on a plane; how many they were."""
        points = list(self._rows(self.points, {key}))
        shapes = [row for row in self._rows(self.shapes, {key}) if str(self.shapes.shape_type[row]) not in _OUTLINES]
        self.remove_rows(self.points, points)
        self.remove_rows(self.shapes, shapes)
        return len(points) + len(shapes)

    def locate(self, row: NDArray[Any]) -> tuple[int, NDArray[np.float32]]:
        """The plane and (x, y) places of a point or shape; raises PromptError outside the image."""
        corners = np.asarray(row)
        return self.geometry.locate(corners) if corners.ndim == 1 else self._locate_shape(corners)

    def _locate_shape(self, corners: NDArray[Any]) -> tuple[int, NDArray[np.float32]]:
        h, w = self.geometry.hw
        inside = corners.astype(float).copy()
        if (inside[:, -2:].max(0) < -0.5).any() or (inside[:, -2:].min(0) > (h - 0.5, w - 0.5)).any():
            raise PromptError(f"a shape lies outside the image of {w} x {h} pixels; draw it on the image")
        inside[:, -2:] = np.clip(inside[:, -2:], (-0.5, -0.5), (h - 0.5, w - 0.5))
        return self.geometry.locate(inside)

    def fill(self, shape: DrawnShape) -> PackedImage:
        """The pixels inside a shape."""
        outline = shape.vertices.astype(float)
        if shape.kind == "ellipse":
            centre, half_x, half_y = outline.mean(0), (outline[1] - outline[0]) / 2, (outline[3] - outline[0]) / 2
            angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)[:, None]
            outline = centre + np.cos(angle) * half_x + np.sin(angle) * half_y
        return PackedImage.pack(polygon2mask(self.geometry.hw, outline[:, ::-1]))

    # ------------------------------------------------------------------ writing
    def write(self, prompts: Mapping[PromptKey, Prompt | None]) -> None:
        """Make the rows of objects and planes equal their prompts.

        Shapes are shown as they were drawn. Shapes that already give a mask stay; a mask without a shape (painted, or
        from a label) is not drawn. A stroke that is being drawn is discarded.
        """
        self.strokes.discard()
        if not len(self.points.data) and not len(self.shapes.data):
            current: dict[PromptKey, Prompt] = {}
        else:
            current = self.read(lambda _: None)
        kept = {key for key, prompt in prompts.items() if _is_drawn_already(current.get(key), prompt)}
        self.remove_rows(self.points, self._rows(self.points, prompts))
        outlines = [str(kind) in _OUTLINES for kind in self.shapes.shape_type]
        rows = self._rows(self.shapes, prompts)
        self.remove_rows(self.shapes, [row for row, key in rows.items() if not (outlines[row] and key in kept)])
        self.add({key: prompt for key, prompt in prompts.items() if prompt is not None})

    def add(self, prompts: Mapping[PromptKey, Prompt]) -> None:
        """Show prompts of objects and planes that have no rows yet, all at once."""
        clicks: list[_Row] = []
        shapes: list[_Row] = []
        for (object_id, plane), prompt in prompts.items():
            left, drawn = self._shown_as(prompt)
            for point, label in zip(prompt.points[left], prompt.labels[left], strict=True):
                rows = self.geometry.rows(plane, point)[0]
                clicks.append(_Row(rows, "", object_id, POSITIVE if label == 1 else NEGATIVE))
            for shape in drawn:
                rows = self.geometry.rows(plane, shape.vertices)
                shapes.append(_Row(rows, shape.kind, object_id, POSITIVE if shape.is_object else NEGATIVE))
        if clicks:
            first = len(self.points.data)
            self.points.add(np.stack([row.data for row in clicks]))
            _set_features(self.points, first, clicks)
        if shapes:
            first = len(self.shapes.data)
            self.shapes.add([row.data for row in shapes], shape_type=[row.kind for row in shapes])
            self.strokes.settle()
            _set_features(self.shapes, first, shapes)

    def _shown_as(self, prompt: Prompt) -> tuple[NDArray[np.bool_], list[DrawnShape]]:
        """Which points are shown as such, and the shapes: those drawn, but for what they no longer give."""
        is_left = np.ones(len(prompt.points), bool)
        meant = self._meaning_of(prompt.drawn, self._outlines)
        is_mask = meant.mask is not None and meant.mask == prompt.packed_mask
        is_box = meant.box is not None and prompt.box is not None and np.array_equal(meant.box, prompt.box)
        drawn = []
        for shape in prompt.drawn:
            if shape.is_scribble:
                spots = _along(shape.vertices)
                at = _find_run(prompt.points, spots, is_left & (prompt.labels == int(shape.is_object)))
                if at is not None:
                    is_left[at : at + len(spots)] = False
                    drawn.append(shape)
            elif is_box if shape.kind == "rectangle" and shape.is_object else is_mask:
                drawn.append(shape)
        if prompt.box is not None and not is_box:
            x0, y0, x1, y1 = prompt.box
            drawn.append(DrawnShape("rectangle", [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
        return is_left, drawn

    def _rows(self, layer: Points | Shapes, keys: Container[PromptKey]) -> dict[int, PromptKey]:
        """The rows of some objects and planes."""
        rows = {}
        for row, (coordinates, (owner, _)) in enumerate(zip(layer.data, _features(layer), strict=False)):
            first = np.atleast_2d(np.asarray(coordinates, float))[0]
            index = tuple(int(v) for v in np.rint(first[:-2]))
            if all(0 <= at < size for at, size in zip(index, self.geometry.shape, strict=False)):
                key = (owner, self.geometry.plane(index))
                if key in keys:
                    rows[row] = key
        return rows

    def remove_rows(self, layer: Points | Shapes, rows: Iterable[int]) -> None:
        """Take away rows of one of the two layers."""
        if layer is self.shapes:
            self.strokes.remove(rows)
            return
        gone = set(rows)
        if gone:
            layer.selected_data = gone
            layer.remove_selected()


def read_prompt_layer(
    layer: Points | Shapes, geometry: StackGeometry, *, first_id: int, to_image: LayerMap
) -> dict[PromptKey, Prompt]:
    """The prompts of a layer that belongs to no session, by object and plane.

    Parameters
    ----------
    layer : napari.layers.Points or Shapes
        Without the feature ``object_id`` each row is an object of its own.
    geometry : StackGeometry
        Axes of the stack.
    first_id : int
        Number of the first object where rows have none.
    to_image : LayerMap
        From coordinates of the layer to pixels of the image.

    Raises
    ------
    PromptError
        If there is no row, one lies outside the image, an ``object_id`` is no whole number from 1, or nothing is drawn
        that could start an object.
    """
    from napari.layers import Points, Shapes

    if not len(layer.data):
        raise PromptError(f"{layer.name} is empty; choose a layer with points or shapes on the image")
    features = layer.features.copy()
    if "object_id" not in features:
        features["object_id"] = range(first_id, first_id + len(layer.data))
    wrong = [value for value in features["object_id"].tolist() if not _is_object_number(value)]
    if wrong:
        raise PromptError(f"{layer.name} has the object_id {shown(wrong[0])}; expected an integer from 1")
    problems: list[PromptError] = []
    if type(layer).__name__ == "Points":
        points = Points(to_image(layer.data), ndim=geometry.ndim, features=features)
        copied = PromptLayers(points, Shapes(ndim=geometry.ndim), geometry)
    else:
        outlines = [to_image(corners) for corners in layer.data]
        shapes = Shapes(outlines, ndim=geometry.ndim, shape_type=list(layer.shape_type), features=features)
        copied = PromptLayers(Points(ndim=geometry.ndim), shapes, geometry)
    found = copied.read(problems.append)
    if problems:
        raise PromptError(f"{layer.name} does not fit the image: {problems[0]}")
    if not found:
        raise PromptError(
            f"{layer.name} has nothing that starts an object, only areas of background or boxes smaller than "
            f"{_SMALLEST_BOX:.0f} pixels; draw points, boxes or outlines of objects in it"
        )
    # what was drawn stays in its own layer
    return {key: Prompt(p.points, p.labels, p.box, p.packed_mask) for key, p in found.items()}


def _features(layer: Points | Shapes) -> list[tuple[int, str]]:
    """Object and kind of each row."""
    features, count = layer.features, len(layer.data)
    ids = features["object_id"].tolist() if "object_id" in features else [1] * count
    kinds = features["kind"].tolist() if "kind" in features else [POSITIVE] * count
    return [(1 if pd.isna(i) else int(i), str(kind)) for i, kind in zip(ids, kinds, strict=True)]


def _is_drawn_already(current: Prompt | None, prompt: Prompt | None) -> bool:
    """Whether the shapes that are there give the mask of a prompt that does not say how it was drawn."""
    if current is None or prompt is None or prompt.drawn or not prompt.has_mask:
        return False
    return current.packed_mask == prompt.packed_mask


def _set_features(layer: Points | Shapes, first: int, rows: Sequence[_Row]) -> None:
    features = layer.features.copy()
    features.loc[first:, "object_id"] = [row.object_id for row in rows]
    features.loc[first:, "kind"] = [row.sign for row in rows]
    layer.features = features


def _is_just_the_box(drawn: Sequence[DrawnShape], box: NDArray[np.float32] | None) -> bool:
    """Whether nothing but an upright rectangle was drawn, which the box describes as well."""
    if box is None or len(drawn) != 1:
        return False
    corners = {(float(x), float(y)) for x in box[::2] for y in box[1::2]}
    return {(float(x), float(y)) for x, y in drawn[0].vertices} == corners


def _find_run(points: NDArray[np.float32], run: NDArray[np.float32], is_free: NDArray[np.bool_]) -> int | None:
    """Where (K, 2) points follow each other among (N, 2) ones that are free; None if they do not."""
    for at in range(len(points) - len(run) + 1):
        if is_free[at : at + len(run)].all() and np.array_equal(points[at : at + len(run)], run):
            return at
    return None


def _is_object_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1 and float(value).is_integer()


def _along(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, 2) clicks evenly along a line, its middle for a short one."""
    steps = np.hypot(*np.diff(xy, axis=0).T)
    length = float(steps.sum())
    count = int(np.clip(round(length / _SCRIBBLE_STEP), 1, _SCRIBBLE_CLICKS))
    at = (np.arange(count) + 0.5) / count * length
    along = np.concatenate(([0.0], np.cumsum(steps)))
    return np.stack([np.interp(at, along, xy[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def _report(error: PromptError, on_error: Callable[[PromptError], None] | None) -> None:
    if on_error is None:
        warnings.warn(str(error), stacklevel=3)
    else:
        on_error(error)
