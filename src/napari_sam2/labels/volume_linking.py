"""Link the objects of labelled volumes through time by 3D overlap, so that each keeps one number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2.labels.overlaps import PlaneOverlaps, best_matches, label_areas
from napari_sam2.labels.protocols import LabelVolumes

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["LinkedVolumes", "TimelapseReport", "VolumeLinker", "VolumeTrack", "link_volumes"]


@dataclass(frozen=True)
class VolumeTrack:
    """One object through time.

    Attributes
    ----------
    object_id : int
        Its label at all time points.
    times : tuple of int
        Time points at which it was found, ascending.
    """

    object_id: int
    times: tuple[int, ...]


@dataclass(frozen=True)
class TimelapseReport:
    """Which objects were linked through time, and which appeared or ended.

    Attributes
    ----------
    num_times : int
        Number of time points of the image.
    tracks : tuple of VolumeTrack
        One per object, ascending by number.
    is_complete : bool
        False if the work was cancelled.
    """

    num_times: int
    tracks: tuple[VolumeTrack, ...]
    is_complete: bool

    @property
    def lost(self) -> dict[int, int]:
        """Objects that end before the last time point -> the last time at which they were found."""
        return {t.object_id: t.times[-1] for t in self.tracks if t.times[-1] < self.num_times - 1}

    @property
    def appeared(self) -> dict[int, int]:
        """Objects that begin after the first time point -> the first time at which they were found."""
        return {t.object_id: t.times[0] for t in self.tracks if t.times[0] > 0}


class LinkedVolumes(NamedTuple):
    """Labels of volumes over time, and how their objects were linked.

    Attributes
    ----------
    labels : array
        (T, Z, Y, X) int32, or the array given as ``out``.
    report : TimelapseReport
        Lost and new objects.
    """

    labels: NDArray[np.int32]
    report: TimelapseReport


@checked(PromptError)
def link_volumes(labels: LabelVolumes, *, min_iou: float = 0.2, max_gap: int = 1) -> TimelapseReport:
    """Renumber labelled volumes in place so that each object keeps one number through time.

    Parameters
    ----------
    labels : (T, Z, Y, X) integer array
        numpy or zarr, with independent numbers at each time point; changed plane by plane.
    min_iou : float, default 0.2
        Minimum 3D IoU of an object with itself at a later time point.
    max_gap : int, default 1
        Number of time points an object may be missing and still keep its number.

    Returns
    -------
    TimelapseReport
        The objects, and the time points at which each was found.

    Raises
    ------
    PromptError
        If ``min_iou`` or ``max_gap`` is out of range, or the labels are not (T, Z, Y, X).
    """
    linker = VolumeLinker(min_iou, max_gap)
    shape = tuple(labels.shape)
    if len(shape) != 4:
        raise PromptError(f"labels of shape {shape} were given; expected (T, Z, Y, X)")
    num_times, num_planes = shape[:2]
    for time in range(num_times):
        linker.link(labels, time, num_planes)
    return linker.report(num_times, is_complete=True)


class VolumeLinker:
    """Renumbers one time point after another to match the ones before."""

    def __init__(self, min_iou: float = 0.2, max_gap: int = 1) -> None:
        if not 0 < min_iou <= 1:
            raise PromptError(f"min_iou={shown(min_iou)} was given; expected numbers above 0, up to 1")
        if max_gap < 0:
            raise PromptError(f"max_gap={shown(max_gap)} was given; expected an integer from 0")
        self._min_iou, self._max_gap = min_iou, max_gap
        self._times: dict[int, list[int]] = {}

    def link(self, labels: LabelVolumes, time: int, num_planes: int) -> None:
        """Renumber one time point; all earlier ones have been renumbered."""
        number_of: dict[int, int] = {}
        here: set[int] = set()
        for before in range(time - 1, max(time - 2 - self._max_gap, -1), -1):
            compared = PlaneOverlaps()
            for z in range(num_planes):
                compared.add(np.asarray(labels[before, z]), np.asarray(labels[time, z]))
            pairs, here = compared.overlaps(), set(compared.areas()[1])
            # the nearest time point decides; an object that was found since then is not matched further back
            is_free = np.array(
                [
                    new not in number_of and self._times[old][-1] == before
                    for old, new in zip(pairs.first_ids.tolist(), pairs.second_ids.tolist(), strict=True)
                ],
                bool,
            )
            matches = best_matches(
                pairs.first_ids[is_free], pairs.second_ids[is_free], pairs.iou[is_free], self._min_iou
            )
            number_of |= {match.second: match.first for match in matches}
            for match in matches:
                self._times[match.first].append(time)
        if not here:
            here = {i for z in range(num_planes) for i in label_areas(np.asarray(labels[time, z]))[:, 0].tolist()}
        for new in sorted(here):
            if new not in number_of:
                number_of[new] = len(self._times) + 1
                self._times[number_of[new]] = [time]
        lookup = np.zeros(max(number_of, default=0) + 1, np.int32)
        for new, number in number_of.items():
            lookup[new] = number
        for z in range(num_planes):
            plane = np.asarray(labels[time, z])
            if plane.any():
                labels[time, z] = lookup[plane]

    def report(self, num_times: int, *, is_complete: bool) -> TimelapseReport:
        tracks = tuple(VolumeTrack(number, tuple(times)) for number, times in sorted(self._times.items()))
        return TimelapseReport(num_times, tracks, is_complete)
