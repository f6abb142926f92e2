"""Plan which objects are tracked on which frames, and in which direction."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from napari_sam2._types import Direction
from napari_sam2.inference.requests import TrackStep

__all__ = [
    "ObjectPlan",
    "TrackingPlan",
    "affected_planes",
    "anchor_planes",
    "frames_met_twice",
    "plan_passes",
    "plan_tracking",
]


@dataclass(frozen=True)
class TrackingPlan:
    """A forward pass followed by a backward pass.

    An object appears at most once per frame and pass; in a plan from `plan_tracking`, once per frame.
    """

    forwards: tuple[TrackStep, ...]
    backwards: tuple[TrackStep, ...]

    @property
    def steps(self) -> tuple[TrackStep, ...]:
        """The steps of both passes, in order."""
        return self.forwards + self.backwards

    @property
    def num_steps(self) -> int:
        """Number of steps of both passes."""
        return len(self.forwards) + len(self.backwards)

    def frames_met_twice(self) -> frozenset[int]:
        """Frames on which some objects are reported in the forward pass and others in the backward pass."""
        return frames_met_twice(self.steps)


@dataclass(frozen=True)
class ObjectPlan:
    """One object in one stack or clip.

    Attributes
    ----------
    object_id : int
        Identifier of the object.
    anchors : tuple of int
        Planes to track from, ascending: prompted planes, and locked planes on which the object is visible.
    wanted : collection of int
        Planes to fill.
    """

    object_id: int
    anchors: tuple[int, ...]
    wanted: Collection[int]


def frames_met_twice(steps: Sequence[TrackStep]) -> frozenset[int]:
    """Frames with results of more than one step."""
    counts = Counter(step.frame for step in steps if step.reported_ids)
    return frozenset(frame for frame, count in counts.items() if count > 1)


def plan_tracking(prompted: Mapping[int, Sequence[int]], limits: range) -> TrackingPlan:
    """Plan both directions from every prompted frame; between two of them each half is tracked from the nearer one.

    Parameters
    ----------
    prompted : mapping of int to sequence of int
        Object -> its prompted frames, ascending, at least one.
    limits : range
        Frames to fill, ascending.

    Returns
    -------
    TrackingPlan
        Prompted frames are part of the forward pass. Frames outside ``limits`` are included where an object is tracked
        across them, but not reported.
    """
    plans = [ObjectPlan(object_id, tuple(frames), limits) for object_id, frames in prompted.items()]
    return plan_passes(plans, limits, with_anchors=True)


def plan_passes(
    plans: Sequence[ObjectPlan], clip: range, direction: Direction = "both", *, with_anchors: bool = False
) -> TrackingPlan:
    """Plan the passes over one clip.

    Parameters
    ----------
    plans : sequence of ObjectPlan
        Objects, each with its anchors and the planes to fill.
    clip : range
        Planes of the clip, ascending.
    direction : {"both", "forward", "backward"}, default "both"
        Between two anchors each half is tracked from the nearer one, or the whole gap from one side if only one
        direction is given.
    with_anchors : bool, default False
        Begin the forward pass at the anchors themselves instead of after them.

    Returns
    -------
    TrackingPlan
        A pass ends at the last plane to fill.
    """
    tracked: dict[bool, dict[int, list[int]]] = {False: defaultdict(list), True: defaultdict(list)}
    reported: dict[bool, dict[int, list[int]]] = {False: defaultdict(list), True: defaultdict(list)}
    for plan in plans:
        wanted = plan.wanted if isinstance(plan.wanted, range) else frozenset(plan.wanted)
        for reverse, stretch in _stretches(plan.anchors, clip, direction, with_anchors=with_anchors):
            inside = [plane for plane in stretch if plane in wanted]
            if not inside:
                continue
            for plane in stretch[: stretch.index(inside[-1]) + 1]:
                tracked[reverse][plane].append(plan.object_id)
                if plane in wanted:
                    reported[reverse][plane].append(plan.object_id)
    forwards, backwards = (
        tuple(
            TrackStep(plane, reverse, tuple(tracked[reverse][plane]), tuple(reported[reverse][plane]))
            for plane in sorted(tracked[reverse], reverse=reverse)
        )
        for reverse in (False, True)
    )
    return TrackingPlan(forwards, backwards)


def _stretches(
    anchors: tuple[int, ...], clip: range, direction: Direction, *, with_anchors: bool
) -> list[tuple[bool, range]]:
    """(reverse, planes in the order of tracking) on each side of each anchor."""
    if not anchors:
        return []
    begin = 0 if with_anchors else 1
    forwards, backwards = direction != "backward", direction != "forward"
    found: list[tuple[bool, range]] = []
    if backwards:
        found.append((True, range(anchors[0] - 1, clip.start - 1, -1)))
    for left, right in itertools.pairwise(anchors):
        middle = (left + right) // 2 if forwards and backwards else (right - 1 if forwards else left)
        found.append((False, range(left + begin, middle + 1)))
        found.append((True, range(right - 1, middle, -1)))
    if forwards:
        found.append((False, range(anchors[-1] + begin, clip.stop)))
    return found


def affected_planes(plane: int, anchors: Collection[int], clip: range) -> range:
    """The planes whose tracks depend on a prompt at ``plane``: up to the next anchor on each side, exclusive."""
    before = max((a for a in anchors if a < plane), default=clip.start - 1)
    after = min((a for a in anchors if a > plane), default=clip.stop)
    return range(before + 1, after)


def anchor_planes(prompts: Mapping[int, object], locked: Collection[int], clip: range) -> tuple[int, ...]:
    """Prompted and locked planes of a clip, ascending."""
    return tuple(sorted({p for p in (*prompts, *locked) if p in clip}))
