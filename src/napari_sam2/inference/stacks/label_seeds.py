"""Track objects given as label images on some frames through a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import check_count, check_out
from napari_sam2._errors import PromptError
from napari_sam2.frames import open_frames
from napari_sam2.frames.stack import LazyArray
from napari_sam2.inference.progress import ProgressCallback, ShouldStop
from napari_sam2.inference.stacks.report import FoundScores, TrackedLabels, describe_tracks
from napari_sam2.inference.stacks.seed_planes import read_seeds
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings, track_seeds
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.labels.protocols import LabelStack

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2

__all__ = ["segment_seeds"]


@checked(PromptError)
def segment_seeds(
    stack: FrameSource | ArrayLike | str | Path,
    labels: ArrayLike | LazyArray | Mapping[int, ArrayLike],
    frames: int | Sequence[int] | None = None,
    *,
    model: SAM2 | str | Path | None = None,
    segmenter: ObjectTracker | None = None,
    start: int = 0,
    stop: int | None = None,
    min_area_px: int = 1,
    min_score: float = 0.0,
    give_up_after: int | None = None,
    out: LabelStack | None = None,
    memory_bytes: int = 2**30,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> TrackedLabels:
    """Track labelled objects through a stack, such as labels from Cellpose or StarDist, or manual annotations.

    Each label is a mask prompt. Objects keep their numbers and are tracked in both directions from each labelled frame,
    between two of them from the nearer one. Given labels are not changed, except where objects overlap. One frame is
    read at a time, and as many objects are tracked together as ``memory_bytes`` allows.

    Parameters
    ----------
    stack : FrameSource, array or path
        Anything `open_frames` reads.
    labels : (H, W) or (N, H, W) integer array-like, or mapping of int to (H, W)
        Labels of the objects; 0 is background. Zarr and dask arrays are read plane by plane.
    frames : int or sequence of int, optional
        Frames of the planes of ``labels``. If ``labels`` has a plane for every frame of the stack, the frames to use;
        default all with a label.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    segmenter : SAM2VideoSegmenter, optional
        Used in place of ``model``, with its settings and cache; its stack and objects are replaced.
    start, stop : int, optional
        Frames to fill, as in ``range(start, stop)``; default all.
    min_area_px : int, default 1
        Ignore labels with fewer pixels on a frame.
    min_score : float, default 0.0
        Drop tracked masks with a lower predicted IoU, 0 to 1. Given labels are kept.
    give_up_after : int, optional
        Stop tracking an object in a direction after this many consecutive empty frames. This saves most of the time if
        objects are much shorter than the stack. It does not apply to objects labelled on several frames.
    out : array, optional
        (T, H, W) array of zeros to write into, such as a zarr array. Default: a new array.
    memory_bytes : int, default 1 GiB
        Memory for the masks of the objects tracked together.
    on_progress : callable, optional
        Called with the stage, the steps done and the steps in total.
    should_stop : callable, optional
        Called between steps; returns True to cancel. Finished frames are returned.

    Returns
    -------
    TrackedLabels
        ``labels`` (T, H, W) int32 and ``report``, with the objects that were lost, and where.

    Raises
    ------
    PromptError
        If shapes, frames or labels do not fit, or there is no label.
    FrameError
        If the stack cannot be read.

    Examples
    --------
    >>> tracked = segment_seeds("cells.ome.tif", cellpose_masks, frames=10)
    >>> tracked.report.lost
    {4: 17}
    """
    source = open_frames(stack)  # type: ignore[arg-type]
    seeds = read_seeds(labels, frames, source.shape, min_area_px=min_area_px)
    limits = _limits(start, stop, len(source))
    settings = SeedTrackingSettings(min_score, memory_bytes, give_up_after)
    tracker = SAM2VideoSegmenter(model) if segmenter is None else segmenter
    tracker.set_video(source)
    if out is not None:
        check_out(out, source.shape, max(seeds.frames_of))
    target = np.zeros(source.shape, np.int32) if out is None else out
    scores = FoundScores()
    is_complete = track_seeds(
        tracker, seeds, limits, target, scores, settings, on_progress=on_progress, should_stop=should_stop
    )
    report = describe_tracks(target, limits, seeds.frames_of, scores, is_complete=is_complete)
    return TrackedLabels(target, report)  # type: ignore[arg-type]  # out is returned as it is


def _limits(start: int, stop: int | None, num_frames: int) -> range:
    start = check_count("start", start, 0)
    end = num_frames if stop is None else check_count("stop", stop, 0)
    if not 0 <= start < end <= num_frames:
        raise PromptError(f"start={start} and stop={end} were given; expected 0 <= start < stop <= {num_frames}")
    return range(start, end)
