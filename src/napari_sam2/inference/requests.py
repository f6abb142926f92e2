"""Requests to the engine and their results: values passed between threads and packages, numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._packed_mask import PackedImage
from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Answer",
    "AnsweredPrompt",
    "AxesRequest",
    "PredictRequest",
    "PredictResult",
    "TimeRequest",
    "TrackRequest",
    "TrackStep",
]


@dataclass(frozen=True, eq=False)
class Answer:
    """The model's answer to a prompt, sufficient to recreate its memory for tracking.

    Attributes
    ----------
    view : tuple of int
        x, y, width and height of the view in image pixels, and 1 if it keeps the image's aspect ratio.
    logits : numpy.ndarray
        (h, w) float32 low-resolution logits of the view.
    pointer : numpy.ndarray
        (C,) float32 object pointer.
    iou, object_score : float
        Predicted IoU, 0 to 1, and the logit that the object is present.
    """

    view: tuple[int, int, int, int, int]
    logits: NDArray[np.float32]
    pointer: NDArray[np.float32]
    iou: float
    object_score: float


@dataclass(frozen=True, eq=False)
class AnsweredPrompt:
    """A prompt on one frame with its answer; ``answer`` is None for a mask that was not encoded yet."""

    prompt: Prompt
    answer: Answer | None


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """Segment one object on one frame.

    Attributes
    ----------
    object_id, frame : int
        The object and the frame.
    prompt : Prompt
        The complete prompt of the object on this frame.
    smaller : AnsweredPrompt or None
        The previous prompt on this frame, if ``prompt`` extends it; its mask is refined.
    base : numpy.ndarray or None
        (H, W) bool, the tracked mask before the frame was prompted.
    others : mapping of int to AnsweredPrompt
        The object's other prompted frames, used as memories if ``base`` is given.
    candidate : int or None
        Rank by score of the candidate to use for an ambiguous click; 0 is the best.
    """

    object_id: int
    frame: int
    prompt: Prompt
    smaller: AnsweredPrompt | None = None
    base: NDArray[np.bool_] | None = None
    others: Mapping[int, AnsweredPrompt] = field(default_factory=dict)
    candidate: int | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the result depends on the prompt alone."""
        return self.smaller is None and self.base is None and self.candidate is None


@dataclass(frozen=True, eq=False)
class PredictResult:
    """The mask of one object on one frame: ``mask`` (H, W) bool, its scores, and the answer to store."""

    object_id: int
    frame: int
    mask: NDArray[np.bool_]
    answer: Answer


@dataclass(frozen=True)
class TrackStep:
    """Objects to track on one frame; those in ``reported_ids`` appear in the result."""

    frame: int
    reverse: bool
    object_ids: tuple[int, ...]
    reported_ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TrackRequest:
    """One or two passes through the stack.

    Attributes
    ----------
    prompts : mapping
        Object -> prompted frame -> prompt and answer.
    steps : sequence of TrackStep
        Steps in order; each object is tracked from its prompted frames.
    lost_after : int or None
        Stop tracking an object in a direction after this many consecutive frames without it; None: never.
    keep_apart : bool
        Write each pixel only to the memory of the object with the highest logit there.
    """

    prompts: Mapping[int, Mapping[int, AnsweredPrompt]]
    steps: Sequence[TrackStep]
    lost_after: int | None = None
    keep_apart: bool = False


@dataclass(frozen=True, eq=False)
class AxesRequest:
    """Track objects of a volume along some of its axes.

    Attributes
    ----------
    clip : range
        The planes of the volume.
    clicks : mapping of int to numpy.ndarray
        Object -> (N, 3) z, y, x of points on it; z counts from the first plane of the clip.
    axes : tuple of str
        Some of Z, Y and X.
    voxel_size : tuple of float
        Distance of two voxels along z, y and x, in any unit.
    wanted : mapping of int to frozenset of int
        Object -> the planes to report.
    """

    clip: range
    clicks: Mapping[int, NDArray[np.float64]]
    axes: tuple[str, ...]
    voxel_size: tuple[float, float, float]
    wanted: Mapping[int, frozenset[int]]


@dataclass(frozen=True, eq=False)
class TimeRequest:
    """Track objects through volumes, and from each volume to the next.

    Attributes
    ----------
    num_slices : int
        Planes of a volume; those of volume v are v * num_slices and the following.
    prompted : TrackRequest
        The passes through the volumes that hold prompts; they may have no steps.
    steps : sequence of TrackStep
        From volume to volume, in order; ``frame`` is the number of a volume.
    masks : mapping
        Object -> plane -> its mask, of the volumes to start from; of prompted planes at least.
    max_frames : int or None
        End after so many steps.
    """

    num_slices: int
    prompted: TrackRequest
    steps: Sequence[TrackStep]
    masks: Mapping[int, Mapping[int, PackedImage]]
    max_frames: int | None = None

    @property
    def num_steps(self) -> int:
        """Planes to track; a volume after the first ones counts twice, as it is passed in both directions."""
        total = len(self.prompted.steps) + len(self.steps) * 2 * self.num_slices
        return total if self.max_frames is None else min(total, self.max_frames)
