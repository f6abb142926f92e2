"""Scores of tracks on small cases with a known answer, and objects linked over time."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_sam2 import FrameError, LabelledTracks, tracks_of_labels
from napari_sam2._errors import PromptError
from napari_sam2.labels.time_linking import TimeLinkingSettings, link_frames
from napari_sam2.labels.track_evaluation import evaluate_tracks


def movie(num_frames: int = 8, division: int | None = 4) -> LabelledTracks:
    """Object 9 stays; object 1 divides into 2 and 3 on a frame, or goes on."""
    labels = np.zeros((num_frames, 40, 60), np.int32)
    for t in range(num_frames):
        labels[t, 30:36, 40:46] = 9
        if division is None or t < division:
            labels[t, 10:18, 10:20] = 1
        else:
            labels[t, 10:18, 9:14], labels[t, 10:18, 16:21] = 2, 3
    return LabelledTracks(labels, tracks_of_labels(labels, {} if division is None else {2: 1, 3: 1}))


# ---------------------------------------------------------------------- scores
def test_the_truth_itself_has_full_scores():
    pytest.importorskip("ctc_metrics")
    scores = evaluate_tracks(movie(), movie())
    assert (scores.seg, scores.det, scores.lnk, scores.tra, scores.idf1) == (1, 1, 1, 1, 1)
    assert (scores.num_divisions, scores.division_f1) == (1, 1)


def test_a_missing_object_costs_what_the_challenge_says():
    pytest.importorskip("ctc_metrics")
    truth = movie(division=None)
    labels = np.where((truth.labels == 9) & (np.arange(8) >= 4)[:, None, None], 0, truth.labels)
    scores = evaluate_tracks(truth, LabelledTracks(labels, tracks_of_labels(labels)))
    assert scores.seg == pytest.approx(12 / 16)
    assert scores.det == pytest.approx(12 / 16)  # 4 of 16 vertices have to be added, at 10 each
    assert scores.lnk == pytest.approx(10 / 14)  # 4 of 14 edges
    assert scores.tra == pytest.approx(1 - (4 * 10 + 4 * 1.5) / (16 * 10 + 14 * 1.5))
    assert np.isnan(scores.division_f1)


@pytest.mark.parametrize(("late", "tolerance", "f1"), [(1, 0, 0.0), (1, 1, 1.0), (2, 1, 0.0)])
def test_divisions_may_be_late_by_the_tolerance(late, tolerance, f1):
    pytest.importorskip("ctc_metrics")
    assert evaluate_tracks(movie(), movie(division=4 + late), tolerance=tolerance).division_f1 == f1


def test_tracks_without_parents_have_no_division():
    pytest.importorskip("ctc_metrics")
    found = LabelledTracks(movie().labels, tracks_of_labels(movie().labels))
    assert evaluate_tracks(movie(), found).division_f1 == 0
    assert evaluate_tracks(movie(), found).lnk < 1
    nothing = np.zeros_like(found.labels)
    assert evaluate_tracks(movie(), LabelledTracks(nothing, tracks_of_labels(nothing))).tra == 0


def test_other_shapes_and_a_missing_library_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctc_metrics.scripts.evaluate", None)
    with pytest.raises(FrameError, match=r"pip install 'napari-sam2\[metrics\]'"):
        evaluate_tracks(movie(), movie())
    monkeypatch.undo()
    pytest.importorskip("ctc_metrics")
    with pytest.raises(FrameError, match="a truth of shape"):
        evaluate_tracks(movie(), movie(7))


# ---------------------------------------------------------------------- linking
def shuffled(given: LabelledTracks) -> np.ndarray:
    """The same masks with other numbers on each frame."""
    rng = np.random.default_rng(0)
    return np.stack([np.concatenate(([0], 1 + rng.permutation(200)))[frame] for frame in given.labels]).astype(np.int32)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_linking_finds_objects_and_divisions_again(num_axes):
    pytest.importorskip("laptrack")
    truth = movie()
    labels = shuffled(truth)
    if num_axes == 3:
        labels = np.stack([labels] * 4, axis=1)
    found = link_frames(labels)
    assert np.array_equal(found.labels > 0, labels > 0)
    spans = sorted(found.tracks.spans().values())
    assert spans == [(0, 3), (0, 7), (4, 7), (4, 7)]
    (daughters,) = found.tracks.daughters().values()
    assert [found.tracks.spans()[i] for i in daughters] == [(4, 7), (4, 7)]


def test_gaps_are_closed_and_divisions_can_be_left_out():
    pytest.importorskip("laptrack")
    labels = shuffled(movie(division=None))
    labels[3] = 0
    assert sorted(link_frames(labels).tracks.spans().values()) == [(0, 7), (0, 7)]
    without = link_frames(labels, TimeLinkingSettings(max_gap=0))
    assert sorted(without.tracks.spans().values()) == [(0, 2), (0, 2), (4, 7), (4, 7)]
    dividing = link_frames(shuffled(movie()), TimeLinkingSettings(max_division_distance=0))
    assert not dividing.tracks.parents


def test_linking_takes_no_memory_for_large_numbers():
    pytest.importorskip("laptrack")
    truth = movie(division=None)
    large = np.where(truth.labels > 0, truth.labels.astype(np.uint64) + 2**40, 0)
    assert link_frames(large).tracks.spans() == link_frames(truth.labels).tracks.spans()


def test_nothing_and_other_shapes():
    pytest.importorskip("laptrack")
    assert not len(link_frames(np.zeros((3, 8, 8), int)).tracks)
    with pytest.raises(FrameError, match="integers"):
        link_frames(np.zeros((8, 8), int))


def test_linking_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "laptrack", None)
    with pytest.raises(FrameError, match=r"pip install 'napari-sam2\[tracks\]'"):
        link_frames(np.zeros((3, 8, 8), int))


@pytest.mark.parametrize("change", [{"max_gap": "x"}, {"max_gap": -1}, {"max_distance": []}, {"max_distance": 0},
                                    {"max_division_distance": np.nan}])  # fmt: skip
def test_impossible_settings_of_linking_are_refused(change):
    with pytest.raises(PromptError):
        TimeLinkingSettings(**change)
