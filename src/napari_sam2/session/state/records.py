"""What a session is made of: objects, prompts and masks, as values that never change."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam2._types import Prompt
from napari_sam2.inference.requests import Answer

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["MaskKind", "ObjectMask", "PromptEntry", "SessionObject"]

MaskKind = Literal["prompted", "tracked", "painted", "lost"]
_PACK_ABOVE = 512  # bytes: smaller masks are not worth compressing


@dataclass(frozen=True)
class SessionObject:
    """One object of a session.

    Attributes
    ----------
    object_id : int
        Value in the labels, at least 1.
    name : str
        What the user calls it.
    is_visible : bool
        Whether viewers show it.
    locked : frozenset of int
        Planes that were verified: nothing changes there any more.
    """

    object_id: int
    name: str
    is_visible: bool = True
    locked: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class PromptEntry:
    """What is said about an object on a plane, and how the model answered.

    Attributes
    ----------
    prompt : Prompt
        In pixels of the plane.
    stamp : int
        Number of this version of the prompt; no two of a session are equal.
    base : numpy.ndarray or None
        (H, W) bool, what tracking had found here before.
    candidate : int or None
        The candidate that was chosen for an ambiguous click.
    smaller : tuple of (Prompt, Answer) or None
        The prompt that this one adds to.
    answer : Answer or None
        None until the model has answered.
    """

    prompt: Prompt
    stamp: int
    base: NDArray[np.bool_] | None = None
    candidate: int | None = None
    smaller: tuple[Prompt, Answer] | None = None
    answer: Answer | None = None

    @property
    def is_mask_only(self) -> bool:
        """Whether the user gave the mask and nothing else, so that it is kept pixel for pixel."""
        return self.prompt.mask is not None and not len(self.prompt.points) and self.prompt.box is None


@dataclass(frozen=True)
class ObjectMask:
    """The pixels of one object on one plane, packed.

    Attributes
    ----------
    box : tuple of int
        y0, x0, y1, x1 of the smallest rectangle around it; all 0 for an empty mask.
    packed : bytes
        The pixels in the box, one bit each, perhaps compressed.
    area : int
        Number of pixels.
    kind : {"prompted", "tracked", "painted", "lost"}
        Where it comes from; "lost": the object was no longer sought here.
    iou, object_score : float
        Predicted IoU, 0 to 1, and the logit of presence; NaN where the model was not asked.
    is_stale : bool
        A prompt nearby has changed since it was tracked.
    """

    box: tuple[int, int, int, int]
    packed: bytes
    area: int
    kind: MaskKind
    iou: float = float("nan")
    object_score: float = float("nan")
    is_stale: bool = False

    @classmethod
    def pack(
        cls,
        mask: NDArray[np.bool_],
        kind: MaskKind,
        iou: float = float("nan"),
        object_score: float = float("nan"),
        *,
        origin_yx: tuple[int, int] = (0, 0),
    ) -> ObjectMask:
        """Pack a bool mask (h, w) whose first pixel lies at ``origin_yx``."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls((0, 0, 0, 0), b"", 0, kind, iou, object_score)
        y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inner = mask[y0:y1, x0:x1]
        packed = np.packbits(inner).tobytes()
        if len(packed) > _PACK_ABOVE:
            packed = zlib.compress(packed, 1)
        dy, dx = origin_yx
        return cls((y0 + dy, x0 + dx, y1 + dy, x1 + dx), packed, int(inner.sum()), kind, iou, object_score)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        y0, x0, y1, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    def pixels(self) -> NDArray[np.bool_]:
        """(h, w) bool, the pixels in the box."""
        y0, x0, y1, x1 = self.box
        count = (y1 - y0) * (x1 - x0)
        raw = zlib.decompress(self.packed) if (count + 7) // 8 > _PACK_ABOVE else self.packed
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count)
        return bits.reshape(y1 - y0, x1 - x0).astype(bool)

    def to_image(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool."""
        mask = np.zeros(hw, bool)
        if self.area:
            mask[self.window] = self.pixels()
        return mask

    def without(self, taken: NDArray[np.bool_]) -> ObjectMask:
        """The mask less the pixels of an (H, W) mask; itself where they do not meet."""
        if not self.area or not taken[self.window].any():
            return self
        left = self.pixels() & ~taken[self.window]
        if int(left.sum()) == self.area:
            return self
        kept = ObjectMask.pack(left, self.kind, self.iou, self.object_score, origin_yx=self.box[:2])
        return replace(kept, is_stale=self.is_stale)


@lru_cache(maxsize=1 << 16)  # viewers ask for all of them several times a second
def centroid_yx(mask: ObjectMask) -> tuple[float, float]:
    """Mean row and column of the pixels; NaN of an empty mask."""
    if not mask.area:
        return float("nan"), float("nan")
    rows, columns = np.nonzero(mask.pixels())
    return mask.box[0] + float(rows.mean()), mask.box[1] + float(columns.mean())
