"""Workers that can do no piece of a run are found before it begins, or left out; the workers are threads here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from batch_tools import SumJob, attempts
from cli_tools import save_random_model
from napari_sam2._errors import CheckpointError, FrameError, NapariSAM2Error, OutputError
from napari_sam2.batch.journal import JOURNAL_NAME
from napari_sam2.batch.report import BatchProgress, BatchReport
from napari_sam2.batch.running import run_batch

distributed = pytest.importorskip("distributed")

from napari_sam2.batch import workers  # noqa: E402

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def cluster() -> Iterator[distributed.LocalCluster]:
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=1, protocol="tcp", host="127.0.0.1", **options) as started:
        yield started


class Run:
    """A batch over a few images."""

    def __init__(self, folder: Path, weights: Path, cluster: distributed.LocalCluster) -> None:
        self.log, self.output, self.cluster = folder / "log", folder / "out", cluster
        self._inputs, self._weights = folder / "in", weights
        for made in (self.log, self._inputs):
            made.mkdir()

    def __call__(self, *stems: str, **options: object) -> BatchReport:
        for stem in stems:
            tifffile.imwrite(self._inputs / f"{stem}.tif", np.ones((4, 4), np.uint8))
        job = SumJob(str(self.log), seconds=0.1)
        chosen = {"model": self._weights, "device": "cpu", "scheduler": self.cluster.scheduler_address, **options}
        return run_batch(job, self._inputs, self.output, **chosen)


@pytest.fixture
def run(tmp_path: Path, weights: Path, cluster: distributed.LocalCluster) -> Run:
    return Run(tmp_path, weights, cluster)


def refuse(error: NapariSAM2Error) -> object:
    """A function that raises an error."""

    def raising(*_: object) -> None:
        raise error

    return raising


def test_a_worker_that_does_not_see_the_folder_of_the_results_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_APPEARS_WITHIN_S", 0.0)
    model = workers.WorkerModel("sam2_micro", "")
    plugin = workers.ModelPlugin("run", model, tmp_path / "elsewhere" / "1.run", is_local=False)
    with pytest.raises(OutputError, match=r"the worker tcp://node7:1 does not see the folder of this run, .*elsewhere"):
        asyncio.run(plugin.setup(SimpleNamespace(address="tcp://node7:1")))


def test_a_folder_that_the_workers_do_not_see_ends_the_run_before_any_file(run, monkeypatch):
    async def sees_nothing(_plugin: object) -> bool:
        return False

    monkeypatch.setattr(workers.ModelPlugin, "_sees_folder", sees_nothing)
    with pytest.raises(OutputError, match="does not see the folder of this run"):
        run("a", "b")
    assert not attempts(run.log)
    assert not list(run.output.glob(".batch.*.run"))


def test_a_model_that_no_worker_can_load_ends_the_run_and_no_file_has_failed(run, monkeypatch):
    monkeypatch.setattr(workers.ModelPlugin, "_load", refuse(CheckpointError("node7 holds other weights")))
    with pytest.raises(CheckpointError, match="node7 holds other weights"):
        run("a", "b", "c")
    assert len((run.output / JOURNAL_NAME).read_text().splitlines()) == 1  # the header
    assert not attempts(run.log)


def test_inputs_that_only_the_workers_do_not_see_end_the_run(run, monkeypatch):
    monkeypatch.setattr("napari_sam2.batch.pieces._is_there", lambda _: False)
    with pytest.raises(FrameError, match=r"the worker tcp://.* does not see .*odd2?.tif; the inputs must lie on"):
        run("odd", "odd2")


def test_a_file_that_is_gone_everywhere_fails_alone(run, monkeypatch):
    def remove(progress: BatchProgress) -> None:
        if progress.workers:
            (run.log.parent / "in" / "odd.tif").unlink(missing_ok=True)

    report = run("a", "odd", "z", on_progress=remove)
    assert (report.num_done, report.num_failed) == (2, 1)


def test_a_worker_that_joins_later_with_another_version_is_left_out(run, monkeypatch):
    notices = set()

    def add_worker(progress: BatchProgress) -> None:
        notices.add(progress.notice)
        if progress.done == 1 and len(run.cluster.workers) == 1:
            monkeypatch.setattr(workers, "version", lambda _: "0.0.1")
            run.cluster.scale(2)
            run.cluster.sync(run.cluster._correct_state)

    stems = [f"f{number}" for number in range(30)]
    report = run(*stems, on_progress=add_worker)
    assert report.is_complete, report.failed
    assert attempts(run.log) == {f"{stem}.tif": 1 for stem in stems}
    told = [notice for notice in notices if notice]
    assert len(told) == 1, told
    assert "has napari-sam2 0.0.1, this computer has" in told[0]
    assert "going on without the worker" in told[0]
    assert len(run.cluster.workers) == 2
