"""Packed masks: round trips, and data that does not belong to its box."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from napari_sam2 import PromptError
from napari_sam2._packed_mask import PackedImage, PackedMask


def blob(side: int, hw: tuple[int, int] = (200, 300)) -> np.ndarray:
    rng = np.random.default_rng(side)
    mask = np.zeros(hw, bool)
    mask[7 : 7 + side, 11 : 11 + side] = rng.random((side, side)) > 0.3
    return mask


@pytest.mark.parametrize("side", [1, 5, 40, 150])
def test_a_mask_comes_back_as_it_was(side):
    mask = blob(side)
    packed = PackedMask.pack(mask)
    assert np.array_equal(packed.to_image(mask.shape), mask)
    assert packed.area == mask.sum()
    assert np.array_equal(packed.pixels(), mask[packed.window])
    assert PackedMask.pack(mask[5:, 9:], origin_yx=(5, 9)) == packed


def test_an_empty_mask_has_no_box():
    packed = PackedMask.pack(np.zeros((4, 6), bool))
    assert packed == PackedMask()
    assert not packed.to_image((4, 6)).any()
    assert packed.pixels().shape == (0, 0)


def test_subtracting_keeps_the_rest():
    mask = blob(40)
    packed = PackedMask.pack(mask)
    taken = np.zeros_like(mask)
    assert packed.without(taken) is packed
    taken[:20] = True
    assert np.array_equal(packed.without(taken).to_image(mask.shape), mask & ~taken)
    assert packed.without(mask) == PackedMask()


@pytest.mark.parametrize(
    "packed",
    [
        PackedMask((0, 0, 4, 4), b"", 3),
        PackedMask((0, 0, 4, 4), b"abcdef", 3),
        PackedMask((0, 0, 100, 100), b"not compressed", 3),
        PackedMask((0, 0, 100, 100), zlib.compress(bytes(100)), 3),
    ],
)
def test_data_that_does_not_fill_the_box_is_refused(packed):
    with pytest.raises(PromptError, match="packed mask"):
        packed.pixels()


def test_a_blob_of_zeros_is_not_decompressed_whole():
    bomb = PackedMask((0, 0, 100, 100), zlib.compress(bytes(10**8)), 1)
    with pytest.raises(PromptError, match="holds 1251 bytes"):
        bomb.pixels()


def test_a_packed_image_keeps_its_size_and_pixels():
    mask = np.zeros((30, 40), bool)
    mask[3:9, 20:31] = True
    packed = PackedImage.pack(mask)
    assert packed.hw == (30, 40)
    assert np.array_equal(packed.to_array(), mask)
    assert packed == PackedImage.pack(mask.copy())
    assert packed != PackedImage.pack(np.roll(mask, 1, 0))
