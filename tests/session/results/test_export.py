"""What leaves a session: tables, tracks and label files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from session_tools import square, state

from factories import make_model, make_movie
from napari_sam2 import OutputError, PromptError, open_frames, read_ctc, read_tracks
from napari_sam2._packed_mask import PackedMask
from napari_sam2.labels.reading import read_labels
from napari_sam2.session.results.export import (
    export_labels,
    export_objects_csv,
    export_scores_csv,
    export_tracks,
    import_tracks,
    session_tracks,
    tracks_graph,
    tracks_table,
    update_labels,
)
from napari_sam2.session.session import Session
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask
from napari_sam2.session.state.tables import object_table, score_table


def tracked(mask: np.ndarray, iou: float = 0.9, score: float = 3.0) -> ObjectMask:
    return ObjectMask.pack(mask, "tracked", iou, score)


@pytest.fixture
def session():
    """Object 1 painted on frame 0 and written as tracked on frames 1 to 6; no network is asked."""
    with Session(make_movie(8), model=make_model()) as made:
        made.add_mask(square(10, 10, 6), frame=0)
        masks = [
            tracked(square(10, 12, 6)),
            tracked(square(10, 14, 6), iou=0.3),
            ObjectMask(PackedMask(), "tracked", 0.2, -4.0),
            tracked(square(10, 18, 6)),
            tracked(square(6, 18, side=12)),
            tracked(square(30, 50, side=12)),
        ]
        made.store.commit([Edit("masks", (1, t), None, mask) for t, mask in enumerate(masks, start=1)])
        yield made


def test_score_table_has_a_row_per_mask(session):
    table = score_table(session.store)
    assert list(table.columns) == ["object", "name", "frame", "iou", "object_score", "area", "kind", "locked", "stale"]
    assert table["frame"].tolist() == list(range(7))
    assert table["area"].tolist() == [36, 36, 36, 0, 36, 144, 144]
    assert np.isnan(table["iou"][0])
    assert table.equals(session.scores)


def test_tables_are_typed_without_rows():
    with Session(np.zeros((2, 3, 8, 8), np.uint8), model=make_model()) as empty:
        table = empty.scores
        assert list(table.columns)[:4] == ["object", "name", "frame", "axis_0"]
        assert len(table) == len(object_table(empty.store)) == 0
        assert tracks_table(empty).shape == (0, 5)


def test_object_table_summarises(session):
    session.lock(1, [1, 2])
    (row,) = object_table(session.store).to_dict("records")
    assert (row["frames"], row["first"], row["last"], row["locked"], row["prompts"]) == (6, 0, 6, 2, 1)
    assert row["mean_iou"] == pytest.approx(np.mean([0.9, 0.3, 0.9, 0.9, 0.9]))


def test_tracks_follow_the_centres(session):
    table = tracks_table(session)
    assert table.shape == (6, 4)
    assert table[0].tolist() == [1, 0, 12.5, 12.5]
    assert table[:, 1].tolist() == [0, 1, 2, 4, 5, 6]


def test_tracks_of_several_clips_are_apart():
    with Session(np.zeros((2, 3, 8, 8), np.uint8), model=make_model(), frame_axis=1) as made:
        for plane in (0, 1, 3, 4):
            made.add_mask(square(1, 1, 3, (8, 8)), frame=plane, object_id=1)
        made.add_mask(square(5, 5, 2, (8, 8)), frame=0, object_id=2)
        rows = tracks_table(made)
        assert rows[:, :3].tolist() == [[1, 0, 0], [1, 0, 1], [2, 0, 0], [3, 1, 0], [3, 1, 1]]


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
def test_labels_are_written_with_scale(session, tmp_path, name):
    path = export_labels(session, tmp_path / name, scale=(2.0, 0.5, 0.5), units=("micrometer",) * 3)
    assert np.array_equal(read_labels(path), session.labels)
    with pytest.raises(OutputError, match="already exists"):
        export_labels(session, path)
    voxel = open_frames(path).voxel_size
    assert voxel is not None
    assert voxel["Z"] == pytest.approx((2.0, "micrometer")) or tuple(voxel["Z"]) == (2.0, "micrometer")


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
@pytest.mark.parametrize("frame_axis", [0, 1])
def test_labels_of_four_axes_keep_them(tmp_path, name, frame_axis):
    with Session(np.zeros((2, 3, 8, 10), np.uint8), model=make_model(), frame_axis=frame_axis) as made:
        made.add_mask(square(1, 1, 3, (8, 10)), frame=1)
        made.add_mask(square(4, 4, 3, (8, 10)), frame=3)
        path = export_labels(made, tmp_path / name, scale=(5, 2, 0.5, 0.5), translation=(0, 7, 0, 1))
        assert np.array_equal(read_labels(path), made.labels)
        voxel = open_frames(path, frame_axis="Z", fixed={"T": 0}).voxel_size
        assert (voxel["T"][0], voxel["Z"][0]) == (5, 2)
        path = export_labels(made, tmp_path / f"z{name}", axes="ZTYX")
        assert np.array_equal(read_labels(path), made.labels.transpose(1, 0, 2, 3))


def test_labels_of_five_axes_are_written(tmp_path):
    with Session(np.zeros((2, 2, 3, 8, 10), np.uint8), model=make_model()) as made:
        made.add_mask(square(1, 1, 3, (8, 10)), frame=7)
        path = export_labels(made, tmp_path / "a.ome.tif")
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "TCZYX"
            assert np.array_equal(file.asarray(), made.labels)
        with pytest.raises(OutputError, match="expected one letter"):
            export_labels(made, tmp_path / "b.ome.tif", axes="TQZYX")


def test_a_label_image_is_corrected_in_place(session, tmp_path):
    path = export_labels(session, tmp_path / "a.zarr")
    assert update_labels(session, path) == 0
    session.add_mask(square(30, 40), frame=5)
    assert update_labels(session, path) == 1
    assert np.array_equal(read_labels(path), session.labels)
    with (
        Session(np.zeros((2, 8, 8), np.uint8), model=make_model()) as other,
        pytest.raises(OutputError, match="planes"),
    ):
        update_labels(other, path)


def test_names_that_look_like_formulas_are_text_in_csv(session, tmp_path):
    for name in ("=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-1", "cell = 1"):
        session.new_object(name)
    names = pd.read_csv(export_objects_csv(session, tmp_path / "a.csv"))["name"].tolist()
    assert names[1:] == ["'=cmd|' /C calc'!A0", "'@SUM(1)", "'+1", "'-1", "cell = 1"]


def test_wrong_scale_is_refused(session, tmp_path):
    for scale in ((1.0, 1.0), (1.0, 0.0, 1.0)):
        with pytest.raises(OutputError, match="scale"):
            export_labels(session, tmp_path / "a.tif", scale=scale)
    assert list(tmp_path.iterdir()) == []


def test_tables_are_written_whole(session, tmp_path):
    scores = export_scores_csv(session, tmp_path / "s.csv")
    assert scores.read_text().splitlines()[1].startswith("1,object 1,0,,,36,painted")
    objects = export_objects_csv(session, tmp_path / "o.csv")
    assert len(objects.read_text().splitlines()) == 2
    with pytest.raises(OutputError, match="already exists"):
        export_scores_csv(session, scores)


@pytest.mark.parametrize("name", ["image.tif", "folder", "folder/labels.tif"])
def test_no_export_replaces_the_image_or_changes_its_folder(tmp_path, name):
    image = tmp_path / name.partition("/")[0]
    if image.name == "folder":
        image.mkdir()
        for t, plane in enumerate(make_movie(3)):
            tifffile.imwrite(image / f"{t}.tif", plane, photometric="minisblack")
    else:
        tifffile.imwrite(image, make_movie(3), photometric="minisblack")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.tif")}
    with Session(image, model=make_model()) as made:
        made.add_mask(square(10, 10, 6), frame=0)
        for write in (export_labels, export_scores_csv, export_objects_csv):
            with pytest.raises(OutputError, match="input"):
                write(made, tmp_path / name, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# ---------------------------------------------------------------------- tracks with lineage
@pytest.fixture
def dividing(model):
    """Object 1 on two frames, its daughters on three."""
    with Session(make_movie(5), model=model) as session:
        for frame in range(5):
            mask = square(10, 10) if frame < 2 else square(10, 4, 6) | square(10, 20, 8)
            session.paint(frame, {1: mask})
        session.divide(1, 2)
        for frame in (3, 4):
            session.paint(frame, {2: square(10, 20, 8), 3: square(10, 4, 6)})
        yield session


def test_graph_goes_with_the_tracks_table(dividing):
    assert tracks_graph(dividing) == {2: [1], 3: [1]}
    assert set(tracks_table(dividing)[:, 0]) == {1, 2, 3}
    tracks = session_tracks(dividing)
    assert np.array_equal(tracks.table(), tracks_table(dividing))
    assert tracks.graph() == tracks_graph(dividing)


def test_graph_leaves_out_objects_that_are_not_seen(dividing):
    dividing.new_object(object_id=7)
    dividing.set_parent(7, 1, 2)
    assert 7 not in tracks_graph(dividing)


@pytest.mark.parametrize("name", ["a.csv", "a.xml", "a.geff", "01_RES"])
def test_tracks_come_back_in_another_session(dividing, model, tmp_path, name):
    if name.endswith("geff"):
        pytest.importorskip("geff")
    path = export_tracks(dividing, tmp_path / name)
    tracks = read_tracks(path) if path.suffix else read_ctc(path).tracks
    assert tracks.parents == {2: 1, 3: 1}
    with Session(make_movie(5), model=model) as session:
        labels = dividing.labels if path.suffix else read_ctc(path).labels
        assert import_tracks(session, labels, tracks.parents) == [1, 2, 3]
        assert np.array_equal(session.labels, dividing.labels)
        assert session.lineage[["object", "parent", "born"]].equals(dividing.lineage[["object", "parent", "born"]])
        session.undo()
        assert not session.objects
        assert not session.labels.any()


def test_labels_of_another_shape_are_not_imported(dividing):
    with pytest.raises(OutputError, match="expected integers of the image's shape"):
        import_tracks(dividing, np.zeros((2, 3), int))


@pytest.mark.parametrize("parents", [{2: 1}, {2: 77}, {2: 1, 3: 2}], ids=["at-the-same-time", "unknown", "the-second"])
def test_a_refused_import_changes_nothing(parents):
    labels = np.zeros((5, 48, 64), np.int32)
    labels[:, 2:5, 2:5], labels[3:, 10:15, 10:15], labels[:3, 20:25, 20:25] = 1, 2, 3
    with Session(make_movie(labels.shape[0]), model=make_model()) as session:
        session.paint(0, {9: square(30, 30)})
        before = state(session)
        with pytest.raises(PromptError):
            import_tracks(session, labels, parents)
        assert state(session) == before
        assert not session.redo()
        with pytest.raises(OutputError, match="expected numbers up to 2147483647"):
            import_tracks(session, labels.astype(np.int64) * 2**31, parents)
