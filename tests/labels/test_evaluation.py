"""Average precision, on label images whose score can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2 import FrameError
from napari_sam2.labels.evaluation import average_precision


def squares() -> np.ndarray:
    labels = np.zeros((20, 40), int)
    labels[2:12, 2:12], labels[2:12, 22:32] = 1, 2
    return labels


def test_truth_itself_is_perfect_whatever_the_numbers():
    agreement = average_precision(squares(), squares() * 1000)
    assert [s.threshold for s in agreement.scores] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    assert agreement.mean_average_precision == 1
    assert agreement.at(0.5).num_matched == 2


def test_shifted_object_counts_up_to_its_iou():
    labels = squares()
    labels[labels == 2] = 0
    labels[2:12, 24:34] = 7  # IoU 80 / 120
    agreement = average_precision(squares(), labels)
    assert (agreement.at(0.65).num_matched, agreement.at(0.7).num_matched) == (2, 1)
    assert agreement.at(0.7).average_precision == pytest.approx(1 / 3)
    assert agreement.mean_average_precision == pytest.approx((4 * 1 + 5 / 3) / 9)


def test_missed_and_wrong_objects_both_cost():
    labels = np.where(squares() == 1, 1, 0)
    labels[16:19, 2:5] = 3
    score = average_precision(squares(), labels).at(0.5)
    assert (score.num_matched, score.num_missed, score.num_wrong) == (1, 1, 1)


def test_bodies_are_compared_in_three_dimensions():
    truth = np.stack([squares()] * 4)
    labels = truth.copy()
    labels[2:][labels[2:] == 1] = 5  # a body broken in two: the first half has IoU 0.5
    score = average_precision(truth, labels, [0.5]).at(0.5)
    assert (score.num_matched, score.num_missed, score.num_wrong) == (2, 0, 1)
    assert average_precision(truth, labels, [0.6]).at(0.6).num_matched == 1


def test_agreements_of_images_add_up():
    total = average_precision(squares(), squares()) + average_precision(squares(), np.zeros((20, 40), int))
    assert total.at(0.5).average_precision == 0.5
    assert np.isnan(average_precision(np.zeros((2, 2), int), np.zeros((2, 2), int)).at(0.5).average_precision)


@pytest.mark.parametrize(
    ("truth", "labels", "thresholds", "message"),
    [
        pytest.param(squares(), squares()[:5], [0.5], "shape", id="shapes"),
        pytest.param(squares()[0], squares()[0], [0.5], "expected", id="one-dimension"),
        pytest.param(squares(), squares() / 2, [0.5], "integers", id="float"),
        pytest.param(squares(), squares(), [0], "above 0", id="threshold"),
        pytest.param(squares(), squares(), [], "above 0", id="no-threshold"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, labels, thresholds, message):
    with pytest.raises(FrameError, match=message):
        average_precision(truth, labels, thresholds)


def test_unmeasured_threshold_is_refused():
    with pytest.raises(FrameError, match=r"0\.5, 0\.55"):
        average_precision(squares(), squares()).at(0.3)
