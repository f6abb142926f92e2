"""Labels written here, read and validated by other libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree as ET

import ngff_zarr
import numpy as np
import pytest
import roifile
import shapely
import shapely.geometry
import tifffile
import zarr
from napari_builtins.io import napari_get_reader
from ngff_tools import make_image
from pycocotools.coco import COCO
from read_roi import read_roi_zip
from skimage.measure import grid_points_in_poly

from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.in_place import LabelEditor

SCALE = {"z": 2.0, "y": 0.5, "x": 0.5}
ORIGIN = {"z": 10.0, "y": 70.0, "x": 0.0}
UNITS = dict.fromkeys("zyx", "micrometer")


def make_labels() -> np.ndarray:
    labels = np.zeros((4, 64, 80), np.int32)
    labels[:, 4:20, 6:24] = 3
    labels[1:, 40:60, 30:70] = 70_000
    return labels


def write(path: Path, labels: np.ndarray) -> None:
    sizes = {axis.upper(): (SCALE[axis], UNITS[axis]) for axis in SCALE}
    origin = {axis.upper(): position for axis, position in ORIGIN.items()}
    with LabelWriter(path, labels.shape, voxel_size=sizes, translation=origin) as writer:
        for frame, plane in enumerate(labels):
            writer.write(frame, plane)


def check(multiscales: ngff_zarr.Multiscales, labels: np.ndarray) -> None:
    image = multiscales.images[0]
    assert list(image.dims) == ["z", "y", "x"]
    assert (image.scale, image.translation, image.axes_units) == (SCALE, ORIGIN, UNITS)
    assert np.array_equal(np.asarray(image.data), labels)


def test_a_label_image_of_its_own_is_read_and_validated(tmp_path):
    write(tmp_path / "a.ome.zarr", make_labels())
    check(ngff_zarr.from_ngff_zarr(str(tmp_path / "a.ome.zarr"), validate=True), make_labels())


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_labels_in_an_image_are_read_and_validated(tmp_path, version):
    image = make_image(tmp_path / "a.ome.zarr", version, shape=(2, 4, 64, 80))
    write(image / "labels" / "cells", make_labels())
    found = ngff_zarr.from_ngff_zarr(str(image / "labels" / "cells"), validate=True)
    check(found, make_labels())
    assert [level.data.shape for level in found.images] == [(4, 64, 80), (4, 32, 40)]
    assert found.images[1].scale == {"z": 2.0, "y": 1.0, "x": 1.0}


@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_labels_in_a_sharded_image_have_as_few_files_and_are_corrected_in_place(tmp_path, version):
    """Shards as high and wide as the image's, of one plane, and clipped where a chunk is larger than the image."""
    image = make_image(tmp_path / "a.ome.zarr", version, shape=(2, 4, 64, 80))
    group = zarr.open_group(image, mode="r+")
    for level, chunks, shards in (("0", (1, 1, 16, 16), (1, 4, 64, 48)), ("1", (1, 2, 48, 20), (1, 4, 96, 40))):
        shape = group[level].shape
        group.create_array(level, shape=shape, dtype="uint16", chunks=chunks, shards=shards, overwrite=True)
    labels = make_labels()
    place = image / "labels" / "cells"
    write(place, labels)
    written = zarr.open_group(place, mode="r")
    assert (written["0"].chunks, written["0"].shards) == ((1, 16, 16), (1, 64, 48))
    assert (written["1"].chunks, written["1"].shards) == ((2, 32, 20), (2, 32, 40))
    assert sum(path.is_file() for path in (place / "0" / "c").rglob("*")) == 7  # none for an empty shard
    labels[2, 60:, 70:] = 9
    with LabelEditor(place) as editor:
        for frame, plane in enumerate(labels):
            editor[frame] = plane
        assert editor.num_written == 1
    found = ngff_zarr.from_ngff_zarr(str(place), validate=True)
    check(found, labels)
    assert np.array_equal(np.asarray(found.images[1].data), labels[:, 1::2, 1::2])


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_tiffs_are_read_plane_by_plane(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", make_labels() % 1000)
    with tifffile.TiffFile(tmp_path / f"a{suffix}") as tif:
        assert len(tif.pages) == 4
        for page, plane in zip(tif.pages, make_labels() % 1000, strict=True):
            assert np.array_equal(page.asarray(), plane)


def filled(rings: list[np.ndarray], hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels whose middles lie inside an odd number of rings of x, y."""
    inside = np.zeros(hw, bool)
    for ring in rings:
        inside ^= grid_points_in_poly(hw, np.asarray(ring, float)[:, ::-1] - 0.5)
    return inside


def outlined_labels() -> np.ndarray:
    """A ring, two pieces of one object, and a staircase at the border."""
    labels = np.zeros((2, 40, 50), np.int32)
    labels[0, 4:20, 5:25], labels[0, 8:12, 10:15] = 3, 0
    labels[1, 2:6, 30:40], labels[1, 20:33, 35:37] = 12, 12
    labels[1, 30:40, :4], labels[1, 36:40, 4:9] = 70_000, 70_000
    return labels


def test_rois_of_imagej_are_the_pixels(tmp_path):
    labels = outlined_labels()
    write(tmp_path / "a.zip", labels)
    found = np.zeros_like(labels)
    for roi in roifile.roiread(tmp_path / "a.zip"):
        number = int(roi.name.split("-")[1])
        found[roi.position - 1][filled(roi.coordinates(multi=True), (40, 50))] = number
    assert np.array_equal(found, labels)


def test_polygons_of_geojson_are_the_pixels(tmp_path):
    labels = outlined_labels()
    write(tmp_path / "a.geojson", labels)
    found = np.zeros_like(labels)
    for feature in json.loads((tmp_path / "a.geojson").read_text())["features"]:
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        rings = [np.array(ring) for polygon in polygons for ring in polygon]
        found[geometry["plane"]["z"]][filled(rings, (40, 50))] = feature["properties"]["label"]
    assert np.array_equal(found, labels)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX", "TCZYX"])
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize("largest", [900, 70_000])
def test_axes_and_distances_of_tiffs(tmp_path, axes, suffix, largest):
    shape = tuple({"T": 2, "C": 1, "Z": 3, "Y": 40, "X": 50}[axis] for axis in axes)
    labels = np.zeros(shape, np.int32)
    labels[..., 4:20, 5:25] = largest
    sizes = {"T": (5.0, "second"), "Z": (2.0, "micrometer"), "Y": (0.5, "micrometer"), "X": (0.25, "micrometer")}
    path = tmp_path / f"a{suffix}"
    with LabelWriter(path, shape, axes=axes, voxel_size=sizes) as writer:
        for frame, plane in enumerate(labels.reshape(-1, 40, 50)):
            writer.write(frame, plane)
    with tifffile.TiffFile(path) as tif:
        assert np.array_equal(tif.asarray().squeeze(), labels.squeeze())
        assert tif.series[0].axes.replace("C", "") == axes.replace("C", "")  # the channel of length one may be left out
        if suffix == ".ome.tif":
            pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
            assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.25, "µm")
            assert "Z" not in axes or pixels["PhysicalSizeZ"] == 2
            assert "T" not in axes or (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (5, "s")
        elif tif.is_imagej:
            assert largest == 900
            assert "Z" not in axes or tif.imagej_metadata["spacing"] == 2
            assert tif.pages[0].tags["XResolution"].value == (4, 1)
        else:
            assert tif.shaped_metadata[0]["spacing"]["X"] == [0.25, "micrometer"]
    ((found, *_),) = napari_get_reader(str(path))(str(path))
    assert np.array_equal(np.asarray(found).squeeze(), labels.squeeze())


# ---------------------------------------------------------------------- five axes
LENGTHS = {"T": 2, "C": 1, "Z": 3, "Y": 40, "X": 50}
SIZES = {"T": (5.0, "second"), "Z": (2.0, "micrometer"), "Y": (0.5, "micrometer"), "X": (0.25, "micrometer")}
START = {"T": 15.0, "Z": -6.0, "Y": 70.0, "X": 12.5}
MOVIES = pytest.mark.parametrize("axes", ["TZYX", "TCZYX"])


def movie_labels(axes: str, largest: int = 70_000) -> np.ndarray:
    """Objects with holes and in pieces, at other places and with other ids on each plane."""
    labels = np.zeros(tuple(LENGTHS[axis] for axis in axes), np.int32)
    for number, plane in enumerate(labels.reshape(-1, 40, 50)):
        plane[4:20, 5 + number : 25], plane[8:12, 12:16] = 3, 0
        plane[22:30, 30:40], plane[30:34, 40:44], plane[24:26, 33:35] = 12, 12, 0  # the pieces touch at a corner
        plane[35:, :4], plane[39, : 5 + number] = largest, largest
        plane[number, 49] = 100 + number
    return labels


def write_movie(path: Path, axes: str, labels: np.ndarray) -> None:
    sizes = {axis: SIZES[axis] for axis in axes if axis in SIZES}
    with LabelWriter(path, labels.shape, axes=axes, voxel_size=sizes, translation=START) as writer:
        for frame, plane in enumerate(labels.reshape(-1, 40, 50)):
            writer.write(frame, plane)


def check_movie(multiscales: ngff_zarr.Multiscales, axes: str, labels: np.ndarray, start: dict[str, float]) -> None:
    image = multiscales.images[0]
    assert "".join(image.dims) == axes.lower()
    assert image.scale == {axis.lower(): SIZES.get(axis, (1.0, ""))[0] for axis in axes}
    assert image.translation == {axis.lower(): start.get(axis, 0.0) for axis in axes}
    units = {axis: unit for axis, unit in (image.axes_units or {}).items() if unit}
    assert units == {axis.lower(): SIZES[axis][1] for axis in axes if axis in SIZES}
    assert np.array_equal(np.asarray(image.data), labels)


@MOVIES
def test_movies_of_labels_are_read_and_validated_by_ngff_zarr(tmp_path, axes):
    write_movie(tmp_path / "a.ome.zarr", axes, movie_labels(axes))
    found = ngff_zarr.from_ngff_zarr(str(tmp_path / "a.ome.zarr"), validate=True)
    check_movie(found, axes, movie_labels(axes), START)


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_movies_of_labels_in_an_image_are_read_and_validated_by_ngff_zarr(tmp_path, version):
    image = make_image(tmp_path / "a.ome.zarr", version, "tczyx", (2, 2, 3, 40, 50))
    labels = movie_labels("TZYX")
    write_movie(image / "labels" / "cells", "TZYX", labels)
    found = ngff_zarr.from_ngff_zarr(str(image / "labels" / "cells"), validate=True).images[0]
    of_image = ngff_zarr.from_ngff_zarr(str(image), validate=True).images[0]
    assert "".join(found.dims) == "tzyx"
    for name in ("scale", "translation", "axes_units"):
        assert getattr(found, name) == {axis: getattr(of_image, name)[axis] for axis in "tzyx"}
    assert np.array_equal(np.asarray(found.data), labels)


@MOVIES
@pytest.mark.parametrize(("name", "largest"), [("a.ome.tif", 70_000), ("a.tif", 900), ("a.tif", 70_000)])
def test_tiffs_say_where_their_first_pixel_lies(tmp_path, axes, name, largest):
    labels = movie_labels(axes, largest)
    write_movie(tmp_path / name, axes, labels)
    with tifffile.TiffFile(tmp_path / name) as tif:
        assert np.array_equal(tif.asarray().reshape(labels.shape), labels)
        if tif.ome_metadata:
            check_ome_planes(tif, labels.reshape(2, 3, 40, 50))
        elif tif.is_imagej:
            found = tif.imagej_metadata
            assert (found["xorigin"], found["yorigin"], found["zorigin"]) == (-50, -140, 3)
            assert (found["unit"], found["finterval"], found["slices"], found["frames"]) == ("um", 5, 3, 2)
        else:
            assert tif.shaped_metadata[0]["translation"] == {axis: START[axis] for axis in axes if axis in START}
            assert {axis: tuple(size) for axis, size in tif.shaped_metadata[0]["spacing"].items()} == SIZES


def check_ome_planes(tif: tifffile.TiffFile, labels: np.ndarray) -> None:
    """The OME-XML, read as plain XML, gives place and position of each page."""
    root = ET.fromstring(tif.ome_metadata)
    space = {"ome": root.tag.partition("}")[0].strip("{")}
    (pixels,) = root.findall("ome:Image/ome:Pixels", space)
    assert [int(pixels.attrib[f"Size{axis}"]) for axis in "TCZYX"] == [2, 1, 3, 40, 50]
    order = pixels.attrib["DimensionOrder"]
    assert (order[:2], pixels.attrib["Type"]) == ("XY", "int32")
    fastest = [axis for axis in order[2:] if axis != "C"]
    for page in range(6):
        first = page % LENGTHS[fastest[0]]
        at = dict(zip(fastest, (first, page // LENGTHS[fastest[0]]), strict=True))
        assert np.array_equal(tif.pages[page].asarray(), labels[at["T"], at["Z"]])
    planes = {(int(p.attrib["TheT"]), int(p.attrib["TheZ"])): p.attrib for p in pixels.findall("ome:Plane", space)}
    assert len(planes) == 6
    for (_, z), plane in planes.items():
        assert [float(plane[f"Position{axis}"]) for axis in "XYZ"] == [12.5, 70, -6 + 2 * z]
        assert {plane[f"Position{axis}Unit"] for axis in "XYZ"} == {"µm"}


@MOVIES
def test_read_roi_finds_the_pixels_on_their_planes(tmp_path, axes):
    labels = movie_labels(axes)
    write_movie(tmp_path / "a.zip", axes, labels)
    found = np.zeros((2, 3, 40, 50), np.int32)
    for name, roi in read_roi_zip(str(tmp_path / "a.zip")).items():
        rings = [np.array(ring) for ring in roi["paths"]] if "paths" in roi else [np.transpose((roi["x"], roi["y"]))]
        assert roi["position"]["channel"] == 1
        plane = found[roi["position"]["frame"] - 1, roi["position"]["slice"] - 1]
        plane[filled(rings, (40, 50))] = int(name.split("-")[1])
    assert np.array_equal(found.reshape(labels.shape), labels)


@MOVIES
def test_polygons_of_geojson_are_valid_and_are_the_pixels_on_their_planes(tmp_path, axes):
    """By GEOS, a port of the library that QuPath reads GeoJSON with."""
    labels = movie_labels(axes)
    write_movie(tmp_path / "a.geojson", axes, labels)
    found = np.zeros((2, 3, 40, 50), np.int32)
    y, x = np.mgrid[:40, :50] + 0.5
    for feature in json.loads((tmp_path / "a.geojson").read_text())["features"]:
        geometry, plane = shapely.geometry.shape(feature["geometry"]), feature["geometry"]["plane"]
        assert shapely.is_valid(geometry), shapely.is_valid_reason(geometry)
        assert plane["c"] == (0 if "C" in axes else -1)
        inside = shapely.contains_xy(geometry, x.ravel(), y.ravel()).reshape(40, 50)
        assert inside.sum() == geometry.area
        found[plane["t"], plane["z"]][inside] = feature["properties"]["label"]
    assert np.array_equal(found.reshape(labels.shape), labels)


@MOVIES
def test_pycocotools_finds_the_pixels_on_their_planes(tmp_path, axes):
    labels = movie_labels(axes)
    write_movie(tmp_path / "a.json", axes, labels)
    coco = COCO(tmp_path / "a.json")
    images = {image["id"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert len(images) == math.prod(labels.shape[:-2])
    found = np.zeros_like(labels)
    for entry in coco.loadAnns(coco.getAnnIds()):
        place = tuple(images[entry["image_id"]][axis] for axis in axes[:-2].lower())
        found[place][coco.annToMask(entry).astype(bool)] = entry["track_id"]
    assert np.array_equal(found, labels)
