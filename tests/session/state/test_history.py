"""Undo, redo, replay and files are exact after any calls."""

from __future__ import annotations

import random

import numpy as np
import pytest
from session_tools import random_call, square, state

from factories import make_movie
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session
from napari_sam2.session.state.history import Edit, Tables


@pytest.mark.parametrize("seed", range(4))
def test_undo_and_redo_are_exact_after_any_calls(model, seed):
    rng = random.Random(seed)
    with Session(make_movie(5), model=model) as session:
        states = [state(session)]
        while len(states) < 12:
            random_call(session, rng)
            now = state(session)
            if len(session.history.done) == len(states):
                states.append(now)
            assert all(np.array_equal(session.store.composed(p), session.labels[p]) for p in range(5))
        for expected in reversed(states[:-1]):
            assert session.undo()
            assert state(session) == expected
        assert not session.undo()
        for expected in states[1:]:
            assert session.redo()
            assert state(session) == expected


@pytest.mark.parametrize("seed", range(4, 8))
def test_replay_and_file_are_exact_after_any_calls(model, seed, tmp_path):
    rng = random.Random(seed)
    with Session(make_movie(5), model=model) as session:
        for _ in range(14):
            random_call(session, rng)
            if rng.random() < 0.15:
                session.undo()
        with Session(make_movie(5), model=model) as again:
            replay(session.operations, again)
            assert np.array_equal(again.labels, session.labels)
        path = session.save(tmp_path / "a.sam2")
        with Session.load(path, make_movie(5), model=model) as loaded:
            assert loaded.to_python() == session.to_python()
            for one in (session, loaded):
                one.add_points([[1, 20, 17]], object_id=99)
                one.propagate()
            assert np.array_equal(loaded.labels, session.labels)


def test_undo_of_an_unanswered_click_is_exact(session):
    session.add_mask(square(5, 5), frame=0)
    before = state(session)
    session.add_points([[1, 20, 17]], block=False)
    session.rename(1, "first")
    session.wait_for_answers()
    session.undo()
    session.undo()
    assert state(session) == before


class _Key:
    """A key that counts how often it is put into a table or looked up."""

    num_hashes = 0

    def __hash__(self) -> int:
        type(self).num_hashes += 1
        return id(self)


def _restore_all(count: int) -> int:
    """Restore many entries to their places, as undo does; how often their keys were used."""
    tables, keys = Tables(), [_Key() for _ in range(count)]
    for key in reversed(keys):  # each was the first when it was removed
        tables.apply(Edit("objects", key, None, "object", position=0))
    tables.settle()
    assert list(tables["objects"]) == keys
    _Key.num_hashes = 0
    for position, key in reversed(list(enumerate(keys))):
        tables.apply(Edit("objects", key, "object", None, position))
    for position, key in enumerate(keys):
        tables.apply(Edit("objects", key, None, "object", position))
    tables.settle()
    assert list(tables["objects"]) == keys
    return _Key.num_hashes


def test_restoring_entries_to_their_places_takes_time_in_proportion_to_their_number():
    assert _restore_all(400) < 6 * _restore_all(100)


def test_entries_that_come_and_go_beside_restored_ones_keep_their_order():
    tables = Tables()
    for key in "abd":
        tables.apply(Edit("objects", key, None, key))
    tables.apply(Edit("objects", "c", None, "c", position=2))
    tables.apply(Edit("objects", "e", None, "e"))
    tables.apply(Edit("objects", "a", "a", None, position=0))
    tables.apply(Edit("objects", "b", "b", "B"))
    tables.settle()
    assert tables["objects"] == {"b": "B", "c": "c", "d": "d", "e": "e"}
    assert list(tables["objects"]) == ["b", "c", "d", "e"]


def test_objects_removed_in_one_step_come_back_in_their_order(session):
    for at in range(5):
        session.add_mask(square(5 + 3 * at, 5), frame=0)
    before = state(session)
    with session.as_one_step():
        for object_id in (3, 1, 5, 2):
            session.remove_object(object_id)
    assert [each.object_id for each in session.objects] == [4]
    session.undo()
    assert state(session) == before
    assert [each.object_id for each in session.objects] == [1, 2, 3, 4, 5]
