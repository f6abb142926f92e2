"""Which object gets a pixel: prompted masks first, then the nearest prompt and the highest logit of all results."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._types import FrameResult, LogitWindow
from napari_sam2.labels.canvas import LabelCanvas


def make_result(ids, logits, prompted=(), distances=()):
    logits = np.asarray(logits, np.float32)
    scores = np.ones(len(ids), np.float32)
    windows = tuple(LogitWindow(0, 0, plane) for plane in logits)
    return FrameResult(
        0,
        tuple(ids),
        logits.shape[1:],
        windows,
        scores,
        scores,
        has_logits=True,
        is_prompted=prompted,
        prompt_distances=distances,
    )


def paint(results, width=4, min_component=0.0):
    labels = np.zeros((1, 1, width), np.int32)
    with LabelCanvas(labels, (1, width), {0}, min_component=min_component) as canvas:
        for result in results:
            canvas.paint(result)
    return labels[0, 0].tolist()


@pytest.mark.parametrize("swapped", [False, True])
def test_contested_pixels_go_to_the_highest_logit_in_any_order(swapped):
    results = [make_result((1,), [[[3, 1, -1, -1]]]), make_result((2,), [[[1, 2, 2, -1]]])]
    assert paint(results[::-1] if swapped else results) == [1, 2, 2, 0]


@pytest.mark.parametrize("swapped", [False, True])
def test_contested_pixels_go_to_the_object_whose_prompt_is_nearer_in_any_order(swapped):
    far = make_result((1,), [[[9, 9, -1, -1]]], distances=(7,))
    near = make_result((2,), [[[-1, 1, 1, -1]]], distances=(6,))
    assert paint([near, far] if swapped else [far, near]) == [1, 2, 2, 0]
    together = make_result((1, 2), [[[9, 9, -1, -1]], [[-1, 1, 1, -1]]], distances=(7, 6))
    assert paint([together]) == [1, 2, 2, 0]


@pytest.mark.parametrize("swapped", [False, True])
def test_prompted_masks_keep_their_pixels_whatever_the_logits(swapped):
    results = [make_result((1,), [[[1, 1, -1, -1]]], (True,)), make_result((2,), [[[9, 9, 9, -1]]], (False,))]
    assert paint(results[::-1] if swapped else results) == [1, 1, 2, 0]


def test_of_two_prompted_masks_the_first_keeps_the_overlap():
    assert paint([make_result((5, 3), [[[1, 1, -1, -1]], [[9, 9, 9, -1]]], (True, True))]) == [5, 5, 3, 0]


def test_pieces_cut_off_by_another_object_are_dropped_if_small():
    cut = make_result((1, 2), [[[1] * 44], [[-1] * 41 + [2] * 2 + [-1]]], (False, False))
    assert paint([cut], 44, min_component=0.05) == [1] * 41 + [2, 2, 0]
    assert paint([cut], 44) == [1] * 41 + [2, 2, 1]


def test_a_result_without_objects_changes_nothing():
    empty = make_result((), np.zeros((0, 1, 4)))
    assert paint([empty, make_result((1,), [[[3, 1, -1, -1]]]), empty]) == [1, 1, 0, 0]
