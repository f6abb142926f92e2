"""Files that this package wrote come back in napari in their place and as the right kind of layer."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from ngff_tools import make_image
from npe2 import io_utils
from tests.ome_files import save_positions_in_files

import napari_sam2
from factories import make_model, make_movie
from napari_sam2 import FrameError, OutputError, Session
from napari_sam2._viewer import readers
from napari_sam2._viewer.image_source import file_of, open_layers
from napari_sam2._viewer.readers import (
    SESSION_KEY,
    get_measurements_reader,
    get_ome_reader,
    get_session_reader,
    get_shapes_reader,
    get_tracks_reader,
    in_a_window,
    open_in_viewer,
    read_image,
)
from napari_sam2.frames.display import open_array, show_planes
from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.measurements import measure_stack, write_table
from napari_sam2.labels.reading import read_labels
from napari_sam2.labels.track_files import write_tracks
from napari_sam2.labels.tracks import Tracks, tracks_of_labels
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


@pytest.mark.parametrize("position", [0, 1])
def test_a_file_of_one_of_several_positions_opens_as_this_position(tmp_path, position):
    images = make_movie(8).reshape(2, 4, 48, 64)
    files = save_positions_in_files(tmp_path, images)
    path = files[position]
    [(data, options, _)] = read_image(path)
    np.testing.assert_array_equal(np.asarray(data), images[position])
    assert options["axis_labels"] == ("z", "y", "x")
    shown = show_planes(path)
    np.testing.assert_array_equal(shown.raw(2)[0], images[position, 2])
    assert shown.geometry.shape == images[position].shape
    assert open_array(path, ndim=4).shape == images.shape  # of a session on all positions
    [(data, _, _)] = read_image(tmp_path)  # the folder is the whole
    assert data.shape == images.shape


def test_channels_of_ome_zarr_have_the_names_and_colours_of_the_file(tmp_path):
    path = make_image(tmp_path / "two.ome.zarr", "0.4", "cyx", (2, 32, 40))
    channels = [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]
    zarr.open_group(path, mode="a").attrs["omero"] = {"channels": channels}
    first, second = layers_of(get_ome_reader, path)
    assert [first.name, second.name] == ["two DAPI", "two GFP"]
    np.testing.assert_allclose(first.colormap.map([1.0])[0], (0, 0, 1, 1), atol=0.01)
    np.testing.assert_allclose(second.colormap.map([1.0])[0], (0, 1, 0, 1), atol=0.01)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ((65535, 16711935), [(0, 0, 1, 1), (0, 1, 0, 1)]),
        ((-1, -1), [(1, 1, 1, 1)] * 2),  # which a program fills in that knows none
        ((255, 65535), [(1, 1, 1, 1)] * 2),  # black
    ],
)
def test_channels_of_ome_tiff_have_the_names_and_colours_of_the_file(tmp_path, colours, expected):
    path = tmp_path / "two.ome.tif"
    channel = {"Name": ["DAPI", "GFP"], "Color": list(colours)}
    tifffile.imwrite(path, make_movie(2), ome=True, metadata={"axes": "CYX", "Channel": channel})
    layers = layers_of(get_ome_reader, path)
    assert [layer.name for layer in layers] == ["two DAPI", "two GFP"]
    for layer, colour in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer.colormap.map([1.0])[0], colour, atol=0.01)
        assert (layer.blending == "additive") == (expected[0] != expected[1])


@pytest.fixture
def plugin(monkeypatch):
    """The manifest of this checkout, alone in napari's plugin manager."""
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager()
    manager.register(PluginManifest.from_file(Path(napari_sam2.__file__).parent / "napari.yaml"))
    monkeypatch.setattr(PluginManager, "instance", lambda: manager)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".zip", ".geojson", ".json"])
@pytest.mark.usefixtures("plugin")
def test_napari_saves_labels_through_the_plugin_and_opens_them_where_they_were(tmp_path, suffix):
    drawn = np.zeros((3, 20, 30), np.int32)
    drawn[1, 4:9, 5:12], drawn[2, 10:15, 20:25] = 7, 1200
    layer = Labels(
        drawn,
        scale=(0.9, 0.3, 0.3),
        translate=(5, 10, 20),
        units=("um",) * 3,
        axis_labels=("z", "y", "x"),
        name="cells",
    )
    path = str(tmp_path / f"cells{suffix}")
    (written,) = io_utils.write(path, [layer.as_layer_data_tuple()], plugin_name="napari-sam2")
    np.testing.assert_array_equal(read_labels(written, shape=drawn.shape), drawn)
    if suffix == ".ome.zarr":
        ((data, options, kind),) = io_utils.read([path], stack=False, plugin_name="napari-sam2")
        again = Layer.create(data, options, kind)
        assert kind == "labels"
        np.testing.assert_array_equal(np.asarray(again.data), drawn)
        np.testing.assert_allclose((again.scale, again.translate), (layer.scale, layer.translate))
        assert again.units == layer.units
        np.testing.assert_allclose(again.colormap.color_dict[7][:3], np.array(object_colour(7)) / 255, atol=1e-3)


@pytest.mark.usefixtures("plugin")
def test_napari_replaces_labels_but_no_image(tmp_path):
    drawn = np.zeros((3, 20, 30), np.int32)
    image = make_image(tmp_path / "cells.ome.zarr", "0.5", "zyx", drawn.shape)
    pixels = zarr.open_group(image)["0"][:]
    layer = Labels(drawn).as_layer_data_tuple()
    with pytest.raises(OutputError, match=r"is an OME-Zarr image and is not replaced.*cells.ome.zarr/labels/NAME"):
        io_utils.write(str(image), [layer], plugin_name="napari-sam2")
    np.testing.assert_array_equal(zarr.open_group(image)["0"][:], pixels)
    for _ in range(2):
        io_utils.write(str(tmp_path / "labels.zarr"), [layer], plugin_name="napari-sam2")


def test_an_ome_zarr_image_opens_with_its_labels_over_it(tmp_path):
    path = tmp_path / "cells.ome.zarr"
    make_image(path, "0.5", "zyx", (3, 20, 30))
    drawn = np.zeros((3, 20, 30), np.int32)
    drawn[1, 4:9, 5:12] = 7
    with LabelWriter(path / "labels" / "nuclei", drawn.shape, axes="ZYX") as writer:
        for frame, plane in enumerate(drawn):
            writer.write(frame, plane)
    image, labels = layers_of(get_ome_reader, path)
    assert [type(layer).__name__ for layer in (image, labels)] == ["Image", "Labels"]
    assert labels.name == "nuclei"
    np.testing.assert_array_equal(np.asarray(labels.data), drawn)
    np.testing.assert_allclose((labels.scale, labels.translate), (image.scale, image.translate))


@pytest.mark.parametrize("suffix", [".csv", ".xml"])
@pytest.mark.usefixtures("plugin")
def test_tracks_come_back_with_their_lineage(tmp_path, suffix):
    rows = [(1, 0), (1, 1), (2, 2), (3, 2)]
    ids, frames = (np.array(column) for column in zip(*rows, strict=True))
    centres = np.array([[5.0, 6], [6, 7], [4, 9], [9, 5]])
    tracks = Tracks(ids, frames, centres, np.full(4, 30), {2: 1, 3: 1})
    write_tracks(tmp_path / f"cells{suffix}", tracks)
    path = str(tmp_path / f"cells{suffix}")
    ((data, options, kind),) = io_utils.read([path], stack=False, plugin_name="napari-sam2")
    assert kind == "tracks"
    layer = Layer.create(data, options, kind)
    np.testing.assert_allclose(layer.data, np.column_stack((ids, frames, centres)))
    assert layer.graph == {2: [1], 3: [1]}


PLACED = {"scale": (0.9, 0.3, 0.3), "translate": (5, 10, 20), "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}


def boxes(num_planes: int = 4) -> np.ndarray:
    """Objects 3 and 12, the second of which begins on the second plane."""
    labels = np.zeros((num_planes, 48, 64), np.int32)
    labels[:, 4:14, 6:20] = 3
    labels[1:, 20:30, 30:42] = 12
    return labels


def measured(path: Path, labels: np.ndarray, **options) -> pd.DataFrame:
    table = measure_stack(range(len(labels)), labels.__getitem__, **options)
    write_table(table, path)
    return table


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("with_image", [False, True])
def test_measurements_open_as_points_at_the_centroids(tmp_path, monkeypatch, with_image):
    labels = boxes()
    table = measured(tmp_path / "cells.csv", labels, scale=(0.9, 0.3, 0.3))
    viewer = ViewerModel()
    if with_image:
        viewer.add_image(labels.astype(np.uint16), **PLACED)
        monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    (layer,) = viewer.open(str(tmp_path / "cells.csv"), plugin="napari-sam2")
    assert (type(layer).__name__, layer.name) == ("Points", "cells")
    np.testing.assert_allclose(layer.scale, (0.9, 0.3, 0.3))
    centroids = table[["centroid_z", "centroid_y", "centroid_x"]].to_numpy()
    origin = PLACED["translate"] if with_image else (0, 0, 0)
    np.testing.assert_allclose([layer.data_to_world(point) for point in layer.data], centroids + origin)
    np.testing.assert_allclose(layer.data, [[1.5, 8.5, 12.5], [2, 24.5, 35.5]])
    np.testing.assert_allclose(layer.size * 0.3, table["equivalent_diameter"])
    pd.testing.assert_frame_equal(layer.features, table)
    if with_image:
        assert (layer.units, layer.axis_labels) == (viewer.layers[0].units, viewer.layers[0].axis_labels)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("unit", [0.3, 1.0])  # the second: measured in pixels, opened over an image with distances
def test_measurements_of_each_plane_open_on_their_planes(tmp_path, monkeypatch, unit):
    labels = boxes()
    measured(tmp_path / "cells.csv", labels, by="plane", scale=(1.0, unit, 2 * unit))
    viewer = ViewerModel()
    viewer.add_image(labels.astype(np.uint16), scale=(1, 0.3, 0.6))
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    (layer,) = viewer.open(str(tmp_path / "cells.csv"), plugin="napari-sam2")
    assert layer.data.shape == (7, 3)
    for point, object_id in zip(np.rint(layer.data).astype(int), layer.features["object"], strict=True):
        assert labels[tuple(point)] == object_id
    np.testing.assert_allclose(layer.data[0], (0, 8.5, 12.5))


@pytest.mark.usefixtures("plugin")
def test_objects_of_a_movie_are_points_on_all_of_its_frames(tmp_path):
    table = measured(tmp_path / "cells.csv", boxes(), is_volume=False)
    ((points, options, kind),) = io_utils.read([str(tmp_path / "cells.csv")], stack=False, plugin_name="napari-sam2")
    layer = Layer.create(points, options, kind)
    np.testing.assert_allclose(layer.data, [[8.5, 12.5], [24.5, 35.5]])
    np.testing.assert_allclose(np.pi * (layer.size / 2) ** 2, table["area_mean"])


@pytest.mark.usefixtures("plugin")
def test_measurements_of_several_stacks_open_in_their_stack(tmp_path):
    labels = np.concatenate((boxes(), boxes()))
    measured(tmp_path / "cells.csv", labels, scale=(2.0, 1.0, 1.0), planes_per_clip=4)
    (layer,) = ViewerModel().open(str(tmp_path / "cells.csv"), plugin="napari-sam2")
    np.testing.assert_allclose(layer.data[layer.features["object"] == 3], [[0, 1.5, 8.5, 12.5], [1, 1.5, 8.5, 12.5]])
    np.testing.assert_allclose(layer.scale, (1, 2, 1, 1))


def test_tables_of_nothing(tmp_path):
    """Points may be none; napari cannot show a Tracks layer without rows."""
    measured(tmp_path / "m.csv", np.zeros((2, 8, 8), np.int32), by="plane")
    (layer,) = layers_of(get_measurements_reader, tmp_path / "m.csv")
    assert layer.data.shape == (0, 3)
    path = write_tracks(tmp_path / "t.csv", tracks_of_labels(np.zeros((2, 8, 8), np.int32)))
    with pytest.raises(FrameError, match="holds no tracks"):
        layers_of(get_tracks_reader, path)


@pytest.mark.parametrize("change", [("8.5", "left"), ("8.5", "")])
def test_damaged_measurements_are_refused(tmp_path, change):
    measured(tmp_path / "m.csv", boxes())
    text = (tmp_path / "m.csv").read_text()
    (tmp_path / "m.csv").write_text(text.replace(*change))
    with pytest.raises(FrameError, match="measure again"):
        layers_of(get_measurements_reader, tmp_path / "m.csv")


@pytest.mark.parametrize("suffix", [".geff", ".xml", ".csv"])
def test_tracks_in_pixels_open_on_the_selected_image(tmp_path, suffix, monkeypatch):
    viewer = ViewerModel()
    image = viewer.add_image(boxes(), **PLACED)
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    path = write_tracks(tmp_path / f"cells{suffix}", tracks_of_labels(boxes()))
    (layer,) = layers_of(get_tracks_reader, path)
    np.testing.assert_allclose(layer.data[0], (3, 0, 8.5, 12.5))
    np.testing.assert_allclose((layer.scale, layer.translate), (image.scale, image.translate))
    if suffix == ".xml":  # as other programs write them: positions are not in pixels
        path.write_text(path.read_text().replace('spatialunits="pixel"', 'spatialunits="µm"'), encoding="utf-8")
        (layer,) = layers_of(get_tracks_reader, path)
        np.testing.assert_allclose(layer.scale, 1)


def test_tables_that_a_spreadsheet_has_saved_open(tmp_path):
    path = write_tracks(tmp_path / "cells.csv", tracks_of_labels(boxes()))
    path.write_text(path.read_text(), encoding="utf-8-sig")
    (layer,) = layers_of(get_tracks_reader, path)
    assert len(layer.data) == 7
    measured(tmp_path / "m.csv", boxes())
    (tmp_path / "m.csv").write_text((tmp_path / "m.csv").read_text(), encoding="utf-8-sig")
    (layer,) = layers_of(get_measurements_reader, tmp_path / "m.csv")
    assert len(layer.data) == 2


def test_other_tables_are_left_to_other_plugins(tmp_path):
    (tmp_path / "a.csv").write_text("axis-0,axis-1\n1,2\n")
    assert get_measurements_reader(str(tmp_path / "a.csv")) is None
    assert get_measurements_reader(str(tmp_path / "missing.csv")) is None
    (tmp_path / "b.xml").write_text("<note/>")
    assert get_tracks_reader(str(tmp_path / "a.csv")) is None
    assert get_tracks_reader(str(tmp_path / "b.xml")) is None


@pytest.mark.parametrize("suffix", [".zip", ".geojson", ".json"])
def test_objects_open_on_the_selected_image(tmp_path, suffix, monkeypatch):
    drawn = np.zeros((3, 20, 30), np.int32)
    drawn[1, 4:9, 5:12], drawn[2, 10:15, 20:25] = 7, 1200
    with LabelWriter(tmp_path / f"cells{suffix}", drawn.shape) as writer:
        for frame, plane in enumerate(drawn):
            writer.write(frame, plane)
    viewer = ViewerModel()
    placed = {"scale": (0.9, 0.3, 0.3), "translate": (5, 10, 20), "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}
    image = viewer.add_image(drawn.astype(np.uint16), **placed)
    other = viewer.add_image(np.zeros((4, 4)))
    viewer.layers.selection = {image}
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    (layer,) = layers_of(get_shapes_reader, tmp_path / f"cells{suffix}")
    assert (type(layer).__name__, layer.name) == ("Labels", "cells")
    np.testing.assert_array_equal(layer.data, drawn)
    np.testing.assert_allclose((layer.scale, layer.translate), (image.scale, image.translate))
    assert (layer.units, layer.axis_labels) == (image.units, image.axis_labels)
    viewer.layers.selection = {other}
    with pytest.raises(FrameError, match="image"):
        get_shapes_reader(str(tmp_path / f"cells{suffix}"))(str(tmp_path / f"cells{suffix}"))


def test_other_archives_and_json_are_left_to_other_plugins(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    (tmp_path / "b.json").write_text('{"a": 1}')
    (tmp_path / "c.zip").write_text("a")
    (tmp_path / "d.csv").write_text("")
    for name in ("a.zip", "b.json", "c.zip", "e.geojson"):
        assert get_shapes_reader(str(tmp_path / name)) is None
    assert get_tracks_reader(str(tmp_path / "d.csv")) is None


@pytest.mark.parametrize(
    "meta",
    [
        {"scale": (1, -2)},
        {"rotate": [[0, -1], [1, 0]]},
        {"rotate": 30.0},
        {"shear": [0.5]},
        {"shear": [[1, 0.5], [0, 1]]},
        {"affine": np.diag([2, 1, 1])},
    ],
    ids=str,
)
def test_labels_of_a_turned_layer_say_that_files_do_not_hold_that(tmp_path, meta):
    from napari_sam2._viewer.writers import write_labels

    with pytest.warns(UserWarning, match="which is not saved"):
        write_labels(str(tmp_path / "a.tif"), np.ones((8, 9), np.int32), meta)


def test_a_session_of_an_image_of_another_shape_gets_advice_for_a_viewer(tmp_path):
    session = Session(make_movie(4), model=make_model())
    session.save(tmp_path / "a.sam2")
    with pytest.raises(FrameError, match=r"give its image: Session.load") as refusal:
        Session.load(tmp_path / "a.sam2", make_movie(3), model=make_model())
    said = in_a_window(refusal.value)
    assert said.endswith(": open the image and select it in the viewer, then open the session")
    assert "Session.load" not in said


@pytest.fixture
def two_sizes(tmp_path):
    """An OME-TIFF with images of two sizes."""
    images = [make_movie(3), make_movie(5)[:, :40, :50]]
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as tif:
        for name, image in zip(("left", "right"), images, strict=True):
            tif.write(image, metadata={"axes": "ZYX", "Name": name, "PhysicalSizeX": 0.5}, photometric="minisblack")
    return tmp_path / "two.ome.tif", images


def test_images_of_several_sizes_become_layers_of_which_the_first_is_on_top(two_sizes):
    path, (left, right) = two_sizes
    below, top = layers_of(get_ome_reader, path)
    assert (below.name, top.name) == ("two right", "two left")
    assert (below.visible, top.visible) == (False, True)
    np.testing.assert_array_equal(np.asarray(below.data), right)
    np.testing.assert_array_equal(np.asarray(top.data), left)
    assert below.contrast_limits == [right[2].min(), right[2].max()]  # also before it is shown


def test_a_session_on_the_second_image_of_a_file_opens_on_it(two_sizes, tmp_path):
    path, (_, right) = two_sizes
    image = layers_of(get_ome_reader, path)[0]
    planes, _ = open_layers([image])
    with Session(planes, model=make_model()) as session:
        session.origin = replace(session.origin, stack_path=str(path))
        session.add_mask(right[2] > 100, frame=2)
        saved = session.labels
        session.save(tmp_path / "mine.sam2")
    with Session.load(tmp_path / "mine.sam2", model=make_model()) as again:
        np.testing.assert_array_equal(again.labels, saved)
    *images, labels = layers_of(get_session_reader, tmp_path / "mine.sam2")
    assert {layer.name: layer.visible for layer in images} == {"two right": True, "two left": False}
    np.testing.assert_array_equal(np.asarray(labels.data), saved)
    np.testing.assert_allclose(labels.scale, images[0].scale)


def test_too_many_images_of_several_sizes_are_not_all_opened(tmp_path, monkeypatch):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for size in range(20, 25):
            tif.write(np.zeros((size, size), np.uint8), metadata={"axes": "YX", "Name": f"s{size}"})
    monkeypatch.setattr(readers, "_MOST_POSITIONS", 3)
    with pytest.warns(UserWarning, match=r"holds 5 images .* the first 3 are opened .* --fix P=3"):
        assert len(read_image(tmp_path / "a.ome.tif")) == 3
    [(data, options, _)] = read_image(tmp_path / "a.ome.tif", position="s24")
    assert (data.shape, options["name"]) == ((24, 24), "a s24")


def test_imagej_hyperstacks_keep_their_axes_and_voxel_size(tmp_path):
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": 0.9}
    data = np.stack([make_movie(4)] * 6).reshape(3, 2, 4, 48, 64).swapaxes(1, 2).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(5, 5), metadata=metadata)
    layers = layers_of(get_ome_reader, tmp_path / "a.tif")
    assert [layer.data.shape for layer in layers] == [(3, 4, 48, 64)] * 2
    assert layers[0].axis_labels == ("t", "z", "y", "x")
    np.testing.assert_allclose(layers[0].scale, (1, 0.9, 0.2, 0.2))


def test_exported_labels_in_a_plain_tiff_come_back_as_labels(session, tmp_path):
    export_labels(session, tmp_path / "labels.tif", scale=(0.9, 0.3, 0.3), units=("um",) * 3, axes="ZYX")
    (layer,) = layers_of(get_ome_reader, tmp_path / "labels.tif")
    assert type(layer).__name__ == "Labels"
    np.testing.assert_allclose(layer.scale, (0.9, 0.3, 0.3))
    np.testing.assert_array_equal(np.asarray(layer.data), session.labels)


def test_a_large_image_with_levels_is_a_pyramid(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_SHOWN_AS_PYRAMID", 60)
    stack = make_movie(4)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    scales = [[0.9, 0.2, 0.2], [0.9, 0.4, 0.4]]
    for level, image in enumerate([stack, stack[:, ::2, ::2]]):
        group.create_array(str(level), data=image, chunks=(1, 16, 16))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for level, scale in enumerate(scales)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    (layer,) = layers_of(get_ome_reader, tmp_path / "a.zarr")
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(4, 48, 64), (4, 24, 32)]
    assert layer.data[0].chunksize == (1, 16, 16)
    np.testing.assert_allclose(layer.scale, (0.9, 0.2, 0.2))


@pytest.mark.parametrize("position", [None, "right", 1])
@pytest.mark.usefixtures("plugin")
def test_files_open_in_a_viewer_with_pixel_size(two_sizes, position):
    path, _ = two_sizes
    viewer = ViewerModel()
    open_in_viewer(viewer, path, position)
    names = ["two right", "two left"] if position is None else ["two right"]
    assert [layer.name for layer in viewer.layers] == names
    assert all(layer.scale[-1] == 0.5 and file_of(layer) == str(path) for layer in viewer.layers)


def test_files_opened_as_a_stack_become_one_layer(tmp_path):
    planes = [np.full((20, 30), value, np.uint16) for value in (1, 2, 3)]
    paths = [tmp_path / f"plane_{number}.tif" for number in range(3)]
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane, imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    read = get_ome_reader([str(path) for path in paths])
    assert read is not None
    (layer,) = (Layer.create(*each) for each in read([str(path) for path in paths]))
    assert np.array_equal(np.asarray(layer.data), np.stack(planes))
    assert layer.scale.tolist() == [1, 0.5, 0.5]
    assert [str(unit) for unit in layer.units] == ["pixel", "micrometer", "micrometer"]


def test_files_of_different_shapes_are_no_stack(tmp_path):
    for name, side in (("a", 20), ("b", 24)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((side, 30), np.uint16))
    read = get_ome_reader([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")])
    with pytest.raises(FrameError, match=r"b\.tif holds 24 x 30, .*a\.tif 20 x 30; files that are opened as a stack"):
        read([str(tmp_path / "a.tif"), str(tmp_path / "b.tif")])
