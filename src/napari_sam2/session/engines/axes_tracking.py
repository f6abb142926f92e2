"""Objects of a volume tracked along some of its axes, as planes of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.inference.requests import AxesRequest, TrackStep
from napari_sam2.inference.stacks.volume_axes import track_along_axis, vote
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.session.engines.tracked_planes import TrackedPlane
from napari_sam2.session.state.records import ObjectMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2

__all__ = ["track_axes"]


def track_axes(
    model: SAM2, frames: FrameSource, request: AxesRequest, should_stop: Callable[[], bool]
) -> Iterator[TrackedPlane]:
    """Track objects along each axis and fuse the results by vote.

    Parameters
    ----------
    model : SAM2
        The network.
    frames : FrameSource
        The planes of the session; those of the clip are read into memory.
    request : AxesRequest
        What to track.
    should_stop : callable
        Called between frames; returns True to cancel.

    Yields
    ------
    TrackedPlane
        An empty one for each tracked frame, then the masks of each plane. The predicted IoU of a mask is the mean IoU
        of the axes' masks with it, where there are several axes.
    """
    clip = request.clip
    volume = np.stack([frames[plane] for plane in clip])
    segmenter, found = SAM2VideoSegmenter(model), []
    for axis in request.axes:
        steps = track_along_axis(segmenter, volume, request.clicks, axis, np.array(request.voxel_size))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found.append(end.value)
                break
            if should_stop():
                return
            yield TrackedPlane(TrackStep(clip.start, reverse=False, object_ids=(), reported_ids=()), {})
    fused = vote(found, sorted(request.clicks))
    for plane in clip:
        ids = tuple(i for i in request.clicks if plane in request.wanted[i])
        at = plane - clip.start
        masks = {i: _mask(fused[at] == i, [each[at] == i for each in found]) for i in ids}
        yield TrackedPlane(TrackStep(plane, reverse=False, object_ids=ids, reported_ids=ids), masks)


def _mask(fused: NDArray[np.bool_], each: list[NDArray[np.bool_]]) -> ObjectMask:
    if len(each) == 1 or not fused.any():
        return ObjectMask.pack(fused, "tracked")
    return ObjectMask.pack(fused, "tracked", float(np.mean([(fused & m).sum() / (fused | m).sum() for m in each])))
