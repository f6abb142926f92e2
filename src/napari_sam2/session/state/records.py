"""The parts of a session: objects, prompts and masks, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from napari_sam2._packed_mask import PackedImage, PackedMask
from napari_sam2._types import Prompt
from napari_sam2.inference.requests import Answer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MaskKind", "ObjectMask", "PlaneCondition", "PromptEntry", "SessionObject"]

_MOSTLY_TAKEN = 0.5  # share of a mask that is left
MaskKind = Literal["prompted", "tracked", "painted", "lost"]


@dataclass(frozen=True)
class SessionObject:
    """One object of a session.

    Attributes
    ----------
    object_id : int
        Value in the labels, at least 1.
    name : str
        Its name.
    is_visible : bool
        Whether viewers show it.
    locked : frozenset of int
        Verified planes, where nothing changes any more.
    parent : int or None
        The object that divided into this one and others; None: it has no known parent.
    born : int or None
        The plane of that division: the first one of this object, on which the parent is gone.
    class_name : str
        Its class; empty for none.
    """

    object_id: int
    name: str
    is_visible: bool = True
    locked: frozenset[int] = frozenset()
    parent: int | None = None
    born: int | None = None
    class_name: str = ""


@dataclass(frozen=True, eq=False)
class PromptEntry:
    """The prompt of an object on a plane, with the answer of the model.

    Attributes
    ----------
    prompt : Prompt
        In pixels of the plane.
    stamp : int
        Number of this version of the prompt, unique in the session.
    base : PackedImage or None
        The mask that was tracked here before the prompt.
    candidate : int or None
        The candidate mask that was chosen for an ambiguous click.
    smaller : tuple of (Prompt, Answer) or None
        The prompt that this one adds to.
    answer : Answer or None
        None until the model has answered.
    """

    prompt: Prompt
    stamp: int
    base: PackedImage | None = None
    candidate: int | None = None
    smaller: tuple[Prompt, Answer] | None = None
    answer: Answer | None = None

    @property
    def is_mask_only(self) -> bool:
        """Whether the user gave the mask and nothing else, so that it is kept pixel for pixel."""
        return self.prompt.is_mask_only


@dataclass(frozen=True)
class PlaneCondition:
    """What is unusual about a plane as a whole, found while objects were tracked across it.

    Attributes
    ----------
    is_usable : bool
        False if it is blank, saturated or unreadable, so that nothing was tracked on it.
    shift_yx : tuple of int
        Movement of the stage since the usable plane before it, in pixels: how much further down and to the right the
        content lies.
    """

    is_usable: bool = True
    shift_yx: tuple[int, int] = (0, 0)

    @property
    def is_ordinary(self) -> bool:
        """Whether there is nothing to note."""
        return self.is_usable and not any(self.shift_yx)


@dataclass(frozen=True)
class ObjectMask:
    """The mask of one object on one plane, and how it was made.

    Attributes
    ----------
    packed : PackedMask
        Its pixels.
    kind : {"prompted", "tracked", "painted", "lost"}
        How it was made; "lost": tracking had stopped before this plane.
    iou, object_score : float
        Predicted IoU, 0 to 1, and the logit of presence; NaN where the model did not predict the mask.
    is_stale : bool
        A prompt nearby has changed since it was tracked.
    """

    packed: PackedMask
    kind: MaskKind
    iou: float = float("nan")
    object_score: float = float("nan")
    is_stale: bool = False

    @classmethod
    def pack(
        cls, mask: NDArray[np.bool_], kind: MaskKind, iou: float = float("nan"), object_score: float = float("nan")
    ) -> ObjectMask:
        """Pack an (H, W) bool mask."""
        return cls(PackedMask.pack(mask), kind, iou, object_score)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box as y0, x0, y1, x1, the ends exclusive; all 0 for an empty mask."""
        return self.packed.box

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.packed.area

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box."""
        return self.packed.window

    @cached_property  # viewers ask for all of them several times a second
    def centroid_yx(self) -> tuple[float, float]:
        """Mean row and column of the pixels; NaN of an empty mask."""
        if not self.area:
            return float("nan"), float("nan")
        rows, columns = np.nonzero(self.pixels())
        return self.box[0] + float(rows.mean()), self.box[1] + float(columns.mean())

    @cached_property
    def largest_piece(self) -> float:
        """Share of the area that belongs to the largest connected piece, 0 to 1; 1 of an empty mask."""
        if not self.area:
            return 1.0
        numbered, count = ndimage.label(self.pixels())
        return 1.0 if count < 2 else int(np.bincount(numbered.ravel())[1:].max()) / self.area

    def pixels(self) -> NDArray[np.bool_]:
        """(h, w) bool, the pixels of the bounding box."""
        return self.packed.pixels()

    def to_image(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool."""
        return self.packed.to_image(hw)

    def without(self, taken: NDArray[np.bool_]) -> ObjectMask:
        """The mask minus the pixels of an (H, W) mask; itself where they do not overlap.

        The predicted IoU is that of the whole mask: where less than half of it is left, it is multiplied by the share
        that is.
        """
        packed = self.packed.without(taken)
        if packed is self.packed:
            return self
        share = packed.area / self.area
        return replace(self, packed=packed, iou=self.iou * share if share < _MOSTLY_TAKEN else self.iou)
