"""Drop mask components that do not overlap the object's last position, and average repeated segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_sam2.inference.masks.components import keep_components
from napari_sam2.inference.masks.logits import SUPPRESSED_LOGIT
from napari_sam2.network.features import FrameSegmentation
from napari_sam2.network.sam2 import ABSENT_LOGIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ComponentFilterSettings", "average_segmentations", "keep_overlapping_components"]


@dataclass(frozen=True)
class ComponentFilterSettings:
    """Which components of a tracked mask are kept.

    Attributes
    ----------
    dilation : int
        The last mask is dilated by this many low-resolution pixels; an object is about 15 of them wide.
    min_overlap : float
        Fraction of a component, or of the dilated last mask if that is smaller, that must overlap.
    absent_score : float
        Upper limit of the object score, a logit, of an object without any component left.
    min_component : float
        Smallest component of a mask at the size of the image, as a fraction of its largest component. Masks given as
        prompts are not changed.
    """

    dilation: int = 2
    min_overlap: float = 0.2
    absent_score: float = -1.0
    min_component: float = 0.05


def keep_overlapping_components(
    found: FrameSegmentation,
    last_seen: Sequence[Tensor | None],
    no_pointer: Tensor,
    settings: ComponentFilterSettings = ComponentFilterSettings(),
) -> FrameSegmentation:
    """Drop mask components that do not overlap the object's last position.

    Parameters
    ----------
    found : FrameSegmentation
        Of O objects; ``logits`` (O, 1, h, w).
    last_seen : sequence of Tensor or None
        (1, 1, h, w) logits of the last non-empty mask of each object, in the same view; None if the object was absent
        for so long that it counts as lost.
    no_pointer : Tensor
        (1, C) object pointer of an absent object.
    settings : ComponentFilterSettings, optional
        Which components are kept.

    Returns
    -------
    FrameSegmentation
        Objects without any component left have an object score below 0.
    """
    logits, scores, pointers = found.logits.clone(), found.object_score.clone(), found.pointer.clone()
    # copy masks from the device in one go: each copy waits for all pending computation
    masks = (logits[:, 0] > 0).cpu().numpy()
    before = {row: seen for row, seen in enumerate(last_seen) if seen is not None}
    shown = (torch.cat([*before.values()])[:, 0] > 0).cpu().numpy() if before else ()
    seen = dict(zip(before, shown, strict=True))
    for row, mask in enumerate(masks):
        if not mask.any():
            continue
        components, count = ndimage.label(mask)
        near = ndimage.binary_dilation(seen[row], iterations=settings.dilation) if row in seen else None
        kept = set() if near is None else _overlapping(components, near, settings.min_overlap)
        if len(kept) == count:
            continue
        logits[row, 0] = keep_components(logits[row, 0], components, kept, SUPPRESSED_LOGIT)
        if not kept:
            scores[row] = scores[row].clamp(max=settings.absent_score)
            pointers[row] = no_pointer[0].to(pointers.dtype)
    return found._replace(logits=logits, object_score=scores, pointer=pointers)


def average_segmentations(found: FrameSegmentation, refined: FrameSegmentation) -> FrameSegmentation:
    """Combine two segmentations of one frame, the second one prompted with the first.

    Parameters
    ----------
    found, refined : FrameSegmentation
        Of the same O objects.

    Returns
    -------
    FrameSegmentation
        An object is present if it is present in both. Masks are averaged; scores and pointers are those of ``refined``.
    """
    score = torch.minimum(found.object_score, refined.object_score)
    logits = torch.where((score > 0)[..., None, None], (found.logits + refined.logits) / 2, ABSENT_LOGIT)
    pointer = torch.where(found.object_score > 0, refined.pointer, found.pointer)
    return refined._replace(logits=logits, object_score=score, pointer=pointer)


def _overlapping(components: NDArray[np.int32], near: NDArray[np.bool_], min_overlap: float) -> set[int]:
    """Labels of the components that overlap the last position sufficiently."""
    areas = np.bincount(components.ravel())
    common = np.bincount(components[near], minlength=int(components.max()) + 1)
    smaller = np.minimum(areas, near.sum())
    return {int(label) for label in np.flatnonzero(common > min_overlap * smaller) if label}
