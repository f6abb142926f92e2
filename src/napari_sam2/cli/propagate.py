"""``napari-sam2 propagate``: track labelled objects through a stack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sam2._errors import DeviceError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._objects import MinScoreOption, StageBar, TableOption, print_report, save_report
from napari_sam2.cli._option_groups import ComputeOptions, InputOptions, PromptedModelOptions, with_option_groups
from napari_sam2.cli._options import FullResolutionOption, KeepApartOption, LabelsOption, OverwriteOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, choose_labels, finished_frames_kept, open_labels, say_refined
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say

__all__ = ["propagate"]


@with_option_groups
def propagate(
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, or a folder of images.")],
    seeds: Annotated[
        Path,
        typer.Option(
            "--labels", metavar="SEEDS", help="Labels of some frames, or of all: label image, ROIs, _seg.npy."
        ),
    ],
    output: LabelsOption = None,
    *,
    frame: Annotated[
        list[int] | None,
        typer.Option(
            "--frame", metavar="N", help="Frame that the labels belong to; one for each plane in SEEDS. Repeatable."
        ),
    ] = None,
    min_area: Annotated[int, typer.Option("--min-area", metavar="PIXELS", help="Ignore labels with fewer pixels.")] = 1,
    min_score: MinScoreOption = 0.0,
    give_up: Annotated[
        int | None,
        typer.Option(
            "--give-up",
            metavar="N",
            help="Stop tracking an object in a direction after N consecutive empty frames; saves time.",
        ),
    ] = None,
    network: PromptedModelOptions,
    elsewhere: ComputeOptions,
    reading: InputOptions,
    keep_apart: KeepApartOption = False,
    full_resolution: FullResolutionOption = None,
    overwrite: OverwriteOption = False,
    table: TableOption = None,
    quiet: QuietOption = False,
) -> None:
    """Track labelled objects through a stack, starting from labels made by Cellpose or StarDist, or drawn by hand.

    Objects keep their numbers and are tracked both ways from each frame on which they are labelled; between two such
    frames, from the closer one. Labelled frames stay as they are. Ctrl-C keeps the finished frames.

    \b
    Labels of slice 10; labels of slices 10 and 30 in one file:
      napari-sam2 propagate cells.ome.tif --labels cellpose.tif --frame 10 -o tracked.ome.tif
      napari-sam2 propagate cells.ome.tif --labels two.tif --frame 10 --frame 30 -o tracked.zarr --csv objects.csv
    """
    frames = reading.open(stack)
    labels_path = choose_labels(output, frames.path)
    check_outputs([stack, seeds], labels_path, [(table, ".csv")], image=frames.path, overwrite=overwrite)

    from napari_sam2.inference.stacks.seed_planes import read_seeds
    from napari_sam2.labels.reading import read_label_file, without_single_planes

    found = read_label_file(seeds, shape=frames.shape, fixed=frames.fixed)
    found.warn(str(seeds))
    if found.renumbered:
        print_table(("label", "object"), [(str(old), str(new)) for old, new in found.renumbered.items()])
    labels = without_single_planes(found.labels, frames.shape[0])
    compute = elsewhere.address(network.device)
    if compute is not None and min_score:
        raise DeviceError("--min-score cannot be combined with --compute; leave one of them out")
    given = read_seeds(labels, frame, frames.shape, min_area_px=min_area)  # reports mistakes before the model is loaded
    with open_labels(labels_path, frames, network, full_resolution=full_resolution, overwrite=overwrite) as writer:
        if compute is not None:
            from napari_sam2.cli._tracking_elsewhere import propagate_elsewhere

            with StopRequest() as stop, finished_frames_kept(writer):
                report = propagate_elsewhere(
                    writer,
                    frames,
                    given,
                    network,
                    compute,
                    give_up=give_up,
                    keep_apart=keep_apart,
                    stop=stop,
                    show_progress=not quiet,
                )
        else:
            from napari_sam2.inference.stacks.label_seeds import segment_seeds
            from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

            segmenter = SAM2VideoSegmenter(network.load(), keep_apart=keep_apart)
            with StopRequest() as stop, StageBar(show=not quiet) as bar, finished_frames_kept(writer):
                _, report = segment_seeds(
                    frames,
                    labels,
                    frame,
                    segmenter=segmenter,
                    min_area_px=min_area,
                    min_score=min_score,
                    give_up_after=give_up,
                    out=writer,
                    on_progress=bar,
                    should_stop=stop.is_set,
                )
        written = writer.close(complete=report.is_complete)
        say_refined(writer)
    if written is not None:
        print_report(report)
        if table is not None:
            save_report(table, report)
        for path in (written, table):
            if path is not None:
                say(f"wrote {path}")
    if not report.is_complete:
        kept = (
            "no frame was finished, nothing was written" if written is None else f"finished frames are in {labels_path}"
        )
        say(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)
