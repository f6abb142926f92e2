"""Which of several tracked objects gets the pixels that more than one of them claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_sam2.inference.tracking.claims import meeting_pairs
from napari_sam2.inference.views.view_tracking import extent_in_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_sam2.inference.views.view import View

__all__ = ["Claimant", "Placed", "Shares", "SharingSettings", "share_pixels"]


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
        After more frames in a row that are contested, the last mask counts again.
    min_left : float
        An object that is left with less than this fraction of its mask is not visible.
    largest_growth : float
        A mask of more than this many times the median area of the last ones may hold a neighbour too, also one that is
        not tracked. It is contested as well, unless its predicted IoU is low, as where an object fades out in a
        z-stack.
    num_before : int
        How many masks before it are the last ones.
    """

    are_shared: bool = True
    max_common: float = 0.3
    nested: float = 0.7
    contested: float = 0.2
    max_coasting: int = 6
    min_left: float = 0.25
    largest_growth: float = 1.4
    num_before: int = 6


class Placed(NamedTuple):
    """A low-resolution mask, (h, w) bool, and the view that it fills."""

    mask: NDArray[np.bool_]
    view: View

    def seen_in(self, view: View) -> NDArray[np.bool_]:
        """The mask in another view, (h, w) bool; the nearest pixel."""
        h, w = self.mask.shape
        place = self.view
        rows = np.floor((view.y + (np.arange(h) + 0.5) / h * view.height - place.y) / place.height * h).astype(int)
        columns = np.floor((view.x + (np.arange(w) + 0.5) / w * view.width - place.x) / place.width * w).astype(int)
        is_seen = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))
        seen: NDArray[np.bool_] = self.mask[np.ix_(rows.clip(0, h - 1), columns.clip(0, w - 1))] & is_seen
        return seen


class Claimant(NamedTuple):
    """An object that is visible on a frame.

    Attributes
    ----------
    found : Placed
        Its mask on the frame; not empty.
    distance : int
        Number of frames from its nearest prompt; 0 if it is prompted on the frame, and keeps its pixels.
    last : Placed or None
        Its last mask that no other object contested; None if it is prompted, or was not visible for long.
    expected : Placed or None
        The same mask where the object is expected now.
    """

    found: Placed
    distance: int
    last: Placed | None = None
    expected: Placed | None = None


class Shares(NamedTuple):
    """What sharing takes from objects, by their position in the sequence of claimants.

    Attributes
    ----------
    lost : dict of int to numpy.ndarray
        Pixels of masks that belong to other objects, (h, w) bool in the view of the mask.
    contested : set of int
        Objects of whose masks others claimed a large part.
    """

    lost: dict[int, NDArray[np.bool_]]
    contested: set[int]


def share_pixels(claimants: Sequence[Claimant], settings: SharingSettings) -> Shares:
    """Give each pixel that several objects claim to one of them.

    The object whose prompt is nearer in time gets it, since errors add up along a track. Of two that are equally far
    from their prompts, it goes to the one whose expected outline it is deeper inside of.

    Parameters
    ----------
    claimants : sequence of Claimant
        The visible objects of a frame.
    settings : SharingSettings
        Which objects share, and when they are contested.
    """
    shares = Shares({}, set())
    boxes = np.array([_box(claimant.found) for claimant in claimants], np.float64).reshape(-1, 4)
    for pair in meeting_pairs(boxes):
        for row, other in (pair, pair[::-1]):
            own, rival = claimants[row], claimants[other]
            if not own.distance:
                continue
            theirs = rival.found.seen_in(own.found.view)
            common = own.found.mask & theirs
            if not common.any() or not _do_share(own, rival, theirs, settings):
                continue
            lost = _lost(own, rival, common)
            shares.lost[row] = shares.lost[row] | lost if row in shares.lost else lost
            smaller = min(own.found.mask.sum(), theirs.sum())
            if own.distance == rival.distance and common.sum() > settings.contested * smaller:
                shares.contested.add(row)
    return shares


def _lost(own: Claimant, rival: Claimant, common: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the pixels that both claim belong to the rival."""
    if own.distance != rival.distance or own.expected is None or rival.expected is None:
        return common if rival.distance < own.distance else np.zeros_like(common)
    view = own.found.view
    return common & (_depth(rival.expected.seen_in(view)) > _depth(own.expected.seen_in(view)))


def _do_share(own: Claimant, rival: Claimant, theirs: NDArray[np.bool_], settings: SharingSettings) -> bool:
    """Whether two objects share; ``theirs`` is the mask of the rival in the view of the other one."""
    if not rival.distance:
        return not _is_nested(own.found.mask, theirs, settings.nested)
    if own.last is None or rival.last is None:
        return True
    one, other = (claimant.last.seen_in(own.found.view) for claimant in (own, rival) if claimant.last is not None)
    return bool((one & other).sum() <= settings.max_common * min(one.sum(), other.sum()))


def _box(placed: Placed) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) of a mask in the image, a pixel wider."""
    extent = extent_in_image(placed.mask, placed.view)
    if extent is None:
        raise ValueError("an object without a mask claims no pixels")
    half = extent.side / 2 + 1
    return extent.x - half, extent.y - half, extent.x + half, extent.y + half


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
