"""Propagation: what is tracked, paused, cancelled, locked."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from session_tools import square

from factories import make_model, make_movie
from napari_sam2 import FrameError, Prompt, PromptError
from napari_sam2.inference.tracking.plan import plan_tracking
from napari_sam2.session.results.replay import replay
from napari_sam2.session.results.review import doubtful_frames
from napari_sam2.session.session import Session
from napari_sam2.session.state.records import PlaneCondition
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.session.worker.compute_thread import Job
from napari_sam2.session.worker.delivery import wait_until
from napari_sam2.session.worker.tracking_scope import objects_to_track


def test_locked_frames_are_not_tracked_over(session):
    session.add_points([[0, 20, 15]])
    session.propagate()
    session.lock(1, [2])
    before = np.array(session.labels[2])
    session.add_points([[0, 24, 18]], object_id=1)
    session.propagate()
    assert np.array_equal(session.labels[2], before)
    assert session.store.masks[1, 1].is_stale is False


# ---------------------------------------------------------------------- propagation
def test_all_frames_are_tracked_once_and_then_nothing_is_left(session):
    session.add_points([[2, 20, 19]])
    assert session.propagate().num_steps == 4
    assert session.store.planes_of(1) == [0, 1, 2, 3, 4]
    assert session.propagate().num_steps == 0


def test_correction_is_tracked_to_the_next_anchors_only(model):
    with Session(make_movie(9), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.add_points([[8, 20, 31]], object_id=1)
        session.propagate()
        session.lock(1, [6])
        before = np.array(session.labels)
        session.add_points([[4, 20, 23]], object_id=1)
        stale = [p for p in session.store.planes_of(1) if session.store.masks[1, p].is_stale]
        assert stale == [1, 2, 3, 5]
        assert session.propagate().num_steps == 4
        assert np.array_equal(session.labels[[0, 6, 7, 8]], before[[0, 6, 7, 8]])


def test_cancel_keeps_what_is_finished_and_propagation_goes_on(model):
    with Session(make_movie(6), model=model) as session, Session(make_movie(6), model=model) as whole:
        for one in (session, whole):
            one.add_points([[0, 20, 15]])
        whole.propagate()
        session.propagate(max_frames=2)
        assert session.store.planes_of(1) == [0, 1, 2]
        session.propagate()
        assert np.array_equal(session.labels, whole.labels)


def test_handle_pauses_goes_on_and_cancels(session):
    session.add_points([[0, 20, 15]])
    told = threading.Event()
    session.propagation_changed.connect(lambda handle: handle.num_done and (handle.pause(), told.set()))
    handle = session.propagate(block=False)
    assert told.wait(30)
    session.pause()
    time.sleep(0.1)
    done = handle.num_done
    assert handle.is_running
    assert handle.is_paused
    assert done < handle.num_steps
    session.cancel()
    assert handle.wait(10)
    assert not handle.is_running
    assert session.operations[-1].arguments["max_frames"] == handle.num_done


def test_handle_alone_goes_on_after_a_pause_and_can_be_cancelled_while_paused(session):
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    handle.pause()
    assert not handle.wait(0.05)
    handle.resume()
    assert handle.wait(30)
    assert handle.progress == 1
    session.set_prompt(0, Prompt(points=[[15, 22]], labels=[1]), object_id=1)
    handle = session.propagate(block=False)
    handle.pause()
    handle.cancel()
    assert handle.wait(10)
    assert not session.is_busy


def test_clicks_use_no_more_threads_than_tracking(model):
    import torch

    with Session(make_movie(2), model=model, settings=SessionSettings(threads=1)) as session:
        session.prepare()
        seen = []
        answer = session._engine_keeper.answer

        def spy(*given):
            result = answer(*given)
            seen.append(torch.get_num_threads())
            return result

        session._engine_keeper.answer = spy
        session.add_points([[0, 20, 15]])
        assert seen == [1]


def test_looking_ahead_leaves_less_to_do_and_changes_no_answer():
    model = make_model(native_window=24)
    with Session(make_movie(2), model=model) as plain, Session(make_movie(2), model=model) as session:
        session.look_ahead(1, (20, 15))
        wait_until(lambda: session._compute._idle is None, 10, None)
        assert session._engine_keeper._engine is None  # nothing is loaded for it
        session.prepare()
        session.look_ahead(1, (20, 15))
        wait_until(lambda: session._compute._idle is None, 10, None)
        cache = session._engine_keeper._engine.cache
        assert len(cache) > 0
        before = cache.misses
        session.add_points([[1, 20, 15]])
        plain.add_points([[1, 20, 15]])
        assert cache.misses == before
        assert plain._engine_keeper._engine.cache.misses > 0
        assert np.array_equal(session.labels, plain.labels)


def test_a_model_that_sees_whole_images_does_not_look_ahead_on_a_cpu(session):
    session.prepare()
    session.look_ahead(1, (20, 15))
    wait_until(lambda: session._compute._idle is None and not session._compute.is_busy, 10, None)
    assert len(session._engine_keeper._engine.cache) == 0


def test_change_while_tracking_ends_it_and_is_kept(session):
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    session.add_mask(square(30, 40), frame=3)
    assert not handle.is_running
    assert session.labels[3, 31, 41] == 2
    session.propagate()
    assert session.store.planes_of(1) == session.store.planes_of(2) == [0, 1, 2, 3, 4]


def test_an_object_made_while_tracking_does_not_end_it(model):
    with Session(make_movie(12), model=model) as session:
        session.add_points([[0, 20, 15]])
        handle = session.propagate(block=False)
        handle.pause()
        made = session.new_object()
        assert handle.is_running
        handle.resume()
        assert handle.wait(60)
        assert handle.num_done == handle.num_steps == 11
        with Session(make_movie(12), model=model) as again:
            replay(session.operations, again)
            np.testing.assert_array_equal(again.labels, session.labels)
            assert [each.object_id for each in again.objects] == [1, made]


def test_locking_what_tracking_has_yet_to_reach_ends_it(session):
    session.add_points([[0, 20, 15]])
    reached = threading.Event()
    session.propagation_changed.connect(lambda handle: (handle.pause(), reached.set()) if handle.num_done else None)
    handle = session.propagate(block=False)
    assert reached.wait(30)
    session.lock(1, [0])
    assert handle.is_running
    session.lock(1, [4])
    assert not handle.is_running
    assert (1, 4) not in session.store.masks


def test_lost_objects_are_empty_and_reported():
    model = make_model()
    with Session(make_movie(6), model=model, settings=SessionSettings(lost_after=2)) as session:
        session.add_mask(square(10, 10), frame=0)
        absent = make_model()
        absent.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(-50.0)
        session.set_model(absent, prepare=False)
        session.propagate()
        kinds = [session.store.masks[1, p].kind for p in range(6)]
        assert kinds == ["painted", "tracked", "tracked", "lost", "lost", "lost"]
        assert not session.labels[1:].any()


def test_a_handle_that_has_ended_cannot_be_cancelled_any_more(session):
    session.add_mask(square(5, 5), frame=0)
    handle = session.propagate()
    handle.cancel()
    assert not handle.is_cancelled


class Broken:
    """A movie of which some frames cannot be read for a while."""

    def __init__(self, num_frames: int, unreadable: range):
        self.movie, self.unreadable, self.is_good = make_movie(num_frames), unreadable, True
        self.shape, self.dtype = self.movie.shape[:3], np.dtype(np.uint8)

    def __getitem__(self, index):
        if index[0] in self.unreadable and not self.is_good:
            raise OSError("chunk is missing")
        return self.movie[index]


def test_an_unreadable_frame_is_skipped_and_noted(model):
    stack = Broken(5, range(3, 4))
    with Session(stack, model=model) as session:
        stack.is_good = False
        session.add_points([[0, 20, 15]])
        session.propagate()
        assert session.store.planes_of(1) == [0, 1, 2, 3, 4]
        assert not session.store.masks[1, 3].area
        assert session.conditions[3] == PlaneCondition(is_usable=False)
        assert all(found.is_usable for plane, found in session.conditions.items() if plane != 3)
        assert [(d.plane, d.reason) for d in doubtful_frames(session) if d.plane == 3] == [(3, "unusable image")]
        session.undo()
        assert session.conditions == {}


def test_many_unreadable_frames_end_tracking_and_the_others_are_kept(model):
    stack = Broken(10, range(3, 10))
    with Session(stack, model=model) as session:
        stack.is_good = False
        session.add_points([[0, 20, 15]])
        with pytest.raises(FrameError, match="plane 9"):
            session.propagate()
        assert session.store.planes_of(1) == list(range(9))
        assert not session.is_busy
        stack.is_good = True
        session.propagate()
        assert session.store.planes_of(1) == list(range(10))


def test_what_has_no_mask_yet_is_not_tracked(model):
    with Session(make_movie(3), model=model) as session:
        release = threading.Event()
        session._compute.submit(Job(release.wait, lambda _: None))
        session.add_points([[1, 20, 17]], block=False)
        with pytest.raises(PromptError, match="no prompt has a mask yet"):
            objects_to_track(session.store, None)
        session.add_mask(square(5, 5), frame=0, block=False)
        assert objects_to_track(session.store, None) == [2]
        release.set()
        session.wait_for_answers()
        assert objects_to_track(session.store, None) == [1, 2]


def test_no_resume_is_lost(model):
    """A frame that is finished between a pause and its end must not pause the propagation again."""
    with Session(make_movie(12), model=model) as session:
        session.add_points([[0, 20, 15]])
        handle = session.propagate(block=False)
        while handle.is_running:
            handle.pause()
            handle.resume()
            time.sleep(0.001)  # the worker needs the interpreter too
        assert handle.wait(60)
        assert handle.num_done == 11


def test_a_paused_propagation_does_not_pause_the_next_one(model):
    with Session(make_movie(6), model=model) as session:
        session.add_points([[0, 20, 15]])
        for _ in range(3):
            session.propagate(block=False).pause()
            session.add_points([[0, 21, 15]], object_id=1)
            assert session.propagate(block=False).wait(60)


def test_a_listener_that_fails_holds_nobody_up(model):
    def fails(_: object) -> None:
        raise RuntimeError("a listener failed")

    with Session(make_movie(4), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.changed.connect(fails)
        with suppress(Exception):  # that of the listener, in the caller's own call
            session.add_points([[0, 30, 50]], block=False)
        session.wait_for_answers(60)
        session.changed.disconnect(fails)
        session.propagate()
        assert session.store.planes_of(1) == [0, 1, 2, 3]


# ---------------------------------------------------------------------- along other axes
class CopyingAlong:
    """In place of ``track_along_axis``: an object is all that is as bright as its first point, less one plane."""

    def __init__(self):
        self.axes: list[str] = []

    def __call__(self, _segmenter, image, clicks, axis, _sizes):
        self.axes.append(axis)
        labels = np.zeros(image.shape[:3], np.int32)
        for object_id, rows in clicks.items():
            at = tuple(np.rint(rows[0]).astype(int))
            labels[image[..., 0] == image[(*at, 0)]] = object_id
        prompted = {i: sorted({int(z) for z in rows[:, "ZYX".index(axis)]}) for i, rows in clicks.items()}
        for _ in range(plan_tracking(prompted, range(image.shape["ZYX".index(axis)])).num_steps):
            yield
        if axis == "X":
            labels[:, :, :10] = 0
        return labels


def make_bricks() -> np.ndarray:
    volume = np.zeros((6, 24, 30), np.uint8)
    volume[1:5, 3:12, 4:14], volume[0:6, 14:22, 16:29] = 100, 200
    return volume


@pytest.fixture
def along(model, monkeypatch):
    monkeypatch.setattr("napari_sam2.session.engines.axes_tracking.track_along_axis", CopyingAlong())
    with Session(make_bricks(), model=model) as session:
        session.add_mask(make_bricks()[2] == 100, frame=2)
        session.add_mask(make_bricks()[3] == 200, frame=3)
        yield session


def test_objects_are_tracked_along_all_axes_and_fused(along, model, tmp_path):
    handle = along.track_along("zyx")
    assert handle.num_done == handle.num_steps
    volume = make_bricks()
    for object_id, level in ((1, 100), (2, 200)):
        assert np.array_equal(along.labels == object_id, volume == level)
    masks = along.store.masks
    assert masks[1, 2].kind == "painted"
    assert masks[1, 1].kind == "tracked"
    assert masks[1, 1].iou == pytest.approx((1 + 1 + 0.4) / 3)  # along X, six of its ten columns are missing
    assert masks[1, 5].area == 0
    labels = along.labels.copy()
    with Session.load(along.save(tmp_path / "a.sam2"), volume, model=model) as again:
        assert np.array_equal(again.labels, labels)
    script = along.to_python()
    assert "session.track_along(axes='ZYX')" in script
    along.undo()
    assert along.store.planes_of(1) == [2]
    with Session(volume, model=model) as repeated:
        along.redo()
        replay(along.operations, repeated)
        assert np.array_equal(repeated.labels, labels)


def test_locked_planes_stay_and_one_object_can_be_tracked_alone(along):
    along.lock(1, [2])
    along.track_along("Y", object_ids=[1], voxel_size=(3, 1, 1))
    assert along.store.planes_of(1) == list(range(6))
    assert along.store.planes_of(2) == [3]
    assert np.isnan(along.store.masks[1, 1].iou)


def test_tracking_along_an_axis_can_run_in_the_background(along):
    handle = along.track_along("Y", block=False)
    assert handle.wait(60)
    assert along.store.planes_of(1) == along.store.planes_of(2) == list(range(6))


def test_tracking_along_axes_that_is_cancelled_leaves_nothing(along):
    before = along.labels.copy()
    along.propagation_changed.connect(lambda handle: handle.cancel() if handle.num_done == 70 else None)
    handle = along.track_along("ZYX")
    assert handle.is_cancelled
    assert 0 < handle.num_done < handle.num_steps
    assert np.array_equal(along.labels, before)
    assert "track_along" not in along.to_python()


@pytest.mark.parametrize(
    ("axes", "more", "message"),
    [
        ("ZZ", {}, "each once"),
        ("T", {}, "Z, Y and X"),
        ("", {}, "Z, Y and X"),
        ("Y", {"voxel_size": (1, 0, 1)}, "above 0"),
        ("Y", {"object_ids": [9]}, "does not exist"),
    ],
)
def test_axes_that_do_not_exist_are_refused(along, axes, more, message):
    with pytest.raises(PromptError, match=message):
        along.track_along(axes, **more)


def test_an_image_has_no_volume_to_track_in(model):
    with Session(make_movie(1)[0], model=model) as session:
        session.add_points([[20, 15]])
        with pytest.raises(PromptError, match="no volume"):
            session.track_along("ZYX")


def test_tracking_along_axes_keeps_what_is_known_of_planes(model, monkeypatch):
    monkeypatch.setattr("napari_sam2.session.engines.axes_tracking.track_along_axis", CopyingAlong())
    movie = make_movie(5)
    movie[3] = 0
    with Session(movie, model=model) as session:
        session.add_points([[1, 20, 17]])
        session.propagate()
        assert not session.conditions[3].is_usable
        session.track_along("Y")
        assert not session.conditions[3].is_usable
