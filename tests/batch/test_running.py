"""Batches on real worker processes: what is missing is done, whatever happens to files and workers."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile

from batch_tools import SumJob, attempts
from cli_tools import save_random_model
from napari_sam2 import CheckpointError, DeviceError, FrameError, NapariSAM2Error, OutputError
from napari_sam2.batch.clusters import LOCAL_CONFIG
from napari_sam2.batch.dispatch import DispatchSettings, Workers
from napari_sam2.batch.jobs import AutoJob, GenerateJob
from napari_sam2.batch.journal import JOURNAL_NAME, REPORT_NAME
from napari_sam2.batch.options import FindOptions, KeepOptions, ReadOptions
from napari_sam2.batch.pieces import DONE, PieceRecord
from napari_sam2.batch.report import BatchProgress, BatchReport
from napari_sam2.batch.running import run_batch

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.timeout(300)  # processes start slowly on a busy machine


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of two worker processes."""
    with (
        dask.config.set(LOCAL_CONFIG),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster.scheduler_address


class Setup:
    """A folder of images, and how batches over it are run."""

    def __init__(self, root: Path, weights: Path, scheduler: str) -> None:
        self.inputs, self.output, self.log = root / "in", root / "out", root / "log"
        self.inputs.mkdir()
        self.log.mkdir()
        self.job = SumJob(str(self.log))
        self._weights, self._scheduler = weights, scheduler

    def add(self, *stems: str) -> None:
        for number, stem in enumerate(stems, start=1):
            tifffile.imwrite(self.inputs / f"{stem}.tif", np.full((4, 4), number, np.uint8))

    def run(self, **options: object) -> BatchReport:
        chosen = {"model": self._weights, "device": "cpu", "scheduler": self._scheduler, **options}
        job = chosen.pop("job", self.job)
        return run_batch(job, self.inputs, self.output, **chosen)

    def results(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.output.glob("*.tif"))}


@pytest.fixture
def setup(tmp_path: Path, weights: Path, scheduler: str) -> Setup:
    return Setup(tmp_path, weights, scheduler)


def test_same_call_does_only_what_is_missing_or_changed(setup: Setup):
    setup.add("a", "b", "c")
    seen: list[BatchProgress] = []
    report = setup.run(on_progress=seen.append)
    assert report.is_complete
    assert (report.num_done, report.num_before) == (3, 0)
    assert setup.results() == {f"{name}.tif": str(48 * value) for name, value in (("a", 1), ("b", 2), ("c", 3))}
    assert (seen[0].done, seen[-1].done, seen[-1].total, seen[-1].workers) == (0, 3, 3, 2)

    tifffile.imwrite(setup.inputs / "b.tif", np.full((4, 4), 9, np.uint8))
    (setup.output / "c.tif").unlink()
    setup.add("d")
    again = setup.run()
    assert (again.num_done, again.num_before) == (4, 1)
    assert setup.results()["b.tif"] == str(48 * 9)
    assert attempts(setup.log) == {"a.tif": 1, "b.tif": 2, "c.tif": 2, "d.tif": 1}

    assert setup.run(scheduler="tcp://127.0.0.1:9").num_before == 4  # nothing to do needs no workers


def test_each_position_of_a_file_has_a_result_and_is_resumed_by_itself(setup: Setup):
    image = np.stack([np.full((4, 4), value, np.uint8) for value in (1, 2, 3)])
    options = {"metadata": {"axes": "YX"}, "photometric": "minisblack"}
    with tifffile.TiffWriter(setup.inputs / "a.ome.tif", ome=True) as tif:
        for plane in image:
            tif.write(plane, **options)
    setup.add("fails", "odd")
    plans: list[list[str]] = []
    report = setup.run(on_plan=lambda pieces: plans.append([piece.name for piece in pieces]), retries=0)
    assert plans == [["a_pos0.tif", "a_pos1.tif", "a_pos2.tif", "fails.tif", "odd.tif"]]
    assert (report.num_done, report.num_failed) == (3, 2)
    assert setup.results() == {f"a_pos{n}.tif": str(48 * (n + 1)) for n in range(3)}
    with (setup.output / REPORT_NAME).open(newline="") as file:
        rows = [(Path(row["file"]).name, row["result"]) for row in csv.DictReader(file)]
    assert rows[1] == ("a.ome.tif", "a_pos1.tif")
    (setup.output / "a_pos1.tif").unlink()
    assert setup.run().num_before == 2
    assert setup.results()["a_pos1.tif"] == str(48 * 2)
    assert attempts(setup.log)["a.ome.tif"] == 4


def test_results_of_inputs_that_are_gone_are_kept_and_named(setup: Setup):
    setup.add("a", "b", "c")
    assert setup.run().others == ()
    (setup.inputs / "a.tif").unlink()
    (setup.inputs / "b.tif").rename(setup.inputs / "d.tif")
    for options in ({}, {}, {"restart": True}):
        report = setup.run(**options)
        assert (report.is_complete, report.others) == (True, ("a.tif", "b.tif"))
        assert sorted(setup.results()) == ["a.tif", "b.tif", "c.tif", "d.tif"]
    with (setup.output / REPORT_NAME).open(newline="", encoding="utf-8") as file:
        rows = [(row["file"], row["result"], row["state"]) for row in csv.DictReader(file)]
    assert rows[2:] == [("", "a.tif", "not in this run"), ("", "b.tif", "not in this run")]
    (setup.output / "a.tif").unlink()
    assert setup.run().others == ("b.tif",)


def test_results_that_are_removed_in_the_middle_are_not_reported_as_done(setup: Setup):
    setup.add("a", "b", "c")
    job = replace(setup.job, seconds=0.5)

    def remove_first(record: PieceRecord) -> None:
        if record.state == DONE and record.name == "a.tif":
            (setup.output / "a.tif").unlink()

    report = setup.run(job=job, on_piece=remove_first)
    assert list(report.failed) == [setup.inputs / "a.tif"]
    assert "a.tif was removed while the batch ran" in report.failed[setup.inputs / "a.tif"]
    assert setup.run(job=job).is_complete
    assert attempts(setup.log) == {"a.tif": 2, "b.tif": 1, "c.tif": 1}


def test_a_folder_that_is_removed_in_the_middle_ends_the_batch_and_is_not_made_again(setup: Setup):
    setup.add(*"abcdef")
    job = replace(setup.job, seconds=0.5)

    def remove(record: PieceRecord) -> None:
        if record.state == DONE:
            aside = setup.output.with_name("aside")
            setup.output.rename(aside)  # at once: a worker may add a file to a folder that is being emptied
            shutil.rmtree(aside, ignore_errors=True)

    with pytest.raises(OutputError, match="was removed, renamed or replaced while the batch ran"):
        setup.run(job=job, on_piece=remove)
    time.sleep(1.5)  # pieces on their way
    assert not setup.output.exists()


def test_the_old_result_of_an_input_that_fails_now_is_named(setup: Setup):
    setup.add("a", "b")
    setup.run()
    (setup.inputs / "a.tif").write_text("no image")
    report = setup.run(retries=0)
    assert "a.tif is the result of an earlier run" in report.failed[setup.inputs / "a.tif"]
    assert setup.run(should_stop=lambda: True).records[0].reason.endswith("of the input as it was then")


def test_other_settings_are_refused_and_restart_begins_anew(setup: Setup):
    setup.add("a")
    setup.run()
    other = replace(setup.job, factor=2)
    with pytest.raises(OutputError, match="factor: 1 before, 2 now"):
        setup.run(job=other)
    assert setup.results() == {"a.tif": "48"}
    assert setup.run(job=other, restart=True).num_before == 0
    assert setup.results() == {"a.tif": "96"}


def test_files_that_fail_are_reported_and_the_others_go_on(setup: Setup):
    setup.add("a", "b", "fails-once", "odd")
    (setup.inputs / "broken.tif").write_bytes(b"II*\0 no more")
    report = setup.run(retries=2)
    assert (report.num_done, report.num_failed) == (3, 2)
    assert {path.name for path in report.failed} == {"odd.tif", "broken.tif"}
    assert report.failed[setup.inputs / "odd.tif"].endswith("odd.tif is odd")
    assert attempts(setup.log) == {"a.tif": 1, "b.tif": 1, "broken.tif": 3, "fails-once.tif": 2, "odd.tif": 3}
    with (setup.output / REPORT_NAME).open(newline="") as file:
        rows = {row["result"]: row for row in csv.DictReader(file)}
    assert rows["odd.tif"]["state"] == "failed"
    assert rows["a.tif"]["objects"] == "48"
    assert not (setup.output / "odd.tif").exists()

    again = setup.run(retries=0)  # those that failed are tried in each run
    assert (again.num_before, again.num_failed) == (3, 2)
    assert attempts(setup.log)["odd.tif"] == 4


def test_a_full_disk_ends_the_run_in_one_line_and_the_next_call_goes_on(setup: Setup):
    setup.add("a", "b", "fills", *(f"i{number}" for number in range(8)))
    with pytest.raises(
        OutputError, match=r"fills\.tif cannot be written \(No space left .*call it again with the same arguments"
    ) as caught:
        setup.run(retries=2)
    assert "\n" not in str(caught.value)
    begun = attempts(setup.log)
    assert begun["fills.tif"] == 1
    assert len(begun) < 11  # others are not computed in vain
    assert set(setup.results()) == set(begun) - {"fills.tif"}
    assert not list(setup.output.glob(".*.partial"))

    again = setup.run(retries=0)
    assert again.is_complete
    assert again.num_before == len(begun) - 1
    assert attempts(setup.log) == {name: 1 + (name == "fills.tif") for name in setup.results()}


def test_killed_worker_is_replaced_and_its_piece_done_again(setup: Setup):
    setup.add("a", "kills-1", "b", "kills-2", "c")
    report = setup.run(retries=0)
    assert report.is_complete, report.failed
    assert attempts(setup.log) == {"a.tif": 1, "b.tif": 1, "c.tif": 1, "kills-1.tif": 2, "kills-2.tif": 2}
    assert setup.results()["kills-1.tif"] == str(48 * 2)
    assert not [path for path in setup.output.iterdir() if path.name.endswith(".partial")]


def test_stop_finishes_what_runs_and_the_next_call_goes_on(setup: Setup):
    setup.add(*"abcdef")
    done: list[int] = []
    report = setup.run(on_progress=lambda progress: done.append(progress.done), should_stop=lambda: done[-1] >= 1)
    assert report.num_not_run >= 1
    assert report.num_failed == 0
    assert len(setup.results()) == report.num_done
    begun = attempts(setup.log)
    assert len(begun) == report.num_done
    assert setup.run().is_complete
    assert set(attempts(setup.log).values()) == {1}


@pytest.mark.parametrize("is_pressed_before", [True, False], ids=["before", "while-workers-start"])
def test_a_run_that_is_stopped_before_its_workers_are_ready_is_no_error(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, is_pressed_before: bool
) -> None:
    setup.add("a", "b")
    pressed = [is_pressed_before]

    def end_with_the_command(*_: object) -> None:  # as SIGTERM to all processes of the command
        assert not is_pressed_before, "no workers are needed any more"
        pressed[0] = True
        raise DeviceError("2 worker processes cannot be started")

    monkeypatch.setattr(Workers, "open", end_with_the_command)
    report = setup.run(should_stop=lambda: pressed[0])
    assert (report.num_done, report.num_not_run) == (0, 2)
    is_pressed_before = False
    with pytest.raises(DeviceError, match="cannot be started"):
        setup.run(should_stop=lambda: False)


def test_two_runs_into_one_folder_at_once_are_refused(setup: Setup):
    setup.add("a")
    refused: list[str] = []

    def again(progress: BatchProgress) -> None:
        if not refused:
            with pytest.raises(OutputError, match="another batch is writing to"):
                setup.run()
            refused.append(str(progress))

    assert setup.run(on_progress=again).is_complete
    assert refused


def test_files_of_other_origin_are_not_overwritten(setup: Setup):
    setup.add("a")
    setup.output.mkdir()
    (setup.output / "a.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"already exists .*no batch\.jsonl"):
        setup.run()
    assert setup.results() == {"a.tif": "mine"}
    assert not (setup.output / JOURNAL_NAME).exists()
    assert setup.run(restart=True).is_complete


def test_an_image_given_as_the_folder_of_results_is_refused_as_a_file(setup: Setup):
    setup.add("a")
    setup.output = setup.inputs / "a.tif"
    with pytest.raises(OutputError, match=r"a\.tif is a file; give the name of a folder"):
        setup.run()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"scheduler": "tcp://127.0.0.1:9"}, DeviceError, "no Dask scheduler answers", id="no-scheduler"),
        pytest.param({"scheduler": "nonsense"}, DeviceError, "expected tcp://HOST:PORT", id="no-address"),
        pytest.param({"scheduler": "127.0.0.1"}, DeviceError, "missing port number", id="no-port"),
        pytest.param({"scheduler": "http://box:80"}, DeviceError, "expected tcp://HOST:PORT", id="protocol"),
        pytest.param({"scheduler": "tls://127.0.0.1:9"}, DeviceError, "needs certificates", id="no-certificates"),
        pytest.param({"workers": 2}, DeviceError, "give one of workers, scheduler and cluster", id="two-places"),
        pytest.param({"scheduler": None, "workers": 0}, DeviceError, "integers from 1", id="no-workers"),
        pytest.param({"scheduler": None, "workers": 10**6}, DeviceError, "give a number up to", id="many-workers"),
        pytest.param({"dtype": 16}, DeviceError, "dtype=16 was given", id="dtype"),
        pytest.param({"retries": -1}, FrameError, "integers from 0", id="retries"),
        pytest.param({"suffix": ".png"}, OutputError, "expected .ome.tif", id="format"),
        pytest.param({"model": "sam9"}, CheckpointError, "neither a file nor", id="model"),
        pytest.param({"pattern": "*.czi"}, FrameError, "matches", id="pattern"),
    ],
)
def test_mistakes_are_refused(
    setup: Setup, options: dict[str, object], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_sam2.batch.clusters._CONNECT_TIMEOUT_S", 0.5)  # s
    setup.add("a")
    with pytest.raises(error, match=message):
        setup.run(**options)
    assert attempts(setup.log) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "cannot be read"),
        ("- 1\n", "does not describe a cluster"),
        ("class: dask_jobqueue.NoCluster\n", "there is no class dask_jobqueue.NoCluster"),
        ("class: no_package.Cluster\n", "is not installed .*install its package, no-package"),
        ("class: builtins.dict\n", "is not a cluster of Dask"),
        ("class: distributed.LocalCluster\noptions: [1]\n", "are tables"),
        ("class: distributed.LocalCluster\nworkers: 0\n", "workers is 0; expected integers from 1"),
        ("class: batch_tools.FailingCluster\n", "cannot be started .no such queue"),
        ("date: 2026-13-45\n", "cannot be read"),
        pytest.param("class: " + "[" * 5000, "cannot be read", id="depth"),
        ("class: distributed.LocalCluster\noptions: {processes: maybe, n_workers: x}\n", "cannot be started"),
    ],
)
def test_mistakes_in_cluster_files_are_named(setup: Setup, tmp_path: Path, text: str, message: str):
    setup.add("a")
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(DeviceError, match=message):
        setup.run(scheduler=None, cluster=tmp_path / "cluster.yaml")


@pytest.mark.parametrize(("workers", "started"), [(None, 1), (2, 2), (50, 3)])
def test_no_more_workers_are_started_than_there_are_files(
    setup: Setup, workers: int | None, started: int, monkeypatch: pytest.MonkeyPatch
):
    setup.add("a", "b", "c")
    asked = []

    def refuse(**options: object) -> None:
        asked.append(options["n_workers"])
        raise RuntimeError("not now")

    monkeypatch.setattr("napari_sam2.batch.clusters._default_workers", lambda *_: 1)
    monkeypatch.setattr(distributed, "LocalCluster", refuse)
    with pytest.raises(DeviceError, match=r"cannot be started \(not now\)"):
        setup.run(scheduler=None, workers=workers)
    assert asked == [started] * 3


def test_a_worker_that_is_killed_while_it_starts_is_started_again(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    setup.add("a")
    start, failures = distributed.LocalCluster, [RuntimeError("Nanny failed to start."), OSError("gone")]

    def fail_at_first(**options: object) -> distributed.LocalCluster:
        if failures:
            raise failures.pop()
        return start(**options)

    monkeypatch.setattr(distributed, "LocalCluster", fail_at_first)
    assert setup.run(scheduler=None, workers=1).is_complete
    assert not failures


@pytest.mark.slow
def test_cluster_of_a_file_is_started_and_closed(setup: Setup, tmp_path: Path):
    setup.add("a", "b")
    (tmp_path / "local.yaml").write_text(
        "class: distributed.LocalCluster\nworkers: 2\n"
        "options: {n_workers: 0, threads_per_worker: 1, dashboard_address: ':0'}\n"
    )
    assert setup.run(scheduler=None, cluster=tmp_path / "local.yaml").is_complete


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for SLURM needs setsid")
def test_jobs_of_slurm_are_workers(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``sbatch`` here runs the job's script on this computer, as SLURM would on a node."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/job.sh\nsetsid bash {tmp_path}/job.sh > {tmp_path}/job.log 2>&1 &\n'
        'echo "Submitted batch job $!"\n'
    )
    (commands / "scancel").write_text('#!/bin/sh\nkill -- "-$1"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # SLURM hands the environment on
    (tmp_path / "slurm.yaml").write_text(
        f"class: dask_jobqueue.SLURMCluster\nworkers: 1\n"
        f"options: {{cores: 1, processes: 1, memory: 2GB, interface: lo, python: {sys.executable}}}\n"
    )
    setup.add("a", "b")
    report = setup.run(scheduler=None, cluster=tmp_path / "slurm.yaml")
    assert report.is_complete
    assert "#SBATCH --mem=2G" in (tmp_path / "job.sh").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_workers_killed_at_random_lose_and_repeat_nothing_that_is_journaled(setup: Setup):
    setup.add(*(f"i{number:02}" for number in range(30)))
    rng = np.random.default_rng(0)
    kills, next_at = 0, time.monotonic() + 1
    counts: list[int] = []

    def kill_now_and_then(progress: BatchProgress) -> None:
        nonlocal kills, next_at
        counts.append(progress.done)
        if kills < 20 and progress.workers == 2 and time.monotonic() > next_at:
            with distributed.Client(setup._scheduler, set_as_default=False) as client:
                processes = list(client.run(os.getpid).values())
            if processes:
                os.kill(int(rng.choice(processes)), signal.SIGKILL)
                kills += 1
            next_at = time.monotonic() + float(rng.uniform(3, 8))

    report = setup.run(job=replace(setup.job, seconds=2), on_progress=kill_now_and_then)
    assert kills >= 5
    assert report.is_complete, report.failed
    assert len(setup.results()) == 30
    assert counts == sorted(counts)
    lines = (setup.output / JOURNAL_NAME).read_text().splitlines()
    assert len(lines) == 31
    before = attempts(setup.log)
    assert setup.run(job=replace(setup.job, seconds=2)).num_before == 30
    assert attempts(setup.log) == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_file_that_kills_its_workers_takes_no_short_ones_with_it(setup: Setup):
    setup.add(*(f"i{number:02}" for number in range(40)), "slays", *(f"j{number:02}" for number in range(20)))
    report = setup.run(retries=0)
    assert list(report.failed) == [setup.inputs / "slays.tif"]
    assert "12 workers were killed while they computed it" in report.failed[setup.inputs / "slays.tif"]
    assert len(setup.results()) == 60


@pytest.mark.slow
def test_a_file_whose_workers_are_killed_by_others_is_computed_at_the_end(setup: Setup):
    setup.add("slays", "a", "b")
    report = setup.run(job=replace(setup.job, num_slain=7), retries=0)
    assert report.is_complete, report.failed
    assert attempts(setup.log) == {"a.tif": 1, "b.tif": 1, "slays.tif": 8}


@pytest.mark.slow
def test_lost_scheduler_ends_the_run_and_another_one_goes_on(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    setup.add(*(f"i{number:02}" for number in range(6)))
    job = replace(setup.job, seconds=0.5)
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
    closing = threading.Thread(target=cluster.close)

    def close_after_two(progress: BatchProgress) -> None:
        if progress.done >= 2 and not closing.ident:
            closing.start()

    settings = DispatchSettings(patience_s=0.5)
    monkeypatch.setattr("napari_sam2.batch.running.DispatchSettings", lambda: settings)
    monkeypatch.setattr("napari_sam2.batch.clusters._CONNECT_TIMEOUT_S", 0.5)  # s
    with pytest.raises(DeviceError, match="call it again with the same arguments"):
        setup.run(job=job, scheduler=cluster.scheduler_address, on_progress=close_after_two)
    closing.join()
    report = setup.run(job=job)
    assert report.is_complete
    assert report.num_before >= 2


READING = ReadOptions(axes="YX")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "dtype='float8' was given; expected auto"),
        ({"device": "nope"}, "device='nope' was given"),
        ({"model": "text.pt"}, "text.pt"),
        ({"job": GenerateJob(reading=ReadOptions(axes="q"))}, r"none of the 2 files .*a\.tif: axes 'q' were given"),
        ({"job": GenerateJob(reading=replace(READING, gamma=-1.0))}, "gamma=-1.0 was given"),
        ({"job": GenerateJob(reading=replace(READING, fixed=(("Q", 1),)))}, "Q=1 was given"),
        ({"job": GenerateJob(shapes=KeepOptions(min_area="5kg"))}, "--min-area 5kg was given"),
        ({"job": GenerateJob(frame=3)}, r"frame 3 was given; .*a\.tif has"),
        ({"job": AutoJob(shapes=KeepOptions(max_area="5um2"))}, "5um2"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    setup, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no weights")
    setup.add("a", "b")
    with pytest.raises(NapariSAM2Error, match=message):
        setup.run(**options)
    assert not setup.output.exists()


def test_results_in_the_folder_of_the_images_are_not_taken_for_images(setup: Setup):
    setup.add("a", "b")
    setup.output = setup.inputs / "results"
    for pattern, num_before in ("**/*.tif", 0), ("**/*.tif", 2), ("*/a.tif", None):
        if num_before is None:
            with pytest.raises(FrameError, match="the inputs are results of an earlier batch"):
                setup.run(pattern=pattern)
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = setup.run(pattern=pattern)
        assert (len(report.pieces), report.num_before) == (2, num_before)
        assert ["2 of the inputs are results of an earlier batch" in str(w.message) for w in caught] == [True] * (
            num_before > 0
        )
    assert sorted(setup.results()) == ["a.tif", "b.tif"]
    with pytest.warns(UserWarning, match="4 of the inputs are results"):  # and the journal and the report
        assert len(setup.run(pattern="**/*").pieces) == 2


def test_a_result_whose_name_is_too_long_fails_alone(setup: Setup):
    setup.add("a", "x" * 250)
    report = setup.run(suffix=".ome.zarr")
    assert (report.num_done, report.num_failed) == (1, 1)
    assert "too long" in next(iter(report.failed.values()))


def test_a_worker_with_little_memory_left_does_not_wait_for_more(setup: Setup):
    setup.add("a")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.memory.pause": 0.8}),
        distributed.LocalCluster(**options, memory_limit="1MiB") as cluster,
    ):
        worker = cluster.workers[0]

        def pauses() -> bool:
            end = time.monotonic() + 30
            while worker.status != distributed.Status.paused and time.monotonic() < end:
                time.sleep(0.05)
            return worker.status == distributed.Status.paused

        assert pauses()
        assert setup.run(scheduler=cluster.scheduler_address).is_complete
        assert pauses()  # as before, for the work of others


@pytest.mark.parametrize("has_dashboard", [True, False])
def test_the_dashboard_is_named_where_there_is_one(setup: Setup, has_dashboard: bool):
    if has_dashboard:
        pytest.importorskip("bokeh")
    setup.add("a")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    told: list[str] = []
    with distributed.LocalCluster(**options, scheduler_kwargs={"dashboard": has_dashboard}) as cluster:
        report = setup.run(scheduler=cluster.scheduler_address, on_progress=lambda p: told.append(p.dashboard))
    assert report.is_complete
    assert told[-1].endswith("/status") == has_dashboard
    assert bool(told[-1]) == has_dashboard


def test_one_file_that_can_be_read_is_enough_to_start(setup):
    setup.add("a", "b", "c")
    (setup.inputs / "a.tif").write_text("text")
    report = setup.run(job=GenerateJob(FindOptions(point_spacing_px=2), KeepOptions(min_area="5")))
    assert (report.num_done, report.num_failed) == (2, 1)
