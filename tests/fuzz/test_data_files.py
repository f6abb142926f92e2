"""Weights and images with flipped bytes, cut off or with odd headers: read, or refused by an error of the package."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from fuzz_files import REFUSED, flipped, outcome
from fuzz_world import Files

from napari_sam2 import load_model, open_frames

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is opened in a copy of the process")
SEED = int(os.environ.get("NAPARI_SAM2_FUZZ_SEED", "0"))
_READ = "read"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    torch.set_num_threads(1)  # a copy of this process has no other threads
    made = Files(tmp_path_factory.mktemp("fuzz"))
    folder = made.folder
    torch.save(made.model.state_dict(), folder / "weights.pt")
    tifffile.imwrite(folder / "deflate.ome.tif", made.movie, ome=True, metadata={"axes": "TYX"}, compression="zlib")
    movie = np.tile(made.movie, (1, 2, 2))
    tifffile.imwrite(folder / "tiles.tif", movie, tile=(16, 16), compression="lzw", photometric="minisblack")
    return made


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes of a file with some of them changed, mostly near the beginning, where the headers are; or cut off."""
    kind = rng.random()
    if kind < 0.12:
        return data[: rng.randrange(len(data))]
    near = min(len(data), 4096)
    num_places = rng.choice((1, 1, 2, 8, 40))
    places = [
        (rng.randrange(near if rng.random() < 0.7 else len(data)), rng.choice((255, 1, 128, rng.randrange(1, 256))))
        for _ in range(num_places)
    ]
    return flipped(data, places)


def read_weights(path: Path) -> str:
    load_model(path, device="cpu")
    return _READ


def read_image(path: Path) -> str:
    frames = open_frames(path)
    for t in range(min(len(frames), 5)):
        frames[t]
    return _READ


def check(folder: Path, sources: list[Path], read: Callable[[Path], str], numbers: range) -> None:
    faults = []
    for index in numbers:
        rng = random.Random(f"{SEED} {read.__name__} {index}")
        source = rng.choice(sources)
        path = folder / f"{index}{''.join(source.suffixes)}"
        path.write_bytes(damaged(rng, source.read_bytes()))
        found = outcome(partial(read, path), memory=2 * 2**30)  # a model for large inputs has large tables
        path.unlink()
        if found not in (_READ, REFUSED):
            faults.append(f"{read.__name__} {index} ({source.name}): {found}")
    assert not faults, f"{len(faults)} of {len(numbers)}\n" + "\n".join(faults)


def _weights(files: Files) -> list[Path]:
    return [files.weights, files.folder / "weights.pt"]


def _images(files: Files) -> list[Path]:
    return [files.tiff, files.png, files.folder / "deflate.ome.tif", files.folder / "tiles.tif"]


def test_whole_files_are_read(files):
    assert [outcome(partial(read_weights, path)) for path in _weights(files)] == [_READ, _READ]
    assert {outcome(partial(read_image, path)) for path in [*_images(files), files.zarr, files.images]} == {_READ}


def test_damaged_weights_are_refused(files, tmp_path):
    check(tmp_path, _weights(files), read_weights, range(6))


def test_damaged_images_are_read_or_refused(files, tmp_path):
    check(tmp_path, _images(files), read_image, range(12))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_weights_are_refused(files, tmp_path):
    check(tmp_path, _weights(files), read_weights, range(6, 206))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_images_are_read_or_refused(files, tmp_path):
    check(tmp_path, _images(files), read_image, range(12, 512))


# ---------------------------------------------------------------------- what claims more than it holds
def safetensors_with(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(64)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few zeros."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 64]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]}}',
        b'{"a": {"dtype": "F8_E4M3", "shape": [64], "data_offsets": [0, 64]}}',
        b'{"__metadata__": {"model": "\\ud800", "image_size": "\xc2\xb2"}}',
        json.dumps({"__metadata__": {"model": "sam2_micro", "image_size": "1000000"}}).encode(),
    ],
    ids=range(9),
)
def test_odd_headers_of_weights_are_refused(files, tmp_path, header):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(safetensors_with(header))
    assert outcome(partial(read_weights, path)) == REFUSED


@pytest.mark.parametrize(
    ("width", "height"), [(10**6, 10**6), (2**31 - 1, 1), (1, 2**31 - 1), (0, 5), (30_000, 30_000)]
)
def test_pictures_that_claim_more_than_they_hold_are_refused(files, tmp_path, width, height):
    path = tmp_path / "odd.png"
    path.write_bytes(png_of(width, height))
    assert outcome(partial(read_image, path)) == REFUSED


@pytest.mark.parametrize(
    "shape", [[10**6] * 3, [10**12, 4, 4], [4, 0, 4], [-1, 4, 4], [4.5, 4, 4], "abc", [2**63, 1, 1]], ids=str
)
def test_zarr_arrays_that_claim_odd_shapes_are_refused(files, tmp_path, shape):
    path = tmp_path / "odd.zarr"
    shutil.copytree(files.zarr, path)
    described = json.loads((path / "zarr.json").read_text())
    described["shape"] = shape
    (path / "zarr.json").write_text(json.dumps(described))
    assert outcome(partial(read_image, path)) == REFUSED
