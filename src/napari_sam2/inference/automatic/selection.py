"""Choose among masks that overlap: those that are worth most together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["conflicting", "most_worth"]

_LEAST_GAIN = 1e-6  # of an exchange, so that rounding cannot repeat it for ever


class _Part(NamedTuple):
    """Runs of a mask: first pixels, lengths, and the pixels of the mask up to the end of each, all (R,) int64."""

    firsts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    covered: NDArray[np.int64]


def conflicting(
    runs: Sequence[NDArray[np.int32]], boxes_xyxy: NDArray[np.int64], max_overlap: float
) -> list[NDArray[np.intp]]:
    """For each mask, the others that it shares too many pixels with.

    Parameters
    ----------
    runs : sequence of (R,) int32 arrays
        Run lengths of each mask in the image, beginning with background.
    boxes_xyxy : (K, 4) int64 array
        First and last column and row of each mask.
    max_overlap : float
        Two masks are in conflict if they share more than this fraction of the smaller one.

    Returns
    -------
    list of int arrays
        Indices, ascending.
    """
    parts = [_foreground(run) for run in runs]
    areas = np.array([part.lengths.sum() for part in parts], np.int64)
    order = np.argsort(boxes_xyxy[:, 0], kind="stable")
    order = order[areas[order] > 0]
    lefts = boxes_xyxy[order, 0]
    found: list[list[int]] = [[] for _ in runs]
    for position, first in enumerate(order.tolist()):
        end = int(np.searchsorted(lefts, boxes_xyxy[first, 2], "right"))
        later = order[position + 1 : end]
        meets = (boxes_xyxy[later, 1] <= boxes_xyxy[first, 3]) & (boxes_xyxy[later, 3] >= boxes_xyxy[first, 1])
        for second in later[meets].tolist():
            if _shared(parts[first], parts[second]) > max_overlap * min(areas[first], areas[second]):
                found[first].append(second)
                found[second].append(first)
    return [np.array(sorted(others), np.intp) for others in found]


def _foreground(run: NDArray[np.int32]) -> _Part:
    ends = np.cumsum(run, dtype=np.int64)
    firsts, lasts = ends[0::2][: len(ends) // 2], ends[1::2]
    lengths = lasts - firsts
    return _Part(firsts, lengths, np.cumsum(lengths))


def _shared(one: _Part, other: _Part) -> int:
    """Number of pixels of both masks."""
    if len(one.firsts) > len(other.firsts):
        one, other = other, one
    return int((_below(other, one.firsts + one.lengths) - _below(other, one.firsts)).sum())


def _below(part: _Part, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of pixels of a mask before each of the given ones."""
    firsts, lengths, covered = part
    index = np.searchsorted(firsts, pixels, "right") - 1
    at = np.maximum(index, 0)
    count = covered[at] - lengths[at] + np.minimum(pixels - firsts[at], lengths[at])
    return np.where(index < 0, 0, count)


def most_worth(worth: NDArray[np.float32], conflicts: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Masks without conflicts among them that are worth most in sum, as far as exchanges find them.

    Parameters
    ----------
    worth : (K,) float32 array
        Of each mask; those of 0 or less are never chosen.
    conflicts : sequence of K int arrays
        From `conflicting`.

    Returns
    -------
    (N,) int array
        Indices, ascending.

    Notes
    -----
    The best masks are chosen first. Then a mask that is worth more than all chosen ones that it is in conflict with
    takes their place, and a chosen mask makes room for several others that are worth more together, until nothing
    changes. So a clump gives way to its cells, and the parts of a cell to the cell.
    """
    order = [int(i) for i in np.argsort(-worth, kind="stable") if worth[i] > 0]
    chosen = np.zeros(len(worth), bool)
    for i in order:
        chosen[i] = not chosen[conflicts[i]].any()
    has_changed = True
    while has_changed:
        has_changed = False
        for i in order:
            out, into = _exchange(i, chosen, worth, conflicts)
            if worth[into].sum() > worth[out].sum() + _LEAST_GAIN:
                chosen[out] = False
                chosen[into] = True
                has_changed = True
    return np.flatnonzero(chosen)


def _exchange(
    i: int, chosen: NDArray[np.bool_], worth: NDArray[np.float32], conflicts: Sequence[NDArray[np.intp]]
) -> tuple[list[int], list[int]]:
    """What would be given up and taken in return, if mask ``i`` was chosen, or was not."""
    rivals = conflicts[i]
    if not chosen[i]:
        return rivals[chosen[rivals]].tolist(), [i]
    taken: list[int] = []
    for j in sorted(rivals[worth[rivals] > 0].tolist(), key=lambda each: -worth[each]):
        others = conflicts[j]
        if chosen[others].sum() == 1 and not np.isin(others, taken).any():
            taken.append(j)
    return [i], taken
