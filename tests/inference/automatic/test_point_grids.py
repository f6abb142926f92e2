"""Facts about grids, crops and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.inference.automatic.point_grids import (
    Crop,
    WindowLattice,
    box_iou,
    crop_boxes,
    near_crop_edge,
    nms,
    point_grid,
    point_grids_of_layers,
    points_by_spacing,
    window_sides,
)


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


def test_grid_points_are_cell_centres_row_after_row() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert point_grid(1, 2).tolist() == [[0.5, 0.25], [0.5, 0.75]]


def test_layers_thin_out_but_never_vanish() -> None:
    assert [len(grid) for grid in point_grids_of_layers(8, 4, 3)] == [64, 4, 1, 1, 1]


@pytest.mark.parametrize(("hw", "num"), [((64, 96), 24), ((65, 96), 30), ((3, 3), 1)], ids=["exact", "more", "tiny"])
def test_spacing_sets_the_number_of_points(hw: tuple[int, int], num: int) -> None:
    points = points_by_spacing(hw, 16) * hw[::-1]
    assert len(points) == num
    assert np.diff(np.unique(points[:, 0])).max(initial=0) <= 16


def test_windows_double_until_one_shows_the_whole_image() -> None:
    assert window_sides((300, 512), 128) == [128, 256, 512]
    assert window_sides((90, 513), 128) == [128, 256, 512, 1024]
    assert window_sides((90, 100), 128) == [128]


@pytest.mark.parametrize("hw", [(512, 512), (90, 300), (129, 128), (40, 50)], ids=str)
def test_windows_overlap_by_half_and_cover_the_image(hw: tuple[int, int]) -> None:
    boxes = WindowLattice(hw, 128).boxes()
    covered = np.zeros(hw, int)
    for x0, y0, x1, y1 in boxes:
        assert (x1 - x0, y1 - y0) == (min(128, hw[1]), min(128, hw[0]))
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    for axis in (0, 1):
        starts = np.unique([box[axis] for box in boxes])
        assert np.diff(starts).max(initial=0) <= 64
    assert len(WindowLattice((512, 512), 128).boxes()) == 49


def test_points_belong_to_the_window_with_the_nearest_centre() -> None:
    lattice = WindowLattice((300, 200), 64)
    points = np.random.default_rng(0).uniform((0, 0), (199, 299), (200, 2))
    boxes = np.array(lattice.boxes())
    centres = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    assert np.allclose(distances[np.arange(200), lattice.nearest(points)], distances.min(1))


def test_layer_i_has_four_to_the_i_crops_that_cover_the_image() -> None:
    crops = crop_boxes((173, 260), 3, 512 / 1500)
    assert [sum(crop.layer == layer for crop in crops) for layer in range(4)] == [1, 4, 16, 64]
    for layer in range(4):
        covered = np.zeros((173, 260), bool)
        for crop in crops:
            x0, y0, x1, y1 = crop.box
            if crop.layer == layer:
                assert 0 <= x0 < x1 <= 260
                assert 0 <= y0 < y1 <= 173
                covered[y0:y1, x0:x1] = True
        assert covered.all()


def test_first_layer_overlaps_by_the_ratio_of_the_short_side() -> None:
    crops = [crop for crop in crop_boxes((256, 384), 1, 512 / 1500) if crop.layer == 1]
    # 87 = int(512 / 1500 * 256)
    assert [crop.box for crop in crops] == [
        (0, 0, 236, 172),
        (0, 85, 236, 256),
        (149, 0, 384, 172),
        (149, 85, 384, 256),
    ]


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (5, 2)], ids=str)
def test_tiny_images_have_no_empty_crops(hw: tuple[int, int]) -> None:
    for crop in crop_boxes(hw, 4, 512 / 1500):
        assert min(crop.hw) > 0


def test_crop_puts_masks_back_where_they_were() -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    crop = Crop((4, 7, 15, 18), 1)
    whole = crop.uncrop_mask(mask[7:18, 4:15], (20, 30))
    assert np.array_equal(whole[7:18, 4:15], mask[7:18, 4:15])
    assert whole.sum() == mask[7:18, 4:15].sum()
    assert Crop((0, 0, 30, 20), 0).uncrop_mask(mask, (20, 30)) is mask


@pytest.mark.parametrize(
    ("box", "is_near"),
    [
        pytest.param([0, 0, 60, 60], False, id="image-corner"),
        pytest.param([30, 30, 180, 60], True, id="at-20-px"),
        pytest.param([30, 30, 179, 60], False, id="at-21-px"),
        pytest.param([30, 30, 60, 199], True, id="crop-bottom"),
        pytest.param([30, 30, 60, 60], False, id="inside"),
    ],
)
def test_masks_near_inner_crop_edges_are_noticed(box: list[int], is_near: bool) -> None:
    crop = Crop((0, 0, 200, 200), 1)
    assert near_crop_edge(torch.tensor([box]), crop, (400, 400)).tolist() == [is_near]


def test_crop_offset_counts_for_edges() -> None:
    # 5 pixels into a crop that begins 10 pixels into the image: near both edges, so not cut off
    assert near_crop_edge(torch.tensor([[5, 50, 90, 90]]), Crop((10, 0, 300, 300), 1), (300, 300)).tolist() == [False]
    assert near_crop_edge(torch.tensor([[5, 50, 90, 90]]), Crop((60, 0, 300, 300), 1), (300, 300)).tolist() == [True]


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

    monkeypatch.setattr("napari_sam2.inference.automatic.point_grids.box_iou", watched)
    boxes, scores = random_boxes(9_000, side=9_000.0)
    assert len(nms(boxes, scores, 0.5)) > 8_000
    assert largest <= 512 * 8192 < 9_000**2 / 16
