"""Painting by hand."""

from __future__ import annotations

import numpy as np
from session_tools import square, state


# ---------------------------------------------------------------------- painting
def test_painting_is_a_correction_and_can_be_undone(session):
    session.add_points([[0, 20, 15]])
    session.propagate()
    before = state(session)
    session.labels[3, 40:45, 50:60] = 1
    session.labels[3, :5, :5] = 4
    assert session.adopt_painting([3]) == [1, 4]
    assert session.store.masks[1, 3].kind == "painted"
    assert session.store.masks[1, 2].is_stale
    session.undo()
    assert state(session) == before


def test_painting_over_a_locked_object_is_taken_back(session):
    errors: list[Exception] = []
    session.failed.connect(errors.append)
    session.add_mask(square(10, 10), frame=0)
    session.lock(1, 0)
    session.labels[0, 12:40, 12:40] = 2
    assert session.adopt_painting([0]) == [2]
    assert np.array_equal(session.labels[0] == 1, square(10, 10))
    assert "is locked on frame 0" in str(errors[0])
