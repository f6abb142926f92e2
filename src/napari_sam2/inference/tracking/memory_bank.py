"""The memory of one object: all prompted frames, and recent frames in the direction of tracking."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam2._errors import PromptError
from napari_sam2._packed_mask import PackedMask
from napari_sam2.inference.views.view import View

__all__ = ["FrameMemory", "MemoryBank", "PastMasks", "Recall"]


@dataclass(frozen=True, eq=False)
class FrameMemory:
    """The memory of one object on one frame.

    Attributes
    ----------
    frame : int
        Index of the frame.
    is_conditioning : bool
        Whether the object was prompted on this frame.
    reverse : bool
        Whether the frame was tracked backwards; ignored for prompted frames.
    view : View
        The view that was segmented.
    logits : Tensor
        (1, 1, h, w) low-resolution logits of the view, with holes filled.
    iou : Tensor
        (1,) predicted IoU.
    object_score : Tensor
        (1, 1) logit that the object is present.
    pointer : Tensor
        (1, C) object pointer.
    features : Tensor or None
        (1, Cm, S/16, S/16) spatial memory; ``None`` before it is encoded, after it is out of reach, and where the frame
        is left out.
    is_left_out : bool
        The frame is not recalled, and time does not advance on it: the frame is unusable, or the object is missing on
        it for a short time.
    is_unusable : bool
        The frame itself is unusable; the object was not searched for.
    shows_distractor : bool
        Another object on the frame was among the candidates for this one.
    is_contested : bool
        Another object claimed a large part of the mask, or it has suddenly grown: it does not say where the object is.
    """

    frame: int
    is_conditioning: bool
    reverse: bool
    view: View
    logits: Tensor
    iou: Tensor
    object_score: Tensor
    pointer: Tensor
    features: Tensor | None = None
    is_left_out: bool = False
    is_unusable: bool = False
    shows_distractor: bool = False
    is_contested: bool = False

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w) low-resolution mask of the view, on the CPU."""
        mask: NDArray[np.bool_] = (self.logits[0, 0] > 0).cpu().numpy()
        return mask


class Recall(NamedTuple):
    """The memories that an object attends to on one frame; objects with equal ``layout`` can share a batch."""

    spatial: list[tuple[FrameMemory, int]]
    pointers: list[tuple[FrameMemory, int]]

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Time slots of the spatial memories and temporal distances of the pointers."""
        return tuple(slot for _, slot in self.spatial), tuple(offset for _, offset in self.pointers)


class MemoryBank:
    """The memories of one object.

    Parameters
    ----------
    num_memories : int
        Number of time slots: one for prompted frames, the others for recent frames.
    max_pointers : int
        Maximum number of pointers attended to, not counting prompted frames.
    extra_frames : int, default 0
        Number of frames to keep beyond those that attention can read.
    any_direction : bool, default False
        Also read memories from tracking in the other direction, as the reference does.
    max_distractors : int, default 0
        Number of tracked frames with another object like this one that are read however far they are behind.
    """

    def __init__(
        self,
        num_memories: int,
        max_pointers: int,
        *,
        extra_frames: int = 0,
        any_direction: bool = False,
        max_distractors: int = 0,
    ) -> None:
        self.num_recent = num_memories - 1
        self.max_pointers = max_pointers
        self.extra_frames = extra_frames
        self.any_direction = any_direction
        self.prompted: dict[int, FrameMemory] = {}
        self.tracked: dict[int, FrameMemory] = {}
        self.max_distractors = max_distractors
        self.distractors: dict[int, FrameMemory] = {}
        self._left_out: set[int] = set()

    @property
    def nbytes(self) -> int:
        """Size of spatial memories, logits and pointers in bytes."""
        total = 0
        memories = {id(m): m for part in (self.prompted, self.tracked, self.distractors) for m in part.values()}
        for memory in memories.values():
            for tensor in (memory.features, memory.logits, memory.pointer):
                total += 0 if tensor is None else tensor.numel() * tensor.element_size()
        return total

    def add(self, memory: FrameMemory) -> None:
        """Store a frame; adding a tracked frame removes those that attention can no longer reach."""
        self.distractors.pop(memory.frame, None)
        if memory.is_left_out:
            self._left_out.add(memory.frame)
        else:
            self._left_out.discard(memory.frame)
        if memory.is_conditioning:
            self.tracked.pop(memory.frame, None)
            self.prompted[memory.frame] = memory
            return
        self.tracked[memory.frame] = memory
        if memory.shows_distractor and self.max_distractors:
            self._keep_distractor(memory)
        self._forget_out_of_reach(memory.frame, reverse=memory.reverse)

    def _keep_distractor(self, memory: FrameMemory) -> None:
        """Keep a frame, unless one nearby is kept already; beyond the number allowed the first one is dropped."""
        kept = [m for m in self.distractors.values() if m.reverse == memory.reverse]
        if all(abs(m.frame - memory.frame) > self.num_recent for m in kept):
            self.distractors[memory.frame] = memory
        while len(self.distractors) > self.max_distractors:
            del self.distractors[next(iter(self.distractors))]

    def at(self, frame: int) -> FrameMemory | None:
        """The memory of one frame, or None."""
        return self.prompted.get(frame) or self.tracked.get(frame)

    def before(self, frame: int, *, reverse: bool) -> FrameMemory | None:
        """The memory of the previous frame in the direction of tracking; frames that are left out do not count."""
        step = -1 if reverse else 1
        previous = frame - step
        while previous in self._left_out:
            previous -= step
        return self.at(previous)

    def num_searched(self, first: int, last: int) -> int:
        """Frames strictly between two frames on which the object was not found: all but unusable ones."""
        between = range(min(first, last) + 1, max(first, last))
        known = (self.at(t) for t in between)
        return sum(memory is not None and not memory.is_unusable for memory in known)

    def forget(self, frame: int) -> None:
        """Remove one frame."""
        self.prompted.pop(frame, None)
        self.tracked.pop(frame, None)
        self.distractors.pop(frame, None)
        self._left_out.discard(frame)

    def forget_tracked(self) -> None:
        """Remove all frames without a prompt."""
        self.tracked.clear()
        self.distractors.clear()
        self._left_out.clear()

    def behind(self, frame: int, *, reverse: bool) -> list[FrameMemory]:
        """Frames in memory behind ``frame`` that were tracked in this direction or prompted, oldest first."""
        held = {**self.tracked, **self.prompted}
        found = [m for t, m in held.items() if t != frame and (t > frame) == reverse]
        found = [m for m in found if m.is_conditioning or m.reverse == reverse]
        return sorted(found, key=lambda memory: memory.frame, reverse=reverse)

    def prompt_distance(self, frame: int) -> int:
        """Number of frames from the nearest prompted frame."""
        return min(abs(frame - prompted) for prompted in self.prompted)

    def recall(self, frame: int, *, reverse: bool, num_frames: int, leave_out: Collection[int] = ()) -> Recall:
        """The memories that the object attends to when one frame is segmented.

        Parameters
        ----------
        frame : int
            Frame to be segmented.
        reverse : bool
            Tracking backwards, so that recent frames are later ones.
        num_frames : int
            Length of the stack; limits the range of the pointers if shorter than ``max_pointers``.
        leave_out : collection of int, default ()
            Prompted frames to ignore, such as the frame itself.

        Returns
        -------
        Recall
            Spatial memories: prompted frames, those with distractors, then recent frames, oldest first. Pointers:
            past prompted frames, then recent frames, nearest first.

        Raises
        ------
        PromptError
            If the object has no prompt.

        References
        ----------
        .. [1] Ravi et al., SAM 2, 2024, section 4, "Memory bank". arXiv:2408.00714
        .. [2] Videnovic et al., A distractor-aware memory for visual object tracking with SAM2, 2024. arXiv:2411.17576
        """
        if not self.prompted:
            raise PromptError("the object has no prompt; give it a point, a box or a mask first")
        last_slot = self.num_recent
        prompted = {t: memory for t, memory in self.prompted.items() if t not in leave_out}
        recent = self._recent(frame, reverse=reverse)
        spatial = [(memory, last_slot) for memory in prompted.values() if memory.features is not None]
        for t, distracted in self.distractors.items():
            is_behind = (t > frame) == reverse and t != frame and distracted.reverse == reverse
            if is_behind and self._age(t, frame, reverse=reverse) > self.num_recent:
                spatial.append((distracted, last_slot))
        for distance in range(self.num_recent, 0, -1):
            memory = recent.get(distance)
            if memory is not None and memory.features is not None:
                spatial.append((memory, distance - 1))
        pointers = []
        for t, memory in prompted.items():
            if t == frame or (t > frame) == reverse:
                pointers.append((memory, self._age(t, frame, reverse=reverse)))
        for distance in range(1, min(num_frames, self.max_pointers)):
            memory = recent.get(distance)
            if memory is not None:
                pointers.append((memory, distance))
        return Recall(spatial, pointers)

    def _recent(self, frame: int, *, reverse: bool) -> dict[int, FrameMemory]:
        """Tracked frames behind ``frame`` by their age; those that are left out are missing."""
        return {
            self._age(t, frame, reverse=reverse): memory
            for t, memory in self.tracked.items()
            if (t > frame) == reverse
            and t != frame
            and not memory.is_left_out
            and (memory.reverse == reverse or self.any_direction)
        }

    def _age(self, past: int, frame: int, *, reverse: bool) -> int:
        """Number of frames from ``past`` to ``frame``, negative for frames ahead; those left out do not count."""
        low, high = min(past, frame), max(past, frame)
        age = high - low - sum(low < t < high for t in self._left_out)
        return age if (past > frame) == reverse or past == frame else -age

    def _forget_out_of_reach(self, frame: int, *, reverse: bool) -> None:
        """Remove memories that neither the next frame nor, with ``extra_frames``, a change of direction could read."""
        step = -1 if reverse else 1
        for t, memory in list(self.tracked.items()):
            age = self._age(t, frame + step, reverse=reverse)  # as seen from the next frame
            stale = memory.reverse != reverse and not self.any_direction
            if stale or abs(age) > self.max_pointers - 1 + self.extra_frames:
                del self.tracked[t]
            elif abs(age) > self.num_recent + self.extra_frames and memory.features is not None:
                self.tracked[t] = replace(memory, features=None)


class PastMasks:
    """Low-resolution masks of tracked frames, compressed to a few hundred bytes, for later corrections.

    Parameters
    ----------
    max_frames : int, default 20000
        The oldest masks are removed beyond this number.
    """

    logit = 6.0  # masks are fed back to the decoder as logits of +- this

    def __init__(self, max_frames: int = 20_000) -> None:
        self.max_frames = max_frames
        self._packed: OrderedDict[int, tuple[View, tuple[int, int], PackedMask]] = OrderedDict()

    def __contains__(self, frame: int) -> bool:
        return frame in self._packed

    def add(self, frame: int, view: View, mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> None:
        """Store a bool mask (h, w) of a view."""
        self._packed[frame] = (view, mask.shape, PackedMask.pack(mask))
        self._packed.move_to_end(frame)
        if len(self._packed) > self.max_frames:
            self._packed.popitem(last=False)

    def logits(self, frame: int) -> tuple[View, Tensor]:
        """The view of a frame and its mask as (1, 1, h, w) logits, on the CPU."""
        view, shape, packed = self._packed[frame]
        return view, (torch.from_numpy(packed.to_image(shape)).float() * 2 - 1)[None, None] * self.logit

    def forget(self, frame: int | None = None) -> None:
        """Remove one frame, or all."""
        if frame is None:
            self._packed.clear()
        else:
            self._packed.pop(frame, None)
