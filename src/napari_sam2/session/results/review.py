"""Which masks to check: how an object changes from frame to frame, and the masks that are likely to be wrong."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from napari_sam2.session.session import Session
    from napari_sam2.session.state.records import ObjectMask
    from napari_sam2.session.state.store import SessionStore

__all__ = ["Doubt", "DoubtfulFrame", "ReviewQueue", "ReviewRule", "doubtful_frames", "objects_not_found", "timeline"]

_LESS = 0.5  # severity of a mask that is doubtful because of another one

Doubt = Literal[
    "low IoU",
    "hardly visible",
    "not found",
    "area jump",
    "moved far",
    "several pieces",
    "next to a doubtful mask",
    "tracked from a doubtful mask",
    "may have divided",
    "unusable image",
]


@dataclass(frozen=True)
class ReviewRule:
    """When a mask is to be checked; chosen with ``benchmarks/review_queue.py``.

    Masks are followed from each prompted, painted or locked one outwards, as they were tracked. An object that fades
    out, that is, has shrunk and does not grow again, is at its end: its last masks have low scores although they are
    right.

    Attributes
    ----------
    share_of_nearby : float
        A predicted IoU or presence score below this share of the median of the masks nearest to the prompt is low:
        thin objects have low values everywhere, also where their masks are right.
    num_nearby : int
        How many masks these are.
    low_score : float
        A presence score (logit) above this is not low.
    very_low_iou : float
        A predicted IoU below this is low for any object, also where it fades out.
    smallest : float
        Share of its largest area below which an object that fades out is not checked.
    min_overlap : float
        IoU with the mask before it, towards the prompt. Below it the object has changed suddenly.
    share_of_overlap : float
        A lower overlap is no sudden change if it is at least this share of the median along the track: cells may move
        by more than half of their size from each frame to the next.
    largest_piece : float
        Share of the area that belongs to the largest piece.
    faded, regrown : float
        An object fades out from an area of less than ``faded`` of the mask that it is tracked from, if no mask
        further on is larger than ``regrown`` times the smallest one before.
    num_before, num_after : int
        How many masks before the first doubtful one are checked too, as errors begin unnoticed, and on how many planes
        behind the last doubtful one an object is reported as not found.
    full_size : float
        An object that is absent next to a mask of more than this share of its largest area was not found; one that
        has shrunk before has ended.
    """

    share_of_nearby: float = 0.7
    num_nearby: int = 4
    low_score: float = 4.0
    very_low_iou: float = 0.6
    smallest: float = 0.05
    min_overlap: float = 0.6
    share_of_overlap: float = 0.75
    largest_piece: float = 0.8
    faded: float = 0.7
    regrown: float = 1.15
    num_before: int = 3
    num_after: int = 3
    full_size: float = 0.5


@dataclass(frozen=True)
class DoubtfulFrame:
    """A mask to look at again.

    Attributes
    ----------
    object_id, plane : int
        Where.
    reason : str
        What is most likely wrong: "low IoU", "hardly visible" (a low presence score), "not found", "area jump",
        "moved far", "several pieces", "may have divided" or "unusable image"; near such a mask, "next to a
        doubtful mask" or "tracked from a doubtful mask".
    severity : float
        The higher the worse; 1 at the threshold, and less near a doubtful mask.
    """

    object_id: int
    plane: int
    reason: Doubt
    severity: float


def timeline(session: Session, object_id: int) -> pd.DataFrame:
    """How one object went, a row for each plane on which it has a mask, ascending.

    Parameters
    ----------
    session : Session
        The session to review.
    object_id : int
        Which object.

    Returns
    -------
    pandas.DataFrame
        plane; frame (position on the frame axis); iou (predicted, 0 to 1) and object_score (logit), NaN where the
        model did not predict the mask; area in pixels; shift of the centroid since the frame before in pixels, NaN
        where it was not there; kind; locked; stale.

    Raises
    ------
    PromptError
        If there is no such object.
    """
    import pandas as pd

    store = session.store
    if object_id not in store.objects:
        raise PromptError(f"object {object_id} does not exist; there are {list(store.objects)}")
    planes = store.planes_of(object_id)
    masks = [store.masks[object_id, plane] for plane in planes]
    locked = store.objects[object_id].locked
    return pd.DataFrame(
        {
            "plane": np.array(planes, int),
            "frame": np.array([store.geometry.frame(p) for p in planes], int),
            "iou": np.array([m.iou for m in masks], float),
            "object_score": np.array([m.object_score for m in masks], float),
            "area": np.array([m.area for m in masks], int),
            "shift": _shifts(store, planes, masks),
            "kind": [m.kind for m in masks],
            "locked": np.array([p in locked for p in planes], bool),
            "stale": np.array([m.is_stale for m in masks], bool),
        }
    )


def _shifts(store: SessionStore, planes: list[int], masks: list[ObjectMask]) -> NDArray[np.float64]:
    """(N,) distance of each centroid from that of the plane before, in the same clip."""
    shifts = np.full(len(planes), np.nan)
    centres = np.array([m.centroid_yx for m in masks], float).reshape(-1, 2)
    for row in range(1, len(planes)):
        if planes[row] == planes[row - 1] + 1 and store.geometry.frame(planes[row]):
            shifts[row] = float(np.hypot(*(centres[row] - centres[row - 1])))
    return shifts


def doubtful_frames(session: Session, rule: ReviewRule | None = None) -> list[DoubtfulFrame]:
    """Masks to look at again, the worst first; prompted, painted and locked ones count as seen.

    Parameters
    ----------
    session : Session
        The session to review.
    rule : ReviewRule, optional
        Default: ``ReviewRule()``.

    Returns
    -------
    list of DoubtfulFrame
        One per object and plane: a predicted IoU or presence score that is low for the object; an object that is absent
        between two planes that show it, or from full size on; a mask that differs suddenly from the one before it, or
        has several pieces. A mask that was tracked from such a one is as doubtful, up to the next prompted or locked
        mask. A plane that is blank, saturated or unreadable appears once, under the first object that was tracked
        across it.
    """
    queue = ReviewQueue(session, rule)
    queue.update()
    return queue.frames


class ReviewQueue:
    """The masks of a session to check; of objects whose masks have not changed, those found before are kept.

    Parameters
    ----------
    session : Session
        The session to review.
    rule : ReviewRule, optional
        Default: ``ReviewRule()``.
    """

    def __init__(self, session: Session, rule: ReviewRule | None = None) -> None:
        self._session = session
        self._rule = ReviewRule() if rule is None else rule
        self._found: dict[int, tuple[list[object], list[DoubtfulFrame]]] = {}

    @property
    def frames(self) -> list[DoubtfulFrame]:
        """Those of the latest ``update``, the worst first."""
        store = self._session.store
        found = _unusable_planes(store)
        for object_id, (_, doubts) in self._found.items():
            if object_id in store.objects:
                found += doubts
        return sorted(found, key=lambda doubt: (-doubt.severity, doubt.object_id, doubt.plane))

    def update(self, seconds: float = math.inf) -> bool:
        """Look again at the objects that have changed.

        Parameters
        ----------
        seconds : float
            No other object is begun after this time.

        Returns
        -------
        bool
            Whether all objects are up to date; if not, the next call continues.
        """
        store, end = self._session.store, time.monotonic() + seconds
        self._found = {i: known for i, known in self._found.items() if i in store.objects}
        for object_id, item in store.objects.items():
            # masks and conditions are immutable, so that another one is another object
            state: list[object] = [item.locked, *store.conditions.items()]
            state += [(plane, store.masks[object_id, plane]) for plane in store.planes_of(object_id)]
            known = self._found.get(object_id)
            if known is not None and known[0] == state:
                continue
            if time.monotonic() > end:
                return False
            doubts = [
                DoubtfulFrame(object_id, plane, reason, severity)
                for walk in _walks(store, object_id)
                for plane, (severity, reason) in _doubts(walk, self._rule).items()
            ]
            self._found[object_id] = state, doubts
        return True


def objects_not_found(session: Session) -> list[int]:
    """Objects that are absent between two planes that show them, or next to one that shows them at full size.

    Parameters
    ----------
    session : Session
        The session to review.

    Returns
    -------
    list of int
        In the order of creation.
    """
    rule, store = ReviewRule(), session.store
    return [
        object_id
        for object_id in store.objects
        if any(
            not mask.area and _absence(walk, at, rule)
            for walk in _walks(store, object_id)
            for at, mask in enumerate(walk.masks)
        )
    ]


def _is_usable(store: SessionStore, plane: int) -> bool:
    condition = store.conditions.get(plane)
    return condition is None or condition.is_usable


def _unusable_planes(store: SessionStore) -> list[DoubtfulFrame]:
    """Planes on which nothing could be tracked, unless the first object there is locked or prompted on it."""
    found = []
    for plane in sorted(store.conditions):
        masks = store.masks_on(plane)
        if _is_usable(store, plane) or not masks:
            continue
        first = min(masks)
        if plane not in store.objects[first].locked and masks[first].kind not in ("prompted", "painted"):
            found.append(DoubtfulFrame(first, plane, "unusable image", 1.0))
    return found


@dataclass(frozen=True)
class _Walk:
    """Masks from a known one outwards in one direction, up to half-way to the next known one.

    Attributes
    ----------
    root : ObjectMask
        The known mask; the largest one where none is known.
    planes, masks : tuple
        Those tracked from it, nearest first; the masks of one object, without unusable planes.
    shifts : tuple of (int, int)
        Movement of the stage since the mask before, in the direction of the walk: down and to the right.
    beyond : ObjectMask or None
        The mask behind the last one.
    largest : int
        Area of the largest mask of the object.
    """

    root: ObjectMask
    planes: tuple[int, ...]
    masks: tuple[ObjectMask, ...]
    shifts: tuple[tuple[int, int], ...]
    beyond: ObjectMask | None
    largest: int


def _walks(store: SessionStore, object_id: int) -> list[_Walk]:
    """All masks of an object that are to be judged, each in one walk."""
    locked, all_planes = store.objects[object_id].locked, store.planes_of(object_id)
    largest = max((store.masks[object_id, plane].area for plane in all_planes), default=0)
    clips: dict[int, list[int]] = {}
    for plane in all_planes:
        if _is_usable(store, plane):
            clips.setdefault(store.geometry.clip_range(plane).start, []).append(plane)
    walks = []
    for planes in clips.values():
        masks = [store.masks[object_id, plane] for plane in planes]
        known = [
            at for at, mask in enumerate(masks) if mask.kind in ("prompted", "painted") or planes[at] in locked
        ] or [max(range(len(masks)), key=lambda at: masks[at].area)]
        for at, step, end in _stretches(known, len(planes)):
            places = range(at, end, step)
            is_more = 0 <= end < len(planes)
            walks.append(
                _Walk(
                    masks[at],
                    tuple(planes[i] for i in places[1:]),
                    tuple(masks[i] for i in places[1:]),
                    tuple(_stage_shift(store, planes[i - step], planes[i]) for i in places[1:]),
                    masks[end] if is_more else None,
                    largest,
                )
            )
    return [walk for walk in walks if walk.planes]


def _stretches(known: list[int], count: int) -> Iterator[tuple[int, int, int]]:
    """Begin, step and end (exclusive) of the walks from each known place."""
    for at, place in enumerate(known):
        before = known[at - 1] if at else None
        behind = known[at + 1] if at + 1 < len(known) else None
        yield place, -1, -1 if before is None else (before + place) // 2
        yield place, 1, count if behind is None else (place + behind) // 2 + 1


def _stage_shift(store: SessionStore, begin: int, end: int) -> tuple[int, int]:
    """Movement of the stage from one plane to another, down and to the right."""
    sign = 1 if end > begin else -1
    moved = [
        store.conditions[p].shift_yx for p in range(min(begin, end) + 1, max(begin, end) + 1) if p in store.conditions
    ]
    return sign * sum(y for y, _ in moved), sign * sum(x for _, x in moved)


def _doubts(walk: _Walk, rule: ReviewRule) -> dict[int, tuple[float, Doubt]]:
    """Plane -> severity and reason."""
    found: dict[int, tuple[float, Doubt]] = {}
    overlaps = [
        _overlap(mask, before, shift)
        for mask, before, shift in zip(walk.masks, (walk.root, *walk.masks), walk.shifts, strict=False)
    ]
    limits = _Limits.of(walk, overlaps, rule)
    fades = _fades(walk, rule)
    is_doubtful, num_absent = False, 0
    for at, (plane, mask) in enumerate(zip(walk.planes, walk.masks, strict=True)):
        if not mask.area:
            num_absent += 1
            severity = _absence(walk, at, rule)
            if severity:
                found[plane] = severity, "not found"
            elif is_doubtful and num_absent <= rule.num_after:
                found[plane] = _LESS, "not found"
            continue
        num_absent = 0
        before = walk.masks[at - 1] if at else walk.root
        own = [] if fades[at] else limits.broken(mask, before, overlaps[at])
        if own and not is_doubtful:
            is_doubtful = True
            for near in range(max(0, at - rule.num_before), at):
                if walk.masks[near].area:
                    found.setdefault(walk.planes[near], (_LESS, "next to a doubtful mask"))
        if not own and mask.iou < rule.very_low_iou and mask.area > rule.smallest * walk.largest:
            own = [(_excess(mask.iou, rule.very_low_iou), "low IoU")]
        if own:
            found[plane] = max(own)
        elif is_doubtful:
            found[plane] = _LESS, "tracked from a doubtful mask"
    return found


def _absence(walk: _Walk, at: int, rule: ReviewRule) -> float:
    """How doubtful it is that an object is absent on the plane of an empty mask; 0 if it is not."""
    behind = walk.masks[at + 1] if at + 1 < len(walk.masks) else walk.beyond
    shown = [each for each in (walk.masks[at - 1] if at else walk.root, behind) if each is not None and each.area]
    if len(shown) == 2:
        return 2.0
    return 1.5 if any(each.area > rule.full_size * walk.largest for each in shown) else 0.0


def _fades(walk: _Walk, rule: ReviewRule) -> list[bool]:
    """Whether each mask belongs to an end at which the object has shrunk and does not grow again."""
    areas = np.array([mask.area for mask in walk.masks])
    smallest = np.maximum(np.minimum.accumulate(areas), 1)
    largest_after = np.maximum.accumulate(areas[::-1])[::-1]
    has_shrunk = areas < rule.faded * max(walk.root.area, 1)
    return [bool(each) for each in has_shrunk & (largest_after <= rule.regrown * smallest)]


@dataclass(frozen=True)
class _Limits:
    """What the masks of a walk are compared with."""

    iou: float
    score: float
    overlap: float
    largest_piece: float

    @classmethod
    def of(cls, walk: _Walk, overlaps: list[float], rule: ReviewRule) -> _Limits:
        nearby = [walk.root, *(mask for mask in walk.masks if mask.area)][: rule.num_nearby]
        known = [value for value in overlaps if not np.isnan(value)]
        usual = float(np.median(known)) if known else 1.0
        whole = walk.root.largest_piece >= rule.largest_piece
        return cls(
            max(rule.share_of_nearby * _median([mask.iou for mask in nearby]), rule.very_low_iou),
            min(rule.low_score, rule.share_of_nearby * _median([mask.object_score for mask in nearby[1:]])),
            min(rule.min_overlap, rule.share_of_overlap * usual),
            rule.largest_piece if whole else 0.0,
        )

    def broken(self, mask: ObjectMask, before: ObjectMask, overlap: float) -> list[tuple[float, Doubt]]:
        """Severity and reason of each limit that a mask is below; ``before`` is the one towards the root."""
        doubts: list[tuple[float, Doubt]] = []
        if mask.iou < self.iou:
            doubts.append((_excess(mask.iou, self.iou), "low IoU"))
        if mask.object_score < self.score:
            doubts.append((_excess(mask.object_score, self.score), "hardly visible"))
        if overlap < self.overlap:
            ratio = max(mask.area / before.area, before.area / mask.area)
            doubts.append((_excess(overlap, self.overlap), "area jump" if ratio * self.overlap > 1 else "moved far"))
        if mask.largest_piece < self.largest_piece:
            doubts.append((_excess(mask.largest_piece, self.largest_piece), "several pieces"))
        return doubts


def _median(values: list[float]) -> float:
    """Of those that are known; 0 if none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else 0.0


def _excess(value: float, limit: float) -> float:
    return 1.0 + (limit - value) / max(abs(limit), 1e-6)


def _overlap(mask: ObjectMask, before: ObjectMask, shift_yx: tuple[int, int]) -> float:
    """IoU of two masks after a movement of the stage; NaN if either is empty."""
    if not mask.area or not before.area:
        return float("nan")
    (dy, dx), (y0, x0, y1, x1) = shift_yx, before.box
    theirs = (y0 + dy, x0 + dx, y1 + dy, x1 + dx)
    top, left = max(mask.box[0], theirs[0]), max(mask.box[1], theirs[1])
    bottom, right = min(mask.box[2], theirs[2]), min(mask.box[3], theirs[3])
    if top >= bottom or left >= right:
        return 0.0
    parts = [
        each.pixels()[top - box[0] : bottom - box[0], left - box[1] : right - box[1]]
        for each, box in ((mask, mask.box), (before, theirs))
    ]
    common = int(np.count_nonzero(parts[0] & parts[1]))
    return common / (mask.area + before.area - common)
