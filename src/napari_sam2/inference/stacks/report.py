"""Report of a tracked label stack: on which frames each object was given, tracked and lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from napari_sam2.labels.overlaps import label_areas

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameResult
    from napari_sam2.labels.protocols import LabelStack

__all__ = ["FoundScores", "ObjectTrack", "TrackedLabels", "TrackingReport", "describe_tracks"]


@dataclass(frozen=True)
class ObjectTrack:
    """One object of a tracked label stack.

    Attributes
    ----------
    object_id : int
        The label.
    seed_frames : tuple of int
        Frames on which the object was given, or detected without tracking.
    first_frame, last_frame : int or None
        First and last frame with pixels; None if there is none.
    num_frames : int
        Number of frames with pixels.
    num_tracked : int
        Number of these frames without a seed: 0 means that nothing was found beyond the seeds.
    mean_score : float
        Mean predicted IoU over the tracked frames with pixels, 0 to 1; NaN if there is none.
    """

    object_id: int
    seed_frames: tuple[int, ...]
    first_frame: int | None
    last_frame: int | None
    num_frames: int
    num_tracked: int
    mean_score: float


@dataclass(frozen=True)
class TrackingReport:
    """The result of tracking for all objects.

    Attributes
    ----------
    frames : range
        Frames to fill.
    tracks : tuple of ObjectTrack
        One per object, sorted by number.
    is_complete : bool
        False if the task was cancelled.
    num_merged : int
        Number of tracks that were merged into an object.
    skipped : tuple of int
        Frames that are blank, saturated or unreadable, so that no object was tracked on them.
    """

    frames: range
    tracks: tuple[ObjectTrack, ...]
    is_complete: bool
    num_merged: int = 0
    skipped: tuple[int, ...] = ()

    @property
    def lost(self) -> dict[int, int]:
        """Objects that end before the last frame -> the last frame on which they are visible."""
        last = self.frames.stop - 1
        return {t.object_id: t.last_frame for t in self.tracks if t.last_frame is not None and t.last_frame < last}

    @property
    def appeared(self) -> dict[int, int]:
        """Objects that begin after the first frame -> the first frame on which they are visible."""
        first = self.frames.start
        return {t.object_id: t.first_frame for t in self.tracks if t.first_frame is not None and t.first_frame > first}

    @property
    def not_found(self) -> tuple[int, ...]:
        """Objects found on no frame other than their seed frames, although there were others to fill."""
        return tuple(t.object_id for t in self.tracks if not t.num_tracked and set(self.frames) - set(t.seed_frames))


class TrackedLabels(NamedTuple):
    """A label stack and its report.

    Attributes
    ----------
    labels : array
        (T, H, W) int32, or ``out``.
    report : TrackingReport
        Objects that were lost, appeared, or were not found.
    """

    labels: NDArray[np.int32]
    report: TrackingReport


class FoundScores:
    """Accumulates the predicted IoU of each object over the tracked frames on which it is visible.

    Attributes
    ----------
    skipped : set of int
        Frames that were skipped as unusable.
    """

    def __init__(self) -> None:
        self.skipped: set[int] = set()
        self._sums: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def add(self, result: FrameResult) -> None:
        """Add one frame."""
        if not result.is_usable:
            self.skipped.add(result.frame)
        found = (result.areas > 0).tolist()
        prompted = result.is_prompted or (False,) * len(found)
        for object_id, is_found, is_prompted, score in zip(
            result.object_ids, found, prompted, result.iou_scores.tolist(), strict=True
        ):
            if is_found and not is_prompted:
                self.join(object_id, score, 1)

    def join(self, object_id: int, score_sum: float, count: int) -> None:
        """Add scores from elsewhere."""
        self._sums[object_id] = self._sums.get(object_id, 0.0) + score_sum
        self._counts[object_id] = self._counts.get(object_id, 0) + count

    def join_as(self, others: FoundScores, new_ids: Mapping[int, int]) -> None:
        """Add the scores of other objects, under new numbers."""
        self.skipped |= others.skipped
        for object_id, new_id in new_ids.items():
            self.join(new_id, others._sums.get(object_id, 0.0), others._counts.get(object_id, 0))

    def as_text(self) -> str:
        """As JSON, to be kept beside the labels."""
        return json.dumps(
            {"skipped": sorted(self.skipped), "scores": [[i, self._sums[i], self._counts[i]] for i in self._sums]}
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """From `as_text`; raises ValueError, KeyError or TypeError if it is something else."""
        stored, found = json.loads(text), cls()
        found.skipped = set(map(int, stored["skipped"]))
        for object_id, score_sum, count in stored["scores"]:
            found.join(int(object_id), float(score_sum), int(count))
        return found

    def mean(self, object_id: int) -> float:
        """Mean over the frames added; NaN if there is none."""
        count = self._counts.get(object_id, 0)
        return self._sums[object_id] / count if count else float("nan")


def describe_tracks(
    labels: LabelStack,
    frames: range,
    seed_frames: Mapping[int, Sequence[int]],
    scores: FoundScores,
    *,
    is_complete: bool,
    num_merged: int = 0,
) -> TrackingReport:
    """Read a label stack frame by frame and describe each track.

    Parameters
    ----------
    labels : LabelStack
        (T, H, W).
    frames : range
        Frames to read, ascending.
    seed_frames : mapping of int to sequence of int
        Every object and its seed frames.
    scores : FoundScores
        Predicted IoU on the tracked frames.
    is_complete, num_merged : bool, int
        As in the report.

    Returns
    -------
    TrackingReport
        One track per object of ``seed_frames``.
    """
    seen: dict[int, list[int]] = {object_id: [] for object_id in seed_frames}
    for frame in frames:
        for object_id in label_areas(np.asarray(labels[frame]))[:, 0].tolist():
            if object_id in seen:
                seen[object_id].append(frame)
    tracks = []
    for object_id, given in sorted(seed_frames.items()):
        on = seen[object_id]
        tracks.append(
            ObjectTrack(
                object_id=object_id,
                seed_frames=tuple(sorted(given)),
                first_frame=on[0] if on else None,
                last_frame=on[-1] if on else None,
                num_frames=len(on),
                num_tracked=len(set(on) - set(given)),
                mean_score=scores.mean(object_id),
            )
        )
    return TrackingReport(frames, tuple(tracks), is_complete, num_merged, tuple(sorted(scores.skipped)))
