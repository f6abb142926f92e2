"""Objects that claim the same pixels: who gets them, and what the others get."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.inference.tracking.claims import (
    Claim,
    ClaimSettings,
    DistractorSettings,
    find_distracted,
    motion_likelihood,
    settle_claims,
)
from napari_sam2.inference.tracking.motion import Prediction

SETTINGS = ClaimSettings(are_settled=True)


def square(left: int, score: float, side: int = 10) -> Claim:
    return Claim(5, left, np.ones((side, side), bool), score)


def test_masks_that_hardly_overlap_are_left_alone():
    assert settle_claims({1: [square(0, 0.9)], 2: [square(6, 0.1)], 3: []}, SETTINGS) == {}


def test_pixels_go_to_the_likelier_object_and_the_other_takes_what_is_its_own():
    claims = {1: [square(0, 0.9), square(30, 0.2)], 2: [square(1, 0.5), square(20, 0.4)]}
    assert settle_claims(claims, SETTINGS) == {2: 1}


def test_the_sum_of_all_decides_and_not_the_best_single_claim():
    # 1 fits a little better where both are, but has nothing else; 2 has
    claims = {1: [square(0, 0.6)], 2: [square(0, 0.7), square(20, 0.65)]}
    assert settle_claims(claims, SETTINGS) == {2: 1}


def test_an_object_without_another_mask_is_absent_and_takes_none_from_a_third():
    claims = {1: [square(0, 0.9)], 2: [square(0, 0.3), square(40, 0.8)], 3: [square(41, 0.5)]}
    assert settle_claims(claims, SETTINGS) == {2: None}


def test_three_objects_share_three_places():
    places = [square(0, 0.5), square(20, 0.5), square(40, 0.5)]
    claims = {
        1: [places[0], square(20, 0.45)],
        2: [places[0], square(40, 0.4)],
        3: [places[0], square(0, 0.5)],
    }
    assert settle_claims(claims, SETTINGS) == {1: 1, 2: 1}


def test_a_likely_mask_is_near_and_of_the_same_size():
    expected = Prediction(50.0, 20.0, 4.0)
    same = motion_likelihood((50.0, 20.0), 100, expected, 100, SETTINGS)
    assert same == pytest.approx(1)
    assert motion_likelihood((58.0, 20.0), 100, expected, 100, SETTINGS) == pytest.approx(np.exp(-2))
    assert motion_likelihood((50.0, 20.0), 200, expected, 100, SETTINGS) < 0.3


def test_an_object_is_distracted_where_another_candidate_holds_another_object():
    masks = {1: square(0, 0.9), 2: square(10, 0.9), 3: square(40, 0.9)}
    clump = Claim(5, 0, np.ones((10, 20), bool), 0.5)
    candidates = {1: [square(1, 0.5), clump], 2: [square(60, 0.5)], 3: []}
    assert find_distracted(masks, candidates, DistractorSettings()) == {1}
    both = {1: square(0, 0.9), 2: square(1, 0.9)}  # already the same pixels: the candidate shows nothing new
    assert find_distracted(both, {1: [square(0, 0.5)]}, DistractorSettings()) == set()
