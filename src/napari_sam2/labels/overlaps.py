"""Overlaps between the objects of two label stacks, plane by plane, and one-to-one matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._errors import FrameError

__all__ = ["Match", "Overlaps", "PlaneOverlaps", "best_matches", "label_areas"]


class Match(NamedTuple):
    """Two matched objects, and their score."""

    first: int
    second: int
    score: float


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Every pair of objects that share a pixel, one of each label stack.

    Attributes
    ----------
    first_ids, second_ids : (P,) int64 arrays
        The objects of each pair.
    intersection : (P,) int64 array
        Pixels they share.
    first_areas, second_areas : (P,) int64 arrays
        Pixels of each, on the planes that were compared.
    """

    first_ids: NDArray[np.int64]
    second_ids: NDArray[np.int64]
    intersection: NDArray[np.int64]
    first_areas: NDArray[np.int64]
    second_areas: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.intersection)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(P,) IoU, 0 to 1."""
        return np.asarray(self.intersection / (self.first_areas + self.second_areas - self.intersection))

    @property
    def second_within_first(self) -> NDArray[np.float64]:
        """(P,) fraction of the second object that lies in the first, 0 to 1."""
        return np.asarray(self.intersection / self.second_areas)

    @property
    def first_within_second(self) -> NDArray[np.float64]:
        """(P,) fraction of the first object that lies in the second, 0 to 1."""
        return np.asarray(self.intersection / self.first_areas)


class PlaneOverlaps:
    """Overlaps between two label stacks, added plane by plane, so that neither stack has to fit into memory."""

    def __init__(self) -> None:
        self._pairs: list[NDArray[np.int64]] = []  # (P, 3): first id, second id, count
        self._areas: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])  # (N, 3): plane, id, area
        self._num_planes = 0

    def add(self, first: ArrayLike, second: ArrayLike) -> None:
        """Compare one plane.

        Parameters
        ----------
        first, second : integer array-like of one shape
            Labels; 0 is background.

        Raises
        ------
        FrameError
            If the shapes differ or the values are no integers.
        """
        a, b = _as_labels(first), _as_labels(second)
        if a.shape != b.shape:
            raise FrameError(f"label planes of shapes {a.shape} and {b.shape} were given; give two of the same shape")
        plane = np.array([[self._num_planes]])
        self._num_planes += 1
        for labels, areas in zip((a, b), self._areas, strict=True):
            counted = label_areas(labels)
            areas.append(np.concatenate((np.repeat(plane, len(counted), 0), counted), axis=1))
        is_shared = (a > 0) & (b > 0)
        shared_a, shared_b = a[is_shared].astype(np.int64), b[is_shared].astype(np.int64)
        base = int(shared_b.max(initial=0)) + 1
        codes, counts = np.unique(shared_a * base + shared_b, return_counts=True)
        self._pairs.append(np.stack((codes // base, codes % base, counts), axis=1))

    def areas(self) -> tuple[dict[int, int], dict[int, int]]:
        """Pixels of each object of the first and of the second stack, over all planes."""
        first, second = (_totals(areas) for areas in self._areas)
        return first, second

    def overlaps(self, *, common_planes: bool = False) -> Overlaps:
        """All pairs that share a pixel.

        Parameters
        ----------
        common_planes : bool, default False
            Count the areas of a pair only on planes on which both objects are present, so that an object that
            was followed further than the other is not less alike for it.

        Returns
        -------
        Overlaps
            In no particular order.
        """
        pairs = np.concatenate([np.zeros((0, 3), np.int64), *self._pairs])
        keys, inverse = np.unique(pairs[:, :2], axis=0, return_inverse=True)
        shared = np.bincount(inverse.ravel(), pairs[:, 2], minlength=len(keys)).astype(np.int64)
        tables = [self._area_table(areas, keys[:, side]) for side, areas in enumerate(self._areas)]
        if common_planes:
            first, second = tables[0] * (tables[1] > 0), tables[1] * (tables[0] > 0)
        else:
            first, second = tables
        return Overlaps(keys[:, 0], keys[:, 1], shared, first.sum(0), second.sum(0))

    def _area_table(self, areas: list[NDArray[np.int64]], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(planes, P): pixels on each plane of the objects ``ids``."""
        rows = np.concatenate([np.zeros((0, 3), np.int64), *areas])
        known, inverse = np.unique(rows[:, 1], return_inverse=True)
        table = np.zeros((self._num_planes, len(known)), np.int64)
        table[rows[:, 0], inverse.ravel()] = rows[:, 2]
        return table[:, np.searchsorted(known, ids)]


def label_areas(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """(N, 2) label and number of its pixels, ascending, without background."""
    highest = int(labels.max(initial=0))
    if highest < 4 * labels.size:  # several times faster than sorting
        counts = np.bincount(labels.ravel(), minlength=1)
        counts[0] = 0
        ids = np.flatnonzero(counts)
        return np.stack((ids, counts[ids]), axis=1).astype(np.int64)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    return np.stack((ids, counts), axis=1).astype(np.int64)


def best_matches(
    first_ids: NDArray[np.int64], second_ids: NDArray[np.int64], scores: NDArray[np.float64], min_score: float
) -> list[Match]:
    """One-to-one matches of pairs, with the highest sum of scores.

    Parameters
    ----------
    first_ids, second_ids : (P,) arrays
        The objects of each candidate pair.
    scores : (P,) array
        Score of each pair, at least 0; higher is better.
    min_score : float
        Pairs below are no candidates; neither are pairs of score 0.

    Returns
    -------
    list of Match
        No object comes twice; ascending by the first object.

    References
    ----------
    .. [1] Kuhn, The Hungarian method for the assignment problem, 1955; solved by scipy's linear_sum_assignment.
    """
    is_candidate = (scores >= min_score) & (scores > 0)
    first, second, scores = first_ids[is_candidate], second_ids[is_candidate], scores[is_candidate]
    if not len(scores):
        return []
    a_ids, a = np.unique(first, return_inverse=True)
    b_ids, b = np.unique(second, return_inverse=True)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(a_ids) + len(b_ids)
    graph = coo_array((np.ones(len(a)), (a, len(a_ids) + b)), shape=(num, num))
    _, group_of = connected_components(graph, directed=False)
    order = np.argsort(
        group_of[a], kind="stable"
    )  # pairs of one group are adjacent, and each group is solved separately
    bounds = np.flatnonzero(np.diff(group_of[a][order])) + 1
    found: list[Match] = []
    for pairs in np.split(order, bounds):
        found += _assign(a_ids[a[pairs]], b_ids[b[pairs]], scores[pairs])
    return sorted(found)


def _assign(first: NDArray[np.int64], second: NDArray[np.int64], scores: NDArray[np.float64]) -> list[Match]:
    from scipy.optimize import linear_sum_assignment  # the dock opens without it

    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    table[row, column] = scores
    chosen: Sequence[tuple[int, int]] = list(zip(*linear_sum_assignment(table, maximize=True), strict=True))
    return [Match(int(rows[i]), int(columns[j]), float(table[i, j])) for i, j in chosen if table[i, j] > 0]


def _totals(areas: list[NDArray[np.int64]]) -> dict[int, int]:
    rows = np.concatenate([np.zeros((0, 3), np.int64), *areas])
    ids, inverse = np.unique(rows[:, 1], return_inverse=True)
    totals = np.bincount(inverse.ravel(), rows[:, 2], minlength=len(ids))
    return {int(i): int(total) for i, total in zip(ids, totals, strict=True)}


def _as_labels(labels: ArrayLike) -> NDArray[np.integer]:
    array = np.asarray(labels)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise FrameError(f"labels of type {array.dtype} were given; labels are integers")
    if array.size and int(array.min()) < 0:
        raise FrameError(f"labels from {array.min()} were given; labels are 0 (background) and above")
    return array
