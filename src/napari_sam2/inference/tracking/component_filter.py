"""A tracked object goes on where it was: pieces of a mask that lie elsewhere belong to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_sam2.inference.masks.components import keep_components
from napari_sam2.network.features import FrameSegmentation
from napari_sam2.network.sam2 import ABSENT_LOGIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["average_segmentations", "keep_overlapping_components"]

_REACH = 2  # cells of the low-resolution mask, of about 15 across an object, added around where it was
_COMMON = 0.2  # of a piece, or of where the object was, that must lie in common
_ELSEWHERE = -10.0  # logit of a pixel of a piece that is left out
_GONE = -1.0  # object score of a mask of which nothing is left


def keep_overlapping_components(
    found: FrameSegmentation, seen_before: Sequence[Tensor | None], no_pointer: Tensor
) -> FrameSegmentation:
    """Leave out the pieces of masks that do not touch where their object was seen last.

    Parameters
    ----------
    found : FrameSegmentation
        Of O objects; ``logits`` (O, 1, h, w).
    seen_before : sequence of Tensor or None
        (1, 1, h, w) logits of the last mask that showed the object, in the same view; None: not seen for so long that
        it counts as gone.
    no_pointer : Tensor
        (1, C) what stands in memory for an object that is absent.

    Returns
    -------
    FrameSegmentation
        An object of whose mask nothing is left has an object score below 0.
    """
    logits, scores, pointers = found.logits.clone(), found.object_score.clone(), found.pointer.clone()
    # fetched from the device at once: each fetch waits for all that is being computed there
    masks = (logits[:, 0] > 0).cpu().numpy()
    before = {row: seen for row, seen in enumerate(seen_before) if seen is not None}
    shown = (torch.cat([*before.values()])[:, 0] > 0).cpu().numpy() if before else ()
    seen = dict(zip(before, shown, strict=True))
    for row, mask in enumerate(masks):
        if not mask.any():
            continue
        pieces, count = ndimage.label(mask)
        near = ndimage.binary_dilation(seen[row], iterations=_REACH) if row in seen else None
        touching = set() if near is None else _continuing(pieces, near)
        if len(touching) == count:
            continue
        logits[row, 0] = keep_components(logits[row, 0], pieces, touching, _ELSEWHERE)
        if not touching:
            scores[row] = scores[row].clamp(max=_GONE)
            pointers[row] = no_pointer[0].to(pointers.dtype)
    return found._replace(logits=logits, object_score=scores, pointer=pointers)


def average_segmentations(found: FrameSegmentation, again: FrameSegmentation) -> FrameSegmentation:
    """Two answers about one frame, of which the second was asked to make the first better, as one.

    Parameters
    ----------
    found, again : FrameSegmentation
        Of the same O objects.

    Returns
    -------
    FrameSegmentation
        An object is present if both say so. Masks are average_best; their score and the pointers are the second's.
    """
    score = torch.minimum(found.object_score, again.object_score)
    logits = torch.where((score > 0)[..., None, None], (found.logits + again.logits) / 2, ABSENT_LOGIT)
    pointer = torch.where(found.object_score > 0, again.pointer, found.pointer)
    return again._replace(logits=logits, object_score=score, pointer=pointer)


def _continuing(pieces: NDArray[np.int32], near: NDArray[np.bool_]) -> set[int]:
    """Numbers of the pieces that lie enough in where the object was."""
    areas, common = np.bincount(pieces.ravel()), np.bincount(pieces[near], minlength=int(pieces.max()) + 1)
    smaller = np.minimum(areas, near.sum())
    return {int(piece) for piece in np.flatnonzero(common > _COMMON * smaller) if piece}
