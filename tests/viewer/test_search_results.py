"""A search of everything replaces its own result of before, and nothing that the user has worked on."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam2._viewer.automatic_work import Tracked
from napari_sam2._viewer.labels_layer import mark_as_used
from napari_sam2._viewer.layer_frames import open_image
from napari_sam2._viewer.region import region_of
from napari_sam2._viewer.search_results import SearchResults
from napari_sam2._viewer.tasks import run_segmentation
from napari_sam2.labels.tracks import tracks_of_labels

SHAPE = (2, 3, 20, 24)


class Window:
    """Two z-stacks of an image, and searches whose results are one number on all pixels."""

    def __init__(self) -> None:
        self.viewer = ViewerModel()
        self.image = self.viewer.add_image(np.zeros(SHAPE, np.uint8), name="cells")
        self.shown = open_image(self.image)
        self.results = SearchResults(self.viewer)

    def plane(self, plane: int, value: int):
        labels = np.full(SHAPE[2:], value, np.int32)
        return self.results.show_plane(self.image, self.shown, plane, labels, None)

    def stack(self, time: int, value: int, *, is_complete: bool = True, limits=None):
        region = None if limits is None else region_of(limits, self.shown)
        size = SHAPE[2:] if region is None else region.mask.shape
        clip = self.shown.geometry.clip_range(3 * time)
        found = Tracked(clip, np.full((3, *size), value, np.int32), "", is_search=True, is_complete=is_complete)
        return self.results.show_stack(self.image, self.shown, found, region)


@pytest.fixture
def window() -> Window:
    return Window()


def test_a_stack_searched_again_is_shown_in_the_same_layer_as_the_user_displays_it(window):
    layer = window.plane(0, 1)
    assert window.plane(1, 2) is layer
    assert [layer.data[0, z].max() for z in range(3)] == [1, 2, 0]
    layer.opacity = 0.4
    assert window.stack(0, 5) is layer
    assert window.stack(0, 6) is layer
    assert (layer.name, layer.opacity) == ("cells everything", 0.4)
    assert (layer.data[0] == 6).all()
    assert not layer.data[1].any()


def test_the_labels_of_a_result_that_is_removed_are_freed(window):
    gone = weakref.ref(window.stack(0, 5))
    window.viewer.layers.selection.active = window.image  # napari keeps the active layer
    window.viewer.layers.remove("cells everything")
    gc.collect()
    assert gone() is None


def paint(layer) -> None:
    layer.paint((0, 0, 5, 5), 7)


def rename(layer) -> None:
    layer.name = "kept"


def give_other_data(layer) -> None:
    layer.data = layer.data + 1


@pytest.mark.parametrize("work", [paint, rename, give_other_data, mark_as_used])
def test_a_layer_that_the_user_worked_on_stays(window, work):
    layer = window.stack(0, 5)
    work(layer)
    before = layer.data.copy()
    other = window.stack(0, 6)
    assert other is not layer
    np.testing.assert_array_equal(layer.data, before)
    assert window.stack(0, 7) is other


def test_results_of_other_parts_stay(window):
    first = window.stack(0, 5)
    second = window.stack(1, 6)
    shapes = window.viewer.add_shapes([[(4, 4), (4, 12), (12, 12), (12, 4)]], shape_type="polygon")
    of_region = window.stack(0, 7, limits=shapes)
    assert len({first, second, of_region}) == 3
    assert window.stack(0, 8, limits=shapes) is of_region
    assert set(np.unique(of_region.data)) == {0, 8}
    shapes.data = [np.array([(10, 10), (10, 18), (18, 18), (18, 10)])]
    assert window.stack(0, 4, limits=shapes) is not of_region
    assert set(np.unique(of_region.data)) == {0, 8}
    assert window.stack(0, 9) is first
    assert (second.data[1] == 6).all()
    # a single plane has numbers of its own, and a removed layer does not come back
    assert window.plane(0, 3) not in (first, second, of_region)
    window.viewer.layers.remove(first)
    assert window.stack(0, 9) is not first


def test_a_stopped_search_replaces_no_complete_one(window):
    complete = window.stack(0, 5)
    stopped = window.stack(0, 6, is_complete=False)
    assert stopped is not complete
    assert window.stack(0, 7, is_complete=False) is stopped
    assert (complete.data[0] == 5).all()
    assert window.stack(0, 8) is stopped


def test_a_stopped_search_of_a_stack_leaves_the_result_of_a_plane(window):
    plane = window.plane(0, 5)
    before = plane.data.copy()
    assert window.stack(0, 6, is_complete=False) is not plane
    np.testing.assert_array_equal(plane.data, before)


def test_a_lineage_is_shown_beside_its_labels_and_goes_with_them():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 20, 24), np.uint8), name="cells", scale=(5, 0.5, 0.5))
    shown, results = open_image(image), SearchResults(viewer)
    region = region_of(viewer.add_shapes([[(0, 1.0), (0, 12), (10, 12), (10, 1.0)]], name="part"), shown)
    labels = np.zeros((3, *region.mask.shape), np.int32)
    labels[0, 4:9, 4:12] = 1
    labels[1:, 4:9, 4:7], labels[1:, 4:9, 9:12] = 2, 3
    tracks = tracks_of_labels(labels, {2: 1, 3: 1})
    searcher = SimpleNamespace(search_divisions=lambda *_: Tracked(range(3), labels, "", is_search=True, tracks=tracks))
    options = dict.fromkeys(("every", "min_iou", "min_stability", "max_area"))
    found = run_segmentation(
        searcher, open_image(region.crop(image)), None, model="", scope="divisions", plane=0, split_stacked="automatic",
        min_area=0.0, exclude_border=False, region=region, **options,
    )  # fmt: skip
    for _ in range(2):  # searched again, nothing is left over
        layer = results.show_stack(image, shown, found, region)
        results.show_lineage(image, shown, found, found.tracks, layer)
    assert [each.name for each in viewer.layers if type(each).__name__ == "Tracks"] == ["cells lineage"]
    drawn = viewer.layers["cells lineage"]
    assert drawn.graph == {2: [1], 3: [1]}
    np.testing.assert_allclose(drawn.scale, image.scale)
    assert found.tracks.parents == {2: 1, 3: 1}
    rows = drawn.data[drawn.data[:, 0] == 2]
    place = np.round(rows[0, 2:]).astype(int)
    assert layer.data[1, place[0], place[1]] == 2  # in pixels of the image, not of the region
    assert layer.features["parent"].tolist() == [0, 1, 1]
    plain = Tracked(range(3), labels, "", is_search=True)
    assert results.show_stack(image, shown, plain, region) is layer
    assert drawn not in viewer.layers
    assert (np.asarray(layer.colormap.map(5))[3]) > 0
