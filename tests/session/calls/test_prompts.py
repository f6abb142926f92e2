"""The session itself: prompts become masks, and every change can be taken back exactly."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image
from session_tools import square, state

from factories import make_model, make_movie
from napari_sam2 import FrameError, Prompt, PromptError
from napari_sam2.session.results.export import export_labels
from napari_sam2.session.session import Session
from napari_sam2.session.worker.compute_thread import Job
from napari_sam2.session.worker.delivery import wait_until


# ---------------------------------------------------------------------- prompts
def test_click_gives_a_mask_and_its_scores(session):
    number = session.add_points([[1, 20, 17]])
    assert number == 1
    assert set(np.unique(session.labels[1])) - {0} == {1}
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


def test_objects_are_listed_by_number(session):
    session.add_points([[1, 20, 17]], object_id=5)
    session.add_points([[1, 4, 4]], object_id=2)
    assert [each.object_id for each in session.objects] == [2, 5]


def test_candidates_go_round(session):
    session.add_points([[1, 20, 17]])
    seen = [session.next_candidate(1, 1, block=True) for _ in range(3)]
    assert seen == [1, 2, 0]
    with pytest.raises(PromptError, match="only a single click"):
        session.next_candidate(1, 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        pytest.param(
            lambda s: s.add_points([[9, 1, 1]]), "position 9 on axis 0 is outside the image", id="no-such-frame"
        ),
        pytest.param(lambda s: s.add_points([[0, 99, 1]]), "outside the image", id="outside"),
        pytest.param(lambda s: s.add_points([[0, 1, 1], [1, 1, 1]]), "frames, such as 0 and 1;", id="two-planes"),
        pytest.param(lambda s: s.add_points([[1, 1]]), "rows of 3", id="two-coordinates"),
        pytest.param(lambda s: s.add_points([[0, np.nan, 1]]), "NaN", id="nan"),
        pytest.param(lambda s: s.add_box([[0, 1, 1]]), "two or four", id="one-corner"),
        pytest.param(lambda s: s.add_mask(np.zeros((48, 64)), frame=0), "empty mask", id="empty-mask"),
        pytest.param(lambda s: s.add_mask(square(1, 1)), "without its frame", id="no-frame"),
        pytest.param(lambda s: s.add_mask(np.ones((4, 4)), frame=0), "shape", id="mask-of-other-shape"),
        pytest.param(lambda s: s.add_labels(np.zeros((48, 64), int), frame=0), "without any object", id="no-label"),
        pytest.param(lambda s: s.propagate(), "nothing was prompted", id="nothing-prompted"),
        pytest.param(lambda s: s.propagate("up"), "expected 'forward', 'backward' or 'both'", id="direction"),
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
    with pytest.raises(FrameError, match="expected a path, an array"):
        Session(object())
    with pytest.raises(PromptError, match="frame axis 3"):
        Session(make_movie(3), frame_axis=3)
    with pytest.raises(PromptError, match="int32"):
        Session(make_movie(3), labels=np.zeros((3, 48, 64), np.uint8))


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
        lambda: session.rename(1, "other"),
        lambda: session.set_class(1, "cell"),
        lambda: session.set_visible(1, False),
        lambda: session.show_only(None),
        lambda: session.lock(1),
        lambda: session.unlock(1),
    ):
        with pytest.raises(PromptError, match="the session is closed"):
            change()
    session.wait_for_answers()
    assert np.array_equal(session.labels, labels)
    assert [each.name for each in session.objects] == ["object 1"]
    assert session.save(tmp_path / "kept.sam2").exists()


def test_closing_without_waiting_frees_the_model_once_the_step_under_way_ends(model):
    session = Session(make_movie(3), model=model)
    session.add_points([[1, 20, 17]])
    keeper, release, has_begun = session._engine_keeper, threading.Event(), threading.Event()
    session._compute.submit(Job(lambda: has_begun.set() or release.wait(60), lambda _: None))
    assert has_begun.wait(60)  # closing drops what has not begun
    session.close(timeout=0)
    assert keeper._engine is not None
    release.set()
    wait_until(lambda: keeper._engine is None, 60, None)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_timeout_that_is_no_time_is_refused(model, timeout):
    session = Session(make_movie(3), model=model)
    with pytest.raises(PromptError, match="timeout"):
        session.close(timeout=timeout)
    session.close()


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
    with pytest.raises(PromptError, match=r"^frame=.* expected an integer"):
        session.add_mask(square(5, 5), frame=frame)


def test_a_box_beside_the_image_is_named_as_it_was_given(session):
    with pytest.raises(PromptError, match=r"from y=500, x=501 to y=600, x=601 lies outside the image of 64 x 48"):
        session.add_box([[1, 500, 501], [1, 600, 601]])


# ---------------------------------------------------------------------- labels of any type
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, ">u2", np.float32, np.float64])
def test_labels_of_every_number_type_are_taken(session, dtype):
    image = np.zeros((48, 64), dtype)
    image[2:8, 2:8] = 1
    assert session.add_labels(image, frame=0) == [1]
    assert np.array_equal(session.labels[0] == 1, image == 1)


def test_large_ids_are_renumbered_and_masks_split_with_a_warning(session):
    image = np.zeros((48, 64), np.int64)
    image[2:8, 2:8], image[20:30, 20:30] = 2**33, 1
    with pytest.warns(UserWarning, match="8589934592 is now 2"):
        assert session.add_labels(image, frame=0) == [1, 2]
    with pytest.warns(UserWarning, match="split into 2 connected components"):
        assert session.add_labels(np.where(image, 255, 0).astype(np.uint8), frame=1) == [1, 2]
    with pytest.raises(PromptError, match="not whole numbers"):
        session.add_labels(image + 0.5, frame=2)


def test_labels_of_a_stack_start_objects_on_each_of_their_planes(session):
    stack = np.zeros(session.geometry.shape, np.uint16)
    stack[1, 2:8, 2:8], stack[3, 4:10, 4:10] = 5, 5
    assert session.add_labels(stack) == [5]
    assert sorted(session.store.prompts_of(5)) == [1, 3]
    assert session.add_labels(stack, frame=3) == [5]
    with pytest.raises(PromptError, match="expected"):
        session.add_labels(stack[:2])


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json", ".tif", ".ome.zarr"])
def test_labels_of_volumes_over_time_come_back_from_files_where_they_were(tmp_path, suffix):
    volumes = np.random.default_rng(0).integers(0, 900, (2, 3, 40, 50)).astype(np.uint16)
    made, other = Session(volumes, model=make_model()), Session(volumes, model=make_model())
    for plane in (3, 2):  # (t, z) = (1, 0) and (0, 2), neither of which is beyond the first along both axes
        made.add_mask(square(5 * plane, 4, hw=(40, 50)), frame=plane)
    export_labels(made, tmp_path / f"a{suffix}")
    other.add_labels(tmp_path / f"a{suffix}")
    assert np.array_equal(other.labels, made.labels)
    made.close()
    other.close()


def test_labels_are_read_from_files(session, tmp_path):
    image = np.zeros((48, 64), np.uint8)
    image[2:8, 2:8], image[20:30, 20:30] = 7, 3
    picture = Image.fromarray(image).convert("P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "labels.png")
    assert session.add_labels(tmp_path / "labels.png", frame=1) == [3, 7]
    np.save(tmp_path / "a_seg.npy", {"masks": image.astype(np.uint16)})
    assert session.add_labels(str(tmp_path / "a_seg.npy"), frame=2) == [3, 7]
    assert np.array_equal(session.labels[2], image)
    with pytest.raises(FrameError, match="does not exist"):
        session.add_labels("missing.tif", frame=2)
