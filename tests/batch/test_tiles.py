"""One large image in tiles on workers: the labels of one process, whatever cuts through objects, also when resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
import zarr

from batch_tools import BrightParts, FindBrightParts
from cli_tools import save_random_model
from napari_sam2 import FrameError, OutputError, segment_tiled
from napari_sam2.batch.clusters import LOCAL_CONFIG
from napari_sam2.batch.jobs import AutoJob
from napari_sam2.batch.options import FindOptions, KeepOptions, ReadOptions
from napari_sam2.batch.report import BatchProgress
from napari_sam2.batch.tiles import segment_tiles
from napari_sam2.labels.reading import read_label_file

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(600)

READING = ReadOptions(contrast="dtype")
JOB = AutoJob(FindOptions(), KeepOptions(min_area="30"), READING, tile=64, overlap=20)


@pytest.fixture(scope="module", autouse=True)
def finder() -> Iterator[BrightParts]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FindOptions, "generator", lambda *_: BrightParts())
        yield BrightParts()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of two workers, which are threads of this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(LOCAL_CONFIG),
        distributed.LocalCluster(protocol="tcp", host="127.0.0.1", **options) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs on seams and in corners of tiles, and a bar through all tiles of a row."""
    y, x = np.mgrid[:130, :150]
    values = np.random.default_rng(0).integers(0, 40, (130, 150)).astype(np.uint8)
    for cy, cx in ((20, 20), (54, 54), (54, 98), (98, 54), (110, 130), (20, 75)):
        values[(y - cy) ** 2 + (x - cx) ** 2 < 144] += 150
    values[76:84, 5:145] += 100
    path = tmp_path_factory.mktemp("picture") / "picture.tif"
    tifffile.imwrite(path, values)
    return path


@pytest.fixture(scope="module")
def expected(picture: Path, finder: BrightParts) -> np.ndarray:
    return segment_tiled(picture, finder=finder, tile=64, overlap=20, min_area_px=30, contrast="dtype")


def run(picture: Path, output: Path, weights: Path, scheduler: str, *, job: AutoJob = JOB, **options: object):
    return segment_tiles(job, picture, output, model=weights, device="cpu", scheduler=scheduler, **options)


@pytest.mark.parametrize("name", ["labels.zarr", "labels.tif"])
def test_labels_are_those_of_one_process(name, picture, weights, scheduler, expected, tmp_path):
    assert expected.max() == 7  # six discs and the bar, some in four tiles
    report = run(picture, tmp_path / name, weights, scheduler)
    assert report.is_complete
    assert report.num_done == 9 + 1  # and the stitched image
    assert report.records[-1].outcome.objects == 7
    found = read_label_file(tmp_path / name).labels
    assert np.array_equal(found.reshape(expected.shape), expected)
    assert sorted(set(np.unique(found))) == list(range(int(expected.max()) + 1))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="already exists"):
        run(picture, tmp_path / name, weights, scheduler)


def test_an_interrupted_call_goes_on_with_the_missing_tiles(picture, weights, scheduler, expected, tmp_path):
    done: list[int] = []

    def should_stop() -> bool:
        return bool(done) and done[-1] >= 3

    stopped = run(
        picture,
        tmp_path / "labels.zarr",
        weights,
        scheduler,
        on_progress=lambda progress: done.append(progress.done),
        should_stop=should_stop,
    )
    assert 3 <= stopped.num_done < 9
    assert not (tmp_path / "labels.zarr").exists()
    again = run(picture, tmp_path / "labels.zarr", weights, scheduler)
    assert again.num_before == stopped.num_done
    assert np.array_equal(read_label_file(tmp_path / "labels.zarr").labels.reshape(expected.shape), expected)


def test_tiles_of_an_image_that_changed_meanwhile_are_not_stitched(picture, weights, scheduler, expected, tmp_path):
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.flipud(tifffile.imread(picture)))

    def change(progress: BatchProgress) -> None:
        if progress.done >= 3 and not np.array_equal(tifffile.imread(image), tifffile.imread(picture)):
            shutil.copy(picture, tmp_path / "new.tif")
            (tmp_path / "new.tif").replace(image)

    with pytest.raises(FrameError, match=r"image.tif changed while it was being segmented.* call it again"):
        run(image, tmp_path / "labels.tif", weights, scheduler, on_progress=change)
    assert not (tmp_path / "labels.tif").exists()
    again = run(image, tmp_path / "labels.tif", weights, scheduler)
    assert again.num_before == 0
    assert np.array_equal(read_label_file(tmp_path / "labels.tif").labels.reshape(expected.shape), expected)


def test_other_settings_and_stacks_are_refused(picture, weights, scheduler, tmp_path):
    done = [0]
    run(
        picture,
        tmp_path / "a.zarr",
        weights,
        scheduler,
        on_progress=lambda progress: done.append(progress.done),
        should_stop=lambda: done[-1] >= 1,
    )
    with pytest.raises(OutputError, match="overlap: 20 before, 16 now"):
        run(picture, tmp_path / "a.zarr", weights, scheduler, job=replace(JOB, overlap=16))
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(
        stack,
        np.zeros((3, 64, 64), np.uint8) + np.arange(64, dtype=np.uint8),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    with pytest.raises(FrameError, match="has 3 frames"):
        run(stack, tmp_path / "b.zarr", weights, scheduler)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labels.bmp", "allowed suffixes are"),
        ("image.zarr/other.zarr", "is inside the input"),
        ("other.zarr/labels/cells", "do not fit"),
    ],
)
def test_labels_that_could_not_be_written_are_refused_before_tiles_are_computed(name, message, weights, tmp_path):
    for folder, side in (("image.zarr", 64), ("other.zarr", 32)):
        image = zarr.open_group(tmp_path / folder, mode="w")
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        scale = [{"type": "scale", "scale": [1.0, 1.0]}]
        dataset = {"path": "0", "coordinateTransformations": scale}
        image.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
        image.create_array("0", data=np.tile(np.arange(side, dtype=np.uint8), (side, 1)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message):
        run(tmp_path / "image.zarr", tmp_path / name, weights, "tcp://127.0.0.1:9")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_large_zarr_on_two_processes_gives_the_labels_of_one(weights, tmp_path):
    side, tile, overlap = 6000, 768, 128
    rng = np.random.default_rng(3)
    values = rng.integers(0, 40, (side, side), np.uint8)
    disc = np.hypot(*np.mgrid[-30:31, -30:31]) < 30
    seams = np.arange(tile - overlap // 2, side, tile - overlap)
    places = np.concatenate(
        [
            rng.integers(40, side - 40, (300, 2)),
            np.stack([rng.choice(seams, 100), rng.integers(40, side - 40, 100)], 1),  # cut by a seam
            np.stack([rng.choice(seams, 40), rng.choice(seams, 40)], 1),  # in a corner of four tiles
        ]
    )
    for y, x in places:
        values[y - 30 : y + 31, x - 30 : x + 31][disc] = 180
    values[2990:3010, 20 : side - 20] = 180  # through a row of tiles
    values[20 : side - 20, 1500:1512] = 180  # through a column
    image = zarr.open_array(tmp_path / "image.zarr", mode="w", shape=values.shape, chunks=(1024, 1024), dtype="u1")
    image[:] = values
    reading = ReadOptions(contrast="dtype")
    job = AutoJob(FindBrightParts(), KeepOptions(min_area="30"), reading, tile=tile, overlap=overlap)

    report = segment_tiles(
        job, tmp_path / "image.zarr", tmp_path / "labels.zarr", model=weights, device="cpu", workers=2
    )
    assert report.is_complete, report.failed
    workers = {record.outcome.worker for record in report.records}
    assert len(workers) == 2
    found = read_label_file(tmp_path / "labels.zarr").labels.reshape(values.shape)
    expected = segment_tiled(
        tmp_path / "image.zarr", finder=BrightParts(), tile=tile, overlap=overlap, min_area_px=30, contrast="dtype"
    )
    num_objects = int(expected.max())
    assert num_objects > 100
    assert np.array_equal(found > 0, expected > 0)
    assert np.array_equal(np.unique(found), np.arange(num_objects + 1))  # unique, without gaps
    pairs = np.unique(np.stack([found[expected > 0], expected[expected > 0]]), axis=1)
    assert pairs.shape[1] == num_objects  # equal up to renumbering
    cut = np.unique(expected[seams]).size
    assert cut > 50
