"""Seeds are prompted and tracked in groups that fit into memory, each frame painted as it is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2._types import FrameResult, Prompt
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

_BYTES_PER_PIXEL = 14  # logits of a frame, on their way from the network into the label image
_NOT_SEEN = -32.0
"""Logit of the pixels of a mask that does not count."""


class ObjectTracker(Protocol):
    """What is needed of ``SAM2VideoSegmenter``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the stack."""

    def set_video(self, frames: FrameSource, /) -> None:
        """Choose the stack."""

    def reset(self) -> None:
        """Forget all objects."""

    def add_prompt(self, frame: int, prompt: Prompt, *, object_id: int) -> FrameResult:
        """Prompt an object."""

    def remove_object(self, object_id: int) -> None:
        """Forget one object; also while its frames are tracked."""

    def track_frames(self, *, start: int, stop: int | None) -> Iterator[FrameResult]:
        """The frames from start to stop, each with logits."""


@dataclass(frozen=True)
class SeedTrackingSettings:
    """What counts as seen, and how much is held.

    Attributes
    ----------
    min_score : float
        Tracked masks with a lower predicted IoU, 0 to 1, count as not seen.
    memory_bytes : int
        What the masks of the objects tracked at once may take.
    give_up_after : int or None
        An object not seen on so many frames in a row is sought no further in that direction; None: always sought.
        Objects given on several frames are not given up.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    min_score: float = 0.0
    memory_bytes: int = 2**30
    give_up_after: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise PromptError(f"min_score={self.min_score:g} was given; allowed is 0 to 1")
        if self.memory_bytes < 1:
            raise PromptError(f"memory_bytes={self.memory_bytes} was given; allowed are positive numbers")
        if self.give_up_after is not None and self.give_up_after < 1:
            raise PromptError(
                f"give_up_after={self.give_up_after} was given; allowed are whole numbers from 1, or None"
            )


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
    """Prompt and track in groups that fit into memory; frames in ``limits`` are written into ``labels``.

    Parameters
    ----------
    segmenter : ObjectTracker
        With its stack set; its objects are replaced, and forgotten at the end.
    seeds : Seeds
        What to track.
    limits : range
        Frames to fill, ascending.
    labels : LabelStack
        (T, H, W), zero on these frames.
    scores : FoundScores
        Gets the predicted IoU of each frame.
    settings : SeedTrackingSettings
        What counts as seen, and how much is held.
    on_progress, should_stop : callable, optional
        As in `segment_seeds`.

    Returns
    -------
    bool
        False if a wish to stop came before the end.
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
        if number:  # objects given up on the way forwards are sought backwards too
            segmenter.reset()
            for _ in _prompts(segmenter, seeds, group):
                pass
        missed = dict.fromkeys(group, 0)
        for result in segmenter.track_frames(start=stretch.start, stop=stretch.stop):
            seen = _without_doubtful(result, settings.min_score)
            canvas.paint(seen)
            scores.add(seen)
            if settings.give_up_after is not None and all(len(seeds.frames_of[i]) == 1 for i in group):
                for object_id, mask in zip(seen.object_ids, seen.masks, strict=True):
                    missed[object_id] = 0 if mask.any() else missed[object_id] + 1
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
    """The frames to fill; in two directions one after the other where objects may be given up in each."""
    frames = {tuple(seeds.frames_of[i]) for i in group}
    if settings.give_up_after is None or len(frames) > 1 or len(next(iter(frames))) > 1:
        return [limits]
    (key,) = next(iter(frames))
    both = (range(max(key, limits.start), limits.stop), range(limits.start, min(key, limits.stop)))
    return [stretch for stretch in both if len(stretch)]


def _without_doubtful(result: FrameResult, min_score: float) -> FrameResult:
    """The result with the masks emptied that were tracked with a predicted IoU below ``min_score``."""
    prompted = np.array(result.is_prompted or (False,) * len(result.object_ids), bool)
    doubtful = (result.iou_scores < min_score) & ~prompted
    if not doubtful.any() or result.logits is None:
        return result
    masks, logits = result.masks.copy(), result.logits.copy()
    masks[doubtful], logits[doubtful] = False, _NOT_SEEN
    return replace(result, masks=masks, logits=logits)


def plan_groups(
    frames_of: Mapping[int, Sequence[int]], num_pixels: int, memory_bytes: int, *, one_frame_each: bool = False
) -> list[list[int]]:
    """Objects in groups whose masks fit into ``memory_bytes``, each at least one object.

    Objects first drawn on the same frame stay together as far as possible: they go through the network in batches.
    With ``one_frame_each`` only objects drawn on exactly the same frames are together.
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
