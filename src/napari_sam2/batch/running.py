"""Run a batch: what is missing is computed on Dask's workers and entered in the journal."""

from __future__ import annotations

import os
import queue
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._arguments import checked
from napari_sam2._dask import num_cores, require_dask
from napari_sam2._errors import DeviceError, FrameError, NapariSAM2Error, OutputError
from napari_sam2._files import expand, write_error
from napari_sam2.batch.clusters import Place, connected
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_labels
from napari_sam2.batch.jobs import Job, settings_of
from napari_sam2.batch.journal import JOURNAL_NAME, Journal, RunIdentity
from napari_sam2.batch.pieces import DONE, FAILED, NOT_RUN, RUNNING, InputStates, Outcome, Piece, PieceRecord
from napari_sam2.batch.report import REPORT_NAME, BatchReport, write_report

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_sam2.batch.workers import WorkerModel

__all__ = [
    "BatchProgress",
    "Execution",
    "Stage",
    "checked_execution",
    "make_folder",
    "new_target",
    "run_batch",
    "run_stages",
]

_POLL_S = 0.2
_COUNT_WORKERS_S = 1.0


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes
    ----------
    done, failed, total : int
        Pieces; those that an earlier run has done count as done.
    before : int
        Pieces that an earlier run has done.
    workers : int
        Worker processes that are connected; 0 while they start or a cluster has none.
    dashboard : str
        Address of Dask's dashboard; empty before the connection.
    """

    done: int
    failed: int
    total: int
    before: int
    workers: int = 0
    dashboard: str = ""


@checked(FrameError)
def run_batch(
    job: Job,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "sam2_micro",
    device: str = "auto",
    dtype: str = "auto",
    pattern: str | None = None,
    labels: str | None = None,
    suffix: str = ".tif",
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    retries: int = 1,
    restart: bool = False,
    on_progress: Callable[[BatchProgress], object] | None = None,
    on_piece: Callable[[PieceRecord], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BatchReport:
    """Process many files, on the cores of this computer or a Dask cluster.

    The labels of each file are written whole or not at all. A journal in the output folder lists the finished files;
    the same call again processes only files that are missing or whose input has changed. Files that fail are tried
    again, then reported; the others continue. Workers that are killed are replaced, and their files processed again.
    In scripts the call must be inside ``if __name__ == "__main__":``, as worker processes import the script.

    Parameters
    ----------
    job : GenerateJob, AutoJob, PropagateJob or TrackJob
        What is done with each file.
    inputs : path-like, or sequence of path-like
        Folders, image files, patterns (``"data/*.tif"``), lists (``.csv``, ``.toml``) with axes, channels, labels
        and prompts of each file.
    output : path-like
        Folder of the results, created if it does not exist; also of ``batch.jsonl`` (the journal) and ``report.csv``.
    model, device, dtype
        As for `load_model`; on a cluster, weights files must be at the same place on all computers.
    pattern : str, optional
        Which entries of folders are taken, such as ``"**/*_ch0.tif"``. Default: all images directly inside.
    labels : str, optional
        For `PropagateJob`: a folder with labels of the same names, or a name with ``{stem}`` and ``{folder}``.
    suffix : str, default ".tif"
        Format of the results: .tif, .ome.tif, .zarr, .ome.zarr, .zip, .geojson or .json.
    workers : int, optional
        Worker processes on this computer. Default: one for each core or GPU, as far as memory allows.
    scheduler : str, optional
        Address of a running Dask scheduler, in place of workers on this computer.
    cluster : path-like, optional
        YAML file that describes a cluster to start, in place of both.
    retries : int, default 1
        Number of times that a file that failed is tried again.
    restart : bool, default False
        Process all files again, also those that an earlier run finished.
    on_progress : callable, optional
        Called with a `BatchProgress`, several times a second.
    on_piece : callable, optional
        Called with the `PieceRecord` of each file: at the start, when it is begun, and when it is done or has failed.
    should_stop : callable, optional
        Called as often; when it returns True the pieces that are running are finished, and no others begun.

    Returns
    -------
    BatchReport
        State of all files; failed ones are in it and raise nothing.

    Raises
    ------
    FrameError
        If there are no inputs, a list cannot be read, or settings are not possible.
    PromptError
        If files lack prompts, or settings are not possible.
    OutputError
        If the folder holds results of other settings, files of other origin, is in use by another run, or cannot be
        written.
    CheckpointError, DownloadError
        If the model cannot be found.
    DeviceError
        If Dask is not installed, or workers cannot be started or reached.
    """
    execution = checked_execution(
        model=model,
        device=device,
        dtype=dtype,
        workers=workers,
        scheduler=scheduler,
        cluster=cluster,
        retries=retries,
        restart=restart,
        on_progress=on_progress,
        on_piece=on_piece,
        should_stop=should_stop,
    )
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    sources = find_sources(given, pattern)
    if labels is not None:
        sources = with_labels(sources, labels)
    job.check(sources)
    folder = make_folder(output)
    pieces = plan_pieces(sources, folder, suffix)
    return run_stages(job, [Stage(job, lambda: pieces)], folder, execution)


@dataclass(frozen=True)
class Execution:
    """Model, workers and callbacks of a run; the attributes are parameters of `run_batch`."""

    place: Place
    model: str | os.PathLike[str]
    device: str
    dtype: str
    retries: int
    restart: bool
    on_progress: Callable[[BatchProgress], object] | None
    on_piece: Callable[[PieceRecord], object] | None
    should_stop: Callable[[], bool] | None


def checked_execution(
    *,
    model: str | os.PathLike[str],
    device: str,
    dtype: str,
    workers: int | None,
    scheduler: str | None,
    cluster: str | os.PathLike[str] | None,
    retries: int,
    restart: bool,
    on_progress: Callable[[BatchProgress], object] | None,
    should_stop: Callable[[], bool] | None,
    on_piece: Callable[[PieceRecord], object] | None = None,
) -> Execution:
    """How pieces are computed; raises DeviceError or FrameError if that is not possible."""
    require_dask("a batch")
    place = Place(workers, scheduler, None if cluster is None else Path(cluster))
    place.check()
    for name, value in (("device", device), ("dtype", dtype)):  # whether it is available, each worker says
        if not isinstance(value, str):
            raise DeviceError(f"{name}={value!r} was given; expected its name, such as 'auto'")
    if retries < 0:
        raise FrameError(f"retries={retries} was given; allowed are integers from 0")
    return Execution(place, model, device, dtype, retries, restart, on_progress, on_piece, should_stop)


@dataclass(frozen=True)
class Stage:
    """Pieces that can be computed in any order, after those of the stages before.

    Attributes
    ----------
    job : Job
        What is done with each.
    plan : callable
        Names the pieces; called when all pieces of earlier stages are done, so that it may read their results.
    """

    job: Job
    plan: Callable[[], Sequence[Piece]]


def run_stages(job: Job, stages: Sequence[Stage], folder: Path, execution: Execution) -> BatchReport:
    """Compute one stage after the other on the same workers, until one cannot be completed.

    ``job`` stands in the journal: its settings must be equal for a run to be resumed. Result and errors as for
    `run_batch`; names of pieces are unique in all stages.
    """
    begin = time.perf_counter()
    wanted = _model(execution)
    settings = {**settings_of(job), "dtype": execution.dtype}
    identity = RunIdentity(
        job.command, Path(execution.model).name, wanted.weights_hash, version("napari-sam2"), settings
    )
    with Journal(folder, identity, restart=execution.restart) as journal, ExitStack() as opened:
        run = _Run(journal, execution)
        workers: tuple[Client, str] | None = None
        for stage in stages:
            pieces = stage.plan()
            if journal.is_new and not execution.restart:
                _check_no_results(pieces, journal)
            missing = run.add(pieces)
            if missing and workers is None:
                client = opened.enter_context(
                    connected(execution.place, _most_at_once(stages, missing), device=execution.device)
                )
                workers = client, opened.enter_context(_model_on_workers(client, wanted, execution.place))
            if missing and workers is not None:
                run.compute(*workers, stage.job, missing)
            if not run.is_complete:
                break
        opened.close()
        report = run.report(time.perf_counter() - begin)
        write_report(folder / REPORT_NAME, report)
    return report


def _most_at_once(stages: Sequence[Stage], missing: Sequence[Piece]) -> int:
    """For how many pieces at once local workers are started: later stages may have more pieces than the first one."""
    return len(missing) if len(stages) == 1 else max(len(missing), num_cores())


class _Run:
    """The pieces of one run on their way through the workers."""

    def __init__(self, journal: Journal, execution: Execution) -> None:
        self._journal = journal
        self._retries = execution.retries
        self._on_progress = execution.on_progress or (lambda _: None)
        self._tell = execution.on_piece or (lambda _: None)
        self._should_stop = execution.should_stop or (lambda: False)
        self._progress = BatchProgress(0, 0, 0, 0)
        self._pieces: list[Piece] = []
        self._fingerprints: dict[str, str] = {}
        self._ended: set[str] = set()  # pieces that are done, or failed in this run

    def add(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Take pieces into the run; returns those that are missing."""
        read = InputStates()
        self._fingerprints |= {piece.name: piece.source.fingerprint(read) for piece in pieces}
        missing = []
        for piece in pieces:
            if _is_done(piece, self._fingerprints[piece.name], self._journal):
                self._ended.add(piece.name)
            else:
                missing.append(piece)
        self._pieces += pieces
        before = len(pieces) - len(missing)
        progress = self._progress
        self._progress = replace(
            progress,
            done=progress.done + before,
            before=progress.before + before,
            total=progress.total + len(pieces),
        )
        self._on_progress(self._progress)
        for piece in pieces:
            self._tell(self._state(piece))
        return missing

    @property
    def is_complete(self) -> bool:
        """Whether all pieces so far are done."""
        return self._progress.done == self._progress.total

    def report(self, seconds: float) -> BatchReport:
        """State of all pieces so far."""
        states = tuple(self._state(piece) for piece in self._pieces)
        return BatchReport(tuple(self._pieces), states, self._progress.before, seconds)

    def _state(self, piece: Piece) -> PieceRecord:
        """The record of a piece for the report; failures of earlier runs do not count."""
        if piece.name in self._ended:
            return self._journal.records[piece.name]
        return PieceRecord(piece.name, NOT_RUN, self._fingerprints[piece.name])

    def compute(self, client: Client, plugin: str, job: Job, pieces: Sequence[Piece]) -> None:
        """Compute pieces, as many at once as there are workers; a killed worker takes one piece with it."""
        from napari_sam2.batch.workers import run_piece

        self._progress = replace(self._progress, dashboard=client.dashboard_link or "")
        waiting = iter(pieces)
        running: dict[Future, Piece] = {}
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        counted_at = -_COUNT_WORKERS_S
        is_stopping = False
        while True:
            if time.monotonic() - counted_at >= _COUNT_WORKERS_S:
                self._progress = replace(self._progress, workers=_count_workers(client))
                counted_at = time.monotonic()
            is_stopping = is_stopping or self._should_stop()
            while not is_stopping and len(running) < max(1, self._progress.workers):
                piece = next(waiting, None)
                if piece is None:
                    break
                future = client.submit(
                    run_piece,
                    plugin,
                    job,
                    piece,
                    key=f"{job.command}-{uuid.uuid4().hex}",
                    retries=self._retries,
                    pure=False,
                )
                running[future] = piece
                self._tell(PieceRecord(piece.name, RUNNING, self._fingerprints[piece.name]))
                future.add_done_callback(ended.put)
            if not running or (is_stopping and not self._progress.workers):
                break
            self._on_progress(self._progress)
            try:
                future = ended.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            self._end(running.pop(future), future)
        self._on_progress(self._progress)

    def _end(self, piece: Piece, future: Future) -> None:
        """Enter a piece that is done or failed in the journal."""
        fingerprint = self._fingerprints[piece.name]
        found, error = _result(future)
        if found is not None:
            record = PieceRecord(piece.name, DONE, fingerprint, found)
            self._progress = replace(self._progress, done=self._progress.done + 1)
        else:
            kind = type(error).__name__
            record = PieceRecord(piece.name, FAILED, fingerprint, None, _reason(error), kind)
            self._progress = replace(self._progress, failed=self._progress.failed + 1)
        self._journal.add(record)
        self._ended.add(piece.name)
        self._tell(record)


def _result(future: Future) -> tuple[Outcome | None, BaseException | None]:
    """What a piece gave, or why it failed; raises DeviceError if the scheduler is gone."""
    from distributed.client import FutureCancelledError

    try:
        found = future.result()
    except (CancelledError, FutureCancelledError) as error:
        raise DeviceError(
            "the connection to the Dask scheduler was lost; finished files are in the journal: run the same command "
            "again"
        ) from error
    except Exception as error:  # noqa: BLE001 - whatever a file can cause is reported with the file
        return None, error
    assert isinstance(found, Outcome)
    return found, None


def _reason(error: BaseException | None) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            f"{error.allowed_failures + 1} workers were killed while they computed it; it may need more memory than a "
            "worker has: use fewer workers"
        )
    text = " ".join(str(error).split())[:1000]
    if isinstance(error, NapariSAM2Error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _count_workers(client: Client) -> int:
    try:
        return len(client.nthreads())
    except (OSError, TimeoutError) as error:
        raise DeviceError(
            f"the Dask scheduler no longer answers ({error}); finished files are in the journal: run the same "
            "command again"
        ) from error


@contextmanager
def _model_on_workers(client: Client, model: WorkerModel, place: Place) -> Iterator[str]:
    """Within it, all workers, also those that come later, have the plugin of this name."""
    from napari_sam2.batch.workers import ModelPlugin

    plugin = ModelPlugin(f"napari-sam2-{uuid.uuid4().hex}", model, is_local=place.is_local)
    try:
        client.register_plugin(plugin)
    except ModuleNotFoundError as error:
        raise DeviceError(f"workers lack a package ({error}); install the same version of napari-sam2 there") from error
    try:
        yield plugin.name
    finally:
        if client.status == "running":
            client.unregister_worker_plugin(plugin.name)


def _model(execution: Execution) -> WorkerModel:
    from napari_sam2.batch.workers import WorkerModel, weights_hash
    from napari_sam2.weights.downloads import BUNDLED_MODEL, RELEASES
    from napari_sam2.weights.loading import find_weights

    name = os.fspath(execution.model)
    path = find_weights(name)
    if name != BUNDLED_MODEL and name not in RELEASES:
        name = str(path.resolve())
    return WorkerModel(name, weights_hash(path), execution.device, execution.dtype)


def _output_path(output: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(expand(output)))  # noqa: PTH100 - links stay as the user named them


def new_target(output: str | os.PathLike[str]) -> Path:
    """Where one result is written; raises OutputError if something is there."""
    target = _output_path(output)
    if target.exists():
        raise OutputError(f"{output} already exists; give another name, or remove it")
    return target


def make_folder(output: str | os.PathLike[str]) -> Path:
    """The output folder, which is created."""
    folder = _output_path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{output} is a file; give the name of a folder") from error
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _check_no_results(pieces: Sequence[Piece], journal: Journal) -> None:
    """Raise OutputError if a new batch would overwrite files that it has not written; the new journal is removed."""
    there = [piece.output for piece in pieces if piece.output.exists()]
    if there:
        journal.path.unlink(missing_ok=True)
        raise OutputError(
            f"{there[0]} already exists ({len(there)} such files), and the folder holds no {JOURNAL_NAME}; "
            "choose another folder, or replace them with --restart (restart=True)"
        )


def _is_done(piece: Piece, fingerprint: str, journal: Journal) -> bool:
    record = journal.records.get(piece.name)
    return record is not None and record.state == DONE and record.fingerprint == fingerprint and piece.output.exists()
