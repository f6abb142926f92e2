"""``napari-sam2 batch``: many files, on the cores of this computer or a Dask cluster, with resume."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from napari_sam2._dask import require_dask
from napari_sam2._files import is_there
from napari_sam2._messages import counted
from napari_sam2.cli._errors import INTERRUPTED, SOME_FAILED
from napari_sam2.cli._objects import FinderOptions, MinScoreOption, ShapeOptions
from napari_sam2.cli._option_groups import InputOptions, ModelOptions, with_option_groups
from napari_sam2.cli._options import QuietOption, RequiredLabelsOption
from napari_sam2.cli._picture import FrameOption
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say
from napari_sam2.cli.auto import StackSearch, Tiles, auto_job
from napari_sam2.cli.generate import Search

if TYPE_CHECKING:
    from napari_sam2.batch.jobs import AutoJob, FileJob
    from napari_sam2.batch.report import BatchProgress, BatchReport

__all__ = ["SUBCOMMANDS", "Files", "Work", "batch", "run_job"]

_MAX_LISTED = 20
_REFRESH_S = 0.1

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS",
        help="Folders, image files, patterns in quotes ('data/*.tif'), or lists (.csv, .toml) with axes, channels, "
        "labels and prompts of each file.",
    ),
]
FolderOption = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FOLDER", help="Folder of the results, the journal and report.csv."),
]


@dataclass(frozen=True)
class Files:
    """Which files are processed, and what is written."""

    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="GLOB", help="Which files of a folder to process, such as '**/*_ch0.tif'."),
    ] = None
    suffix: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="SUFFIX",
            help="Format of the results: .tif, .ome.tif, .zarr, .ome.zarr, .zip (ROIs), .geojson or .json (COCO).",
        ),
    ] = ".tif"


@dataclass(frozen=True)
class Work:
    """Where pieces are computed, and again."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Worker processes on this computer [default: one for each core or GPU, as far as memory allows].",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, such as tcp://node1:8786."),
    ] = None
    cluster: Annotated[
        Path | None,
        typer.Option("--cluster", metavar="YAML", help="File that describes a cluster to start, such as SLURM."),
    ] = None
    retries: Annotated[
        int, typer.Option("--retries", metavar="N", help="Number of times that a file that fails is tried again.")
    ] = 1
    restart: Annotated[
        bool, typer.Option("--restart", help="Process all files again, also those that an earlier run finished.")
    ] = False
    quiet: QuietOption = False


def batch() -> None:
    """Process many files; run the same command again to resume.

    Each position of a file that holds several is processed separately; results are named NAME_pos0, NAME_pos1, ...;
    --fix P=N processes one position of each file.
    Files that fail are tried again and listed at the end; the others continue. Ctrl-C finishes the running files.
    """


@with_option_groups
def _generate(
    inputs: InputsArgument,
    output: FolderOption,
    *,
    search: Search,
    shapes: ShapeOptions,
    frame: FrameOption = None,
    network: ModelOptions,
    reading: InputOptions,
    files: Files,
    work: Work,
) -> None:
    """Segment everything in many images, as 'napari-sam2 generate'.

    \b
    Examples:
      napari-sam2 batch generate plate1 -o labels
      napari-sam2 batch generate 'data/*_ch0.tif' -o labels --min-area 20um2 --workers 4
    """
    from napari_sam2.batch.jobs import GenerateJob

    job = GenerateJob(search.as_find_options(), shapes.as_keep_options(), reading.as_read_options(), frame)
    run_job(job, inputs, output, network, files, work)


@with_option_groups
def _auto(
    inputs: InputsArgument,
    output: FolderOption,
    *,
    stack: StackSearch,
    finding: FinderOptions,
    shapes: ShapeOptions,
    tiles: Tiles,
    network: ModelOptions,
    reading: InputOptions,
    files: Files,
    work: Work,
) -> None:
    """Segment everything in many stacks, movies or large images, as 'napari-sam2 auto'.

    \b
    Examples:
      napari-sam2 batch auto stacks -o labels --format .ome.zarr
      napari-sam2 batch auto stacks -o labels --cluster slurm.yaml
    """
    job = auto_job(stack, finding, shapes, tiles, reading)
    run_job(job, inputs, output, network, files, work)


@with_option_groups
def _propagate(
    inputs: InputsArgument,
    output: FolderOption,
    *,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FOLDER|NAME",
            help="Folder with labels of the same names, or a name such as '{folder}/{stem}_cp_masks.tif'; a list "
            "may give each file its own.",
        ),
    ] = None,
    frame: Annotated[
        list[int] | None,
        typer.Option(
            "--frame", metavar="N", help="Frame that the labels belong to; one for each plane in them. Repeatable."
        ),
    ] = None,
    min_area: Annotated[int, typer.Option("--min-area", metavar="PIXELS", help="Ignore labels with fewer pixels.")] = 1,
    min_score: MinScoreOption = 0.0,
    give_up: Annotated[
        int | None,
        typer.Option(
            "--give-up", metavar="N", help="Stop tracking an object in a direction after N consecutive empty frames."
        ),
    ] = None,
    network: ModelOptions,
    reading: InputOptions,
    files: Files,
    work: Work,
) -> None:
    """Track labelled objects through many stacks, as 'napari-sam2 propagate'.

    \b
    Labels of slice 10 of each stack, in a separate folder or beside the stacks:
      napari-sam2 batch propagate stacks --labels cellpose --frame 10 -o tracked
      napari-sam2 batch propagate stacks --labels '{folder}/{stem}_seg.npy' --frame 10 -o tracked
    """
    from napari_sam2.batch.jobs import PropagateJob

    job = PropagateJob(reading.as_read_options(), tuple(frame or ()), min_area, min_score, give_up)
    run_job(job, inputs, output, network, files, work, labels=labels)


@with_option_groups
def _track(
    inputs: InputsArgument,
    output: FolderOption,
    *,
    network: ModelOptions,
    reading: InputOptions,
    files: Files,
    work: Work,
) -> None:
    """Track prompted objects through many stacks, or segment them in images, as 'napari-sam2 track'.

    The prompts come from a list: a CSV file with a line for each prompt, or TOML. Columns are file, and object, point,
    negative, box, mask, written as for the options of 'napari-sam2 track'; also axes and channels.

    \b
    prompts.csv, and the command:
      file,object,point,negative
      a.tif,1,"10,84,120",
      a.tif,1,,"10,90,131"
      b.tif,1,"8,40,51",
      napari-sam2 batch track prompts.csv -o tracked
    """
    from napari_sam2.batch.jobs import TrackJob

    run_job(TrackJob(reading.as_read_options()), inputs, output, network, files, work)


@with_option_groups
def _tiles(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A single image; a chunked OME-Zarr is fastest.")],
    output: RequiredLabelsOption,
    *,
    finding: FinderOptions,
    shapes: ShapeOptions,
    tiles: Tiles,
    network: ModelOptions,
    reading: InputOptions,
    work: Work,
) -> None:
    """Segment everything in one large image, in tiles on many workers.

    The labels are those of 'napari-sam2 auto'. Tiles are kept in OUTPUT.tiles until the labels are written; run the
    same command again to resume.

    \b
    Examples:
      napari-sam2 batch tiles slide.ome.zarr -o labels.ome.zarr
      napari-sam2 batch tiles slide.ome.zarr -o labels.ome.zarr --cluster slurm.yaml
    """
    from napari_sam2.batch.tiles import segment_tiles

    job = auto_job(StackSearch(), finding, shapes, tiles, reading)
    _run_divided(segment_tiles, job, image, output, network, work)


@with_option_groups
def _stack(
    stack: Annotated[
        Path,
        typer.Argument(metavar="STACK", help="A stack, a movie or volumes over time; a chunked OME-Zarr is fastest."),
    ],
    output: RequiredLabelsOption,
    *,
    search: StackSearch,
    finding: FinderOptions,
    shapes: ShapeOptions,
    network: ModelOptions,
    reading: InputOptions,
    work: Work,
) -> None:
    """Segment everything in one long stack, or in volumes over time, on many workers.

    Workers segment the time points of TZYX files, or the key frames of stacks. The labels are those of
    'napari-sam2 auto'. Parts are kept in OUTPUT.parts until the labels are written; run the same command again to
    resume.

    \b
    Examples:
      napari-sam2 batch stack embryo_tzyx.ome.zarr -o labels.ome.zarr
      napari-sam2 batch stack long.ome.zarr -o labels.ome.zarr --every 5 --cluster slurm.yaml
    """
    from napari_sam2.batch.stack_parts import segment_stack_parts

    job = auto_job(search, finding, shapes, Tiles(), reading)
    _run_divided(segment_stack_parts, job, stack, output, network, work)


SUBCOMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"generate": _generate, "auto": _auto, "propagate": _propagate, "track": _track, "tiles": _tiles, "stack": _stack}
)


def run_job(
    job: FileJob,
    inputs: Sequence[str | Path],
    output: Path,
    network: ModelOptions,
    files: Files,
    work: Work,
    *,
    labels: str | None = None,
) -> None:
    """Run a batch with a progress bar, and exit with a code that says how it ended."""
    from napari_sam2.batch.running import run_batch

    _silence_dask()
    with StopRequest("file") as stop, _Bar(show=not work.quiet) as bar:
        report = run_batch(
            job,
            inputs,
            output,
            pattern=files.pattern,
            labels=labels,
            suffix=files.suffix,
            on_progress=bar,
            should_stop=stop.is_set,
            **_execution(network, work),
        )
    _print(report, "files", sum(record.outcome.objects for record in report.records if record.outcome is not None))
    say(f"wrote {output / 'report.csv'}")
    _exit(report)


def _run_divided(
    segment: Callable[..., BatchReport],
    job: AutoJob,
    image: Path,
    output: Path,
    network: ModelOptions,
    work: Work,
) -> None:
    """Segment one file in parts, with a progress bar, and exit with a code that says how it ended.

    Each position of a file that holds several is segmented by itself, unless an option says which one.
    """
    from napari_sam2.batch.inputs import labels_of_positions

    _silence_dask()
    places = labels_of_positions(image, output, axes=job.reading.axes, fixed=job.reading.fixed)
    if len(places) > 1:
        say(f"{image} has {len(places)} positions; each has its own labels, {places[0][1].name} and so on", err=True)
        places = _without_finished(places)
    has_failed = False
    with StopRequest("part") as stop:
        for position, place in places:
            with _Bar("part", show=not work.quiet) as bar:
                report = segment(
                    _at_position(job, position),
                    image,
                    place,
                    on_progress=bar,
                    should_stop=stop.is_set,
                    **_execution(network, work),
                )
            last = report.records[-1].outcome if report.records and report.is_complete else None  # of the labels
            _print(report, "parts", None if last is None else last.objects)
            if report.is_complete:
                say(f"wrote {place}")
            if report.num_not_run:  # it was stopped
                _exit(report)
            has_failed = has_failed or report.num_failed > 0
    if has_failed:
        raise typer.Exit(SOME_FAILED)


def _at_position(job: AutoJob, position: int | None) -> AutoJob:
    """The job for one position of a file that holds several; the same job without one."""
    if position is None:
        return job
    reading = job.reading
    return replace(job, reading=replace(reading, fixed=(*reading.fixed, ("P", position))))


def _execution(network: ModelOptions, work: Work) -> dict[str, Any]:
    """The model and the workers, as the arguments of `run_batch`, `segment_tiles` and `segment_stack_parts`."""
    return {
        "model": network.model,
        "device": network.device,
        "dtype": network.dtype,
        "workers": work.workers,
        "scheduler": work.scheduler,
        "cluster": work.cluster,
        "retries": work.retries,
        "restart": work.restart,
    }


def _without_finished(places: Sequence[tuple[int | None, Path]]) -> list[tuple[int | None, Path]]:
    """Positions that have no labels yet, so that a command that was stopped can be run again; all if all have."""
    missing = [(position, place) for position, place in places if not is_there(place)]
    if not missing:
        return list(places)
    for position, place in places:
        if (position, place) not in missing:
            say(f"{place} already exists; position {position} is skipped", err=True)
    return missing


def _silence_dask() -> None:
    """Leave lost workers and retries to the report; raises DeviceError if Dask is not installed."""
    require_dask("a batch")  # sets its own levels of logging
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _exit(report: BatchReport) -> None:
    """Exit with a code, unless everything is done."""
    if report.num_not_run:
        say("interrupted: run the same command again to resume", err=True)
        raise typer.Exit(INTERRUPTED)
    if report.num_failed:
        raise typer.Exit(SOME_FAILED)


class _Bar:
    """A progress bar over files or parts, with the time left; the address of the dashboard once."""

    def __init__(self, unit: str = "file", *, show: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit=unit, desc=f"{unit}s", disable=None if show else True)
        self._show = show
        self._dashboard = self._notice = ""
        self._shown_at = 0.0

    def __call__(self, progress: BatchProgress) -> None:
        if progress.dashboard and not self._dashboard:
            self._dashboard = progress.dashboard
            if self._show:
                say(f"dashboard: {progress.dashboard}", err=True)
        if progress.notice != self._notice:
            self._notice = progress.notice
            if self._notice:
                say(f"\n{self._notice}", err=True)
        self._bar.total, self._bar.initial = progress.total, progress.before
        self._bar.n = progress.done + progress.failed
        is_waiting = not progress.workers and self._bar.n < progress.total
        waiting = "waiting for workers" if is_waiting else ""
        failed = f"{progress.failed} failed" if progress.failed else ""
        now = time.monotonic()
        is_shown = self._bar.n == progress.total or now - self._shown_at >= _REFRESH_S
        state = ", ".join(filter(None, (counted(progress.workers, "worker"), failed, waiting)))
        self._bar.set_postfix_str(state, refresh=is_shown)
        if is_shown:
            self._shown_at = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _print(report: BatchReport, unit: str, objects: int | None) -> None:
    now = report.num_done - report.num_before
    counts = (
        len(report.pieces),
        report.num_before,
        now,
        report.num_failed,
        report.num_not_run,
        "-" if objects is None else objects,
    )
    print_table(
        (unit, "done before", "done now", "failed", "not run", "objects", "time (s)"),
        [(*map(str, counts), f"{report.seconds:.1f}")],
    )
    if report.others:
        more = len(report.others) - 1
        named = f"{report.others[0]} (and {counted(more, 'more file')})" if more else report.others[0]
        say(
            f"warning: {named}: in the folder from an earlier run, and of no input of this one; nothing is deleted, "
            "report.csv lists all such files",
            err=True,
        )
    for number, (text, paths) in enumerate(report.warnings.items()):
        if number == _MAX_LISTED:
            say(f"... and {len(report.warnings) - number} more warnings", err=True)
            break
        count = len(paths) - 1
        others = f" (and {count} more file{'s' * (count > 1)})" if count and unit == "files" else ""
        named = "" if unit == "parts" or str(paths[0]) in text else f"{paths[0]}: "
        say(f"warning: {named}{text}{others}", err=True)
    for number, (path, reason) in enumerate(report.failed.items()):
        if number == _MAX_LISTED:
            say(f"... and {report.num_failed - number} more failed {unit}, see report.csv", err=True)
            break
        say(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", err=True)
