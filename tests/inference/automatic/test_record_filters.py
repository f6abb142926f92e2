"""Automatic masks chosen again without computing them again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2 import PromptError
from napari_sam2.inference.automatic.record_filters import filter_records
from napari_sam2.labels.rle import compress_rle, encode_rle
from oracle import make_record


def square(y: int, x: int, side: int, **over):
    mask = np.zeros((40, 50), bool)
    mask[y : y + side, x : x + side] = True
    return make_record(mask, **over)


def records():
    return [
        square(5, 5, 10, predicted_iou=0.9, stability_score=0.7),
        square(20, 20, 4, predicted_iou=0.5, stability_score=0.95),
        square(0, 30, 6, predicted_iou=0.8, stability_score=0.8),
    ]


@pytest.mark.parametrize(
    ("over", "kept"),
    [
        pytest.param({}, [0, 1, 2], id="nothing-asked"),
        pytest.param({"min_iou": 0.8}, [0, 2], id="iou"),
        pytest.param({"min_stability": 0.8}, [1, 2], id="stability"),
        pytest.param({"min_area": 36}, [0, 2], id="area-in-pixels"),
        pytest.param({"max_area": 36}, [1, 2], id="largest-area"),
        pytest.param({"min_area": 9, "pixel_size": 0.5}, [0, 2], id="square-micrometres"),
        pytest.param({"min_area": 4.4, "max_area": 4.6, "pixel_size": (0.25, 0.5)}, [2], id="pixels-not-square"),
        pytest.param({"exclude_border": True}, [0, 1], id="border"),
    ],
)
def test_kept(over, kept):
    given = records()
    assert [given.index(record) for record in filter_records(given, **over)] == kept
    assert len(given) == 3


@pytest.mark.parametrize("form", ["mask", "rle", "compressed"])
@pytest.mark.parametrize(
    ("y", "x", "touches"),
    [(0, 9, True), (30, 9, True), (9, 0, True), (9, 40, True), (1, 9, False), (29, 9, False), (9, 39, False)],
)
def test_border_is_the_outermost_row_and_column(y, x, touches, form):
    mask = np.zeros((40, 50), bool)
    mask[y : y + 10, x : x + 10] = True
    rle = encode_rle(mask)
    record = square(y, x, 10, segmentation={"mask": mask, "rle": rle, "compressed": compress_rle(rle)}[form])
    assert (filter_records([record], exclude_border=True) == []) is touches


@pytest.mark.parametrize(
    ("over", "message"),
    [
        pytest.param({"min_iou": 1.2}, "min_iou=1.2", id="iou"),
        pytest.param({"min_stability": float("nan")}, "min_stability", id="nan"),
        pytest.param({"min_area": 9, "max_area": 5}, "9 to 5", id="areas"),
        pytest.param({"pixel_size": 0}, "pixel_size=0", id="no-size"),
        pytest.param({"pixel_size": (1, 2, 3)}, "pixel_size", id="three-sizes"),
        pytest.param({"pixel_size": "a"}, "pixel_size", id="text-size"),
        pytest.param({"min_iou": None}, "min_iou=None", id="none"),
        pytest.param({"min_area": "9"}, "min_area='9'", id="text-area"),
        pytest.param({"max_area": 10**400}, "max_area", id="huge-area"),
    ],
)
def test_bad_values_are_refused(over, message):
    with pytest.raises(PromptError, match=message):
        filter_records(records(), **over)
