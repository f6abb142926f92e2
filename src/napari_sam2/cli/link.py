"""``napari-sam2 link``: link objects that were segmented on each frame by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sam2._errors import FrameError
from napari_sam2._files import reserved
from napari_sam2._messages import counted
from napari_sam2.cli._options import OverwriteOption, RequiredLabelsOption
from napari_sam2.cli._outputs import check_outputs, tracks_outputs
from napari_sam2.cli._terminal import say

__all__ = ["link"]


def link(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels over time, (T, H, W) or (T, Z, H, W).")],
    output: RequiredLabelsOption,
    tracks: Annotated[
        Path | None,
        typer.Option(
            "--tracks",
            metavar="PATH",
            help="Write tracks with parents: .geff, .xml (TrackMate), .csv, or a Cell Tracking Challenge folder.",
        ),
    ] = None,
    max_distance: Annotated[
        float,
        typer.Option("--max-distance", min=0.01, help="Largest movement between two frames, in mean object diameters."),
    ] = 1.0,
    max_gap: Annotated[
        int, typer.Option("--max-gap", min=0, help="Number of frames in a row on which an object may be missing.")
    ] = 1,
    divisions: Annotated[bool, typer.Option("--divisions/--no-divisions", help="Objects may divide.")] = True,
    overwrite: OverwriteOption = False,
) -> None:
    """Link the objects of a segmentation over time: one number for each object, and parents of divisions.

    The masks stay as they are. Needs 'napari-sam2[tracks]'.

    \b
    Cells found by Cellpose, linked and written for TrackMate:
      napari-sam2 link cells_masks.tif -o linked.tif --tracks linked.xml
    """
    check_outputs([labels], output, tracks_outputs(tracks), overwrite=overwrite)
    from napari_sam2.labels.ctc_files import write_ctc
    from napari_sam2.labels.files import LabelWriter
    from napari_sam2.labels.reading import read_labels
    from napari_sam2.labels.time_linking import TimeLinkingSettings, link_frames
    from napari_sam2.labels.track_files import write_tracks

    image = read_labels(labels)
    if image.ndim not in (3, 4):
        raise FrameError(f"{labels} holds labels of shape {image.shape}; expected several time points")
    default = TimeLinkingSettings()
    settings = TimeLinkingSettings(max_distance, max_gap, default.max_division_distance if divisions else 0.0)
    with reserved(output):
        linked, found = link_frames(image, settings)
        axes = "TYX" if linked.ndim == 3 else "TZYX"
        with LabelWriter(output, linked.shape, axes=axes, overwrite=overwrite) as writer:
            for frame, plane in enumerate(linked.reshape(-1, *linked.shape[-2:])):
                writer.write(frame, plane)
    num_divisions = sum(len(each) > 1 for each in found.daughters().values())
    where = f"{counted(len(found.spans()), 'object')} on {counted(len(linked), 'frame')}"
    say(f"{where}, {counted(num_divisions, 'division')}")
    say(f"wrote {writer.path}")
    if tracks is not None:
        if tracks.suffix:
            say(f"wrote {write_tracks(tracks, found, overwrite=overwrite)}")
        else:
            say(f"wrote {write_ctc(tracks, linked, found, overwrite=overwrite)}")
