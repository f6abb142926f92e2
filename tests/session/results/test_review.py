"""Which masks are to be checked: what is likely to be wrong is flagged, and the ends of objects are not."""

from __future__ import annotations

import numpy as np
import pytest
from session_tools import square

from factories import make_model, make_movie
from napari_sam2._packed_mask import PackedMask
from napari_sam2.session.results.review import ReviewQueue, doubtful_frames, objects_not_found, timeline
from napari_sam2.session.session import Session
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask, PlaneCondition

EMPTY = ObjectMask(PackedMask(), "tracked", 0.1, -4.0)
GOOD = square(10, 12, 12)


def tracked(mask: np.ndarray, iou: float = 0.9, score: float = 8.0) -> ObjectMask:
    return ObjectMask.pack(mask, "tracked", iou, score)


def put(session: Session, masks: dict[int, ObjectMask], object_id: int = 1) -> None:
    session.store.commit([Edit("masks", (object_id, t), None, mask) for t, mask in masks.items()])


def track(masks: dict[int, ObjectMask], conditions: dict[int, PlaneCondition] | None = None) -> dict[int, str]:
    """What is to be checked of an object that is prompted on frame 3, with other masks around it."""
    with Session(make_movie(8), model=make_model()) as made:
        made.new_object()
        put(made, {3: ObjectMask.pack(GOOD, "prompted", 0.9, 20.0), **masks})
        made.store.commit([Edit("conditions", plane, None, each) for plane, each in (conditions or {}).items()])
        return {d.plane: d.reason for d in doubtful_frames(made)}


@pytest.fixture
def session():
    """Object 1 painted on frame 0 and written as tracked on frames 1 to 6; no network is asked."""
    with Session(make_movie(8), model=make_model()) as made:
        made.add_mask(square(10, 10, 6), frame=0)
        masks = [
            tracked(square(10, 12, 6)),
            tracked(square(10, 14, 6), iou=0.3),
            EMPTY,
            tracked(square(10, 18, 6)),
            tracked(square(6, 18, side=12)),
            tracked(square(30, 50, side=12)),
        ]
        put(made, dict(enumerate(masks, start=1)))
        yield made


def test_timeline_has_area_and_shift(session):
    line = timeline(session, 1)
    assert line["shift"].tolist()[1:3] == [2, 2]
    assert np.isnan(line["shift"][[0, 3, 4]]).all()
    with pytest.raises(ValueError, match="object 9 does not exist"):
        timeline(session, 9)


def test_doubtful_frames_come_worst_first(session):
    found = [(d.plane, d.reason) for d in doubtful_frames(session)]
    own = [(3, "not found"), (6, "moved far"), (2, "low IoU"), (5, "area jump")]
    assert found == [*own, (1, "next to a doubtful mask"), (4, "tracked from a doubtful mask")]
    severities = [d.severity for d in doubtful_frames(session)]
    assert severities == sorted(severities, reverse=True)
    session.lock(1, [5, 6])
    assert not {5, 6} & {d.plane for d in doubtful_frames(session)}


def test_an_object_that_shrinks_and_ends_is_not_to_be_checked():
    ends = {4: tracked(square(12, 14, 8)), 5: tracked(square(14, 16, 4), iou=0.61, score=1.0), 6: EMPTY, 7: EMPTY}
    assert track(ends) == {}
    assert track({**ends, 5: tracked(square(14, 16, 4), iou=0.59)}) == {5: "low IoU"}
    assert track({**ends, 6: tracked(GOOD)}) != {}  # it grows again


def test_an_object_that_vanishes_at_full_size_or_between_two_masks_was_not_found():
    assert track({4: EMPTY, 5: EMPTY}) == {4: "not found"}
    assert track({4: EMPTY, 5: tracked(GOOD)}) == {4: "not found"}


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (tracked(GOOD, iou=0.6), "low IoU"),
        (tracked(GOOD, score=1.5), "hardly visible"),
        (tracked(square(12, 14, 24)), "area jump"),
        (tracked(square(10, 18, 12)), "moved far"),
        (tracked(GOOD & ~np.isin(np.arange(GOOD.shape[0]), (14, 15, 16))[:, None]), "several pieces"),
    ],
)
def test_masks_tracked_from_a_doubtful_one_are_doubtful_up_to_the_next_known_mask(mask, reason):
    good = {p: tracked(GOOD) for p in (0, 1, 2)}
    after = {p: tracked(mask.to_image(GOOD.shape)) for p in (6, 7)}
    found = track({**good, 4: tracked(GOOD), 5: mask, **after})
    assert found[5] == reason
    assert found[4] == "next to a doubtful mask"
    assert set(found) == {4, 5, 6, 7}
    # a mask that the user painted stands for those next to it
    painted = ObjectMask.pack(mask.to_image(GOOD.shape), "painted")
    assert track({**good, 4: tracked(GOOD), 5: mask, 6: painted, 7: after[7]}) == {}


def test_low_values_are_those_that_are_low_for_the_object():
    assert track({p: tracked(GOOD, iou=0.61, score=3.0) for p in (1, 2, 4, 5)}) == {}
    assert track({4: tracked(GOOD), 5: tracked(GOOD, iou=0.72 * 0.9)}) == {}
    assert track({4: tracked(GOOD), 5: tracked(GOOD, iou=0.68 * 0.9)}).keys() == {4, 5}
    assert track({p: tracked(GOOD, iou=0.3) for p in (1, 2, 4, 5)}).keys() == {1, 2, 4, 5}


def test_what_moves_all_the_time_and_movements_of_the_stage_are_no_sudden_change():
    steps = {p: tracked(square(10, 12 + 5 * (p - 3), 12)) for p in (1, 2, 4, 5, 6)}
    assert track(steps) == {}
    jump = {p: tracked(square(10, 32, 12)) for p in (4, 5, 6)}
    assert track(jump)[4] == "moved far"
    assert track(jump, {4: PlaneCondition(shift_yx=(0, 20))}) == {}


def test_an_object_lost_after_a_doubt_is_reported_on_a_few_planes_only():
    with Session(make_movie(12), model=make_model()) as made:
        made.new_object()
        put(made, {0: ObjectMask.pack(GOOD, "prompted", 0.9, 20.0), 1: tracked(GOOD), 2: tracked(GOOD, score=1.0)})
        put(made, {3: tracked(square(14, 16, 3))} | dict.fromkeys(range(4, 12), EMPTY))
        found = {d.plane: d.reason for d in doubtful_frames(made)}
        assert [plane for plane, reason in found.items() if reason == "not found"] == [4, 5, 6]
        assert objects_not_found(made) == []


def test_a_queue_looks_again_only_at_objects_that_have_changed(monkeypatch):
    looked = []
    monkeypatch.setattr(
        "napari_sam2.session.results.review._walks", lambda _store, object_id: looked.append(object_id) or []
    )
    with Session(make_movie(4), model=make_model()) as made:
        for i in (1, 2, 3):
            made.new_object()
            put(made, {0: ObjectMask.pack(square(4 * i, 4, 3), "prompted", 0.9, 20.0)}, i)
        queue = ReviewQueue(made)
        assert not queue.update(seconds=-1.0)
        assert queue.update()
        assert queue.update()
        assert looked == [1, 2, 3]
        put(made, {1: tracked(square(8, 4, 3))}, 2)
        made.remove_object(3)
        assert queue.update()
        assert looked == [1, 2, 3, 2]
