"""Square crops of labelled stacks: an object is chosen, shown at a drawn size, turned, moved and deformed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_sam2._errors import TrainingError
from napari_sam2.training.packs import LabelledStack, group_weights
from napari_sam2.training.warp import (
    CropView,
    mean_pool,
    outside,
    sample_labels,
    sample_linear,
    spline_field,
    view_grid,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["REFERENCE_SIZE", "CropConfig", "Cut", "StackSource", "draw_view", "eroded", "hidden_areas"]

REFERENCE_SIZE = 256
_DEEP = 4  # frames between neighbours, at most, from which a source counts as a finely sampled volume
_LEAP_SHARE = 0.12  # of its clips
_WIDE, _WIDE_LOOSE_SHARE = 0.7, 0.6  # of windows that are too wide, many reach beyond the image
_ROUNDING = 0.08  # of an object's area: resampled, it differs by that much
_ERODED_SHARE = 0.5  # of the crops of a source with erosion


@dataclass(frozen=True)
class CropConfig:
    """How crops are cut; lengths are crop pixels at a crop of ``reference_size`` and grow with the crop.

    Attributes
    ----------
    extent_low, extent_high : float
        Range of the chosen object's longer side in the crop; drawn log-uniformly.
    extent_core : tuple of float
        The range that holds ``core_share`` of the draws.
    core_share : float
        See ``extent_core``.
    clip_core : tuple of float
        As ``extent_core``, for clips: when objects are followed, the window shows them at a size of its own choice.
    zoom_low, zoom_high : float
        Allowed crop pixels per image pixel.
    anywhere : float
        Share of crops placed without regard to an object.
    over_border : float
        Share of crops that may stick out of the image by up to a quarter, or hold more than the whole image.
    free_rotation : float
        Share of crops turned by any angle and not only by quarters.
    min_area : float
        Smallest promptable area in square pixels, counted inside ``margin``.
    margin : float
        Width of the crop's edge that does not count.
    reference_size : int
        Side of the crop that lengths are given for; set it to the sampler's size for lengths in its own pixels.
    wrong_share : float
        Share of stills in which the object is shown too large or too small, by up to ``wrong_factor``: a click does
        not say how large its object is, so several windows are tried, and their scores have to be comparable.
    wrong_factor : float
        See ``wrong_share``.
    """

    extent_low: float = 14.0
    extent_high: float = 150.0
    extent_core: tuple[float, float] = (24.0, 80.0)
    core_share: float = 0.6
    clip_core: tuple[float, float] = (36.0, 96.0)
    zoom_low: float = 0.5
    zoom_high: float = 6.0
    anywhere: float = 0.15
    over_border: float = 0.15
    free_rotation: float = 0.3
    min_area: float = 48.0
    margin: float = 4.0
    reference_size: int = REFERENCE_SIZE
    wrong_share: float = 0.0
    wrong_factor: float = 4.0


@dataclass(frozen=True, eq=False)
class Cut:
    """A crop before its appearance changes.

    Attributes
    ----------
    frames : numpy.ndarray
        (T, S, S) or (T, S, S, 3) float32, 0 to 255.
    labels : numpy.ndarray
        (T, S, S) int32.
    trusted_ids : frozenset of int or None
        The labels that may be prompted; None for all.
    black : numpy.ndarray or None
        (T, S, S) bool, pixels that lie outside the image; None where there are none.
    levels : tuple of numpy.ndarray
        As ``labels``, of objects on other levels: parts of those, or groups of them.
    hidden : tuple of numpy.ndarray
        For ``labels`` and for each of ``levels``, by label: (ids,) float32 pixels of the object on the first frame
        that lie outside the crop; NaN if that is not known. Empty: none.
    """

    frames: NDArray[np.float32]
    labels: NDArray[np.int32]
    trusted_ids: frozenset[int] | None = None
    black: NDArray[np.bool_] | None = None
    levels: tuple[NDArray[np.int32], ...] = ()
    hidden: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True, eq=False)
class StackSource:
    """Crops of labelled images, movies and volumes.

    Attributes
    ----------
    name : str
        Name for weights.
    stacks : sequence of LabelledStack
        At least one.
    max_step : int
        Largest distance between neighbouring frames of a clip, in frames of the stack.
    erosion : float
        In half of the crops, outlines are moved inwards by up to this many pixels of the image, by as much in all of a
        clip: in electron microscopy some people count membranes as part of a body, others do not.
    """

    name: str
    stacks: Sequence[LabelledStack]
    max_step: int = 3
    erosion: float = 0.0
    _chances: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.stacks:
            raise TrainingError(f"the source {self.name} has no images; give at least one")
        object.__setattr__(self, "_chances", group_weights(self.stacks))

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One crop of a random stack around a random object; see ``ClipSource``."""
        stack = self.stacks[int(rng.choice(len(self.stacks), p=self._chances))]
        if num_frames > 1:
            crop = replace(crop, extent_core=crop.clip_core, wrong_share=0.0)
        real = stack.is_sequence and len(stack) >= num_frames > 1 and rng.random() < 0.85
        frames = _frame_indices(rng, len(stack), num_frames, self.max_step) if real else [int(rng.integers(len(stack)))]
        anchor = frames[0] if rng.random() < 0.8 else frames[int(rng.integers(len(frames)))]
        view = draw_view(rng, stack, anchor, size, crop)
        if real:
            views = _drifting(rng, view, num_frames, still_camera=True)
        else:
            views = _drifting(rng, view, num_frames, still_camera=False)
            frames = frames * num_frames
        motion = _Wobble.draw(rng, num_frames, size, strength=0.3 if real else 1.0)
        cuts = [_cut(stack, f, views[t], size, motion.at(t, size, views[t].zoom)) for t, f in enumerate(frames)]
        images, labels, blacks = (np.stack(parts) for parts in zip(*cuts, strict=True))
        if self.erosion and rng.random() < _ERODED_SHARE:
            width = rng.uniform(0, self.erosion) * view.zoom
            labels = np.stack([eroded(frame, width) for frame in labels])
        objects = stack.objects(frames[0])
        hidden = (hidden_areas(labels[0], objects.ids, objects.areas * view.zoom**2),) if num_frames == 1 else ()
        return Cut(images, labels, stack.trusted_ids, blacks if blacks.any() else None, hidden=hidden)


def _frame_indices(rng: np.random.Generator, length: int, num_frames: int, max_step: int) -> list[int]:
    """Evenly spaced frames, in or against the order of the stack; more often close ones."""
    widest = min(max_step, (length - 1) // (num_frames - 1))
    step = 1 + int(widest * rng.random() ** 3)
    start = int(rng.integers(length - step * (num_frames - 1)))
    frames = [start + step * k for k in range(num_frames)]
    if rng.random() < 0.5:
        frames.reverse()
    if max_step >= _DEEP and rng.random() < _LEAP_SHARE:
        frames = _leap(rng, frames, length)
    return frames


def _leap(rng: np.random.Generator, frames: list[int], length: int) -> list[int]:
    """The clip goes on far away in the volume, where most of its objects have ended."""
    cut = int(rng.integers(1, len(frames)))
    offset = int(rng.integers(15, 60)) * (1 if frames[-1] > frames[0] else -1)
    moved = frames[:cut] + [frame + offset for frame in frames[cut:]]
    return moved if all(0 <= frame < length for frame in moved) else frames


def eroded(labels: NDArray[np.int32], width: float) -> NDArray[np.int32]:
    """(S, S) labels whose outlines lie ``width`` pixels further inside."""
    if width < 0.5:
        return labels
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    near = ndimage.distance_transform_edt(~edge) <= width
    return np.where(near, np.int32(0), labels)


def hidden_areas(labels: NDArray[np.int32], ids: NDArray[np.int64], areas: NDArray[Any]) -> NDArray[np.float32]:
    """By label: how many pixels of an object lie outside a crop.

    Parameters
    ----------
    labels : numpy.ndarray
        (S, S), the crop.
    ids, areas : numpy.ndarray
        (N,) labels and areas, in crop pixels, of whole objects; others are not hidden.
    """
    seen = np.bincount(labels.reshape(-1))
    hidden = np.zeros(len(seen), np.float32)
    here = ids < len(seen)
    whole = areas[here]
    missing = whole - seen[ids[here]]
    hidden[ids[here]] = np.where(missing > _ROUNDING * whole, missing, 0)
    return hidden


def draw_view(rng: np.random.Generator, stack: LabelledStack, frame: int, size: int, crop: CropConfig) -> CropView:
    """What a crop shows: an object at a drawn size, turned, stretched and not in the middle as a rule."""
    h, w = stack.labels.shape[1:]
    scale = size / crop.reference_size
    objects = stack.objects(frame)
    if not len(objects.ids):
        return CropView((rng.uniform(0, h), rng.uniform(0, w)), scale * rng.uniform(1, 2))
    chances = np.where(objects.compact, 1.0, 0.15)
    row = int(rng.choice(len(objects.ids), p=chances / chances.sum()))
    y0, x0, y1, x1 = objects.boxes[row].tolist()
    low, high = crop.extent_core if rng.random() < crop.core_share else (crop.extent_low, crop.extent_high)
    extent = scale * math.exp(rng.uniform(math.log(low), math.log(high)))
    is_loose = rng.random() < crop.over_border
    if rng.random() < crop.wrong_share:
        factor = crop.wrong_factor ** rng.uniform(-1, 1)
        extent *= factor
        is_loose |= factor < _WIDE and rng.random() < _WIDE_LOOSE_SHARE
    zoom = min(max(extent / max(y1 - y0, x1 - x0), crop.zoom_low * scale), crop.zoom_high * scale)
    angle = math.pi / 2 * int(rng.integers(4))
    tilt = rng.uniform(-math.pi / 4, math.pi / 4) if rng.random() < crop.free_rotation else 0.0
    angle += tilt
    if not is_loose:
        # no wider than the image; a tilted crop a little more, which leaves its corners empty
        zoom = max(zoom, size / max(h, w) * max(1.0, 0.85 * (math.cos(tilt) + abs(math.sin(tilt)))))
    stretch = math.exp(float(np.clip(rng.normal(0, 0.1), -0.25, 0.25)))
    view = CropView((0.0, 0.0), zoom, angle, stretch, bool(rng.random() < 0.5))
    if rng.random() < crop.anywhere:
        centre = (rng.uniform(0, h), rng.uniform(0, w))
    else:
        half = (size - 2 * crop.margin * scale) / 2 / zoom
        centre = (
            (y0 + y1) / 2 + _offset(rng, half - (y1 - y0) / 2, half),
            (x0 + x1) / 2 + _offset(rng, half - (x1 - x0) / 2, half),
        )
    reach = view.reach(size)
    slack = 0.5 if is_loose else 0.0
    centre = (
        _keep_inside(centre[0], reach[0] * (1 - slack), h),
        _keep_inside(centre[1], reach[1] * (1 - slack), w),
    )
    return replace(view, centre_yx=centre)


def _offset(rng: np.random.Generator, room: float, half: float) -> float:
    """Shift of the crop's middle from the object's: anywhere the object stays inside, more often near the middle."""
    room = max(abs(room), 0.1 * half)  # of an object larger than the crop, any part
    return float(rng.uniform(-room, room) if rng.random() < 0.5 else np.clip(rng.normal(0, 0.35 * room), -room, room))


def _keep_inside(centre: float, reach: float, length: int) -> float:
    if 2 * reach >= length:
        # the whole image fits: leave it whole, at a place that follows the object
        return min(max(centre, length - reach), reach)
    return min(max(centre, reach - 0.5), length - 0.5 - reach)


def _drifting(rng: np.random.Generator, view: CropView, num_frames: int, *, still_camera: bool) -> list[CropView]:
    """The view of each frame: for real sequences a little stage jitter, for stills a smooth motion."""
    if num_frames == 1:
        return [view]
    if still_camera:
        jitter: NDArray[np.float64] = rng.normal(0, rng.uniform(0, 1.5), (num_frames, 2)) / view.zoom
        jitter *= rng.random() < 0.4
        jitter[0] = 0
        turn: NDArray[np.float64] = np.zeros(num_frames)
        grow: NDArray[np.float64] = np.ones(num_frames)
    else:
        t = np.arange(num_frames, dtype=np.float64)
        pace = rng.uniform(0, 1.2) / view.zoom  # from still to fast
        speed = rng.normal(0, 4.0, 2) * pace
        walk = np.cumsum(rng.normal(0, 1.5, (num_frames, 2)), axis=0) * pace
        jitter = speed * t[:, None] + walk - walk[0]
        turn = rng.normal(0, 0.03) * t
        grow = np.exp(rng.normal(0, 0.02) * t)
    return [
        replace(
            view,
            centre_yx=(view.centre_yx[0] + jitter[k, 0], view.centre_yx[1] + jitter[k, 1]),
            angle=view.angle + turn[k],
            zoom=view.zoom * grow[k],
        )
        for k in range(num_frames)
    ]


@dataclass(frozen=True, eq=False)
class _Wobble:
    """A smooth deformation that walks through time, so that objects move apart from each other.

    ``knots`` is (T, 2, n, n) float32 in crop pixels, or None for no deformation; ``cells`` as for ``smooth_field``.
    """

    cells: int
    knots: NDArray[np.float32] | None

    @classmethod
    def draw(cls, rng: np.random.Generator, num_frames: int, size: int, *, strength: float) -> _Wobble:
        cells = int(rng.integers(3, 8))
        if rng.random() > (0.9 * strength if num_frames > 1 else 0.2):
            return cls(cells, None)
        first = rng.normal(0, 1, (1, 2, cells + 3, cells + 3)) * rng.uniform(0, 0.25)
        drift = rng.normal(0, 1, (1, 2, cells + 3, cells + 3)) * np.arange(num_frames)[:, None, None, None]
        walk = np.cumsum(rng.normal(0, 1, (num_frames, 2, cells + 3, cells + 3)), axis=0)
        # a share of the bump width: the map stays one-to-one
        bump = size / cells
        moves = np.clip(first + strength * (0.02 * drift + 0.03 * walk), -0.16, 0.16) * bump
        return cls(cells, moves.astype(np.float32))

    def at(self, frame: int, size: int, zoom: float) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Displacement (y, x) in source pixels, or None."""
        if self.knots is None:
            return None
        dy = spline_field(self.knots[frame, 0], (size, size))
        dx = spline_field(self.knots[frame, 1], (size, size))
        return dy / np.float32(zoom), dx / np.float32(zoom)


def _cut(
    stack: LabelledStack,
    frame: int,
    view: CropView,
    size: int,
    move: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
    """Image, labels and what lies outside the image, under a view of one frame."""
    ys, xs = view_grid(view, size)
    if move is not None:
        ys, xs = ys + move[0], xs + move[1]
    labels = sample_labels(stack.labels[frame], ys, xs, smooth=view.zoom > 1.2)
    image: NDArray[np.uint8] | NDArray[np.float32] = stack.frames[frame]
    h, w = image.shape[:2]
    black = outside(ys, xs, (h, w))
    if view.zoom < 0.8:
        top, left = min(max(0, int(ys.min()) - 4), h - 2), min(max(0, int(xs.min()) - 4), w - 2)
        bottom, right = max(top + 2, int(ys.max()) + 6), max(left + 2, int(xs.max()) + 6)
        image = mean_pool(image[top:bottom, left:right], 1 / view.zoom)
        ys, xs = ys - np.float32(top), xs - np.float32(left)
    return sample_linear(image, ys, xs), labels, black
