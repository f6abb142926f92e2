"""Batches whose workers, or whose own process, are killed at random: the output is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

import batch_client
from cli_tools import save_random_model
from napari_sam2 import OutputError
from napari_sam2.batch.journal import JOURNAL_NAME
from napari_sam2.batch.plane_files import PlaneFile
from napari_sam2.labels.reading import read_label_file

pytest.importorskip("distributed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_KILLS = 20
PICTURE_SIDE = 352  # pixels: 49 tiles of 64 that overlap by 16
NUM_FRAMES = 90  # 30 key frames
INTERRUPTED = 130


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Discs on the seams of tiles; squares that move."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:PICTURE_SIDE, :PICTURE_SIDE]
    picture = rng.integers(0, 40, (PICTURE_SIDE, PICTURE_SIDE)).astype(np.uint8)
    for cy, cx in rng.integers(10, PICTURE_SIDE - 10, (60, 2)):
        picture[(y - cy) ** 2 + (x - cx) ** 2 < 64] = 180
    tifffile.imwrite(folder / "tiles.tif", picture)
    stack = np.zeros((NUM_FRAMES, 64, 64), np.uint8)
    for t in range(NUM_FRAMES):
        stack[t, 8:20, 2 + t // 3 : 14 + t // 3] = 200
        stack[t, 40:52, 45 - t // 3 : 57 - t // 3] = 120
    tifffile.imwrite(folder / "stack.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    return {kind: folder / f"{kind}.tif" for kind in ("tiles", "stack")}


class Batch:
    """``napari-sam2 batch`` on two workers, in processes of its own."""

    def __init__(self, kind: str, image: Path, output: Path, weights: Path) -> None:
        self.output = output
        self.parts = output.with_name(f"{output.name}.{'tiles' if kind == 'tiles' else 'parts'}")
        self._arguments = [kind, str(image), str(output), str(weights)]
        self._finished: dict[str, tuple[int, int]] = {}  # pieces in the journal: number and time of their files

    @contextmanager
    def run(self, seconds: float) -> Iterator[subprocess.Popen[str]]:
        """The process, with pieces of some seconds."""
        command = [sys.executable, batch_client.__file__, *self._arguments, str(seconds), "--workers", "2"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def check(self) -> int:
        """Fail if a finished file is not whole, or was written again; the number of pieces in the journal."""
        done = self.journaled()
        assert len(done) == len(set(done)), "a piece was entered twice"
        for path in self.parts.glob("*.np?"):
            with suppress(FileNotFoundError), np.load(path) as file:  # removed at the end
                assert file["labels"].dtype == np.int32
        for path in self.parts.glob("*.zip"):
            with _unless_removed(path), PlaneFile(path, (64, 64)) as file:
                for frame in range(NUM_FRAMES):
                    assert file[frame].shape == (64, 64)
        for name in done:
            with suppress(FileNotFoundError):
                found = (self.parts / name).stat()
                now = found.st_ino, found.st_mtime_ns
                assert self._finished.setdefault(name, now) == now, f"{name} was computed again"
        return len(done)

    def journaled(self) -> list[str]:
        """Pieces that the journal says are done."""
        try:
            lines = (self.parts / JOURNAL_NAME).read_text().splitlines(keepends=True)[1:]
        except FileNotFoundError:
            return []
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        assert all(record["state"] == "done" for record in records), records
        return [record["piece"] for record in records]

    def labels(self) -> np.ndarray:
        """The result."""
        return read_label_file(self.output).labels


@contextmanager
def _unless_removed(path: Path) -> Iterator[None]:
    """Parts are removed when the labels are written, also while one is being read here."""
    try:
        yield
    except OutputError:
        if path.exists():
            raise


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its worker processes."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return []


@pytest.fixture(scope="module")
def expected(images: dict[str, Path], weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Labels of runs that nobody disturbs."""
    found = {}
    for kind, image in images.items():
        batch = Batch(kind, image, tmp_path_factory.mktemp("undisturbed") / "labels.tif", weights)
        with batch.run(0.0) as process:
            text = process.communicate()[0]
            assert process.returncode == 0, text
        found[kind] = batch.labels()
        assert found[kind].max() >= 2
    return found


@pytest.mark.parametrize("kind", ["tiles", "stack"])
def test_twenty_kills_of_workers_change_nothing(
    kind: str, images: dict[str, Path], weights: Path, expected: dict[str, np.ndarray], tmp_path: Path
):
    batch = Batch(kind, images[kind], tmp_path / "labels.tif", weights)
    rng = np.random.default_rng(6)
    kills, in_writing, next_at = 0, 0, time.monotonic()
    with batch.run(3.0) as process:
        while process.poll() is None:
            workers = workers_of(process)
            is_writing = bool(list(batch.parts.glob(".*.partial")))
            is_due = time.monotonic() > next_at or (is_writing and rng.random() < 0.2)
            has_begun = batch.journaled()  # workers that are killed before they are up are no workers
            if kills < NUM_KILLS and has_begun and workers and is_due:
                with suppress(psutil.NoSuchProcess):
                    workers[rng.integers(len(workers))].kill()
                    kills += 1
                    in_writing += is_writing
                next_at = time.monotonic() + float(rng.uniform(0.5, 8))
            batch.check()
            time.sleep(0.01)
        text = process.communicate()[0]
        assert process.returncode == 0, text
    assert kills == NUM_KILLS, f"only {kills} kills, {in_writing} of them while a file was written\n{text}"
    assert np.array_equal(batch.labels(), expected[kind])
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


@pytest.mark.parametrize("kind", ["tiles", "stack"])
def test_a_command_that_is_killed_and_run_again_goes_on(
    kind: str, images: dict[str, Path], weights: Path, expected: dict[str, np.ndarray], tmp_path: Path
):
    batch = Batch(kind, images[kind], tmp_path / "labels.tif", weights)
    rng = np.random.default_rng(7)
    ends: list[int] = []
    done = 0
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None):
        with batch.run(1.0) as process:
            workers: list[psutil.Process] = []
            begin = batch.check()
            due = None
            while process.poll() is None:
                workers = workers_of(process) or workers
                if due is None and batch.check() > begin + 1:
                    due = time.monotonic() + float(rng.uniform(0, 3))
                if number is not None and due is not None and time.monotonic() > due:
                    process.send_signal(number)
                    due = float("inf")
                time.sleep(0.01)
            text = process.communicate()[0]
            ends.append(process.returncode)
        psutil.wait_procs(workers, timeout=30)
        assert not [worker for worker in workers if worker.is_running()], "workers outlive their batch"
        if process.returncode:
            assert batch.check() >= max(done, begin + 1), text
            assert not batch.output.exists()
            done = batch.check()
    assert ends == [INTERRUPTED, -signal.SIGKILL, INTERRUPTED, -signal.SIGKILL, 0]
    assert np.array_equal(batch.labels(), expected[kind])
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]
