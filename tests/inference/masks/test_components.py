"""Facts about thresholds, boxes, stability, clean-up by area and run lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam2._errors import PromptError
from napari_sam2.inference.masks.components import (
    clean_low_resolution,
    clean_small_regions,
    compress_rle,
    decode_rle,
    encode_rle,
    fill_holes,
    fill_holes_in_scores,
    mask_to_box,
    postprocess_masks,
    remove_small_regions,
    rle_area,
    run_lengths,
    stability_score,
    threshold_logits,
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


def test_threshold_is_strict() -> None:
    assert threshold_logits(torch.tensor([-1.0, 0.0, 1e-6])).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        pytest.param(RING, [0, 0, 6, 3], id="ring-and-dot"),
        pytest.param(make_mask("...", "..#"), [2, 1, 2, 1], id="last-pixel"),
        pytest.param(make_mask("#..", "..."), [0, 0, 0, 0], id="first-pixel"),
        pytest.param(make_mask("...", "..."), [0, 0, 0, 0], id="empty"),
        pytest.param(make_mask("##", "##"), [0, 0, 1, 1], id="full"),
    ],
)
def test_box_holds_first_and_last_pixel(mask: np.ndarray, box: list[int]) -> None:
    assert mask_to_box(mask).tolist() == box
    assert mask_to_box(torch.from_numpy(mask)[None, None]).tolist() == [[box]]


def test_boxes_of_read_only_masks() -> None:
    mask = RING.copy()
    mask.setflags(write=False)
    assert mask_to_box(mask).tolist() == [0, 0, 6, 3]


def test_stability_is_the_ratio_of_two_areas() -> None:
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-5.0, -5.0, -5.0, -5.0]]])
    assert stability_score(logits, 0.0, 1.0).tolist() == pytest.approx([1 / 3, 0])
    assert stability_score(logits, 0.0, 0.25).tolist() == [1.0, 0.0]


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
def test_small_regions_go_as_if_the_whole_image_were_looked_at(min_area):
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

MASKS = {
    "ring": RING,
    "empty": np.zeros((4, 3), bool),
    "full": np.ones((4, 3), bool),
    "first-pixel": make_mask("#.", ".."),
    "last-pixel": make_mask("..", ".#"),
    "one-pixel": make_mask("#"),
    "random": random_masks(1)[0],
    "large": np.pad(np.ones((900, 700), bool), ((50, 0), (30, 4000))),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert rle["size"] == list(mask.shape)
    assert np.array_equal(decode_rle(rle), mask)
    assert rle_area(rle["counts"]) == mask.sum()  # type: ignore[arg-type]
    compressed = compress_rle(rle)
    assert isinstance(compressed["counts"], str)
    assert np.array_equal(decode_rle(compressed), mask)
    assert compress_rle(compressed) == compressed


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_run_lengths_of_the_box_columns_are_those_of_the_mask(mask: np.ndarray) -> None:
    x0, _, x1, _ = mask_to_box(mask).tolist()
    assert run_lengths(mask, (x0, x1)).tolist() == run_lengths(mask).tolist()


def test_runs_go_down_the_columns_and_begin_with_background() -> None:
    assert encode_rle(make_mask("##.", "#..")) == {"size": [2, 3], "counts": [0, 3, 3]}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        # written by pycocotools 2.0.11, mask.frPyObjects({"size": [h, w], "counts": counts}, h, w)["counts"]
        pytest.param([12], "<", id="empty"),
        pytest.param([0, 12], "0<", id="full"),
        pytest.param([6, 1, 40, 4, 4, 5, 3, 5, 4, 3, 200, 30, 1000, 31, 32, 33], "61X13lN1O01NT6k0Pi01hQO2", id="long"),
    ],
)
def test_compressed_text_is_cocos(counts: list[int], text: str) -> None:
    size = [1, sum(counts)]
    assert compress_rle({"size": size, "counts": counts})["counts"] == text
    assert decode_rle({"size": size, "counts": text}).sum() == sum(counts[1::2])


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        pytest.param({"size": [2, 3], "counts": [1, 2]}, "3 pixels were given for a mask of 2 x 3", id="too-short"),
        pytest.param({"size": [2, 3], "counts": [7, -1]}, "mask of 2 x 3", id="negative"),
        pytest.param({"size": [2, 3], "counts": "6\n"}, "character", id="bad-character"),
        pytest.param({"size": [2, 3], "counts": "6T"}, "middle of a number", id="truncated"),
    ],
)
def test_damaged_run_lengths_are_refused(rle: dict, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        decode_rle(rle)  # type: ignore[arg-type]


def test_run_lengths_need_one_mask() -> None:
    with pytest.raises(PromptError, match=r"\(2, 3, 4\)"):
        encode_rle(np.zeros((2, 3, 4), bool))
