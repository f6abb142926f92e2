"""Masks of a propagation, packed as they come."""

from __future__ import annotations

import numpy as np

from napari_sam2._types import FrameResult, LogitWindow
from napari_sam2.inference.requests import TrackStep
from napari_sam2.session.engines.tracked_planes import PlanePacker

FORWARDS = TrackStep(3, False, (1,), (1,))
BACKWARDS = TrackStep(3, True, (2, 4), (2, 4))


def result_of(object_id: int, logits: list[float]) -> FrameResult:
    score = np.full(1, 0.5, np.float32)
    values = np.array([[logits]], np.float32)
    return FrameResult(
        3, (object_id,), (1, len(logits)), (LogitWindow(0, 0, values[0]),), score, score, has_logits=True
    )


def test_the_second_pass_over_a_plane_takes_pixels_from_the_first_by_logit():
    with PlanePacker((1, 4), [FORWARDS, BACKWARDS], min_component=0.05) as packer:
        first = packer.pack(result_of(1, [3, 1, -1, -1]), FORWARDS)
        second = packer.pack(result_of(2, [1, 2, 2, -1]), BACKWARDS)
    assert first.masks[1].to_image((1, 4)).tolist() == [[True, True, False, False]]
    found = {i: mask.to_image((1, 4))[0].tolist() for i, mask in second.masks.items()}
    assert found[1] == [True, False, False, False]
    assert found[2] == [False, True, True, False]
    assert second.masks[4].kind == "lost"
    assert second.masks[1].iou == 0.5


def test_masks_of_the_first_pass_that_lose_nothing_are_not_written_again():
    with PlanePacker((1, 4), [FORWARDS, BACKWARDS], min_component=0.05) as packer:
        packer.pack(result_of(1, [3, -1, -1, -1]), FORWARDS)
        second = packer.pack(result_of(2, [-1, 2, 2, -1]), BACKWARDS)
    assert 1 not in second.masks
