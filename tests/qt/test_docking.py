"""A widget ends with its dock, however that is closed."""

from __future__ import annotations

import threading

from factories import make_movie
from napari_sam2._qt.keys import SHORTCUTS
from napari_sam2._qt.main_widget import SAM2Widget


def test_closing_the_dock_ends_the_widget(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=False)
    bound = {str(key) for key in viewer.keymap}
    viewer.add_image(make_movie(), name="cells")
    widget = SAM2Widget(viewer)
    dock = viewer.window.add_dock_widget(widget, name="SAM 2")
    qtbot.waitUntil(lambda: widget.binding is not None)
    session = widget.binding.session
    assert len({str(key) for key in viewer.keymap} - bound) == len(SHORTCUTS)

    dock.destroyOnClose()

    assert widget.binding is None
    assert {str(key) for key in viewer.keymap} == bound
    assert session.autosave_path is None
    qtbot.waitUntil(lambda: not [t for t in threading.enumerate() if t.name.startswith("napari-sam2")], timeout=60_000)
    widget.deleteLater()
