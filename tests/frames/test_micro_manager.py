"""NDTiff datasets of Micro-Manager: axes, channels and positions by their list of images, and damaged lists."""

from __future__ import annotations

import json
import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam2 import FrameError, open_frames
from napari_sam2.frames import Spacing

SHAPE = (6, 8)
NOTES = b'{"Exposure": 10}\0'
Images = list[tuple[dict[str, Any], int]]


def tag(code: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", code, kind, count, value)


def write_ndtiff(folder: Path, files: dict[str, Images], summary: dict[str, object] | None = None) -> None:
    """Files of 16-bit planes, each of one value, with the list of their axes."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(summary or {}).encode()
    index = b""
    for name, images in files.items():
        start = 28 + len(text) + (len(text) % 2)
        content = struct.pack("<2sHIIIIII", b"II", 42, start, 483729, 3, 3, 2355492, len(text)) + text
        content = content.ljust(start, b"\0")
        for number, (axes, value) in enumerate(images):
            data = np.full(SHAPE, value, "<u2").tobytes()
            at = len(content) + 2 + 10 * 12 + 4 + len(NOTES)
            following = at + len(data) if number + 1 < len(images) else 0
            tags = [(256, 4, SHAPE[1]), (257, 4, SHAPE[0]), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, at)]
            tags += [(277, 3, 1), (278, 4, SHAPE[0]), (279, 4, len(data))]
            content += struct.pack("<H", 10) + b"".join(tag(code, kind, 1, given) for code, kind, given in tags)
            content += tag(51123, 2, len(NOTES), at - len(NOTES))
            content += struct.pack("<I", following) + NOTES + data
            place = json.dumps(axes).encode()
            index += struct.pack("<I", len(place)) + place + struct.pack("<I", len(name)) + name.encode()
            index += struct.pack("<IiiiiIii", at, SHAPE[1], SHAPE[0], 1, 0, 0, 0, 0)
        (folder / name).write_bytes(content)
    (folder / "NDTiff.index").write_bytes(index)


def grid(**axes: list[int | str]) -> Images:
    return [(dict(zip(axes, place, strict=True)), number) for number, place in enumerate(product(*axes.values()))]


def first_values(path: Path, **options: object) -> list[list[int]]:
    frames = open_frames(path, contrast="dtype", **options)
    return [frames.raw(z)[:, 0, 0].tolist() for z in range(len(frames))]


def test_axes_are_those_of_the_list_and_channels_have_their_names(tmp_path, recwarn):
    images = grid(channel=["GFP", "DAPI"], z=[-1, 0, 1])
    write_ndtiff(tmp_path / "a", {"a_NDTiffStack.tif": images}, {"z-step_um": 0.25})
    for path in (tmp_path / "a", tmp_path / "a" / "a_NDTiffStack.tif"):
        frames = open_frames(path)
        assert (frames.axes, frames.channel_names) == ("CZYX", ("GFP", "DAPI"))
        assert (frames.voxel_size or {})["Z"] == Spacing(0.25, "micrometer")
        assert first_values(path) == [[0, 3], [1, 4], [2, 5]]
    assert not recwarn


def test_files_of_one_dataset_are_one_image_with_positions(tmp_path):
    images = grid(position=[0, 1], time=[0, 1], z=[0, 1])
    write_ndtiff(tmp_path / "a", {"x_NDTiffStack.tif": images[:3], "x_NDTiffStack_1.tif": images[3:]})
    for path in (tmp_path / "a", tmp_path / "a" / "x_NDTiffStack_1.tif"):
        frames = open_frames(path, fixed={"P": 1, "T": 0})
        assert frames.axes == "PTZYX"
        assert first_values(path, fixed={"P": 1, "T": 1}) == [[6], [7]]


def test_planes_acquired_in_another_order_are_where_they_belong(tmp_path):
    images = grid(z=[2, 0, 1], channel=["b", "a"])
    write_ndtiff(tmp_path / "a", {"NDTiffStack.tif": images})
    assert open_frames(tmp_path / "a").channel_names == ("b", "a")
    assert sorted(first_values(tmp_path / "a")) == [[0, 1], [2, 3], [4, 5]]
    assert first_values(tmp_path / "a") == [[2, 3], [4, 5], [0, 1]]


def test_a_damaged_list_is_refused_with_what_to_do(tmp_path):
    folder = tmp_path / "a"
    images = grid(z=[0, 1])
    cases = {
        "lists no image: it is empty or damaged": lambda: (folder / "NDTiff.index").write_bytes(b""),
        "ends in the middle of an image's entry": lambda: (folder / "NDTiff.index").write_bytes(
            (folder / "NDTiff.index").read_bytes()[:-40]
        ),
        "'NDTiffStack.tif' is not in the folder": lambda: (folder / "NDTiffStack.tif").rename(folder / "b.tif"),
        "announces 1,000,000,000 planes": lambda: write_ndtiff(
            folder, {"NDTiffStack.tif": [({"z": 0}, 0), ({"z": 10**9 - 1}, 1)]}
        ),
        "numbers and names along the axis 'z'": lambda: write_ndtiff(
            folder, {"NDTiffStack.tif": [({"z": 0}, 0), ({"z": "top"}, 1)]}
        ),
        "images with different axes": lambda: write_ndtiff(
            folder, {"NDTiffStack.tif": [({"z": 0}, 0), ({"time": 1}, 1)]}
        ),
        r"the place \[0\] along the axis 'z'": lambda: write_ndtiff(
            folder, {"NDTiffStack.tif": [({"z": [0]}, 0), ({"z": [1]}, 1)]}
        ),
        "is not in the folder": lambda: write_ndtiff(folder, {"../a/NDTiffStack.tif": images}),
    }
    for message, damage in cases.items():
        write_ndtiff(folder, {"NDTiffStack.tif": images})
        damage()
        with pytest.raises(FrameError, match=message):
            open_frames(folder)


def test_planes_whose_list_is_lost_are_in_the_order_of_acquisition_with_a_warning(tmp_path):
    write_ndtiff(tmp_path / "a", {"NDTiffStack.tif": grid(channel=["a", "b"], z=[0, 1])})
    (tmp_path / "a" / "NDTiff.index").unlink()
    with pytest.warns(UserWarning, match=r"list of axes .* is not beside it or not read.*order of acquisition"):
        assert first_values(tmp_path / "a" / "NDTiffStack.tif") == [[0], [1], [2], [3]]


def test_tiles_of_a_dataset_are_no_frames(tmp_path):
    write_ndtiff(tmp_path / "a", {"NDTiffStack.tif": grid(row=[0, 1], column=[0, 1], z=[0, 1])})
    with pytest.raises(FrameError, match="have unknown names; give axes="):
        open_frames(tmp_path / "a")
    assert first_values(tmp_path / "a", axes="MVZYX", fixed={"M": 1, "V": 0}) == [[4], [5]]
