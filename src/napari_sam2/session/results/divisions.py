"""Where objects of a session seem to divide: masks that part into two, and objects that begin beside another one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_sam2._arguments import checked, checked_calls
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.waists import split_at_waist

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.records import ObjectMask
    from napari_sam2.session.state.store import SessionStore

__all__ = [
    "DivisionProposal",
    "DivisionSettings",
    "divisions_beside",
    "first_of_each",
    "lost_daughter_of",
    "parting_of",
    "propose_divisions",
]


@checked_calls(PromptError)
@dataclass(frozen=True)
class DivisionSettings:
    """When a change of masks is a division.

    Attributes
    ----------
    smallest_share : float
        Least share of the area that the smaller daughter has, above 0 and up to 0.5.
    num_frames : int
        Frames on which the mask stays in two pieces; fewer where the track or the movie ends.
    largest_change : float
        Most that the area changes from the frame before, as a ratio: both daughters come from what was there.
    max_distance : float
        Furthest that an object begins from the centre of the object that it comes from, in diameters of that one.
    largest_daughter : float
        Largest area of an object that begins, or of what is left of the object that it comes from, as a fraction of
        that object on the frame before.
    min_overlap : float
        Share of a daughter without a mask that lies where the object was on the frame before, above 0 and up to 1.
    min_contrast : float
        How much such a daughter differs from what is around it, in standard deviations of that.

    Raises
    ------
    PromptError
        If a value is not a number.
    """

    smallest_share: float = 0.25
    num_frames: int = 2
    largest_change: float = 1.8
    max_distance: float = 1.2
    largest_daughter: float = 0.8
    min_overlap: float = 0.4
    min_contrast: float = 3.0

    def __post_init__(self) -> None:
        if (
            not 0 < self.smallest_share <= 0.5
            or self.num_frames < 1
            or not self.largest_change >= 1
            or not self.max_distance > 0
            or not self.largest_daughter > 0
            or not 0 < self.min_overlap <= 1
            or not self.min_contrast > 0
        ):
            raise PromptError(
                f"{self} was given; expected a share above 0 and up to 0.5, at least one frame, a change from 1, a "
                "distance, a size and a contrast above 0, and an overlap above 0 and up to 1"
            )


@dataclass(frozen=True)
class DivisionProposal:
    """A division to look at; ``Session.divide(object_id, frame, daughters or None)`` accepts it.

    Attributes
    ----------
    object_id : int
        The object that seems to divide.
    frame : int
        First plane of the daughters.
    share : float
        Area of the smaller daughter over that of both, up to 0.5: the higher, the more alike the daughters.
    num_frames : int
        On how many planes the mask stays in two pieces, or the daughters are seen.
    daughters : tuple of int
        Objects that begin on this plane beside ``object_id``: one if it goes on as the other daughter, two if it ends;
        none if its own mask parts, or tracking has lost one of them.
    lost_yx : (float, float) or None
        Where to click for a daughter that tracking has lost, with the number of the second object that ``divide``
        returns; None if both have masks.
    """

    object_id: int
    frame: int
    share: float
    num_frames: int
    daughters: tuple[int, ...] = ()
    lost_yx: tuple[float, float] | None = None


class _Beginning(NamedTuple):
    """The first mask of an object that is seen on ``num_frames`` planes."""

    object_id: int
    mask: ObjectMask
    num_frames: int


@checked(PromptError)
def propose_divisions(
    session: Session, settings: DivisionSettings | None = None, *, object_ids: Collection[int] | None = None
) -> list[DivisionProposal]:
    """Find divisions in the masks of a session.

    An object seems to divide where its mask parts into two pieces, or gets a waist as two cells that still touch have,
    and stays so; where it shrinks as another object begins beside it; where it ends as two others begin; and where it
    shrinks while the image shows something like it, without a mask, where it was: the daughter that tracking has lost.

    Parameters
    ----------
    session : Session
        Its frames are time points.
    settings : DivisionSettings, optional
        Default: as its attributes say.
    object_ids : collection of int, optional
        Only divisions of these objects. Default: all.

    Returns
    -------
    list of DivisionProposal
        At most one for each object that has no daughters and is not locked there, by frame and object.

    Raises
    ------
    PromptError
        If there is no such object, or an argument is not of its type.
    """
    chosen, store = settings or DivisionSettings(), session.store
    ids = [i for i in store.objects if object_ids is None or i in object_ids]
    partings = [each for i in ids if (each := parting_of(session, i, chosen)) is not None]
    beside = [each for each in divisions_beside(session, chosen) if each.object_id in ids]
    lost = [each for i in ids if (each := lost_daughter_of(session, i, chosen)) is not None]
    return first_of_each([*partings, *beside, *lost])


def first_of_each(proposals: Sequence[DivisionProposal]) -> list[DivisionProposal]:
    """The first proposal of each object, by frame and object; of two that claim a daughter, the one more alike."""
    taken: set[int] = set()
    kept: dict[int, DivisionProposal] = {}
    for each in sorted(proposals, key=lambda each: -each.share):
        if taken.isdisjoint(each.daughters):
            taken.update(each.daughters)
            other = kept.get(each.object_id)
            kept[each.object_id] = each if other is None or each.frame < other.frame else other
    return sorted(kept.values(), key=lambda each: (each.frame, each.object_id))


def parting_of(
    session: Session, object_id: int, settings: DivisionSettings = DivisionSettings()
) -> DivisionProposal | None:
    """The first plane on which the mask of an object has parted; None if there is none, or it has daughters."""
    store, geometry = session.store, session.geometry
    if store.daughters(object_id):
        return None
    shown = [p for p in store.planes_of(object_id) if store.masks[object_id, p].area]
    shares = [_smaller_share(store.masks[object_id, p], settings.smallest_share) for p in shown]
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


def _smaller_share(mask: ObjectMask, smallest: float) -> float:
    """Area of the smaller of two pieces, or sides of a waist, over that of both; 0 for a mask without either."""
    pixels = mask.pixels()
    areas = sorted(find_pieces(pixels).areas.tolist())
    share = areas[-2] / (areas[-1] + areas[-2]) if len(areas) > 2 else 0.0
    if share >= smallest:
        return share
    parts = split_at_waist(pixels)
    return float(parts[1].sum() / pixels.sum()) if len(parts) == 2 else share


def divisions_beside(session: Session, settings: DivisionSettings = DivisionSettings()) -> list[DivisionProposal]:
    """The first plane on which others begin beside an object that shrinks or ends there, for each such object."""
    store, geometry = session.store, session.geometry
    found: dict[int, DivisionProposal] = {}
    for plane, beginnings in sorted(_beginnings(session).items()):
        if plane - 1 not in geometry.clip_range(plane):
            continue
        before = {i: mask for i, mask in store.masks_on(plane - 1).items() if mask.area and i not in found}
        near = _near(before, beginnings, settings) if before else {}
        for object_id, others in near.items():
            item = store.objects[object_id]
            if store.daughters(object_id) or plane in item.locked:
                continue
            proposal = _division_into(store, object_id, plane, geometry.clip_range(plane), others, settings)
            if proposal is not None:
                found[object_id] = proposal
    return list(found.values())


def _beginnings(session: Session) -> dict[int, list[_Beginning]]:
    """Plane -> objects without a parent that begin there, after the first plane of the clip."""
    store, geometry = session.store, session.geometry
    found: dict[int, list[_Beginning]] = {}
    for object_id, item in store.objects.items():
        shown = [p for p in store.planes_of(object_id) if store.masks[object_id, p].area]
        if shown and item.parent is None and shown[0] > geometry.clip_range(shown[0]).start:
            found.setdefault(shown[0], []).append(_Beginning(object_id, store.masks[object_id, shown[0]], len(shown)))
    return found


def _near(
    before: Mapping[int, ObjectMask], beginnings: Sequence[_Beginning], settings: DivisionSettings
) -> dict[int, list[_Beginning]]:
    """Object of the plane before -> those that begin within reach of its centre."""
    ids = list(before)
    boxes = np.array([before[i].box for i in ids], float).reshape(-1, 4)
    reach = settings.max_distance * 2 * np.sqrt(np.array([before[i].area for i in ids]) / np.pi)
    found: dict[int, list[_Beginning]] = {}
    for each in beginnings:
        centre = np.array(each.mask.centroid_yx)
        outside = np.maximum(np.maximum(boxes[:, :2] - centre, centre - boxes[:, 2:]), 0)
        for row in np.flatnonzero(np.hypot(*outside.T) <= reach):
            if ids[row] != each.object_id and math.dist(before[ids[row]].centroid_yx, centre) <= reach[row]:
                found.setdefault(ids[row], []).append(each)
    return found


def _division_into(
    store: SessionStore,
    object_id: int,
    plane: int,
    clip: range,
    others: Sequence[_Beginning],
    settings: DivisionSettings,
) -> DivisionProposal | None:
    """The division of an object into itself and one of the others, or into two of them, that keeps its area best."""
    before, kept = store.masks[object_id, plane - 1].area, store.masks.get((object_id, plane))
    pairs: list[tuple[tuple[int, ...], tuple[int, int], int]]
    if kept is not None and kept.area:
        pairs = [((each.object_id,), (kept.area, each.mask.area), each.num_frames) for each in others]
    elif not any(p >= plane and p in clip and store.masks[object_id, p].area for p in store.planes_of(object_id)):
        pairs = [
            ((a.object_id, b.object_id), (a.mask.area, b.mask.area), min(a.num_frames, b.num_frames))
            for a, b in itertools.combinations(others, 2)
        ]
    else:  # it is seen again later
        pairs = []
    options = [
        DivisionProposal(object_id, plane, min(areas) / sum(areas), num_frames, daughters)
        for daughters, areas, num_frames in sorted(pairs, key=lambda pair: abs(math.log(sum(pair[1]) / before)))
        if _are_daughters(before, areas, settings)
    ]
    return options[0] if options else None


def _are_daughters(before: int, areas: tuple[int, int], settings: DivisionSettings) -> bool:
    """Whether two areas are those of the daughters of an object: together about as large, each one smaller."""
    both = sum(areas)
    change = max(both, before) / min(both, before)
    is_alike = min(areas) >= settings.smallest_share * both
    return change <= settings.largest_change and is_alike and max(areas) <= settings.largest_daughter * before


def lost_daughter_of(
    session: Session, object_id: int, settings: DivisionSettings = DivisionSettings()
) -> DivisionProposal | None:
    """The first plane on which an object seems to have become one of its daughters, the other one having no mask.

    Reads the image only where the object shrinks at once.
    """
    store, geometry = session.store, session.geometry
    if store.daughters(object_id):
        return None
    shown = [p for p in store.planes_of(object_id) if store.masks[object_id, p].area]
    areas = [store.masks[object_id, p].area for p in shown]
    for at in range(1, len(shown)):
        before, plane = shown[at - 1], shown[at]
        clip = geometry.clip_range(plane)
        if before != plane - 1 or before not in clip or plane in store.objects[object_id].locked:
            continue
        later = [areas[n] for n in range(at, len(shown)) if shown[n] in clip][: settings.num_frames]
        if (
            max(later) > settings.largest_daughter * areas[at - 1]
            or min(later) < settings.smallest_share * areas[at - 1]
        ):
            continue
        found = _lost_daughter(session, object_id, plane, settings)
        if found is not None:
            area, centre = found
            share = min(area, areas[at]) / (area + areas[at])
            return DivisionProposal(object_id, plane, share, len(shown) - at, lost_yx=centre)
    return None


def _lost_daughter(
    session: Session, object_id: int, plane: int, settings: DivisionSettings
) -> tuple[int, tuple[float, float]] | None:
    """Area and a pixel of what looks like an object on a plane, has no mask, and lies where it was before."""
    store, hw = session.store, session.geometry.hw
    was, now = store.masks[object_id, plane - 1], store.masks[object_id, plane]
    window = _around(was.box, now.box, math.ceil(math.sqrt(was.area / math.pi)), hw)
    grey = _grey(session.frames, plane, window)
    if grey is None:
        return None
    old, new = was.to_image(hw)[window], now.to_image(hw)[window]
    others = np.zeros_like(old)
    for number, mask in store.masks_on(plane).items():
        if number != object_id and mask.area:
            others |= mask.to_image(hw)[window]
    around = ~(ndimage.binary_dilation(old | new, iterations=2) | others)
    if around.sum() < old.sum() / 4:
        return None
    own, background, noise = np.median(grey[new]), np.median(grey[around]), grey[around].std()
    if abs(own - background) < settings.min_contrast * noise:
        return None
    alike = abs(grey - own) < abs(grey - background)
    pieces = find_pieces(alike & ~others & ~ndimage.binary_dilation(new))
    inside = np.bincount(pieces.numbers[old], minlength=len(pieces.areas))
    inside[0] = 0
    number = int(inside.argmax())
    area = int(pieces.areas[number])
    if not inside[number] or inside[number] < settings.min_overlap * area:
        return None
    if not _are_daughters(was.area, (now.area, area), settings):
        return None
    joined = new | (pieces.numbers == number) | (alike & ndimage.binary_dilation(new))
    if len(find_pieces(joined).areas) == 2 and len(split_at_waist(joined)) == 1:
        return None  # a part of the object itself
    depth = ndimage.distance_transform_edt(np.pad(pieces.numbers == number, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return area, (float(window[0].start + y), float(window[1].start + x))


def _around(first: Sequence[int], second: Sequence[int], margin: int, hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of two boxes and a margin around them, inside the image."""
    (top, left), (bottom, right) = np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])
    return (
        slice(max(int(top) - margin, 0), min(int(bottom) + margin, hw[0])),
        slice(max(int(left) - margin, 0), min(int(right) + margin, hw[1])),
    )


def _grey(frames: FrameSource, plane: int, window: tuple[slice, slice]) -> NDArray[np.float32] | None:
    """A smoothed part of a frame, 0 to 255; None if it cannot be read."""
    region = getattr(frames, "region", None)
    try:
        rgb = region(plane, *window) if region is not None else frames[plane][window]
    except FrameError:  # tracking reports it
        return None
    grey: NDArray[np.float32] = ndimage.gaussian_filter(rgb.mean(-1, dtype=np.float32), 1)
    return grey
