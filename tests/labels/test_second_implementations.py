"""Labels written here, read and validated by other libraries."""

from __future__ import annotations

from pathlib import Path

import ngff_zarr
import numpy as np
import pytest
import tifffile
from ngff_tools import make_image

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
