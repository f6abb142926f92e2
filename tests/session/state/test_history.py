"""Undo, redo, replay and files are exact after any calls."""

from __future__ import annotations

import random

import numpy as np
import pytest
from session_tools import random_call, square, state

from factories import make_movie
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session


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
