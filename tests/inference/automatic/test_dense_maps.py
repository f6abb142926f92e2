"""Facts about maps that are put together from tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_sam2.inference.automatic.dense_maps import MapCanvas, tile_views
from napari_sam2.network.dense_head import DENSE_CHANNELS


class Ramp:
    """Gives maps that say where in the image each cell lies, so that any shift shows."""

    def __init__(self, size: int) -> None:
        self.cells = size // 4
        self.num_views = 0

    def dense_maps(self, views):
        self.num_views += len(views)
        out = np.zeros((len(views), DENSE_CHANNELS, self.cells, self.cells), np.float32)
        for row, view in enumerate(views):
            cell = view.width / self.cells
            x = view.x + (np.arange(self.cells) + 0.5) * cell
            y = view.y + (np.arange(self.cells) + 0.5) * cell
            out[row, 0] = x / 1000
            out[row, 1] = y[:, None] / 1000
        return out


@pytest.mark.parametrize(
    ("hw", "side", "overlap", "cell"),
    [
        pytest.param((300, 500), 64, 16, 4, id="many-tiles"),
        pytest.param((64, 64), 64, 16, 4, id="one-tile"),
        pytest.param((30, 301), 64, 16, 4, id="narrower-than-a-tile"),
        pytest.param((129, 131), 32, 8, 2, id="odd-sides"),
        pytest.param((1, 1), 64, 16, 8, id="one-pixel"),
    ],
)
def test_tiles_cover_the_image_and_overlap(hw, side, overlap, cell):
    views = tile_views(hw, side, overlap, cell)
    seen = np.zeros(hw, int)
    for view in views:
        assert view.x % cell == 0
        assert view.y % cell == 0
        assert view.x + side < max(hw[1], side) + cell
        seen[view.y : view.y + side, view.x : view.x + side] += 1
    assert seen.min() == 1
    for starts in ({v.x for v in views}, {v.y for v in views}):
        ordered = sorted(starts)
        assert all(b - a <= side - overlap + cell for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_blended_maps_keep_every_cell_in_its_place(zoom):
    hw = (150, 230)
    predictor = Ramp(64)
    canvas = MapCanvas(predictor, hw, zoom=zoom, size=64, overlap=16)
    canvas.add(canvas.tiles)
    found = canvas.maps()
    h, w = found.maps.shape[1:]
    assert (h, w) == (-(-hw[0] // found.cell), -(-hw[1] // found.cell))
    x = (np.arange(w) + 0.5) * found.cell / 1000
    y = (np.arange(h) + 0.5) * found.cell / 1000
    np.testing.assert_allclose(found.maps[0], np.broadcast_to(x, (h, w)), atol=1e-5)
    np.testing.assert_allclose(found.maps[1], np.broadcast_to(y[:, None], (h, w)), atol=1e-5)
    assert predictor.num_views == len(canvas.tiles) == len(found.views)


def test_maps_are_zero_where_no_tile_was_described():
    canvas = MapCanvas(Ramp(64), (64, 400), zoom=1.0, size=64, overlap=16)
    canvas.add(canvas.tiles[:1])
    found = canvas.maps()
    assert found.maps[0, :, :16].min() > 0
    assert not found.maps[0, :, 16:].any()
    assert found.views == canvas.tiles[:1]


def test_objects_are_seen_in_a_view_that_does_not_cut_them_off():
    canvas = MapCanvas(Ramp(64), (64, 160), zoom=1.0, size=64, overlap=16)
    canvas.add(canvas.tiles)
    assert [view.x for view in canvas.tiles] == [0, 48, 96]
    columns = [(0, 10), (70, 90), (150, 160), (40, 64), (44, 60), (20, 100)]
    views = canvas.maps().views_around(np.array([[10, x0, 30, x1] for x0, x1 in columns]), margin=0.15)
    assert [view.x for view in views] == [0, 48, 96, 20, 0, 28]
    assert {(view.y, view.width, view.height) for view in views} == {(0, 64, 64)}
    assert canvas.maps().views_around(np.zeros((0, 4), int), margin=0.15) == []
