"""Connected components of masks: filling holes, removing islands, keeping some components."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sam2.inference.masks.logits import MASK_LOGIT

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

_HOLE_SCORE = 0.1
"""Logit that the reference assigns to filled holes of tracked masks."""

_EIGHT_IN_PLANE = np.zeros((3, 3, 3), bool)
_EIGHT_IN_PLANE[1] = True
"""8-connectivity within each plane of a (B, H, W) batch, none between planes."""


def fill_holes(
    masks: MaskArray, max_area: float, *, threshold: float = 0.0, fill_value: float | None = None
) -> MaskArray:
    """Fill small holes.

    Parameters
    ----------
    masks : (..., H, W) array or tensor, any device
        Bool masks, or logits.
    max_area : float
        Background components of at most this many pixels are filled; 0 fills nothing. Components are 8-connected;
        those at the image border are treated like any other.
    threshold : float, default 0.0
        Logits up to this value are background.
    fill_value : float, optional
        Logit of the filled pixels; ``threshold + 10`` if not given.

    Returns
    -------
    array or tensor
        A copy with the type of ``masks``; holes in bool masks become True.
    """
    value = threshold + MASK_LOGIT if fill_value is None else fill_value
    return _replace_small(masks, max_area, threshold, of_object=False, value=value)


def keep_components(logits: Tensor, components: NDArray[np.int32], kept: Collection[int], limit: float) -> Tensor:
    """Suppress the components of a mask that are not to be kept.

    Parameters
    ----------
    logits : Tensor
        (h, w).
    components : numpy.ndarray
        (h, w) component labels of the mask, 0 outside.
    kept : collection of int
        Labels of the components to keep.
    limit : float
        Upper limit of the logits in the other components, below 0.

    Returns
    -------
    Tensor
        (h, w) logits.
    """
    is_dropped = torch.from_numpy((components > 0) & ~np.isin(components, list(kept))).to(logits.device)
    return torch.where(is_dropped, logits.clamp(max=limit), logits)


def remove_small_regions(
    masks: MaskArray, max_area: float, *, threshold: float = 0.0, fill_value: float | None = None
) -> MaskArray:
    """Remove small object components.

    Parameters
    ----------
    masks : (..., H, W) array or tensor, any device
        Bool masks, or logits.
    max_area : float
        Components of at most this many pixels (8-connected) are removed; 0 removes nothing.
    threshold : float, default 0.0
        Logits above it are object.
    fill_value : float, optional
        Logit of the removed pixels; ``threshold - 10`` if not given.

    Returns
    -------
    array or tensor
        A copy with the type of ``masks``; removed pixels of bool masks become False.
    """
    value = threshold - MASK_LOGIT if fill_value is None else fill_value
    return _replace_small(masks, max_area, threshold, of_object=True, value=value)


def fill_holes_in_scores(low_res_logits: MaskArray, max_area: float) -> MaskArray:
    """Fill holes of tracked low-resolution masks with logit 0.1, as the reference's video predictor does."""
    return fill_holes(low_res_logits, max_area, fill_value=_HOLE_SCORE)


def clean_low_resolution(
    logits: Tensor, *, mask_threshold: float = 0.0, max_hole_area: float = 0.0, max_sprinkle_area: float = 0.0
) -> Tensor:
    """Fill holes and remove islands in the logits of the mask decoder.

    Parameters
    ----------
    logits : (..., h, w) tensor
    mask_threshold : float, default 0.0
        Threshold between object and background.
    max_hole_area, max_sprinkle_area : float, default 0
        Background and object components of at most this many low-resolution pixels are flipped. Both are found in
        the input logits: filling a hole does not enlarge an island.

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
        cleaned = cleaned.masked_fill(sprinkles, mask_threshold - MASK_LOGIT)
    return cleaned


def postprocess_masks(
    logits: Tensor,
    hw: tuple[int, int],
    *,
    mask_threshold: float = 0.0,
    max_hole_area: float = 0.0,
    max_sprinkle_area: float = 0.0,
) -> Tensor:
    """Clean low-resolution logits (..., h, w) and resize them to the image.

    Returns
    -------
    (..., H, W) float32 tensor
        `clean_low_resolution`, followed by bilinear upsampling (``align_corners=False``).
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
    """Fill holes and remove islands of one mask, in image pixels, as SAM 1 did.

    Parameters
    ----------
    mask : (H, W) bool array
    min_area : float
        Holes and islands smaller than this many pixels (8-connected) are flipped. If all islands are smaller, the
        largest one is kept.

    Returns
    -------
    mask : (H, W) bool array
        The cleaned mask; ``mask`` itself if nothing changed.
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
    """The part of the image to label: the mask's box plus one pixel, or more where the rest could be a small hole.

    None for an empty mask.
    """
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
    """Pixels of the components with at most ``max_area`` pixels in each (H, W) plane, on the same device."""
    # (..., H, W) -> (B, H, W)
    planes = inside.detach().reshape(-1, *inside.shape[-2:]).cpu().numpy()
    labels, num = ndimage.label(planes, structure=_EIGHT_IN_PLANE)
    is_small = np.bincount(labels.ravel(), minlength=num + 1) <= max_area
    is_small[0] = False
    return torch.from_numpy(is_small[labels]).reshape(inside.shape).to(inside.device)
