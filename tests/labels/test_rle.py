"""Masks as run lengths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2._errors import PromptError
from napari_sam2.inference.masks.boxes import mask_to_box
from napari_sam2.labels.rle import (
    compress_rle,
    decode_rle,
    encode_rle,
    rle_area,
    run_lengths,
    run_lengths_of_window,
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


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_run_lengths_of_a_window_are_those_of_the_whole_mask(seed, share):
    rng = np.random.default_rng(seed)
    whole = np.zeros((rng.integers(1, 9), rng.integers(1, 9)), bool)
    y, x = (int(rng.integers(0, length)) for length in whole.shape)
    window = rng.random((rng.integers(1, whole.shape[0] - y + 1), rng.integers(1, whole.shape[1] - x + 1))) < share
    whole[y : y + window.shape[0], x : x + window.shape[1]] = window
    assert run_lengths_of_window(window, (y, x), whole.shape).tolist() == run_lengths(whole).tolist()
