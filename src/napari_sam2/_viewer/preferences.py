"""The settings on napari's Preferences page."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

from napari_sam2.weights.downloads import CACHE_VARIABLE

__all__ = ["Preferences", "read_preferences"]


@dataclass(frozen=True)
class Preferences:
    """Model and device that sessions start with."""

    model: str = "sam2_micro"
    device: str = "auto"


def read_preferences() -> Preferences:
    """The settings; defaults where this napari keeps none for plugins (before 0.9).

    A folder for downloads that is set there holds for this process, unless the environment names one already.
    """
    settings = importlib.import_module("napari.settings")
    read = getattr(settings, "get_plugin_settings", None)
    if read is None:
        return Preferences()
    try:
        model = read("napari-sam2").model
    except (KeyError, AttributeError, ValueError):  # the plugin is not registered, as in some tests
        return Preferences()
    folder = str(getattr(model, "cache_folder", "") or "")
    if folder:
        os.environ.setdefault(CACHE_VARIABLE, folder)
    return Preferences(str(model.name or "sam2_micro"), str(model.device or "auto"))
