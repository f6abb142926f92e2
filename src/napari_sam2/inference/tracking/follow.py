"""Follow the steps of a plan, and stop tracking objects that are lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from napari_sam2._types import FrameResult
from napari_sam2.inference.requests import TrackStep
from napari_sam2.inference.tracking.object_frames import ObjectFrames
from napari_sam2.inference.tracking.tracked_object import TrackedObject

__all__ = ["follow_steps"]


def follow_steps(
    frames: ObjectFrames,
    objects: Mapping[int, TrackedObject],
    steps: Sequence[TrackStep],
    *,
    lost_after: int | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[TrackStep, FrameResult]]:
    """Track objects step by step.

    Parameters
    ----------
    frames : ObjectFrames
        The stack.
    objects : mapping of int to TrackedObject
        Objects by number; those removed during tracking are skipped from the next step on.
    steps : sequence of TrackStep
        The plan.
    lost_after : int or None
        Stop tracking an object in a direction after this many consecutive frames without it, until its next prompt;
        None: never.
    should_stop : callable, optional
        Called between frames; returns True to cancel.

    Yields
    ------
    tuple of (TrackStep, FrameResult)
        With logits. Objects prompted on the frame come first, in the order of their prompts. Lost objects are missing.
    """
    absent: dict[tuple[int, bool], int] = {}
    planned = {object_id for step in steps for object_id in step.object_ids}
    for step in steps:
        if should_stop():
            return
        active = [objects[i] for i in step.object_ids if i in objects]
        for tracked in active:
            if _restarts(tracked, step):
                absent.pop((tracked.object_id, step.reverse), None)
        if lost_after is not None:
            active = [t for t in active if absent.get((t.object_id, step.reverse), 0) < lost_after]
        active.sort(key=lambda t: t.prompts[step.frame].stamp if step.frame in t.prompts else math.inf)
        others = [tracked for object_id, tracked in objects.items() if object_id in planned]
        with torch.inference_mode():
            result = frames.advance(active, step.frame, reverse=step.reverse, return_logits=True, others=others)
        if not result.is_usable:  # says nothing about the objects
            yield step, result
            continue
        for i, score, is_prompted in zip(result.object_ids, result.object_scores, result.is_prompted, strict=True):
            is_absent = score <= 0 and not is_prompted
            absent[i, step.reverse] = absent.get((i, step.reverse), 0) + 1 if is_absent else 0
        yield step, result


def _restarts(tracked: TrackedObject, step: TrackStep) -> bool:
    """Whether the object is prompted here or on the previous frame, so that tracking of a lost object resumes."""
    before = step.frame + (1 if step.reverse else -1)
    return before in tracked.prompts or step.frame in tracked.prompts
