"""Masks as arrays: thresholds, boxes, stability, clean-up by area, and run-length encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

__all__ = [
    "RLE",
    "clean_low_resolution",
    "clean_small_regions",
    "compress_rle",
    "decode_rle",
    "encode_rle",
    "fill_holes",
    "fill_holes_in_scores",
    "keep_pieces",
    "mask_to_box",
    "postprocess_masks",
    "remove_small_regions",
    "rle_area",
    "run_lengths",
    "stability_score",
    "threshold_logits",
]

MaskArray = TypeVar("MaskArray", bound="NDArray[np.generic] | Tensor")

_CLEAR_MARGIN = 10.0
"""How far beyond the threshold the reference puts the logits of a pixel that changes sides."""

_HOLE_SCORE = 0.1
"""Logit the reference gives to a filled hole of a tracked frame."""

_EIGHT_IN_PLANE = np.zeros((3, 3, 3), bool)
_EIGHT_IN_PLANE[1] = True
"""8-connectivity within each plane of a (B, H, W) batch, none between planes."""


class RLE(TypedDict):
    """COCO run lengths of a mask.

    ``size`` is [H, W]; ``counts`` the lengths of alternating runs, background first, column by column:
    a list of numbers, or COCO's compressed text.
    """

    size: list[int]
    counts: list[int] | str


# --- thresholds, boxes, stability -------------------------------------------------------------------------------


def threshold_logits(logits: Tensor, threshold: float = 0.0) -> Tensor:
    """Masks of the same shape, bool: logits strictly above the threshold."""
    return logits > threshold


def mask_to_box(masks: MaskArray) -> MaskArray:
    """Tight boxes around masks.

    Parameters
    ----------
    masks : (..., H, W) bool array or tensor

    Returns
    -------
    (..., 4) int64 array or tensor
        First and last column and row that hold a pixel, as (x0, y0, x1, y1); zeros for an empty mask.
    """
    if isinstance(masks, Tensor):
        return cast("MaskArray", _boxes_of_tensor(masks))
    boxes = _boxes_of_tensor(torch.from_numpy(np.array(masks, dtype=bool)))
    return cast("MaskArray", boxes.numpy())


def _boxes_of_tensor(masks: Tensor) -> Tensor:
    columns = masks.any(-2).to(torch.uint8)
    rows = masks.any(-1).to(torch.uint8)
    h, w = masks.shape[-2:]
    # argmax finds the first 1; flipped, the last one
    x0, y0 = columns.argmax(-1), rows.argmax(-1)
    x1, y1 = w - 1 - columns.flip(-1).argmax(-1), h - 1 - rows.flip(-1).argmax(-1)
    return torch.stack((x0, y0, x1, y1), -1) * columns.any(-1)[..., None]


def stability_score(logits: Tensor, threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """How little a mask changes when its threshold moves.

    Parameters
    ----------
    logits : (..., H, W) tensor
    threshold : float, default 0.0
        Cut that makes the mask.
    offset : float, default 1.0
        The cut is moved up and down by this many logits.

    Returns
    -------
    (...) float32 tensor
        Area at the higher cut over area at the lower cut, 0 to 1; 0 if both are empty (the reference gives NaN).
    """
    high = (logits > threshold + offset).sum((-2, -1))
    low = (logits > threshold - offset).sum((-2, -1))
    return high / low.clamp(min=1)


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


def keep_pieces(logits: Tensor, pieces: NDArray[np.int32], kept: Collection[int], limit: float) -> Tensor:
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


def run_lengths(mask: NDArray[np.bool_], columns: tuple[int, int] | None = None) -> NDArray[np.int32]:
    """Lengths of alternating runs of a (H, W) mask, column by column, background first (possibly 0).

    ``columns`` (first, last) may name the columns outside which the mask is known to be empty: less work.
    """
    h, w = mask.shape
    first, last = (0, w - 1) if columns is None else columns
    flat = np.ascontiguousarray(mask[:, first : last + 1].T).ravel()
    starts = first * h + np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        starts = np.concatenate(([first * h], starts))
    if flat.size and flat[-1] and last < w - 1:
        starts = np.concatenate((starts, [(last + 1) * h]))
    lengths: NDArray[np.int32] = np.diff(starts, prepend=0, append=h * w).astype(np.int32)
    return lengths


def encode_rle(mask: NDArray[np.bool_]) -> RLE:
    """Uncompressed COCO run lengths of a (H, W) mask."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise PromptError(f"a mask of shape {array.shape} was given; run lengths need one (H, W) mask")
    return {"size": [int(n) for n in array.shape], "counts": run_lengths(array.astype(bool)).tolist()}


def compress_rle(rle: RLE) -> RLE:
    """The same mask with ``counts`` as COCO's compressed text, as pycocotools writes it.

    Each run is stored as its difference from the run two before (from the fourth on), in groups of five bits,
    lowest first; a sixth bit says that more follow; 48 is added to make printable characters.
    """
    counts = rle["counts"]
    if isinstance(counts, str):
        return rle
    characters: list[str] = []
    for i, count in enumerate(counts):
        rest = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = rest & 0x1F
            rest >>= 5
            # the group's fifth bit is its sign: stop once it says all that is left
            more = rest != (-1 if group & 0x10 else 0)
            characters.append(chr(48 + (group | 0x20 if more else group)))
    return {"size": list(rle["size"]), "counts": "".join(characters)}


def decode_rle(rle: RLE) -> NDArray[np.bool_]:
    """The (H, W) bool mask of COCO run lengths, compressed or not.

    Raises
    ------
    PromptError
        If the runs do not add up to the size, or the compressed text is damaged.
    """
    h, w = (int(n) for n in rle["size"])
    counts = rle["counts"]
    runs = np.asarray(_decompress(counts) if isinstance(counts, str | bytes) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != h * w:
        raise PromptError(
            f"run lengths of {int(runs.sum())} pixels were given for a mask of {h} x {w} = {h * w} pixels; "
            "give the size the mask was encoded with"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, runs).reshape(w, h).T)


def rle_area(counts: Sequence[int] | NDArray[np.integer]) -> int:
    """Pixels of the object: the sum of every second run."""
    return int(np.sum(counts[1::2]))


def _decompress(text: str | bytes) -> list[int]:
    counts: list[int] = []
    value, shift = 0, 0
    for code in text.encode("ascii") if isinstance(text, str) else text:
        group = code - 48
        if not 0 <= group < 64:
            raise PromptError(f"compressed run lengths hold the character {chr(code)!r}; allowed are '0' to 'o'")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise PromptError("compressed run lengths end in the middle of a number; give the whole text")
    return counts
