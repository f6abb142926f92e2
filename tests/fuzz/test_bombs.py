"""Small files that claim or decode to gigabytes are refused within five seconds of computing and 500 MB."""

from __future__ import annotations

import contextlib
import io
import os
from functools import partial
from pathlib import Path

import numcodecs.lz4
import pytest
import roifile
import zarr
from bombs import IMAGES, LABELS, tiff_that_is_cut, zarr_claims
from fuzz_files import REFUSED, outcome

from napari_sam2 import NapariSAM2Error, open_frames
from napari_sam2.cli import main
from napari_sam2.labels.reading import read_labels

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is opened in a copy of the process")
_LIBRARIES = (numcodecs.lz4, roifile, zarr)  # imported here once, and not in each copy of the process
_READ = "read"
_HARMLESS = (  # read to the end that they have
    "TIFF, LZMA of 1 GB in a small strip",
    "TIFF, a directory in a circle",
    "zarr, consolidated metadata of 40,000 arrays",
)


def read_frames(path: Path) -> str:
    frames = open_frames(path)
    frames[0]
    return _READ


def read_objects(path: Path, shape: tuple[int, ...] | None) -> str:
    read_labels(path, shape=shape)
    return _READ


def run_command(arguments: list[str]) -> str:
    """The exit code of a command, and how many lines it writes."""
    written = io.StringIO()
    try:
        with contextlib.redirect_stderr(written), contextlib.redirect_stdout(written):
            main(arguments)
    except SystemExit as ended:
        return f"exit {ended.code}, {len(written.getvalue().strip().splitlines())} line"
    return _READ


@pytest.mark.parametrize("name", IMAGES)
def test_images(tmp_path, name):
    path = IMAGES[name](tmp_path)
    assert outcome(partial(read_frames, path)) == (_READ if name in _HARMLESS else REFUSED)


@pytest.mark.parametrize("name", LABELS)
def test_labels(tmp_path, name):
    path = LABELS[name](tmp_path)
    assert outcome(partial(read_objects, path, (64, 64))) == REFUSED


@pytest.mark.parametrize("name", [name for name in LABELS if name.startswith("COCO of")])
def test_coco_without_a_known_size(tmp_path, name):
    path = LABELS[name](tmp_path)
    assert outcome(partial(read_objects, path, None)) == REFUSED


@pytest.mark.parametrize("build", [tiff_that_is_cut, zarr_claims([10**6] * 3, [1, 1024, 1024])], ids=["tiff", "zarr"])
@pytest.mark.parametrize("command", [["track", "--point", "0,5,5"], ["auto"], ["segment", "--point", "5,5"]], ids=str)
def test_commands(tmp_path, command, build):
    path = build(tmp_path)
    name, *options = command
    arguments = [name, str(path), *options, "-o", str(tmp_path / "out.tif")]
    assert outcome(partial(run_command, arguments)) == "exit 3, 1 line"
    assert not (tmp_path / "out.tif").exists()


def test_labels_that_do_not_fit_into_memory_are_refused_before_they_are_read(tmp_path):
    path = LABELS["NGFF labels of 3 TB"](tmp_path)
    with pytest.raises(NapariSAM2Error, match="claims the shape 100,000 x 3,000 x 3,000"):
        read_labels(path)
