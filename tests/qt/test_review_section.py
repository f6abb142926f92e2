"""Review: the plot follows the current object, the queue goes through doubtful frames, accepting locks."""

from __future__ import annotations

import numpy as np
import pytest
from qt_tools import add_disc, make_binding
from qtpy.QtCore import QPoint, Qt

from napari_sam2._qt.review_section import ReviewSection
from napari_sam2.session.results.review import timeline


@pytest.fixture
def section(qtbot, binding) -> ReviewSection:
    made = ReviewSection()
    qtbot.addWidget(made)
    made.resize(300, 260)
    made.show()
    made.set_binding(binding)
    return made


@pytest.fixture
def tracked(binding) -> int:
    """An object with masks on all six frames."""
    number = add_disc(binding)
    binding.session.propagate()
    binding.select(number)
    return number


def test_plot_shows_the_current_object_and_its_marks(section: ReviewSection, binding, tracked: int) -> None:
    binding.session.lock(tracked, [2, 3])
    section.refresh()
    (curve,) = section.plot.curves
    assert len(curve.y) == 6
    assert np.isfinite(curve.y[1:]).all()
    marks = {mark.kind: mark.x.tolist() for mark in section.plot.marks}
    assert marks["lock"] == [2, 3]
    assert marks["prompt"] == [0]
    section.curve.setCurrentIndex(section.curve.findData("area"))
    expected = [binding.session.store.masks[tracked, p].area for p in range(6)]
    assert section.plot.curves[0].y.tolist() == expected


def test_where_the_object_was_not_found_its_iou_is_a_gap(section, tracked: int, monkeypatch) -> None:
    def with_one_empty(*args):
        table = timeline(*args)
        table.loc[table["frame"] == 3, "area"] = 0
        return table

    monkeypatch.setattr("napari_sam2._qt.review_section.timeline", with_one_empty)
    section.refresh()
    assert np.flatnonzero(np.isnan(section.plot.curves[0].y[1:])).tolist() == [2]


def test_click_on_the_plot_goes_to_the_frame(section: ReviewSection, binding, tracked: int, qtbot) -> None:
    section.refresh()
    place = QPoint(round(section.plot.position_of(4)), section.plot.height() // 2)
    qtbot.mouseClick(section.plot, Qt.MouseButton.LeftButton, pos=place)
    assert binding.current_plane == 4
    assert section.plot.cursor_x == 4


def test_changes_are_drawn_together(section: ReviewSection, binding, tracked: int, qtbot) -> None:
    section.refresh()
    before = section.num_refreshes
    for name in "abcdefgh":
        binding.session.rename(tracked, name)
    assert section.num_refreshes == before
    qtbot.waitUntil(lambda: section.num_refreshes > before)
    assert section.num_refreshes == before + 1


def test_queue_goes_through_doubtful_frames_and_accepting_locks(section: ReviewSection, binding) -> None:
    number = add_disc(binding)
    _track_by_hand(binding, number, areas={1: 8, 2: 8, 3: 2, 4: 8, 5: 8})
    binding.select(number)
    section.refresh()
    binding.go_to(0)
    planes = [doubt.plane for doubt in section.doubts]
    assert planes
    assert "to check" in section.queue.text()
    assert section.next_button.isEnabled()
    section.next_doubtful()
    assert binding.current_plane == planes[0]
    section.previous_doubtful()
    assert binding.current_plane == planes[-1]
    for _ in range(len(planes)):
        here = binding.current_plane
        section.accept()
        assert here in binding.session.store.objects[number].locked
    assert section.doubts == []
    assert not section.next_button.isEnabled()
    assert section.queue.text() == "Nothing to check."


def test_what_the_queue_says_of_the_worst_frame_is_not_said_again(section: ReviewSection, binding) -> None:
    number = add_disc(binding)
    _track_by_hand(binding, number, areas={1: 8, 2: 8, 3: 2, 4: 8, 5: 8})
    binding.select(number)
    section.refresh()
    count = len(section.doubts)
    assert count > 1
    assert section.queue.text().startswith(f"{count} {binding.plane_word}s to check; worst: ")
    said = []
    binding.notice.connect(lambda text, _: said.append(text))
    for _ in range(count):
        section.next_doubtful()
    assert len(said) == count - 1


def _track_by_hand(binding, number: int, areas: dict[int, int]) -> None:
    from napari_sam2.session.state.history import Edit
    from napari_sam2.session.state.records import ObjectMask

    session = binding.session
    y, x = np.mgrid[: binding.geometry.hw[0], : binding.geometry.hw[1]]
    edits = [
        Edit("masks", (number, p), None, ObjectMask.pack((x - 20) ** 2 + (y - 20) ** 2 < r * r, "tracked", 0.9, 5.0))
        for p, r in areas.items()
    ]
    session.store.commit(edits)


def test_without_a_session_nothing_can_be_pressed_and_nothing_is_followed(section, binding, tracked, qtbot) -> None:
    section.set_binding(None)
    before = section.num_refreshes
    binding.session.rename(tracked, "other")
    qtbot.wait(250)
    assert section.num_refreshes == before
    assert section.plot.curves == ()
    assert not section.next_button.isEnabled()
    assert not section.accept_button.isEnabled()


def test_another_object_or_slice_takes_no_search_for_divisions(qtbot, monkeypatch) -> None:
    binding = make_binding(axis_labels=("t", "y", "x"))
    section = ReviewSection()
    qtbot.addWidget(section)
    searched = []
    monkeypatch.setattr(
        "napari_sam2._qt.review_section.divisions_beside", lambda session: searched.append(session) or []
    )
    add_disc(binding)
    section.set_binding(binding)
    assert len(searched) == 1
    binding.select(None)
    binding.go_to(2)
    section.refresh()
    assert len(searched) == 1
    add_disc(binding, frame=1)
    section.refresh()
    assert len(searched) == 2
    binding.close()
    binding.session.close()
