"""Masks drawn many at a time are those that are drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._errors import PromptError
from napari_sam2.labels.outlines import fill_polygons
from napari_sam2.labels.rle import compress_rle, decode_rle, decode_runs, encode_rle
from napari_sam2.labels.runs import MaskRuns, count_crossings, runs_of_masks, runs_of_polygons, runs_of_rle

HW = (37, 53)


def images(runs: MaskRuns, num_masks: int, hw: tuple[int, int] = HW) -> np.ndarray:
    """(num_masks, H, W) bool, with a check that no pixel is twice in a mask."""
    found = np.zeros((num_masks, hw[0] * hw[1]), int)
    for owners, pixels in runs.pixels(np.arange(num_masks)[::-1], hw):
        np.add.at(found, (owners, pixels), 1)
    assert found.max(initial=0) <= 1
    assert np.array_equal(found.sum(1), runs.areas(num_masks))
    return found.reshape(num_masks, *hw).astype(bool)


def distance(point: tuple[float, float], rings: list[np.ndarray]) -> float:
    """Of a point from the nearest edge of rings."""
    start = np.concatenate(rings) - point
    step = np.concatenate([np.roll(ring, -1, 0) - ring for ring in rings])
    along = -(start * step).sum(1) / np.maximum((step**2).sum(1), 1e-30)
    return float(np.hypot(*(start + along.clip(0, 1)[:, None] * step).T).min())


@pytest.mark.parametrize("step", [0.01, 0.25, 0.5, 1.0], ids="on multiples of {}".format)
def test_polygons(step):
    rng = np.random.default_rng(0)
    objects = [
        [
            (rng.uniform(-10, 60, (rng.integers(1, 9), 2)) / step).round()
            * step  # also lines, points, and crossing edges
            for _ in range(rng.integers(1, 4))
        ]
        for _ in range(300)
    ]
    expected = np.array([fill_polygons([[ring] for ring in rings], HW) for rings in objects])
    found = images(runs_of_polygons(range(300), objects, count_crossings(objects, HW), HW), 300)
    for number, y, x in np.argwhere(expected != found).tolist():  # scikit-image leaves out some that lie on an edge
        assert distance((x + 0.5, y + 0.5), objects[number]) < 1e-9


def test_polygons_in_small_parts(monkeypatch):
    monkeypatch.setattr("napari_sam2.labels.runs.MAX_CROSSINGS", 30)
    monkeypatch.setattr("napari_sam2.labels.runs._PIXELS", 7)
    rng = np.random.default_rng(1)
    objects = [[rng.uniform(0, 40, (5, 2))] for _ in range(20)]
    expected = [fill_polygons([rings], HW) for rings in objects]
    np.testing.assert_array_equal(
        images(runs_of_polygons(range(20), objects, count_crossings(objects, HW), HW), 20), expected
    )


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.zeros(HW, bool), np.ones(HW, bool), *(rng.random((12, *HW)) < rng.uniform(0, 1, (12, 1, 1)))]


@pytest.mark.parametrize("is_text", [True, False, None], ids=["compressed", "numbers", "both"])
@pytest.mark.parametrize("at_a_time", [1, 100, 10**6])
def test_run_lengths(monkeypatch, is_text, at_a_time):
    monkeypatch.setattr("napari_sam2.labels.runs._COUNTS", at_a_time)
    monkeypatch.setattr("napari_sam2.labels.runs._LONGEST", 100)
    coded = [encode_rle(mask) for mask in masks()]
    coded = [compress_rle(rle) if is_text or (is_text is None and n % 2) else rle for n, rle in enumerate(coded)]
    np.testing.assert_array_equal(images(runs_of_rle(range(len(coded)), coded, HW), len(coded)), masks())


def test_masks_in_windows():
    window = masks()[3][5:20, 7:30]
    expected = np.zeros(HW, bool)
    expected[5:20, 7:30] = window
    found = images(runs_of_masks([(1, window, (5, 7))], HW), 2)
    np.testing.assert_array_equal(found, [np.zeros(HW, bool), expected])


@pytest.mark.parametrize(
    "counts",
    ["", "PPPP", "\x10", "é", "ooooooooooooooo1", "0" * 10, [5, -5, 1961], [3], "o" * 12 + "0"],
    ids=["empty", "cut", "below", "no ASCII", "too long", "too short", "negative", "one run", "large"],
)
def test_damaged_run_lengths_raise_what_one_by_one_raises(counts):
    good = compress_rle(encode_rle(masks()[4]))
    bad = {"size": list(HW), "counts": counts}
    with pytest.raises((PromptError, ValueError)) as expected:
        decode_rle(bad)
    with pytest.raises(type(expected.value)) as found:
        decode_runs([good, bad, good])
    assert str(found.value) == str(expected.value)
