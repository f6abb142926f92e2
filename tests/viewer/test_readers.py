"""Files that this package wrote come back in napari in their place and as the right kind of layer."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Layer
from ngff_tools import make_image

from factories import make_model, make_movie
from napari_sam2 import Session
from napari_sam2._viewer.readers import SESSION_KEY, get_ome_reader, get_session_reader
from napari_sam2.session.results.export import export_labels


@pytest.fixture
def image(tmp_path):
    """An OME-TIFF with voxels of 0.9 x 0.3 x 0.3 micrometres."""
    path = tmp_path / "cells.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.9, "PhysicalSizeY": 0.3, "PhysicalSizeX": 0.3}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(path, make_movie(4), ome=True, metadata={**metadata, **units})
    return path


@pytest.fixture
def session(image):
    made = Session(image, model=make_model())
    mask = np.zeros((48, 64), bool)
    mask[10:20, 10:25] = True
    made.add_mask(mask, frame=2)
    yield made
    made.close()


def layers_of(reader, path):
    return [Layer.create(*data) for data in reader(str(path))(str(path))]


def test_image_keeps_voxel_size_and_axis_names(image):
    (layer,) = layers_of(get_ome_reader, image)
    assert type(layer).__name__ == "Image"
    assert layer.name == "cells"
    np.testing.assert_allclose(layer.scale, (0.9, 0.3, 0.3))
    assert layer.axis_labels == ("z", "y", "x")
    assert {str(unit) for unit in layer.units} == {"micrometer"}
    np.testing.assert_array_equal(np.asarray(layer.data), make_movie(4))


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_exported_labels_come_back_as_labels_in_their_place(session, tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    export_labels(session, path, scale=(0.9, 0.3, 0.3), units=("um",) * 3, axes="ZYX")
    (layer,) = layers_of(get_ome_reader, path)
    assert type(layer).__name__ == "Labels"
    np.testing.assert_allclose(layer.scale, (0.9, 0.3, 0.3))
    np.testing.assert_array_equal(np.asarray(layer.data), session.labels)


def test_session_file_opens_as_its_image_and_labels(session, image, tmp_path):
    session.save(tmp_path / "mine.sam2")
    found, labels = layers_of(get_session_reader, tmp_path / "mine.sam2")
    assert (type(found).__name__, type(labels).__name__) == ("Image", "Labels")
    np.testing.assert_array_equal(np.asarray(labels.data), session.labels)
    np.testing.assert_allclose(labels.scale, found.scale)
    assert labels.metadata[SESSION_KEY] == str(tmp_path / "mine.sam2")
    assert get_session_reader(str(image)) is None


def test_channels_become_layers(tmp_path):
    path = tmp_path / "two.ome.tif"
    data = np.stack([make_movie(3), make_movie(3) // 2], axis=1)
    tifffile.imwrite(path, data, ome=True, metadata={"axes": "ZCYX"})
    first, second = layers_of(get_ome_reader, path)
    assert first.data.shape == second.data.shape == (3, 48, 64)
    np.testing.assert_array_equal(np.asarray(second.data), data[:, 1])


def test_channels_of_ome_zarr_have_the_names_and_colours_of_the_file(tmp_path):
    path = make_image(tmp_path / "two.ome.zarr", "0.4", "cyx", (2, 32, 40))
    channels = [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]
    zarr.open_group(path, mode="a").attrs["omero"] = {"channels": channels}
    first, second = layers_of(get_ome_reader, path)
    assert [first.name, second.name] == ["two DAPI", "two GFP"]
    np.testing.assert_allclose(first.colormap.map([1.0])[0], (0, 0, 1, 1), atol=0.01)
    np.testing.assert_allclose(second.colormap.map([1.0])[0], (0, 1, 0, 1), atol=0.01)
