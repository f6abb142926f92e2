"""Choose key frames: the distance follows from the depth of the objects on one frame, which are tracked first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import check_count, check_frame
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.progress import ProgressCallback, ShouldStop, TaskProgress
from napari_sam2.inference.stacks.depth_contrast import contrasts_for_splitting, split_at_minima
from napari_sam2.inference.stacks.report import FoundScores
from napari_sam2.inference.stacks.seed_planes import read_seeds
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings, track_seeds
from napari_sam2.inference.stacks.settings import KeySpacingSettings, StackSettings
from napari_sam2.inference.stacks.unreadable import read_or_skip
from napari_sam2.labels.overlaps import label_areas
from napari_sam2.labels.window import LabelWindow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.labels.protocols import LabelStack

__all__ = ["choose_key_frames", "measure_spacing", "spacing_for", "spans_through", "tracked_window"]


def measure_spacing(
    frames: FrameSource,
    finder: MaskFinder,
    segmenter: ObjectTracker,
    settings: SeedTrackingSettings,
    *,
    keep: KeepRecords | None = None,
    split_stacked: bool | None = None,
    stack_settings: StackSettings = StackSettings(),
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> int | None:
    """Choose the distance of key frames from the depth of objects.

    Objects are detected on the middle frame, or a quarter from either end if there are none, and tracked over the
    largest distance in both directions.

    Parameters
    ----------
    frames : FrameSource
        The stack.
    finder, segmenter, settings
        As in `segment_stack`; the stack of the segmenter is set, its objects are removed.
    keep, split_stacked, stack_settings, on_progress, should_stop : optional
        As in `segment_stack`.

    Returns
    -------
    int or None
        The distance in frames; the largest one if there are no objects or few frames. None if cancelled.
    """
    watch = TaskProgress("measuring object depth", on_progress, should_stop)
    rules, num_frames = stack_settings.key_spacing, len(frames)
    widest = rules.max_spacing
    if num_frames <= rules.min_spacing:
        return widest  # one key frame, in the middle
    for frame in dict.fromkeys((num_frames // 2, num_frames // 4, 3 * num_frames // 4)):
        rgb = read_or_skip(frames, frame)
        if rgb is None:
            continue
        found = automatic_labels(finder, rgb, keep=keep, progress=watch.detecting, should_stop=watch.should_stop)
        if found is None:
            return None
        if found.any():
            break
    else:
        return widest
    window = range(max(0, frame - widest), min(num_frames, frame + widest + 1))
    with LabelWindow(window, frames.shape[1:]) as tracked:
        is_complete = track_seeds(
            segmenter, read_seeds({frame: found}, None, frames.shape), window, tracked, FoundScores(), settings,
            on_progress=watch.report, should_stop=watch.should_stop,
        )  # fmt: skip
        if not is_complete:
            return None
        contrasts = contrasts_for_splitting(
            tracked, frames, window, split_stacked, watch, stack_settings.depth_contrast
        )
        if contrasts is not None:
            parts = [
                part
                for of_frames in contrasts.of_object.values()
                for _, part in split_at_minima(of_frames, stack_settings.depth_contrast)
            ]
            return spacing_for([len(part) for part in parts if frame in part], rules)
        return spacing_for(spans_through(tracked, window, frame), rules)


def spans_through(labels: LabelStack, window: range, frame: int) -> list[int]:
    """Number of consecutive frames in the window on which each object of a frame is visible."""
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


def spacing_for(spans: Sequence[int], rules: KeySpacingSettings = KeySpacingSettings()) -> int:
    """The distance of key frames at which most objects with these spans are on a key frame."""
    if not spans:
        return rules.max_spacing
    depth = np.quantile(spans, 1 - rules.crossed_fraction, method="lower")
    return int(np.clip(rules.margin * depth, rules.min_spacing, rules.max_spacing))


def _ids(plane: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in label_areas(plane)[:, 0]]


def choose_key_frames(num_frames: int, every: int | None, key_frames: object = None) -> list[int] | None:
    """Key frames of a stack, ascending: ``key_frames``, or one in the middle of every ``every`` frames.

    Returns
    -------
    list of int or None
        None if neither is given, so that the distance has to be measured.

    Raises
    ------
    PromptError
        If a number is not allowed.
    """
    if key_frames is not None:
        if isinstance(key_frames, str) or not isinstance(key_frames, Iterable):
            raise PromptError(
                f"key_frames={shown(key_frames)} was given; expected a sequence of frames, such as [5, 15]"
            )
        keys = sorted({check_frame(frame, num_frames) for frame in key_frames})
        if not keys:
            raise PromptError(f"key_frames is empty; give at least one of the frames 0 to {num_frames - 1}")
        return keys
    if every is None:
        return None
    every = check_count("every", every, 1)
    first = min(every // 2, (num_frames - 1) // 2)
    return list(range(first, num_frames, every))


def tracked_window(keys: Sequence[int], index: int, num_frames: int) -> range:
    """Frames from the previous to the next key frame, inclusive, or to the ends of the stack."""
    start = keys[index - 1] if index else 0
    stop = keys[index + 1] + 1 if index + 1 < len(keys) else num_frames
    return range(start, stop)
