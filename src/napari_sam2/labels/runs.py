"""Many masks at once as runs of pixels: polygons and COCO run lengths, drawn without an array for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.labels.outlines import Polygon
from napari_sam2.labels.rle import RLE, decode_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_CROSSINGS",
    "MaskRuns",
    "count_crossings",
    "join_runs",
    "runs_of_masks",
    "runs_of_polygons",
    "runs_of_rle",
]

MAX_CROSSINGS = 2**22  # of edges and rows, at a time
_PIXELS = 2**22  # painted at a time
_COUNTS = 2**21  # characters or numbers of run lengths that are decoded at a time
_LONGEST = 2**20  # pixels of a run
_ROUNDING = 1e-9  # pixels: a centre that is that near to an edge lies on it


@dataclass(frozen=True, eq=False)
class MaskRuns:
    """Runs of pixels of many masks of an (H, W) image; a pixel is in one run of its mask at most.

    Attributes
    ----------
    owners : (R,) int64 array
        Number of the mask that a run belongs to.
    starts : (R,) int64 array
        First pixel of each run, counted row by row, or column by column.
    lengths : (R,) int64 array
        Pixels of each run.
    by_columns : (R,) bool array
        Runs that go down a column.
    """

    owners: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    by_columns: NDArray[np.bool_]

    def areas(self, num_masks: int) -> NDArray[np.int64]:
        """(num_masks,) pixels of each mask."""
        return np.bincount(self.owners, self.lengths, num_masks).astype(np.int64)

    def pixels(self, order: NDArray[np.int64], hw: tuple[int, int]) -> Iterator[tuple[NDArray[np.int64], ...]]:
        """Masks and pixels, counted row by row, of masks one after the other; as many at a time as fit in memory."""
        rank = np.full(int(max(self.owners.max(initial=-1), order.max(initial=-1))) + 1, -1)
        rank[order] = np.arange(len(order))
        runs = np.argsort(rank[self.owners], kind="stable")
        runs = runs[rank[self.owners[runs]] >= 0]
        ends = np.cumsum(self.lengths[runs])
        first = 0
        while first < len(runs):
            before = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, before + _PIXELS, side="right")), first + 1)
            chosen = runs[first:last]
            lengths = self.lengths[chosen]
            at = np.repeat(self.starts[chosen] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
            down = np.repeat(self.by_columns[chosen], lengths)
            if down.any():
                at = np.where(down, at % hw[0] * hw[1] + at // hw[0], at)
            yield np.repeat(self.owners[chosen], lengths), at
            first = last


def join_runs(parts: Sequence[MaskRuns]) -> MaskRuns:
    """Runs of several sets of masks."""
    names = ("owners", "starts", "lengths", "by_columns")
    owners, starts, lengths, by_columns = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return MaskRuns(owners, starts, lengths, by_columns)


def runs_of_masks(masks: Sequence[tuple[int, NDArray[np.bool_], tuple[int, int]]], hw: tuple[int, int]) -> MaskRuns:
    """Runs of (number, (h, w) pixels, first row and column)."""
    none = np.zeros(0, np.int64)
    parts = [MaskRuns(none, none, none, np.zeros(0, np.bool_))]
    for number, mask, (top, left) in masks:
        steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        rows, begins = np.nonzero(steps == 1)
        lengths = np.nonzero(steps == -1)[1] - begins
        starts = (rows + top) * hw[1] + begins + left
        parts.append(MaskRuns(np.full(len(rows), number), starts, lengths, np.zeros(len(rows), np.bool_)))
    return join_runs(parts)


def runs_of_rle(owners: Sequence[int], masks: Sequence[RLE], hw: tuple[int, int]) -> MaskRuns:
    """Runs of COCO run lengths of one size; raises PromptError as `decode_rle`."""
    parts, begin = [], 0
    total = np.cumsum([len(mask["counts"]) for mask in masks])
    while begin < len(masks):
        before = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, before + _COUNTS, side="right")), begin + 1)
        parts.append(_inside(np.asarray(owners[begin:end], np.int64), *decode_runs(masks[begin:end]), hw))
        begin = end
    return join_runs(parts)


def _inside(
    owners: NDArray[np.int64], runs: NDArray[np.int64], numbers: NDArray[np.int64], hw: tuple[int, int]
) -> MaskRuns:
    """Every second run of each mask, without those that are empty, and long ones in pieces."""
    first = np.flatnonzero(np.diff(numbers, prepend=-1))  # of each mask
    within = np.arange(len(runs)) - np.repeat(first, np.diff(first, append=len(runs)))
    starts = np.cumsum(runs) - runs - numbers * (hw[0] * hw[1])  # all masks have that many pixels
    inside = np.flatnonzero((within % 2 == 1) & (runs > 0))
    starts, lengths, owner = starts[inside], runs[inside], owners[numbers[inside]]
    pieces = -(-lengths // _LONGEST)
    if (pieces > 1).any():
        part = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts, lengths, owner = (np.repeat(values, pieces) for values in (starts, lengths, owner))
        starts, lengths = starts + part * _LONGEST, np.minimum(lengths - part * _LONGEST, _LONGEST)
    return MaskRuns(owner, starts, lengths, np.ones(len(starts), bool))


def count_crossings(polygons: Sequence[Polygon], hw: tuple[int, int]) -> NDArray[np.int64]:
    """How often the edges of each object's polygons cross rows of an image."""
    corners, owners, _, following = _edges(polygons)
    first, last = _rows(corners[:, 1], corners[following, 1], hw[0])
    return np.bincount(owners, np.maximum(last - first + 1, 0), len(polygons)).astype(np.int64)


def runs_of_polygons(
    numbers: Sequence[int], polygons: Sequence[Polygon], crossings: NDArray[np.int64], hw: tuple[int, int]
) -> MaskRuns:
    """Runs of objects, each the union of its rings: pixels whose centre lies inside or on an edge of one of them.

    Parameters
    ----------
    numbers : sequence of int
        Of the objects.
    polygons : sequence of Polygon
        For each object its rings, of which none is a hole.
    crossings : (N,) int64 array
        Of each object, as `count_crossings` counts them.
    hw : tuple of int
        Height and width of the image.
    """
    parts, begin, total = [], 0, np.cumsum(crossings)
    while begin < len(polygons):
        before = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, before + MAX_CROSSINGS, side="right")), begin + 1)
        owners, rows, starts, stops = _spans(polygons[begin:end], hw)
        owners = np.asarray(numbers[begin:end], np.int64)[owners]
        parts.append(MaskRuns(owners, rows * hw[1] + starts, stops - starts + 1, np.zeros(len(owners), bool)))
        begin = end
    return join_runs(parts)


def _edges(
    polygons: Sequence[Polygon],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All corners relative to pixel centres, object and ring of each, and the index of the next corner of the ring."""
    rings = [ring for each in polygons for ring in each]
    lengths = np.fromiter(map(len, rings), np.int64, len(rings))
    owners = np.repeat(np.arange(len(polygons)), np.fromiter(map(len, polygons), np.int64, len(polygons)))
    corners = np.concatenate(rings) - 0.5
    following = np.arange(1, len(corners) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths
    return corners, np.repeat(owners, lengths), np.repeat(np.arange(len(rings)), lengths), following


def _rows(y0: NDArray[np.float64], y1: NDArray[np.float64], height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last row of an image that each edge crosses; the lower end does not count."""
    first = np.ceil(np.minimum(y0, y1)).clip(0, height)
    last = (np.ceil(np.maximum(y0, y1)) - 1).clip(-1, height - 1)
    return first.astype(np.int64), last.astype(np.int64)


def _spans(polygons: Sequence[Polygon], hw: tuple[int, int]) -> tuple[NDArray[np.int64], ...]:
    """Object, row, first and last column of each run, none of which overlap."""
    corners, owners, rings, following = _edges(polygons)
    (x0, y0), (x1, y1) = corners.T, corners[following].T
    first, last = _rows(y0, y1, hw[0])
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(corners)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    x = x0[edge] + (row - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    order = np.lexsort((x, rings[edge] * hw[0] + row))
    left, right = order[::2], order[1::2]  # a ring crosses a row an even number of times
    # what lies on a corner or on an edge along a row is no crossing
    flat = np.flatnonzero((y0 == y1) & (y0 % 1 == 0))
    point = np.flatnonzero((y0 % 1 == 0) & (x0 % 1 == 0))
    owner = np.concatenate((owners[edge[left]], owners[flat], owners[point]))
    rows = np.concatenate((row[left], y0[flat].astype(np.int64), y0[point].astype(np.int64)))
    starts = np.concatenate((x[left], np.minimum(x0, x1)[flat], x0[point]))
    stops = np.concatenate((x[right], np.maximum(x0, x1)[flat], x0[point]))
    begins = np.ceil(starts - _ROUNDING).clip(0, hw[1]).astype(np.int64)
    ends = np.floor(stops + _ROUNDING).clip(-1, hw[1] - 1).astype(np.int64)
    kept = np.flatnonzero((begins <= ends) & (rows >= 0) & (rows < hw[0]))
    owner, rows, begins, ends = owner[kept], rows[kept], begins[kept], ends[kept]
    place = owner * hw[0] + rows
    order = np.lexsort((begins, place))
    owner, rows, begins, ends, place = (values[order] for values in (owner, rows, begins, ends, place))
    line = np.cumsum(np.diff(place, prepend=-1) != 0) * (hw[1] + 1)
    reached = np.maximum.accumulate(line + ends)
    begins = np.maximum(begins, np.concatenate(([0], reached[:-1] + 1)) - line)
    kept = np.flatnonzero(begins <= ends)
    return owner[kept], rows[kept], begins[kept], ends[kept]
