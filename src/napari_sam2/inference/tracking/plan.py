"""Which objects are tracked over which frames, in which direction, to fill a stack once."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from napari_sam2._types import Direction
from napari_sam2.inference.requests import TrackStep

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


@dataclass(frozen=True)
class ObjectPlan:
    """What is known of one object in one clip.

    Attributes
    ----------
    object_id : int
        Which.
    anchors : tuple of int
        Planes to track from, ascending: prompted ones, and locked ones that show the object.
    wanted : collection of int
        Planes to fill.
    """

    object_id: int
    anchors: tuple[int, ...]
    wanted: Collection[int]


def plan_steps(plans: Sequence[ObjectPlan], clip: range, direction: Direction) -> list[TrackStep]:
    """The passes over one clip: forwards, then backwards.

    Between two anchors each half is tracked from the nearer one, or the whole gap from one side where only one
    direction is asked for. A pass begins after an anchor and ends at the last wanted plane.
    """
    runs: dict[bool, dict[int, list[int]]] = {False: defaultdict(list), True: defaultdict(list)}
    reported: dict[bool, dict[int, list[int]]] = {False: defaultdict(list), True: defaultdict(list)}
    for plan in plans:
        wanted = set(plan.wanted)
        for reverse, stretch in _stretches(plan.anchors, clip, direction):
            inside = [plane for plane in stretch if plane in wanted]
            if not inside:
                continue
            for plane in stretch[: stretch.index(inside[-1]) + 1]:
                runs[reverse][plane].append(plan.object_id)
                if plane in wanted:
                    reported[reverse][plane].append(plan.object_id)
    return [
        TrackStep(plane, reverse, tuple(runs[reverse][plane]), tuple(reported[reverse][plane]))
        for reverse in (False, True)
        for plane in sorted(runs[reverse], reverse=reverse)
    ]


def _stretches(anchors: tuple[int, ...], clip: range, direction: Direction) -> list[tuple[bool, range]]:
    """(reverse, planes in the order of tracking) on each side of each anchor."""
    if not anchors:
        return []
    forwards, backwards = direction != "backward", direction != "forward"
    out: list[tuple[bool, range]] = []
    if backwards:
        out.append((True, range(anchors[0] - 1, clip.start - 1, -1)))
    for left, right in itertools.pairwise(anchors):
        middle = (left + right) // 2 if forwards and backwards else (right - 1 if forwards else left)
        out.append((False, range(left + 1, middle + 1)))
        out.append((True, range(right - 1, middle, -1)))
    if forwards:
        out.append((False, range(anchors[-1] + 1, clip.stop)))
    return out


def affected_planes(plane: int, anchors: Collection[int], clip: range) -> range:
    """The planes whose tracks depend on a prompt at ``plane``: up to the next anchor on each side, exclusive."""
    before = max((a for a in anchors if a < plane), default=clip.start - 1)
    after = min((a for a in anchors if a > plane), default=clip.stop)
    return range(before + 1, after)


def anchor_planes(prompts: Mapping[int, object], locked: Collection[int], clip: range) -> tuple[int, ...]:
    """Prompted and locked planes of a clip, ascending."""
    return tuple(sorted({p for p in (*prompts, *locked) if p in clip}))
