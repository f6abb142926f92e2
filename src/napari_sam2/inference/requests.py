"""Requests to the engine and its answers: values that travel between threads and rooms, numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answer", "AnsweredPrompt", "PredictRequest", "PredictResult", "TrackRequest", "TrackStep"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said to a prompt; all that tracking needs to remember it by.

    Attributes
    ----------
    view : tuple of int
        x, y, width and height in image pixels of what the model saw, and 1 where it was cut out at the image's own
        proportions.
    logits : numpy.ndarray
        (h, w) float32 low-resolution logits of the view.
    pointer : numpy.ndarray
        (C,) float32 object pointer.
    iou, object_score : float
        Predicted IoU, 0 to 1, and the logit of presence.
    """

    view: tuple[int, int, int, int, int]
    logits: NDArray[np.float32]
    pointer: NDArray[np.float32]
    iou: float
    object_score: float


@dataclass(frozen=True, eq=False)
class AnsweredPrompt:
    """A prompt on one frame with its answer; ``answer`` is None for a mask that the model has not seen yet."""

    prompt: Prompt
    answer: Answer | None


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """One object on one frame.

    Attributes
    ----------
    object_id, frame : int
        Which.
    prompt : Prompt
        All that is said about the object on this frame.
    smaller : AnsweredPrompt or None
        What was said here before, if the prompt only adds to it: its mask is refined.
    base : numpy.ndarray or None
        (H, W) bool, what tracking had found here before the frame was prompted.
    others : mapping of int to AnsweredPrompt
        The object's other prompted frames, remembered where ``base`` is given.
    candidate : int or None
        Take this one of the candidates of an ambiguous click, 0 for the one with the best score.
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
        """Whether nothing that was known before shapes the answer."""
        return self.smaller is None and self.base is None and self.candidate is None


@dataclass(frozen=True, eq=False)
class PredictResult:
    """The mask of one object on one frame: ``mask`` (H, W) bool, its scores, and the answer to remember."""

    object_id: int
    frame: int
    mask: NDArray[np.bool_]
    answer: Answer


@dataclass(frozen=True)
class TrackStep:
    """Objects to track over one frame; those of ``reported_ids`` appear in the result."""

    frame: int
    reverse: bool
    object_ids: tuple[int, ...]
    reported_ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TrackRequest:
    """A pass or two through the stack.

    Attributes
    ----------
    prompts : mapping
        Object -> prompted frame -> what was said and answered there.
    steps : sequence of TrackStep
        In order; each object is tracked from its prompted frames on.
    lost_after : int or None
        An object that is absent on so many frames in a row is not sought further in this direction; None: always.
    """

    prompts: Mapping[int, Mapping[int, AnsweredPrompt]]
    steps: Sequence[TrackStep]
    lost_after: int | None = None
