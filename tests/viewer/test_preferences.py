"""Settings on napari's Preferences page are read, and its manifests only where something was chosen."""

from __future__ import annotations

from types import SimpleNamespace

import napari.settings
import pytest

from napari_sam2._viewer.preferences import Preferences, read_preferences

pytestmark = pytest.mark.skipif(not hasattr(napari.settings, "get_plugin_settings"), reason="before napari 0.9")


@pytest.fixture
def page(monkeypatch, tmp_path):
    """Names of the plugins whose settings were read, and the folder of the settings."""
    read: list[str] = []
    chosen = SimpleNamespace(model=SimpleNamespace(name="sam2.1_hiera_tiny", device="cpu", cache_folder=""))
    monkeypatch.setattr("napari.settings.get_plugin_settings", lambda name: read.append(name) or chosen)
    monkeypatch.setattr(
        "napari.settings.get_settings", lambda: SimpleNamespace(config_path=str(tmp_path / "settings.yaml"))
    )
    return read, tmp_path


def test_manifests_are_not_read_where_nothing_was_chosen(page):
    read, _ = page
    assert read_preferences() == Preferences()
    assert read == []


@pytest.mark.parametrize("by", ["file", "environment", "no file at all"])
def test_what_was_chosen_is_used(page, monkeypatch, by):
    read, folder = page
    if by == "file":
        (folder / "napari-sam2.yaml").touch()
    elif by == "environment":
        monkeypatch.setenv("NAPARI_MODEL_NAME", "sam2.1_hiera_tiny")
    else:
        monkeypatch.setattr("napari.settings.get_settings", lambda: SimpleNamespace(config_path=None))
    assert read_preferences() == Preferences("sam2.1_hiera_tiny", "cpu")
    assert read == ["napari-sam2"]
