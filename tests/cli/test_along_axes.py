"""The voxel size with which a volume is tracked along other axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2.cli._along_axes import _voxel_size
from napari_sam2.frames import open_frames

KNOWN = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 500.0, "PhysicalSizeZUnit": "nm"}
NO_Z = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}


@pytest.mark.parametrize(
    ("sizes", "expected", "words"),
    [
        pytest.param(KNOWN, (0.5, 0.25, 0.25), "", id="nanometres-along-z"),
        pytest.param(NO_Z, (1.0, 1.0, 1.0), "along Z is not known", id="unknown-along-z"),
        pytest.param({}, (1.0, 1.0, 1.0), "along Z, Y, X is not known", id="unknown"),
    ],
)
def test_sides_of_a_voxel_have_one_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str], sizes, expected, words):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), metadata={"axes": "ZYX", **sizes})
    assert _voxel_size(open_frames(path)) == pytest.approx(expected)
    told = capsys.readouterr().err
    assert words in told
    assert bool(told) == bool(words)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "stack.ome.tif", make_disks()[0])


def test_axes_vote_tracks_along_all_axes(stack: Path, tmp_path: Path):
    weights = save_random_model(tmp_path / "model.safetensors")
    out = tmp_path / "out.ome.tif"
    assert run("track", stack, "--point", "1,34,33", "--axes-vote", "-o", out, "--model", weights) == 0
    assert tifffile.imread(out).shape == make_disks()[1].shape


def test_axes_vote_and_a_single_axis_are_refused(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.ome.tif"
    assert run("track", stack, "--point", "1,34,33", "--axes-vote", "--along", "Y", "-o", out) != 0
    assert "give one" in capsys.readouterr().err
