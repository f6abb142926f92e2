"""Volumes over time and stacks in parts on workers: the labels of one process, also when resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile

from cli_tools import save_random_model
from napari_sam2 import FrameError, OutputError
from napari_sam2.batch.clusters import LOCAL_CONFIG
from napari_sam2.batch.jobs import AutoJob
from napari_sam2.batch.options import FindOptions, KeepOptions, ReadOptions
from napari_sam2.batch.plane_files import PlaneFile, write_planes
from napari_sam2.batch.report import BatchReport
from napari_sam2.batch.stack_parts import segment_stack_parts
from napari_sam2.frames import open_frames
from napari_sam2.inference.stacks.key_frame_search import segment_stack
from napari_sam2.inference.stacks.unreadable import read_or_skip
from napari_sam2.inference.stacks.volumes import segment_timelapse_volumes
from napari_sam2.labels.reading import read_label_file
from oracle import OracleFinder, OracleTracker, moving_squares, paint

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(600)

JOB = AutoJob(FindOptions(), KeepOptions(), ReadOptions(contrast="dtype"), split_stacked=False)


class SeeingTracker(OracleTracker):
    """Knows the truth of whatever stack it is given, as the images show it."""

    def __init__(self, *_: object) -> None:
        super().__init__(np.zeros((1, 1, 1), np.int32))

    def set_video(self, frames) -> None:
        read = [read_or_skip(frames, at) for at in range(len(frames))]
        self.truth = np.array([np.zeros(frames.shape[1:]) if rgb is None else rgb[..., 0] for rgb in read], np.int32)


@pytest.fixture(scope="module", autouse=True)
def oracles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FindOptions, "generator", lambda *_: OracleFinder())
        patch.setattr("napari_sam2.inference.tracking.video_segmenter.SAM2VideoSegmenter", SeeingTracker)
        yield


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


def volumes(num_times: int = 4) -> np.ndarray:
    """(T, Z, Y, X) labels: 1 drifts, 2 leaves after time 1, 3 comes at time 2."""
    labels = np.zeros((num_times, 6, 30, 40), np.int32)
    for t in range(num_times):
        labels[t, 1:5, 3:13, 2 + 2 * t : 12 + 2 * t] = 1
        labels[t, 0:4, 18:27, (2 if t <= 1 else 22) : (10 if t <= 1 else 30)] = 2 if t <= 1 else 3
    return labels


def write_image(path: Path, labels: np.ndarray, axes: str) -> Path:
    tifffile.imwrite(path, paint(labels), ome=True, metadata={"axes": axes}, photometric="minisblack")
    return path


class Run:
    """How stacks are segmented in parts on the two workers."""

    def __init__(self, weights: Path, scheduler: str) -> None:
        self._options = {"model": weights, "device": "cpu", "scheduler": scheduler}

    def __call__(self, image: Path, output: Path, *, job: AutoJob = JOB, **options: object) -> BatchReport:
        return segment_stack_parts(job, image, output, **self._options, **options)


@pytest.fixture
def run(weights: Path, scheduler: str) -> Run:
    return Run(weights, scheduler)


@pytest.mark.parametrize(
    ("name", "every"),
    [("labels.ome.tif", 3), pytest.param("labels.ome.zarr", None, marks=pytest.mark.slow)],
)
def test_time_points_are_linked_as_in_one_process(name: str, every: int | None, run: Run, tmp_path: Path):
    image = write_image(tmp_path / "embryo.ome.tif", volumes(), "TZYX")
    report = run(image, tmp_path / name, job=dataclasses.replace(JOB, every=every))
    assert report.is_complete
    assert report.num_done == 4 + (every is None) + 1  # and the linked volumes
    assert report.records[-1].outcome.objects == 3
    expected = segment_timelapse_volumes(
        image, finder=OracleFinder(), segmenter=SeeingTracker(), every=every, contrast="dtype", split_stacked=False
    )
    assert len(expected.report.tracks) == 3
    assert np.array_equal(read_label_file(tmp_path / name).labels, expected.labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embryo.ome.tif", name]


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(JOB, id="measured", marks=pytest.mark.slow),
        pytest.param(dataclasses.replace(JOB, key_frames=(2, 8, 9)), id="given"),
    ],
)
def test_key_frames_are_joined_as_in_one_process(job: AutoJob, run: Run, tmp_path: Path):
    image = write_image(tmp_path / "stack.ome.tif", moving_squares(30), "ZYX")
    report = run(image, tmp_path / "labels.tif", job=job)
    assert report.is_complete
    expected = segment_stack(
        open_frames(image, contrast="dtype"),
        finder=OracleFinder(),
        segmenter=SeeingTracker(),
        key_frames=job.key_frames,
        split_stacked=False,
    )
    assert len(expected.report.tracks) >= 3
    assert np.array_equal(read_label_file(tmp_path / "labels.tif").labels, expected.labels)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".parts")] == []


def write_damaged(path: Path, labels: np.ndarray, *damaged: int) -> Path:
    """A stack of which some planes cannot be decompressed."""
    tifffile.imwrite(
        path, paint(labels), ome=True, metadata={"axes": "ZYX"}, photometric="minisblack", compression="zlib"
    )
    with tifffile.TiffFile(path) as file:
        places = [(file.pages[at].dataoffsets[0], file.pages[at].databytecounts[0]) for at in damaged]
    with path.open("r+b") as content:
        for offset, count in places:
            content.seek(offset)
            content.write(bytes(count))
    return path


def test_a_key_frame_that_cannot_be_read_is_skipped(run: Run, tmp_path: Path):
    truth = moving_squares()
    image = write_damaged(tmp_path / "stack.ome.tif", truth, 5)
    report = run(image, tmp_path / "labels.tif", job=dataclasses.replace(JOB, key_frames=(2, 5, 9)))
    assert report.is_complete
    labels = read_label_file(tmp_path / "labels.tif").labels
    readable = [frame for frame in range(len(truth)) if frame != 5]
    assert np.array_equal(labels[readable] > 0, truth[readable] > 0)


def test_a_stack_of_which_no_key_frame_can_be_read_has_no_labels(run: Run, tmp_path: Path):
    image = write_damaged(tmp_path / "stack.ome.tif", moving_squares(), 2, 5)
    report = run(image, tmp_path / "labels.tif", job=dataclasses.replace(JOB, key_frames=(2, 5)), retries=0)
    assert not report.is_complete
    assert "cannot be read" in report.records[-1].reason
    assert not (tmp_path / "labels.tif").exists()


@pytest.mark.slow
def test_an_interrupted_call_goes_on_with_the_missing_parts(run: Run, tmp_path: Path):
    image = write_image(tmp_path / "embryo.ome.tif", volumes(6), "TZYX")
    done: list[int] = []
    stopped = run(
        image,
        tmp_path / "labels.tif",
        on_progress=lambda progress: done.append(progress.done),
        should_stop=lambda: bool(done) and done[-1] >= 3,
    )
    assert 3 <= stopped.num_done < 7
    assert not (tmp_path / "labels.tif").exists()
    again = run(image, tmp_path / "labels.tif")
    assert again.is_complete
    assert again.num_before == stopped.num_done
    expected = segment_timelapse_volumes(
        image, finder=OracleFinder(), segmenter=SeeingTracker(), contrast="dtype", split_stacked=False
    )
    assert np.array_equal(read_label_file(tmp_path / "labels.tif").labels, expected.labels)


def test_other_settings_single_images_and_outputs_that_exist_are_refused(run: Run, tmp_path: Path):
    image = write_image(tmp_path / "stack.ome.tif", moving_squares(), "ZYX")
    done = [0]
    run(
        image,
        tmp_path / "a.tif",
        on_progress=lambda progress: done.append(progress.done),
        should_stop=lambda: done[-1] >= 1,
    )
    with pytest.raises(OutputError, match=r"min_score: 0\.0 before, 0\.5 now"):
        run(image, tmp_path / "a.tif", job=dataclasses.replace(JOB, min_score=0.5))
    with pytest.raises(OutputError, match="already exists"):
        run(image, image)
    with pytest.raises(OutputError, match="allowed suffixes are"):
        run(image, tmp_path / "labels.bmp")
    with pytest.raises(FrameError, match="use 'batch tiles'"):
        run(write_image(tmp_path / "image.ome.tif", moving_squares()[0], "YX"), tmp_path / "b.tif")


def test_planes_are_read_one_by_one_and_damage_is_named(tmp_path: Path):
    path, labels = tmp_path / "part.zip", moving_squares(8)
    write_planes(path, labels, range(2, 7), "a note")
    with PlaneFile(path, (40, 40)) as part:
        assert part.note == "a note"
        assert not part.is_empty
        for frame, expected in enumerate(labels):
            assert np.array_equal(part[frame], expected if 2 <= frame < 7 else np.zeros_like(expected))
    with pytest.raises(OutputError, match="not \\(41, 40\\)"), PlaneFile(path, (41, 40)) as part:
        part[3]
    write_planes(path, None, range(3))
    with PlaneFile(path, (40, 40)) as part:
        assert part.is_empty
    path.write_bytes(b"PK no zip")
    with pytest.raises(OutputError, match="remove it and call it again with the same arguments"):
        PlaneFile(path, (40, 40))
