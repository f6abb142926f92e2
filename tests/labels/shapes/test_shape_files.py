"""Outlines and run lengths in files of other programs: round trips, and reading by second implementations."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import roifile
from ngff_tools import make_image
from pycocotools.coco import COCO
from skimage.measure import grid_points_in_poly

from napari_sam2 import open_frames
from napari_sam2._errors import FrameError
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.outlines import fill_polygons, label_polygons, label_windows, mask_polygons
from napari_sam2.labels.reading import read_labels


def make_labels(num_frames: int = 3, hw: tuple[int, int] = (40, 50)) -> np.ndarray:
    """A ring with an island, two pieces of one object that touch at a corner, a pixel at the border."""
    labels = np.zeros((num_frames, *hw), np.int32)
    labels[:, 4:20, 5:25] = 3
    labels[:, 8:16, 9:21] = 0
    labels[:, 11:13, 13:15] = 70_000
    labels[:, 25:30, 5:10] = labels[:, 30:33, 10:14] = 12
    labels[0, 0, 0] = labels[-1, -1, -1] = 5
    return labels


def write(path, labels, axes="ZYX"):
    with LabelWriter(path, labels.shape, axes=axes) as writer:
        for frame, plane in enumerate(labels.reshape(-1, *labels.shape[-2:])):
            writer.write(frame, plane)


def areas(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_random_masks_give_them_back(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 16, 2)) < rng.random()
    polygons = mask_polygons(mask)
    assert np.array_equal(fill_polygons(polygons, mask.shape), mask)
    assert sum(areas(ring) for rings in polygons for ring in rings) == mask.sum()
    for outer, *holes in polygons:
        assert areas(outer) > 0
        assert all(areas(hole) < 0 for hole in holes)
        assert all(len(set(map(tuple, ring.tolist()))) == len(ring) for ring in (outer, *holes))


def test_ids_may_be_far_apart():
    labels = np.array([[0, 2**31 - 1, 7]], np.int32)
    assert [(i, polygons[0][0].min(0).tolist()) for i, polygons in label_polygons(labels)] == [
        (7, [2, 0]),
        (2**31 - 1, [1, 0]),
    ]
    assert list(label_windows(labels)) == [
        (7, (slice(0, 1), slice(2, 3))),
        (2**31 - 1, (slice(0, 1), slice(1, 2))),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_outlines_have_corners_only_where_they_turn(seed):
    mask = np.kron(np.random.default_rng(seed).random((6, 7)) < 0.6, np.ones((3, 3))) > 0
    for ring in (ring for rings in mask_polygons(mask) for ring in rings):
        steps = np.roll(ring, -1, 0) - ring
        assert (steps.astype(bool).sum(1) == 1).all()
        assert (steps.astype(bool) != np.roll(steps.astype(bool), 1, 0)).all()


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_labels_come_back_as_they_were(tmp_path, suffix, num_frames):
    labels = make_labels(num_frames)
    path = tmp_path / f"a{suffix}"
    write(path, labels if num_frames > 1 else labels[0], "ZYX" if num_frames > 1 else "YX")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    back = read_labels(path, shape=labels.shape)
    assert back.dtype == np.int32
    assert np.array_equal(back, labels if num_frames > 1 else labels[0])


@pytest.mark.parametrize("suffix", [".zip", ".geojson"])
def test_files_without_size_need_the_shape(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", make_labels())
    with pytest.raises(FrameError, match="how large its image is"):
        read_labels(tmp_path / f"a{suffix}")
    with pytest.raises(FrameError, match="on plane 2; the image has 0 to 1"):
        read_labels(tmp_path / f"a{suffix}", shape=(2, 40, 50))


def test_imagej_rois_say_position_and_colour(tmp_path):
    labels = make_labels(6).reshape(2, 3, 40, 50)
    write(tmp_path / "a.zip", labels, "TZYX")
    rois = {roi.name: roi for roi in roifile.roiread(tmp_path / "a.zip")}
    roi = rois["label-70000-6"]
    assert (roi.c_position, roi.z_position, roi.t_position) == (1, 3, 2)
    assert roi.roitype == roifile.ROI_TYPE.TRACED
    inside = grid_points_in_poly((40, 50), roi.coordinates()[:, ::-1] - 0.5)
    assert np.array_equal(inside, labels[1, 2] == 70_000)
    rings = rois["label-3-1"].coordinates(multi=True)
    assert [sorted(map(tuple, ring[:-1].tolist())) for ring in rings] == [
        [(5, 4), (5, 20), (25, 4), (25, 20)],
        [(9, 8), (9, 16), (21, 8), (21, 16)],
    ]


def test_coco_is_read_by_its_own_library(tmp_path, capsys):
    labels = make_labels()
    write(tmp_path / "a.json", labels)
    coco = COCO(tmp_path / "a.json")
    assert [image["z"] for image in coco.loadImgs(coco.getImgIds())] == [0, 1, 2]
    found = np.zeros_like(labels)
    for entry in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(entry).astype(bool)
        found[entry["image_id"] - 1][mask] = entry["track_id"]
        assert entry["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y, width, height = entry["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.array_equal(found, labels)


def test_geojson_is_what_qupath_imports(tmp_path):
    """A FeatureCollection in pixels of the whole image from its upper left corner, with plane and object type."""
    write(tmp_path / "a.geojson", make_labels(2), "TYX")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    ring = next(f for f in features if f["properties"]["label"] == 3)
    assert ring["type"] == "Feature"
    assert ring["properties"]["objectType"] == "detection"
    assert ring["geometry"]["type"] == "Polygon"
    assert ring["geometry"]["plane"] == {"c": -1, "z": 0, "t": 0}
    outer, hole = ring["geometry"]["coordinates"]
    assert outer == [[5, 4], [25, 4], [25, 20], [5, 20], [5, 4]]
    assert hole[0] == hole[-1]
    pieces = next(f for f in features if f["properties"]["label"] == 12)
    assert pieces["geometry"]["type"] == "MultiPolygon"
    assert len(pieces["geometry"]["coordinates"]) == 2
    assert features[-1]["geometry"]["plane"]["t"] == 1


def test_rois_drawn_in_imagej(tmp_path):
    """Names that ImageJ gives are no numbers; rectangles and ovals are areas, lines are not."""
    square = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="0010-0007", left=5, top=8, right=9, bottom=12)
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, name="0025-0030", left=20, top=20, right=40, bottom=30)
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, name="0001-0001", x2=5, y2=5)
    freehand = roifile.ImagejRoi.frompoints(np.array([[1.5, 1.5], [4.5, 1.5], [4.5, 3.5]]), name="a cell")
    roifile.roiwrite(tmp_path / "RoiSet.zip", [square, oval, line, freehand])
    labels = read_labels(tmp_path / "RoiSet.zip", shape=(40, 50))
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert np.array_equal(np.argwhere(labels == 1).min(0), [8, 5])
    assert (labels == 1).sum() == 16
    assert (labels == 2).sum() == pytest.approx(np.pi * 10 * 5, rel=0.05)
    roifile.roiwrite(tmp_path / "line.zip", [line])
    with pytest.raises(FrameError, match="holds no areas"):
        read_labels(tmp_path / "line.zip", shape=(40, 50))


def test_coco_polygons_and_plain_run_lengths(tmp_path):
    polygon = {"segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]], "image_id": 1}
    runs = {"segmentation": {"size": [6, 8], "counts": [40, 6, 2]}, "image_id": 1}
    content = {"images": [{"id": 1, "height": 6, "width": 8}], "annotations": [polygon, runs]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    labels = read_labels(tmp_path / "a.json")
    assert (labels == 1).sum() == 12
    assert labels[1:4, 1:5].min() == 1
    assert np.argwhere(labels == 2).tolist() == [[0, 7], [1, 7], [2, 7], [3, 7], [4, 6], [5, 6]]
    with pytest.raises(FrameError, match=r"belongs to an image of \(6, 8\)"):
        read_labels(tmp_path / "a.json", shape=(9, 9))


def test_points_and_lines_beside_areas_are_left_out_with_a_warning(tmp_path):
    square = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=5, top=8, right=9, bottom=12)
    roifile.roiwrite(tmp_path / "a.zip", [square, roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x2=5, y2=5)])
    with pytest.warns(UserWarning, match="holds 1 points, lines, texts or empty shapes"):
        assert (read_labels(tmp_path / "a.zip", shape=(40, 50)) == 1).sum() == 16


@pytest.mark.parametrize("subtype", [roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.IMAGE])
def test_the_frame_of_a_text_or_picture_is_no_object(tmp_path, subtype, caplog):
    square = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=5, top=8, right=9, bottom=12)
    note = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, subtype=subtype, left=20, top=8, right=40, bottom=12)
    roifile.roiwrite(tmp_path / "a.zip", [note, square])
    with pytest.warns(UserWarning, match="holds 1 points, lines, texts or empty shapes"):
        assert (read_labels(tmp_path / "a.zip", shape=(40, 50)) > 0).sum() == 16


def test_a_roi_set_that_was_packed_again_on_a_mac(tmp_path):
    square = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=5, top=8, right=9, bottom=12)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("RoiSet/a.roi", square.tobytes())
        archive.writestr("__MACOSX/RoiSet/._a.roi", b"\0\5\x16\7 attributes")
    assert (read_labels(tmp_path / "a.zip", shape=(40, 50)) == 1).sum() == 16


def test_json_with_a_byte_order_mark(tmp_path):
    polygon = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]]}
    (tmp_path / "a.geojson").write_text(json.dumps(polygon), "utf-8-sig")
    assert (read_labels(tmp_path / "a.geojson", shape=(20, 30)) == 1).sum() == 12


@pytest.mark.parametrize("images", [1, 2])
def test_an_annotation_of_an_image_that_is_not_listed_is_refused(tmp_path, images):
    listed = [{"id": n, "height": 6, "width": 8} for n in range(1, images + 1)]
    annotation = {"segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]], "image_id": 7}
    (tmp_path / "a.json").write_text(json.dumps({"images": listed, "annotations": [annotation]}))
    with pytest.raises(FrameError, match=r"belongs to image 7, which .*a\.json does not list"):
        read_labels(tmp_path / "a.json")


def test_geojson_of_collections_and_without_geometry(tmp_path):
    ring = [[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    collection = {"type": "GeometryCollection", "geometries": [polygon, {"type": "Point", "coordinates": [9, 9]}]}
    features = [{"type": "Feature", "geometry": geometry, "properties": None} for geometry in (collection, None)]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.warns(UserWarning, match="left out"):
        labels = read_labels(tmp_path / "a.geojson", shape=(20, 30))
    assert (labels == 1).sum() == 12


def test_a_list_of_coco_results(tmp_path):
    runs = {"segmentation": {"size": [6, 8], "counts": [40, 6, 2]}, "image_id": 3, "score": 0.9}
    (tmp_path / "a.json").write_text(json.dumps([runs]))
    assert np.argwhere(read_labels(tmp_path / "a.json")).tolist() == [
        [0, 7], [1, 7], [2, 7], [3, 7], [4, 6], [5, 6]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"bbox": [1, 1, 4, 3]}, "has no 'segmentation'"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "a mask of 9 x 9 was found in an image of 6 x 8"),
    ],
)
def test_coco_that_does_not_fit_is_refused(tmp_path, annotation, words):
    content = {"images": [{"id": 1, "height": 6, "width": 8}], "annotations": [{"image_id": 1, **annotation}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(FrameError, match=words):
        read_labels(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a.zip", "a.roi", "a.json", "a.geojson"])
@pytest.mark.parametrize("content", [b"", b"{", b"[[[", b'{"features": 3}', b'{"annotations": [], "images": [{}]}'])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError):
        read_labels(tmp_path / name, shape=(4, 4))


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(FrameError, match=r"contains no \.roi file"):
        read_labels(tmp_path / "a.zip", shape=(4, 4))


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
def test_labels_of_a_coarser_level_are_written_in_pixels_of_the_full_resolution(tmp_path, suffix):
    image = make_image(tmp_path / "a.zarr", "0.5", "yx", (32, 40))
    frames = open_frames(image, level=1)
    labels = np.zeros((16, 20), np.int32)
    labels[2:6, 3:9], labels[10:12, 4:5] = 1, 2
    with LabelWriter.for_frames(tmp_path / f"a{suffix}", frames) as writer:
        writer.write(0, labels)
    found = read_labels(tmp_path / f"a{suffix}", shape=(32, 40))
    assert np.array_equal(found, labels.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("suffix", [".geojson", ".json"])
def test_objects_outside_the_image_are_left_out_with_a_warning(tmp_path, suffix):
    inside, outside = [[1, 1], [5, 1], [5, 4], [1, 4]], [[101, 1], [105, 1], [105, 4]]
    shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in (inside, outside)]
    (tmp_path / f"a{suffix}").write_text(json.dumps([{"type": "Feature", "geometry": shape} for shape in shapes]))
    with pytest.warns(UserWarning, match=r"1 of 2 objects .* lie outside the image"):
        assert (read_labels(tmp_path / f"a{suffix}", shape=(6, 8)) == 1).sum() == 12
    (tmp_path / f"a{suffix}").write_text(json.dumps({"type": "Feature", "geometry": shapes[1]}))
    with pytest.raises(FrameError, match=r"no object of .* lies inside the image of 6 x 8"):
        read_labels(tmp_path / f"a{suffix}", shape=(6, 8))


def test_an_object_on_another_plane_than_the_only_one_is_refused(tmp_path):
    ring = [[1, 1], [5, 1], [5, 4], [1, 1]]
    shape = {"type": "Polygon", "coordinates": [ring], "plane": {"c": -1, "z": 3, "t": 0}}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Feature", "geometry": shape}))
    with pytest.raises(FrameError, match="an object on plane 3; the image has one plane"):
        read_labels(tmp_path / "a.geojson", shape=(6, 8))


@pytest.mark.parametrize("key", ["name", "label"])
def test_objects_of_one_name_stay_objects(tmp_path, key):
    rings = [[[x, 1], [x + 4, 1], [x + 4, 5], [x, 5], [x, 1]] for x in (1, 7, 13)]
    features = [
        {"geometry": {"type": "Polygon", "coordinates": [ring], "plane": {"z": z}}, "properties": {key: number}}
        for ring, z, number in zip([*rings, rings[0]], (0, 0, 0, 1), ("2", "2", "9", "2"), strict=True)
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.warns(UserWarning, match="several objects of the number 2 on one plane"):
        labels = read_labels(tmp_path / "a.geojson", shape=(2, 10, 20))
    assert labels[:, 2, [2, 8, 14]].tolist() == [[2, 10, 9], [2, 0, 0]]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_all_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for x in (1, 7):
            points = np.array([[x, 1], [x + 4, 1], [x + 4, 5], [x, 5]])
            archive.writestr("cell.roi", roifile.ImagejRoi.frompoints(points).tobytes())
    labels = read_labels(tmp_path / "a.zip", shape=(10, 20))
    assert labels[2, [2, 8]].tolist() == [1, 2]


@pytest.mark.parametrize("images", [{"image": {"image_id": 5}}, {"images": [{"id": "a"}]}], ids=["SA-1B", "named"])
def test_masks_of_one_image_need_no_number_of_it(tmp_path, images):
    for listed in images.values():
        for image in listed if isinstance(listed, list) else [listed]:
            image.update(height=6, width=8)
    masks = [{"segmentation": {"size": [6, 8], "counts": [40, 6, 2]}}]
    (tmp_path / "a.json").write_text(json.dumps({**images, "annotations": masks}))
    assert read_labels(tmp_path / "a.json").sum() == 6


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
def test_volumes_over_time_come_back_where_their_shape_is_given(tmp_path, suffix):
    labels = np.zeros((2, 3, 20, 30), np.int32)
    for t, z in np.ndindex(2, 3):
        labels[t, z, 2 + z : 8 + z, 3 + t : 9] = 1 + t
    write(tmp_path / f"a{suffix}", labels, "TZYX")
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}", shape=labels.shape), labels)


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
def test_channels_of_volumes_over_time_come_back_where_their_shape_is_given(tmp_path, suffix):
    labels = np.zeros((2, 2, 3, 20, 30), np.int32)
    for t, c, z in np.ndindex(2, 2, 3):
        labels[t, c, z, 2 + z : 8 + z, 3 + t : 9 + c] = 1 + t
    write(tmp_path / f"a{suffix}", labels, "TCZYX")
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}", shape=labels.shape), labels)


@pytest.mark.parametrize("suffix", [".zip", ".geojson"])
class TestOneStackOutOfSeveral:
    def written(self, tmp_path, suffix, places):
        labels = np.zeros((3, 4, 20, 30), np.int32)
        for number, (t, z) in enumerate(places, 1):
            labels[t, z, 2:8, 3 * number : 3 * number + 2] = number
        write(tmp_path / f"a{suffix}", labels, "TZYX")
        return tmp_path / f"a{suffix}", labels

    def test_objects_of_the_others_are_left_out(self, tmp_path, suffix):
        path, labels = self.written(tmp_path, suffix, [(0, 1), (2, 3), (2, 0), (1, 3)])
        with pytest.warns(UserWarning, match=r"2 of 4 objects of .* do not lie at T=2 and are left out"):
            assert np.array_equal(read_labels(path, shape=(4, 20, 30), fixed={"T": 2}), labels[2])
        with pytest.warns(UserWarning, match=r"2 of 4 objects of .* do not lie at Z=3 and are left out"):
            assert np.array_equal(read_labels(path, shape=(3, 20, 30), fixed={"Z": 3}), labels[:, 3])

    def test_objects_of_none_are_refused(self, tmp_path, suffix):
        path, _ = self.written(tmp_path, suffix, [(0, 1), (2, 3)])
        with pytest.raises(FrameError, match="no object at T=1, which is the stack that is read"):
            read_labels(path, shape=(4, 20, 30), fixed={"T": 1})

    def test_objects_that_were_drawn_on_the_stack_alone_are_kept(self, tmp_path, suffix):
        path, labels = self.written(tmp_path, suffix, [(0, 1), (0, 3)])
        assert np.array_equal(read_labels(path, shape=(4, 20, 30), fixed={"T": 1}), labels[0])

    def test_objects_along_both_axes_are_not_those_of_one_stack(self, tmp_path, suffix):
        """Also where none of them lies beyond the first along both."""
        path, _ = self.written(tmp_path, suffix, [(0, 1), (2, 0)])
        with pytest.raises(FrameError, match="at several z and time points"):
            read_labels(path, shape=(4, 20, 30))


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
def test_planes_of_a_stack_of_channels_come_back(tmp_path, suffix):
    labels = np.zeros((3, 20, 30), np.int32)
    for c in range(3):
        labels[c, 2 + c : 8 + c, 3:9] = 1
    write(tmp_path / f"a{suffix}", labels, "CYX")
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}", shape=labels.shape), labels)


SQUARE = [[4, 3], [12, 3], [12, 9], [4, 9], [4, 3]]


@pytest.mark.parametrize("coordinates", [[], [[]]], ids=["no ring", "empty ring"])
def test_an_empty_polygon_costs_no_other_object(tmp_path, coordinates):
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": each}, "properties": {}}
        for each in (coordinates, [SQUARE])
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.warns(UserWarning, match="1 points, lines, texts or empty shapes"):
        assert (read_labels(tmp_path / "a.geojson", shape=(30, 40)) > 0).sum() == 48


def test_numbers_of_geojson_may_be_written_as_fractions(tmp_path):
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
        "properties": {"label": 5.0},
    }
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert read_labels(tmp_path / "a.geojson", shape=(30, 40)).max() == 5


def test_an_empty_roi_costs_no_other_one(tmp_path):
    whole = roifile.ImagejRoi.frompoints(np.array(SQUARE[:4]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("empty.roi", b"Iout" + bytes(60))
        archive.writestr("whole.roi", whole.tobytes())
    with pytest.warns(UserWarning, match="1 points, lines, texts or empty shapes"):
        assert (read_labels(tmp_path / "a.zip", shape=(30, 40)) > 0).sum() == 48


def test_coco_without_images_is_told(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [{"segmentation": [[1, 1, 5, 1, 5, 5]]}]}))
    with pytest.raises(FrameError, match="lists no images"):
        read_labels(tmp_path / "a.json")
