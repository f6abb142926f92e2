"""Tracks with lineage: what they refuse, and round trips through every format and through readers of others."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2 import (
    FrameError,
    OutputError,
    Tracks,
    read_ctc,
    read_tracks,
    tracks_of_labels,
    write_ctc,
    write_tracks,
)
from napari_sam2.labels.tracks import tracks_of_graph


def dividing_labels(hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Six frames: 1 divides into 2 and 3 on frame 2, 3 into 5 and 6 on frame 4, and 9 is missing on frame 3."""
    labels = np.zeros((6, *hw), np.int32)
    for t in range(6):
        if t < 2:
            labels[t, 10:18, 10:18] = 1
        else:
            labels[t, 4:10, 8:14] = 2
            if t < 4:
                labels[t, 16:24, 8:16] = 3
            else:
                labels[t, 14:18, 8:12], labels[t, 22:26, 8:12] = 5, 6
        if t != 3:
            labels[t, 30:36, 40 + t : 46 + t] = 9
    return labels


PARENTS = {2: 1, 3: 1, 5: 3, 6: 3}


@pytest.fixture
def tracks() -> Tracks:
    return tracks_of_labels(dividing_labels(), PARENTS)


def is_same(a: Tracks, b: Tracks) -> bool:
    return (
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.frames, b.frames)
        and np.allclose(a.centres, b.centres)
        and np.array_equal(a.areas, b.areas)
        and dict(a.parents) == dict(b.parents)
    )


# ---------------------------------------------------------------------- values
def test_tracks_measure_labels(tracks):
    assert tracks.spans() == {1: (0, 1), 2: (2, 5), 3: (2, 3), 5: (4, 5), 6: (4, 5), 9: (0, 5)}
    assert tracks.centres[0].tolist() == [13.5, 13.5]
    assert tracks.areas[0] == 64
    assert tracks.daughters() == {1: (2, 3), 3: (5, 6)}
    assert tracks.graph() == {2: [1], 3: [1], 5: [3], 6: [3]}
    assert len(tracks.edges()) == len(tracks) - 2  # every spot but the first one of each tree
    assert tracks.table().shape == (17, 4)


def test_volumes_have_three_coordinates():
    labels = np.zeros((2, 5, 6, 7), np.uint8)
    labels[:, 1:3, 2:5, 3:6] = 4
    tracks = tracks_of_labels(labels)
    assert tracks.centres.tolist() == [[1.5, 3, 4]] * 2
    assert tracks.table().shape == (2, 5)


def test_nothing_at_all_is_no_track():
    tracks = tracks_of_labels(np.zeros((3, 4, 5), int))
    assert len(tracks) == 0
    assert tracks.edges().shape == (0, 2)
    assert tracks.spans() == {}


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        pytest.param({2: 9}, "a parent ends before its daughters begin", id="at-the-same-time"),
        pytest.param({2: 77}, "one of them is on no frame", id="unknown"),
        pytest.param({1: 1}, "a parent ends before", id="itself"),
    ],
)
def test_impossible_parents_are_refused(parents, words):
    with pytest.raises(FrameError, match=words):
        tracks_of_labels(dividing_labels(), parents)


def test_links_become_tracks_and_merges_are_refused():
    frames, centres, areas = np.array([0, 1, 2, 2]), np.zeros((4, 2)), np.ones(4, int)
    found = tracks_of_graph(frames, centres, areas, [(0, 1), (2, 1), (1, 3)])
    assert found.ids.tolist() == [1, 1, 2, 3]
    assert found.parents == {2: 1, 3: 1}
    with pytest.raises(FrameError, match="merge"):
        tracks_of_graph(np.array([0, 0, 1]), centres[:3], areas[:3], [(0, 2), (1, 2)])
    with pytest.raises(FrameError, match="links go from frame to frame"):
        tracks_of_graph(frames, centres, areas, [(2, 3)])


# ---------------------------------------------------------------------- files
@pytest.mark.parametrize("suffix", [".geff", ".xml", ".csv"])
@pytest.mark.parametrize("is_volume", [False, True])
def test_round_trip(tmp_path, suffix, is_volume):
    if suffix == ".geff":
        pytest.importorskip("geff")
    labels = dividing_labels()
    if is_volume:
        labels = np.stack((labels, labels, np.where(labels == 2, 2, 0), np.zeros_like(labels)), axis=1)
    tracks = tracks_of_labels(labels, PARENTS)
    path = write_tracks(tmp_path / f"a{suffix}", tracks)
    assert is_same(read_tracks(path), tracks)
    with pytest.raises(OutputError, match="exists"):
        write_tracks(path, tracks)
    write_tracks(path, tracks, overwrite=True)


@pytest.mark.parametrize("suffix", [".geff", ".xml", ".csv"])
def test_no_tracks_have_a_round_trip(tmp_path, suffix):
    if suffix == ".geff":
        pytest.importorskip("geff")
    empty = tracks_of_labels(np.zeros((2, 5, 5), int))
    assert len(read_tracks(write_tracks(tmp_path / f"a{suffix}", empty))) == 0


@pytest.mark.parametrize("is_truth", [False, True])
def test_folders_of_the_challenge_have_a_round_trip(tmp_path, tracks, is_truth):
    labels = dividing_labels()
    folder = write_ctc(tmp_path / "01", labels, tracks, is_truth=is_truth)
    table = (folder / ("man_track.txt" if is_truth else "res_track.txt")).read_text().splitlines()
    assert table == ["1 0 1 0", "2 2 5 1", "3 2 3 1", "5 4 5 3", "6 4 5 3", "9 0 2 0", "10 4 5 9"]
    found = read_ctc(folder)
    assert np.array_equal(found.labels, labels)
    assert is_same(found.tracks, tracks)


@pytest.mark.parametrize("num_planes", [1, 3, 4])
def test_planes_of_volumes_are_no_colours(tmp_path, num_planes):
    labels = np.repeat(dividing_labels()[:, None], num_planes, 1)
    folder = write_ctc(tmp_path / "01", labels, tracks_of_labels(labels))
    with tifffile.TiffFile(folder / "mask000.tif") as file:
        assert {page.photometric for page in file.pages} == {tifffile.PHOTOMETRIC.MINISBLACK}
        assert len(file.pages) == num_planes
    assert np.array_equal(read_ctc(folder).labels.reshape(labels.shape)[0], labels[0])


def test_only_a_folder_of_tracks_is_replaced(tmp_path, tracks):
    pytest.importorskip("geff")
    labels = dividing_labels()
    for name in ("01_RES", "a.geff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else and is not replaced"):
        write_ctc(tmp_path / "01_RES", labels, tracks, overwrite=True)
    with pytest.raises(OutputError, match="holds something else and is not replaced"):
        write_tracks(tmp_path / "a.geff", tracks, overwrite=True)
    assert all((tmp_path / name / "notes.txt").read_text() == "mine" for name in ("01_RES", "a.geff"))
    (tmp_path / "01_RES" / "notes.txt").unlink()  # an empty folder holds nothing that is lost
    write_ctc(tmp_path / "01_RES", labels, tracks, overwrite=True)
    write_ctc(tmp_path / "01_RES", labels[:3], tracks_of_labels(labels[:3]), overwrite=True)
    assert len(list((tmp_path / "01_RES").glob("mask*.tif"))) == 3


@pytest.mark.parametrize("plane", [0, 2])
def test_volumes_whose_objects_lie_on_one_plane_stay_volumes(tmp_path, plane):
    labels = np.zeros((3, 4, 40, 60), np.int32)
    labels[:, plane] = dividing_labels()[:3]
    tracks = tracks_of_labels(labels, {2: 1, 3: 1})
    assert is_same(read_tracks(write_tracks(tmp_path / "a.xml", tracks)), tracks)


def test_large_numbers_fit_into_sixteen_bits(tmp_path):
    labels = np.zeros((2, 8, 8), np.int32)
    labels[:, :3, :3], labels[:, 5:, 5:] = 70_000, 65_535
    folder = write_ctc(tmp_path / "01", labels, tracks_of_labels(labels))
    assert set(np.unique(tifffile.imread(folder / "mask000.tif"))) == {0, 1, 65_535}


Spot = tuple[float, ...]
"""Track, frame and position."""


def spots_and_links(tracks: Tracks) -> tuple[set[Spot], set[tuple[Spot, Spot]]]:
    spots = [tuple(row) for row in tracks.table().tolist()]
    return set(spots), {(spots[a], spots[b]) for a, b in tracks.edges().tolist()}


def spots_and_links_of_geff(path: Path, names: Sequence[str]) -> tuple[set[Spot], set[tuple[Spot, Spot]]]:
    graph = pytest.importorskip("geff.core_io").read_to_memory(path)
    columns = [np.asarray(graph["node_props"][name]["values"]).astype(float).tolist() for name in names]
    spots = dict(zip(graph["node_ids"].tolist(), zip(*columns, strict=True), strict=True))
    return set(spots.values()), {(spots[a], spots[b]) for a, b in graph["edge_ids"].tolist()}


@pytest.mark.parametrize("is_volume", [False, True])
@pytest.mark.filterwarnings("ignore:No image path found")
def test_the_library_of_geff_reads_all_formats(tmp_path, is_volume):
    convert = pytest.importorskip("geff.convert")
    labels = dividing_labels()
    labels[labels == 9] = 0  # which has a gap: in folders of the challenge it becomes two tracks
    if is_volume:
        labels = np.stack((labels, labels, np.where(labels == 2, 2, 0), np.zeros_like(labels)), axis=1)
    tracks = tracks_of_labels(labels, PARENTS)
    write_ctc(tmp_path / "01", labels, tracks)
    convert.from_ctc_to_geff(tmp_path / "01", tmp_path / "ctc.geff")
    convert.from_trackmate_xml_to_geff(write_tracks(tmp_path / "a.xml", tracks), tmp_path / "trackmate.geff")
    space = "zyx" if is_volume else "yx"
    expected = spots_and_links(tracks)
    trackmate = ["name", "FRAME", *(f"POSITION_{axis}" for axis in space.upper())]
    for path, names in (
        (write_tracks(tmp_path / "a.geff", tracks), ["track_id", "t", *space]),
        (tmp_path / "ctc.geff", ["tracklet_id", "t", *space]),
        (tmp_path / "trackmate.geff", trackmate),
    ):
        assert spots_and_links_of_geff(path, names) == expected, path.name


def test_the_reader_of_the_challenge_finds_a_valid_result(tmp_path, tracks):
    files = pytest.importorskip("ctc_metrics.utils.filesystem")
    from ctc_metrics.metrics.validation.valid import valid

    labels = dividing_labels()
    folder = str(write_ctc(tmp_path / "01_RES", labels, tracks))
    table = files.read_tracking_file(str(tmp_path / "01_RES" / "res_track.txt"))
    masks = [tifffile.imread(path) for path in files.parse_masks(folder)]
    assert valid(masks, table, [np.unique(mask[mask > 0]).tolist() for mask in masks]) == 1
    again = np.stack(masks)
    again[again == 10] = 9  # the second part of a track with a gap
    assert np.array_equal(again, labels)


@pytest.mark.parametrize("is_volume", [False, True])
def test_tables_of_tracks_are_plain_csv(tmp_path, is_volume):
    labels = dividing_labels()
    tracks = tracks_of_labels(labels[:, None] if is_volume else labels, PARENTS)
    with write_tracks(tmp_path / "a.csv", tracks).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["track", "frame", *("zyx" if is_volume else "yx")]
    assert {tuple(float(row[name]) for name in names) for row in rows} == spots_and_links(tracks)[0]
    assert {int(row["track"]): int(row["parent"]) for row in rows if row["parent"] != "0"} == PARENTS
    assert sum(int(row["area"]) for row in rows) == np.count_nonzero(labels)


def test_without_the_library_the_error_says_what_to_install(tmp_path, tracks, monkeypatch):
    monkeypatch.setitem(sys.modules, "geff", None)
    with pytest.raises(OutputError, match=r"pip install 'napari-sam2\[tracks\]'"):
        write_tracks(tmp_path / "a.geff", tracks)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("a.csv", "x,y\n1,2\n", "tracks need track, frame, y and x", id="other-columns"),
        pytest.param("a.csv", "track,frame,y,x\n1,zero,1,1\n", "cannot|can be read", id="no-number"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,1,1\n1,0,2,2\n", "two positions", id="twice"),
        pytest.param("a.xml", "<Other/>", "no file of TrackMate", id="other-xml"),
        pytest.param("a.xml", "<TrackMate", "can be read", id="cut-off"),
        pytest.param("a.txt", "", "allowed suffixes", id="suffix"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(FrameError, match=words):
        read_tracks(tmp_path / name)


def test_incomplete_folders_are_refused(tmp_path, tracks):
    folder = write_ctc(tmp_path / "01", dividing_labels(), tracks)
    (folder / "mask002.tif").unlink()
    with pytest.raises(FrameError, match="one for each frame"):
        read_ctc(folder)
    (folder / "res_track.txt").write_text("1 2 three 4\n")
    write_ctc(tmp_path / "02", dividing_labels(), tracks)
    (tmp_path / "02" / "res_track.txt").write_text("1 2 three 4\n")
    with pytest.raises(FrameError, match="expected track, first frame"):
        read_ctc(tmp_path / "02")
    with pytest.raises(FrameError, match="neither man_track"):
        read_ctc(tmp_path)
