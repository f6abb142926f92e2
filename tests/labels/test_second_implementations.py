"""Labels written here, read and validated by other libraries."""

from __future__ import annotations

import json
from pathlib import Path

import ngff_zarr
import numpy as np
import pytest
import roifile
import tifffile
from napari_builtins.io import napari_get_reader
from ngff_tools import make_image
from skimage.measure import grid_points_in_poly

from napari_sam2.labels.files import LabelWriter

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
