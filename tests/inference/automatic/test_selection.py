"""Facts about the choice among masks that overlap."""

from __future__ import annotations

import itertools

import numpy as np

from napari_sam2.inference.automatic.selection import conflicting, most_worth
from napari_sam2.inference.masks.boxes import mask_to_box
from napari_sam2.labels.rle import run_lengths


def squares(*corners, shape=(40, 60)):
    """Masks of rectangles (y0, x0, y1, x1), as run lengths and boxes."""
    masks = np.zeros((len(corners), *shape), bool)
    for mask, (y0, x0, y1, x1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks, [run_lengths(mask) for mask in masks], np.array([mask_to_box(mask) for mask in masks])


def test_masks_conflict_if_they_share_much_of_the_smaller_one():
    rng = np.random.default_rng(3)
    corners = rng.integers(0, [20, 40, 1, 1], (25, 4))
    corners[:, 2:] = corners[:, :2] + rng.integers(2, 20, (25, 2))
    masks, runs, boxes = squares(*corners)
    found = conflicting(runs, boxes, 0.3)
    areas = masks.sum((1, 2))
    for i, j in itertools.combinations(range(25), 2):
        is_conflict = (masks[i] & masks[j]).sum() > 0.3 * min(areas[i], areas[j])
        assert (j in found[i]) == (i in found[j]) == is_conflict


def test_a_clump_gives_way_to_its_cells_and_parts_to_their_cell():
    _, runs, boxes = squares((5, 5, 25, 15), (5, 15, 25, 25), (5, 5, 25, 25))
    conflicts = conflicting(runs, boxes, 0.3)
    assert most_worth(np.array([0.3, 0.3, 0.5], np.float32), conflicts).tolist() == [0, 1]
    assert most_worth(np.array([0.1, 0.1, 0.5], np.float32), conflicts).tolist() == [2]
    assert most_worth(np.array([0.3, -0.1, 0.5], np.float32), conflicts).tolist() == [2]


def test_the_choice_is_near_the_best_of_all():
    rng = np.random.default_rng(8)
    for _ in range(20):
        corners = rng.integers(0, [30, 50, 1, 1], (9, 4))
        corners[:, 2:] = corners[:, :2] + rng.integers(4, 25, (9, 2))
        _, runs, boxes = squares(*np.minimum(corners, [40, 60, 40, 60]))
        conflicts = conflicting(runs, boxes, 0.3)
        worth = rng.uniform(-0.2, 0.6, 9).astype(np.float32)
        chosen = most_worth(worth, conflicts)
        assert not any(np.isin(chosen, conflicts[i]).any() for i in chosen)
        best = max(
            worth[list(some)].sum()
            for count in range(10)
            for some in itertools.combinations(range(9), count)
            if not any(np.isin(some, conflicts[i]).any() for i in some)
        )
        assert worth[chosen].sum() >= 0.9 * best


def test_an_empty_mask_conflicts_with_none():
    masks, runs, boxes = squares((2, 2, 9, 9), (3, 3, 9, 9))
    runs.insert(1, run_lengths(np.zeros_like(masks[0])))
    found = conflicting(runs, np.insert(boxes, 1, 0, axis=0), 0.3)
    assert [others.tolist() for others in found] == [[2], [], [0]]


def test_no_masks():
    assert conflicting([], np.zeros((0, 4), np.int64), 0.3) == []
    assert most_worth(np.zeros(0, np.float32), []).tolist() == []
