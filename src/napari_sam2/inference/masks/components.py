"""Masks as arrays: thresholds, boxes, stability, clean-up by area, and run-length encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

__all__ = [
    "clean_low_resolution",
    "clean_small_regions",
    "fill_holes",
    "fill_holes_in_scores",
    "keep_components",
    "postprocess_masks",
    "remove_small_regions",
]

MaskArray = TypeVar("MaskArray", bound="NDArray[np.generic] | Tensor")

_CLEAR_MARGIN = 10.0
"""How far beyond the threshold the reference puts the logits of a pixel that changes sides."""

_HOLE_SCORE = 0.1
"""Logit the reference gives to a filled hole of a tracked frame."""

_EIGHT_IN_PLANE = np.zeros((3, 3, 3), bool)
_EIGHT_IN_PLANE[1] = True
"""8-connectivity within each plane of a (B, H, W) batch, none between planes."""


# --- thresholds, boxes, stability -------------------------------------------------------------------------------


# --- clean-up by area, in logits or masks -----------------------------------------------------------------------


def fill_holes(
    masks: MaskArray, max_area: float, *, threshold: float = 0.0, fill_value: float | None = None
) -> MaskArray:
    """Give small background components to the object.

    Parameters
    ----------
    masks : (..., H, W) array or tensor, any device
        Bool masks, or logits.
    max_area : float
        Components of at most so many pixels are filled; 0 leaves everything as it is.
        Pixels touch at edges and corners; a component at the image border counts like any other.
    threshold : float, default 0.0
        Logits at or below it are background.
    fill_value : float, optional
        Logit of the filled pixels; ``threshold + 10`` if not given.

    Returns
    -------
    array or tensor
        New, like ``masks``; bool masks are filled with True.
    """
    value = threshold + _CLEAR_MARGIN if fill_value is None else fill_value
    return _replace_small(masks, max_area, threshold, of_object=False, value=value)


def keep_components(logits: Tensor, pieces: NDArray[np.int32], kept: Collection[int], limit: float) -> Tensor:
    """Logits (h, w) in which the pieces of the mask that are not kept are pushed below zero.

    Parameters
    ----------
    logits : Tensor
        (h, w).
    pieces : numpy.ndarray
        (h, w) number of the piece each pixel of the mask belongs to, 0 outside.
    kept : collection of int
        The pieces that stay.
    limit : float
        Highest logit of a pixel of the others, below 0.
    """
    elsewhere = torch.from_numpy((pieces > 0) & ~np.isin(pieces, list(kept))).to(logits.device)
    return torch.where(elsewhere, logits.clamp(max=limit), logits)


def remove_small_regions(
    masks: MaskArray, max_area: float, *, threshold: float = 0.0, fill_value: float | None = None
) -> MaskArray:
    """Give small object components to the background.

    Parameters
    ----------
    masks : (..., H, W) array or tensor, any device
        Bool masks, or logits.
    max_area : float
        Components of at most so many pixels (8-connected) are removed; 0 leaves everything as it is.
    threshold : float, default 0.0
        Logits above it are object.
    fill_value : float, optional
        Logit of the removed pixels; ``threshold - 10`` if not given.

    Returns
    -------
    array or tensor
        New, like ``masks``; bool masks are cleared with False.
    """
    value = threshold - _CLEAR_MARGIN if fill_value is None else fill_value
    return _replace_small(masks, max_area, threshold, of_object=True, value=value)


def fill_holes_in_scores(low_res_logits: MaskArray, max_area: float) -> MaskArray:
    """Fill holes of tracked masks as the reference's video predictor does: logit 0.1 in low-resolution pixels."""
    return fill_holes(low_res_logits, max_area, fill_value=_HOLE_SCORE)


def clean_low_resolution(
    logits: Tensor, *, mask_threshold: float = 0.0, max_hole_area: float = 0.0, max_sprinkle_area: float = 0.0
) -> Tensor:
    """Fill holes of, and remove islands from, the logits of the mask decoder.

    Parameters
    ----------
    logits : (..., h, w) tensor
    mask_threshold : float, default 0.0
        Cut between object and background.
    max_hole_area, max_sprinkle_area : float, default 0
        Background and object components of at most so many low-resolution pixels change sides. Both are found
        in the logits as given: filling a hole does not make an island bigger.

    Returns
    -------
    (..., h, w) tensor
        ``mask_threshold + 10`` in filled holes, ``mask_threshold - 10`` in removed islands; ``logits`` itself
        if both areas are 0.
    """
    cleaned = logits
    if max_hole_area > 0:
        cleaned = fill_holes(logits, max_hole_area, threshold=mask_threshold)
    if max_sprinkle_area > 0:
        sprinkles = _small_components(logits > mask_threshold, max_sprinkle_area)
        cleaned = cleaned.masked_fill(sprinkles, mask_threshold - _CLEAR_MARGIN)
    return cleaned


def postprocess_masks(
    logits: Tensor,
    hw: tuple[int, int],
    *,
    mask_threshold: float = 0.0,
    max_hole_area: float = 0.0,
    max_sprinkle_area: float = 0.0,
) -> Tensor:
    """Clean low-resolution logits (..., h, w) and bring them to the size of the image.

    Returns
    -------
    (..., H, W) float32 tensor
        `clean_low_resolution`, then upsampled bilinearly, ``align_corners=False``.
    """
    cleaned = clean_low_resolution(
        logits.float(),
        mask_threshold=mask_threshold,
        max_hole_area=max_hole_area,
        max_sprinkle_area=max_sprinkle_area,
    )
    # (..., h, w) -> (B, 1, h, w) -> (B, 1, H, W) -> (..., H, W)
    upsampled = F.interpolate(cleaned.reshape(-1, 1, *logits.shape[-2:]), hw, mode="bilinear", align_corners=False)
    return upsampled.reshape(*logits.shape[:-2], *hw)


def clean_small_regions(mask: NDArray[np.bool_], min_area: float) -> tuple[NDArray[np.bool_], bool]:
    """Fill the holes and drop the islands of one mask, in image pixels, as SAM 1 did.

    Parameters
    ----------
    mask : (H, W) bool array
    min_area : float
        Holes and islands smaller than this many pixels (8-connected) go; if every island is smaller,
        the largest one stays.

    Returns
    -------
    mask : (H, W) bool array
        The cleaned mask; the given array itself if nothing changed.
    changed : bool
    """
    part = _part_that_decides(mask, min_area)
    if part is None:
        return mask, False
    inner, changed = mask[part], False
    labels, num = ndimage.label(~inner, structure=_EIGHT_IN_PLANE[1])
    is_small = np.bincount(labels.ravel(), minlength=num + 1) < min_area
    is_small[0] = False
    rows, columns = part
    for is_cut, border in (
        (rows.start > 0, labels[0]),
        (rows.stop < mask.shape[0], labels[-1]),
        (columns.start > 0, labels[:, 0]),
        (columns.stop < mask.shape[1], labels[:, -1]),
    ):
        if is_cut:
            is_small[border] = False
    if is_small.any():
        inner, changed = inner | is_small[labels], True
    labels, num = ndimage.label(inner, structure=_EIGHT_IN_PLANE[1])
    areas = np.bincount(labels.ravel(), minlength=num + 1)
    keep = areas >= min_area
    keep[0] = False
    if not keep[1:].all():
        if not keep.any():
            keep[1 + int(areas[1:].argmax())] = True
        inner, changed = keep[labels], True
    if not changed:
        return mask, False
    whole = mask.copy()
    whole[part] = inner
    return whole, True


def _part_that_decides(mask: NDArray[np.bool_], min_area: float) -> tuple[slice, slice] | None:
    """The box of a mask and one pixel around it, wherever what lies beyond is no small hole; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    around = []
    for indices, length, breadth in ((rows, *mask.shape), (columns, *mask.shape[::-1])):
        first, last = max(int(indices[0]) - 1, 0), min(int(indices[-1]) + 2, length)
        around.append(
            slice(
                first if first * breadth >= min_area else 0,
                last if (length - last) * breadth >= min_area else length,
            )
        )
    return around[0], around[1]


def _replace_small(masks: MaskArray, max_area: float, threshold: float, *, of_object: bool, value: float) -> MaskArray:
    if isinstance(masks, Tensor):
        is_bool = masks.dtype == torch.bool
        inside = masks if is_bool else masks > threshold
        if not of_object:
            inside = ~masks if is_bool else masks <= threshold
        if max_area <= 0:
            return cast("MaskArray", masks.clone())
        small = _small_components(inside, max_area)
        return cast("MaskArray", masks.masked_fill(small, not of_object if is_bool else value))
    cleaned = np.array(masks)
    tensor = _replace_small(torch.from_numpy(cleaned), max_area, threshold, of_object=of_object, value=value)
    return cast("MaskArray", tensor.numpy())


def _small_components(inside: Tensor, max_area: float) -> Tensor:
    """Pixels of the components of each (H, W) plane that have at most ``max_area`` pixels, on the same device."""
    # (..., H, W) -> (B, H, W)
    planes = inside.detach().reshape(-1, *inside.shape[-2:]).cpu().numpy()
    labels, num = ndimage.label(planes, structure=_EIGHT_IN_PLANE)
    is_small = np.bincount(labels.ravel(), minlength=num + 1) <= max_area
    is_small[0] = False
    return torch.from_numpy(is_small[labels]).reshape(inside.shape).to(inside.device)


# --- run lengths ------------------------------------------------------------------------------------------------
