"""Lineage in the dock: divisions by key, proposals in the review, a tree whose clicks go to an object and a frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from qt_tools import make_binding
from qtpy.QtCore import QPoint, Qt

from factories import make_model
from napari_sam2._qt.lineage_view import LineageTree, LineageView, TreeTrack, place_tracks
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.save_section import SaveSection
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2.labels.tracks import tracks_of_labels
from napari_sam2.session.results.review import DoubtfulFrame


@pytest.fixture
def movie(qtbot):
    """An object that is one disc on frames 0 to 2, and two discs on 3 to 5."""
    binding = make_binding(6, axis_labels=("t", "y", "x"))
    y, x = np.mgrid[:48, :64]
    whole = (y - 20) ** 2 + (x - 20) ** 2 < 64
    parted = ((y - 12) ** 2 + (x - 20) ** 2 < 25) | ((y - 28) ** 2 + (x - 20) ** 2 < 25)
    binding.session.new_object("cell")
    for frame in range(6):
        binding.session.add_mask(whole if frame < 3 else parted, frame=frame, object_id=1)
    binding.select(1)
    yield binding
    binding.close()
    binding.session.close()


def _section(qtbot, kind, binding):
    made = kind(lambda: "sam2_micro") if kind is ObjectsSection else kind()
    qtbot.addWidget(made)
    made.set_binding(binding)
    return made


def test_a_mother_is_between_her_daughters_and_families_come_first():
    tracks = [
        TreeTrack(1, 0, 9),
        TreeTrack(2, 0, 3),
        TreeTrack(3, 4, 9, 2),
        TreeTrack(4, 4, 6, 2),
        TreeTrack(5, 7, 9, 4),
    ]
    assert place_tracks(tracks) == {3: 0.0, 5: 1.0, 4: 1.0, 2: 0.5, 1: 2.0}


def test_divided_here_makes_two_daughters_and_undo_takes_it_back(movie, qtbot):
    section = _section(qtbot, ObjectsSection, movie)
    movie.go_to(3)
    section.divide_here()
    assert movie.session.daughters(1) == [2, 3]
    assert movie.current in (2, 3)
    assert (movie.session.labels[3] == 1).sum() == 0
    assert {2, 3} <= set(np.unique(movie.session.labels[3]))
    movie.session.undo()
    assert movie.session.daughters(1) == []


def test_a_division_that_is_not_possible_is_reported(movie, qtbot):
    section = _section(qtbot, ObjectsSection, movie)
    movie.go_to(0)
    with qtbot.waitSignal(section.notice) as told:
        section.divide_here()
    assert "has no mask before frame 0" in told.args[0]


def test_cut_here_and_menus_with_another_object(movie, qtbot):
    section = _section(qtbot, ObjectsSection, movie)
    movie.go_to(4)
    section.cut_here()
    assert movie.current == 2
    assert (movie.session.labels[4] == 2).any()
    movie.select(1)
    section._fill_other_menus()
    menu = section.other_menus["Continues as"]
    assert [action.text() for action in menu.actions()] == ["2  object 2"]
    menu.actions()[0].trigger()
    assert [each.object_id for each in movie.session.objects] == [1]
    assert (movie.session.labels[4] == 1).any()


def test_review_proposes_the_division_and_shift_d_accepts_it(movie, qtbot):
    review, objects = _section(qtbot, ReviewSection, movie), _section(qtbot, ObjectsSection, movie)
    found = [doubt for doubt in review.doubts if doubt.reason == "may have divided"]
    assert [(each.object_id, each.plane) for each in found] == [(1, 3)]
    movie.go_to(3)
    objects.divide_here()
    review.refresh()
    assert "may have divided" not in {doubt.reason for doubt in review.doubts}


def test_frames_that_are_doubtful_because_of_a_division_are_one_frame_to_check(movie, qtbot):
    review = _section(qtbot, ReviewSection, movie)
    doubts = ((2, "several pieces"), (3, "hardly visible"), (4, "several pieces"), (5, "low IoU"))
    queue = [DoubtfulFrame(1, plane, reason, 3.0) for plane, reason in doubts]
    review._queue = SimpleNamespace(update=lambda _seconds: True, frames=queue)
    review.refresh()
    found = [(each.plane, each.reason) for each in review.doubts]
    assert found == [(2, "several pieces"), (3, "may have divided"), (5, "low IoU")]
    assert "3 frames to check; worst: cell, frame 3, may have divided (Shift-D)" in review.queue.text()
    told: list[str] = []
    movie.notice.connect(lambda text, _: told.append(text))
    movie.go_to(2)
    review.next_doubtful()
    assert told == ["cell, frame 3: may have divided; Shift-D divides it, Q keeps it as one"]


def test_review_proposes_a_division_whose_second_daughter_was_lost(qtbot):
    """The image shows two discs where one was; the mask goes on as the upper one."""
    y, x = np.mgrid[:48, :64]
    upper, lower = ((y - at) ** 2 + (x - 20) ** 2 < 36 for at in (12, 28))
    whole = (y - 20) ** 2 + (x - 20) ** 2 < 64
    movie = np.random.default_rng(0).normal(30, 3, (6, 48, 64))
    movie[:3, whole] += 100
    movie[3:, upper | lower] += 100
    viewer = ViewerModel()
    image = viewer.add_image(movie.astype(np.uint8), name="cells", axis_labels=("t", "y", "x"))
    binding = ViewerBinding(viewer, [image], model=make_model())
    binding.session.new_object("cell")
    for frame in range(6):
        binding.session.add_mask(whole if frame < 3 else upper, frame=frame, object_id=1)
    binding.select(1)
    review, objects = _section(qtbot, ReviewSection, binding), _section(qtbot, ObjectsSection, binding)
    found = [doubt for doubt in review.doubts if doubt.reason == "may have divided"]
    assert [(each.object_id, each.plane) for each in found] == [(1, 3)]
    binding.go_to(3)
    told: list[str] = []
    binding.notice.connect(lambda text, _: told.append(text))
    objects.divide_here()
    assert "click on object 3" in told[0]
    assert binding.current == 3
    binding.close()
    binding.session.close()


def test_a_stack_in_z_has_no_divisions(qtbot, movie):
    movie.labels.axis_labels = ("z", "y", "x")
    review = _section(qtbot, ReviewSection, movie)
    assert "may have divided" not in {doubt.reason for doubt in review.doubts}


def test_a_click_on_the_tree_goes_to_the_object_and_frame(movie, qtbot):
    movie.session.divide(1, 3)
    view = _section(qtbot, LineageView, movie)
    view.resize(400, 150)
    view.show()
    assert {track.object_id: track.parent for track in view.tree.tracks} == {1: None, 2: 1, 3: 1}
    assert "1 division." in view.message.text()
    x, y = view.tree.position_of(3, 4)
    qtbot.mouseClick(view.tree, Qt.MouseButton.LeftButton, pos=QPoint(round(x), round(y)))
    assert movie.current == 3
    assert movie.geometry.frame(movie.current_plane) == 4 or movie.session.store.masks.keys().isdisjoint({(3, 4)})
    before = movie.current
    qtbot.mouseClick(view.tree, Qt.MouseButton.LeftButton, pos=QPoint(2, view.tree.height() - 1))
    assert movie.current == before


@pytest.mark.parametrize("points", [9, 16])
def test_names_in_the_tree_are_whole_and_rows_apart(qtbot, points):
    """All objects from 10 on were called "object..."."""
    tree = LineageTree()
    qtbot.addWidget(tree)
    font = tree.font()
    font.setPointSize(points)
    tree.setFont(font)
    tree.resize(700, 200)
    tree.show_tracks([TreeTrack(number, 0, 23, name=f"object {number}") for number in (40, 41)], 24)
    (end, one), (_, other) = (tree.position_of(number, 23) for number in (40, 41))
    assert end + 6 + tree.fontMetrics().horizontalAdvance("object 40") <= 700
    assert other - one >= tree.fontMetrics().height()


def test_tracks_layer_has_the_lineage_as_its_graph(movie, qtbot):
    movie.session.divide(1, 3)
    section = _section(qtbot, SaveSection, movie)
    section.add_tracks()
    assert movie.viewer.layers[-1].graph == {2: [1], 3: [1]}


def test_the_lineage_of_a_layer_is_shown_until_that_of_a_session_is_asked_for(qtbot, movie):
    labels = np.zeros((6, 48, 64), np.int32)
    labels[:3, 10:20, 10:30] = 1
    labels[3:, 10:20, 10:18], labels[3:, 10:20, 22:30] = 2, 3
    viewer = movie.viewer
    layer = viewer.add_labels(labels, name="found", scale=movie.images[0].scale)
    view = LineageView()
    qtbot.addWidget(view)
    view.resize(500, 200)
    view.show_layer(viewer, layer, tracks_of_labels(labels, {2: 1, 3: 1}), 6)
    view.show()
    assert [track.parent for track in view.tree.tracks] == [None, 1, 1]
    assert "found: 1 division" in view.message.text()
    x, y = view.tree.position_of(3, 4)
    qtbot.mouseClick(view.tree, Qt.MouseButton.LeftButton, pos=QPoint(round(x), round(y)))
    assert layer.selected_label == 3
    assert viewer.dims.current_step[0] == 4
    view.set_binding(movie)
    assert [track.object_id for track in view.tree.tracks] == [1]
