"""Facts about grids, crops and non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.inference.automatic.point_grids import (
    Crop,
    crop_boxes,
    near_crop_edge,
    point_grid,
    point_grids_of_layers,
    points_by_spacing,
)


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
