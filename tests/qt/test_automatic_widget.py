"""Everything without a click: on a frame, in a stack, from labels; thresholds choose again at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from napari.components import ViewerModel

from factories import make_model, make_movie
from napari_sam2 import DividingCells
from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._viewer.automatic_work import Searcher
from napari_sam2._viewer.image_source import placement_of
from napari_sam2.inference.stacks import dividing_cells
from napari_sam2.labels.tracks import tracks_of_labels
from napari_sam2.weights import loading as checkpoints


@pytest.fixture
def widget(qtbot, monkeypatch) -> AutomaticWidget:
    monkeypatch.setattr(checkpoints, "load_model", lambda *_, **__: make_model(1))
    viewer = ViewerModel()
    viewer.add_image(make_movie(3), name="cells", scale=(1, 0.5, 0.5), translate=(0, 3, 4), units=("um",) * 3)
    made = AutomaticWidget(viewer)
    qtbot.addWidget(made)
    viewer.dims.set_point(0, 1)
    # a network with random weights is sure of nothing
    made.min_iou.setValue(0)
    made.min_stability.setValue(0)
    return made


def _wait(widget: AutomaticWidget, qtbot) -> None:
    qtbot.waitUntil(lambda: not widget.is_running, timeout=60_000)


def test_whole_image_is_segmented_beside_a_shapes_layer_unless_it_is_the_region(widget, qtbot) -> None:
    corners = np.array([(4, 2), (4, 30), (26, 30), (26, 2)]) * 0.5 + widget.viewer.layers["cells"].translate[-2:]
    region = widget.viewer.add_shapes([corners], name="part", units=("um", "um"))
    for chosen in (None, region):
        widget.region.choose(chosen)
        widget.segment()
        _wait(widget, qtbot)
        assert "candidate" in widget.state.text()
    whole, part = (widget.viewer.layers[name].data[1] > 0 for name in ("cells everything", "cells everything [1]"))
    outside = np.ones((48, 64), bool)
    outside[3:28, 1:32] = False
    assert whole[outside].any()
    assert part.any()
    assert not part[outside].any()


def test_frame_shown_becomes_a_labels_layer_on_its_image_and_thresholds_choose_again(widget, qtbot) -> None:
    searches = []
    search = Searcher.search_plane
    widget._searcher.search_plane = lambda *args: searches.append(args) or search(widget._searcher, *args)
    widget.segment()
    assert not widget.start_button.isEnabled()
    _wait(widget, qtbot)
    image, layer = widget.viewer.layers["cells"], widget.viewer.layers["cells everything"]
    assert layer.data.shape == image.data.shape
    assert layer.data[1].any()
    assert not layer.data[[0, 2]].any()
    np.testing.assert_allclose(layer.data_to_world((1, 5, 5)), image.data_to_world((1, 5, 5)))
    assert layer.units == image.units
    num_before = widget.found.num_objects
    areas = sorted(np.bincount(layer.data[1].ravel())[1:] * 0.25)
    widget.min_area.setValue(areas[len(areas) // 2] + 0.01)
    _wait(widget, qtbot)
    assert widget.found.num_objects < num_before
    assert len(np.unique(layer.data[1])) - 1 == widget.found.num_objects
    assert len(searches) == 1
    assert widget.min_area.suffix() == " µm²"


def _add_on_image(widget, seeds):
    place = placement_of(widget.viewer.layers["cells"]).arguments()
    return widget.viewer.add_labels(seeds, name="mine", **place)


def test_labels_of_the_frame_shown_are_tracked_with_their_numbers(widget, qtbot) -> None:
    seeds = np.zeros((3, 48, 64), np.int32)
    seeds[1, 14:27, 10:24] = 7
    layer = _add_on_image(widget, seeds)
    assert widget.track_button.isEnabled()
    widget.seeds.choose(layer)
    widget.track_button.click()
    _wait(widget, qtbot)
    tracked = widget.viewer.layers["cells tracked"].data
    assert np.array_equal(tracked[1], seeds[1])
    assert set(np.unique(tracked)) <= {0, 7}
    assert "1 object" in widget.state.text()


def test_whole_stack_is_segmented_and_can_be_stopped(widget, qtbot) -> None:
    widget.scope.setCurrentIndex(1)
    widget.every.setValue(3)
    widget.segment()
    widget.cancel()
    _wait(widget, qtbot)
    assert widget.state.text() == "stopped before any object was found"
    assert len(widget.viewer.layers) == 1
    widget.segment()
    assert widget.state.text() == "searching..."
    _wait(widget, qtbot)
    assert "stopped" not in widget.state.text()
    assert widget.viewer.layers["cells everything"].data[1].any()
    assert len(widget.viewer.layers) == 2


@pytest.mark.parametrize(
    ("label", "choice", "expected"),
    [("z", 0, None), ("time", 0, False), ("T", 0, False), ("time", 1, True), ("z", 2, False)],
)
def test_objects_stacked_in_z_are_split_as_chosen_and_automatically_not_in_time(
    widget, qtbot, monkeypatch, label, choice, expected
) -> None:
    asked = []
    monkeypatch.setattr(
        "napari_sam2.inference.stacks.key_frame_search.contrasts_for_splitting", lambda *given: asked.append(given[3])
    )
    widget.viewer.layers["cells"].axis_labels = (label, "y", "x")
    assert not widget.form.is_shown("split_stacked")
    widget.scope.setCurrentIndex(1)
    assert widget.form.is_shown("split_stacked")
    widget.split_stacked.setCurrentIndex(choice)
    widget.every.setValue(3)
    widget.segment()
    _wait(widget, qtbot)
    assert asked == [expected]


def test_labels_on_several_frames_are_seeds_if_wanted(widget, qtbot) -> None:
    seeds = np.zeros((3, 48, 64), np.int32)
    seeds[0, 14:27, 10:24] = 7
    seeds[1, 15:28, 10:24] = 7
    seeds[2, 30:40, 30:44] = 9
    widget.seeds.choose(_add_on_image(widget, seeds))
    widget.all_frames.setChecked(True)
    widget.track_button.click()
    _wait(widget, qtbot)
    tracked = widget.viewer.layers["cells tracked"].data
    assert np.array_equal(tracked[1] == 7, seeds[1] == 7)
    assert np.array_equal(tracked[2] == 9, seeds[2] == 9)


def test_volumes_over_time_become_one_layer_of_linked_labels(widget, qtbot) -> None:
    volumes = np.stack([make_movie(3), make_movie(3)])
    layer = widget.viewer.add_image(volumes, name="volumes")
    assert not widget.scope.model().item(2).isEnabled()
    widget.image.choose(layer)
    assert widget.scope.model().item(2).isEnabled()
    widget.scope.setCurrentIndex(2)
    widget.every.setValue(3)
    widget.segment()
    _wait(widget, qtbot)
    labels = widget.viewer.layers["volumes everything"].data
    assert labels.shape == volumes.shape
    # the same volume twice: whatever is found is found again, under the same number
    assert labels.any()
    assert np.array_equal(labels[0], labels[1])


def test_a_large_picture_is_searched_in_tiles_and_filtered_as_a_whole(widget, qtbot, monkeypatch) -> None:
    monkeypatch.setattr("napari_sam2._viewer.automatic_work._TILED_ABOVE", 40)
    widget.exclude_border.setChecked(True)
    widget.segment()
    _wait(widget, qtbot)
    assert not widget.found.can_filter
    labels = widget.found.labels
    assert not labels[[0, -1]].any()
    assert not labels[:, [0, -1]].any()


def test_problems_are_told_before_anything_is_computed(widget, qtbot) -> None:
    layer = widget.viewer.add_labels(np.zeros((3, 48, 64), np.int32), name="empty")
    widget.seeds.choose(layer)
    widget.track()
    assert "no label on the slice shown" in widget.state.text()
    widget.viewer.layers.clear()
    assert not widget.start_button.isEnabled()
    widget.segment()
    assert "open one first" in widget.state.text()
    assert not widget.is_running


def test_closing_ends_the_search_and_follows_the_viewer_no_more(widget, qtbot) -> None:
    widget.segment()
    widget.close()
    qtbot.waitUntil(lambda: not any(t.name == "napari-sam2 everything" for t in threading.enumerate()), timeout=30_000)
    widget.viewer.add_image(np.zeros((4, 4)))
    assert widget.image.count() == 1
    assert "cells everything" not in widget.viewer.layers


def test_first_step_from_automatic_is_to_the_middle(widget) -> None:
    for spin in (widget.min_iou, widget.min_stability):
        spin.setValue(spin.minimum())
        assert spin.text() == "auto"
        spin.stepUp()
        assert spin.value() == pytest.approx(0.5)
        spin.stepUp()
        assert spin.value() == pytest.approx(0.51)


def test_of_a_single_image_nothing_is_asked_about_slices(widget, qtbot) -> None:
    widget.show()
    assert widget.form.is_shown("scope")
    assert not widget.tracking.isHidden()
    widget.image.choose(widget.viewer.add_image(make_movie(1)[0], name="flat"))
    for name in ("scope", "every", "split_stacked"):
        assert not widget.form.is_shown(name)
    assert widget.tracking.isHidden()


def test_cells_that_divide_are_shown_with_their_lineage(widget, qtbot, monkeypatch) -> None:
    labels = np.zeros((3, 48, 64), np.int32)
    labels[0, 10:20, 10:30] = 1
    labels[1:, 10:20, 10:18], labels[1:, 10:20, 22:30] = 2, 3
    tracks = tracks_of_labels(labels, {2: 1, 3: 1})
    asked = []

    def search(frames, **options):
        asked.append(len(frames))
        options["on_progress"]("movie: detecting objects", 1, 3)
        return DividingCells(labels, tracks, is_complete=not options["should_stop"]())

    monkeypatch.setattr(dividing_cells, "segment_dividing_cells", search)
    found = []
    widget.lineage_found.connect(lambda layer, lineage: found.append((layer, lineage.parents)))
    widget.viewer.layers["cells"].axis_labels = ("z", "y", "x")
    widget._show_state()
    place = widget.scope.findData("divisions")
    assert not widget.scope.model().item(place).isEnabled()
    widget.viewer.layers["cells"].axis_labels = ("t", "y", "x")
    widget._show_state()
    widget.scope.setCurrentIndex(place)
    assert not widget.form.is_shown("every")
    widget.segment()
    _wait(widget, qtbot)
    assert asked == [3]
    assert widget.state.text() == "3 tracks, 1 division"
    assert found == [(widget.viewer.layers["cells everything"], {2: 1, 3: 1})]
    assert widget.viewer.layers["cells lineage"].graph == {2: [1], 3: [1]}
