"""Save: undo and redo, session files, exports and text, each through one method of the session."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qt_tools import add_disc, make_binding
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from factories import make_model, make_movie
from napari_sam2._qt.save_section import EXPORTS, SaveSection
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2.frames.files import open_path
from napari_sam2.session.session import Session
from places import ROOT


@pytest.fixture
def section(qtbot, binding) -> SaveSection:
    made = SaveSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    return made


def test_buttons_can_be_pressed_only_when_they_can_do_something(section: SaveSection, binding, qtbot) -> None:
    buttons = (section.undo_button, section.redo_button, section.save_button, section.export_button)
    assert [button.isEnabled() for button in buttons] == [False] * 4
    add_disc(binding)
    qtbot.waitUntil(section.undo_button.isEnabled)
    assert [button.isEnabled() for button in buttons] == [True, False, True, True]
    section.undo_button.click()
    assert not binding.session.objects
    assert [button.isEnabled() for button in buttons] == [False, True, False, False]
    section.redo_button.click()
    assert len(binding.session.objects) == 1


def test_undo_names_the_change_in_words(section: SaveSection, binding, qtbot) -> None:
    number = add_disc(binding)
    for change, words in (
        (lambda: binding.session.set_class(number, "cell"), "class of object 1"),
        (lambda: binding.session.set_visible(number, False), "show or hide object 1"),
        (lambda: binding.session.rename(number, "mine"), "rename object 1"),
    ):
        change()
        qtbot.waitUntil(lambda words=words: words in section.undo_button.toolTip())


def test_dialogs_that_were_closed_are_gone(section: SaveSection, binding, qtbot) -> None:
    add_disc(binding)
    before = len(section.findChildren(QWidget))
    for _ in range(2):
        section.ask_to_open()
        section.findChild(QFileDialog).reject()
        qtbot.waitUntil(lambda: section.findChild(QFileDialog) is None)
    assert len(section.findChildren(QWidget)) == before


@pytest.mark.parametrize("is_writable", [True, False])
def test_files_are_offered_beside_the_image_where_that_can_be_written_to(
    section: SaveSection, binding, monkeypatch, tmp_path, is_writable: bool
) -> None:
    image, home = tmp_path / "images" / "a.tif", tmp_path / "home"
    image.parent.mkdir()
    home.mkdir()
    monkeypatch.setattr(type(binding.session), "stack_path", str(image))
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(os, "access", lambda *_args: is_writable)
    section.save_button.clicked.emit()
    dialog = section.findChild(QFileDialog)
    assert Path(dialog.directory().absolutePath()) == (image.parent if is_writable else home)
    dialog.reject()


def test_no_dialog_is_kept_when_it_is_closed() -> None:
    for path in (ROOT / "src" / "napari_sam2" / "_qt").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        made = len(re.findall(r"= Q(?:File|Input)Dialog\(", text))
        assert text.count("open_dialog(dialog)") == made, path.name


def test_saved_session_can_be_loaded(section: SaveSection, binding, qtbot, tmp_path) -> None:
    add_disc(binding)
    section.save(str(tmp_path / "mine"))
    qtbot.waitUntil(lambda: "was written to" in section.message.text(), timeout=10_000)
    loaded = Session.load(tmp_path / "mine.sam2", binding.session.frames, model=binding.session.model)
    assert np.array_equal(loaded.labels, binding.session.labels)
    loaded.close()


def test_opening_is_asked_for(section: SaveSection, qtbot, tmp_path) -> None:
    with qtbot.waitSignal(section.session_opened) as told:
        section.open(str(tmp_path / "mine.sam2"))
    assert told.args == [str(tmp_path / "mine.sam2")]


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)
def test_exports_write_their_file(section: SaveSection, binding, qtbot, tmp_path, export) -> None:
    add_disc(binding)
    section.export(export.name, str(tmp_path / "out"))
    qtbot.waitUntil(lambda: "was written to" in section.message.text(), timeout=10_000)
    written = tmp_path / f"out{export.suffix}"
    assert written.exists()
    if export.suffix.endswith(".tif"):
        assert np.array_equal(tifffile.imread(written), binding.session.labels)


def test_ome_tiff_knows_the_size_of_its_pixels(qtbot, tmp_path) -> None:
    binding = make_binding(3, scale=(0.5, 0.2, 0.2), units=("micrometer",) * 3)
    section = SaveSection()
    qtbot.addWidget(section)
    section.set_binding(binding)
    add_disc(binding)
    section.export("ome_tiff", str(tmp_path / "out.tif"))
    qtbot.waitUntil(lambda: "was written to" in section.message.text(), timeout=10_000)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        assert 'PhysicalSizeX="0.2"' in file.ome_metadata
        assert 'PhysicalSizeZ="0.5"' in file.ome_metadata
    binding.close()
    binding.session.close()


@pytest.mark.parametrize(
    ("placed", "is_told"),
    [({"scale": (1, -1, 1)}, True), ({"rotate": 20}, True), ({"scale": (1, 2, 2)}, False)],
    ids=str,
)
def test_a_layer_that_files_cannot_place_is_told(qtbot, tmp_path, placed, is_told) -> None:
    binding = make_binding(3, **placed)
    section = SaveSection()
    qtbot.addWidget(section)
    section.set_binding(binding)
    add_disc(binding)
    section.export("ome_tiff", str(tmp_path / "out"))
    qtbot.waitUntil(lambda: "was written to" in section.message.text(), timeout=10_000)
    assert ("is mirrored, rotated, sheared" in section.message.text()) == is_told
    binding.close()
    binding.session.close()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_labels_of_five_axes_keep_where_the_image_lies(qtbot, tmp_path, suffix) -> None:
    viewer = ViewerModel()
    units = ("second", "pixel", "micrometer", "micrometer", "micrometer")
    image = viewer.add_image(
        make_movie(12).reshape(2, 2, 3, 48, 64),
        scale=(1, 1, 0.5, 0.2, 0.2),
        translate=(0, 0, 5, 10, 20),
        units=units,
        axis_labels=("t", "c", "z", "y", "x"),
    )
    binding = ViewerBinding(viewer, [image], model=make_model())
    section = SaveSection()
    qtbot.addWidget(section)
    section.set_binding(binding)
    add_disc(binding)
    section.export(next(e.name for e in EXPORTS if e.suffix == suffix), str(tmp_path / "out"))
    qtbot.waitUntil(lambda: "was written to" in section.message.text(), timeout=10_000)
    stack = open_path(tmp_path / f"out{suffix}")
    assert dict(zip(stack.axes, stack.array.shape, strict=True)) == {"T": 2, "C": 2, "Z": 3, "Y": 48, "X": 64}
    assert stack.translation == pytest.approx({"Z": 5, "Y": 10, "X": 20})
    assert [stack.voxel_size[axis].value for axis in "ZYX"] == pytest.approx([0.5, 0.2, 0.2])
    binding.close()
    binding.session.close()


def test_failed_export_says_why(section: SaveSection, binding, qtbot, tmp_path) -> None:
    add_disc(binding)
    section.export("tiff", str(tmp_path / "no_folder" / "out.tif"))
    qtbot.waitUntil(lambda: "no_folder" in section.message.text() and "was written" not in section.message.text())


def test_tracks_lie_on_the_image(section: SaveSection, binding) -> None:
    number = add_disc(binding)
    add_disc(binding, 1, number)
    section.add_tracks()
    layer = binding.viewer.layers["cells tracks"]
    np.testing.assert_allclose(layer.data, [[number, 0, 20, 15], [number, 1, 20, 17]], atol=0.1)


def test_tracks_are_told_and_leave_the_tool_in_hand(section: SaveSection, binding) -> None:
    add_disc(binding)
    binding.use_tool("lasso")
    section.add_tracks()
    assert binding.tool == "lasso"
    assert section.message.text() == "1 track in the layer cells tracks"


def test_what_was_written_is_told_until_something_else_is_done(section: SaveSection, binding, tmp_path) -> None:
    add_disc(binding)
    for call in (lambda: section.export("objects", str(tmp_path / "out")), section.copy_as_python, section.add_tracks):
        call()
        assert section.message.isVisibleTo(section)
        add_disc(binding)
        assert not section.message.isVisibleTo(section)


def test_session_is_copied_as_text(section: SaveSection, binding) -> None:
    add_disc(binding)
    section.copy_as_python()
    assert "session." in QApplication.clipboard().text()
    section.copy_as_command_line()
    assert QApplication.clipboard().text().startswith("napari-sam2")
