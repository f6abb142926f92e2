"""Objects are split along lines and classified; each is one step of undo, saved, and replayed."""

from __future__ import annotations

import numpy as np
import pytest
from session_tools import square, state

from factories import make_movie
from napari_sam2 import PromptError
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.split_along(1, [[0, 2, 2], [0, 4, 4]]), "does not cut"),
        (lambda s: s.split_along(1, [[0, 12, 0], [0, 12, 14]]), "does not cut"),  # ends within
        (lambda s: s.split_along(1, [[2, 0, 14], [2, 40, 14]]), "does not cut"),
        (lambda s: s.split_along(1, [[0, 0, 14]]), "at least two points"),
        (lambda s: (s.lock(1, 0), s.split_along(1, [[0, 0, 14], [0, 40, 14]])), "is locked on frame 0"),
    ],
)
def test_what_cannot_be_split_is_refused_and_changes_nothing(session, call, words):
    session.add_mask(square(10, 10), frame=0)
    session.add_mask(square(30, 40), frame=0, object_id=2)
    labels = np.array(session.labels)
    with pytest.raises(PromptError, match=words):
        call(session)
    np.testing.assert_array_equal(session.labels, labels)
    assert len(session.objects) == 2


@pytest.mark.parametrize(
    "line", [[[1, 4, 13], [1, 40, 13]], [[1, 6, 4], [1, 30, 28]], [[1, 8, 16], [1, 14, 9], [1, 40, 9]]]
)
def test_a_line_cuts_an_object_into_two_that_hold_all_its_pixels(session, line):
    mask = square(10, 10, 12)
    session.add_mask(mask, frame=1)
    before = state(session)
    assert session.split_along(1, line) == 2
    first, second = (np.asarray(session.labels[1]) == i for i in (1, 2))
    np.testing.assert_array_equal(first | second, mask)
    assert first.sum() >= second.sum() > 0
    session.undo()
    assert state(session) == before


def test_pieces_apart_stay_with_the_object_that_is_split(session):
    session.add_mask(square(10, 10, 12) | square(40, 50, 4), frame=1)
    session.split_along(1, [[1, 0, 14], [1, 47, 14]])
    assert (np.asarray(session.labels[1, 40:44, 50:54]) == 1).all()


def test_classes_are_undone_saved_and_exported(session, model, tmp_path):
    session.add_mask(square(10, 10), frame=0)
    session.set_class(1, " cell ")
    assert session.objects[0].class_name == "cell"
    assert session.measurements()["class"].tolist() == ["cell"]
    session.save(tmp_path / "a.sam2")
    with Session.load(tmp_path / "a.sam2", make_movie(5)) as again:
        assert again.objects == session.objects
    session.undo()
    assert session.objects[0].class_name == ""


def test_splits_and_classes_are_replayed(session, model):
    session.add_mask(square(30, 30, 12), frame=2, object_id=5)
    session.split_along(5, [[2, 28, 36], [2, 46, 36]])
    session.set_class(5, "cell")
    assert "session.set_class(" in session.to_python()
    with Session(make_movie(5), model=model) as again:
        replay(session.operations, again)
        np.testing.assert_array_equal(again.labels, session.labels)
        assert again.objects == session.objects
