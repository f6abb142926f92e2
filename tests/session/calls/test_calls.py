"""The session itself: prompts become masks, and every change can be taken back exactly."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2 import FrameError, Prompt, PromptError
from napari_sam2.session.results.replay import replay
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.session.worker.compute_thread import Job
from napari_sam2.session.worker.delivery import wait_until
from napari_sam2.session.worker.tracking_scope import objects_to_track


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def session(model):
    with Session(make_movie(5), model=model) as made:
        yield made


def square(y: int, x: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((48, 64), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def state(session: Session) -> tuple[object, ...]:
    """All that undo has to bring back."""
    return (
        np.asarray(session.labels).tobytes(),
        tuple(session.objects),
        {key: (id(e.answer), e.stamp) for key, e in session.store.prompts.items()},
        {key: (m.box, m.packed, m.kind, m.is_stale) for key, m in session.store.masks.items()},
        session.settings.overlap,
    )


# ---------------------------------------------------------------------- prompts
def test_click_gives_a_mask_and_its_scores(session):
    number = session.add_points([[1, 20, 17]])
    assert number == 1
    assert set(np.unique(session.labels[1])) == {0, 1}
    assert not session.labels[[0, 2, 3, 4]].any()
    (row,) = session.scores.to_dict("records")
    assert (row["frame"], row["kind"], row["area"]) == (1, "prompted", int(session.labels.astype(bool).sum()))


def test_clicks_add_up_and_boxes_replace_each_other(session):
    session.add_points([[1, 20, 17]])
    session.add_points([[1, 2, 2]], [0], object_id=1)
    session.add_box([[1, 10, 10], [1, 30, 30]], object_id=1)
    session.add_box([[1, 30, 31], [1, 11, 9]], object_id=1)
    prompt = session.prompt(1, 1)
    assert prompt is not None
    assert prompt.points.tolist() == [[17, 20], [2, 2]]
    assert prompt.box is not None
    assert prompt.box.tolist() == [9, 11, 31, 30]


def test_same_prompt_again_changes_nothing(session):
    session.add_points([[1, 20, 17]])
    before = state(session)
    session.set_prompt(1, Prompt(points=[[17, 20]]), object_id=1)
    assert state(session) == before
    assert len(session.operations) == 1


def test_mask_is_kept_pixel_for_pixel(session):
    session.add_mask(square(10, 10), frame=2)
    assert np.array_equal(session.labels[2] == 1, square(10, 10))
    assert session.store.masks[1, 2].kind == "painted"


def test_labels_keep_their_numbers(session):
    image = np.zeros((48, 64), np.int32)
    image[2:8, 2:8], image[20:30, 20:30] = 7, 3
    assert session.add_labels(image, frame=0) == [3, 7]
    assert np.array_equal(session.labels[0], image)
    assert session.new_object() == 8


def test_candidates_go_round(session):
    session.add_points([[1, 20, 17]])
    seen = [session.next_candidate(1, 1, block=True) for _ in range(3)]
    assert seen == [1, 2, 0]
    with pytest.raises(PromptError, match="only a single click"):
        session.next_candidate(1, 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        pytest.param(lambda s: s.add_points([[9, 1, 1]]), "position 9 was given on axis 0", id="no-such-frame"),
        pytest.param(lambda s: s.add_points([[0, 99, 1]]), "outside the image", id="outside"),
        pytest.param(lambda s: s.add_points([[0, 1, 1], [1, 1, 1]]), "several planes", id="two-planes"),
        pytest.param(lambda s: s.add_points([[1, 1]]), "rows of 3", id="two-coordinates"),
        pytest.param(lambda s: s.add_points([[0, np.nan, 1]]), "NaN", id="nan"),
        pytest.param(lambda s: s.add_box([[0, 1, 1]]), "two or four", id="one-corner"),
        pytest.param(lambda s: s.add_mask(np.zeros((48, 64)), frame=0), "empty mask", id="empty-mask"),
        pytest.param(lambda s: s.add_mask(square(1, 1)), "without its frame", id="no-frame"),
        pytest.param(lambda s: s.add_mask(np.ones((4, 4)), frame=0), "shape", id="mask-of-other-shape"),
        pytest.param(lambda s: s.add_labels(np.zeros((48, 64), int), frame=0), "without any object", id="no-label"),
        pytest.param(lambda s: s.propagate(), "nothing was prompted", id="nothing-prompted"),
        pytest.param(lambda s: s.propagate("up"), "allowed are 'both'", id="direction"),
        pytest.param(lambda s: s.remove_object(4), "object 4 does not exist", id="no-object"),
        pytest.param(lambda s: s.remove_prompt(1, 0), "has no prompt", id="no-prompt"),
        pytest.param(lambda s: s.new_object(object_id=0), "from 1 to", id="number-0"),
        pytest.param(lambda s: s.set_overlap("sometimes"), "'overwrite'", id="overlap"),
        pytest.param(lambda s: s.paint(0, {1: np.ones((3, 3))}), "masks of shape", id="paint-shape"),
        pytest.param(lambda s: s.lock(1), "does not exist", id="lock-nothing"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_trace(session, call, match):
    before = state(session)
    with pytest.raises(PromptError, match=match):
        call(session)
    assert state(session) == before
    assert not session.can_undo


def test_bad_stacks_are_refused():
    with pytest.raises(FrameError, match="give an array"):
        Session(object())
    with pytest.raises(PromptError, match="frame axis 3"):
        Session(make_movie(3), frame_axis=3)
    with pytest.raises(PromptError, match="int32"):
        Session(make_movie(3), labels=np.zeros((3, 48, 64), np.uint8))


# ---------------------------------------------------------------------- overlap and locks
@pytest.mark.parametrize(("rule", "winner"), [("keep", 1), ("overwrite", 2)])
def test_overlap_rule_decides_who_has_a_pixel(session, rule, winner):
    session.set_overlap(rule)
    session.add_mask(square(10, 10), frame=0)
    session.add_mask(square(14, 14), frame=0)
    assert session.labels[0, 15, 15] == winner
    assert session.store.masks[3 - winner, 0].area == 64 - 16
    assert np.array_equal(session.store.composed(0), session.labels[0])


def test_locked_objects_keep_their_pixels_under_every_rule(session):
    session.add_mask(square(10, 10), frame=0)
    session.lock(1, 0)
    session.set_overlap("overwrite")
    session.add_mask(square(14, 14), frame=0)
    assert np.array_equal(session.labels[0] == 1, square(10, 10))
    with pytest.raises(PromptError, match="is locked on frame 0"):
        session.add_points([[0, 12, 12]], object_id=1)
    session.unlock(1)
    session.add_points([[0, 12, 12]], object_id=1)


def test_overlap_rule_is_taken_back_by_undo(session):
    session.set_overlap("overwrite")
    session.undo()
    assert session.settings.overlap == "keep"
    session.redo()
    assert session.settings.overlap == "overwrite"


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
        answer = session._answerer.answer

        def spy(*given):
            result = answer(*given)
            seen.append(torch.get_num_threads())
            return result

        session._answerer.answer = spy
        session.add_points([[0, 20, 15]])
        assert seen == [1]


def test_looking_ahead_leaves_less_to_do_and_changes_no_answer():
    model = make_model(native_window=24)
    with Session(make_movie(2), model=model) as plain, Session(make_movie(2), model=model) as session:
        session.look_ahead(1, (20, 15))
        wait_until(lambda: session._compute._idle is None, 10, None)
        assert session._answerer._engine is None  # nothing is loaded for it
        session.prepare()
        session.look_ahead(1, (20, 15))
        wait_until(lambda: session._compute._idle is None, 10, None)
        cache = session._answerer._engine.cache
        assert len(cache) > 0
        before = cache.misses
        session.add_points([[1, 20, 15]])
        plain.add_points([[1, 20, 15]])
        assert cache.misses == before
        assert plain._answerer._engine.cache.misses > 0
        assert np.array_equal(session.labels, plain.labels)


def test_a_model_that_sees_whole_images_does_not_look_ahead_on_a_cpu(session):
    session.prepare()
    session.look_ahead(1, (20, 15))
    wait_until(lambda: session._compute._idle is None and not session._compute.is_busy, 10, None)
    assert len(session._answerer._engine.cache) == 0


def test_change_while_tracking_ends_it_and_is_kept(session):
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    session.add_mask(square(30, 40), frame=3)
    assert not handle.is_running
    assert session.labels[3, 31, 41] == 2
    session.propagate()
    assert session.store.planes_of(1) == session.store.planes_of(2) == [0, 1, 2, 3, 4]


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


def test_removed_object_leaves_no_pixel_and_comes_back_in_its_place(session):
    for frame in range(3):
        session.add_mask(square(5 + 12 * frame, 5), frame=0)
    before = state(session)
    session.remove_object(2)
    assert 2 not in session.labels
    session.undo()
    assert state(session) == before
    assert [o.object_id for o in session.objects] == [1, 2, 3]


# ---------------------------------------------------------------------- undo
def test_objects_started_from_one_label_image_are_taken_back_together(session):
    session.add_mask(square(5, 5), frame=0, object_id=9)
    labels = np.zeros((48, 64), int)
    for number in (3, 4, 5):
        labels[8 * number : 8 * number + 6, 30:36] = number
    assert session.add_labels(labels, frame=2) == [3, 4, 5]
    after = session.labels[:].copy()
    assert session.undo()
    assert [o.object_id for o in session.store.objects.values()] == [9]
    assert session.redo()
    assert np.array_equal(session.labels[:], after)
    assert session.undo()
    assert session.undo()
    assert not session.can_undo


def test_labels_with_a_locked_object_change_nothing(session):
    session.add_mask(square(5, 5), frame=2, object_id=4)
    session.lock(4, [2])
    labels = np.zeros((48, 64), int)
    labels[20:26, 20:26], labels[30:36, 30:36] = 3, 4
    with pytest.raises(PromptError, match="locked: object 4 on frame 2"):
        session.add_labels(labels, frame=2)
    assert 3 not in session.store.objects


def test_a_handle_that_has_ended_cannot_be_cancelled_any_more(session):
    session.add_mask(square(5, 5), frame=0)
    handle = session.propagate()
    handle.cancel()
    assert not handle.is_cancelled


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


# ---------------------------------------------------------------------- other shapes, threads, models
def test_fixed_axes_choose_the_clip(model):
    movie = np.stack([make_movie(3), make_movie(3, seed=1)])
    with Session(movie, model=model, frame_axis=1) as session:
        session.add_points([[1, 0, 20, 15]])
        assert session.propagate().num_steps == 2
        assert session.labels[1].any((1, 2)).all()
        assert not session.labels[0].any()


def test_single_image_and_rgb(model):
    colours = np.repeat(make_movie(1)[0][..., None], 3, axis=-1)
    with Session(colours, model=model) as session:
        session.add_points([[20, 15]])
        assert session.labels.shape == (48, 64)
        assert session.labels.any()
        assert session.propagate().num_steps == 0


def test_latest_prompt_wins(session):
    for x in range(10, 20):
        session.set_prompt(0, Prompt(points=[[x, 20]]), object_id=1, block=False)
    session.wait_for_answers()
    quick = np.array(session.labels)
    with Session(make_movie(5), model=session.model) as slow:
        slow.add_points([[0, 20, 19]])
        assert np.array_equal(quick, slow.labels)


def test_error_of_the_model_is_told_and_asked_again(session):
    failed: list[Exception] = []
    session.failed.connect(failed.append)
    good = session.model
    session.set_model("no-such-model", prepare=False)
    with pytest.raises(ValueError, match="no-such-model"):
        session.add_points([[0, 20, 15]])
    assert len(failed) == 1
    assert session.model_state.stage == "failed"
    assert not session.is_busy
    session.set_model(good, prepare=False)
    session.wait_for_answers()
    assert session.labels.any()


def test_results_are_delivered_where_asked_for(model):
    waiting: list[object] = []

    class Delivery:
        def __call__(self, function):
            waiting.append(function)

        def process(self):
            while waiting:
                waiting.pop(0)()

    threads: set[int] = set()
    with Session(make_movie(3), model=model, deliver=Delivery()) as session:
        session.changed.connect(lambda _: threads.add(threading.get_ident()))
        session.add_points([[0, 20, 15]])
        session.propagate()
        assert session.store.planes_of(1) == [0, 1, 2]
    assert threads == {threading.get_ident()}


def test_closed_session_leaves_no_thread(model):
    before = set(threading.enumerate())
    with Session(make_movie(5), model=model) as session:
        session.add_points([[0, 20, 15]])
        session.propagate(block=False)
    assert set(threading.enumerate()) <= before
    assert session.labels.any()


def test_unreadable_frame_ends_tracking_and_keeps_the_rest(model):
    class Broken:
        shape, dtype = (5, 48, 64), np.dtype(np.uint8)

        def __init__(self):
            self.good = True

        def __getitem__(self, index):
            if index[0] == 3 and not self.good:
                raise OSError("chunk is missing")
            return make_movie(5)[index]

    stack = Broken()
    with Session(stack, model=model) as session:
        stack.good = False
        session.add_points([[0, 20, 15]])
        with pytest.raises(FrameError, match="plane 3"):
            session.propagate()
        assert session.store.planes_of(1) == [0, 1, 2]
        assert not session.is_busy
        stack.good = True
        session.propagate()
        assert session.store.planes_of(1) == [0, 1, 2, 3, 4]


def test_a_closed_session_is_read_and_saved_but_not_changed(model, tmp_path):
    session = Session(make_movie(3), model=model)
    session.add_points([[1, 20, 17]])
    labels = np.array(session.labels)
    session.close()
    for change in (
        lambda: session.add_points([[1, 30, 30]]),
        lambda: session.add_mask(square(5, 5), frame=0),
        session.propagate,
        session.new_object,
    ):
        with pytest.raises(PromptError, match="the session was closed"):
            change()
    session.wait_for_answers()
    assert np.array_equal(session.labels, labels)
    assert session.save(tmp_path / "kept.sam2").exists()


def test_closing_ends_a_wait_for_answers(model):
    session = Session(make_movie(3), model=model)
    release = threading.Event()
    session._compute.submit(Job(release.wait, lambda _: None))
    session.add_points([[1, 20, 17]], block=False)
    waiting = threading.Thread(target=session.wait_for_answers, daemon=True)
    waiting.start()
    closing = threading.Thread(target=session.close, daemon=True)
    closing.start()
    waiting.join(5)
    release.set()
    closing.join(5)
    assert not waiting.is_alive()
    assert not closing.is_alive()


@pytest.mark.parametrize("frame", [1.5, True, "1"])
def test_frames_of_masks_are_whole_numbers(session, frame):
    with pytest.raises(PromptError, match="frames 0 to 4"):
        session.add_mask(square(5, 5), frame=frame)


def test_a_box_beside_the_image_is_named_as_it_was_given(session):
    with pytest.raises(PromptError, match=r"from y=500, x=501 to y=600, x=601 lies outside the image of 64 x 48"):
        session.add_box([[1, 500, 501], [1, 600, 601]])


def test_what_has_no_mask_yet_is_not_tracked(model):
    with Session(make_movie(3), model=model) as session:
        release = threading.Event()
        session._compute.submit(Job(release.wait, lambda _: None))
        session.add_points([[1, 20, 17]], block=False)
        with pytest.raises(PromptError, match="no prompt has its mask"):
            objects_to_track(session.store, None)
        session.add_mask(square(5, 5), frame=0, block=False)
        assert objects_to_track(session.store, None) == [2]
        release.set()
        session.wait_for_answers()
        assert objects_to_track(session.store, None) == [1, 2]
