"""One object of a stack: what the user said about it, frame by frame, and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.memory_bank import MemoryBank, PastMasks
from napari_sam2.inference.views.view import View

__all__ = ["PromptedFrame", "TrackedObject"]


@dataclass(frozen=True, eq=False)
class PromptedFrame:
    """The prompt of one frame and what it was answered from.

    Attributes
    ----------
    prompt : Prompt
        The whole prompt of the frame.
    base : tuple of (View, Tensor) or None
        What tracking had found on the frame before it was prompted: (1, 1, h, w) logits and their view.
    view : View
        What the model saw.
    """

    prompt: Prompt
    base: tuple[View, Tensor] | None
    view: View


class TrackedObject:
    """Prompts, memories and passes of one object.

    Parameters
    ----------
    object_id : int
        Positive identifier, the value in label images.
    bank : MemoryBank
        Its memories.
    num_frames : int
        Length of the stack.
    """

    def __init__(self, object_id: int, bank: MemoryBank, num_frames: int) -> None:
        self.object_id = object_id
        self.bank = bank
        self.prompts: dict[int, PromptedFrame] = {}
        self.past = PastMasks()
        self._passes = np.zeros(num_frames, np.uint8)  # 0 never tracked, 1 forwards, 2 backwards

    def mark_tracked(self, frame: int, *, reverse: bool) -> None:
        """Note that a pass went over the frame, prompted or not."""
        self._passes[frame] = 2 if reverse else 1

    def was_tracked(self, frame: int) -> bool:
        """Whether a pass went over the frame since the object was last cleared."""
        return bool(self._passes[frame])

    def was_reverse(self, frame: int) -> bool:
        """Direction of the last pass over the frame."""
        return bool(self._passes[frame] == 2)

    def forget_frame(self, frame: int) -> None:
        """Take back the prompt of a frame; what was tracked from it is forgotten too."""
        self.prompts.pop(frame, None)
        self.bank.forget(frame)
        self.bank.forget_tracked()
        self.past.forget()
        self._passes[:] = 0
