"""LSM and STK files: distances in their metadata, and planes that are read even if it is damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2._errors import FrameError
from napari_sam2.frames import open_frames

STACK = np.random.default_rng(0).integers(0, 4000, (5, 30, 40)).astype(np.uint16)
PLANES, NOTES = 33629, 33628


def lsm(path: Path, shape: tuple[int, ...] = (1, 5, 3), interval: float = 0.0, stamps: tuple[float, ...] = ()) -> Path:
    """(T, Z, C) planes of 30 x 40 with thumbnails, 0.1 x 0.2 x 0.5 µm."""
    times, slices, channels = shape
    scan_type = 6 if times > 1 and slices > 1 else 3 if times > 1 else 0
    sizes = (40, 30, slices, channels, times, 2, 10, 10)
    values = np.random.default_rng(0).integers(0, 4000, (times * slices, channels, 30, 40)).astype(np.uint16)

    def notes(at: int) -> bytes:
        begin = struct.pack("<II8i", 67127628, 400, *sizes) + struct.pack("<3d3d", 1e-7, 2e-7, 5e-7, 0, 0, 0)
        begin += struct.pack("<HHI", scan_type, 0, 0) + struct.pack("<4I", 0, 0, 0, 0) + struct.pack("<d", interval)
        begin += struct.pack("<4I", 0, 0, 0, at if stamps else 0)
        return begin + bytes(400 - len(begin))

    def write(at: int) -> None:
        with tifffile.TiffWriter(path) as file:
            for page, plane in enumerate(values):
                tags = [(34412, 1, 400, notes(at), True)] if page == 0 else []
                layout = {"data": plane, "planarconfig": "separate"} if channels > 1 else {"data": plane[0]}
                file.write(**layout, photometric="minisblack", extratags=tags, metadata=None)
                file.write(np.zeros((10, 10, 3), np.uint8), photometric="rgb", subfiletype=1, metadata=None)

    write(0)
    write(path.stat().st_size)
    with path.open("ab") as file:
        file.write(struct.pack("<ii", 8 + 8 * len(stamps), len(stamps)) + struct.pack(f"<{len(stamps)}d", *stamps))
    return path


def test_distances_and_channels_of_lsm(tmp_path):
    frames = open_frames(lsm(tmp_path / "a.lsm"), channels=[0, 1])
    assert (frames.axes, frames.shape) == ("ZCYX", (5, 30, 40))
    sizes = {axis: size.value for axis, size in frames.voxel_size.items()}
    assert sizes == pytest.approx({"X": 0.1, "Y": 0.2, "Z": 0.5})
    assert {size.unit for size in frames.voxel_size.values()} == {"micrometer"}


@pytest.mark.parametrize(
    ("given", "seconds"), [({"interval": 2.5}, 2.5), ({"stamps": (10.0, 14.0, 18.0)}, 4)], ids=["interval", "stamps"]
)
def test_time_between_frames_of_lsm(tmp_path, given, seconds):
    frames = open_frames(lsm(tmp_path / "a.lsm", (3, 1, 1), **given))
    assert frames.axes == "TYX"
    assert frames.voxel_size["T"] == (seconds, "second")


def test_lsm_whose_notes_are_damaged_is_read_page_by_page(tmp_path):
    path = lsm(tmp_path / "a.lsm", (1, 5, 1))
    expected = open_frames(path).raw(3)[0]
    content = path.read_bytes().replace(struct.pack("<I", 67127628), bytes(4))
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"the Zeiss metadata of .* is damaged"):
        frames = open_frames(path)
    assert frames.shape == (5, 30, 40)
    assert not frames.voxel_size
    np.testing.assert_array_equal(frames.raw(3)[0], expected)


def change_tag(path: Path, code: int, **changes: int) -> None:
    """Change the type, count or value of a tag of the first page in place."""
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<I", content, 4)
    (num_tags,) = struct.unpack_from("<H", content, offset)
    for at in range(offset + 2, offset + 2 + 12 * num_tags, 12):
        if struct.unpack_from("<H", content, at)[0] == code:
            for name, value in changes.items():
                place, kind = {"type": (2, "<H"), "count": (4, "<I"), "value": (8, "<I")}[name]
                struct.pack_into(kind, content, at + place, value)
    path.write_bytes(content)


def stk(path: Path, distance: tuple[int, int] = (15, 10), milliseconds: int = 0, calibration: int = 1000) -> Path:
    """Five planes as MetaMorph writes them: one page, all planes behind each other, notes in tags of its own."""
    planes = [(*distance, 2455000, 1000 + milliseconds * n, 2455000, 0) for n in range(5)]
    notes = [(3, 1), (4, 0), (5, 0), (6, 0)]
    for _ in range(2):  # where the numbers of the notes lie is known after the first time
        tags = [
            (NOTES, 4, 8, [number for pair in notes for number in pair], True),
            (PLANES, 5, 15, [number for plane in planes for number in plane], True),
        ]
        tifffile.imwrite(path, STACK[0], extratags=tags, metadata=None, photometric="minisblack")
        begin = path.stat().st_size
        notes = [(3, 1), (4, begin), (5, begin + 8), (6, begin + 16)]
    with path.open("ab") as file:
        file.write(struct.pack("<5I", 65, calibration, 66, calibration, 3) + b"um\0")
        at = file.tell()
        file.write(STACK.tobytes())
    change_tag(path, 273, value=at)
    change_tag(path, NOTES, count=4)
    change_tag(path, PLANES, count=5)
    return path


def test_distances_of_stk(tmp_path):
    frames = open_frames(stk(tmp_path / "a.stk"))
    assert frames.axes == "ZYX"
    assert frames.voxel_size == {"X": (0.065, "micrometer"), "Y": (0.066, "micrometer"), "Z": (1.5, "micrometer")}
    np.testing.assert_array_equal(frames.raw(3)[0], STACK[3])


@pytest.mark.parametrize("distance", [(0, 1), (0, 0)])
def test_stk_without_distances_of_planes_is_a_movie(tmp_path, distance, recwarn):
    frames = open_frames(stk(tmp_path / "a.stk", distance, milliseconds=500))
    assert frames.axes == "TYX"
    assert frames.voxel_size["T"] == (0.5, "second")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("code", "changes", "known"),
    [(NOTES, {"type": 2}, {"Z"}), (PLANES, {"type": 4}, {"X", "Y"})],
    ids=["notes", "planes"],
)
def test_stk_whose_notes_are_damaged_is_read(tmp_path, code, changes, known):
    path = stk(tmp_path / "a.stk")
    change_tag(path, code, **changes)
    with pytest.warns(UserWarning, match=r"the MetaMorph metadata of .* is damaged"):
        frames = open_frames(path)
    assert set(frames.voxel_size) == known
    np.testing.assert_array_equal(frames.raw(3)[0], STACK[3])


def test_stk_whose_calibration_is_divided_by_zero_is_read(tmp_path):
    path = stk(tmp_path / "a.stk", calibration=0)
    with pytest.warns(UserWarning, match="MetaMorph metadata"):
        frames = open_frames(path)
    np.testing.assert_array_equal(frames.raw(4)[0], STACK[4])


@pytest.mark.parametrize("code", [NOTES, PLANES])
def test_stk_whose_list_of_planes_is_lost_is_told(tmp_path, code):
    path = stk(tmp_path / "a.stk")
    change_tag(path, code, value=10**7)
    with pytest.warns(UserWarning, match="1 of up to 5 planes is read"):
        assert open_frames(path).shape == (1, 30, 40)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="1 of up to 4 planes is read"):
        open_frames(path)


def test_a_cut_stk_is_told(tmp_path):
    path = stk(tmp_path / "a.stk")
    path.write_bytes(path.read_bytes()[: -2 * STACK[0].nbytes])
    with pytest.warns(UserWarning, match="3 of 5 frames"), pytest.raises(FrameError, match="3 of 5 frames"):
        open_frames(path).raw(4)
