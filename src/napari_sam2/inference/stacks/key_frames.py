"""How far apart key frames may be: as far as objects reach, which those of one frame are followed to find out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.progress import ProgressCallback, ShouldStop, TaskProgress
from napari_sam2.inference.stacks.depth_contrast import contrasts_for_splitting, split_at_minima
from napari_sam2.inference.stacks.report import FoundScores
from napari_sam2.inference.stacks.seed_planes import read_seeds
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings, track_seeds
from napari_sam2.labels.overlaps import label_areas
from napari_sam2.labels.window import LabelWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.inference.progress import ProgressCallback, ShouldStop
    from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings
    from napari_sam2.labels.protocols import LabelStack


__all__ = ["WIDEST", "measure_spacing", "spacing_for", "spans_through"]

WIDEST = 10
"""Frames between key frames at most; longer tracks grow doubtful."""

_CLOSEST = 3
_CROSSED_SHARE = 0.75  # of the objects of a frame: they reach further than the distance of key frames
_MARGIN = 0.75  # of their reach: a frame cuts thick objects more often than thin ones, and tracks run on a little


def measure_spacing(
    frames: FrameSource,
    finder: MaskFinder,
    segmenter: ObjectTracker,
    settings: SeedTrackingSettings,
    *,
    keep: KeepRecords | None = None,
    split_stacked: bool | None = None,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> int | None:
    """Find out how far apart the key frames of a stack may be.

    Everything is found on a frame in the middle of the stack, or a quarter from either end if there is nothing, and
    followed `WIDEST` frames both ways.

    Parameters
    ----------
    frames : FrameSource
        The stack.
    finder, segmenter, settings
        As `segment_stack` uses them; the segmenter has the stack, and forgets its objects.
    keep, split_stacked, on_progress, should_stop : optional
        As for `segment_stack`.

    Returns
    -------
    int or None
        3 to `WIDEST`, which it is too where nothing is found or there are few frames; None if a wish to stop came.
    """
    watch = TaskProgress("how far objects reach", on_progress, should_stop)
    num_frames = len(frames)
    if num_frames <= _CLOSEST:
        return WIDEST  # one key frame, in the middle
    for frame in dict.fromkeys((num_frames // 2, num_frames // 4, 3 * num_frames // 4)):
        found = automatic_labels(
            finder, frames[frame], keep=keep, progress=watch.detecting, should_stop=watch.should_stop
        )
        if found is None:
            return None
        if found.any():
            break
    else:
        return WIDEST
    window = range(max(0, frame - WIDEST), min(num_frames, frame + WIDEST + 1))
    with LabelWindow(window, frames.shape[1:]) as tracked:
        is_complete = track_seeds(
            segmenter, read_seeds({frame: found}, None, frames.shape), window, tracked, FoundScores(), settings,
            on_progress=watch.report, should_stop=watch.should_stop,
        )  # fmt: skip
        if not is_complete:
            return None
        contrasts = contrasts_for_splitting(tracked, frames, window, split_stacked, watch)
        if contrasts is not None:
            parts = [part for of_frames in contrasts.of_object.values() for _, part in split_at_minima(of_frames)]
            return spacing_for([len(part) for part in parts if frame in part])
        return spacing_for(spans_through(tracked, window, frame))


def spans_through(labels: LabelStack, window: range, frame: int) -> list[int]:
    """Over how many frames in a row each object of a frame is seen; as far as the window goes."""
    there = dict.fromkeys(_ids(np.asarray(labels[frame])), 1)
    for way in (range(frame + 1, window.stop), range(frame - 1, window.start - 1, -1)):
        alive = set(there)
        for other in way:
            alive &= set(_ids(np.asarray(labels[other])))
            if not alive:
                break
            for object_id in alive:
                there[object_id] += 1
    return list(there.values())


def spacing_for(spans: Sequence[int]) -> int:
    """The distance of key frames through which three quarters of objects with these spans cannot slip."""
    if not spans:
        return WIDEST
    reach = np.quantile(spans, 1 - _CROSSED_SHARE, method="lower")
    return int(np.clip(_MARGIN * reach, _CLOSEST, WIDEST))


def _ids(plane: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in label_areas(plane)[:, 0]]


def choose_key_frames(num_frames: int, every: int | None, key_frames: Sequence[int] | None = None) -> list[int] | None:
    """Key frames of a stack, ascending: those given, or one in the middle of every ``every`` frames.

    Returns
    -------
    list of int or None
        None if neither is given: the distance is to be found out.

    Raises
    ------
    PromptError
        If a number is not allowed.
    """
    if key_frames is not None:
        keys = sorted({int(frame) for frame in key_frames})
        if not keys or keys[0] < 0 or keys[-1] >= num_frames:
            raise PromptError(f"key_frames={list(key_frames)} were given; allowed are frames 0 to {num_frames - 1}")
        return keys
    if every is None:
        return None
    if isinstance(every, bool) or int(every) != every or every < 1:
        raise PromptError(f"every={every!r} was given; allowed are whole numbers from 1")
    first = min(every // 2, (num_frames - 1) // 2)
    return list(range(first, num_frames, int(every)))


def _window(keys: Sequence[int], index: int, num_frames: int) -> range:
    """From the key frame before to the one after, both included; to the ends of the stack at the ends."""
    start = keys[index - 1] if index else 0
    stop = keys[index + 1] + 1 if index + 1 < len(keys) else num_frames
    return range(start, stop)
