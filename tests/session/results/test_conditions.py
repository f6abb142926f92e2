"""Unusable planes and movements of the stage: found while tracking, kept with the session, shown in the review."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from scipy import ndimage

from factories import make_movie
from napari_sam2.session.files.row_encoding import TABLES, TABLES_3
from napari_sam2.session.results.review import doubtful_frames
from napari_sam2.session.session import Session
from napari_sam2.session.state.records import PlaneCondition

NUM_FRAMES, JUMP, BLANK = 7, 3, 5
SHIFT_YX = (3, 54)  # three diameters of the smaller cell


def make_cells() -> tuple[np.ndarray, np.ndarray]:
    """Two discs on noise, (T, H, W) each, that jump on one frame and are not there on a later one, which is blank."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:112, :128]
    image, labels = np.zeros((NUM_FRAMES, 112, 128), np.float32), np.zeros((NUM_FRAMES, 112, 128), int)
    for t in range(NUM_FRAMES):
        dy, dx = np.array(SHIFT_YX) * (t >= JUMP)
        for i, (cy, cx, radius) in enumerate(((30, 30, 10), (70, 45, 9)), 1):
            labels[t][(y - cy - dy) ** 2 + (x - cx - dx) ** 2 < radius**2] = i
        plane = 30 + 60 * (labels[t] > 0) + 60 * (labels[t] == 2)
        image[t] = ndimage.gaussian_filter(plane.astype(float), 1) + rng.normal(0, 6, y.shape)
    image[BLANK], labels[BLANK] = 0, 0
    return image.clip(0, 255), labels


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """The lower IoU of the two cells."""
    return min(((found == i) & (truth == i)).sum() / max(((found == i) | (truth == i)).sum(), 1) for i in (1, 2))


@pytest.mark.parametrize("start", [0, NUM_FRAMES - 1])
def test_a_jump_of_three_diameters_and_a_blank_frame_are_noted_and_survived(tmp_path, start):
    image, labels = make_cells()
    expected = {JUMP: PlaneCondition(shift_yx=SHIFT_YX), BLANK: PlaneCondition(is_usable=False)}
    with Session(image, model="sam2_micro") as session:
        for i in (1, 2):
            session.add_mask(labels[start] == i, frame=start)
        session.propagate()
        assert session.conditions == expected
        for t in set(range(NUM_FRAMES)) - {BLANK}:
            assert overlap(session.labels[t], labels[t]) > 0.85, t
        unusable = [d for d in doubtful_frames(session) if d.plane == BLANK]
        assert [(d.object_id, d.reason) for d in unusable] == [(1, "unusable image")]
        session.lock(1, [BLANK])
        assert not [d for d in doubtful_frames(session) if d.plane == BLANK]
        saved = session.save(tmp_path / "a.sam2")
        before = session.labels.copy()
    with Session.load(saved, image) as again:
        assert again.conditions == expected
        assert np.array_equal(again.labels, before)


def with_condition(session: Session) -> None:
    with session._changing():
        edits = session.store.condition_edits(1, is_usable=False, shift=None)
        session._state.push("test", None, {}, edits)


def test_conditions_are_undone_autosaved_and_forgotten_with_another_contrast(model, tmp_path):
    with Session(make_movie(4), model=model) as session:
        session.autosave_path = tmp_path / "auto.sam2"
        session.add_points([[0, 20, 15]])
        with_condition(session)
        assert session.flush_autosave()
        with Session.load(tmp_path / "auto.sam2", make_movie(4), model=model) as again:
            assert again.conditions == session.conditions == {1: PlaneCondition(is_usable=False)}
        session.set_contrast([(0, 100)])
        assert session.conditions == {}
        session.undo()
        assert session.conditions == {1: PlaneCondition(is_usable=False)}
        session.undo()
        assert session.conditions == {}
        assert session.flush_autosave()
        with Session.load(tmp_path / "auto.sam2", make_movie(4), model=model) as again:
            assert again.conditions == {}


def test_files_of_the_format_before_conditions_open(model, tmp_path):
    with Session(make_movie(4), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.propagate()
        path, labels = session.save(tmp_path / "a.sam2"), session.labels.copy()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TABLE conditions")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    assert TABLES_3.keys() == TABLES.keys() - {"conditions"}
    with Session.load(path, make_movie(4), model=model) as again:
        assert np.array_equal(again.labels, labels)
        assert again.conditions == {}
        assert Session.load(again.save(path), make_movie(4), model=model).conditions == {}
