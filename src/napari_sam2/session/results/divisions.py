"""Where objects of a session seem to divide: their masks part into two pieces of similar size, and stay parted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam2._arguments import checked, checked_calls
from napari_sam2._errors import PromptError
from napari_sam2.labels.components import find_pieces

if TYPE_CHECKING:
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.records import ObjectMask

__all__ = ["DivisionProposal", "DivisionSettings", "propose_divisions"]


@checked_calls(PromptError)
@dataclass(frozen=True)
class DivisionSettings:
    """When a mask that parts into two is a division.

    Attributes
    ----------
    smallest_share : float
        Least share of the area that the smaller piece has, above 0 and up to 0.5.
    num_frames : int
        Frames on which the mask stays in two pieces; fewer where the track or the movie ends.
    largest_change : float
        Most that the area changes from the frame before, as a ratio: both pieces come from what was there.
    """

    smallest_share: float = 0.25
    num_frames: int = 2
    largest_change: float = 1.8

    def __post_init__(self) -> None:
        if not 0 < self.smallest_share <= 0.5 or self.num_frames < 1 or not self.largest_change >= 1:
            raise PromptError(
                f"{self} was given; allowed are a share above 0 and up to 0.5, at least one frame, a change from 1"
            )


@dataclass(frozen=True)
class DivisionProposal:
    """A division to look at; ``Session.divide(object_id, frame)`` accepts it.

    Attributes
    ----------
    object_id : int
        The object that seems to divide.
    frame : int
        First plane on which it is in two pieces.
    share : float
        Area of the smaller piece over that of both, up to 0.5: the higher, the more alike the daughters.
    num_frames : int
        On how many planes it stays in two pieces.
    """

    object_id: int
    frame: int
    share: float
    num_frames: int


@checked(PromptError)
def propose_divisions(
    session: Session, settings: DivisionSettings | None = None, *, object_ids: Collection[int] | None = None
) -> list[DivisionProposal]:
    """Find divisions in the masks of a session.

    Parameters
    ----------
    session : Session
        Its frames are time points.
    settings : DivisionSettings, optional
        Default: as its attributes say.
    object_ids : collection of int, optional
        Only these objects. Default: all.

    Returns
    -------
    list of DivisionProposal
        At most one for each object that has no daughters and is not locked there, by frame and object.
    """
    chosen = settings or DivisionSettings()
    found = []
    for object_id in session.store.objects:
        if (object_ids is None or object_id in object_ids) and not session.store.daughters(object_id):
            proposal = _first_division(session, object_id, chosen)
            if proposal is not None:
                found.append(proposal)
    return sorted(found, key=lambda each: (each.frame, each.object_id))


def _first_division(session: Session, object_id: int, settings: DivisionSettings) -> DivisionProposal | None:
    store, geometry = session.store, session.geometry
    shown = [p for p in store.planes_of(object_id) if store.masks[object_id, p].area]
    shares = [_smaller_share(store.masks[object_id, p]) for p in shown]
    for at in range(1, len(shown)):
        before, plane = shown[at - 1], shown[at]
        clip = geometry.clip_range(plane)
        if before not in clip or plane in store.objects[object_id].locked:
            continue
        if shares[at] < settings.smallest_share or shares[at - 1] >= settings.smallest_share:
            continue
        areas = store.masks[object_id, before].area, store.masks[object_id, plane].area
        if max(areas) > settings.largest_change * min(areas):
            continue
        later = [n for n in range(at, len(shown)) if shown[n] in clip]
        parted = 0
        for n in later:
            if shares[n] < settings.smallest_share:
                break
            parted += 1
        if parted >= min(settings.num_frames, len(later)):
            return DivisionProposal(object_id, plane, shares[at], parted)
    return None


def _smaller_share(mask: ObjectMask) -> float:
    """Area of the second largest component over that of the two largest; 0 for a mask in one piece."""
    areas = sorted(find_pieces(mask.pixels()).areas.tolist())
    return areas[-2] / (areas[-1] + areas[-2]) if len(areas) > 2 else 0.0
