"""Boxes, stability and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.inference.masks.boxes import box_iou, mask_to_box, nms, stability_score, threshold_logits


def make_mask(*rows: str) -> np.ndarray:
    """A bool mask drawn with '#' and '.'."""
    return np.array([[c == "#" for c in row] for row in rows])


RING = make_mask(
    "#####..",
    "#...#..",
    "#...#.#",
    "#####..",
    ".......",
)


def test_threshold_is_strict() -> None:
    assert threshold_logits(torch.tensor([-1.0, 0.0, 1e-6])).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        pytest.param(RING, [0, 0, 6, 3], id="ring-and-dot"),
        pytest.param(make_mask("...", "..#"), [2, 1, 2, 1], id="last-pixel"),
        pytest.param(make_mask("#..", "..."), [0, 0, 0, 0], id="first-pixel"),
        pytest.param(make_mask("...", "..."), [0, 0, 0, 0], id="empty"),
        pytest.param(make_mask("##", "##"), [0, 0, 1, 1], id="full"),
    ],
)
def test_box_holds_first_and_last_pixel(mask: np.ndarray, box: list[int]) -> None:
    assert mask_to_box(mask).tolist() == box
    assert mask_to_box(torch.from_numpy(mask)[None, None]).tolist() == [[box]]


def test_boxes_of_read_only_masks() -> None:
    mask = RING.copy()
    mask.setflags(write=False)
    assert mask_to_box(mask).tolist() == [0, 0, 6, 3]


def test_stability_is_the_ratio_of_two_areas() -> None:
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-5.0, -5.0, -5.0, -5.0]]])
    assert stability_score(logits, 0.0, 1.0).tolist() == pytest.approx([1 / 3, 0])
    assert stability_score(logits, 0.0, 0.25).tolist() == [1.0, 0.0]


def random_boxes(num: int, seed: int = 0, side: float = 1000.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side, (num, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 90, (num, 2))), 1).astype(np.float32)
    return torch.from_numpy(boxes), torch.from_numpy(rng.integers(0, 40, num).astype(np.float32))


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """The definition, one box at a time, in float64."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        size = np.minimum(boxes[i, 2:], boxes[kept, 2:]) - np.maximum(boxes[i, :2], boxes[kept, :2])
        overlap = size.clip(0).prod(1)
        if not (overlap / (areas[i] + areas[kept] - overlap) > threshold).any():
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_equals_its_definition(threshold: float) -> None:
    boxes, scores = random_boxes(1500)
    kept = nms(boxes, scores, threshold).tolist()
    assert kept == plain_nms(boxes.numpy().astype(np.float64), scores.numpy(), threshold)


def test_nms_of_integer_boxes_without_area_keeps_them() -> None:
    boxes = torch.tensor([[3, 3, 3, 9], [3, 3, 3, 9], [0, 0, 9, 9]])
    assert nms(boxes, torch.tensor([0.5, 0.5, 0.9]), 0.5).tolist() == [2, 0, 1]


def test_nms_prefers_the_earlier_of_equals() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    assert nms(boxes, torch.ones(3), 0.5).tolist() == [0]
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_nms_memory_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    def watched(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(first) * len(second))
        return box_iou(first, second)

    monkeypatch.setattr("napari_sam2.inference.masks.boxes.box_iou", watched)
    boxes, scores = random_boxes(9_000, side=9_000.0)
    assert len(nms(boxes, scores, 0.5)) > 8_000
    assert largest <= 512 * 8192 < 9_000**2 / 16
