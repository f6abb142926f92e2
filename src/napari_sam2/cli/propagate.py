"""``napari-sam2 propagate``: labels in, tracked labels out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import MinScoreOption, StageBar, TableOption, print_report, save_report
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
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["propagate"]


def propagate(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, or a folder of images.")],
    seeds: Annotated[
        Path,
        typer.Option("--labels", metavar="SEEDS", help="Label image of some frames, or of all: TIFF, zarr or PNG."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Labels to write: .tif, .ome.tif or .zarr.")
    ],
    frame: Annotated[
        list[int] | None,
        typer.Option("--frame", metavar="N", help="Frame of the labels; once for each of their planes. Repeatable."),
    ] = None,
    min_area: Annotated[int, typer.Option("--min-area", metavar="PIXELS", help="Smaller labels are no seeds.")] = 1,
    min_score: MinScoreOption = 0.0,
    give_up: Annotated[
        int | None,
        typer.Option("--give-up", metavar="N", help="Seek an object no further after N frames without it: saves time."),
    ] = None,
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
    """Follow labelled objects through a stack: labels of Cellpose, StarDist or your own hand in, tracked labels out.

    Each label of the seeds is an object, which keeps its number and is followed both ways from each frame on which
    it is drawn. Seeds with as many planes as the stack need no --frame. Ctrl-C keeps the finished frames.

    \b
    Labels of slice 10; labels of slices 10 and 30 in one file:
      napari-sam2 propagate cells.ome.tif --labels cellpose.tif --frame 10 -o tracked.ome.tif
      napari-sam2 propagate cells.ome.tif --labels two.tif --frame 10 --frame 30 -o tracked.zarr --csv objects.csv
    """
    frames = open_input(
        stack, axes=axes, axis=axis, fix=fix, level=level, channels=channels, contrast=contrast, gamma=gamma
    )
    check_outputs([stack, seeds], output, [(table, ".csv")], overwrite=overwrite)

    from napari_sam2.inference.stacks.seed_planes import read_seeds
    from napari_sam2.labels.files import LabelWriter, read_labels

    labels = _as_planes(read_labels(seeds), frames.shape[0])
    read_seeds(labels, frame, frames.shape, min_area_px=min_area)  # what is wrong with them shows before all else
    with LabelWriter(
        output, frames.shape, axes=frames.output_axes, voxel_size=frames.voxel_size, overwrite=overwrite
    ) as writer:
        from napari_sam2.inference.stacks.label_seeds import segment_seeds
        from napari_sam2.weights.loading import load_model

        network = load_model(model, device=device, dtype=dtype)
        with StopRequest() as stop, StageBar(show=not quiet) as bar:
            _, report = segment_seeds(
                frames,
                labels,
                frame,
                model=network,
                min_area_px=min_area,
                min_score=min_score,
                give_up_after=give_up,
                out=writer,
                on_progress=bar,
                should_stop=stop.is_set,
            )
        written = writer.close(complete=report.is_complete)
    if written is not None:
        print_report(report)
        if table is not None:
            save_report(table, report)
        for path in (written, table):
            if path is not None:
                typer.echo(f"wrote {path}")
    if not report.is_complete:
        kept = "no frame was finished, nothing was written" if written is None else f"finished frames are in {output}"
        typer.echo(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def _as_planes(labels: NDArray[np.int32], num_frames: int) -> NDArray[np.int32]:
    """A single plane that a file wraps in axes of length one, as (H, W)."""
    if labels.ndim > 2 and num_frames > 1 and max(labels.shape[:-2]) == 1:
        return labels.reshape(labels.shape[-2:])
    return labels
