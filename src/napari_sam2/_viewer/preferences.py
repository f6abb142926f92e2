"""The settings on napari's Preferences page."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sam2.weights.downloads import CACHE_VARIABLE

__all__ = ["Preferences", "read_preferences"]

_PLUGIN = "napari-sam2"


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
    if read is None or not _are_chosen(settings):
        return Preferences()
    try:
        model = read(_PLUGIN).model
    except (KeyError, AttributeError, ValueError):  # the plugin is not registered, as in some tests
        return Preferences()
    folder = str(getattr(model, "cache_folder", "") or "")
    if folder:
        os.environ.setdefault(CACHE_VARIABLE, folder)
    return Preferences(str(model.name or "sam2_micro"), str(model.device or "auto"))


def _are_chosen(settings: Any) -> bool:
    """Whether something may have been chosen on the page: napari reads the manifests of all plugins to tell what."""
    config = settings.get_settings().config_path
    if config is None or any(name.upper().startswith("NAPARI_MODEL_") for name in os.environ):
        return True
    return (Path(config).parent / f"{_PLUGIN}.yaml").exists()
