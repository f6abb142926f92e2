"""A session file dropped into a viewer opens its image and the dock; saving its layers writes one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from napari.layers._source import Source
from npe2 import PluginManager, PluginManifest, io_utils

import napari_sam2
from factories import make_model, make_movie
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._qt import commands
from napari_sam2._qt.main_widget import SAM2Widget
from napari_sam2._qt.session_files import get_session_reader
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2._viewer.image_source import IMAGE_FILE_KEY
from napari_sam2._viewer.readers import SESSION_KEY, read_image
from napari_sam2._viewer.writers import write_session
from napari_sam2.frames.display import open_array, show_planes
from napari_sam2.session.session import Session


@pytest.fixture
def saved(tmp_path):
    """A session with one object on an OME-TIFF."""
    image = tmp_path / "cells.ome.tif"
    tifffile.imwrite(image, make_movie(4), ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.3})
    mask = np.zeros((48, 64), bool)
    mask[10:20, 10:25] = True
    with Session(image, model=make_model()) as session:
        session.add_mask(mask, frame=2)
        return session.save(tmp_path / "mine.sam2")


@pytest.fixture
def dock(monkeypatch):
    """Puts the widget into the viewer in place of the dock that napari makes for an installed plugin."""
    made = []

    def show(viewer, tab):
        widget = SAM2Widget(viewer)
        viewer.window.add_dock_widget(widget, name=tab)
        made.append(widget)
        return widget

    monkeypatch.setattr(commands, "_show", show)
    yield made
    for widget in made:
        widget.shut_down()


def test_a_session_file_opens_its_image_and_the_dock(make_napari_viewer, qtbot, saved, dock):
    viewer = make_napari_viewer(show=False)
    for data, options, kind in get_session_reader(str(saved))(str(saved)):
        viewer._add_layer_from_data(data, options, kind)
    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    binding = dock[0].binding
    assert [layer.name for layer in viewer.layers] == ["cells", "cells objects", "cells shapes", "cells points"]
    assert viewer.layers["cells"].metadata[SESSION_KEY] == str(saved)
    assert [each.object_id for each in binding.session.objects] == [1]
    assert np.array_equal(np.unique(binding.labels.data), [0, 1])
    assert np.asarray(binding.labels.data)[2, 10:20, 10:25].all()


def test_a_session_whose_image_is_gone_opens_on_the_one_in_the_viewer(make_napari_viewer, qtbot, saved, dock):
    viewer = make_napari_viewer(show=False)
    (saved.parent / "cells.ome.tif").unlink()
    read = get_session_reader([str(saved)])
    with pytest.raises(FrameError, match=r"was not found; give its present location: open the image and select it"):
        read([str(saved)])
    viewer.add_image(make_movie(4), name="moved")
    assert read([str(saved)]) == [(None,)]
    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    assert [each.object_id for each in dock[0].binding.session.objects] == [1]


def test_a_session_opened_on_a_moved_image_is_saved_with_its_new_place(make_napari_viewer, qtbot, saved, dock):
    moved = saved.parent / "elsewhere" / "renamed.ome.tif"
    moved.parent.mkdir()
    (saved.parent / "cells.ome.tif").rename(moved)
    viewer = make_napari_viewer(show=False)
    ((data, options, kind),) = read_image(moved)
    layer = viewer._add_layer_from_data(data, options, kind)[0]
    layer.metadata[IMAGE_FILE_KEY] = str(moved)
    widget = commands._show(viewer, "SAM 2")
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=30_000)
    widget.sessions.open_session(str(saved))
    assert len(widget.binding.session.objects) == 1
    widget.binding.session.save(saved)
    with Session.load(saved, model=make_model()) as again:
        assert again.stack_path == str(moved)


def test_napari_saves_the_session_of_the_layers(make_napari_viewer, qtbot, saved, dock, tmp_path, monkeypatch):
    manager = PluginManager()
    manager.register(PluginManifest.from_file(f"{napari_sam2.__path__[0]}/napari.yaml"))
    viewer = make_napari_viewer(show=False)
    for data, options, kind in get_session_reader(str(saved))(str(saved)):
        viewer._add_layer_from_data(data, options, kind)
    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    monkeypatch.setattr(PluginManager, "instance", lambda: manager)
    path = str(tmp_path / "again.sam2")
    layers = [layer.as_layer_data_tuple() for layer in viewer.layers]
    assert io_utils.write(path, layers, plugin_name="napari-sam2") == [path]
    again = Session.load(path, model=make_model())
    assert np.array_equal(again.labels, dock[0].binding.session.labels)
    again.close()
    assert io_utils.write(path, layers[1:2], plugin_name="napari-sam2") == [path]
    with pytest.raises(OutputError, match="the layers belong to no sessions"):
        write_session(path, layers[:1])


def test_a_session_on_one_channel_of_a_file_opens_on_that_channel(make_napari_viewer, qtbot, dock, tmp_path, recwarn):
    path = tmp_path / "cells.ome.tif"
    channels = np.stack([make_movie(4), make_movie(4, seed=1)], axis=1)
    tifffile.imwrite(path, channels, ome=True, metadata={"axes": "ZCYX"})
    viewer = make_napari_viewer(show=False)
    for data, options, _ in read_image(path):
        viewer.add_image(data, **options)
    viewer.layers[1]._source = Source(path=str(path))
    binding = ViewerBinding(viewer, [viewer.layers[1]], model=make_model())
    binding.session.add_mask(np.eye(48, 64) > 0, frame=1)
    saved = binding.session.save(tmp_path / "second.sam2")
    binding.close()
    binding.session.close()
    viewer.layers.clear()

    for data, options, kind in get_session_reader(str(saved))(str(saved)):
        viewer._add_layer_from_data(data, options, kind)

    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    qtbot.waitUntil(lambda: bool(dock[0].binding.session.objects), timeout=30_000)
    assert [image.name for image in dock[0].binding.images] == ["cells 1"]
    assert not [each for each in recwarn if "differs" in str(each.message)]


def test_a_session_is_opened_on_its_image_where_that_is_open_already(
    make_napari_viewer, qtbot, saved, dock, monkeypatch
):
    viewer = make_napari_viewer(show=False)
    read = get_session_reader(str(saved))
    for data, options, kind in read(str(saved)):
        viewer._add_layer_from_data(data, options, kind)
    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    before = dock[0].binding
    assert before.images[0].metadata[IMAGE_FILE_KEY] == str(saved.parent / "cells.ome.tif")
    monkeypatch.setattr(commands, "_show", lambda *_: dock[0])
    assert read(str(saved)) == [(None,)]
    qtbot.waitUntil(lambda: dock[0].binding not in (None, before), timeout=30_000)
    assert [layer.name for layer in viewer.layers if layer.__class__.__name__ == "Image"] == ["cells"]
    dock[0].sessions.restart()  # a session that is new on this image knows its file too
    assert dock[0].binding.session.stack_path == str(saved.parent / "cells.ome.tif")


def test_a_session_on_the_second_of_images_of_several_sizes_opens_on_it(make_napari_viewer, qtbot, tmp_path, dock):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, image in (("left", make_movie(3)), ("right", make_movie(4)[:, :40, :50])):
            tif.write(image, metadata={"axes": "ZYX", "Name": name}, photometric="minisblack")
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:25] = True
    with Session(show_planes(open_array(path, position=1)), model=make_model()) as session:
        session.origin = replace(session.origin, stack_path=str(path))
        session.add_mask(mask, frame=2)
        saved = session.save(tmp_path / "mine.sam2")
    viewer = make_napari_viewer(show=False)
    for data, options, kind in get_session_reader(str(saved))(str(saved)):
        viewer._add_layer_from_data(data, options, kind)
    qtbot.waitUntil(lambda: bool(dock) and dock[0].binding is not None, timeout=30_000)
    binding = dock[0].binding
    assert binding.images[0].name == "two right"
    assert [layer.name for layer in viewer.layers if not layer.visible] == ["two left"]
    assert np.asarray(binding.labels.data)[2, 10:20, 10:25].all()
