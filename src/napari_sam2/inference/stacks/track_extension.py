"""Extend tracks that end at a key frame only because they were not tracked further."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2.labels.overlaps import PlaneOverlaps, label_areas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.labels.protocols import LabelStack

__all__ = ["Extension", "extensions", "open_ends", "paint_extension"]


class Extension(NamedTuple):
    """Frames beyond a key frame at which tracks may have been cut off."""

    key: int
    beside: int
    frames: range


def extensions(keys: Sequence[int], num_frames: int) -> list[Extension]:
    """Extensions forwards from each key frame but the first, then backwards from each but the last.

    A track detected on one key frame was tracked to the neighbouring ones, where it may have been cut off. The order
    allows an extended track to continue into the next extension.
    """
    bounds = [-1, *keys, num_frames]
    found = []
    for i in range(2, len(bounds) - 1):
        end = bounds[i + 1] + 1 if i + 1 < len(bounds) - 1 else num_frames
        found.append(Extension(bounds[i], bounds[i] + 1, range(bounds[i] + 1, end)))
    for i in range(len(bounds) - 3, 0, -1):
        begin = bounds[i - 1] if i > 1 else 0
        found.append(Extension(bounds[i], bounds[i] - 1, range(begin, bounds[i])))
    return [extension for extension in found if len(extension.frames)]


def open_ends(labels: LabelStack, extension: Extension, is_found_on: Callable[[int, int], bool]) -> NDArray[np.int32]:
    """Label image of the key frame with the objects that are cut off there.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W).
    extension : Extension
        The key frame and the frame beyond it.
    is_found_on : callable
        Whether an object was detected on a frame. Such an object was tracked beyond the key frame already, and ended if
        it is not visible there.

    Returns
    -------
    (H, W) int32 array
        All 0 if no track is cut off.
    """
    plane = np.asarray(labels[extension.key])
    beyond = set(label_areas(np.asarray(labels[extension.beside]))[:, 0].tolist())
    cut_off = [
        object_id
        for object_id in label_areas(plane)[:, 0].tolist()
        if object_id not in beyond and not is_found_on(object_id, extension.key)
    ]
    return np.where(np.isin(plane, cut_off), plane, 0).astype(np.int32)


def paint_extension(labels: LabelStack, tracked: LabelStack, frames: range, *, max_claimed: float) -> Collection[int]:
    """Write tracks to unlabelled pixels; tracks covered by other objects by more than ``max_claimed`` are dropped.

    Returns
    -------
    collection of int
        The objects that were written.
    """
    compared = PlaneOverlaps()
    for frame in frames:
        compared.add(np.asarray(labels[frame]), np.asarray(tracked[frame]))
    areas, claimed = compared.areas()[1], dict.fromkeys(compared.areas()[1], 0)
    pairs = compared.overlaps()
    for object_id, shared in zip(pairs.second_ids.tolist(), pairs.intersection.tolist(), strict=True):
        claimed[object_id] += shared
    chosen = [object_id for object_id, area in areas.items() if claimed[object_id] <= max_claimed * area]
    for frame in frames:
        old, new = np.asarray(labels[frame]), np.asarray(tracked[frame])
        rest = np.where((old == 0) & np.isin(new, chosen), new, 0)
        if rest.any():
            labels[frame] = np.where(old > 0, old, rest).astype(np.int32)
    return chosen
