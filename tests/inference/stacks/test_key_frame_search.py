"""Stacks without clicks: key frames, joining of tracks, new objects, stopping."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from factories import make_model, make_movie
from napari_sam2 import FrameError, PromptError, SAM2AutomaticMaskGenerator, open_frames
from napari_sam2.inference.automatic.record_filters import filter_records
from napari_sam2.inference.stacks.key_frame_search import segment_stack
from napari_sam2.inference.stacks.key_frames import choose_key_frames
from napari_sam2.inference.stacks.settings import KeySpacingSettings, StackSettings
from napari_sam2.inference.stacks.track_extension import extensions, paint_extension
from napari_sam2.inference.stacks.tracklets import JoinRules, TrackletJoiner
from napari_sam2.labels.evaluation import average_precision
from oracle import OracleFinder, OracleTracker, moving_squares, paint


def segment(truth=None, **over):
    truth = moving_squares() if truth is None else truth
    over = {"finder": OracleFinder(), "segmenter": OracleTracker(truth), "every": 4} | over
    return segment_stack(paint(truth), **over)


def test_every_object_gets_one_number_for_all_frames():
    truth = moving_squares()
    labels, report = segment()
    assert average_precision(truth, labels, [1.0]).at(1.0).average_precision == 1
    assert [t.object_id for t in report.tracks] == [1, 2, 3, 4]
    assert report.is_complete
    # key frames 2, 6, 10: objects 1 and 2 are found three times, 3 once, 4 twice
    assert [t.seed_frames for t in report.tracks] == [(2, 6, 10), (2, 6, 10), (2,), (6, 10)]
    assert report.num_merged == 2 + 2 + 1


def test_the_spacing_of_key_frames_follows_the_settings():
    def seeds(**rules: int) -> set[int]:
        settings = StackSettings(key_spacing=KeySpacingSettings(**rules))
        return {frame for track in segment(every=None, settings=settings).report.tracks for frame in track.seed_frames}

    close, far = sorted(seeds(min_spacing=1, max_spacing=2)), sorted(seeds(min_spacing=6, max_spacing=6))
    assert max(np.diff(close)) <= 2
    assert min(np.diff(far)) >= 5


class Damaged:
    """A stack of which some frames cannot be read."""

    def __init__(self, movie: np.ndarray, *damaged: int) -> None:
        self._frames, self._damaged = open_frames(movie), damaged
        self.shape, self.key = self._frames.shape, "damaged"

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> np.ndarray:
        if frame in self._damaged:
            raise FrameError(f"frame {frame} is damaged")
        return self._frames[frame]


@pytest.mark.parametrize(("damaged", "keys"), [((2,), [1, 6, 10]), ((6, 5), [2, 7, 10]), ((10, 11, 9, 8, 7), [2, 6])])
def test_a_key_frame_that_cannot_be_read_is_replaced_by_the_next_one(damaged, keys, caplog):
    truth = moving_squares()
    stack = Damaged(paint(truth), *damaged)
    found = segment_stack(stack, finder=OracleFinder(), segmenter=OracleTracker(truth), every=4, split_stacked=False)
    assert found.report.is_complete
    assert found.report.tracks[0].seed_frames == tuple(keys)
    assert f"key frame {damaged[0]} cannot be read" in caplog.text
    np.testing.assert_array_equal(found.labels > 0, truth > 0)
    assert len(found.report.tracks) == 4


def test_a_stack_of_which_no_key_frame_can_be_read_is_refused():
    truth = moving_squares()
    with pytest.raises(FrameError, match="frame 2 is damaged"):
        segment_stack(Damaged(paint(truth), *range(12)), finder=OracleFinder(), segmenter=OracleTracker(truth), every=4)


@pytest.mark.parametrize("damaged", [(6,), (6, 3, 9)])
def test_the_distance_of_key_frames_is_measured_on_frames_that_can_be_read(damaged):
    truth = moving_squares()
    movie = Damaged(paint(truth), *damaged)
    found = segment_stack(movie, finder=OracleFinder(), segmenter=OracleTracker(truth), split_stacked=False)
    assert found.report.is_complete
    assert found.labels.any()


def test_new_object_of_a_later_key_frame_is_followed_back_to_its_beginning():
    truth = moving_squares()
    labels, report = segment(key_frames=[1, 11])
    assert report.appeared == {4: 6}
    np.testing.assert_array_equal(labels == 4, truth == 4)


def test_object_missed_on_one_key_frame_keeps_its_number():
    truth = moving_squares(20)

    class SometimesBlind(OracleFinder):
        def generate_masks(self, image, *, progress=None):
            records = super().generate_masks(image, progress=progress)
            return records[1:] if len(self.shapes) == 2 else records

    labels, report = segment(truth[:, :, :40], finder=SometimesBlind(), key_frames=[2, 7, 12])
    assert len(np.unique(labels[truth == 1])) == 1
    assert report.tracks[0].seed_frames == (2, 12)


@pytest.mark.parametrize(("extend", "expected"), [(True, range(20)), (False, range(4, 13))])
def test_object_found_on_one_key_frame_only_is_followed_to_its_ends(extend, expected):
    truth = np.zeros((20, 30, 40), np.int32)
    truth[:, 3:12, 3:12], truth[:, 15:25, 20:30] = 1, 2

    class BlindToTheSecond(OracleFinder):
        def generate_masks(self, image, *, progress=None):
            records = super().generate_masks(image, progress=progress)
            return records if len(self.shapes) == 3 else records[:1]

    labels, report = segment(truth, finder=BlindToTheSecond(), key_frames=[0, 4, 8, 12, 16], extend=extend)
    np.testing.assert_array_equal(labels == 2, (truth == 2) & np.isin(np.arange(20), expected)[:, None, None])
    assert [t.seed_frames for t in report.tracks] == [(0, 4, 8, 12, 16), (8,)]


def test_object_that_is_gone_is_not_followed_again():
    truth = moving_squares()
    tracker = OracleTracker(truth)
    labels, _ = segment(segmenter=tracker, key_frames=[2, 4, 8])
    np.testing.assert_array_equal(labels == 3, truth == 3)
    # found on 2 and 4, followed from 4 to 8; nothing is followed beyond 8 but what was found there
    assert len(tracker.tracked_frames) == 5 + 7 + 8


def test_extension_does_not_run_over_other_objects():
    labels, tracked = np.zeros((3, 8, 20), np.int32), np.zeros((3, 8, 20), np.int32)
    labels[:, :, :10] = 1
    tracked[1:, :, 4:10], tracked[1:, :, 8:18] = 2, 3
    assert list(paint_extension(labels, tracked, range(1, 3), max_claimed=0.5)) == [3]
    assert (labels[:, :, :10] == 1).all()
    assert (labels[1:, :, 10:18] == 3).all()
    assert not labels[0, :, 10:].any()


@pytest.mark.parametrize(
    ("keys", "num_frames", "expected"),
    [
        pytest.param([3], 8, [], id="one-key-frame"),
        pytest.param([2, 6], 10, [(6, 7, range(7, 10)), (2, 1, range(2))], id="two"),
        pytest.param(
            [0, 4, 9],
            10,
            [(4, 5, range(5, 10)), (4, 3, range(4))],
            id="key-frames-at-the-ends",
        ),
        pytest.param(
            [1, 4, 7],
            10,
            [(4, 5, range(5, 8)), (7, 8, range(8, 10)), (4, 3, range(1, 4)), (1, 0, range(1))],
            id="three",
        ),
    ],
)
def test_stretches_beyond_key_frames(keys, num_frames, expected):
    assert extensions(keys, num_frames) == expected


def test_masks_of_key_frames_are_chosen():
    labels, report = segment(keep=lambda records: filter_records(records, min_area=50))
    assert len(report.tracks) == 3  # object 3 has 42 pixels
    assert not labels[moving_squares() == 3].any()


def test_nothing_found_gives_empty_labels_and_an_empty_report():
    labels, report = segment(finder=OracleFinder(blind_to=lambda _: True))
    assert not labels.any()
    assert report.tracks == ()
    assert report.is_complete


def test_output_may_be_a_zarr_array(tmp_path):
    truth = moving_squares()
    out = zarr.create_array(tmp_path / "out.zarr", shape=truth.shape, chunks=(1, 40, 40), dtype="int32")
    assert segment(out=out).labels is out
    np.testing.assert_array_equal(out[:], segment().labels)


@pytest.mark.parametrize(
    ("stage", "steps", "expected"), [("detecting objects", 2, 1), ("tracking", 2, 1), ("tracking", 4, 2)]
)
def test_cancelling_keeps_what_is_finished(stage, steps, expected):
    truth, seen = moving_squares(), []
    labels, report = segment(
        on_progress=lambda what, done, total: seen.append(what),
        should_stop=lambda: seen[-1] == f"key frame 6 (2 of 3): {stage}" and seen.count(seen[-1]) == steps,
    )
    assert not report.is_complete
    np.testing.assert_array_equal(labels[:7][truth[:7] == 1], 1)
    assert max(len(t.seed_frames) for t in report.tracks) == expected
    assert not labels[9:].any()


@pytest.mark.parametrize(
    ("num_frames", "every", "key_frames", "expected"),
    [
        pytest.param(12, 4, None, [2, 6, 10], id="every"),
        pytest.param(3, 10, None, [1], id="short-stack"),
        pytest.param(1, 10, None, [0], id="one-frame"),
        pytest.param(4, 1, None, [0, 1, 2, 3], id="all"),
        pytest.param(12, 4, [9, 0, 9], [0, 9], id="given"),
    ],
)
def test_key_frames(num_frames, every, key_frames, expected):
    assert choose_key_frames(num_frames, every, key_frames) == expected


@pytest.mark.parametrize(
    ("over", "message"),
    [
        pytest.param({"every": 0}, "every=0", id="every"),
        pytest.param({"key_frames": [3, 12]}, "0 to 11", id="key-frame"),
        pytest.param({"key_frames": []}, "0 to 11", id="no-key-frame"),
        pytest.param({"min_iou": 0}, "min_iou=0", id="iou"),
        pytest.param({"min_score": 2}, "min_score=2", id="score"),
        pytest.param({"memory_bytes": 0}, "memory_bytes=0", id="memory"),
        pytest.param({"every": "2"}, "every='2'", id="text"),
        pytest.param({"key_frames": 3}, "key_frames=3", id="key-frame-number"),
        pytest.param({"min_iou": "x"}, "min_iou='x'", id="text-iou"),
        pytest.param({"min_containment": np.nan}, "min_containment=nan", id="nan"),
    ],
)
def test_bad_values_are_refused(over, message):
    with pytest.raises(PromptError, match=message):
        segment(**over)


class TestJoiner:
    """Two key frames, 0 and 4, and what their tracks make of five frames."""

    def join(self, first: np.ndarray, second: np.ndarray, **rules: float) -> tuple[np.ndarray, TrackletJoiner]:
        labels = np.zeros((5, 8, 20), np.int32)
        joiner = TrackletJoiner(labels, JoinRules(**rules))
        joiner.join(first, range(5), 0)
        joiner.join(second, range(5), 4)
        return labels, joiner

    def track(self, x0: int, x1: int, number: int = 1, frames: range = range(5)) -> np.ndarray:
        planes = np.zeros((5, 8, 20), np.int32)
        planes[frames.start : frames.stop, :, x0:x1] = number
        return planes

    def test_matching_tracks_are_merged_and_the_nearer_key_frame_takes_precedence(self):
        labels, joiner = self.join(self.track(0, 10), self.track(2, 12))
        assert joiner.seed_frames == {1: [0, 4]}
        assert (labels[:3] == self.track(0, 10)[:3]).all()
        assert (labels[3:, :, 2:12] == 1).all()
        assert not labels[3:, :, 12:].any()

    def test_tracks_that_both_end_between_the_key_frames_are_two_objects_on_each_other(self):
        labels, joiner = self.join(self.track(0, 10, frames=range(3)), self.track(0, 10, 3, range(2, 5)))
        assert joiner.seed_frames == {1: [0], 2: [4]}
        assert labels[:, 0, 0].tolist() == [1, 1, 1, 2, 2]

    @pytest.mark.parametrize("begin", [1, 2, 3])
    def test_one_track_across_the_gap_is_enough(self, begin):
        _, joiner = self.join(self.track(0, 10), self.track(0, 10, 3, range(begin, 5)))
        assert joiner.seed_frames == {1: [0, 4]}

    @pytest.mark.parametrize(("last", "is_one"), [(4, True), (3, False)])
    def test_object_missed_on_a_key_frame_is_itself_again_if_it_reached_that_frame(self, last, is_one):
        def frames(begin: int, end: int) -> np.ndarray:
            planes = np.zeros((9, 8, 20), np.int32)
            planes[begin:end, :, :10] = 1
            return planes

        joiner = TrackletJoiner(np.zeros((9, 8, 20), np.int32), JoinRules())
        joiner.join(frames(0, last + 1), range(5), 0)
        joiner.join(frames(0, 0), range(9), 4)
        joiner.join(frames(3, 9), range(4, 9) if is_one else range(3, 9), 8)
        assert (joiner.seed_frames == {1: [0, 8]}) == is_one

    def test_different_tracks_are_two_objects(self):
        labels, joiner = self.join(self.track(0, 10), self.track(8, 18))
        assert joiner.seed_frames == {1: [0], 2: [4]}
        assert set(np.unique(labels)) == {0, 1, 2}

    def test_part_of_an_object_is_not_a_new_object(self):
        labels, joiner = self.join(self.track(0, 16), self.track(1, 6))
        assert joiner.seed_frames == {1: [0, 4]}
        assert set(np.unique(labels)) == {0, 1}

    def test_a_merge_error_becomes_separate_objects(self):
        labels, joiner = self.join(self.track(0, 20), self.track(0, 8) + self.track(10, 18, 2))
        assert joiner.seed_frames == {1: [0], 2: [4], 3: [4]}
        assert (labels[:3] == 1).all()
        assert (labels[3:, :, :8] == 2).all()
        assert (labels[3:, :, 10:18] == 3).all()

    def test_track_over_several_objects_is_left_out(self):
        two = self.track(0, 8) + self.track(9, 17, 2)
        labels, joiner = self.join(two, self.track(0, 17))
        assert joiner.seed_frames == {1: [0], 2: [0]}
        np.testing.assert_array_equal(labels, two)


def test_network_and_generator_work_together():
    model = make_model()
    finder = SAM2AutomaticMaskGenerator(
        model, points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0, output_mode="coco_rle"
    )
    labels, report = segment_stack(make_movie(4), model=model, every=2, finder=finder)
    assert labels.shape == (4, 48, 64)
    assert report.is_complete
    numbers = [t.object_id for t in report.tracks]
    assert numbers
    assert set(np.unique(labels)) - {0} <= set(numbers)
