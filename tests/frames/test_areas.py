"""Areas in pixels and in units of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_tools import make_disks, save_stack
from napari_sam2 import FrameError, open_frames
from napari_sam2.frames.areas import parse_area


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "stack.ome.tif", make_disks()[0])


@pytest.mark.parametrize(
    ("text", "pixels"),
    [
        pytest.param("30", 30, id="pixels"),
        pytest.param("12um2", 192, id="micrometres"),
        pytest.param("0.5 µm²", 8, id="micro-sign"),
        pytest.param("62500nm^2", 1, id="nanometres"),
        pytest.param(None, None, id="not-given"),
    ],
)
def test_areas_have_units(text: str | None, pixels: float | None, stack: Path):
    assert parse_area("--min-area", text, open_frames(stack)) == pytest.approx(pixels)


@pytest.mark.parametrize("text", ["", "um2", "-3", "3um", "3um3", "1e3", "3 s2"])
def test_areas_that_make_no_sense(text: str, stack: Path):
    with pytest.raises(FrameError, match="--min-area"):
        parse_area("--min-area", text, open_frames(stack))
