"""Masks as COCO run lengths, compressed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2._messages import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "RLE",
    "compress_rle",
    "decode_rle",
    "decode_runs",
    "encode_rle",
    "rle_area",
    "run_lengths",
    "run_lengths_of_window",
]


_MAX_STEP = 2**40  # pixels between two runs of images that are decoded many at a time
_MAX_SHIFT = 60  # bits: lengths of runs are 64-bit numbers, in groups of five bits


class RLE(TypedDict):
    """COCO run lengths of a mask.

    ``size`` is [H, W]; ``counts`` the lengths of alternating runs, background first, column by column:
    a list of numbers, or COCO's compressed text.
    """

    size: list[int]
    counts: list[int] | str


def run_lengths(mask: NDArray[np.bool_], columns: tuple[int, int] | None = None) -> NDArray[np.int32]:
    """Lengths of alternating runs of a (H, W) mask, column by column, background first (possibly 0).

    ``columns`` (first, last) limits the work to these columns; the mask must be empty outside them.
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


def run_lengths_of_window(
    mask: NDArray[np.bool_], origin_yx: tuple[int, int], hw: tuple[int, int]
) -> NDArray[np.int32]:
    """`run_lengths` of a mask that is False outside a window, without making the whole mask.

    Parameters
    ----------
    mask : (h, w) bool array
        The window.
    origin_yx : tuple of int
        First row and column of the window in the whole mask.
    hw : tuple of int
        Height and width of the whole mask.

    Returns
    -------
    (R,) int32 array
        Equal to ``run_lengths(whole)``.
    """
    h, w = mask.shape
    columns = np.zeros((w, h + 1), bool)  # with a row of background, at which each run ends
    columns[:, :h] = mask.T
    flat = columns.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        changes = np.concatenate(([0], changes))
    changes += origin_yx[1] * hw[0] + origin_yx[0] + changes // (h + 1) * (hw[0] - h - 1)
    if h == hw[0] and len(changes):  # a run continues from the last row to the first row of the next column
        is_kept = np.ones(len(changes), bool)
        continues = changes[2::2] == changes[1:-1:2]
        is_kept[2::2], is_kept[1:-1:2] = ~continues, ~continues
        changes = changes[is_kept]
    size = hw[0] * hw[1]
    if len(changes) and changes[-1] == size:
        changes = changes[:-1]
    lengths: NDArray[np.int32] = np.diff(changes, prepend=0, append=size).astype(np.int32)
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
    lowest first; a sixth bit marks that more groups follow; 48 is added to make printable characters.
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
    runs = _checked_runs(rle)
    inside = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, runs).reshape(w, h).T)


def decode_runs(masks: Sequence[RLE]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run lengths of many masks of one size, one after the other, and the number of the mask of each.

    Raises the errors of `decode_rle` for the first mask that is damaged.
    """
    texts = [rle["counts"] for rle in masks]
    found = _decompress_all([text for text in texts if isinstance(text, str)]) if masks else None
    if found is not None and all(isinstance(text, str) for text in texts):
        runs, numbers = found
        size = int(masks[0]["size"][0]) * int(masks[0]["size"][1])
        if (runs >= 0).all() and (runs <= size).all() and (np.bincount(numbers, runs, len(masks)) == size).all():
            return runs, numbers
    each = [_checked_runs(rle) for rle in masks]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *each]), np.repeat(np.arange(len(each)), [len(runs) for runs in each])


def _decompress_all(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Counts of compressed texts and the number of the text of each; None where one of them is damaged."""
    lengths = np.array([len(text) for text in texts], np.int64)
    joined = "".join(texts)
    if not len(texts) or not lengths.all() or not joined.isascii():
        return None
    groups = np.frombuffer(joined.encode(), np.uint8).astype(np.int64) - 48
    is_last = (groups & 0x20) == 0
    ends = np.flatnonzero(is_last)
    if groups.min() < 0 or groups.max() > 63 or not is_last[np.cumsum(lengths) - 1].all():
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if sizes.max() > _MAX_SHIFT // 5:
        return None
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, sizes))
    values = np.add.reduceat((groups & 0x1F) << shifts, starts)
    values -= np.where(groups[ends] & 0x10, np.int64(1) << (5 * sizes), 0)
    numbers = np.repeat(np.arange(len(texts)), lengths)[ends]
    if np.abs(values).max() > _MAX_STEP:
        return None
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    within = np.arange(len(numbers)) - np.repeat(first, np.diff(first, append=len(numbers)))
    for chosen in (np.flatnonzero(within % 2 == 1), np.flatnonzero((within % 2 == 0) & (within > 0))):
        if len(chosen):  # each is stored as its difference from the one two before, beginning with the second and third
            sums = np.cumsum(values[chosen])
            begins = np.flatnonzero(np.diff(numbers[chosen], prepend=-1))
            before = (sums - values[chosen])[begins]
            values[chosen] = sums - np.repeat(before, np.diff(begins, append=len(chosen)))
    return values, numbers


def _checked_runs(rle: RLE) -> NDArray[np.int64]:
    h, w = (int(n) for n in rle["size"])
    counts = rle["counts"]
    numbers = _decompress(counts) if isinstance(counts, str | bytes) else list(counts)
    total = sum(numbers)  # of Python's integers, which do not overflow
    if total != h * w or min(numbers, default=0) < 0:
        raise PromptError(
            f"run lengths of {total} pixels were given for a mask of {h} x {w} = {h * w} pixels; "
            "give the size the mask was encoded with"
        )
    return np.asarray(numbers, np.int64)


def rle_area(counts: Sequence[int] | NDArray[np.integer]) -> int:
    """Area in pixels: the sum of every second run."""
    return int(np.sum(counts[1::2]))


def _decompress(text: str | bytes) -> list[int]:
    counts: list[int] = []
    value, shift = 0, 0
    for code in text.encode("ascii") if isinstance(text, str) else text:
        group = code - 48
        if not 0 <= group < 64:
            raise PromptError(f"compressed run lengths hold the character {shown(chr(code))}; expected '0' to 'o'")
        if shift > _MAX_SHIFT:
            raise PromptError(
                "compressed run lengths hold a number of more than 64 bits; give the text as it was written"
            )
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
