"""Strips of a TIFF whose JPEG XL, JPEG XR or LERC header claims a far larger picture are refused before decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_sam2 import FrameError, open_frames
from napari_sam2.frames.coded_sizes import coded_size

CODECS = {
    "jpegxl": (imagecodecs.jpegxl_encode, tifffile.COMPRESSION.JPEGXL),
    "jpegxr": (imagecodecs.jpegxr_encode, tifffile.COMPRESSION.JPEGXR),
    "lerc": (imagecodecs.lerc_encode, tifffile.COMPRESSION.LERC),
}


@pytest.mark.parametrize("hw", [(64, 64), (100, 37), (48, 64), (600, 800), (3, 5000)])
@pytest.mark.parametrize("name", CODECS)
def test_sizes_of_headers(name: str, hw: tuple[int, int]):
    data = CODECS[name][0](np.zeros(hw, np.uint8))
    assert coded_size(data) == (hw[1], hw[0])
    assert coded_size(data[:9]) is None or name == "jpegxl"


def test_a_jpeg_xl_in_boxes_and_other_data():
    assert coded_size(imagecodecs.jpegxl_encode(np.zeros((20, 300), np.uint8), usecontainer=True)) == (300, 20)
    assert coded_size(b"") is None
    assert coded_size(b"other data") is None


def write(path: Path, data: bytes, compression: int) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([data] * 2), shape=(2, 64, 64), dtype=np.uint8, rowsperstrip=64, compression=compression,
            photometric="minisblack", metadata=None,
        )  # fmt: skip
    return path


@pytest.mark.parametrize(("encode", "compression"), CODECS.values(), ids=CODECS)
def test_larger_pictures_in_strips_are_refused(encode: Callable[[np.ndarray], bytes], compression: int, tmp_path: Path):
    with pytest.raises(FrameError, match="holds a picture of 700 x 600 pixels in a strip or tile of 64 x 64"):
        open_frames(write(tmp_path / "a.tif", encode(np.zeros((600, 700), np.uint8)), compression))[0]
    right = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) // 2
    frames = open_frames(write(tmp_path / "b.tif", encode(right), compression), contrast="dtype")
    assert frames[1].shape == (64, 64, 3)
