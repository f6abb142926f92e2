"""``napari-sam2 auto``: everything in a stack, movie or large picture, without a click."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from napari_sam2._errors import PlanesLeftOutWarning, PromptError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import (
    BorderOption,
    MaxAreaOption,
    MinAreaOption,
    MinScoreOption,
    StageBar,
    TableOption,
    parse_area,
    print_links,
    print_report,
    save_links,
    save_report,
)
from napari_sam2.cli._options import (
    AxesOption,
    AxisOption,
    ChannelsOption,
    ContrastOption,
    DeviceOption,
    DtypeOption,
    FixOption,
    GammaOption,
    LevelOption,
    ModelOption,
    OverwriteOption,
    QuietOption,
    open_input,
)
from napari_sam2.cli._outputs import check_outputs
from napari_sam2.cli._stopping import StopRequest

if TYPE_CHECKING:
    from napari_sam2.frames import Frames
    from napari_sam2.inference.automatic.automatic_labels import KeepRecords
    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.labels.files import LabelWriter

__all__ = ["auto"]


def auto(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, folder of images, or one picture.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LABELS", help="Labels to write: .tif, .ome.tif or .zarr.")
    ],
    every: Annotated[
        int | None,
        typer.Option(
            "--every", metavar="N", help="Search on every N-th frame [default: 3 to 10, as far as most objects reach]."
        ),
    ] = None,
    key_frame: Annotated[
        list[int] | None, typer.Option("--key-frame", metavar="N", help="Search on this frame instead. Repeatable.")
    ] = None,
    spacing: Annotated[
        float | None, typer.Option("--spacing", metavar="PIXELS", help="Tries a point every so many pixels.")
    ] = None,
    iou: Annotated[
        float | None, typer.Option("--iou", metavar="0..1", help="Lowest predicted IoU of a mask that is kept.")
    ] = None,
    stability: Annotated[
        float | None, typer.Option("--stability", metavar="0..1", help="Lowest stability of a mask that is kept.")
    ] = None,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    exclude_border: BorderOption = False,
    min_score: MinScoreOption = 0.0,
    piled: Annotated[
        bool | None,
        typer.Option(
            "--piled/--not-piled",
            help="Part objects that lie on each other where their contrast has a valley, and trim them to their own "
            "light [default: in z-stacks whose objects are light on dark].",
        ),
    ] = None,
    tile: Annotated[
        int, typer.Option("--tile", metavar="PIXELS", help="A picture larger than this is searched in tiles.")
    ] = 768,
    overlap: Annotated[
        int, typer.Option("--overlap", metavar="PIXELS", help="Overlap of tiles: the size of a usual object.")
    ] = 128,
    model: ModelOption = "sam2_micro",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    axes: AxesOption = None,
    axis: AxisOption = None,
    fix: FixOption = None,
    level: LevelOption = None,
    channels: ChannelsOption = None,
    contrast: ContrastOption = "auto",
    gamma: GammaOption = 1.0,
    overwrite: OverwriteOption = False,
    table: TableOption = None,
    quiet: QuietOption = False,
) -> None:
    """Segment everything in a stack or movie: found on key frames, followed both ways, joined where they are the same.

    A single picture is searched in tiles, without seams. Volumes over time (TZYX) are segmented through z at each time
    point and linked through time, unless --axis or --fix chooses one stack of them.
    Objects are numbered 1, 2, ... Ctrl-C keeps what is finished.

    \b
    A z-stack; a movie, searched on every twentieth frame; a slide scan:
      napari-sam2 auto cells.ome.tif -o labels.ome.tif --csv objects.csv
      napari-sam2 auto movie.tif --axes TYX --every 20 --min-area 20um2 -o labels.tif
      napari-sam2 auto slide.ome.zarr -o labels.ome.zarr --tile 1024
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frames = open_input(
            stack, axes=axes, axis=axis, fix=fix, level=level, channels=channels, contrast=contrast, gamma=gamma
        )
    num_times = _num_times(frames) if axis is None and not fix else 1
    for warning in said:
        if num_times == 1 or not issubclass(warning.category, PlanesLeftOutWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    smallest, largest = (parse_area(f"--{name}-area", a, frames) for name, a in (("min", min_area), ("max", max_area)))
    if table is not None and len(frames) == 1:
        raise PromptError("--csv tells where objects go in a stack; for one picture use 'napari-sam2 generate --csv'")
    check_outputs([stack], output, [(table, ".csv")], overwrite=overwrite)
    _check_numbers(frames, every, key_frame, tile, overlap)

    from napari_sam2.labels.files import LabelWriter

    num_frames, *hw = frames.shape
    with LabelWriter(
        output,
        (num_times * num_frames, hw[0], hw[1]),
        axes="TZYX" if num_times > 1 else frames.output_axes,
        voxel_size=frames.voxel_size,
        overwrite=overwrite,
        num_slices=num_frames if num_times > 1 else None,
    ) as writer:
        from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
        from napari_sam2.weights.loading import load_model

        finder = SAM2AutomaticMaskGenerator(
            load_model(model, device=device, dtype=dtype),
            point_spacing_px=spacing,
            pred_iou_thresh=iou,
            stability_score_thresh=stability,
            output_mode="coco_rle",
        )
        shapes = _Shapes(smallest or 0.0, math.inf if largest is None else largest, exclude_border)
        search = _Search(every, key_frame, min_score, piled)
        with StopRequest() as stop, StageBar(show=not quiet) as bar:
            if len(frames) == 1:
                is_complete = _picture(frames, writer, finder, shapes, (tile, overlap), stop, bar)
            elif num_times > 1:
                from napari_sam2.inference.stacks.volumes import open_time_points

                def at_time(time: int) -> Frames:
                    return open_input(
                        stack, axes=axes, axis="Z", fix=[f"T={time}"], level=level, channels=channels,
                        contrast=contrast, gamma=gamma,
                    )  # fmt: skip

                open_at = open_time_points(frames, at_time if contrast == "auto" else None)
                is_complete = _volumes(frames, open_at, writer, num_times, finder, shapes, search, stop, bar, table)
            else:
                is_complete = _stack(frames, writer, finder, shapes, search, stop, bar, table)
        written = writer.close(complete=is_complete)
    if written is not None:
        typer.echo(f"wrote {written}")
    if not is_complete:
        kept = "nothing was finished or written" if written is None else f"what was finished is in {output}"
        typer.echo(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


class _Shapes(NamedTuple):
    """Objects that are kept: areas in pixels, and whether not those at the border."""

    min_area: float
    max_area: float
    exclude_border: bool

    def keep(self) -> KeepRecords:
        from napari_sam2.inference.automatic.record_filters import filter_records

        return partial(
            filter_records, min_area=self.min_area, max_area=self.max_area, exclude_border=self.exclude_border
        )


class _Search(NamedTuple):
    """Where a stack is searched, and what counts as seen."""

    every: int | None
    key_frames: list[int] | None
    min_score: float
    split_stacked: bool | None


def _num_times(frames: Frames) -> int:
    """Time points of volumes over time; 1 for anything else."""
    if frames.frame_axis != "Z" or "T" not in frames.axes:
        return 1
    return frames.source_shape[frames.axes.index("T")]


def _check_numbers(frames: Frames, every: int | None, key_frames: list[int] | None, tile: int, overlap: int) -> None:
    from napari_sam2.frames.regions import tile_grid
    from napari_sam2.inference.stacks.key_frames import choose_key_frames

    if len(frames) == 1:
        tile_grid(frames.shape[1:], tile, overlap)
    else:
        choose_key_frames(len(frames), every, key_frames)


def _picture(
    frames: Frames,
    writer: LabelWriter,
    finder: SAM2AutomaticMaskGenerator,
    shapes: _Shapes,
    tiles: tuple[int, int],
    stop: StopRequest,
    bar: StageBar,
) -> bool:
    from napari_sam2.frames.regions import FrameRegions
    from napari_sam2.inference.automatic.tiling import segment_tiled

    parts = writer.parts()
    labels = segment_tiled(
        FrameRegions(frames),
        tile=tiles[0],
        overlap=tiles[1],
        finder=finder,
        min_area_px=shapes.min_area,
        max_area_px=shapes.max_area,
        exclude_border=shapes.exclude_border,
        out=parts,
        on_progress=bar,
        should_stop=stop.is_set,
    )
    if parts is not None:
        typer.echo(_how_many(parts.finish()))
        return not stop.is_set()
    if labels.any() or not stop.is_set():
        writer.write(0, labels)
    typer.echo(_how_many(int(labels.max())))
    return not stop.is_set()


def _volumes(
    frames: Frames,
    open_at: Callable[[int], Frames],
    writer: LabelWriter,
    num_times: int,
    finder: SAM2AutomaticMaskGenerator,
    shapes: _Shapes,
    search: _Search,
    stop: StopRequest,
    bar: StageBar,
    table: Path | None,
) -> bool:
    """Volumes over time: through z at each time point, linked through time."""
    from napari_sam2.inference.stacks.volumes import segment_time_points
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.labels.protocols import stack_as_volumes

    report = segment_time_points(
        open_at,
        stack_as_volumes(writer, writer.shape, len(frames)),
        (num_times, *frames.shape),
        every=search.every,
        key_frames=search.key_frames,
        finder=finder,
        segmenter=SAM2VideoSegmenter(finder.predictor.model),
        keep=shapes.keep(),
        min_score=search.min_score,
        split_stacked=search.split_stacked,
        on_progress=bar,
        should_stop=stop.is_set,
    )
    print_links(report)
    if table is not None and (report.tracks or report.is_complete):
        save_links(table, report)
        typer.echo(f"wrote {table}")
    return report.is_complete


def _stack(
    frames: Frames,
    writer: LabelWriter,
    finder: SAM2AutomaticMaskGenerator,
    shapes: _Shapes,
    search: _Search,
    stop: StopRequest,
    bar: StageBar,
    table: Path | None,
) -> bool:
    from napari_sam2.inference.stacks.key_frame_search import segment_stack
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

    _, report = segment_stack(
        frames,
        every=search.every,
        key_frames=search.key_frames,
        finder=finder,
        segmenter=SAM2VideoSegmenter(finder.predictor.model),
        keep=shapes.keep(),
        min_score=search.min_score,
        split_stacked=search.split_stacked,
        out=writer,
        on_progress=bar,
        should_stop=stop.is_set,
    )
    if report.tracks:
        print_report(report)
    elif report.is_complete:
        typer.echo(_how_many(0))
    if table is not None and (report.tracks or report.is_complete):
        save_report(table, report)
        typer.echo(f"wrote {table}")
    return report.is_complete


def _how_many(num_objects: int) -> str:
    return f"{num_objects} objects" + ("" if num_objects else "; lower --iou or --stability, or try --spacing")
