"""Prompt and track labelled objects in groups that fit into memory, writing each frame as it is tracked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2._checks import check_count, check_number
from napari_sam2._types import FrameResult, LogitWindow, Prompt
from napari_sam2.inference.stacks.report import FoundScores
from napari_sam2.inference.tracking.plan import plan_tracking
from napari_sam2.labels.canvas import LabelCanvas
from napari_sam2.labels.overlaps import label_areas

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.inference.progress import ProgressCallback, ShouldStop
    from napari_sam2.inference.stacks.seed_planes import Seeds
    from napari_sam2.labels.protocols import LabelStack

__all__ = ["ObjectTracker", "SeedTrackingSettings", "plan_groups", "track_seeds"]

_BYTES_PER_PIXEL = 14  # per object: logits and masks of a frame, from the network to the label image


class ObjectTracker(Protocol):
    """The part of ``SAM2VideoSegmenter`` that is used here."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the stack."""

    def set_video(self, frames: FrameSource, /) -> None:
        """Set the stack."""

    def reset(self) -> None:
        """Remove all objects."""

    def add_prompt(self, frame: int, prompt: Prompt, *, object_id: int) -> FrameResult:
        """Prompt an object."""

    def remove_object(self, object_id: int) -> None:
        """Remove one object; allowed during tracking."""

    def track_frames(self, *, start: int, stop: int | None, lost_after: int | None) -> Iterator[FrameResult]:
        """Track the frames from start to stop, with logits."""


@dataclass(frozen=True)
class SeedTrackingSettings:
    """When tracked masks count, when tracking stops, and how much memory it uses.

    Attributes
    ----------
    min_score : float
        Drop tracked masks with a lower predicted IoU, 0 to 1.
    memory_bytes : int
        Memory for the masks of the objects tracked together.
    give_up_after : int or None
        Stop tracking an object in a direction after this many consecutive empty frames; None: never. It does not apply
        to objects with seeds on several frames.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    min_score: float = 0.0
    memory_bytes: int = 2**30
    give_up_after: int | None = None

    def __post_init__(self) -> None:
        check_number("min_score", self.min_score, 0, 1)
        check_count("memory_bytes", self.memory_bytes, 1)
        if self.give_up_after is not None:
            check_count("give_up_after", self.give_up_after, 1)


def track_seeds(
    segmenter: ObjectTracker,
    seeds: Seeds,
    limits: range,
    labels: LabelStack,
    scores: FoundScores,
    settings: SeedTrackingSettings,
    *,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> bool:
    """Prompt and track objects in groups that fit into memory, and write the frames in ``limits`` to ``labels``.

    Parameters
    ----------
    segmenter : ObjectTracker
        With its stack set; its objects are replaced, and removed at the end.
    seeds : Seeds
        Objects to track.
    limits : range
        Frames to fill, ascending.
    labels : LabelStack
        (T, H, W), zero on these frames.
    scores : FoundScores
        The predicted IoU of each frame is added to it.
    settings : SeedTrackingSettings
        When masks count, when tracking stops, and memory.
    on_progress, should_stop : callable, optional
        As in `segment_seeds`.

    Returns
    -------
    bool
        False if cancelled.
    """
    _, h, w = segmenter.shape
    is_sorted = settings.give_up_after is not None
    groups = plan_groups(seeds.frames_of, h * w, settings.memory_bytes, one_frame_each=is_sorted)
    plans = [plan_tracking({i: seeds.frames_of[i] for i in group}, limits) for group in groups]
    total = sum(plan.num_steps for plan in plans) + sum(len(frames) for frames in seeds.frames_of.values())
    contested = limits if len(groups) > 1 else plans[0].frames_met_twice()
    done = 0
    with LabelCanvas(labels, (h, w), contested) as canvas:
        for group in groups:
            segmenter.reset()
            for _ in _steps(segmenter, seeds, group, limits, canvas, scores, settings):
                done += 1
                if on_progress is not None:
                    on_progress("tracking", done, total)
                if should_stop is not None and should_stop():
                    segmenter.reset()
                    return False
    segmenter.reset()
    return True


def _steps(
    segmenter: ObjectTracker,
    seeds: Seeds,
    group: Sequence[int],
    limits: range,
    canvas: LabelCanvas,
    scores: FoundScores,
    settings: SeedTrackingSettings,
) -> Iterator[None]:
    """Prompt a group, object by object, then track it, frame by frame."""
    yield from _prompts(segmenter, seeds, group)
    for number, stretch in enumerate(_stretches(seeds, group, limits, settings)):
        if number:  # objects removed in the forward pass are tracked backwards too
            segmenter.reset()
            for _ in _prompts(segmenter, seeds, group):
                pass
        missed = dict.fromkeys(group, 0)
        for result in segmenter.track_frames(start=stretch.start, stop=stretch.stop, lost_after=None):
            kept = _without_low_scores(result, settings.min_score)
            canvas.paint(kept)
            scores.add(kept)
            if settings.give_up_after is not None and all(len(seeds.frames_of[i]) == 1 for i in group):
                for object_id, area in zip(kept.object_ids, kept.areas.tolist(), strict=True):
                    missed[object_id] = 0 if area else missed[object_id] + 1
                    if missed[object_id] == settings.give_up_after:
                        segmenter.remove_object(object_id)
            yield


def _prompts(segmenter: ObjectTracker, seeds: Seeds, group: Sequence[int]) -> Iterator[None]:
    chosen = set(group)
    for frame in sorted({frame for i in group for frame in seeds.frames_of[i]}):
        plane = seeds.planes[frame]
        for object_id in label_areas(plane)[:, 0].tolist():
            if object_id in chosen and frame in seeds.frames_of[object_id]:
                segmenter.add_prompt(frame, Prompt(mask=plane == object_id), object_id=object_id)
                yield


def _stretches(seeds: Seeds, group: Sequence[int], limits: range, settings: SeedTrackingSettings) -> list[range]:
    """The frames to fill; one range per direction if tracking of objects can stop in each."""
    frames = {tuple(seeds.frames_of[i]) for i in group}
    if settings.give_up_after is None or len(frames) > 1 or len(next(iter(frames))) > 1:
        return [limits]
    (key,) = next(iter(frames))
    both = (range(max(key, limits.start), limits.stop), range(limits.start, min(key, limits.stop)))
    return [stretch for stretch in both if len(stretch)]


def _without_low_scores(result: FrameResult, min_score: float) -> FrameResult:
    """The result without tracked masks of a predicted IoU below ``min_score``."""
    prompted = np.array(result.is_prompted or (False,) * len(result.object_ids), bool)
    is_dropped = (result.iou_scores < min_score) & ~prompted
    empty = LogitWindow(0, 0, np.zeros((0, 0), np.float32))
    windows = [empty if drop else window for drop, window in zip(is_dropped, result.windows, strict=True)]
    return replace(result, windows=tuple(windows))


def plan_groups(
    frames_of: Mapping[int, Sequence[int]], num_pixels: int, memory_bytes: int, *, one_frame_each: bool = False
) -> list[list[int]]:
    """Group objects so that their masks fit into ``memory_bytes``, at least one per group.

    Objects with the same first seed frame are grouped together if possible, as they are tracked in batches. With
    ``one_frame_each`` only objects with the same seed frames share a group.
    """
    order = sorted(frames_of, key=lambda i: (len(frames_of[i]) if one_frame_each else 0, *frames_of[i], i))
    groups: list[list[int]] = []
    held = memory_bytes + 1
    for object_id in order:
        needed = num_pixels * (_BYTES_PER_PIXEL + len(frames_of[object_id]))
        is_other = one_frame_each and bool(groups) and list(frames_of[groups[-1][0]]) != list(frames_of[object_id])
        if held + needed > memory_bytes or is_other:
            groups.append([])
            held = 0
        groups[-1].append(object_id)
        held += needed
    return groups
