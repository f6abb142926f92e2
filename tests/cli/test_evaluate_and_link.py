"""``evaluate`` and ``link``: scores of labels and tracks, and segmentations linked over time."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile

from cli_tools import run
from napari_sam2 import read_ctc, read_tracks, tracks_of_labels, write_ctc, write_tracks
from napari_sam2.labels.reading import read_labels


@pytest.fixture
def movie() -> np.ndarray:
    """Six frames: 1 divides into 2 and 3 on frame 3, and 9 stays."""
    labels = np.zeros((6, 40, 60), np.int32)
    labels[:, 30:36, 40:46] = 9
    labels[:3, 10:18, 10:20] = 1
    labels[3:, 10:18, 9:14], labels[3:, 10:18, 16:21] = 2, 3
    return labels


@pytest.fixture
def folders(movie, tmp_path):
    """The truth, and a result without object 9 and without the division."""
    (tmp_path / "01_GT").mkdir()
    write_ctc(tmp_path / "01_GT" / "TRA", movie, tracks_of_labels(movie, {2: 1, 3: 1}), is_truth=True)
    found = np.where(movie == 9, 0, movie)
    return tmp_path / "01_GT", write_ctc(tmp_path / "01_RES", found, tracks_of_labels(found))


def test_evaluate_prints_and_writes_scores(folders, tmp_path, capsys):
    pytest.importorskip("ctc_metrics")
    assert run("evaluate", *folders, "-o", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["AP 0.50"] == pytest.approx(9 / 15)
    assert scores["DET"] == pytest.approx(9 / 15)
    assert (scores["divisions"], scores["division F1"]) == (1, 0)
    shown = capsys.readouterr().out
    assert ["DET", "0.600"] in [line.split() for line in shown.splitlines()]
    assert run("evaluate", *folders, "-o", tmp_path / "scores.csv") == 0
    assert (tmp_path / "scores.csv").read_text().startswith("score,value\nAP 0.50,0.6")
    assert run("evaluate", *folders, "-o", tmp_path / "scores.csv") == 6


def test_volumes_are_compared_as_bodies_without_the_library(movie, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctc_metrics.scripts.evaluate", None)
    tifffile.imwrite(tmp_path / "a.tif", movie)
    assert run("evaluate", tmp_path / "a.tif", tmp_path / "a.tif", "--volume") == 0
    assert "DET" not in capsys.readouterr().out
    assert run("evaluate", tmp_path / "a.tif", tmp_path / "a.tif") == 3
    assert "pip install 'napari-sam2[metrics]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.csv", "a.xml", "01_RES"])
def test_link_numbers_objects_and_writes_their_parents(movie, tmp_path, capsys, name):
    pytest.importorskip("laptrack")
    separate = np.stack([np.concatenate(([0], 1 + np.random.default_rng(t).permutation(9)))[f]
                         for t, f in enumerate(movie)])  # fmt: skip
    tifffile.imwrite(tmp_path / "masks.tif", separate.astype(np.uint16))
    assert run("link", tmp_path / "masks.tif", "-o", tmp_path / "linked.tif", "--tracks", tmp_path / name) == 0
    assert "4 objects on 6 frames, 1 division" in capsys.readouterr().out
    linked = read_labels(tmp_path / "linked.tif")
    assert np.array_equal(linked > 0, movie > 0)
    path = tmp_path / name
    tracks = read_tracks(path) if path.suffix else read_ctc(path).tracks
    assert sorted(tracks.spans().values()) == [(0, 2), (0, 5), (3, 5), (3, 5)]
    assert [len(each) for each in tracks.daughters().values()] == [2]
    again = ["link", tmp_path / "masks.tif", "-o", tmp_path / "again.tif", "--tracks", tmp_path / name]
    assert run(*again) == 6
    assert run(*again, "--overwrite") == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.geff", "holds something else and is not replaced"),
        ("notes", "holds something else and is not replaced"),
        ("notes.csv", "is a folder; give the name of a file"),
        ("a.txt", "expected .geff, .xml, .csv, or a folder without suffix"),
    ],
)
def test_link_refuses_wrong_places_of_tracks_before_it_works(movie, tmp_path, capsys, name, words):
    tifffile.imwrite(tmp_path / "masks.tif", movie.astype(np.uint16), imagej=True, metadata={"axes": "TYX"})
    if name != "a.txt":
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    tracks = ["--tracks", tmp_path / name, "--overwrite"]
    assert run("link", tmp_path / "masks.tif", "-o", tmp_path / "linked.tif", *tracks) == 6
    assert words in capsys.readouterr().err
    assert not (tmp_path / "linked.tif").exists()
    assert name == "a.txt" or (tmp_path / name / "notes.txt").read_text() == "mine"


def test_link_refuses_a_single_image(movie, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "one.tif", movie[0])
    assert run("link", tmp_path / "one.tif", "-o", tmp_path / "linked.tif") == 3
    assert "expected several time points" in capsys.readouterr().err


def test_evaluate_refuses_tracks_of_other_labels(movie, tmp_path, capsys):
    pytest.importorskip("ctc_metrics")
    tifffile.imwrite(tmp_path / "a.tif", movie)
    renamed = np.array([0, 2, 3, 1, 0, 0, 0, 0, 0, 9])[movie]
    write_tracks(tmp_path / "other.csv", tracks_of_labels(renamed))
    moved = np.roll(movie, 25, axis=2)
    write_tracks(tmp_path / "moved.csv", tracks_of_labels(moved, {2: 1, 3: 1}))
    write_tracks(tmp_path / "right.csv", tracks_of_labels(movie, {2: 1, 3: 1}))
    both = ["evaluate", tmp_path / "a.tif", tmp_path / "a.tif", "--truth-tracks", tmp_path / "right.csv", "--tracks"]
    assert run(*both, tmp_path / "other.csv") == 3
    assert "object 1 is on frame 0 in the labels only" in capsys.readouterr().err
    assert run(*both, tmp_path / "moved.csv") == 3
    assert "object 1 is at" in capsys.readouterr().err
    assert run(*both, tmp_path / "right.csv") == 0
    assert ["division", "F1", "1.000"] in [line.split() for line in capsys.readouterr().out.splitlines()]
