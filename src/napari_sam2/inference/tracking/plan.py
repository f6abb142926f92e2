"""Which objects are tracked over which frames, in which direction, to fill a stack once."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PlannedFrame", "TrackingPlan", "plan_tracking"]


@dataclass(frozen=True)
class PlannedFrame:
    """One frame of a pass: the objects to track there, and whether the result was asked for."""

    frame: int
    object_ids: tuple[int, ...]
    is_reported: bool


@dataclass(frozen=True)
class TrackingPlan:
    """A pass forwards and one backwards; no object comes twice on a frame."""

    forwards: tuple[PlannedFrame, ...]
    backwards: tuple[PlannedFrame, ...]

    @property
    def num_steps(self) -> int:
        """Frames of both passes."""
        return len(self.forwards) + len(self.backwards)

    def frames_met_twice(self) -> frozenset[int]:
        """Frames on which some objects are reported forwards and others backwards."""
        forwards = {step.frame for step in self.forwards if step.is_reported}
        return frozenset(forwards & {step.frame for step in self.backwards if step.is_reported})


def plan_tracking(prompted: Mapping[int, Sequence[int]], limits: range) -> TrackingPlan:
    """Both directions from every prompted frame; between two of them each half from the nearer one.

    Parameters
    ----------
    prompted : mapping of int to sequence of int
        Object number -> its prompted frames, ascending, at least one.
    limits : range
        The frames to fill, ascending.

    Returns
    -------
    TrackingPlan
        Frames outside ``limits`` appear where an object must pass through them, and are not reported.
    """
    forwards: dict[int, list[int]] = defaultdict(list)
    backwards: dict[int, list[int]] = defaultdict(list)
    last = limits.stop - 1
    for object_id, frames in prompted.items():
        ends = [(a + b) // 2 for a, b in itertools.pairwise(frames)]
        for begin, end in zip(frames, [*ends, last], strict=True):
            if min(end, last) >= limits.start:
                for frame in range(begin, min(end, last) + 1):
                    forwards[frame].append(object_id)
        for begin, end in zip(frames, [-1, *ends], strict=True):
            down_to = max(end + 1, limits.start)
            if down_to <= last:
                for frame in range(begin - 1, down_to - 1, -1):
                    backwards[frame].append(object_id)

    def steps(pass_: dict[int, list[int]], *, descending: bool) -> tuple[PlannedFrame, ...]:
        order = sorted(pass_, reverse=descending)
        return tuple(PlannedFrame(frame, tuple(pass_[frame]), frame in limits) for frame in order)

    return TrackingPlan(steps(forwards, descending=False), steps(backwards, descending=True))
