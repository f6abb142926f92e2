"""What the manifest's menu entries do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

__all__ = ["open_automatic", "open_fine_tune", "open_sam2"]

PLUGIN = "napari-sam2"


def open_sam2(viewer: napari.viewer.Viewer) -> None:
    """Open the dock widget, or bring it to the front."""
    viewer.window.add_plugin_dock_widget(PLUGIN, "SAM 2")


def open_automatic(viewer: napari.viewer.Viewer) -> None:
    """Open the widget that segments without clicks."""
    viewer.window.add_plugin_dock_widget(PLUGIN, "Segment everything")


def open_fine_tune(viewer: napari.viewer.Viewer) -> None:
    """Open the widget that trains a model further on labels."""
    viewer.window.add_plugin_dock_widget(PLUGIN, "Fine-tune")
