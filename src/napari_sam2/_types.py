"""Values that cross rooms: prompts, predictions, records, frame results and sources of frames. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from napari_sam2._arguments import as_array, checked
from napari_sam2._checks import as_mask, as_numbers
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._packed_mask import PackedImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


__all__ = [
    "DrawnShape",
    "FrameResult",
    "FrameSource",
    "LogitWindow",
    "MaskPrediction",
    "MaskRecord",
    "Prompt",
]


OUTSIDE_LOGIT = -32.0
"""Pixels outside the model's view, and pixels of masks that were rejected."""


@runtime_checkable
class FrameSource(Protocol):
    """A stack or movie whose frames are read one at a time.

    Attributes
    ----------
    shape : tuple of int
        (T, H, W).
    key : str
        Names the pixels: two sources with equal keys give equal frames. Caches use it.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""

    @property
    def key(self) -> str:
        """Names the pixels."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""


ShapeKind = Literal["rectangle", "polygon", "ellipse", "line", "path"]
_NUM_VERTICES: dict[ShapeKind, int] = {"rectangle": 4, "ellipse": 4, "line": 2}
_FEWEST_VERTICES: dict[ShapeKind, int] = {"polygon": 3, "path": 2}
_MOST_VERTICES = 2**20  # of the shapes of one prompt: far more than a hand draws, and what session files can hold


class DrawnShape:
    """A shape that was drawn as a prompt, kept so that it can be shown again as it was drawn.

    It does not change. Only the points, the box and the mask of the ``Prompt`` that it belongs to count for the model.

    Parameters
    ----------
    kind : {"rectangle", "polygon", "ellipse", "line", "path"}
        "rectangle" for a box, "polygon" and "ellipse" for an outline of the object, "line" and "path" for a scribble.
    vertices : (N, 2) array-like
        As (x, y) in image pixels; (0, 0) is the centre of the first pixel. Of rectangles and ellipses the four
        corners, of a line both ends.
    is_object : bool, default True
        Whether a scribble marks the object, and not background.

    Raises
    ------
    PromptError
        If the kind does not exist, or there are too few vertices or values that are not finite.
    """

    __slots__ = ("_is_object", "_kind", "_vertices")

    @checked(PromptError)
    def __init__(self, kind: ShapeKind, vertices: ArrayLike, is_object: bool = True) -> None:
        self._kind = kind
        self._vertices = _as_rows_xy(vertices, "vertices")
        count = len(self._vertices)
        exact, fewest = _NUM_VERTICES.get(self._kind), _FEWEST_VERTICES.get(self._kind, 0)
        if count < fewest or exact not in (None, count):
            raise PromptError(f"a {kind} of {count} vertices was given; expected {exact or f'at least {fewest}'}")
        self._is_object = is_object

    @property
    def kind(self) -> ShapeKind:
        """What was drawn."""
        return self._kind

    @property
    def vertices(self) -> NDArray[np.float32]:
        """(N, 2) as (x, y)."""
        return self._vertices

    @property
    def is_object(self) -> bool:
        """Whether a scribble marks the object, and not background."""
        return self._is_object

    @property
    def is_scribble(self) -> bool:
        """Whether it stands for clicks along a line."""
        return self._kind in ("line", "path")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DrawnShape)
            and (self._kind, self._is_object) == (other._kind, other._is_object)
            and np.array_equal(self._vertices, other._vertices)
        )

    def __hash__(self) -> int:
        return hash((self._kind, self._is_object, self._vertices.tobytes()))

    def __repr__(self) -> str:
        sign = "" if self._is_object else ", is_object=False"
        return f"DrawnShape({self._kind!r}, {self._vertices.tolist()}{sign})"


class Prompt:
    """A prompt for one object on one frame: points, a box or a mask, in image pixels.

    It does not change. Its mask is kept packed, so that thousands of prompts fit into memory.

    Parameters
    ----------
    points : (N, 2) array-like, optional
        Clicks as (x, y); (0, 0) is the centre of the first pixel.
    labels : (N,) array-like, optional
        1 for object, 0 for background; all 1 if not given.
    box : (4,) array-like, optional
        (x0, y0, x1, y1), pixel edges or centres; any two opposite corners.
    mask : (H, W) array-like or PackedImage, optional
        Boolean mask of the object, at the size of the image.
    drawn : sequence of DrawnShape, optional
        The shapes that points, box and mask were drawn with; they do not change the result.

    Raises
    ------
    PromptError
        If a shape or value is not allowed, or if nothing at all is given.
    """

    __slots__ = ("_box", "_drawn", "_labels", "_packed_mask", "_points")

    def __init__(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | PackedImage | None = None,
        drawn: Sequence[DrawnShape] = (),
    ) -> None:
        self._points = _as_points(points)
        self._labels = _as_labels(labels, len(self._points))
        self._box = None if box is None else _as_box(box)
        self._packed_mask = None if mask is None else _as_packed(mask)
        self._drawn = _as_drawn(drawn)
        if not len(self._points) and box is None and mask is None:
            raise PromptError("an empty prompt was given; give at least one point, a box or a mask")

    @property
    def points(self) -> NDArray[np.float32]:
        """(N, 2) clicks as (x, y)."""
        return self._points

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) 1 for object, 0 for background."""
        return self._labels

    @property
    def box(self) -> NDArray[np.float32] | None:
        """(x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, or None."""
        return self._box

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, or None. It is unpacked at each access: keep it in a variable, or ask ``has_mask``."""
        return None if self._packed_mask is None else self._packed_mask.to_array()

    @property
    def packed_mask(self) -> PackedImage | None:
        """The mask as it is kept, or None."""
        return self._packed_mask

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask."""
        return self._packed_mask is not None

    @property
    def drawn(self) -> tuple[DrawnShape, ...]:
        """The shapes that points, box and mask were drawn with; empty where they were not drawn as shapes."""
        return self._drawn

    @property
    def is_mask_only(self) -> bool:
        """Whether there is a mask and nothing else, so that it is kept pixel for pixel."""
        return self.has_mask and not len(self._points) and self._box is None

    def __repr__(self) -> str:
        given = [f"points={self._points.tolist()}, labels={self._labels.tolist()}"] if len(self._points) else []
        if self._box is not None:
            given.append(f"box={self._box.tolist()}")
        if self._packed_mask is not None:
            given.append(f"mask=<{self._packed_mask.mask.area} of {self._packed_mask.hw} pixels>")
        if self._drawn:
            given.append(f"drawn=<{', '.join(shape.kind for shape in self._drawn)}>")
        return f"Prompt({', '.join(given)})"

    @checked(PromptError)
    def check_inside(self, hw: tuple[int, int]) -> None:
        """Raise PromptError unless every point, the box and the mask fit an image of ``hw``.

        Raises
        ------
        PromptError
            If one of them does not, or ``hw`` is not two integers.
        """
        h, w = hw
        for x, y in self.points:
            if not (-0.5 <= x <= w - 0.5 and -0.5 <= y <= h - 0.5):
                raise PromptError(
                    f"the point x={x:g}, y={y:g} lies outside the image of {w} x {h} pixels; "
                    f"expected 0 <= x <= {w - 1} and 0 <= y <= {h - 1}"
                )
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x1 <= -0.5 or y1 <= -0.5 or x0 >= w or y0 >= h:
                raise PromptError(
                    f"the box {_numbers(self.box)} (x0, y0, x1, y1) lies outside the image of {w} x {h} pixels"
                )
        if self._packed_mask is not None and self._packed_mask.hw != (h, w):
            raise PromptError(f"the mask has shape {self._packed_mask.hw}; it must have the image's shape {(h, w)}")
        for shape in self._drawn:
            if (shape.vertices < -0.5).any() or (shape.vertices > (w - 0.5, h - 0.5)).any():
                raise PromptError(
                    f"the {shape.kind} that was drawn leaves the image of {w} x {h} pixels; "
                    f"expected -0.5 <= x <= {w - 0.5:g} and -0.5 <= y <= {h - 0.5:g}"
                )


def _numbers(values: NDArray[np.float32]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _as_float32(values: ArrayLike, name: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return as_array(values, name, PromptError).astype(np.float32)


def _as_points(points: ArrayLike | None) -> NDArray[np.float32]:
    return np.zeros((0, 2), np.float32) if points is None else _as_rows_xy(points, "points")


def _as_rows_xy(values: ArrayLike, name: str) -> NDArray[np.float32]:
    array = _as_float32(values, name)
    if array.size == 0:
        array = array.reshape(0, 2)
    if array.ndim == 1 and array.shape == (2,):
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2:
        raise PromptError(f"{name} of shape {array.shape} were given; expected (N, 2), one (x, y) per row")
    if not np.isfinite(array).all():
        raise PromptError(f"{name} hold NaN or infinite coordinates; give finite (x, y) pixels")
    return array


def _as_drawn(drawn: Sequence[DrawnShape]) -> tuple[DrawnShape, ...]:
    if isinstance(drawn, DrawnShape):
        return (drawn,)
    shapes = tuple(drawn) if isinstance(drawn, list | tuple) else None
    if shapes is None or not all(isinstance(shape, DrawnShape) for shape in shapes):
        raise PromptError(f"drawn={shown(drawn)} was given; expected a list of DrawnShape")
    count = sum(len(shape.vertices) for shape in shapes)
    if count > _MOST_VERTICES:
        raise PromptError(f"shapes of {count} vertices were given as drawn; at most {_MOST_VERTICES} are kept")
    return shapes


def _as_labels(labels: ArrayLike | None, num_points: int) -> NDArray[np.int32]:
    if labels is None:
        return np.ones(num_points, np.int32)
    array = np.atleast_1d(as_numbers(labels, "labels"))
    if array.shape != (num_points,):
        raise PromptError(f"{array.size} labels were given for {num_points} points; give one label per point")
    if array.size and not np.isin(array, (0, 1)).all():
        raise PromptError(f"labels {array.tolist()} were given; expected 1 (object) or 0 (background)")
    return array.astype(np.int32)


def _as_box(box: ArrayLike) -> NDArray[np.float32]:
    array = _as_float32(box, "box").reshape(-1)
    if array.shape != (4,):
        raise PromptError(f"a box of {array.size} numbers was given; expected four: x0, y0, x1, y1")
    if not np.isfinite(array).all():
        raise PromptError("the box holds NaN or infinite coordinates; give finite x0, y0, x1, y1")
    x0, y0, x1, y1 = array
    ordered = np.array([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], np.float32)
    if ordered[0] == ordered[2] or ordered[1] == ordered[3]:
        raise PromptError(f"the box {_numbers(array)} has no area; give two different opposite corners")
    return ordered


def _as_packed(mask: ArrayLike | PackedImage) -> PackedImage:
    if not isinstance(mask, PackedImage):
        return PackedImage.pack(_as_mask(mask))
    if not mask.mask.area:
        raise PromptError("an empty mask was given; mark at least one pixel of the object")
    return mask


def _as_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    marked = as_mask(mask, "a mask")
    if not marked.any():
        raise PromptError("an empty mask was given; mark at least one pixel of the object")
    return marked


class MaskPrediction(NamedTuple):
    """Candidate masks for one or more prompts.

    Attributes
    ----------
    masks : numpy.ndarray
        (M, H, W) bool, or float32 logits if ``return_logits`` was set. A sequence of P prompts
        gives (P, M, H, W).
    scores : numpy.ndarray
        (M,) float32 predicted IoU of each mask, 0 to 1; (P, M) for a sequence.
    logits : numpy.ndarray
        (M, h, w) float32 low-resolution logits, to be given back as ``mask_input``; (P, M, h, w) for a sequence.
    """

    masks: NDArray[np.bool_] | NDArray[np.float32]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]


class MaskRecord(dict[str, object]):
    """One automatic mask: a dictionary with the reference's keys.

    Keys: ``segmentation`` (bool (H, W), or an RLE dictionary), ``area`` (pixels), ``bbox`` ([x, y, width, height]),
    ``predicted_iou``, ``stability_score``, ``point_coords`` ([[x, y]]), ``crop_box`` ([x, y, width, height]).
    """

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class LogitWindow:
    """Logits of one object in a rectangle of the image, outside of which its mask is empty.

    Attributes
    ----------
    top, left : int
        First row and column of the rectangle in the image.
    logits : (h, w) float32 array
        The mask is where these are positive.
    """

    top: int
    left: int
    logits: NDArray[np.float32]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the rectangle in the image."""
        height, width = self.logits.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) bool, the object's pixels in the rectangle."""
        return self.logits > 0

    def cropped(self) -> LogitWindow:
        """The bounding box of the mask."""
        mask = self.mask
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return LogitWindow(0, 0, np.zeros((0, 0), np.float32))
        inner = self.logits[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
        return LogitWindow(self.top + int(rows[0]), self.left + int(columns[0]), inner)


class StageShift(NamedTuple):
    """On ``frame``, the content of the image lies (x, y) pixels further than on the usable frame before it in time.

    Zero where no movement is certain.
    """

    frame: int
    x: int
    y: int


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found on one frame.

    Each object is held in a window of the image, so that hundreds of objects on a large frame fit into memory; `masks`
    and `logits` are arrays of the size of the image, made when they are first read.

    Attributes
    ----------
    frame : int
        Index into the source.
    object_ids : tuple of int
        Identifiers of the objects, in the order of the arrays.
    hw : tuple of int
        (H, W) of the image.
    windows : tuple of LogitWindow
        One per object.
    iou_scores : numpy.ndarray
        (O,) float32 predicted IoU, 0 to 1.
    object_scores : numpy.ndarray
        (O,) float32 logit that the object is visible; an absent object (<= 0) has an empty mask. At least 0.01 where a
        prompt on this frame says that it is there.
    has_logits : bool
        Whether logits were requested: the windows then hold all logits that differ from the background's -32.
    is_prompted : tuple of bool
        Whether each object was prompted on this frame, so that the result is its own and not tracked.
    prompt_distances : tuple of int
        Number of frames from the nearest prompt of each object, which decides where tracked masks overlap; empty if it
        is not known.
    is_usable : bool
        False if the frame is blank, saturated or unreadable: it was skipped, and tracked objects are empty on it.
    stage_shift : StageShift or None
        Movement of the stage between this frame and the one tracked before it; None where it was not measured.
    """

    frame: int
    object_ids: tuple[int, ...]
    hw: tuple[int, int]
    windows: tuple[LogitWindow, ...]
    iou_scores: NDArray[np.float32]
    object_scores: NDArray[np.float32]
    has_logits: bool = False
    is_prompted: tuple[bool, ...] = ()
    prompt_distances: tuple[int, ...] = ()
    is_usable: bool = True
    stage_shift: StageShift | None = None

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(O, H, W) bool; masks may overlap."""
        masks = np.zeros((len(self.windows), *self.hw), bool)
        for mask, window in zip(masks, self.windows, strict=True):
            mask[window.slices] = window.mask
        return masks

    @cached_property
    def logits(self) -> NDArray[np.float32] | None:
        """(O, H, W) float32, -32 outside the windows; None if they were not requested."""
        if not self.has_logits:
            return None
        logits = np.full((len(self.windows), *self.hw), OUTSIDE_LOGIT, np.float32)
        for plane, window in zip(logits, self.windows, strict=True):
            plane[window.slices] = window.logits
        return logits

    @property
    def areas(self) -> NDArray[np.int64]:
        """(O,) pixels of each mask."""
        return np.array([np.count_nonzero(window.mask) for window in self.windows], np.int64)


Direction = Literal["forward", "backward", "both"]
Zoom = Literal["off", "auto"]


def is_same(a: Prompt, b: Prompt) -> bool:
    """Whether two prompts are equal for the model, however they were drawn."""
    return (
        np.array_equal(a.points, b.points)
        and np.array_equal(a.labels, b.labels)
        and _equal(a.box, b.box)
        and a.packed_mask == b.packed_mask
    )


def grew(new: Prompt, old: Prompt) -> bool:
    """Whether ``new`` holds all of ``old``, and more."""
    count = len(old.points)
    return (
        len(new.points) >= count
        and np.array_equal(new.points[:count], old.points)
        and np.array_equal(new.labels[:count], old.labels)
        and (old.box is None or _equal(new.box, old.box))
        and (old.packed_mask is None or new.packed_mask == old.packed_mask)
        and not is_same(new, old)
    )


def _equal(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
