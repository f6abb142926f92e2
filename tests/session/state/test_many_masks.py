"""Hundreds of masks of a plane in one change: written and taken back exactly, in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2 import Session
from napari_sam2.session.state import store
from napari_sam2.session.state.box_index import BoxIndex


def labels_of(numbers: list[int]) -> np.ndarray:
    drawn = np.zeros((48, 64), np.int32)
    for at, number in enumerate(numbers):
        row, column = divmod(at, 16)
        drawn[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = number
    return drawn


@pytest.mark.parametrize("largest", [120, 2**30])
@pytest.mark.parametrize("many", [64, 1000])
def test_they_are_undone_and_redone_exactly(monkeypatch, largest, many):
    monkeypatch.setattr(store, "_MANY", many)  # at once, and one by one
    drawn = labels_of([*range(1, 120), largest])
    with Session(make_movie(2), model=make_model()) as session:
        kept = np.zeros((48, 64), bool)
        kept[1:9, 1:30] = True
        session.add_mask(kept, frame=0, object_id=500)
        before = session.labels.copy()
        session.add_labels(drawn, frame=0)
        after = session.labels.copy()
        assert len(session.objects) == 121
        for _ in range(2):
            session.undo()
            np.testing.assert_array_equal(session.labels, before)
            assert [o.object_id for o in session.objects] == [500]
            assert session.store.stats(500).num_done == 1
            session.redo()
            np.testing.assert_array_equal(session.labels, after)
            assert session.store.stats(largest).num_done == session.store.stats(largest).num_prompts == 1


def test_boxes_of_many_objects_are_set_at_once():
    index = BoxIndex()
    index.put({7: (0, 0, 2, 2)})
    index.put({number: (number, 0, number + 1, 1) for number in range(100)})
    assert index.meeting((5, 0, 8, 1)) == [5, 6, 7]
    index.put({6: (0, 0, 0, 0), 200: (5, 0, 6, 1)})
    assert index.meeting((5, 0, 8, 1)) == [5, 7, 200]
