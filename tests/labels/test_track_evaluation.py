"""Scores of tracks on small cases with a known answer, and objects linked over time."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_sam2 import FrameError, LabelledTracks, read_ctc, tracks_of_labels, write_ctc
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


@pytest.mark.parametrize(("late", "tolerance", "f1"), [(1, 0, 0.0), (1, 1, 1.0), (2, 1, 0.0), (2, 10**20, 1.0)])
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


@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_truth_without_links_has_no_score_of_links(num_frames):
    pytest.importorskip("ctc_metrics")
    labels = np.zeros((num_frames, 20, 30), np.int32)
    labels[0, 2:8, 2:8], labels[0, 2:8, 12:18] = 1, 2
    found = np.where(labels == 2, 0, labels)
    scores = evaluate_tracks(*(LabelledTracks(each, tracks_of_labels(each)) for each in (labels, found)))
    assert (scores.seg, scores.det, scores.tra) == (0.5, 0.5, 0.5)
    assert scores.idf1 == pytest.approx(2 / 3)
    assert np.isnan(scores.lnk)
    assert np.isnan(scores.division_f1)


def test_a_frame_without_truth_costs_what_is_found_there():
    pytest.importorskip("ctc_metrics")
    found = np.zeros((4, 20, 30), np.int32)
    found[:, 2:8, 2:8] = 1
    truth = found.copy()
    truth[1] = 0
    scores = evaluate_tracks(*(LabelledTracks(each, tracks_of_labels(each)) for each in (truth, found)))
    assert scores.det == pytest.approx(1 - 1 / 30)
    assert scores.idf1 == pytest.approx(6 / 7)


def test_scores_are_those_of_the_challenges_own_files(tmp_path):
    """Random errors, compared with ``ctc_evaluate`` on the folders."""
    evaluate = pytest.importorskip("ctc_metrics.scripts.evaluate")
    rng = np.random.default_rng(7)
    truth, parents = movie().labels * 70, {each * 70: p * 70 for each, p in movie().tracks.parents.items()}
    found = truth.copy()
    for frame in found:
        for i in np.unique(frame[frame > 0]):
            frame[frame == i] = 0 if rng.random() < 0.15 else i
        frame[30:34, 50:54] = 600 * (rng.random() < 0.5)
    kept = {a: b for a, b in parents.items() if {a, b} <= set(np.unique(found).tolist())}
    (tmp_path / "01_GT").mkdir()
    write_ctc(tmp_path / "01_GT" / "TRA", truth, tracks_of_labels(truth, parents), is_truth=True)
    write_ctc(tmp_path / "01_RES", found, tracks_of_labels(found, kept))
    names = ["DET", "TRA", "LNK", "IDF1"]  # SEG has a folder of its own
    theirs = evaluate.evaluate_sequence(str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), names, threads=1)
    ours = evaluate_tracks(read_ctc(tmp_path / "01_GT"), read_ctc(tmp_path / "01_RES"))
    assert [ours.det, ours.tra, ours.lnk, ours.idf1] == pytest.approx([theirs[name] for name in names])
    assert ours.tra < 1


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
