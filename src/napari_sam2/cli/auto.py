"""``napari-sam2 auto``: everything in a stack, movie or large image, without a prompt."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import PlanesLeftOutWarning, PromptError
from napari_sam2._messages import counted
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import (
    FinderOptions,
    MinScoreOption,
    ShapeOptions,
    StageBar,
    TableOption,
    print_links,
    print_report,
    save_links,
    save_report,
)
from napari_sam2.cli._option_groups import InputOptions, ModelOptions, with_option_groups
from napari_sam2.cli._options import LabelsOption, OverwriteOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, choose_labels, finished_frames_kept, tracks_outputs
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from napari_sam2.batch.jobs import AutoJob, AutoResult
    from napari_sam2.frames import Frames
    from napari_sam2.inference.automatic.automatic_labels import KeepRecords
    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.inference.stacks.dividing_cells import DividingCells
    from napari_sam2.labels.files import LabelWriter

__all__ = ["StackSearch", "Tiles", "auto", "auto_job"]


@dataclass(frozen=True)
class StackSearch:
    """Where a stack is searched, and how objects of different frames are joined."""

    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            metavar="N",
            help="Detect objects on every N-th frame [default: chosen from the typical object depth, 3 to 10].",
        ),
    ] = None
    key_frame: Annotated[
        list[int] | None,
        typer.Option("--key-frame", metavar="N", help="Detect objects on this frame only. Repeatable."),
    ] = None
    min_score: MinScoreOption = 0.0
    split_stacked: Annotated[
        bool | None,
        typer.Option(
            "--split-stacked/--keep-stacked",
            help="Split objects stacked in z at intensity minima, and trim out-of-focus light "
            "[default: in z-stacks with bright objects on a dark background].",
        ),
    ] = None

    def given(self) -> dict[str, bool]:
        """Option -> whether it was given."""
        return {
            "--every": self.every is not None,
            "--key-frame": bool(self.key_frame),
            "--min-score": self.min_score > 0,
            "--split-stacked": self.split_stacked is True,
            "--keep-stacked": self.split_stacked is False,
        }


@dataclass(frozen=True)
class Divisions:
    """Whether objects divide, and where their lineage is written."""

    divisions: Annotated[
        bool,
        typer.Option(
            "--divisions",
            help="In a movie of cells that divide: search every frame, and link the objects over time with divisions. "
            "Needs napari-sam2[tracks].",
        ),
    ] = False
    tracks: Annotated[
        Path | None,
        typer.Option(
            "--tracks",
            metavar="PATH",
            help="With --divisions, write tracks with parents: .geff, .xml (TrackMate), .csv, or a Cell Tracking "
            "Challenge folder.",
        ),
    ] = None


@dataclass(frozen=True)
class Tiles:
    """How a large image is divided."""

    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", metavar="PIXELS", help="Single images larger than this are searched in tiles [default: 768]."
        ),
    ] = None
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap", metavar="PIXELS", help="Overlap of tiles: the size of a typical object [default: 128]."
        ),
    ] = None


def auto_job(
    search: StackSearch, finding: FinderOptions, shapes: ShapeOptions, tiles: Tiles, reading: InputOptions
) -> AutoJob:
    """What is done with one file, or with each of many."""
    from napari_sam2.batch.jobs import AutoJob

    default = AutoJob()
    return AutoJob(
        finding=finding.as_find_options(),
        shapes=shapes.as_keep_options(),
        reading=reading.as_read_options(),
        every=search.every,
        key_frames=tuple(search.key_frame) if search.key_frame else None,
        min_score=search.min_score,
        split_stacked=search.split_stacked,
        tile=default.tile if tiles.tile is None else tiles.tile,
        overlap=default.overlap if tiles.overlap is None else tiles.overlap,
    )


@with_option_groups
def auto(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, folder of images, or one image.")],
    output: LabelsOption = None,
    *,
    search: StackSearch,
    finding: FinderOptions,
    shapes: ShapeOptions,
    dividing: Divisions,
    tiles: Tiles,
    network: ModelOptions,
    reading: InputOptions,
    overwrite: OverwriteOption = False,
    table: TableOption = None,
    quiet: QuietOption = False,
) -> None:
    """Segment everything in a stack or movie: detect objects on key frames, track them, merge matching tracks.

    A single image is searched in tiles, without seams. Volumes over time (TZYX) are segmented through z at each time
    point and linked through time, unless --axis or --fix chooses one stack of them.
    Objects are numbered 1, 2, ... Ctrl-C keeps the finished part.

    \b
    A z-stack; a movie, searched on every twentieth frame; a slide scan:
      napari-sam2 auto cells.ome.tif -o labels.ome.tif --csv objects.csv
      napari-sam2 auto movie.tif --axes TYX --every 20 --min-area 20um2 -o labels.tif
      napari-sam2 auto slide.ome.zarr -o labels.ome.zarr --tile 1024
    \b
    A movie of cells that divide, with their lineage for TrackMate:
      napari-sam2 auto movie.tif --axes TYX --divisions -o labels.tif --tracks lineage.xml
    """
    from napari_sam2.batch.jobs import num_time_points

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = reading.open(stack)
    num_times = num_time_points(frames) if reading.axis is None and not reading.fix else 1
    for warning in caught:
        if num_times == 1 or not issubclass(warning.category, PlanesLeftOutWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    _check_options(search, tiles, is_stack=num_times > 1 or len(frames) > 1)
    _check_divisions(dividing, search, table, is_movie=frames.frame_axis == "T" and len(frames) > 1)
    job = auto_job(search, finding, shapes, tiles, reading)
    job.shapes.limits(frames)  # reports mistakes before anything is written
    if table is not None and len(frames) == 1:
        raise PromptError("--csv describes objects of a stack; for a single image use 'napari-sam2 generate --csv'")
    labels_path = choose_labels(output, frames.path)
    others = [(table, ".csv"), *tracks_outputs(dividing.tracks)]
    check_outputs([stack], labels_path, others, image=frames.path, overwrite=overwrite)
    _check_numbers(frames, search, job)

    from napari_sam2.labels.files import LabelWriter

    def at_time(time: int) -> Frames:
        return replace(reading, axis="Z", fix=[f"T={time}"]).open(stack)

    with LabelWriter.for_frames(labels_path, frames, num_times=num_times, overwrite=overwrite) as writer:
        finder = job.finding.generator(network.load())
        if dividing.divisions:
            keep = job.shapes.limits(frames).keep
            lineage = _divisions_into(writer, frames, finder, keep, quiet=quiet)
            written = writer.close(complete=lineage.is_complete)  # first: what fails below takes no labels with it
            if dividing.tracks is not None:
                _save_tracks(dividing.tracks, lineage, overwrite=overwrite)
            _end(written, labels_path, is_complete=lineage.is_complete)
            return
        with StopRequest() as stop, StageBar(show=not quiet) as bar, finished_frames_kept(writer):
            found = job.segment(
                frames,
                at_time,
                writer,
                finder,
                num_times=num_times,
                on_progress=bar,
                should_stop=stop.is_set,
            )
        written = writer.close(complete=found.is_complete)
        _print(found, table)
    _end(written, labels_path, is_complete=found.is_complete)


def _end(written: Path | None, labels_path: Path, *, is_complete: bool) -> None:
    """Say what was written; leave with the exit code of interruptions if it is not complete."""
    if written is not None:
        say(f"wrote {written}")
    if not is_complete:
        kept = "nothing was finished or written" if written is None else f"the finished part is in {labels_path}"
        say(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def _divisions_into(
    writer: LabelWriter,
    frames: Frames,
    finder: SAM2AutomaticMaskGenerator,
    keep: KeepRecords,
    *,
    quiet: bool,
) -> DividingCells:
    """Segment a movie of cells that divide, and write labels."""
    from napari_sam2.inference.stacks.dividing_cells import segment_dividing_cells

    with StopRequest() as stop, StageBar(show=not quiet) as bar, finished_frames_kept(writer):
        found = segment_dividing_cells(frames, finder=finder, keep=keep, on_progress=bar, should_stop=stop.is_set)
        for frame, plane in enumerate(found.labels):
            if found.is_complete or plane.any():
                writer.write(frame, plane)
    num_divisions = sum(len(each) > 1 for each in found.tracks.daughters().values())
    say(f"{counted(len(found.tracks.spans()), 'object')}, {counted(num_divisions, 'division')}")
    return found


def _save_tracks(path: Path, found: DividingCells, *, overwrite: bool) -> None:
    from napari_sam2.labels.ctc_files import write_ctc
    from napari_sam2.labels.track_files import write_tracks

    if not len(found.tracks):
        say(f"{path} was not written: no objects were found", err=True)
    elif path.suffix:
        say(f"wrote {write_tracks(path, found.tracks, overwrite=overwrite)}")
    else:
        say(f"wrote {write_ctc(path, found.labels, found.tracks, overwrite=overwrite)}")


def _check_divisions(dividing: Divisions, search: StackSearch, table: Path | None, *, is_movie: bool) -> None:
    """Raise PromptError for options that do not fit ``--divisions``."""
    if not dividing.divisions:
        if dividing.tracks is not None:
            raise PromptError("--tracks requires --divisions; give both, or leave it out")
        return
    if not is_movie:
        raise PromptError("--divisions is for movies; if the frames are time points, say so with --axes TYX")
    for option, is_given in {**search.given(), "--csv": table is not None}.items():
        if is_given:
            raise PromptError(
                f"{option} cannot be combined with --divisions, which searches every frame; leave one out"
            )
    from napari_sam2.labels.time_linking import check_time_linking

    check_time_linking()


def _check_options(search: StackSearch, tiles: Tiles, *, is_stack: bool) -> None:
    """Raise PromptError for options that have no meaning for the file, or that contradict each other."""
    of_images = {"--tile": tiles.tile is not None, "--overlap": tiles.overlap is not None}
    for option, is_given in (of_images if is_stack else search.given()).items():
        if is_given:
            kinds = ("single images", "a stack") if is_stack else ("stacks and movies", "a single image")
            raise PromptError(f"{option} is for {kinds[0]}, and the file is {kinds[1]}; leave it out")
    if search.every is not None and search.key_frame:
        raise PromptError("--every and --key-frame were given; both choose the key frames: give one")


def _check_numbers(frames: Frames, search: StackSearch, job: AutoJob) -> None:
    from napari_sam2.frames.regions import tile_grid
    from napari_sam2.inference.stacks.key_frames import choose_key_frames

    if len(frames) == 1:
        tile_grid(frames.shape[1:], job.tile, job.overlap)
    else:
        choose_key_frames(len(frames), search.every, search.key_frame)


def _print(found: AutoResult, table: Path | None) -> None:
    """Print what was found, and write a row for each object, if requested."""
    from napari_sam2.labels.volume_linking import TimelapseReport

    report = found.report
    if isinstance(report, TimelapseReport):
        print_links(report)
    elif report is not None and report.tracks:
        print_report(report)
    elif found.is_complete or report is None:
        say(counted(found.num_objects, "object") + _advice(found.num_objects))
    if table is None or report is None or not (report.tracks or report.is_complete):
        return
    if isinstance(report, TimelapseReport):
        save_links(table, report)
    else:
        save_report(table, report)
    say(f"wrote {table}")


def _advice(num_objects: int) -> str:
    return "" if num_objects else "; lower --iou or --stability, or try --spacing"
