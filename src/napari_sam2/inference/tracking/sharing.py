"""Which of several tracked objects gets the pixels that more than one of them claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.inference.views.view import View

__all__ = ["Claimant", "SharingSettings", "do_share", "is_contested", "lost_pixels", "mask_in_view", "meeting_pairs"]


@dataclass(frozen=True)
class SharingSettings:
    """How pixels that several tracked objects claim are shared, for models that follow the last mask.

    Attributes
    ----------
    are_shared : bool
        Whether each pixel belongs to one object only. Without it, two cells that touch can end in one mask each that
        holds both.
    max_common : float
        Objects of which the last masks overlap by more than this fraction of the smaller one, such as a nucleus in its
        cell, do not share: both keep their pixels.
    nested : float
        A tracked mask and one that is prompted on the frame, inside each other by this fraction of the smaller one, do
        not share if the smaller one has less than this fraction of the area of the larger one.
    contested : float
        Where two objects claim more than this fraction of the smaller mask, neither mask says where its object is: on
        the next frames, both are expected where they were heading before, with the outline they had.
    max_coasting : int
        For how many such frames in a row.
    min_left : float
        An object that is left with less than this fraction of its mask is not visible.
    """

    are_shared: bool = True
    max_common: float = 0.3
    nested: float = 0.7
    contested: float = 0.2
    max_coasting: int = 6
    min_left: float = 0.25


class Claimant(NamedTuple):
    """An object on a frame, as one of two objects sees it: all masks are (h, w) bool in the same view.

    ``last`` is the last mask, and ``expected`` the same, moved to where the object is expected; None if the object is
    prompted on the frame. ``distance`` is the number of frames from its nearest prompt.
    """

    mask: NDArray[np.bool_]
    last: NDArray[np.bool_] | None
    expected: NDArray[np.bool_] | None
    distance: int


def mask_in_view(mask: NDArray[np.bool_], place: View, view: View) -> NDArray[np.bool_]:
    """A low-resolution mask (h, w) of a view that lies at ``place``, as another view sees it; nearest neighbours."""
    h, w = mask.shape
    rows = np.floor((view.y + (np.arange(h) + 0.5) / h * view.height - place.y) / place.height * h).astype(int)
    columns = np.floor((view.x + (np.arange(w) + 0.5) / w * view.width - place.x) / place.width * w).astype(int)
    is_seen = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))
    seen: NDArray[np.bool_] = mask[np.ix_(rows.clip(0, h - 1), columns.clip(0, w - 1))] & is_seen
    return seen


def meeting_pairs(boxes_xyxy: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of rows of boxes (N, 4) that overlap, the lower one first."""
    pairs: list[tuple[int, int]] = []
    for row, box in enumerate(boxes_xyxy):
        later = boxes_xyxy[row + 1 :]
        meets = (later[:, :2] < box[2:]).all(1) & (later[:, 2:] > box[:2]).all(1)
        pairs += [(row, row + 1 + int(other)) for other in np.flatnonzero(meets)]
    return pairs


def lost_pixels(own: Claimant, rival: Claimant) -> NDArray[np.bool_]:
    """The pixels of ``own.mask`` that belong to a rival with which it shares.

    The object whose prompt is nearer in time gets the pixels that both claim, since errors add up along a track. Of two
    that are equally far from their prompts, each gets the pixels that are nearer to where it is expected.

    Parameters
    ----------
    own, rival : Claimant
        Two objects, ``own`` not prompted on the frame.

    Returns
    -------
    (h, w) bool array
    """
    common = own.mask & rival.mask
    if own.distance != rival.distance or own.expected is None or rival.expected is None:
        return common if rival.distance < own.distance else np.zeros_like(common)
    return common & (_depth(rival.expected) > _depth(own.expected))


def do_share(own: Claimant, rival: Claimant, settings: SharingSettings) -> bool:
    """Whether two objects, ``own`` not prompted on the frame, share pixels that both claim."""
    if own.last is None:
        return False
    if rival.last is None:
        return not _is_nested(own.mask, rival.mask, settings.nested)
    smaller = min(own.last.sum(), rival.last.sum())
    return bool((own.last & rival.last).sum() <= settings.max_common * smaller)


def is_contested(own: Claimant, rival: Claimant, settings: SharingSettings) -> bool:
    """Whether two objects claim so many pixels that their masks do not say where they are.

    Of two whose prompts are not equally far, the mask of the nearer one counts.
    """
    if own.distance != rival.distance:
        return False
    smaller = min(own.mask.sum(), rival.mask.sum())
    return bool((own.mask & rival.mask).sum() > settings.contested * smaller)


def _is_nested(one: NDArray[np.bool_], other: NDArray[np.bool_], share: float) -> bool:
    small, large = sorted((int(one.sum()), int(other.sum())))
    return small < share * large and int((one & other).sum()) > share * small


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel to the outline of a mask, negative outside; of an empty mask, very negative."""
    if not mask.any():
        return np.full(mask.shape, -np.inf)
    inside: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    outside: NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    return inside - outside
