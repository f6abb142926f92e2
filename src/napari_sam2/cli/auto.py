"""``napari-sam2 auto``: everything in a stack, movie or large image, without a prompt."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import PlanesLeftOutWarning, PromptError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import (
    FinderOptions,
    MinScoreOption,
    ShapeLimits,
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
from napari_sam2.cli._outputs import check_outputs, choose_labels, finished_frames_kept
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from napari_sam2.frames import Frames
    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.labels.files import LabelWriter

__all__ = ["StackSearch", "Tiles", "auto"]


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
        list[int] | None, typer.Option("--key-frame", metavar="N", help="Detect on this frame instead. Repeatable.")
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


@dataclass(frozen=True)
class Tiles:
    """How a large image is divided."""

    tile: Annotated[
        int, typer.Option("--tile", metavar="PIXELS", help="Images larger than this are searched in tiles.")
    ] = 768
    overlap: Annotated[
        int, typer.Option("--overlap", metavar="PIXELS", help="Overlap of tiles: the size of a typical object.")
    ] = 128


@dataclass(frozen=True)
class _Job:
    """What the three kinds of input have in common."""

    finder: SAM2AutomaticMaskGenerator
    shapes: ShapeLimits
    search: StackSearch
    stop: StopRequest
    bar: StageBar
    table: Path | None


@with_option_groups
def auto(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, folder of images, or one image.")],
    output: LabelsOption = None,
    *,
    search: StackSearch,
    finding: FinderOptions,
    shapes: ShapeOptions,
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
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = reading.open(stack)
    num_times = _num_times(frames) if reading.axis is None and not reading.fix else 1
    for warning in caught:
        if num_times == 1 or not issubclass(warning.category, PlanesLeftOutWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    limits = shapes.limits(frames)
    if table is not None and len(frames) == 1:
        raise PromptError("--csv describes objects of a stack; for a single image use 'napari-sam2 generate --csv'")
    labels_path = choose_labels(output, frames.path)
    check_outputs([stack], labels_path, [(table, ".csv")], image=frames.path, overwrite=overwrite)
    _check_numbers(frames, search, tiles)

    from napari_sam2.labels.files import LabelWriter

    with LabelWriter.for_frames(labels_path, frames, num_times=num_times, overwrite=overwrite) as writer:
        finder = finding.generator(network.load())
        with StopRequest() as stop, StageBar(show=not quiet) as bar, finished_frames_kept(writer):
            job = _Job(finder, limits, search, stop, bar, table)
            if len(frames) == 1:
                is_complete = _image(frames, writer, job, tiles)
            elif num_times > 1:
                from napari_sam2.inference.stacks.volumes import open_time_points

                def at_time(time: int) -> Frames:
                    return replace(reading, axis="Z", fix=[f"T={time}"]).open(stack)

                open_at = open_time_points(frames, at_time if reading.contrast == "auto" else None)
                is_complete = _volumes(frames, open_at, writer, num_times, job)
            else:
                is_complete = _stack(frames, writer, job)
        written = writer.close(complete=is_complete)
    if written is not None:
        say(f"wrote {written}")
    if not is_complete:
        kept = "nothing was finished or written" if written is None else f"the finished part is in {labels_path}"
        say(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def _num_times(frames: Frames) -> int:
    """Time points of volumes over time; 1 for anything else."""
    if frames.frame_axis != "Z" or "T" not in frames.axes:
        return 1
    return frames.source_shape[frames.axes.index("T")]


def _check_numbers(frames: Frames, search: StackSearch, tiles: Tiles) -> None:
    from napari_sam2.frames.regions import tile_grid
    from napari_sam2.inference.stacks.key_frames import choose_key_frames

    if len(frames) == 1:
        tile_grid(frames.shape[1:], tiles.tile, tiles.overlap)
    else:
        choose_key_frames(len(frames), search.every, search.key_frame)


def _image(frames: Frames, writer: LabelWriter, job: _Job, tiles: Tiles) -> bool:
    from napari_sam2.frames.regions import FrameRegions
    from napari_sam2.inference.automatic.tiling import segment_tiled

    parts = writer.parts()
    labels = segment_tiled(
        FrameRegions(frames),
        tile=tiles.tile,
        overlap=tiles.overlap,
        finder=job.finder,
        min_area_px=job.shapes.min_area,
        max_area_px=job.shapes.max_area,
        exclude_border=job.shapes.exclude_border,
        out=parts,
        on_progress=job.bar,
        should_stop=job.stop.is_set,
    )
    if parts is not None:
        say(_how_many(parts.finish()))
        return not job.stop.is_set()
    if labels.any() or not job.stop.is_set():
        writer.write(0, labels)
    say(_how_many(int(labels.max())))
    return not job.stop.is_set()


def _volumes(frames: Frames, open_at: Callable[[int], Frames], writer: LabelWriter, num_times: int, job: _Job) -> bool:
    """Volumes over time: through z at each time point, linked through time."""
    from napari_sam2.inference.stacks.volumes import segment_time_points
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.labels.protocols import stack_as_volumes

    report = segment_time_points(
        open_at,
        stack_as_volumes(writer, writer.shape, len(frames)),
        (num_times, *frames.shape),
        every=job.search.every,
        key_frames=job.search.key_frame,
        finder=job.finder,
        segmenter=SAM2VideoSegmenter(job.finder.predictor.model),
        keep=job.shapes.keep,
        min_score=job.search.min_score,
        split_stacked=job.search.split_stacked,
        on_progress=job.bar,
        should_stop=job.stop.is_set,
    )
    print_links(report)
    if job.table is not None and (report.tracks or report.is_complete):
        save_links(job.table, report)
        say(f"wrote {job.table}")
    return report.is_complete


def _stack(frames: Frames, writer: LabelWriter, job: _Job) -> bool:
    from napari_sam2.inference.stacks.key_frame_search import segment_stack
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

    _, report = segment_stack(
        frames,
        every=job.search.every,
        key_frames=job.search.key_frame,
        finder=job.finder,
        segmenter=SAM2VideoSegmenter(job.finder.predictor.model),
        keep=job.shapes.keep,
        min_score=job.search.min_score,
        split_stacked=job.search.split_stacked,
        out=writer,
        on_progress=job.bar,
        should_stop=job.stop.is_set,
    )
    if report.tracks:
        print_report(report)
    elif report.is_complete:
        say(_how_many(0))
    if job.table is not None and (report.tracks or report.is_complete):
        save_report(job.table, report)
        say(f"wrote {job.table}")
    return report.is_complete


def _how_many(num_objects: int) -> str:
    return f"{num_objects} objects" + ("" if num_objects else "; lower --iou or --stability, or try --spacing")
