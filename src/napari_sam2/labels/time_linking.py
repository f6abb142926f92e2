"""Objects segmented on each frame by itself, linked over time with divisions, by ``laptrack``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._arguments import checked, checked_calls
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.labels.track_files import LabelledTracks
from napari_sam2.labels.tracks import ids_of_graph, tracks_of_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["TimeLinkingSettings", "check_time_linking", "link_frames"]


@checked_calls(PromptError)
@dataclass(frozen=True)
class TimeLinkingSettings:
    """How objects are linked over time; distances are in mean object diameters.

    Attributes
    ----------
    max_distance : float
        Furthest that a centre moves from one frame to the next.
    max_gap : int
        Number of frames in a row on which an object may be missing.
    max_division_distance : float
        Furthest that a daughter lies from where its parent was; 0: objects do not divide.

    Raises
    ------
    PromptError
        If a value is not a number.
    """

    max_distance: float = 1.0
    max_gap: int = 1
    max_division_distance: float = 1.2

    def __post_init__(self) -> None:
        if not self.max_distance > 0 or not self.max_division_distance >= 0 or self.max_gap < 0:
            raise PromptError(
                f"{self} was given; expected distances above 0 (0: no divisions) and gaps of 0 frames or more"
            )


@checked(FrameError)
def link_frames(labels: ArrayLike, settings: TimeLinkingSettings | None = None) -> LabelledTracks:
    """Give objects that were segmented on each frame by itself one number over time, and daughters their parents.

    Centres are linked by the assignment with the smallest sum of squared distances, first from frame to frame, then
    over gaps and from parents to second daughters.

    Parameters
    ----------
    labels : (T, H, W) or (T, Z, H, W) integer array-like
        0 is background; numbers of different frames need not agree.
    settings : TimeLinkingSettings, optional
        Default: as its attributes say.

    Returns
    -------
    LabelledTracks
        The same masks with other numbers, and their tracks.

    Raises
    ------
    FrameError
        If the labels are no labels over time, or the library is missing.

    References
    ----------
    .. [1] Jaqaman et al., Robust single-particle tracking in live-cell time-lapse sequences, Nature Methods 5, 2008.
    """
    image, chosen = np.asarray(labels), settings or TimeLinkingSettings()
    if image.ndim not in (3, 4) or image.dtype.kind not in "iu":
        raise FrameError(
            f"labels of shape {image.shape} and type {image.dtype} were given; expected integers, (T, H, W) or "
            "(T, Z, H, W)"
        )
    tracker_type = _import_laptrack()
    separate = [tracks_of_labels([frame]) for frame in image]
    counts = [len(each) for each in separate]
    if not sum(counts):
        return LabelledTracks(image.astype(np.int32), tracks_of_labels(image))
    areas = np.concatenate([each.areas for each in separate])
    diameter = _diameter(float(np.mean(areas)), image.ndim - 1)
    divides = chosen.max_division_distance > 0
    tracker = tracker_type(
        cutoff=(chosen.max_distance * diameter) ** 2,
        gap_closing_cutoff=(chosen.max_distance * diameter) ** 2 if chosen.max_gap else False,
        gap_closing_max_frame_count=chosen.max_gap + 1,  # of frames from one to the next
        splitting_cutoff=(chosen.max_division_distance * diameter) ** 2 if divides else False,
        merging_cutoff=False,
    )
    starts = np.concatenate(([0], np.cumsum(counts)))
    tree = tracker.predict([each.centres for each in separate])
    edges = [(int(starts[t] + i), int(starts[u] + j)) for (t, i), (u, j) in tree.edges()]
    ids, parents = ids_of_graph(np.repeat(np.arange(len(image)), counts), edges)
    linked = np.zeros(image.shape, np.int32)
    for frame, each in enumerate(separate):
        shown = image[frame] > 0
        row = np.searchsorted(each.ids, image[frame][shown].astype(np.int64))
        linked[frame][shown] = ids[starts[frame] : starts[frame + 1]][row]
    return LabelledTracks(linked, tracks_of_labels(linked, parents))


def check_time_linking() -> None:
    """Raise FrameError if the library that links objects over time is missing."""
    _import_laptrack()


def _import_laptrack() -> Any:
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise FrameError("linking over time needs the library laptrack: pip install 'napari-sam2[tracks]'") from error
    return LapTrack


def _diameter(size: float, num_axes: int) -> float:
    """Diameter of a disk or ball of so many pixels."""
    return float(2 * (size / np.pi) ** 0.5 if num_axes == 2 else 2 * (3 * size / (4 * np.pi)) ** (1 / 3))
