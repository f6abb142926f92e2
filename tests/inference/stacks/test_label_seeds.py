"""Labels in, tracked labels out: which seeds are read, what is kept, what is reported."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from factories import make_model, make_movie
from napari_sam2 import PromptError
from napari_sam2.inference.stacks.label_seeds import segment_seeds
from napari_sam2.inference.stacks.seed_tracking import plan_groups
from oracle import OracleTracker, moving_squares, paint


def track(labels, frames=None, *, truth=None, **over):
    truth = moving_squares() if truth is None else truth
    over = {"segmenter": OracleTracker(truth)} | over
    return segment_seeds(paint(truth), labels, frames, **over)


def test_ids_are_kept_and_every_frame_is_filled():
    truth = moving_squares()
    seeds = np.choose(truth[2], [0, 70, 5, 9, 0]).astype(np.uint16)
    labels, report = track(seeds, 2)
    np.testing.assert_array_equal(labels, np.choose(truth, [0, 70, 5, 9, 0]))
    assert labels.dtype == np.int32
    assert [t.object_id for t in report.tracks] == [5, 9, 70]
    assert report.is_complete


def test_report_tells_who_was_lost_who_appeared_and_who_was_never_found():
    truth = moving_squares()
    seeds = truth[3].copy()
    seeds[30:34, 2:5] = 8  # background in truth: nothing to follow
    report = track(seeds, 3).report
    assert report.lost == {3: 4, 8: 3}
    assert report.appeared == {8: 3}
    assert report.not_found == (8,)
    by_id = {t.object_id: t for t in report.tracks}
    assert by_id[3].seed_frames == (3,)
    assert (by_id[3].first_frame, by_id[3].last_frame, by_id[3].num_frames, by_id[3].num_tracked) == (0, 4, 5, 4)
    assert by_id[1].mean_score == pytest.approx(0.8)
    assert np.isnan(by_id[8].mean_score)


def test_blank_frames_are_reported_as_skipped():
    movie, seeds = make_movie(6), np.zeros((48, 64), int)
    seeds[14:27, 10:24], movie[2:4] = 1, 0
    report = segment_seeds(movie, seeds, 0, model=make_model(native_window=24, follows_last_mask=True)).report
    assert report.skipped == (2, 3)


def test_object_that_appears_is_reported():
    assert track(moving_squares()[8], 8).report.appeared == {4: 6}


@pytest.mark.parametrize(
    ("labels", "frames", "seeded"),
    [
        pytest.param(moving_squares()[3], 3, {1: (3,), 2: (3,), 3: (3,)}, id="one-image"),
        pytest.param(moving_squares()[[3, 8]], [3, 8], {1: (3, 8), 2: (3, 8), 3: (3,), 4: (8,)}, id="two-planes"),
        pytest.param(moving_squares(), [0, 6], {1: (0, 6), 2: (0, 6), 3: (0,), 4: (6,)}, id="two-of-all-planes"),
        pytest.param({5: moving_squares()[5]}, None, {1: (5,), 2: (5,)}, id="mapping"),
        pytest.param(da.from_array(moving_squares()), 11, {1: (11,), 2: (11,), 4: (11,)}, id="dask"),
        pytest.param(
            np.where(np.arange(12)[:, None, None] == 4, moving_squares(), 0),
            None,
            {1: (4,), 2: (4,), 3: (4,)},
            id="all",
        ),
    ],
)
def test_seeds_are_read_from(labels, frames, seeded):
    report = track(labels, frames).report
    assert {t.object_id: t.seed_frames for t in report.tracks} == seeded


@pytest.mark.parametrize(
    ("labels", "frames", "message"),
    [
        pytest.param(np.ones((40, 40), int), None, "index of its frame", id="no-frame"),
        pytest.param(np.ones((40, 41), int), 2, r"\(40, 41\)", id="shape"),
        pytest.param(np.ones((40, 40)), 2, "float64", id="float"),
        pytest.param(np.full((40, 40), -1), 2, "-1", id="negative"),
        pytest.param(np.ones((40, 40), int), 12, "0 to 11", id="frame-outside"),
        pytest.param(np.ones((3, 40, 40), int), [1, 2], "3 label images", id="planes-and-frames"),
        pytest.param(np.ones((2, 40, 40), int), [1, 1], "once", id="twice"),
        pytest.param({1: np.ones((40, 40), int)}, 1, "frames=", id="mapping-and-frames"),
        pytest.param(np.zeros((40, 40), int), 2, "no label", id="empty"),
        pytest.param(np.ones((1, 2, 40, 40), int), 2, r"\(1, 2, 40, 40\)", id="four-dimensions"),
    ],
)
def test_bad_seeds_are_refused_before_any_tracking(labels, frames, message):
    tracker = OracleTracker(moving_squares())
    with pytest.raises(PromptError, match=message):
        track(labels, frames, segmenter=tracker)
    assert tracker.tracked_frames == []


@pytest.mark.parametrize(
    ("over", "message"),
    [
        pytest.param({"give_up_after": 0}, "give_up_after=0", id="give-up"),
        pytest.param({"min_score": -1}, "min_score=-1", id="score"),
        pytest.param({"min_area_px": 0}, "min_area_px=0", id="area"),
        pytest.param({"start": 5, "stop": 5}, "0 <= start < stop <= 12", id="no-frame"),
    ],
)
def test_bad_values_are_refused(over, message):
    with pytest.raises(PromptError, match=message):
        track(moving_squares()[2], 2, **over)


def test_small_labels_are_no_seeds():
    seeds = moving_squares()[2]
    seeds[0, 0] = 17
    assert [t.object_id for t in track(seeds, 2, min_area_px=2).report.tracks] == [1, 2, 3]


def test_doubtful_masks_count_as_not_seen_but_seeds_stay():
    truth = moving_squares()
    labels, report = track(truth[2], 2, segmenter=OracleTracker(truth, iou_score=0.3), min_score=0.5)
    np.testing.assert_array_equal(labels[2], truth[2])
    assert not labels[[0, 1, 3, 11]].any()
    assert report.not_found == (1, 2, 3)


def test_groups_of_one_give_the_same_labels():
    truth = moving_squares()
    tracker = OracleTracker(truth)
    labels = track(truth[3], 3, segmenter=tracker, memory_bytes=1).labels
    np.testing.assert_array_equal(labels, track(truth[3], 3).labels)
    assert {len(ids) for _, ids in tracker.tracked_frames} == {1}


def test_objects_not_seen_for_long_are_given_up_in_that_direction_only():
    truth, tracker = moving_squares(), OracleTracker(moving_squares())
    labels, report = track(truth[3], 3, segmenter=tracker, give_up_after=2)
    np.testing.assert_array_equal(labels, track(truth[3], 3).labels)
    # object 3 is gone from frame 5 on: sought on 5 and 6, and on all frames backwards
    assert [frame for frame, ids in tracker.tracked_frames if 3 in ids] == [3, 4, 5, 6, 2, 1, 0]
    assert report.lost == {3: 4}


def test_objects_seeded_on_several_frames_are_not_given_up():
    truth = moving_squares()
    truth[6:9][truth[6:9] == 1] = 0  # hidden for three frames
    seeds = {3: truth[3], 11: np.where(truth[11] == 1, 1, 0)}
    labels = track(seeds, truth=truth, give_up_after=1).labels
    np.testing.assert_array_equal(labels == 1, truth == 1)


def test_network_drops_lost_objects_and_tracks_the_others():
    seeds = np.zeros((48, 64), np.uint8)
    seeds[14:26, 12:22], seeds[26:34, 44:52] = 3, 8
    tracked = segment_seeds(make_movie(5), seeds, 2, model=make_model(), min_score=1.0, give_up_after=1)
    np.testing.assert_array_equal(tracked.labels[2], seeds)
    assert not tracked.labels[[0, 1, 3, 4]].any()


def test_groups_by_frame():
    frames_of = {1: [0], 2: [4], 3: [0, 4], 4: [0]}
    assert plan_groups(frames_of, 1, 10**6, one_frame_each=True) == [[1, 4], [2], [3]]


def test_groups_hold_what_fits():
    frames_of = {1: [0], 2: [0], 3: [0, 5], 4: [2]}
    assert plan_groups(frames_of, 100, 10**6) == [[1, 2, 3, 4]]
    groups = plan_groups(frames_of, 100, 3100)
    assert sorted(i for group in groups for i in group) == [1, 2, 3, 4]
    assert max(len(group) for group in groups) == 2


def test_output_may_be_a_zarr_array_and_only_the_asked_frames_are_filled(tmp_path):
    truth = moving_squares()
    out = zarr.create_array(tmp_path / "out.zarr", shape=truth.shape, chunks=(1, 40, 40), dtype="int32")
    tracked = track(truth[3], 3, out=out, start=2, stop=7)
    assert tracked.labels is out
    expected = np.where(np.isin(truth, [1, 2, 3]), truth, 0)
    np.testing.assert_array_equal(out[2:7], expected[2:7])
    assert not out[:2].any()
    assert not out[7:].any()
    assert tracked.report.frames == range(2, 7)


def test_cancelling_keeps_finished_frames():
    truth, done = moving_squares(), []
    tracked = track(
        truth[3],
        3,
        on_progress=lambda stage, n, total: done.append((stage, n, total)),
        should_stop=lambda: len(done) == 5,
    )
    assert done[-1] == ("tracking", 5, 3 + 9 + 3)  # three prompts, frames 3 to 11, frames 2 to 0
    assert not tracked.report.is_complete
    np.testing.assert_array_equal(tracked.labels[[3, 4]], np.where(truth == 4, 0, truth)[[3, 4]])
    assert not tracked.labels[[0, 1, 2, 5]].any()


def test_network_keeps_the_drawn_masks():
    movie = make_movie(4)
    seeds = np.zeros(movie.shape[1:], np.uint8)
    seeds[14:26, 12:22], seeds[26:34, 44:52] = 3, 200
    tracked = segment_seeds(movie, seeds, 1, model=make_model())
    np.testing.assert_array_equal(tracked.labels[1], seeds)
    assert set(np.unique(tracked.labels)) <= {0, 3, 200}
    assert [t.object_id for t in tracked.report.tracks] == [3, 200]


def test_a_seed_of_one_pixel_is_tracked_without_an_error():
    seeds = np.zeros((48, 64), int)
    seeds[20, 30] = 1
    tracked = segment_seeds(make_movie(3), seeds, 0, model=make_model())
    assert tracked.labels[0].sum() == 1
    assert tracked.report.tracks[0].seed_frames == (0,)
