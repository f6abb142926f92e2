"""Run a batch: what is missing is computed on Dask's workers and entered in the journal."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._arguments import checked
from napari_sam2._checks import check_not_input
from napari_sam2._dask import num_cores, require_dask
from napari_sam2._errors import DeviceError, FrameError, NapariSAM2Error, OutputError
from napari_sam2._files import expand, is_there, make_folder, remove_folder
from napari_sam2._messages import RESTART, Message, given, message_of, shown
from napari_sam2.batch.clusters import Place
from napari_sam2.batch.dispatch import Dispatch, DispatchSettings, Execution, Workers
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_labels, with_positions
from napari_sam2.batch.jobs import FileJob, Job, settings_of
from napari_sam2.batch.journal import JOURNAL_NAME, REPORT_NAME, Journal, RunIdentity, without_results
from napari_sam2.batch.pieces import Piece, PieceRecord, Source
from napari_sam2.batch.report import BatchProgress, BatchReport, write_report

if TYPE_CHECKING:
    from napari_sam2.batch.workers import WorkerModel
    from napari_sam2.frames import Frames

__all__ = [
    "LabelTarget",
    "Stage",
    "checked_execution",
    "output_path",
    "run_batch",
    "run_divided",
    "run_stages",
]


_MAX_TRIED = 8  # files on which the settings are tried


@checked(FrameError)
def run_batch(
    job: FileJob,
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
    on_plan: Callable[[Sequence[Piece]], object] | None = None,
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
        and prompts of each file. Results of an earlier batch in ``output`` are left out. Each position (axis P) of a
        file that holds several is an input of its own, with a result such as ``NAME_pos0.tif``, unless ``job.reading``
        says which one is read.
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
    on_plan : callable, optional
        Called once at the start with a list of `Piece`: the inputs with their results, of a file that holds several
        positions one for each.
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
        If there are no inputs, a list cannot be read, or settings are not possible: they are tried on up to eight files
        before anything is written, and at least one of these must be readable.
    PromptError
        If files lack prompts, or settings are not possible.
    OutputError
        If the folder holds results of other settings, files of other origin, is in use by another run, or cannot be
        written.
    DiskFullError
        If results cannot be written as the disk is full; the same call resumes when there is space.
    CheckpointError, DownloadError
        If the model cannot be found or read.
    DeviceError
        If Dask is not installed, the device or precision is unknown, or workers cannot be started or reached.
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
    folder = output_path(output)
    if folder.is_file():
        raise OutputError(f"{folder} is a file; give the name of a folder")
    sources = without_results(find_sources(given, pattern), folder)
    sources = with_positions(sources, axes=job.reading.axes, fixed=job.reading.fixed)
    if labels is not None:
        sources = with_labels(sources, labels)
    job.check(sources)
    _try_on_some(job, sources)
    pieces = plan_pieces(sources, folder, suffix)
    if on_plan is not None:
        on_plan(pieces)
    make_folder(folder)
    return run_stages(job, [Stage(job, lambda: pieces)], folder, execution)


def _try_on_some(job: FileJob, sources: Sequence[Source]) -> None:
    """Try the settings on files spread over all; raises the error of the first one if none of them can be read."""
    step = max(1, len(sources) // _MAX_TRIED)
    tried = sources[::step][:_MAX_TRIED]
    first: tuple[Path, NapariSAM2Error] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pieces report them
        for source in tried:
            try:
                job.try_on(source)
            except NapariSAM2Error as error:
                first = first or (source.path, error)
            else:
                return
    if first is None:
        return
    path, why = first
    text = message_of(why)
    if str(path) not in text:
        text = Message(f"{path}: ", text)
    if len(tried) > 1:
        text = Message(f"none of the {len(tried)} files that were tried can be processed; the first: ", text)
    raise type(why)(text) from why


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
    for name, value in (("device", device), ("dtype", dtype)):
        if not isinstance(value, str):
            raise DeviceError(f"{name}={shown(value)} was given; expected its name, such as 'auto'")
    _check_model(model, device, dtype, is_local=place.is_local)
    if retries < 0:
        raise FrameError(Message(given("retries", retries), " was given; expected integers from 0"))
    return Execution(place, model, device, dtype, retries, restart, on_progress, on_piece, should_stop)


def _check_model(model: str | os.PathLike[str], device: str, dtype: str, *, is_local: bool) -> None:
    """Raise what each worker would: of weights that cannot be read, and of devices and precisions that do not exist."""
    from napari_sam2.weights.architecture import build_network
    from napari_sam2.weights.devices import check_device_name, resolve_device, resolve_dtype
    from napari_sam2.weights.files import read_weights
    from napari_sam2.weights.loading import find_weights

    path = find_weights(os.fspath(model))
    build_network(read_weights(path), str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each worker says how it computes
        if is_local:
            resolve_dtype(dtype, resolve_device(device))
        else:  # whether it is available, each worker says
            resolve_dtype(dtype, check_device_name(device))


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


@dataclass(frozen=True)
class LabelTarget:
    """Labels that the last piece of a divided job writes.

    Attributes
    ----------
    path : Path
        Where.
    source : Path
        The image.
    frames : Frames
        Of the image, or of its first time point.
    num_times : int
        Time points of volumes over time.
    """

    path: Path
    source: Path
    frames: Frames
    num_times: int = 1

    def check(self) -> None:
        """Begin to write, and leave nothing behind; raises OutputError, before the parts have been computed."""
        from napari_sam2.labels.files import LabelWriter
        from napari_sam2.labels.ngff import image_of_labels

        check_not_input(self.path, self.source)
        if image_of_labels(self.path) is None:  # in which the writer makes the folder
            make_folder(self.path.parent)
        LabelWriter.for_frames(self.path, self.frames, num_times=self.num_times, overwrite=True).discard()


def run_divided(
    job: Job, stages: Sequence[Stage], folder: Path, target: LabelTarget, execution: Execution
) -> BatchReport:
    """Compute the parts of one result, of which the last piece, with its name, writes the result itself.

    The folder of the parts is removed when the result is there. Other parameters, result and errors as for
    `run_stages`; OutputError also if the result exists and is not of this job, or could not be written at the end.
    """
    if target.path.exists() and not (folder / JOURNAL_NAME).exists():
        raise OutputError(f"{target.path} already exists; give another name, or remove it")
    target.check()
    make_folder(folder)
    report = run_stages(job, stages, folder, execution, result=target.path)
    if report.is_complete:
        remove_folder(folder)
    return report


def run_stages(
    job: Job, stages: Sequence[Stage], folder: Path, execution: Execution, *, result: Path | None = None
) -> BatchReport:
    """Compute one stage after the other on the same workers, until one cannot be completed.

    ``job`` stands in the journal: its settings must be equal for a run to be resumed. Result and errors as for
    `run_batch`; names of pieces are unique in all stages. ``result`` must not exist unless it is in the journal.
    """
    begin = time.perf_counter()
    wanted = _model(execution)
    settings = {**settings_of(job), "dtype": execution.dtype}
    identity = RunIdentity(
        job.command, Path(execution.model).name, wanted.weights_hash, version("napari-sam2"), settings
    )
    with Journal(folder, identity, restart=execution.restart) as journal, ExitStack() as opened:
        if result is not None and result.exists() and not journal.is_done(result.name):
            raise OutputError(
                f"{result} already exists, and {journal.path} does not say that this command has written it; remove "
                "it so that it is written again, or give another name"
            )
        run = Dispatch(journal, execution, DispatchSettings())
        workers = Workers(execution, wanted, journal.marker)
        opened.callback(workers.close)
        for stage in stages:
            pieces = stage.plan()
            if journal.is_new and not execution.restart:
                _check_no_results(pieces, journal)
            missing = run.add(pieces)
            if missing and _open(workers, run, _most_at_once(stages, missing)):
                run.compute(workers, stage.job, missing)
            if not run.is_complete:
                break
            if result is not None:
                run.check_inputs()
        opened.close()
        report = run.report(time.perf_counter() - begin, folder if result is None else None)
        write_report(folder / REPORT_NAME, report)
    return report


def _open(workers: Workers, run: Dispatch, num_pieces: int) -> bool:
    """Start or reach the workers; False if the run is stopped before they are ready. Raises DeviceError."""
    if run.is_stopping():
        return False
    try:
        workers.open(num_pieces)
    except DeviceError:
        if not run.is_stopping():  # a signal to the whole process group ends the workers too
            raise
        return False
    return True


def _most_at_once(stages: Sequence[Stage], missing: Sequence[Piece]) -> int:
    """For how many pieces at once local workers are started: later stages may have more pieces than the first one."""
    return len(missing) if len(stages) == 1 else max(len(missing), num_cores())


def _model(execution: Execution) -> WorkerModel:
    from napari_sam2.batch.workers import WorkerModel, weights_hash
    from napari_sam2.weights.downloads import BUNDLED_MODEL, RELEASES
    from napari_sam2.weights.loading import find_weights

    name = os.fspath(execution.model)
    path = find_weights(name)
    if name != BUNDLED_MODEL and name not in RELEASES:
        name = str(path.resolve())
    return WorkerModel(name, weights_hash(path), execution.device, execution.dtype)


def output_path(output: str | os.PathLike[str]) -> Path:
    """From the root, as workers need it; raises OutputError if it is not a path."""
    return Path(os.path.abspath(expand(output)))  # noqa: PTH100 - links stay as the user named them


def _check_no_results(pieces: Sequence[Piece], journal: Journal) -> None:
    """Raise OutputError if a new batch would overwrite files that it has not written; the new journal is removed."""
    there = [piece.output for piece in pieces if is_there(piece.output)]
    if there:
        journal.path.unlink(missing_ok=True)
        raise OutputError(
            Message(
                f"{there[0]} already exists ({len(there)} such files), and the folder holds no {JOURNAL_NAME} that "
                "lists them; choose another folder, or replace them with ",
                RESTART,
            )
        )
