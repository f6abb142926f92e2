"""Facts about thresholds, boxes, stability, clean-up by area and run lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam2.inference.masks.components import (
    clean_low_resolution,
    clean_small_regions,
    fill_holes,
    fill_holes_in_scores,
    postprocess_masks,
    remove_small_regions,
)


def make_mask(*rows: str) -> np.ndarray:
    """A bool mask drawn with '#' and '.'."""
    return np.array([[c == "#" for c in row] for row in rows])


RING = make_mask(
    "#####..",
    "#...#..",
    "#...#.#",
    "#####..",
    ".......",
)


def random_masks(num: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(num, 37, 53)), (0, 1.2, 1.2))
    return noise > 0.1


@pytest.mark.parametrize("as_tensor", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize(("max_area", "is_filled"), [(5, False), (6, True), (7, True)], ids=["below", "equal", "above"])
def test_holes_up_to_the_area_are_filled(max_area: int, is_filled: bool, as_tensor: bool) -> None:
    given = torch.from_numpy(RING) if as_tensor else RING
    filled = np.asarray(fill_holes(given, max_area))
    assert filled[1:3, 1:4].all() == is_filled
    assert np.array_equal(filled[:, 5:], RING[:, 5:])
    assert not RING[1:3, 1:4].any(), "the given mask was changed"


def test_islands_up_to_the_area_are_removed() -> None:
    assert not remove_small_regions(RING, 1)[2, 6]
    assert np.array_equal(remove_small_regions(RING, 0), RING)
    assert not remove_small_regions(RING, 14).any()


def test_corners_connect() -> None:
    diagonal = np.eye(6, dtype=bool)
    assert np.array_equal(remove_small_regions(diagonal, 5), diagonal)
    # the two background triangles touch across the diagonal, so they are one component of 30 pixels
    assert np.array_equal(fill_holes(diagonal, 29), diagonal)


def test_planes_of_a_batch_are_cleaned_apart() -> None:
    masks = random_masks(6).reshape(2, 3, 37, 53)
    together = fill_holes(masks, 9)
    apart = np.stack([[fill_holes(m, 9) for m in row] for row in masks])
    assert np.array_equal(together, apart)


def test_clean_up_of_logits_moves_them_across_the_threshold() -> None:
    logits = np.where(RING, 3.0, -3.0).astype(np.float32)
    filled = fill_holes(logits, 6, threshold=1.0)
    assert set(filled[1:3, 1:4].ravel().tolist()) == {11.0}
    assert filled.dtype == np.float32
    removed = remove_small_regions(torch.from_numpy(logits), 1, threshold=1.0)
    assert removed[2, 6].item() == -9.0
    assert fill_holes_in_scores(torch.from_numpy(logits), 8)[1, 1].item() == pytest.approx(0.1)


def test_holes_and_islands_are_found_in_the_logits_as_given() -> None:
    # a ring of 14 pixels around a hole of 6: filling the hole would make it a region of 20
    logits = torch.from_numpy(np.where(RING, 3.0, -3.0).astype(np.float32))
    cleaned = clean_low_resolution(logits, max_hole_area=6, max_sprinkle_area=14)
    assert (cleaned > 0).numpy()[:, :5].sum() == 6
    assert clean_low_resolution(logits) is logits


def test_postprocess_keeps_leading_axes_and_gives_float32() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    masks = postprocess_masks(logits, (10, 15), max_hole_area=2, max_sprinkle_area=2)
    assert masks.shape == (2, 3, 10, 15)
    assert masks.dtype == torch.float32


@pytest.mark.parametrize(
    ("min_area", "expected"),
    [
        pytest.param(1, RING, id="nothing-below-one"),
        pytest.param(2, make_mask("#####..", "#...#..", "#...#..", "#####..", "......."), id="dot-goes"),
        pytest.param(7, make_mask("#####..", "#####..", "#####..", "#####..", "......."), id="hole-goes"),
        pytest.param(17, make_mask("#######", "#######", "#######", "#######", "#######"), id="even-the-outside"),
    ],
)
def test_small_regions_below_the_area_go(min_area: int, expected: np.ndarray) -> None:
    cleaned, changed = clean_small_regions(RING, min_area)
    assert np.array_equal(cleaned, expected)
    assert changed == (min_area > 1)


def test_largest_island_stays_if_all_are_small() -> None:
    mask = np.zeros((40, 40), bool)
    mask[2:4, 2:4], mask[10:13, 10:13], mask[30, 30] = True, True, True
    cleaned, changed = clean_small_regions(mask, 100)
    assert changed
    assert cleaned.sum() == 9
    assert cleaned[10:13, 10:13].all()


@pytest.mark.parametrize("shape", [(5, 7), (0, 4)], ids=["empty-mask", "no-pixels"])
def test_empty_mask_stays_empty(shape: tuple[int, int]) -> None:
    cleaned, changed = clean_small_regions(np.zeros(shape, bool), 50)
    assert not changed
    assert not cleaned.any()


def _cleaned_as_a_whole(mask, min_area):
    """The same without looking at a part of the image only."""
    eight = np.ones((3, 3), bool)
    for value in (False, True):
        labels, num = ndimage.label(mask == value, structure=eight)
        areas = np.bincount(labels.ravel(), minlength=num + 1)
        small = areas < min_area
        small[0] = False
        if value and num and small[1:].all():
            small[1 + int(areas[1:].argmax())] = False
        mask = np.where(small[labels], not value, mask)
    return mask


@pytest.mark.parametrize("min_area", [1, 4, 20, 60])
def test_small_regions_are_removed_as_on_the_whole_image(min_area):
    rng = np.random.default_rng(min_area)
    for number in range(60):
        height, width = rng.integers(6, 40, 2)
        mask = np.zeros((height, width), bool)
        top, left = rng.integers(0, height - 3), rng.integers(0, width - 3)
        below, right = rng.integers(top + 1, height + 1), rng.integers(left + 1, width + 1)
        mask[top:below, left:right] = rng.random((below - top, right - left)) < rng.uniform(0.3, 1)
        if not mask.any():
            continue
        given = mask.copy()
        cleaned, changed = clean_small_regions(mask, min_area)
        expected = _cleaned_as_a_whole(mask, min_area)
        assert np.array_equal(cleaned, expected), number
        assert changed or np.array_equal(cleaned, given), number
        assert np.array_equal(mask, given)


# --- run lengths
