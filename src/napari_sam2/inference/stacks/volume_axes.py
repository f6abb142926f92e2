"""Objects of a volume, tracked along any of its axes, and along several whose results are combined by vote."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from scipy import ndimage

from napari_sam2._arguments import checked
from napari_sam2._checks import as_numbers, check_object_id
from napari_sam2._errors import PromptError
from napari_sam2._messages import Message, Option, shown
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["VolumeLabels", "finish", "segment_along_axes", "track_along_axis", "vote"]

T = TypeVar("T")

_AXES = "ZYX"


@dataclass(frozen=True, eq=False)
class VolumeLabels:
    """Labels of a volume.

    Attributes
    ----------
    labels : numpy.ndarray
        (Z, Y, X) int32; 0 background.
    by_axis : mapping of str to numpy.ndarray
        The labels that tracking along each axis gave, in the same order of axes.
    """

    labels: NDArray[np.int32]
    by_axis: Mapping[str, NDArray[np.int32]]


@checked(PromptError)
def segment_along_axes(
    volume: ArrayLike,
    clicks: Mapping[int, ArrayLike],
    *,
    axes: Sequence[str] = ("Z",),
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    model: SAM2 | str | Path | None = None,
) -> VolumeLabels:
    """Segment objects of a volume from clicks, tracked along one axis or several.

    Along each axis an object is prompted on the planes of its clicks and tracked through the others. Where a plane has
    pixels of unequal sides, it is resampled to square ones for the model; masks are returned on the voxels. Of several
    axes, a voxel belongs to the object that most of them found there, if at least half of them found the same.

    Parameters
    ----------
    volume : (Z, Y, X) array-like
        Intensities; or (Z, Y, X, 3) uint8 RGB.
    clicks : mapping of int to (N, 3) array-like
        Object -> z, y, x of points on it, in voxels.
    axes : sequence of {"Z", "Y", "X"}, default ("Z",)
        Axes to track along.
    voxel_size : sequence of float, default (1, 1, 1)
        Distance of two voxels along z, y and x, in any unit.
    model : SAM2, str, Path or None
        As for ``load_model``.

    Returns
    -------
    VolumeLabels
        Of the combined result, and of each axis.

    Raises
    ------
    PromptError
        If an axis is unknown or given twice, a size is not positive, or a click lies outside the volume.
    """
    image = np.asarray(volume)
    is_rgb = image.ndim == 4 and image.shape[-1] == 3 and image.dtype == np.uint8
    if (image.ndim != 3 and not is_rgb) or 0 in image.shape:
        raise PromptError(f"a volume of shape {image.shape} was given; expected (Z, Y, X), or RGB as uint8")
    names = [str(axis).upper() for axis in axes]
    if not names or len(set(names)) < len(names) or not set(names) <= set(_AXES):
        text = "".join(map(str, axes))
        along = Option("axes", f"axes={shown(text)}", f"--along {text}")
        raise PromptError(Message(along, " was given; expected some of Z, Y and X, each once"))
    sizes = np.asarray(voxel_size, float)
    if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise PromptError(f"voxel_size={list(voxel_size)} was given; expected three distances above 0")
    points = {check_object_id(i): _inside(rows, i, image.shape[:3]) for i, rows in clicks.items()}
    if not points:
        raise PromptError("no click was given; give at least one on an object")
    segmenter = SAM2VideoSegmenter(model)
    found = {}
    for name in names:
        tracking = track_along_axis(segmenter, image, points, name, sizes)
        found[name] = finish(tracking)
    return VolumeLabels(vote(list(found.values()), sorted(points)), found)


def finish(steps: Generator[object, None, T]) -> T:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)


def _inside(rows: ArrayLike, object_id: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    points = np.atleast_2d(as_numbers(rows, f"the clicks of object {object_id}"))
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise PromptError(
            f"clicks of shape {np.shape(rows)} were given for object {object_id}; expected rows of z, y, x"
        )
    if not (np.isfinite(points) & (points > -0.5) & (points < np.array(shape) - 0.5)).all():
        raise PromptError(f"a click of object {object_id} lies outside the volume of shape {shape}")
    return points.astype(np.float64)


def track_along_axis(
    segmenter: SAM2VideoSegmenter,
    image: NDArray[Any],
    clicks: Mapping[int, NDArray[np.float64]],
    axis: str,
    sizes: NDArray[np.float64],
) -> Generator[None, None, NDArray[np.int32]]:
    """Track objects along one axis of a volume.

    Parameters
    ----------
    segmenter : SAM2VideoSegmenter
        Its stack is replaced.
    image : numpy.ndarray
        (Z, Y, X), or (Z, Y, X, 3) uint8 RGB.
    clicks : mapping of int to numpy.ndarray
        Object -> (N, 3) z, y, x of points on it.
    axis : {"Z", "Y", "X"}
        The axis.
    sizes : numpy.ndarray
        (3,) distance of two voxels along z, y and x.

    Returns
    -------
    numpy.ndarray
        (Z, Y, X) int32 labels.

    Yields
    ------
    None
        After each tracked frame.
    """
    at = _AXES.index(axis)
    rest = [a for a in range(3) if a != at]
    planes = np.moveaxis(image, at, 0)
    factors = sizes[rest] / sizes[rest].min()
    shown = planes
    if factors.max() > 1:
        colours = (1,) * (planes.ndim - 3)
        shown = ndimage.zoom(planes, (1, *factors, *colours), order=1, mode="nearest", grid_mode=True)
    scale = np.array(shown.shape[1:3]) / np.array(planes.shape[1:3])
    segmenter.set_video(shown)
    for object_id, rows in clicks.items():
        numbers = np.rint(rows[:, at]).astype(int)
        for plane in np.unique(numbers):
            yx = (rows[numbers == plane][:, rest] + 0.5) * scale - 0.5
            segmenter.add_clicks(int(plane), yx[:, ::-1], object_id=object_id)
    count, height, width = (int(n) for n in shown.shape[:3])
    labels = np.zeros((count, height, width), np.int32)
    for _ in segmenter.track_into(labels):
        yield
    if labels.shape != planes.shape[:3]:
        nearest = [
            np.minimum(((np.arange(n) + 0.5) * s).astype(int), m - 1)
            for n, s, m in zip(planes.shape[1:3], scale, (height, width), strict=True)
        ]
        labels = labels[:, nearest[0][:, None], nearest[1][None, :]]
    return np.ascontiguousarray(np.moveaxis(labels, 0, at)).astype(np.int32)


def vote(labels: Sequence[NDArray[np.int32]], ids: Sequence[int]) -> NDArray[np.int32]:
    """The object with the most votes of each voxel, if they are at least half; of equal ones the lowest number."""
    if len(labels) == 1:
        return labels[0]
    fused = np.zeros_like(labels[0])
    most = np.zeros(fused.shape, np.int8)
    for object_id in ids:
        votes = sum((each == object_id).astype(np.int8) for each in labels)
        is_won = (votes > most) & (2 * votes >= len(labels))
        fused[is_won], most[is_won] = object_id, votes[is_won]
    return fused
