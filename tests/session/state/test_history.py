"""Undo, redo, replay and files are exact after any calls."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
from session_tools import square, state

from factories import make_movie
from napari_sam2 import PromptError
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session


def _random_call(session: Session, rng: random.Random) -> None:
    objects = [o.object_id for o in session.objects]
    frame = rng.randrange(5)
    chosen = rng.choice(objects) if objects and rng.random() < 0.7 else None
    calls = [
        lambda: session.add_points(
            [[frame, rng.randrange(48), rng.randrange(64)]], [rng.randrange(2)], object_id=chosen
        ),
        lambda: session.add_mask(square(rng.randrange(30), rng.randrange(40)), frame=frame, object_id=chosen),
        lambda: session.paint(frame, {chosen or 9: square(rng.randrange(30), rng.randrange(40), rng.randrange(9))}),
        lambda: session.set_overlap(rng.choice(["keep", "overwrite", "highest score"])),
        lambda: session.propagate(max_frames=3) if session.store.prompts else None,
        lambda: session.lock(chosen, frame) if chosen else None,
        lambda: session.unlock(chosen) if chosen else None,
        lambda: session.remove_object(chosen) if chosen and rng.random() < 0.3 else None,
        lambda: session.rename(chosen, str(rng.random())) if chosen else None,
    ]
    call = rng.choice(calls)
    if chosen is not None and frame in session.store.objects[chosen].locked:
        with suppress(PromptError):  # what is locked refuses prompts
            call()
    else:
        call()


@pytest.mark.parametrize("seed", range(4))
def test_undo_and_redo_are_exact_after_any_calls(model, seed):
    rng = random.Random(seed)
    with Session(make_movie(5), model=model) as session:
        states = [state(session)]
        while len(states) < 12:
            _random_call(session, rng)
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
            _random_call(session, rng)
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
