"""Simulated prompts lie where a user would put them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._errors import PromptError
from napari_sam2.training.click_simulation import (
    PromptMix,
    correction_clicks,
    first_prompt,
    interior_point,
    tight_box,
)

CLICK = PromptMix(click=1, box=0, mask=0)
BOX = PromptMix(click=0, box=1, mask=0)


def make_disk(
    hw: tuple[int, int] = (60, 80), centre_yx: tuple[float, float] = (30, 40), radius: float = 12
) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return (y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 < radius**2


def make_pixel(y: int, x: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[y, x] = True
    return mask


def correct(truth: np.ndarray, predicted: np.ndarray, *, centre: float = 0.5) -> tuple[int, int, int]:
    """The correcting click (x, y) on one mask and its label."""
    rng = np.random.default_rng(0)
    points, labels = correction_clicks(torch.tensor(truth[None]), torch.tensor(predicted[None]), rng, centre=centre)
    (x, y), (label,) = points[0].tolist(), labels.tolist()
    return int(x), int(y), label


HARD_MASKS = [
    pytest.param(make_disk(), id="disk"),
    pytest.param(make_pixel(7, 11), id="one-pixel"),
    pytest.param(make_pixel(0, 0), id="corner-pixel"),
    pytest.param(make_pixel(19, 29), id="last-pixel"),
    pytest.param(np.ones((20, 30), bool), id="whole-image"),
    pytest.param(make_disk(radius=15) & ~make_disk(radius=13), id="thin-ring"),
    pytest.param(make_disk(centre_yx=(30, 0)), id="cut-by-border"),
    pytest.param(make_disk(centre_yx=(12, 12), radius=6) | make_disk(centre_yx=(45, 60), radius=4), id="two-pieces"),
    pytest.param(np.eye(40, dtype=bool), id="diagonal-line"),
]


@pytest.mark.parametrize("mask", HARD_MASKS)
@pytest.mark.parametrize("interior", [0.0, 1.0])
def test_click_lies_on_the_object(mask: np.ndarray, interior: float) -> None:
    rng = np.random.default_rng(0)
    mix = PromptMix(click=1, box=0, mask=0, interior=interior)
    for _ in range(30):
        prompt = first_prompt(mask, rng, mix)
        ((x, y),) = prompt.points.astype(int)
        assert mask[y, x]
        assert prompt.labels.tolist() == [1]
        assert prompt.box is None
        assert prompt.mask is None


def test_interior_point_is_the_middle_of_a_disk() -> None:
    assert interior_point(make_disk(centre_yx=(30, 41))) == (41, 30)


def test_interior_point_counts_the_image_border_as_background() -> None:
    x, y = interior_point(np.ones((21, 41), bool))
    assert y == 10
    assert 10 <= x <= 30


def test_tight_box_ends_one_pixel_after_the_last() -> None:
    assert tight_box(make_pixel(7, 11)).tolist() == [11, 7, 12, 8]


@pytest.mark.parametrize("mask", HARD_MASKS)
def test_box_stays_within_its_jitter_and_the_image(mask: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    tight = tight_box(mask)
    limit = np.minimum(np.array([tight[2] - tight[0], tight[3] - tight[1]] * 2) * 0.1, 20)
    h, w = mask.shape
    for _ in range(50):
        prompt = first_prompt(mask, rng, BOX)
        assert prompt.box is not None
        assert len(prompt.points) == 0
        x0, y0, x1, y1 = prompt.box
        assert 0 <= x0 < x1 <= w
        assert 0 <= y0 < y1 <= h
        # a box is never thinner than a pixel, which may cost up to one more
        assert (np.abs(prompt.box - tight) <= limit + 1).all()


def test_jitter_of_a_large_box_stops_at_twenty_pixels() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[100:900, 100:900] = True
    rng = np.random.default_rng(2)
    mix = PromptMix(click=0, box=1, mask=0, exact_box=0)
    shifts = np.array([first_prompt(mask, rng, mix).box - tight_box(mask) for _ in range(100)])  # type: ignore[operator]
    assert 15 < np.abs(shifts).max() <= 20


def test_mask_prompt_is_a_copy_of_the_object() -> None:
    mask = make_disk()
    prompt = first_prompt(mask, np.random.default_rng(0), PromptMix(click=0, box=0, mask=1))
    assert prompt.mask is not None
    assert (prompt.mask == mask).all()
    assert not np.shares_memory(prompt.mask, mask)


def test_kinds_of_prompts_have_their_frequencies() -> None:
    rng = np.random.default_rng(0)
    mask = make_disk(hw=(40, 40), centre_yx=(20, 20), radius=6)
    prompts = [first_prompt(mask, rng) for _ in range(1500)]
    assert np.mean([len(p.points) for p in prompts]) == pytest.approx(0.50, abs=0.05)
    assert np.mean([p.box is not None for p in prompts]) == pytest.approx(0.45, abs=0.05)
    assert np.mean([p.mask is not None for p in prompts]) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("mix", [CLICK, BOX, PromptMix(click=0, box=0, mask=1)], ids=["click", "box", "mask"])
def test_empty_mask_is_refused(mix: PromptMix) -> None:
    with pytest.raises(PromptError, match="empty mask"):
        first_prompt(np.zeros((9, 9), bool), np.random.default_rng(0), mix)


@pytest.mark.parametrize("centre", [0.0, 1.0], ids=["random", "centre"])
def test_correction_is_positive_where_object_was_missed(centre: float) -> None:
    truth = make_disk()
    x, y, label = correct(truth, np.zeros_like(truth), centre=centre)
    assert truth[y, x]
    assert label == 1


@pytest.mark.parametrize("centre", [0.0, 1.0], ids=["random", "centre"])
def test_correction_is_negative_where_background_was_taken(centre: float) -> None:
    truth = make_disk(radius=6)
    x, y, label = correct(truth, make_disk(radius=14), centre=centre)
    assert not truth[y, x]
    assert make_disk(radius=14)[y, x]
    assert label == 0


def test_centred_correction_goes_to_the_middle_of_the_largest_error() -> None:
    truth = make_disk(centre_yx=(20, 20), radius=8)
    predicted = truth.copy()
    predicted[20, 20] = False
    predicted |= make_disk(centre_yx=(40, 60), radius=9)
    x, y, label = correct(truth, predicted, centre=1.0)
    assert (x, y) == pytest.approx((60, 40), abs=1)
    assert label == 0


def test_each_object_gets_a_correction_of_its_own() -> None:
    truths = torch.tensor(np.stack([make_disk(centre_yx=(20, 20)), make_disk(centre_yx=(40, 60))]))
    points, labels = correction_clicks(truths, torch.zeros_like(truths), np.random.default_rng(0), centre=1.0)
    assert points.numpy() == pytest.approx(np.array([[20, 20], [60, 40]]), abs=1)
    assert labels.tolist() == [1, 1]


def test_the_border_of_the_image_is_as_wrong_as_its_outside() -> None:
    x, _, _ = correct(np.ones((21, 81), bool), np.zeros((21, 81), bool), centre=1.0)
    assert 10 <= x <= 70


def test_correction_of_a_perfect_mask_confirms_the_object() -> None:
    truth = make_disk()
    x, y, label = correct(truth, truth.copy())
    assert truth[y, x]
    assert label == 1


def test_correction_of_rightly_empty_mask_is_background() -> None:
    x, y, label = correct(np.zeros((8, 9), bool), np.zeros((8, 9), bool))
    assert 0 <= x < 9
    assert 0 <= y < 8
    assert label == 0
