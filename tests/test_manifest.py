"""The plugin manifest: where it lies, what it says, and that everything it points to can be imported."""

from __future__ import annotations

import os
from importlib.metadata import distribution, entry_points
from importlib.resources import files

import pytest
from npe2 import PluginManifest

from places import ROOT


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution("napari-sam2")


def test_installed_manifest_is_the_file_in_the_package(manifest):
    in_package = PluginManifest.from_file(str(files("napari_sam2") / "napari.yaml"))
    assert manifest.name == "napari-sam2"
    assert manifest.display_name == "SAM 2"
    assert manifest.contributions == in_package.contributions


def test_manifest_at_top_level_is_a_link_to_the_one_in_the_package():
    at_top = ROOT / "napari.yaml"
    assert at_top.is_symlink()
    assert os.readlink(at_top) == "src/napari_sam2/napari.yaml"  # noqa: PTH115
    assert at_top.resolve() == (ROOT / "src" / "napari_sam2" / "napari.yaml").resolve()


def test_name_equals_the_distribution_and_display_name_fits_a_dock_title(manifest):
    assert manifest.name == distribution("napari-sam2").metadata["Name"]
    assert len(manifest.display_name) <= 12


def test_everything_the_manifest_points_to_can_be_imported(manifest):
    pytest.importorskip("qtpy.QtCore", reason="the widgets need a Qt binding", exc_type=Exception)
    manifest.validate_imports()
    commands = manifest.contributions.commands or []
    assert all(command.id.startswith("napari-sam2.") for command in commands)


def test_entry_points_name_the_manifest_and_the_command():
    assert entry_points(group="napari.manifest")["napari-sam2"].value == "napari_sam2:napari.yaml"
    assert entry_points(group="console_scripts")["napari-sam2"].value == "napari_sam2.cli:main"


def test_package_says_that_it_is_typed():
    assert (files("napari_sam2") / "py.typed").is_file()
