"""``napari-sam2 auto``: everything in a stack, movie or large picture, without a click."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import PromptError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import MinScoreOption, StageBar, TableOption, parse_area, print_report, save_report
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
    from napari_sam2.inference.automatic_labels import KeepRecords
    from napari_sam2.inference.frames import Frames
    from napari_sam2.inference.label_files import LabelWriter
    from napari_sam2.inference.mask_generator import SAM2AutomaticMaskGenerator

__all__ = ["auto"]


def auto(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, folder of images, or one picture.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LABELS", help="Labels to write: .tif, .ome.tif or .zarr.")
    ],
    every: Annotated[
        int, typer.Option("--every", metavar="N", help="Everything is searched on every N-th frame.")
    ] = 10,
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
    min_area: Annotated[
        str | None, typer.Option("--min-area", metavar="AREA", help="Smallest mask, in pixels or as 5um2.")
    ] = None,
    max_area: Annotated[
        str | None, typer.Option("--max-area", metavar="AREA", help="Largest mask, in pixels or as 500um2.")
    ] = None,
    min_score: MinScoreOption = 0.0,
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

    A single picture is searched in tiles, without seams. Objects are numbered 1, 2, ... Ctrl-C keeps what is finished.

    \b
    A z-stack, searched on every fifth slice; a movie; a slide scan:
      napari-sam2 auto cells.ome.tif --every 5 -o labels.ome.tif --csv objects.csv
      napari-sam2 auto movie.tif --axes TYX --min-area 20um2 -o labels.tif
      napari-sam2 auto slide.ome.zarr -o labels.ome.zarr --tile 1024
    """
    frames = open_input(
        stack, axes=axes, axis=axis, fix=fix, level=level, channels=channels, contrast=contrast, gamma=gamma
    )
    smallest, largest = (parse_area(f"--{name}-area", a, frames) for name, a in (("min", min_area), ("max", max_area)))
    if table is not None and len(frames) == 1:
        raise PromptError("--csv tells where objects go in a stack; for one picture use 'napari-sam2 generate --csv'")
    check_outputs(stack, output, [(table, ".csv")], overwrite=overwrite)
    _check_numbers(frames, every, key_frame, tile, overlap)

    from napari_sam2.inference.label_files import LabelWriter

    with LabelWriter(
        output, frames.shape, axes=frames.output_axes, voxel_size=frames.voxel_size, overwrite=overwrite
    ) as writer:
        from napari_sam2.checkpoints import load_model
        from napari_sam2.inference.mask_generator import SAM2AutomaticMaskGenerator
        from napari_sam2.inference.record_filters import filter_records

        finder = SAM2AutomaticMaskGenerator(
            load_model(model, device=device, dtype=dtype),
            point_spacing_px=spacing,
            pred_iou_thresh=iou,
            stability_score_thresh=stability,
            output_mode="coco_rle",
        )
        keep = partial(
            filter_records,
            min_area=0.0 if smallest is None else smallest,
            max_area=math.inf if largest is None else largest,
        )
        with StopRequest() as stop, StageBar(show=not quiet) as bar:
            if len(frames) == 1:
                is_complete = _picture(frames, writer, finder, keep, (tile, overlap), stop, bar)
            else:
                is_complete = _stack(frames, writer, finder, keep, (every, key_frame, min_score), stop, bar, table)
        written = writer.close(complete=is_complete)
    if written is not None:
        typer.echo(f"wrote {written}")
    if not is_complete:
        kept = "nothing was finished or written" if written is None else f"what was finished is in {output}"
        typer.echo(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def _check_numbers(frames: Frames, every: int, key_frames: list[int] | None, tile: int, overlap: int) -> None:
    from napari_sam2.inference.automatic_stack import choose_key_frames
    from napari_sam2.inference.tile_grid import tile_grid

    if len(frames) == 1:
        tile_grid(frames.shape[1:], tile, overlap)
    else:
        choose_key_frames(len(frames), every, key_frames)


def _picture(
    frames: Frames,
    writer: LabelWriter,
    finder: SAM2AutomaticMaskGenerator,
    keep: KeepRecords,
    tiles: tuple[int, int],
    stop: StopRequest,
    bar: StageBar,
) -> bool:
    from napari_sam2.inference.tile_grid import FrameRegions
    from napari_sam2.inference.tiling import segment_tiled

    labels = segment_tiled(
        FrameRegions(frames),
        tile=tiles[0],
        overlap=tiles[1],
        finder=finder,
        keep=keep,
        on_progress=bar,
        should_stop=stop.is_set,
    )
    if labels.any() or not stop.is_set():
        writer.write(0, labels)
    typer.echo(_how_many(int(labels.max())))
    return not stop.is_set()


def _stack(
    frames: Frames,
    writer: LabelWriter,
    finder: SAM2AutomaticMaskGenerator,
    keep: KeepRecords,
    search: tuple[int, list[int] | None, float],
    stop: StopRequest,
    bar: StageBar,
    table: Path | None,
) -> bool:
    from napari_sam2.inference.automatic_stack import segment_stack
    from napari_sam2.inference.video_segmenter import SAM2VideoSegmenter

    every, key_frames, min_score = search
    _, report = segment_stack(
        frames,
        every=every,
        key_frames=key_frames,
        finder=finder,
        segmenter=SAM2VideoSegmenter(finder.predictor.model),
        keep=keep,
        min_score=min_score,
        out=writer,
        on_progress=bar,
        should_stop=stop.is_set,
    )
    if report.tracks:
        print_report(report)
    else:
        typer.echo(_how_many(0))
    if table is not None and (report.tracks or report.is_complete):
        save_report(table, report)
        typer.echo(f"wrote {table}")
    return report.is_complete


def _how_many(num_objects: int) -> str:
    return f"{num_objects} objects" + ("" if num_objects else "; lower --iou or --stability, or try --spacing")
