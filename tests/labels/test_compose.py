"""Facts about who wins where objects overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._errors import PromptError
from napari_sam2.labels.compose import compose_labels, masks_to_labels
from napari_sam2.labels.rle import compress_rle, encode_rle

LOGITS = np.array(
    [
        [[2.0, 2.0, -1.0, 0.0, np.nan]],
        [[1.0, 3.0, -2.0, -1.0, 1.0]],
        [[1.0, 3.0, 4.0, -1.0, np.nan]],
    ],
    np.float32,
)


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


@pytest.mark.parametrize("as_type", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_highest_logit_wins_and_only_above_zero(as_type) -> None:
    labels = compose_labels(as_type(LOGITS), [7, 3, 300])
    assert labels.dtype == np.int32
    # equal logits: the earlier object; zero and NaN: nobody
    assert labels.tolist() == [[7, 3, 300, 0, 3]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_float_type_composes_alike(dtype: torch.dtype) -> None:
    assert compose_labels(torch.as_tensor(LOGITS).to(dtype), [7, 3, 300]).tolist() == [[7, 3, 300, 0, 3]]


def test_threshold_can_be_raised() -> None:
    assert compose_labels(LOGITS, [1, 2, 3], threshold=2.5).tolist() == [[0, 2, 3, 0, 0]]


@pytest.mark.parametrize(
    ("rule", "scores", "expected"),
    [
        pytest.param("first", None, [1, 1, 2, 0], id="first"),
        pytest.param("last", None, [1, 3, 3, 0], id="last"),
        pytest.param("highest_score", [0.1, 0.9, 0.5], [1, 2, 2, 0], id="score"),
        pytest.param("highest_score", [0.5, 0.5, 0.5], [1, 1, 2, 0], id="equal-scores"),
    ],
)
def test_bool_masks_follow_the_rule(rule: str, scores: list[float] | None, expected: list[int]) -> None:
    masks = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]], [[0, 1, 1, 0]]], bool)
    assert compose_labels(masks, [1, 2, 3], rule, scores=scores).tolist() == [expected]  # type: ignore[arg-type]


def test_no_objects_give_an_empty_label_image() -> None:
    assert not compose_labels(np.zeros((0, 3, 4), np.float32), []).any()


@pytest.mark.parametrize(
    ("masks", "ids", "options", "message"),
    [
        pytest.param(np.zeros((3, 4)), [1], {}, r"\(3, 4\)", id="two-axes"),
        pytest.param(LOGITS, [1, 2], {}, "2 object ids were given for 3", id="too-few-ids"),
        pytest.param(LOGITS, [1, 2, 2], {}, "different positive", id="same-id-twice"),
        pytest.param(LOGITS, [1, 2, 0], {}, "different positive", id="background-as-id"),
        pytest.param(LOGITS, [1, 2, 2**31], {}, "2\\^31", id="id-too-large"),
        pytest.param(LOGITS > 0, [1, 2, 3], {}, "no logits", id="bool-without-rule"),
        pytest.param(LOGITS, [1, 2, 3], {"rule": "best"}, "'best'", id="unknown-rule"),
        pytest.param(LOGITS, [1, 2, 3], {"rule": "highest_score"}, "given: none", id="no-scores"),
        pytest.param(LOGITS, [1, 2, 3], {"rule": "highest_score", "scores": [1, 2]}, "one score", id="few-scores"),
    ],
)
def test_what_does_not_fit_is_refused(masks: np.ndarray, ids: list[int], options: dict, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        compose_labels(masks, ids, **options)


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
