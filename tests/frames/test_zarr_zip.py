"""Zarr in a zip file: images, levels, labels and plates as in a folder, and archives that claim more than they hold."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam2._errors import FrameError, PlanesLeftOutWarning
from napari_sam2.batch.inputs import find_sources, plan_pieces
from napari_sam2.frames import open_frames
from napari_sam2.frames.zarr_files import plate_fields
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.reading import read_labels

STACK = np.random.default_rng(0).integers(0, 900, (5, 40, 60)).astype(np.uint16)
AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]


def write_image(path: Path, stack: np.ndarray = STACK, zarr_format: int = 3, **options: object) -> Path:
    """An image of two levels, 2 µm along z and 0.5 µm across."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    chunks = (1, *stack.shape[1:])
    group.create_array("0", data=stack, **{"chunks": chunks, **options})
    group.create_array("1", data=stack[:, ::2, ::2], chunks=chunks)
    datasets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5 * f, 0.5 * f]}]}
        for n, f in ((0, 1), (1, 2))
    ]
    image = {"axes": AXES, "datasets": datasets}
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **image}]
    return path


def zip_folder(folder: Path, archive: Path, top: str = "", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return archive


@pytest.mark.parametrize("name", ["a.ozx", "a.ome.zarr.zip", "A.OZX", "a.zip"])
@pytest.mark.parametrize("top", ["", "cells.ome.zarr/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_pixels_distances_and_levels_are_those_of_the_folder(tmp_path, name, top, zarr_format):
    archive = zip_folder(write_image(tmp_path / "a.ome.zarr", zarr_format=zarr_format), tmp_path / name, top)
    frames, coarse = open_frames(archive), open_frames(archive, level=1)
    assert frames.axes == "ZYX"
    assert frames.voxel_size["Z"] == (2, "micrometer")
    np.testing.assert_array_equal(frames.raw(3)[0], STACK[3])
    np.testing.assert_array_equal(coarse.raw(3)[0], STACK[3, ::2, ::2])


@pytest.mark.parametrize(
    "options", [{"shards": (5, 40, 60), "chunks": (1, 20, 20)}, {"compressors": None}], ids=["sharded", "plain"]
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_shards_and_archives_that_are_compressed(tmp_path, options, compression):
    archive = zip_folder(write_image(tmp_path / "a.zarr", **options), tmp_path / "a.ozx", compression=compression)
    np.testing.assert_array_equal(open_frames(archive).raw(4)[0], STACK[4])


def test_a_single_array(tmp_path):
    zarr.save_array(tmp_path / "a.zarr", STACK)
    np.testing.assert_array_equal(
        open_frames(zip_folder(tmp_path / "a.zarr", tmp_path / "a.zarr.zip")).raw(2)[0], STACK[2]
    )


def test_labels_inside_are_read(tmp_path):
    image = write_image(tmp_path / "a.zarr")
    labels = (STACK // 300).astype(np.int32)
    with LabelWriter(image / "labels" / "cells", STACK.shape) as writer:
        for t, plane in enumerate(labels):
            writer.write(t, plane)
    archive = zip_folder(image, tmp_path / "a.zarr.zip")
    for path in (archive, archive / "labels" / "cells"):
        np.testing.assert_array_equal(read_labels(path), labels)


def test_fields_of_a_plate(tmp_path):
    plate = zarr.open_group(tmp_path / "p.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    well = plate.create_group("A/1")
    well.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
    for field in (0, 1):
        write_image(tmp_path / f"p.zarr/A/1/{field}", STACK + np.uint16(field))
    archive = zip_folder(tmp_path / "p.zarr", tmp_path / "p.ozx")
    fields = plate_fields(archive)
    assert fields == (archive / "A/1/0", archive / "A/1/1")
    np.testing.assert_array_equal(open_frames(fields[1]).raw(0)[0], STACK[0] + 1)
    with pytest.warns(PlanesLeftOutWarning, match="well of 2 fields"):
        open_frames(archive / "A/1")
    with pytest.raises(FrameError, match=r"B/1 is not in .*p\.ozx; check the path"):
        open_frames(archive / "B/1")


def test_a_path_in_a_batch_and_its_name(tmp_path):
    zip_folder(write_image(tmp_path / "a.ome.zarr"), tmp_path / "b.ome.zarr.zip")
    pieces = plan_pieces(find_sources([tmp_path]), tmp_path / "out", ".tif")
    assert sorted(piece.output.name for piece in pieces) == ["a.tif", "b.tif"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a.txt": b"?"}, r"holds no zarr but a\.txt; unpack it"),
        ({"a/zarr.json": b"{}", "b/zarr.json": b"{}"}, "holds 2 zarrs, a, b; give a file with one"),
        ({}, "holds no zarr but nothing"),
        ({"zarr.json": b"["}, "cannot be read as zarr"),
    ],
    ids=["no zarr", "two", "empty", "damaged"],
)
def test_archives_without_one_zarr_are_told(tmp_path, content, words):
    with zipfile.ZipFile(tmp_path / "a.ozx", "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    with pytest.raises(FrameError, match=words):
        open_frames(tmp_path / "a.ozx")


def test_a_chunk_that_is_damaged_is_told(tmp_path):
    archive = zip_folder(write_image(tmp_path / "a.zarr", compressors=None), tmp_path / "a.ozx")
    content = bytearray(archive.read_bytes())
    at = content.index(STACK[3].tobytes())
    content[at + 50] ^= 255
    archive.write_bytes(content)
    frames = open_frames(archive)
    frames.raw(2)
    with pytest.raises(FrameError, match=r"is damaged .*; copy the image again"):
        frames.raw(3)


def test_bombs_are_refused(tmp_path):
    folder = write_image(tmp_path / "a.zarr", compressors=None)
    names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for inner, words in (("0/c/0/0/0", "more than the .* that it can hold"), ("zarr.json", "more than the")):
        with zipfile.ZipFile(tmp_path / "a.ozx", "w", zipfile.ZIP_DEFLATED) as file:
            for path in names:
                name = path.relative_to(folder).as_posix()
                if name != inner:
                    file.write(path, name)
            with file.open(inner, "w") as entry:
                for _ in range(80):
                    entry.write(bytes(2**20))
        with pytest.raises(FrameError, match=words):
            open_frames(tmp_path / "a.ozx").raw(0)


def test_a_plain_chunk_that_is_packed_beyond_measure_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(2, 12000, 12000), dtype="uint8", chunks=(1, 12000, 12000), compressors=None)
    with zipfile.ZipFile(tmp_path / "a.ozx", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("zarr.json", "0/zarr.json"):
            file.write(tmp_path / "a.zarr" / name, name)
        with file.open("0/c/0/0/0", "w") as entry:
            entry.write(bytes(144_000_000))
    with pytest.raises(FrameError, match="bytes that unpack to 144,000,000"):
        open_frames(tmp_path / "a.ozx", contrast=(0, 1)).raw(0)


@pytest.mark.parametrize("is_large", [False, True], ids=["zip", "zip64"])
def test_a_list_of_files_that_is_too_long_is_refused(tmp_path, is_large):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("zarr.json", "{}")
    content = bytearray(packed.getvalue())
    end = content.index(b"PK\5\6")
    size = 2**28
    if is_large:
        record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, 0)
        locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
        content[end:end] = record + locator
        end += len(record + locator)
        size = 0xFFFFFFFF
    struct.pack_into("<I", content, end + 12, size)
    (tmp_path / "a.ozx").write_bytes(content)
    with pytest.raises(FrameError, match=r"list of files in .* has 268,435,456 bytes"):
        open_frames(tmp_path / "a.ozx")
