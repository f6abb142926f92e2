"""Sample images: those that come with the package are small, credited, and open as layers."""

from __future__ import annotations

import pytest
from napari.layers import Layer

from napari_sam2._viewer import sample_data
from places import ROOT

REAL = ("mouse_embryo", "c2c12_movie", "tissue_nuclei")


@pytest.mark.parametrize("name", REAL)
def test_real_samples_open_and_are_credited(name):
    ((data, options, kind),) = getattr(sample_data, name)()
    layer = Layer.create(data, options, kind)
    assert layer.ndim == len(options["axis_labels"]) == data.ndim
    assert data.max() > 100
    assert f"{name}.tif" in (ROOT / "THIRD_PARTY.md").read_text()


def test_real_samples_are_small():
    folder = ROOT / "src" / "napari_sam2" / "bundled" / "samples"
    found = sorted(folder.iterdir())
    assert [path.stem for path in found] == sorted(REAL)
    assert sum(path.stat().st_size for path in found) < 1_000_000
