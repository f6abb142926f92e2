"""Split bright objects that are stacked in z at minima of their contrast, and trim out-of-focus light.

Out-of-focus light leads a track from one nucleus into the next. Between them, and beyond the last one, the masks are
hardly brighter than the background. Near the top and bottom of a nucleus the in-focus section is surrounded by blur
from its middle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_sam2.inference.stacks.settings import DepthContrastSettings
from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.overlaps import label_areas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.inference.progress import TaskProgress
    from napari_sam2.labels.protocols import LabelStack

__all__ = [
    "Contrasts",
    "SplitObject",
    "contrasts_for_splitting",
    "drop_flat_objects",
    "measure_contrasts",
    "split_at_minima",
    "split_labels",
    "trim_labels",
]


class Contrasts(NamedTuple):
    """Contrast of objects with their background.

    Attributes
    ----------
    of_object : dict of int to dict of int to float
        Object -> frame -> contrast in grey levels, for frames with object and background pixels.
    of_background : dict of int to dict of int to float
        Object -> frame -> mean grey level of the background, for the same frames.
    is_bright : bool
        Whether objects are bright on a dark background, as in fluorescence; only then does contrast measure their
        light.
    """

    of_object: dict[int, dict[int, float]]
    of_background: dict[int, dict[int, float]]
    is_bright: bool


class SplitObject(NamedTuple):
    """One of the objects in a track: its number, that of the track, and its frames, ascending."""

    number: int
    source_id: int
    frames: tuple[int, ...]


def contrasts_for_splitting(
    labels: LabelStack,
    frames: FrameSource,
    window: range,
    split_stacked: bool | None,
    watch: TaskProgress,
    settings: DepthContrastSettings = DepthContrastSettings(),
) -> Contrasts | None:
    """Measure contrasts if stacked objects are to be split.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W).
    frames : FrameSource
        The stack.
    window : range
        Frames to measure.
    split_stacked : bool or None
        As in ``segment_stack``.
    watch : TaskProgress
        Progress and cancellation.
    settings : DepthContrastSettings, optional
        Tuned constants.

    Returns
    -------
    Contrasts or None
        None if objects are not to be split: ``split_stacked`` is False, or it is None and the frames are time points,
        there is only one frame, or the objects are not bright on dark. Also None if cancelled.
    """
    is_no_stack = len(frames) < 2 or getattr(frames, "frame_axis", None) == "T"
    if split_stacked is False or (split_stacked is None and is_no_stack):
        return None
    contrasts = measure_contrasts(labels, frames, watch.frames(window, "measuring contrast"), settings)
    if watch.is_cancelled:
        return None
    return contrasts if contrasts.is_bright or split_stacked else None


def measure_contrasts(
    labels: LabelStack,
    frames: FrameSource,
    window: Iterable[int],
    settings: DepthContrastSettings = DepthContrastSettings(),
) -> Contrasts:
    """Compare each object with its background, frame by frame; one frame is in memory at a time."""
    of_object: dict[int, dict[int, float]] = {}
    of_background: dict[int, dict[int, float]] = {}
    separability: dict[int, list[float]] = {}
    for frame in window:
        plane = np.asarray(labels[frame])
        if not plane.any():
            continue
        grey = frames[frame].mean(-1)
        for object_id, box in enumerate(ndimage.find_objects(plane), 1):
            if box is None:
                continue
            wide = tuple(slice(max(side.start - settings.ring[1], 0), side.stop + settings.ring[1]) for side in box)
            ring = _background(plane[wide], object_id, settings.ring)
            if not ring.any():
                continue
            around, inside = grey[wide][ring], grey[wide][plane[wide] == object_id]
            contrast = float(inside.mean() - around.mean())
            of_object.setdefault(object_id, {})[frame] = contrast
            of_background.setdefault(object_id, {})[frame] = float(around.mean())
            separability.setdefault(object_id, []).append(_probability_brighter(inside, around))
    if not separability:
        return Contrasts(of_object, of_background, is_bright=False)
    share = np.mean([np.median(values) > 0.5 for values in separability.values()])
    is_separable = np.median([max(values) for values in separability.values()]) >= settings.min_separability
    return Contrasts(of_object, of_background, bool(share >= settings.min_bright_fraction and is_separable))


def _probability_brighter(inside: NDArray[np.float64], around: NDArray[np.float64]) -> float:
    """Probability, 0 to 1, that a pixel inside is brighter than one around; equal pixels count as half."""
    ordered = np.sort(around)
    below, up_to = (np.searchsorted(ordered, inside, side).mean() for side in ("left", "right"))
    return float(below + up_to) / (2 * len(ordered))


def _background(labels: NDArray[np.integer], object_id: int, widths: tuple[int, int]) -> NDArray[np.bool_]:
    """The background pixels around an object; none if it fills the image."""
    mask = labels == object_id
    near, reach = (ndimage.binary_dilation(mask, iterations=width) for width in widths)
    ring: NDArray[np.bool_] = reach & ~near
    free = ring & (labels == 0)
    # include neighbouring objects if little else is there
    return free if 2 * free.sum() >= ring.sum() else ring


def split_at_minima(
    contrasts: Mapping[int, float], settings: DepthContrastSettings = DepthContrastSettings()
) -> list[tuple[float, list[int]]]:
    """Split a track at minima of its contrast.

    Parameters
    ----------
    contrasts : mapping of int to float
        Frame -> contrast.
    settings : DepthContrastSettings, optional
        Tuned constants.

    Returns
    -------
    list of (float, list of int)
        Maximum contrast and frames, ascending, of each object in the track.
    """
    frames = sorted(contrasts)
    values = np.array([contrasts[frame] for frame in frames])
    smooth = _smoothed(values)
    parts = []
    for start, stop in _between_minima(smooth, 0, len(smooth), settings.max_minimum):
        peak = start + int(smooth[start:stop].argmax())
        if smooth[peak] <= 0:
            continue
        first, last = peak, peak
        while first > start and smooth[first - 1] >= settings.end * smooth[peak]:
            first -= 1
        while last < stop - 1 and smooth[last + 1] >= settings.end * smooth[peak]:
            last += 1
        parts.append((float(smooth[peak]), frames[first : last + 1]))
    return parts


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.pad(values, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")


def _between_minima(values: NDArray[np.float64], start: int, stop: int, max_minimum: float) -> list[tuple[int, int]]:
    """Intervals (start, stop) without a minimum, split at the deepest one first."""
    inner = range(start + 1, stop - 1)
    lower = {i: min(values[start:i].max(), values[i + 1 : stop].max()) for i in inner}
    minima = [i for i in inner if lower[i] > 0 and values[i] <= max_minimum * lower[i]]
    if not minima:
        return [(start, stop)]
    deepest = min(minima, key=lambda i: values[i] / lower[i])
    return _between_minima(values, start, deepest, max_minimum) + _between_minima(values, deepest, stop, max_minimum)


def split_labels(
    labels: LabelStack,
    contrasts: Contrasts,
    seed_frames: Mapping[int, Sequence[int]],
    num_frames: int,
    settings: DepthContrastSettings = DepthContrastSettings(),
) -> list[SplitObject]:
    """Give each object in a track its own number, and remove the frames between them.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), changed in place.
    contrasts : Contrasts
        Contrasts on all frames.
    seed_frames : mapping of int to sequence of int
        Object -> key frames on which it was detected, for all objects. Faint objects that were not detected on a key
        frame are removed.
    num_frames : int
        T.
    settings : DepthContrastSettings, optional
        Tuned constants.

    Returns
    -------
    list of SplitObject
        All objects that were split or shortened. The first one detected on a key frame keeps the number.
    """
    parts = {i: split_at_minima(of_frames, settings) for i, of_frames in contrasts.of_object.items()}
    peaks = [peak for several in parts.values() for peak, _ in several]
    faint = settings.min_peak * float(np.median(peaks)) if peaks else 0.0
    next_id = max((*contrasts.of_object, *seed_frames), default=0) + 1
    pieces: list[SplitObject] = []
    for object_id, several in parts.items():
        seeds = set(seed_frames.get(object_id, ()))
        found = [frames for peak, frames in several if seeds & set(frames) or peak >= faint]
        found.sort(key=lambda frames: not seeds & set(frames))  # stable: objects detected on a key frame come first
        for frames in found:
            is_first = frames is found[0]
            pieces.append(SplitObject(object_id if is_first else next_id, object_id, tuple(frames)))
            next_id += not is_first
    _renumber(labels, contrasts, pieces, next_id, num_frames)
    return pieces


def _renumber(
    labels: LabelStack, contrasts: Contrasts, pieces: Sequence[SplitObject], num_ids: int, num_frames: int
) -> None:
    on_frame: list[list[SplitObject]] = [[] for _ in range(num_frames)]
    for piece in pieces:
        for frame in piece.frames:
            on_frame[frame].append(piece)
    split = {piece.source_id for piece in pieces}  # objects of which nothing would be left are not changed
    for frame in range(num_frames):
        plane = np.asarray(labels[frame])
        if not plane.any():
            continue
        lookup = np.arange(num_ids, dtype=np.int32)
        lookup[[i for i in split if frame in contrasts.of_object[i]]] = 0
        for piece in on_frame[frame]:
            lookup[piece.source_id] = piece.number
        labels[frame] = lookup[plane]


def trim_labels(
    labels: LabelStack,
    contrasts: Contrasts,
    frames: FrameSource,
    window: Iterable[int],
    settings: DepthContrastSettings = DepthContrastSettings(),
) -> None:
    """Remove pixels of objects that are dominated by out-of-focus light.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), changed in place.
    contrasts : Contrasts
        Contrasts of these labels on all frames.
    frames : FrameSource
        The stack they were measured on.
    window : iterable of int
        Frames to trim.
    settings : DepthContrastSettings, optional
        Tuned constants.
    """
    peaks = {i: float(_smoothed(np.array([c[t] for t in sorted(c)])).max()) for i, c in contrasts.of_object.items()}
    for frame in window:
        plane = np.array(labels[frame])
        if not plane.any():
            continue
        grey = ndimage.gaussian_filter(frames[frame].mean(-1), settings.smoothing_px)
        for object_id, box in enumerate(ndimage.find_objects(plane), 1):
            if box is None or frame not in contrasts.of_object.get(object_id, ()) or peaks[object_id] <= 0:
                continue
            lowest = contrasts.of_background[object_id][frame] + settings.outline * peaks[object_id]
            mask = plane[box] == object_id
            own = _without_specks(mask & (grey[box] >= lowest), settings.min_component)
            if own.any():  # masks that would vanish are not changed
                plane[box][mask & ~own] = 0
        labels[frame] = plane


def drop_flat_objects(
    labels: LabelStack, num_frames: int, settings: DepthContrastSettings = DepthContrastSettings()
) -> list[int]:
    """Remove objects with too few planes for their width, which are out-of-focus light of other objects.

    Objects on the first or last plane are kept, as most of them may lie outside the stack.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W), changed in place.
    num_frames : int
        T.
    settings : DepthContrastSettings, optional
        Tuned constants.

    Returns
    -------
    list of int
        The removed objects.
    """
    flat = _flat_objects(labels, num_frames, settings)
    for frame in range(num_frames) if flat else ():
        plane = np.array(labels[frame])
        plane[np.isin(plane, flat)] = 0
        labels[frame] = plane
    return flat


def _flat_objects(labels: LabelStack, num_frames: int, settings: DepthContrastSettings) -> list[int]:
    planes: Counter[int] = Counter()
    widest: dict[int, int] = {}
    at_end: set[int] = set()
    for frame in range(num_frames):
        found = label_areas(np.asarray(labels[frame])).tolist()
        planes.update(object_id for object_id, _ in found)
        widest |= {object_id: max(area, widest.get(object_id, 0)) for object_id, area in found}
        if frame in (0, num_frames - 1):
            at_end.update(object_id for object_id, _ in found)
    height = {i: count / math.sqrt(widest[i]) for i, count in planes.items() if i not in at_end}
    if len(height) < settings.min_objects:
        return []
    typical = float(np.median(list(height.values())))
    return [i for i, of_object in height.items() if of_object < settings.min_relative_depth * typical]


def _without_specks(mask: NDArray[np.bool_], min_component: float) -> NDArray[np.bool_]:
    """The mask with holes filled and small components removed."""
    numbers, areas = find_pieces(ndimage.binary_fill_holes(mask), connectivity=4)
    kept: NDArray[np.bool_] = (areas > min_component * areas.max())[numbers]
    return kept
