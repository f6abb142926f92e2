"""Images that few programs write: odd orders of axes, types, strides, tags and names are read right, or refused."""

from __future__ import annotations

import json
import os
import struct
import time

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2 import FrameError, open_frames
from napari_sam2.cli import main

STACK = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30)).astype(np.uint16)
"""T, C, Z, Y, X."""
VOLUME = STACK[0, 0]


def pixels(frames) -> np.ndarray:
    """(T, H, W) of the first channel."""
    return np.stack([frames.raw(t)[0] for t in range(len(frames))])


@pytest.mark.parametrize("order", ["ZYX", "ZXY", "XYZ", "XZY", "YXZ", "YZX"])
def test_any_order_of_three_axes(order):
    array = np.transpose(VOLUME, ["ZYX".index(axis) for axis in order])
    assert np.array_equal(pixels(open_frames(array, axes=order)), VOLUME)


@pytest.mark.parametrize("order", ["CXYT", "TCYX", "YXTC", "XYCT", "CTXY"])
def test_any_order_with_channels(order):
    array = np.transpose(STACK[:, :, 0], ["TCYX".index(axis) for axis in order])
    frames = open_frames(array, axes=order)
    assert all(np.array_equal(frames.raw(t), STACK[t, :, 0]) for t in range(2))


@pytest.mark.parametrize("order", ["TCZYX", "CTZYX", "ZTCYX", "TZCYX", "CZTYX"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_any_order_in_ome_xml(tmp_path, order, byteorder):
    array = np.transpose(STACK, ["TCZYX".index(axis) for axis in order])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, array, ome=True, byteorder=byteorder, photometric="minisblack", metadata={"axes": order})
    frames = open_frames(path, fixed={"T": 1})
    assert all(np.array_equal(frames.raw(z), STACK[1, :, z]) for z in range(4))


@pytest.mark.parametrize("turn", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[::2, ::3, ::-2]])
def test_strides_of_any_sign(turn):
    assert np.array_equal(pixels(open_frames(VOLUME[turn], axes="ZYX")), VOLUME[turn])


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint64", "int8", "bool", "f8"])
def test_types_in_zarr_and_tiff(tmp_path, dtype):
    values = VOLUME > 2000 if dtype == "bool" else (VOLUME // 40).astype(dtype)
    zarr.save_array(tmp_path / "a.zarr", values)
    assert np.array_equal(pixels(open_frames(tmp_path / "a.zarr")), values)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert np.array_equal(pixels(open_frames(tmp_path / "a.tif")), values)


@pytest.mark.parametrize("dtype", [complex, object, "U1", "M8[s]", [("a", "u1")]], ids=str)
def test_types_that_are_no_intensities(dtype):
    with pytest.raises(FrameError, match="allowed are bool, integers and floats"):
        open_frames(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zarr_2_with_any_separator_and_order(tmp_path, separator, order):
    array = zarr.create_array(tmp_path / "a.zarr", shape=VOLUME.shape, chunks=(1, 16, 16), dtype="uint16", order=order,
                              zarr_format=2, chunk_key_encoding={"name": "v2", "separator": separator})  # fmt: skip
    array[:] = VOLUME
    assert np.array_equal(pixels(open_frames(tmp_path / "a.zarr")), VOLUME)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 1, 30), (5, 30, 1), (1, 2, 1, 1, 5)])
def test_axes_of_one_pixel(tmp_path, shape):
    axes = "TCZYX"[-len(shape) :]
    tifffile.imwrite(tmp_path / "a.ome.tif", np.ones(shape, np.uint8), ome=True, photometric="minisblack",
                     metadata={"axes": axes})  # fmt: skip
    assert open_frames(tmp_path / "a.ome.tif").shape[1:] == shape[-2:]
    assert open_frames(np.ones(shape, np.uint8), axes=axes).shape[1:] == shape[-2:]


def test_an_imagej_stack_of_five_gigabytes_has_one_directory(tmp_path):
    side, count, path = 2048, 600, tmp_path / "a.tif"
    text = f"ImageJ=1.53t\nimages={count}\nslices={count}\nloop=false\n\0".encode()
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (270, 2, len(text), 8 + 2 + 10 * 12 + 4), (273, 4, 1, 8 + 2 + 10 * 12 + 4 + len(text)),
            (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, side * side * 2)]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    begin = b"II*\0" + struct.pack("<I", 8) + directory + text
    with path.open("wb") as file:
        file.write(begin)
        file.seek(len(begin) + (count - 1) * side * side * 2)
        file.write(np.full(side * side, 7, np.uint16).tobytes())
    frames = open_frames(path, contrast=(0, 10))
    assert frames.shape == (count, side, side)
    assert (frames.raw(0).max(), frames.raw(count - 1).min()) == (0, 7)


@pytest.mark.parametrize("noted", [{"PixelSizeUm": 0.325}, {"PixelSizeUm": 0, "x": "y"}, "not JSON"], ids=str)
def test_pixel_size_of_a_plane_of_micro_manager(tmp_path, noted):
    text = noted if isinstance(noted, str) else json.dumps(noted)
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0], metadata=None, extratags=[(51123, 2, 0, text, True)])
    size = open_frames(tmp_path / "a.tif").voxel_size
    assert size == (dict.fromkeys("XY", (0.325, "micrometer")) if "0.325" in text else None)


@pytest.mark.parametrize(
    "name", ["spaces  ü é.tif", "日本.tif", "a%20b#c.tif", "UPPER.TIF", "[1] {2}.tif", "'quoted'.tif"]
)
def test_names(tmp_path, name):
    tifffile.imwrite(tmp_path / name, VOLUME, photometric="minisblack")
    assert np.array_equal(pixels(open_frames(tmp_path / name)), VOLUME)


def test_links(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert np.array_equal(pixels(open_frames(tmp_path / "b.tif")), VOLUME)


def test_a_folder_of_thousands_of_files(tmp_path):
    tifffile.imwrite(tmp_path / "0000.tif", VOLUME[0])
    for number in range(1, 2000):
        os.link(tmp_path / "0000.tif", tmp_path / f"{number:04d}.tif")
    start = time.process_time()
    assert len(open_frames(tmp_path, contrast=(0, 10))) == 2000
    assert time.process_time() - start < 8  # 1.2 s on an idle core


@pytest.mark.parametrize(("name", "content"), [("a.tif", b"\x89PNG\r\n\x1a\n"), ("a.png", b"II*\0\x08\0\0\0")], ids=str)
def test_a_wrong_suffix(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameError, match="cannot be read as"):
        open_frames(tmp_path / name)


def test_what_tifffile_logs_about_odd_tags_is_no_line_of_a_command(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[0], metadata=None, extratags=[(51123, 2, 0, "{}", True)])
    with pytest.raises(SystemExit) as ended:
        main(["segment", str(tmp_path / "a.tif"), "--point", "900,900", "-o", str(tmp_path / "b.tif")])
    assert ended.value.code == 3
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
