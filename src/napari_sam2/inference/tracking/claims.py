"""Which object a mask belongs to where several objects claim the same pixels: solved once per frame for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.inference.tracking.motion import Prediction

__all__ = [
    "Claim",
    "ClaimSettings",
    "DistractorSettings",
    "find_distracted",
    "meeting_pairs",
    "motion_likelihood",
    "settle_claims",
]


@dataclass(frozen=True)
class ClaimSettings:
    """How similar objects are distinguished.

    Attributes
    ----------
    are_settled : bool
        Whether objects that claim the same pixels are compared at all.
    same : float
        Two masks with at least this IoU are claims on the same pixels.
    absent : float
        Score of not being visible: an object that is worth less on what is left is absent.
    expected_area : float
        Standard deviation of the logarithm of the area from frame to frame.
    """

    are_settled: bool = False
    same: float = 0.5
    absent: float = 0.25
    expected_area: float = 0.4


@dataclass(frozen=True)
class DistractorSettings:
    """Which frames with look-alike objects are kept in memory.

    Attributes
    ----------
    are_remembered : bool
        Whether such frames are kept in memory at all.
    max_frames : int
        Number of frames that are kept for each object; the oldest is dropped.
    same : float
        A candidate that holds at least this share of the mask of another object, of which the object's own mask holds
        less, shows that the two could be taken for each other.
    """

    are_remembered: bool = False
    max_frames: int = 3
    same: float = 0.5


@dataclass(frozen=True, eq=False)
class Claim:
    """A mask that an object could have on a frame.

    Attributes
    ----------
    top, left : int
        Place of the window in the image.
    mask : numpy.ndarray
        (h, w) bool.
    score : float
        Predicted IoU times the likelihood of the place and size, 0 to 1.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]
    score: float

    @property
    def centre_xy(self) -> tuple[float, float]:
        """Mean column and row; the mask must not be empty."""
        rows, columns = np.nonzero(self.mask)
        return self.left + float(columns.mean()), self.top + float(rows.mean())

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())


def motion_likelihood(
    centre_xy: tuple[float, float], area: float, expected: Prediction, last_area: float, settings: ClaimSettings
) -> float:
    """How well place and size of a mask suit an object, 0 to 1.

    Parameters
    ----------
    centre_xy : tuple of float
        Centre of the mask, in image pixels.
    area : float
        Its area.
    expected : Prediction
        Where the object is expected.
    last_area : float
        Area of its last mask.
    settings : ClaimSettings
        How much the area varies.
    """
    away = math.hypot(centre_xy[0] - expected.x, centre_xy[1] - expected.y) / max(expected.spread, 1.0)
    growth = math.log(max(area, 1) / max(last_area, 1)) / settings.expected_area
    return math.exp(-0.5 * (away**2 + growth**2))


def settle_claims(claims: Mapping[int, Sequence[Claim]], settings: ClaimSettings) -> dict[int, int | None]:
    """Give pixels that several objects claim to one of them.

    Parameters
    ----------
    claims : mapping of int to sequence of Claim
        Object -> its mask, then other masks that it could have. None of them is empty.
    settings : ClaimSettings
        What counts as the same pixels.

    Returns
    -------
    dict of int to (int or None)
        The objects whose first claim is refused, and the claim they get instead; None: they are not visible.
    """
    first = {i: own[0] for i, own in claims.items() if own}
    rivals = _rivals(first, settings.same)
    if not rivals:
        return {}
    taken = [claim for i, claim in first.items() if i not in rivals]
    regions: list[Claim] = []
    offers: dict[tuple[int, int], int] = {}  # (object, region) -> the best of its claims there
    for i in rivals:
        for rank, claim in sorted(enumerate(claims[i]), key=lambda each: -each[1].score):
            if rank and any(_iou(claim, other) >= settings.same for other in taken):
                continue
            region = next((r for r, other in enumerate(regions) if _iou(claim, other) >= settings.same), len(regions))
            if region == len(regions):
                regions.append(claim)
            offers.setdefault((i, region), rank)
    scores = np.full((len(rivals), len(regions) + len(rivals)), 1e-9)
    scores[:, len(regions) :][np.diag_indices(len(rivals))] = settings.absent
    for (i, region), rank in offers.items():
        scores[rivals.index(i), region] = max(claims[i][rank].score, 1e-9)
    rows, columns = linear_sum_assignment(-np.log(scores))
    chosen = {rivals[row]: offers.get((rivals[row], int(column))) for row, column in zip(rows, columns, strict=True)}
    return {i: rank for i, rank in chosen.items() if rank != 0}


def find_distracted(
    masks: Mapping[int, Claim], candidates: Mapping[int, Sequence[Claim]], settings: DistractorSettings
) -> set[int]:
    """Objects of which another candidate holds the mask of another object.

    Parameters
    ----------
    masks : mapping of int to Claim
        Object -> its mask; visible objects only.
    candidates : mapping of int to sequence of Claim
        Object -> other masks that it could have.
    settings : DistractorSettings
        What counts as the same pixels.
    """
    found = set()
    for i, own in masks.items():
        rivals = [mask for k, mask in masks.items() if k != i and _share(own, mask) < settings.same]
        if any(_share(each, mask) >= settings.same for each in candidates.get(i, ()) for mask in rivals):
            found.add(i)
    return found


def _rivals(first: Mapping[int, Claim], same: float) -> list[int]:
    """Objects whose masks are claims on the same pixels as another one's."""
    ids = list(first)
    boxes = np.array([_box(first[i]) for i in ids]).reshape(-1, 4)
    found: set[int] = set()
    for one, other in meeting_pairs(boxes):
        if _iou(first[ids[one]], first[ids[other]]) >= same:
            found |= {ids[one], ids[other]}
    return sorted(found)


def meeting_pairs(boxes: NDArray[np.number]) -> list[tuple[int, int]]:
    """Pairs of rows of boxes (N, 4), corners first, that overlap; the lower row first."""
    pairs: list[tuple[int, int]] = []
    for row, box in enumerate(boxes):
        later = boxes[row + 1 :]
        meets = (later[:, :2] < box[2:]).all(1) & (later[:, 2:] > box[:2]).all(1)
        pairs += [(row, row + 1 + int(other)) for other in np.flatnonzero(meets)]
    return pairs


def _box(claim: Claim) -> tuple[int, int, int, int]:
    h, w = claim.mask.shape
    return claim.top, claim.left, claim.top + h, claim.left + w


def _iou(one: Claim, other: Claim) -> float:
    both = _num_common(one, other)
    return both / max(one.area + other.area - both, 1)


def _share(one: Claim, other: Claim) -> float:
    """How much of the other mask one holds."""
    return _num_common(one, other) / max(other.area, 1)


def _num_common(one: Claim, other: Claim) -> int:
    top, left, bottom, right = (
        limit(pair) for limit, pair in zip((max, max, min, min), zip(_box(one), _box(other), strict=True), strict=True)
    )
    if top >= bottom or left >= right:
        return 0
    first, second = (
        each.mask[top - each.top : bottom - each.top, left - each.left : right - each.left] for each in (one, other)
    )
    return int((first & second).sum())
