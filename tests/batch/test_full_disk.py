"""Batches and tracking on a disk that is really full: what was finished stays, and the same command resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from batch_client import run as run_tiles
from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2.batch.journal import JOURNAL_NAME
from napari_sam2.labels.reading import read_label_file, read_labels

pytest.importorskip("distributed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class SmallDisk:
    """A file system of 4 MiB in memory, of which a file takes what is not left free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def leave(self, kib: int) -> None:
        """Fill all but so many KiB."""
        self._filler.unlink(missing_ok=True)
        found = os.statvfs(self.folder)
        self._filler.write_bytes(bytes(found.f_bavail * found.f_frsize - 1024 * kib))

    def free(self) -> None:
        """Make space."""
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux":
        pytest.skip("a file system in memory can be mounted on Linux only")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


def test_a_folder_of_images(disk: SmallDisk, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        tifffile.imwrite(tmp_path / "in" / f"i{number:02}.tif", rng.integers(0, 255, (96, 96), np.uint8))
    output = disk.folder / "out"
    command = ("batch", "generate", tmp_path / "in", "-o", output, "--model", weights, "--device", "cpu", "-q")
    command += ("--workers", 1, "--spacing", 24, "--iou", 0, "--stability", 0)
    disk.leave(24)
    assert run(*command) == 6
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "No space left on device" in told
    assert "run the same command again" in told
    finished = {path: path.read_bytes() for path in output.glob("*.tif")}
    assert 0 < len(finished) < 12
    assert all(read_labels(path).shape[-2:] == (96, 96) for path in finished)
    assert (output / JOURNAL_NAME).read_text().count('"done"') <= len(finished)

    disk.free()
    assert run(*command) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "12"
    assert len(list(output.glob("*.tif"))) == 12
    assert all(path.read_bytes() == content for path, content in finished.items())
    assert not [path for path in output.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("kib", [8, 20, 44])  # full at the first tiles, at later ones, at the stitched labels
def test_tiles(disk: SmallDisk, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kib: int):
    image = zarr.open_array(tmp_path / "image.zarr", mode="w", shape=(160, 160), chunks=(64, 64), dtype="u1")
    image[:] = np.random.default_rng(0).integers(0, 100, (160, 160))
    image[30:70, 30:120] = 200

    def tiles(output: Path) -> int:
        with pytest.raises(SystemExit) as ended:
            run_tiles(["tiles", str(tmp_path / "image.zarr"), str(output), str(weights), "0", "--workers", "1", "-q"])
        return int(ended.value.code or 0)

    assert tiles(tmp_path / "expected.zarr") == 0
    capsys.readouterr()
    output = disk.folder / "labels.zarr"
    disk.leave(kib)
    assert tiles(output) == 6
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "No space left on device" in told
    assert not output.exists()

    disk.free()
    assert tiles(output) == 0
    expected = read_label_file(tmp_path / "expected.zarr").labels
    assert expected.max() > 0
    np.testing.assert_array_equal(read_label_file(output).labels, expected)
    assert [path.name for path in disk.folder.iterdir()] == ["labels.zarr"]


@pytest.mark.parametrize("name", ["labels.tif", "labels.ome.tif", "labels.zarr"])
def test_labels_of_track(disk: SmallDisk, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str):
    stack = save_stack(tmp_path / "stack.ome.tif", make_disks(num_frames=200)[0])
    command = ("track", stack, "--box", "0,4,4,40,40", "--model", weights, "--device", "cpu", "-q")
    assert run(*command, "-o", tmp_path / name) == 0
    capsys.readouterr()
    output = disk.folder / name
    disk.leave(4)
    assert run(*command, "-o", output) == 6
    told = capsys.readouterr().err.strip()
    assert told.count("\n") == 0
    assert "No space left on device" in told
    assert [path.name for path in disk.folder.iterdir()] == ["filler"]

    disk.free()
    assert run(*command, "-o", output) == 0
    np.testing.assert_array_equal(read_labels(output), read_labels(tmp_path / name))
