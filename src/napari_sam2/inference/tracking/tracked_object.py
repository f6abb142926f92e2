"""One object of a stack: its prompts by frame, and its memories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.memory_bank import MemoryBank, PastMasks
from napari_sam2.inference.views.view import View

__all__ = ["PromptedFrame", "TrackedObject"]


@dataclass(frozen=True, eq=False)
class PromptedFrame:
    """The prompt of one frame, and what it was decoded from.

    Attributes
    ----------
    prompt : Prompt
        The complete prompt of the frame.
    base : tuple of (View, Tensor) or None
        The tracked mask before the frame was prompted: (1, 1, h, w) logits and their view.
    view : View
        The view that was segmented.
    stamp : int
        Larger than those of earlier prompts.
    """

    prompt: Prompt
    base: tuple[View, Tensor] | None
    view: View
    stamp: int = 0


class TrackedObject:
    """Prompts and memories of one object, and the frames on which it was tracked.

    Parameters
    ----------
    object_id : int
        Positive integer, the value in label images.
    bank : MemoryBank
        The memories.
    num_frames : int
        Length of the stack.
    """

    def __init__(self, object_id: int, bank: MemoryBank, num_frames: int) -> None:
        self.object_id = object_id
        self.bank = bank
        self.prompts: dict[int, PromptedFrame] = {}
        self.past = PastMasks()
        self._passes = np.zeros(num_frames, np.uint8)  # 0 not tracked, 1 forwards, 2 backwards

    def mark_tracked(self, frame: int, *, reverse: bool) -> None:
        """Record that tracking passed the frame, prompted or not."""
        self._passes[frame] = 2 if reverse else 1

    def was_tracked(self, frame: int) -> bool:
        """Whether tracking passed the frame since the last prompt was removed."""
        return bool(self._passes[frame])

    def was_reverse(self, frame: int) -> bool:
        """Whether the last pass over the frame was backwards."""
        return bool(self._passes[frame] == 2)

    def own_mask(self, frame: int) -> NDArray[np.bool_] | None:
        """The user's mask, if it is the whole prompt on the frame and is returned unchanged."""
        if frame not in self.prompts or frame not in self.bank.prompted:
            return None
        prompt = self.prompts[frame].prompt
        return prompt.mask if prompt.is_mask_only else None

    def forget_frame(self, frame: int) -> None:
        """Remove the prompt of a frame and everything that was tracked."""
        self.prompts.pop(frame, None)
        self.bank.forget(frame)
        self.bank.forget_tracked()
        self.past.forget()
        self._passes[:] = 0
