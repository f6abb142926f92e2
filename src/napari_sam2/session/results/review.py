"""What to look at again: how an object went from frame to frame, and the frames that are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2.session.state.records import centroid_yx

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_sam2.session.session import Session
    from napari_sam2.session.state.records import ObjectMask
    from napari_sam2.session.state.store import SessionStore

__all__ = ["Doubt", "DoubtfulFrame", "doubtful_frames", "timeline"]

Doubt = Literal["low IoU", "lost", "area jump", "moved far"]

LOW_IOU = 0.6
AREA_JUMP = 2.0


@dataclass(frozen=True)
class DoubtfulFrame:
    """A mask to look at again.

    Attributes
    ----------
    object_id, plane : int
        Where.
    reason : {"low IoU", "lost", "area jump", "moved far"}
        What speaks against it most.
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
    centres = np.array([centroid_yx(m) for m in masks], float).reshape(-1, 2)
    for row in range(1, len(planes)):
        if planes[row] == planes[row - 1] + 1 and store.geometry.frame(planes[row]):
            shifts[row] = float(np.hypot(*(centres[row] - centres[row - 1])))
    return shifts


def doubtful_frames(session: Session) -> list[DoubtfulFrame]:
    """Masks to look at again, the worst first; prompted, painted and locked ones count as seen.

    Parameters
    ----------
    session : Session
        The session to review.

    Returns
    -------
    list of DoubtfulFrame
        One per object and plane: a predicted IoU below 0.6; absent or lost next to a plane that shows the object; an
        area that is more than twice or less than half that of a neighbour; a centroid that moved further than the
        object is long.
    """
    found: list[DoubtfulFrame] = []
    for object_id, item in session.store.objects.items():
        for plane in session.store.planes_of(object_id):
            mask = session.store.masks[object_id, plane]
            if plane in item.locked or mask.kind in ("prompted", "painted"):
                continue
            doubts = _doubts(session.store, object_id, plane, mask)
            if doubts:
                severity, reason = max(doubts)
                found.append(DoubtfulFrame(object_id, plane, reason, severity))
    return sorted(found, key=lambda doubt: (-doubt.severity, doubt.object_id, doubt.plane))


def _doubts(store: SessionStore, object_id: int, plane: int, mask: ObjectMask) -> list[tuple[float, Doubt]]:
    clip = store.geometry.clip_range(plane)
    around = [store.masks.get((object_id, p)) for p in (plane - 1, plane + 1) if p in clip]
    shown = [neighbour for neighbour in around if neighbour is not None and neighbour.area]
    if not mask.area:
        return [(2.0 if len(shown) == 2 else 1.0, "lost")] if shown else []
    doubts: list[tuple[float, Doubt]] = []
    if mask.iou < LOW_IOU:
        doubts.append((1 + (LOW_IOU - mask.iou) / LOW_IOU, "low IoU"))
    here = np.array(centroid_yx(mask))
    for neighbour in shown:
        ratio = max(mask.area / neighbour.area, neighbour.area / mask.area)
        if ratio > AREA_JUMP:
            doubts.append((ratio / AREA_JUMP, "area jump"))
        shift, extent = float(np.hypot(*(here - np.array(centroid_yx(neighbour))))), _extent(mask)
        if shift > extent:
            doubts.append((shift / extent, "moved far"))
    return doubts


def _extent(mask: ObjectMask) -> float:
    """Longer side of the box, in pixels."""
    y0, x0, y1, x1 = mask.box
    return float(max(y1 - y0, x1 - x0))
