"""Divisions, and tracks that are cut, joined, merged, split and swapped: results, refusals and exact undo."""

from __future__ import annotations

import random
import sqlite3
from contextlib import suppress

import numpy as np
import pytest
from session_tools import random_call, square, state

from factories import make_movie
from napari_sam2 import PromptError
from napari_sam2.session.files.row_encoding import TABLES, TABLES_2, with_checksum
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session


@pytest.fixture
def dividing(session):
    """Object 1 on five frames: in one piece on the first two, in two pieces after that."""
    for frame in range(5):
        mask = square(10, 10) if frame < 2 else square(10, 6, 6) | square(10, 20, 8)
        session.paint(frame, {1: mask})
    return session


def where(session: Session, object_id: int) -> list[int]:
    return [frame for frame in range(5) if (np.asarray(session.labels[frame]) == object_id).any()]


# ---------------------------------------------------------------------- divisions
def test_each_piece_becomes_a_daughter(session):
    session.add_mask(square(10, 10), frame=1)
    session.add_mask(square(10, 6, 6) | square(10, 20, 8), frame=2, object_id=1)
    assert session.divide(1, 2) == [2, 3]
    assert np.array_equal(session.labels[2] == 2, square(10, 20, 8))
    assert np.array_equal(session.labels[2] == 3, square(10, 6, 6))
    assert where(session, 1) == [1]
    assert set(session.store.prompts) == {(1, 1), (2, 2), (3, 2)}
    assert [(o.parent, o.born) for o in session.objects] == [(None, None), (1, 2), (1, 2)]


def test_tracked_masks_after_a_division_in_two_pieces_are_tracked_anew(session):
    session.add_mask(square(10, 10), frame=0)
    session.add_mask(square(10, 6, 6) | square(10, 20, 8), frame=2, object_id=1)
    session.propagate()
    session.divide(1, 2)
    assert where(session, 2) == where(session, 3) == [2]
    session.propagate()
    assert {p for i, p in session.store.masks if i == 1} == {0, 1}  # the mother ends, the daughters begin
    assert {p for i, p in session.store.masks if i in (2, 3)} == {2, 3, 4}


def test_later_painted_masks_are_shared_out_to_the_nearer_daughter(dividing):
    dividing.paint(4, {1: square(10, 6, 8) | square(10, 20, 6)})  # now the left one is the larger
    dividing.divide(1, 2)
    assert where(dividing, 2) == where(dividing, 3) == [2, 3, 4]
    assert np.array_equal(dividing.labels[4] == 2, square(10, 20, 6))
    assert np.array_equal(dividing.labels[4] == 3, square(10, 6, 8))


def test_mother_in_one_piece_goes_on_as_the_first_daughter(session):
    session.paint(0, {1: square(10, 10)})
    for frame in (2, 3):
        session.paint(frame, {1: square(12, 12)})
    assert session.divide(1, 2) == [2, 3]
    assert (where(session, 1), where(session, 2), where(session, 3)) == ([0], [2, 3], [])
    session.add_mask(square(30, 30), frame=2, object_id=3)
    assert session.daughters(1) == [2, 3]


def test_existing_objects_become_daughters(session):
    session.paint(0, {1: square(10, 10)})
    for frame in (2, 3):
        session.paint(frame, {1: square(12, 12), 7: square(30, 30)})
    assert session.divide(1, 2, [7]) == [8, 7]
    assert (where(session, 1), where(session, 8), where(session, 7)) == ([0], [2, 3], [2, 3])
    session.undo()
    session.paint(3, {9: square(2, 2)})
    assert session.divide(1, 2, [7, 9]) == [7, 9]
    assert where(session, 1) == [0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda s: s.divide(9, 2), "does not exist", id="no-such-object"),
        pytest.param(lambda s: s.divide(1, 0), "no mask before frame 0", id="on-its-first-frame"),
        pytest.param(lambda s: s.divide(1, 2, [1]), "one or two other objects", id="itself"),
        pytest.param(lambda s: s.divide(1, 2, [5]), "has a mask on frame 0, before frame 2", id="daughter-too-early"),
        pytest.param(lambda s: s.divide(1, 9), "frames 0 to 4", id="no-such-frame"),
        pytest.param(lambda s: s.set_parent(5, 1), "still has a mask on frame 0", id="at-the-same-time"),
        pytest.param(lambda s: s.set_parent(1, 1), "descend from itself", id="own-parent"),
        pytest.param(lambda s: s.cut(1, 0), "give one after the first", id="cut-of-nothing"),
        pytest.param(lambda s: s.join(1, 5), "use merge", id="join-at-the-same-time"),
        pytest.param(lambda s: s.join(1, 1), "given twice", id="join-with-itself"),
        pytest.param(lambda s: s.split(1, 0), "in one piece", id="split-of-one-piece"),
        pytest.param(lambda s: s.split(1, 0, square(40, 40)), "all of it or nothing", id="split-beside-it"),
        pytest.param(lambda s: s.split(1, 0, np.ones((3, 3))), "expected one of shape", id="split-of-another-shape"),
        pytest.param(lambda s: s.swap(1, 1, 2), "given twice", id="swap-with-itself"),
    ],
)
def test_refusals_change_nothing(dividing, call, words):
    dividing.paint(0, {5: square(30, 30)})
    before = state(dividing)
    with pytest.raises(PromptError, match=words):
        call(dividing)
    assert state(dividing) == before


def test_nobody_divides_twice_or_descends_from_a_daughter(dividing):
    dividing.divide(1, 2)
    with pytest.raises(PromptError, match="divided already"):
        dividing.divide(1, 1)
    with pytest.raises(PromptError, match="descend from itself"):
        dividing.set_parent(1, 2, 0)
    dividing.set_parent(2, None)
    assert dividing.daughters(1) == [3]


def test_locked_objects_do_not_divide(dividing):
    dividing.lock(1, 2)
    with pytest.raises(PromptError, match="locked on frame 2"):
        dividing.divide(1, 2)


def test_daughters_of_a_removed_object_have_no_parent_until_undo(dividing):
    dividing.divide(1, 2)
    before = state(dividing)
    dividing.remove_object(1)
    assert [o.parent for o in dividing.objects] == [None, None]
    dividing.undo()
    assert state(dividing) == before


def test_lineage_table_counts_generations(dividing):
    dividing.divide(1, 2)
    dividing.cut(2, 4)
    dividing.set_parent(4, 2)
    table = dividing.lineage
    assert table[["object", "parent", "born", "first", "last", "generation"]].to_numpy().tolist() == [
        [1, 0, -1, 0, 1, 0], [2, 1, 2, 2, 3, 1], [3, 1, 2, 2, 4, 1], [4, 2, 4, 4, 4, 2],
    ]  # fmt: skip
    assert list(table["daughters"]) == [(2, 3), (4,), (), ()]


# ---------------------------------------------------------------------- tracks
def test_cut_and_join_are_inverse(dividing):
    before = np.array(dividing.labels)
    made = dividing.cut(1, 3)
    assert (where(dividing, 1), where(dividing, made)) == ([0, 1, 2], [3, 4])
    dividing.join(1, made)
    assert np.array_equal(dividing.labels, before)
    assert [o.object_id for o in dividing.objects] == [1]


def test_cut_takes_the_daughters_along(dividing):
    dividing.divide(1, 3)
    made = dividing.cut(1, 2)
    assert dividing.daughters(made) == [2, 3]
    assert dividing.daughters(1) == []
    dividing.join(1, made)
    assert dividing.daughters(1) == [2, 3]


def test_merge_unites_masks(session):
    session.paint(1, {1: square(10, 10), 2: square(10, 18)})
    session.paint(2, {2: square(12, 18)})
    session.merge(1, 2)
    assert np.array_equal(session.labels[1] == 1, square(10, 10) | square(10, 18))
    assert where(session, 1) == [1, 2]
    assert [o.object_id for o in session.objects] == [1]


def test_split_takes_the_smaller_piece_or_the_mask(dividing):
    assert dividing.split(1, 2) == 2
    assert np.array_equal(dividing.labels[2] == 2, square(10, 6, 6))
    number = dividing.split(1, 0, square(10, 10, 4))
    assert np.array_equal(dividing.labels[0] == number, square(10, 10, 4))


def test_swap_exchanges_from_a_frame_on(session):
    for frame in range(4):
        session.paint(frame, {1: square(10, 10), 2: square(30, 30)})
    session.lock(1, 3)
    session.swap(1, 2, 2)
    for frame, (first, second) in enumerate([(10, 30), (10, 30), (30, 10), (30, 10)]):
        assert np.array_equal(session.labels[frame] == 1, square(first, first))
        assert np.array_equal(session.labels[frame] == 2, square(second, second))
    assert session.store.objects[2].locked == {3}


def test_swap_exchanges_daughters(session):
    for frame in range(5):
        session.paint(frame, {1: square(10, 10), 2: square(30, 30)})
    daughters = session.divide(1, 4)
    session.swap(1, 2, 2)
    assert session.daughters(2) == daughters
    assert session.daughters(1) == []


# ---------------------------------------------------------------------- undo, files and scripts
def random_lineage_call(session: Session, rng: random.Random) -> None:
    ids = [o.object_id for o in session.objects] or [1]
    first, second, frame = rng.choice(ids), rng.choice(ids), rng.randrange(5)
    rng.choice(
        [
            lambda: session.divide(first, frame),
            lambda: session.divide(first, frame, [second]),
            lambda: session.set_parent(first, second),
            lambda: session.set_parent(first, None),
            lambda: session.cut(first, frame),
            lambda: session.join(first, second),
            lambda: session.merge(first, second),
            lambda: session.split(first, frame, square(rng.randrange(40), rng.randrange(50))),
            lambda: session.split(first, frame),
            lambda: session.swap(first, second, frame),
        ]
    )()


@pytest.mark.parametrize("seed", range(3))
def test_undo_is_exact_and_files_and_replay_agree_after_random_calls(session, model, tmp_path, seed):
    rng = random.Random(seed)
    first = state(session)
    for _ in range(25):
        is_about_lineage = rng.random() < 0.6
        before, length = state(session), len(session.history.done)
        with suppress(PromptError):
            (random_lineage_call if is_about_lineage else random_call)(session, rng)
        if is_about_lineage and len(session.history.done) > length:
            after = state(session)
            session.undo()
            assert state(session) == before
            session.redo()
            assert state(session) == after
    for plane in range(5):
        assert np.array_equal(session.store.composed(plane), session.labels[plane])
    with Session.load(session.save(tmp_path / "a.sam2"), make_movie(5), model=model) as again:
        assert np.array_equal(again.labels, session.labels)
        assert again.objects == session.objects
        assert again.lineage.equals(session.lineage)
    with Session(make_movie(5), model=model) as repeated:
        replay(session.operations, repeated)
        assert np.array_equal(repeated.labels, session.labels)
        assert repeated.lineage.drop(columns="name").equals(session.lineage.drop(columns="name"))
    script = session.to_python()
    space: dict[str, object] = {"stack": make_movie(5), "model": model}
    exec(script, space)
    assert np.array_equal(space["labels"], session.labels)
    while session.undo():
        pass
    assert state(session) == first


def test_files_of_the_format_before_parents_open(dividing, model, tmp_path):
    path = dividing.save(tmp_path / "a.sam2")
    connection = sqlite3.connect(path, isolation_level=None)
    rows = connection.execute("SELECT * FROM objects").fetchall()
    connection.execute("DROP TABLE conditions")
    connection.execute("DROP TABLE objects")
    connection.execute(TABLES_2["objects"])
    for row in rows:
        old = with_checksum(row[:-4])
        connection.execute(f"INSERT INTO objects VALUES ({', '.join('?' * len(old))})", old)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    assert TABLES_2["objects"] != TABLES["objects"]
    with Session.load(path, make_movie(5), model=model) as again:
        assert np.array_equal(again.labels, dividing.labels)
        again.divide(1, 2)
        saved = again.save(path)
    with Session.load(saved, make_movie(5), model=model) as later:
        assert later.daughters(1) == [2, 3]


def test_a_track_of_one_frame_cannot_be_cut_and_the_error_says_why(session):
    session.add_mask(square(4, 4), frame=2)
    with pytest.raises(PromptError, match="it has a mask on frame 2 only"):
        session.cut(1, 2)
