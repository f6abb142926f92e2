"""Tracks with lineage: what they refuse, and round trips through every format and through readers of others."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

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
        pytest.param({1: 1}, "its own parent", id="itself"),
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


LINEAGES = {
    "one-daughter": ([(1, 0), (1, 1), (2, 2), (7, 0)], {2: 1}),
    "one-daughter-after-a-gap": ([(1, 0), (1, 2), (2, 5)], {2: 1}),
    "three-daughters": ([(1, 0), (2, 1), (3, 1), (4, 1)], {2: 1, 3: 1, 4: 1}),
    "one-frame-tracks": ([(1, 0), (2, 1), (2**31 + 7, 5)], {2: 1}),
    "daughters-begin-late": ([(70_000, 0), (70_001, 2), (70_002, 4)], {70_001: 70_000, 70_002: 70_000}),
    "gap-before-a-division": ([(1, 0), (1, 2), (2, 3), (3, 4)], {2: 1, 3: 1}),
}


@pytest.mark.parametrize("suffix", [".geff", ".xml", ".csv"])
@pytest.mark.parametrize("name", LINEAGES)
def test_odd_lineages_have_a_round_trip(tmp_path, suffix, name):
    if suffix == ".geff":
        pytest.importorskip("geff")
    rows, parents = LINEAGES[name]
    ids, frames = np.array(rows).T
    tracks = Tracks(ids, frames, np.arange(2.0 * len(ids)).reshape(-1, 2), np.ones(len(ids), int), parents)
    assert is_same(read_tracks(write_tracks(tmp_path / f"Zellen ü 細胞{suffix}", tracks)), tracks)


@pytest.mark.parametrize("name", [each for each in LINEAGES if each != "one-daughter-after-a-gap"])
def test_odd_lineages_have_a_round_trip_as_labels(tmp_path, name):
    rows, parents = LINEAGES[name]
    labels = np.zeros((6, 20, 40), np.int64)
    for object_id, frame in rows:
        at = 5 * sorted({i for i, _ in rows}).index(object_id)
        labels[frame, 2:5, at : at + 3] = object_id
    found = read_ctc(write_ctc(tmp_path / "Zellen ü 細胞", labels, tracks_of_labels(labels, parents)))
    assert np.array_equal(found.labels > 0, labels > 0)
    if labels.max() < 2**16:
        assert is_same(found.tracks, tracks_of_labels(labels, parents))
    assert len(found.tracks.parents) == len(parents)


def test_tracklets_of_geff_are_what_geff_calls_so(tmp_path):
    geff = pytest.importorskip("geff.core_io")
    from geff.validate.tracks import validate_tracklets

    for rows, parents in (LINEAGES[name] for name in ("one-daughter", "gap-before-a-division")):
        ids, frames = np.array(rows).T
        tracks = Tracks(ids, frames, np.zeros((len(ids), 2)), np.ones(len(ids), int), parents)
        found = geff.read_to_memory(write_tracks(tmp_path / "a.geff", tracks, overwrite=True))
        marks = found["metadata"].track_node_props or {}
        if "tracklet" in marks:
            names = found["node_props"][marks["tracklet"]]["values"]
            assert validate_tracklets(found["node_ids"], found["edge_ids"], names) == (True, [])
        assert ("tracklet" in marks) == (1 not in [len(each) for each in tracks.daughters().values()])


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
    if is_volume and version("geff").startswith("1.1."):  # which pip chooses beside the newest zarr
        pytest.skip("geff 1.1 cannot convert volumes of the Cell Tracking Challenge")
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
        found = read_tracks(path)
        assert (found.ids.tolist(), found.parents) == (tracks.ids.tolist(), tracks.parents), path.name
        assert np.allclose(found.centres[:, -2:], tracks.centres[:, -2:])


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


ONE_SPOT = (
    '<TrackMate version="7.11.1"><Model><AllSpots nspots="1"><SpotsInFrame frame="0"><Spot ID="3" name="ID3" '
    'POSITION_X="1.0" POSITION_Y="2.0" POSITION_Z="0.0" FRAME="0" AREA="12"/></SpotsInFrame></AllSpots></Model>'
    '<Settings><ImageData nslices="1" pixelwidth="0.5" pixelheight="0.5"/></Settings></TrackMate>'
)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("a.csv", "x,y\n1,2\n", "tracks need track, frame, y and x", id="other-columns"),
        pytest.param("a.csv", "track,frame,y,x\n1,zero,1,1\n", "cannot|can be read", id="no-number"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,1,1\n1,0,2,2\n", "two positions", id="twice"),
        pytest.param("a.xml", "<Other/>", "not a TrackMate file", id="other-xml"),
        pytest.param("a.xml", "<TrackMate", "can be read", id="cut-off"),
        pytest.param("a.txt", "", "allowed suffixes", id="suffix"),
        pytest.param("a.csv", "track,frame,y,x,track\n1,0,1,1,2\n", "each once", id="column-twice"),
        pytest.param("a.csv", "track,frame,y,x\n1,0.5,1,1\n", "line 2: 0.5 is not a whole", id="half-a-frame"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,1,5,2,5\n", "more values than columns in line 2", id="commas"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,1\n", "fewer values than columns in line 2", id="cut-off-line"),
        pytest.param("a.csv", "track,frame,y,x\n1_0,0,1,1\n", "line 2: 1_0 is not a whole", id="underscore"),
        pytest.param("a.csv", "track,parent,frame,y,x\n1,1,0,1,2\n", "its own parent", id="own-parent"),
        pytest.param("a.csv", "track,frame,y,x\n1,-1,1,1\n", r"csv cannot be read: .*frame below 0", id="before-0"),
        pytest.param("a.xml", ONE_SPOT.replace("FRAME", "F"), "'FRAME' is missing", id="spot-without-frame"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,inf,1\n", "finite positions", id="nowhere"),
        pytest.param("a.csv", "track,frame,y,x\n" + "9" * 25 + ",0,1,1\n", "too large", id="huge-number"),
        pytest.param("a.csv", "track,frame,y,x\n1,0,1," + "1" * 200_000, "can be read", id="long-cell"),
        pytest.param(
            "a.csv", "track,parent,frame,y,x\n1,0,0,1,1\n2,0,0,9,9\n3,1,1,1,1\n3,2,2,1,1\n",
            "the parents 1 and, in line 5, 2", id="two-parents",
        ),
        pytest.param("a.xml", "<Tracks/>", "Save button", id="exported-tracks-of-trackmate"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(FrameError, match=words):
        read_tracks(tmp_path / name)


@pytest.mark.parametrize(
    "header", ["Track,Parent,Frame,Y,X,Area", " track, parent, frame, y, x, area", "TRACK,PARENT,FRAME,Y ,X ,AREA"]
)
def test_headers_of_tables_may_have_capitals_and_spaces(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header}\n1, 0, 0, 1, 2, 3\n2, 1, 1, 1, 2, 3\n")
    assert read_tracks(tmp_path / "a.csv").parents == {2: 1}


@pytest.mark.parametrize("area", ["-5", "1e400", "1e30", "nan", "-inf"])
def test_impossible_areas_count_as_one_pixel(tmp_path, area):
    (tmp_path / "a.csv").write_text(f"track,frame,y,x,area\n1,0,1,2,{area}\n2,0,1,2,7.6\n")
    assert read_tracks(tmp_path / "a.csv").areas.tolist() == [1, 8]
    (tmp_path / "a.xml").write_text(ONE_SPOT.replace('AREA="12"', f'AREA="{area}"'))
    assert read_tracks(tmp_path / "a.xml").areas.tolist() == [1]


@pytest.mark.parametrize(("pixel", "area"), [("0.5", 48), ("0", 12), ("NaN", 12), ("-1", 12)])
def test_unknown_sizes_of_pixels_in_trackmate_are_one(tmp_path, pixel, area):
    (tmp_path / "a.xml").write_text(ONE_SPOT.replace('pixelwidth="0.5"', f'pixelwidth="{pixel}"'))
    assert read_tracks(tmp_path / "a.xml").areas.tolist() == [area]


def test_names_of_spots_that_are_long_numbers_are_no_objects(tmp_path):
    (tmp_path / "a.xml").write_text(ONE_SPOT.replace('name="ID3"', f'name="{"9" * 30}"'))
    assert read_tracks(tmp_path / "a.xml").ids.tolist() == [1]


@pytest.mark.parametrize(
    ("name", "values"), [("track_id", ["a", "a"]), ("track_id", [np.nan, np.inf]), ("area", ["big", "small"])]
)
def test_properties_of_geff_that_are_no_numbers_are_ignored(tmp_path, name, values):
    pytest.importorskip("geff")
    axes = {"t": np.array([0, 1]), "y": np.array([1.0, 2]), "x": np.array([1.0, 2])}
    more = {name: {"values": np.array(values), "missing": None}}
    found = read_tracks(write_geff(tmp_path / "a.geff", axes, **more))
    assert found.ids.tolist() == [1, 1]
    assert found.areas.tolist() == [1, 1]


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


# ---------------------------------------------------------------------- files of other programs
SPOT = '<Spot ID="{id}" name="ID{id}" QUALITY="7.3" POSITION_T="{t}" RADIUS="2.5" FRAME="{frame}" POSITION_X="{x}" \
POSITION_Y="20.0" POSITION_Z="0.0" VISIBILITY="{visible}" {area}/>'
TRACKMATE = """<?xml version="1.0" encoding="UTF-8"?>
<TrackMate version="7.11.1">
  <Log>TrackMate v7.11.1 started on: Fri</Log>
  <Model spatialunits="micron" timeunits="sec">
    <AllSpots nspots="7">{spots}</AllSpots>
    <AllTracks>
      <Track name="Track_0" TRACK_ID="0">
        <Edge SPOT_SOURCE_ID="12" SPOT_TARGET_ID="14" LINK_COST="1.0" />
        <Edge SPOT_SOURCE_ID="13" SPOT_TARGET_ID="12" LINK_COST="1.0" />
        <Edge SPOT_SOURCE_ID="10" SPOT_TARGET_ID="12" LINK_COST="1.0" />
      </Track>
      <Track name="Track_1" TRACK_ID="1"><Edge SPOT_SOURCE_ID="15" SPOT_TARGET_ID="16" LINK_COST="1.0" /></Track>
    </AllTracks>
    <FilteredTracks><TrackID TRACK_ID="0" /></FilteredTracks>
  </Model>
  <Settings><ImageData width="512" height="512" nslices="1" nframes="3" pixelwidth="0.5" pixelheight="0.5"/></Settings>
</TrackMate>"""
SPOTS = [  # ID, frame, x, visible, area in square micrometres
    (10, 0, 10, 1, 'AREA="16.0"'), (11, 0, 50, 0, 'AREA="NaN"'), (12, 1, 11, 1, 'AREA="16.0"'),
    (13, 2, 9, 1, 'AREA="8.0"'), (14, 2, 15, 1, 'AREA="NaN"'), (15, 1, 90, 1, ""), (16, 2, 91, 1, ""),
]  # fmt: skip


def trackmate(spots: Sequence[tuple[int, int, int, int, str]] = SPOTS) -> str:
    lines = [SPOT.format(id=i, t=30.0 * f, frame=f, x=x, visible=v, area=area) for i, f, x, v, area in spots]
    return TRACKMATE.format(spots="".join(f"<SpotsInFrame>{line}</SpotsInFrame>" for line in lines))


def test_trackmate_shows_what_passed_its_filters(tmp_path):
    (tmp_path / "a.xml").write_text(trackmate())
    found = read_tracks(tmp_path / "a.xml")
    assert found.table()[:, [0, 1, 3]].tolist() == [[1, 0, 10], [1, 1, 11], [2, 2, 9], [3, 2, 15]]
    assert found.parents == {2: 1, 3: 1}
    assert found.areas.tolist() == [64, 64, 32, 1]  # in pixels; without an area: 1
    everything = trackmate().replace('<FilteredTracks><TrackID TRACK_ID="0" /></FilteredTracks>', "")
    (tmp_path / "a.xml").write_text(everything)  # of programs that know no filters
    assert len(read_tracks(tmp_path / "a.xml")) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('SOURCE_ID="10"', 'SOURCE_ID="99"'), "links to the spot 99"),
        (('<Spot ID="11"', '<Spot ID="10"'), "several spots of one ID"),
        (('FRAME="1"', 'FRAME="0.5"'), "can be read"),
        (('POSITION_X="9"', 'POSITION_X="NaN"'), "finite positions"),
    ],
)
def test_damaged_files_of_trackmate_are_refused(tmp_path, change, words):
    (tmp_path / "a.xml").write_text(trackmate().replace(*change).replace('VISIBILITY="0"', 'VISIBILITY="1"'))
    with pytest.raises(FrameError, match=words):
        read_tracks(tmp_path / "a.xml")


def test_trackmate_finds_what_its_reader_needs(tmp_path, tracks):
    """``TmXmlReader.readSettings`` fails without the filters, and complains without the rest."""
    root = ET.parse(write_tracks(tmp_path / "a.xml", tracks)).getroot()
    settings = root.find("Settings")
    names = [each.tag for each in settings]
    for name in ("ImageData", "DetectorSettings", "InitialSpotFilter", "SpotFilterCollection", "TrackerSettings",
                 "TrackFilterCollection", "AnalyzerCollection"):  # fmt: skip
        assert name in names
    assert settings.find("InitialSpotFilter").attrib.keys() == {"feature", "value", "isabove"}
    declared = {each.get("feature") for each in root.iter("Feature")}
    assert {key for spot in root.iter("Spot") for key in spot.attrib} <= declared | {"ID", "name"}


def test_links_that_trackmate_has_changed_keep_the_other_numbers(tmp_path):
    labels = np.zeros((4, 20, 60), int)
    for object_id, at in ((4, 2), (6, 22), (9, 42)):
        labels[:, 2:8, at : at + 6] = object_id
    path = write_tracks(tmp_path / "a.xml", tracks_of_labels(labels))
    root = ET.parse(path)
    spots = {(spot.get("name"), spot.get("FRAME")): spot.get("ID") for spot in root.iter("Spot")}
    for tree in root.iter("Track"):
        for edge in list(tree):
            if edge.get("SPOT_TARGET_ID") == spots["6", "2"]:
                tree.remove(edge)
    root.write(path)
    found = read_tracks(path)
    assert found.spans() == {4: (0, 3), 6: (0, 1), 9: (0, 3), 10: (2, 3)}


@pytest.mark.parametrize(
    "names", [("FRAME", "POSITION_X", "POSITION_Y"), ("t", "x", "y"), ("time", "cx", "cy", "cz"), ("t", "y", "x")]
)
def test_axes_of_geff_may_be_in_any_order(tmp_path, names):
    pytest.importorskip("geff")
    values = {name: np.array([0, 1]) if at == 0 else ord(name[-1].lower()) + np.array([0.0, 1])
              for at, name in enumerate(names)}  # fmt: skip
    expected = [[ord(axis), ord(axis) + 1] for axis in "zyx" if any(name[-1].lower() == axis for name in names)]
    found = read_tracks(write_geff(tmp_path / "a.geff", values))
    assert found.centres.T.tolist() == expected
    assert found.spans() == {1: (0, 1)}


def write_geff(path: Path, values: dict[str, np.ndarray], **more: object) -> Path:
    """Two linked nodes whose first property is the time, the others their place."""
    from geff.core_io import write_arrays
    from geff_spec import Axis, GeffMetadata

    axes = [Axis(name=name, type="space" if at else "time") for at, name in enumerate(values)]
    props = {name: {"values": each, "missing": None} for name, each in values.items()}
    write_arrays(
        path, node_ids=np.arange(2, dtype=np.uint64), node_props={**props, **more},
        edge_ids=np.array([[0, 1]], np.uint64), edge_props={},
        metadata=GeffMetadata(directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={}),
    )  # fmt: skip
    return path


def test_values_that_geff_marks_as_missing_are_left_out(tmp_path):
    pytest.importorskip("geff")
    values = {"t": np.array([0, 1]), "y": np.array([1.0, 2]), "x": np.array([3.0, 4])}
    area = {"values": np.array([9, 77]), "missing": np.array([False, True])}
    assert read_tracks(write_geff(tmp_path / "a.geff", values, area=area)).areas.tolist() == [9, 1]
    with pytest.raises(FrameError, match=r"the times \[0.5\]; expected whole numbers"):
        read_tracks(write_geff(tmp_path / "b.geff", {**values, "t": np.array([0, 0.5])}))


def test_tables_of_pandas_are_read(tmp_path):
    """With a missing parent, whole numbers become floats; other programs write -1."""
    (tmp_path / "a.csv").write_text("track,parent,frame,y,x,area\n1,,0,1,1,4.0\n2,1.0,1.0,1,1,nan\n3,-1,0,9,9,2.6\n")
    found = read_tracks(tmp_path / "a.csv")
    assert found.parents == {2: 1}
    assert found.areas.tolist() == [4, 1, 3]


# ---------------------------------------------------------------------- tables that do not fit masks
def folder_of(place: Path, labels: np.ndarray, table: str, *, first: int = 0) -> Path:
    place.mkdir()
    for frame, plane in enumerate(labels):
        tifffile.imwrite(place / f"mask{frame + first:03d}.tif", plane, photometric="minisblack")
    (place / "res_track.txt").write_text(table)
    return place


TWO = np.zeros((4, 8, 20), np.uint16)
TWO[:, 1:3, 1:3] = 1
TWO[2:, 5:7, 5:7] = 2


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("1 0 2 0\n2 2 3 0\n", "track 1 is on frames 0 to 2, and in the masks on frames 0 to 3"),
        ("1 0 3 0\n", "track 2 is not in it"),
        ("1 0 3 0\n2 2 3 0\n7 0 3 0\n", "track 7 is on frames 0 to 3, and in the masks nowhere"),
        ("1 0 3 0\n2 2 3 1\n", "a parent ends before its daughters begin"),
        ("1 0 3 2\n2 2 3 1\n", "a parent ends before its daughters begin"),
        ("1 0 3 0\n2 2 3 9\n", "no track 9"),
        ("1 0 3 0\n1 0 3 0\n2 2 3 0\n", "each track once"),
        ("1 3 0 0\n2 2 3 0\n", "each track once"),
        ("1 0 3 \u00b2\n2 2 3 0\n", "expected track, first frame"),
    ],
)
def test_tables_that_do_not_fit_their_masks_are_refused(tmp_path, table, words):
    with pytest.raises(FrameError, match=words):
        read_ctc(folder_of(tmp_path / "01", TWO, table))


def test_frames_are_counted_as_the_names_of_masks_do(tmp_path):
    found = read_ctc(folder_of(tmp_path / "01", TWO, "1 5 8 0\n2 7 8 0\n", first=5))
    assert found.tracks.spans() == {1: (0, 3), 2: (2, 3)}
    with pytest.raises(FrameError, match="on frames 0 to 3, and in the masks on frames 1 to 4"):
        read_ctc(folder_of(tmp_path / "02", TWO, "1 0 3 0\n2 2 3 0\n", first=1))


def test_only_the_masks_of_the_table_are_read(tmp_path):
    folder = folder_of(tmp_path / "01", TWO, "1 0 3 0\n2 2 3 0\n")
    for name in ("t000.tif", "man_track000.tif", "t001.tif"):
        tifffile.imwrite(folder / name, np.full((8, 20), 77, np.uint16))
    assert np.array_equal(read_ctc(folder).labels, TWO)


def test_numbers_beyond_32_bits_are_refused(tmp_path):
    large = np.where(TWO == 2, 2**31 + 7, TWO.astype(np.uint32))
    with pytest.raises(FrameError, match="holds labels from 0 to 2147483655"):
        read_ctc(folder_of(tmp_path / "01", large, f"1 0 3 0\n{2**31 + 7} 2 3 0\n"))


def test_tracks_that_are_not_those_of_the_labels_are_refused(tmp_path):
    labels = TWO.astype(int)
    for given, tracks, words in (
        (labels, tracks_of_labels(labels[:3]), "object 1 is in the labels, but not in the tracks of frame 3"),
        (np.where(labels == 2, 0, labels), tracks_of_labels(labels), "object 2 is in no label, but in the tracks"),
        (labels[:3], tracks_of_labels(labels), "labels of 3 frames"),
        (labels.astype(float), tracks_of_labels(labels), "expected integers"),
        ([labels[0], labels[1][:, :9]], tracks_of_labels(labels[:2]), "the same on all frames"),
    ):
        with pytest.raises(FrameError, match=words):
            write_ctc(tmp_path / "01", given, tracks)
    assert not (tmp_path / "01").exists()


@pytest.mark.parametrize(
    "change",
    [{"ids": [1.5, 1]}, {"centres": [[0, np.nan], [1, 1]]}, {"frames": ["a", "b"]}, {"areas": [[1], [1]]}],
)
def test_rows_that_are_no_tracks_are_refused(change):
    given = {"ids": [1, 1], "frames": [0, 1], "centres": [[0, 0], [1, 1]], "areas": [4, 4]}
    assert Tracks(**given).spans() == {1: (0, 1)}
    with pytest.raises(FrameError, match="expected"):
        Tracks(**{**given, **change})


def test_planes_and_volumes_are_not_mixed():
    with pytest.raises(FrameError, match="the same on all frames"):
        tracks_of_labels([np.ones((3, 3), int), np.ones((2, 3, 3), int)])


@pytest.mark.parametrize("name", ["a" * 300, "~no_such_user_here/a", "a\0b", "missing"])
def test_names_that_cannot_be_are_refused(tmp_path, tracks, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for suffix in (".csv", ".xml", ".geff"):
        with pytest.raises(FrameError):
            read_tracks(name + suffix)
    with pytest.raises(FrameError):
        read_ctc(name)
    if name == "missing":
        return
    for suffix in (".csv", ".xml", ".geff"):
        with pytest.raises(OutputError):
            write_tracks(name + suffix, tracks)
    with pytest.raises(OutputError):
        write_ctc(name, dividing_labels(), tracks)
    assert list(tmp_path.iterdir()) == []
