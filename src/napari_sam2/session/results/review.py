"""What to look at again: how an object went from frame to frame, and the frames that are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_sam2.session.session import Session
    from napari_sam2.session.state.records import ObjectMask
    from napari_sam2.session.state.store import SessionStore

__all__ = ["Doubt", "DoubtfulFrame", "ReviewRule", "doubtful_frames", "timeline"]

Doubt = Literal["low IoU", "not found", "area jump", "moved far", "may have divided", "unusable image"]


@dataclass(frozen=True)
class ReviewRule:
    """When a mask is to be checked; chosen with ``benchmarks/review_queue.py``.

    Attributes
    ----------
    low_iou : float
        A predicted IoU below this is low, if it is also below ``share_of_prompted`` of what the model predicts for the
        prompted masks of the object: thin objects have low values everywhere, also where their masks are right.
    share_of_prompted : float
        See ``low_iou``.
    very_low_iou : float
        A predicted IoU below this is low whatever the object.
    jump : float
        The area differs by more than this factor from both neighbours. At its ends an object may grow and shrink.
    full_size : float
        An object that is absent next to a mask of more than this share of its largest area was not found; one that
        has shrunk before has ended.
    """

    low_iou: float = 0.75
    share_of_prompted: float = 0.8
    very_low_iou: float = 0.365
    jump: float = 2.0
    full_size: float = 0.5


@dataclass(frozen=True)
class DoubtfulFrame:
    """A mask to look at again.

    Attributes
    ----------
    object_id, plane : int
        Where.
    reason : {"low IoU", "not found", "area jump", "moved far", "may have divided", "unusable image"}
        What is most likely wrong.
    severity : float
        The higher the worse; 1 at the threshold.
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
        One per object and plane: a predicted IoU that is low for the object; an object that is absent between two
        planes that show it, or from full size on; an area that is more than twice, or less than half, those of both
        neighbours; a centroid further from that of a neighbour than the object is long. A plane that is blank,
        saturated or unreadable appears once, under the first object that was tracked across it.
    """
    used = ReviewRule() if rule is None else rule
    found = _unusable_planes(session.store)
    for object_id, item in session.store.objects.items():
        track = _Track.of(session.store, object_id)
        for plane in track.planes:
            mask = session.store.masks[object_id, plane]
            if plane in item.locked or mask.kind in ("prompted", "painted") or not _is_usable(session.store, plane):
                continue
            doubts = _doubts(session.store, track, plane, mask, used)
            if doubts:
                severity, reason = max(doubts)
                found.append(DoubtfulFrame(object_id, plane, reason, severity))
    return sorted(found, key=lambda doubt: (-doubt.severity, doubt.object_id, doubt.plane))


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
class _Track:
    """What masks of an object are compared with.

    ``sure_iou`` is the mean predicted IoU of its prompted masks; that of its best mask where none was predicted.
    """

    object_id: int
    planes: tuple[int, ...]
    sure_iou: float
    largest: int

    @classmethod
    def of(cls, store: SessionStore, object_id: int) -> _Track:
        planes = tuple(store.planes_of(object_id))
        masks = [store.masks[object_id, plane] for plane in planes]
        known = [mask for mask in masks if mask.area and not np.isnan(mask.iou)]
        prompted = [mask.iou for mask in known if mask.kind == "prompted"]
        sure = float(np.mean(prompted)) if prompted else max((mask.iou for mask in known), default=1.0)
        return cls(object_id, planes, sure, max((mask.area for mask in masks), default=0))


def _doubts(
    store: SessionStore, track: _Track, plane: int, mask: ObjectMask, rule: ReviewRule
) -> list[tuple[float, Doubt]]:
    clip = store.geometry.clip_range(plane)
    around = [store.masks.get((track.object_id, p)) for p in (plane - 1, plane + 1) if p in clip]
    shown = [neighbour for neighbour in around if neighbour is not None and neighbour.area]
    if not mask.area:
        is_gap = len(shown) == 2
        vanishes = any(neighbour.area > rule.full_size * track.largest for neighbour in shown)
        return [(2.0 if is_gap else 1.5, "not found")] if is_gap or vanishes else []
    doubts: list[tuple[float, Doubt]] = []
    limit = max(min(rule.low_iou, rule.share_of_prompted * track.sure_iou), rule.very_low_iou)
    if mask.iou < limit:
        doubts.append((1 + (limit - mask.iou) / limit, "low IoU"))
    if len(shown) == 2:
        jump = max(min(mask.area / each.area for each in shown), min(each.area / mask.area for each in shown))
        if jump > rule.jump:
            doubts.append((jump / rule.jump, "area jump"))
    here = np.array(mask.centroid_yx)
    shift = max((float(np.hypot(*(here - np.array(each.centroid_yx)))) for each in shown), default=0.0)
    if shift > _extent(mask):
        doubts.append((shift / _extent(mask), "moved far"))
    return doubts


def _extent(mask: ObjectMask) -> float:
    """Longer side of the box, in pixels."""
    y0, x0, y1, x1 = mask.box
    return float(max(y1 - y0, x1 - x0))
