"""Components of a tracked mask away from the object's last position are dropped."""

from __future__ import annotations

import numpy as np
import torch

from napari_sam2.inference.tracking.component_filter import average_segmentations, keep_overlapping_components
from napari_sam2.network.features import FrameSegmentation
from napari_sam2.network.sam2 import ABSENT_LOGIT

NO_POINTER = torch.full((1, 4), 9.0)


def logits_of(*boxes, side=32):
    """(1, 1, side, side) logits: positive in boxes y0, x0, y1, x1."""
    image = np.full((side, side), -5.0, np.float32)
    for y0, x0, y1, x1 in boxes:
        image[y0:y1, x0:x1] = 5
    return torch.from_numpy(image)[None, None]


def make_found(*masks):
    count = len(masks)
    return FrameSegmentation(
        torch.cat(masks), torch.full((count,), 0.8), torch.full((count, 1), 2.0), torch.zeros(count, 4), None
    )


def test_a_distant_component_is_dropped_and_the_object_kept():
    before = logits_of((10, 10, 18, 18))
    found = make_found(logits_of((11, 11, 19, 19), (25, 25, 30, 30)))
    kept = keep_overlapping_components(found, [before], NO_POINTER)
    assert (kept.logits[0, 0, 25:30, 25:30] <= -10).all()
    torch.testing.assert_close(kept.logits[0, 0, 11:19, 11:19], found.logits[0, 0, 11:19, 11:19])
    assert kept.object_score.item() == 2.0


def test_a_mask_that_jumps_to_another_object_counts_as_gone():
    kept = keep_overlapping_components(make_found(logits_of((24, 24, 31, 31))), [logits_of((4, 4, 12, 12))], NO_POINTER)
    assert not (kept.logits > 0).any()
    assert kept.object_score.item() < 0
    torch.testing.assert_close(kept.pointer, NO_POINTER)


def test_a_neighbour_that_only_touches_where_the_object_was_is_left_out():
    kept = keep_overlapping_components(
        make_found(logits_of((10, 20, 20, 30))), [logits_of((10, 8, 20, 19))], NO_POINTER
    )
    assert not (kept.logits > 0).any()


def test_an_object_that_shrinks_or_grows_is_kept_whole():
    for now, before in (((12, 12, 14, 14), (6, 6, 22, 22)), ((4, 4, 28, 28), (12, 12, 16, 16))):
        found = make_found(logits_of(now))
        assert keep_overlapping_components(found, [logits_of(before)], NO_POINTER).logits.equal(found.logits)


def test_each_object_is_held_to_its_own_past_and_one_not_seen_for_long_is_gone():
    found = make_found(logits_of((2, 2, 8, 8)), logits_of((20, 20, 28, 28)), logits_of((2, 2, 8, 8)))
    kept = keep_overlapping_components(found, [logits_of((2, 2, 8, 8)), logits_of((20, 20, 28, 28)), None], NO_POINTER)
    assert [(mask > 0).any().item() for mask in kept.logits] == [True, True, False]
    assert (found.logits[2] > 0).any()  # what was given is left as it is


def test_two_answers_are_averaged_and_an_object_is_there_if_both_say_so():
    def answer(scores, logit, pointer):
        count = len(scores)
        score = torch.tensor(scores)[:, None]
        logits = torch.where(score[..., None, None] > 0, torch.full((count, 1, 4, 4), logit), ABSENT_LOGIT)
        return FrameSegmentation(logits, torch.full((count,), pointer), score, torch.full((count, 2), pointer), None)

    both = average_segmentations(answer([2.0, -1.0, 3.0], 4.0, 0.25), answer([5.0, 6.0, -2.0], 8.0, 0.75))
    assert both.object_score[:, 0].tolist() == [2.0, -1.0, -2.0]
    assert both.logits[:, 0, 0, 0].tolist() == [6.0, ABSENT_LOGIT, ABSENT_LOGIT]
    assert both.iou.tolist() == [0.75] * 3
    assert both.pointer[:, 0].tolist() == [0.75, 0.25, 0.75]  # of an absent object: of whoever says that it is gone
