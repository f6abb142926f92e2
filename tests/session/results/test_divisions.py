"""Divisions that are proposed from masks: found on their frame, accepted, and not seen where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from session_tools import square, state

from factories import make_movie
from napari_sam2 import DivisionSettings, PromptError, propose_divisions
from napari_sam2.session.session import Session


def painted(model, masks: list[np.ndarray]) -> Session:
    """Object 1 with a mask on each frame."""
    session = Session(make_movie(len(masks)), model=model)
    for frame, mask in enumerate(masks):
        if mask.any():
            session.paint(frame, {1: mask})
    return session


ONE, TWO = square(10, 10, 10), square(10, 6, 7) | square(10, 20, 8)
SPECK = square(10, 10, 10) | square(10, 30, 2)
NONE = np.zeros((48, 64), bool)


def test_a_division_is_found_on_its_first_frame_and_accepted(model):
    with painted(model, [ONE, ONE, TWO, TWO, TWO]) as session:
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame, found.num_frames) == (1, 2, 3)
        assert found.share == pytest.approx(49 / (49 + 64))
        assert session.divide(found.object_id, found.frame) == [2, 3]
        assert propose_divisions(session) == []


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param([ONE] * 5, id="one-piece"),
        pytest.param([TWO] * 5, id="two-pieces-from-the-beginning"),
        pytest.param([ONE, ONE, SPECK, SPECK, SPECK], id="a-speck"),
        pytest.param([ONE, ONE, TWO, ONE, ONE], id="parted-on-one-frame"),
        pytest.param([ONE, ONE, square(10, 2, 14) | square(10, 30, 14), NONE, NONE], id="area-jumps"),
    ],
)
def test_other_masks_are_no_divisions(model, masks):
    with painted(model, masks) as session:
        assert propose_divisions(session) == []


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:48, :64]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


WAIST = disc(20, 16, 6) | disc(20, 26, 6)


def test_cells_that_still_touch_are_found_by_their_waist_and_divided_there(model):
    with painted(model, [disc(20, 21, 8), disc(20, 21, 8), WAIST, WAIST, WAIST]) as session:
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame, found.num_frames, found.daughters) == (1, 2, 3, ())
        before = state(session)
        first, second = session.divide(1, 2)
        for frame in (2, 3, 4):
            labels = session.labels[frame]
            assert ((labels > 0) == WAIST).all()
            assert set(np.unique(labels[:, :20])) | set(np.unique(labels[:, 22:])) == {0, first, second}
            assert len(np.unique(labels[:, :20])) == len(np.unique(labels[:, 22:])) == 2
        session.undo()
        assert state(session) == before


def beside(model, mother: list[np.ndarray], others: dict[int, np.ndarray], begins: int = 2) -> Session:
    """Object 1 on each frame, and others from a frame on."""
    session = painted(model, mother)
    for frame in range(begins, len(mother)):
        session.paint(frame, others)
    return session


@pytest.mark.parametrize(
    ("mother", "others", "daughters"),
    [
        pytest.param([ONE] * 2 + [square(10, 6, 7)] * 3, {2: square(10, 20, 7)}, (2,), id="it-goes-on-as-one-of-them"),
        pytest.param([ONE] * 2 + [NONE] * 3, {2: square(10, 6, 7), 3: square(10, 20, 8)}, (2, 3), id="it-ends"),
    ],
)
def test_objects_that_begin_beside_another_one_are_its_daughters(model, mother, others, daughters):
    with beside(model, mother, others) as session:
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame, found.daughters) == (1, 2, daughters)
        before = state(session)
        made = session.divide(1, 2, found.daughters)
        assert set(daughters) <= set(made)
        assert session.daughters(1) == sorted(made)
        assert propose_divisions(session) == []
        session.undo()
        assert state(session) == before


@pytest.mark.parametrize(
    ("mother", "others"),
    [
        pytest.param([ONE] * 5, {2: square(10, 24, 7)}, id="it-keeps-its-size"),
        pytest.param([ONE] * 2 + [square(10, 6, 7)] * 3, {2: square(30, 50, 7)}, id="far-away"),
        pytest.param([ONE] * 2 + [square(10, 6, 7)] * 3, {2: square(10, 20, 2)}, id="a-speck"),
        pytest.param([ONE] * 2 + [NONE] * 3, {2: square(10, 10, 10)}, id="one-object-takes-its-place"),
        pytest.param(
            [ONE, ONE, NONE, NONE, ONE], {2: square(10, 6, 7), 3: square(10, 20, 8)}, id="it-is-seen-again-later"
        ),
    ],
)
def test_other_objects_that_begin_are_no_daughters(model, mother, others):
    with beside(model, mother, others) as session:
        assert propose_divisions(session) == []


def test_a_daughter_belongs_to_one_mother(model):
    shrinks = [square(10, 6, 7)] * 3
    with beside(model, [ONE] * 2 + shrinks, {2: square(10, 20, 7)}) as session:
        for frame in range(5):
            session.paint(frame, {3: square(24, 10, 10) if frame < 2 else square(24, 6, 7)})
        assert len(propose_divisions(session)) == 1


def drawn_division(num_frames: int = 7, divides: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels (T, 72, 72) of a cell, 1, that becomes two, 2 and 3, which still touch."""
    rng, (y, x) = np.random.default_rng(7), np.mgrid[:72, :72]
    movie, labels = np.zeros((num_frames, 72, 72)), np.zeros((num_frames, 72, 72), np.int32)
    for t in range(num_frames):
        if t < divides:
            cells = {1: (36, 36, 12, 7)}
        else:
            apart = 7 + 0.5 * (t - divides)
            cells = {2: (36, 36 - apart, 7, 6), 3: (36, 36 + apart, 7, 6)}
        for number, (cy, cx, long, short) in cells.items():
            depth = 1 - ((x - cx) / long) ** 2 - ((y - cy) / short) ** 2
            labels[t][depth > 0] = number
            movie[t] = np.maximum(movie[t], 110 * np.sqrt(depth.clip(0)))
    return (25 + movie + rng.normal(0, 4, movie.shape)).clip(0, 255).astype(np.uint8), labels


def test_one_click_tracks_a_cell_whose_division_is_proposed_accepted_and_tracked_on():
    movie, truth = drawn_division()
    with Session(movie) as session:
        cell = session.add_points([[0, 36, 36]])
        session.propagate()
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame) == (cell, 3)
        before = state(session)
        daughters = session.divide(cell, found.frame)
        session.propagate()
        assert session.daughters(cell) == daughters
        for frame in range(3, 7):
            for side in (2, 3):
                mask = truth[frame] == side
                best = max((session.labels[frame] == i)[mask].mean() for i in daughters)
                assert best > 0.7
        assert not (session.labels[3:] == cell).any()
        session.undo()
        session.undo()
        assert state(session) == before


def one_daughter(model, *, is_drawn: bool = True, mask: np.ndarray | None = None) -> Session:
    """The drawn cell and, from frame 3 on, daughter 2 only, or what is left of the cell, as object 1."""
    movie, truth = drawn_division()
    if not is_drawn:
        movie[truth == 3] = 25
    session = Session(movie, model=model)
    for frame, labels in enumerate(truth):
        left = labels == 1 if frame < 3 else labels == 2 if mask is None else mask
        session.paint(frame, {1: left})
    return session


def test_a_daughter_that_tracking_has_lost_is_found_in_the_image(model):
    with one_daughter(model) as session:
        (found,) = propose_divisions(session)
        assert (found.object_id, found.frame, found.daughters, found.num_frames) == (1, 3, (), 4)
        assert found.share == pytest.approx(0.5, abs=0.1)
        y, x = found.lost_yx
        assert drawn_division()[1][3][int(y), int(x)] == 3
        first, second = session.divide(found.object_id, found.frame)
        session.add_points([[found.frame, y, x]], object_id=second)
        assert session.store.prompts.keys() >= {(first, 3), (second, 3)}
        assert propose_divisions(session) == []


def test_nothing_is_lost_where_the_image_shows_nothing_or_another_object_has_it(model):
    with one_daughter(model, is_drawn=False) as session:
        assert propose_divisions(session) == []
    with one_daughter(model) as session:
        session.paint(
            0, {9: square(60, 60, hw=(72, 72))}
        )  # goes on as the daughter, and does not begin beside the cell
        for frame in range(3, 7):
            session.paint(frame, {9: drawn_division()[1][frame] == 3})
        assert propose_divisions(session) == []


def test_a_mask_that_has_lost_a_part_of_its_object_has_not_divided(model):
    movie, truth = drawn_division(divides=9)
    half = (truth[0] == 1) & (np.arange(72)[:, None] < 38)
    with Session(movie, model=model) as session:
        for frame in range(7):
            session.paint(frame, {1: half if frame > 2 else truth[frame] == 1})
        assert propose_divisions(session) == []


def test_a_division_on_the_last_frame_is_proposed(model):
    with painted(model, [ONE, ONE, ONE, ONE, TWO]) as session:
        assert [each.frame for each in propose_divisions(session)] == [4]
        session.lock(1)
        assert propose_divisions(session) == []


def test_settings_and_objects_limit_what_is_proposed(model):
    with painted(model, [ONE, ONE, TWO, TWO, TWO]) as session:
        for frame in range(5):
            session.paint(frame, {2: np.roll(TWO if frame > 2 else ONE, 20, axis=0)})
        assert [(each.object_id, each.frame) for each in propose_divisions(session)] == [(1, 2), (2, 3)]
        assert [each.object_id for each in propose_divisions(session, object_ids=[2])] == [2]
        (found,) = propose_divisions(session, DivisionSettings(num_frames=1), object_ids=[2])
        assert found.frame == 3
        assert propose_divisions(session, DivisionSettings(smallest_share=0.5)) == []


def test_impossible_settings_are_refused():
    for change in (
        {"smallest_share": 0},
        {"smallest_share": 0.6},
        {"num_frames": 0},
        {"largest_change": 0.5},
        {"max_distance": 0},
        {"largest_daughter": 0},
        {"min_overlap": 0},
        {"min_contrast": 0},
    ):
        with pytest.raises(PromptError, match="expected a share"):
            DivisionSettings(**change)
    for change in ({"num_frames": {}}, {"largest_change": bytearray(4)}, {"smallest_share": "x"}):
        with pytest.raises(PromptError, match=f"{next(iter(change))}=.* was given; expected"):
            DivisionSettings(**change)
    with pytest.raises(PromptError):
        DivisionSettings(largest_change=np.nan)
