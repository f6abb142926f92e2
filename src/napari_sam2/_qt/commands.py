"""Commands of the manifest's menu entries: each opens the one dock at its tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

    from napari_sam2._qt.main_widget import SAM2Widget

__all__ = ["open_automatic", "open_fine_tune", "open_many_files", "open_measure", "open_sam2"]

PLUGIN = "napari-sam2"


def open_sam2(viewer: napari.viewer.Viewer) -> SAM2Widget:
    """Open the dock, or bring it to the front, with the tab for prompts."""
    return _show(viewer, "Click")


def open_automatic(viewer: napari.viewer.Viewer) -> None:
    """Open the dock with the tab that segments everything."""
    _show(viewer, "Everything")


def open_many_files(viewer: napari.viewer.Viewer) -> None:
    """Open the dock with the tab that segments many files."""
    _show(viewer, "Many files")


def open_fine_tune(viewer: napari.viewer.Viewer) -> None:
    """Open the dock with the tab that fine-tunes a model."""
    _show(viewer, "Train")


def open_measure(viewer: napari.viewer.Viewer) -> None:
    """Open the dock, and the table of measurements below the canvas."""
    _show(viewer, "Click").show_measurements()


def _show(viewer: napari.viewer.Viewer, tab: str) -> SAM2Widget:
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "SAM 2")
    shown: SAM2Widget = widget
    shown.show_tab(tab)
    return shown
