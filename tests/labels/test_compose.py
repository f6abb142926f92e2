"""Facts about which automatic mask wins where several overlap."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._errors import PromptError
from napari_sam2.labels.compose import masks_to_labels
from napari_sam2.labels.rle import compress_rle, encode_rle


def disk(hw: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def make_record(mask: np.ndarray, iou: float = 0.9, form: str = "binary") -> dict:
    segmentation = {
        "binary": lambda: mask,
        "rle": lambda: encode_rle(mask),
        "coco": lambda: compress_rle(encode_rle(mask)),
    }
    return {"segmentation": segmentation[form](), "area": int(mask.sum()), "predicted_iou": iou, "stability_score": 1.0}


@pytest.mark.parametrize("form", ["binary", "rle", "coco"])
def test_small_masks_stay_on_top_whatever_their_form(form: str) -> None:
    cell, nucleus = disk((40, 50), (20, 25), 15), disk((40, 50), (20, 25), 5)
    labels = masks_to_labels([make_record(nucleus, 0.2, form), make_record(cell, 0.99, form)])
    assert np.array_equal(labels == 1, nucleus)
    assert np.array_equal(labels == 2, cell & ~nucleus)


def test_best_score_wins_if_asked() -> None:
    cell, nucleus = disk((40, 50), (20, 25), 15), disk((40, 50), (20, 25), 5)
    labels = masks_to_labels([make_record(nucleus, 0.2), make_record(cell, 0.9)], rule="best_score")
    assert set(np.unique(labels)) == {0, 2}


def test_hidden_masks_are_left_out_only_if_asked() -> None:
    larger, smaller = disk((40, 50), (20, 25), 10), disk((40, 50), (20, 25), 9.5)
    records = [make_record(larger), make_record(smaller)]
    assert set(np.unique(masks_to_labels(records))) == {0, 1, 2}
    assert set(np.unique(masks_to_labels(records, min_visible_fraction=0.2))) == {0, 2}


def test_no_records_need_a_shape() -> None:
    assert masks_to_labels([], (3, 4)).shape == (3, 4)
    for hw in ((0, 4), (10**6, 10**6), (1e300, 1e300)):
        with pytest.raises(PromptError, match="hw="):
            masks_to_labels([], hw)
    with pytest.raises(PromptError, match="hw"):
        masks_to_labels([])


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        pytest.param([np.ones((3, 4), bool), np.ones((4, 3), bool)], {}, r"\(3, 4\), \(4, 3\)", id="two-shapes"),
        pytest.param([np.ones((3, 4), bool)], {"hw": (5, 5)}, r"\(5, 5\)", id="other-image"),
        pytest.param([np.ones((3, 4, 2), bool)], {}, r"\(3, 4, 2\)", id="three-axes"),
        pytest.param([np.ones((3, 4), bool)], {"rule": "x"}, "small_on_top", id="unknown-rule"),
        pytest.param([np.ones((3, 4), bool)], {"min_visible_fraction": 1.5}, "0 to 1", id="fraction"),
    ],
)
def test_records_that_do_not_fit_are_refused(records: list[np.ndarray], options: dict, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        masks_to_labels([{"segmentation": m, "area": m.sum()} for m in records], **options)
