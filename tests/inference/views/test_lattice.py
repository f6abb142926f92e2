"""Windows that cover an image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.inference.views.lattice import WindowLattice, window_sides


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
