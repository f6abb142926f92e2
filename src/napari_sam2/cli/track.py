"""``napari-sam2 track``: track objects through a stack or movie from clicks, boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import DeviceError, FrameError, PromptError
from napari_sam2._messages import counted
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._option_groups import ComputeOptions, InputOptions, PromptedModelOptions, with_option_groups
from napari_sam2.cli._options import (
    FullResolutionOption,
    KeepApartOption,
    LabelsOption,
    OverwriteOption,
    PreviewOption,
    QuietOption,
)
from napari_sam2.cli._outputs import (
    check_outputs,
    choose_labels,
    finished_frames_kept,
    open_labels,
    save_picture,
    save_table,
    say_refined,
)
from napari_sam2.cli._prompts import PromptCommand, ordered_prompts
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import say
from napari_sam2.inference.prompts.prompt_text import resolve_prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.cli._outputs import AnyWriter
    from napari_sam2.cli._tracking import Tracked
    from napari_sam2.frames import Frames
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
    from napari_sam2.session.engines.compute_address import ComputeAddress

__all__ = ["COMMAND_CLASS", "track"]

COMMAND_CLASS = PromptCommand

_SCORES = ("object", "frame", "predicted_iou", "object_score", "area", "is_prompted")


@dataclass(frozen=True)
class _Prompts:
    """Prompts; their order on the command line matters, see `ordered_prompts`."""

    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="Z,Y,X", help="A click on an object. Repeatable.")
    ] = None
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="Z,Y0,X0,Y1,X1", help="A box around an object on one frame. Repeatable."),
    ] = None
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", metavar="Z,Y,X", help="A click on background: not part of the object before it."),
    ] = None
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="[Z:]FILE", help="Labels of the stack, or of frame Z: each label an object."),
    ] = None
    object_id: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="ID", help="The prompts after it belong to object ID, up to the next one."),
    ] = None


@with_option_groups
def track(
    ctx: typer.Context,
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="TIFF, OME-Zarr, or a folder of images.")],
    output: LabelsOption = None,
    *,
    prompting: _Prompts,
    network: PromptedModelOptions,
    elsewhere: ComputeOptions,
    reading: InputOptions,
    frame_range: Annotated[
        str | None, typer.Option("--range", metavar="A,B", help="Track only on the frames A to B, both included.")
    ] = None,
    along: Annotated[
        str,
        typer.Option(
            "--along",
            metavar="AXES",
            help="Track a z-stack along Z, Y or X, or along several of them (ZYX), combined by vote; needs --point.",
        ),
    ] = "Z",
    axes_vote: Annotated[
        bool, typer.Option("--axes-vote", help="Track along Z, Y and X, combined by vote: the same as --along ZYX.")
    ] = False,
    through_time: Annotated[
        bool,
        typer.Option(
            "--through-time",
            help="Track objects of volumes over time (TZYX) through z and from each time point to the next. Prompts "
            "then begin with T: --point T,Z,Y,X, --mask T,Z:FILE.",
        ),
    ] = False,
    session: Annotated[
        Path | None,
        typer.Option(
            "--session",
            metavar="SAM2",
            help="With --through-time: keep prompts and masks in this session file. If it exists, the run continues "
            "from it.",
        ),
    ] = None,
    keep_apart: KeepApartOption = False,
    full_resolution: FullResolutionOption = None,
    overwrite: OverwriteOption = False,
    preview: PreviewOption = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="CSV", help="Write score and area of each object and frame.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Track objects through a z-stack or movie, both ways from each frame on which they were prompted.

    Coordinates are in pixels counted from 0, slice or frame first: Z,Y,X (T,Y,X for movies). Without --object,
    each --point and each --box starts a new object, numbered 1, 2, ... in this order; a --negative belongs to the
    object before it. The labels have the axes and the voxel size of the stack. Ctrl-C keeps the finished frames.

    \b
    One click each on two cells:
      napari-sam2 track cells.ome.tif --point 10,84,120 --point 10,40,51 -o labels.ome.tif
    \b
    Object 7 from a box on slice 10, corrected on slice 25; more objects from labels of slice 12; a preview:
      napari-sam2 track cells.ome.zarr --object 7 --box 10,180,30,215,60 --point 25,190,44
        --negative 25,180,60 --mask 12:drawn.png -o labels.ome.zarr --preview sheet.png
    \b
    Time point 3 of a TZCYX file, its second channel, with another contrast:
      napari-sam2 track all.tif --axis Z --fix T=3 --channels 1 --contrast 100,4000 --point 8,70,90 -o t3.tif
    \b
    Prompts on a coarser level, labels at full resolution in the image itself:
      napari-sam2 track slide.ome.zarr --level 3 --point 0,840,1200 -o slide.ome.zarr/labels/cells
    \b
    A neurite of an isotropic volume, along all three axes:
      napari-sam2 track em.ome.zarr --point 20,110,87 --axes-vote -o neurite.ome.tif
    \b
    A cell of a TZYX file at all slices and time points, from a click at time point 3; the run can be resumed:
      napari-sam2 track embryo.ome.tif --through-time --point 3,20,110,87 --session cell.sam2 -o cell.ome.tif
    """
    del prompting  # read in its order by ordered_prompts
    if axes_vote:
        if along.upper() not in ("Z", "ZYX"):
            raise PromptError(f"--along {along} was given with --axes-vote, which tracks along Z, Y and X; give one")
        along = "ZYX"
    if through_time:
        from napari_sam2.cli._through_time import check_options, track_through_time

        check_options(
            {
                "--range": frame_range is not None,
                f"--along {along}": along.upper() != "Z",
                "--compute": elsewhere.compute is not None,
                "--full-resolution": full_resolution is True,
            }
        )
        elsewhere.address(network.device)
        track_through_time(
            stack,
            output,
            ordered_prompts(ctx),
            network=network,
            reading=reading,
            keep_apart=keep_apart,
            session_path=session,
            preview=preview,
            scores=scores,
            overwrite=overwrite,
            show_progress=not quiet,
        )
        return
    if session is not None:
        raise PromptError("--session requires --through-time; give both, or leave it out")
    frames = reading.open(stack)
    limits = _limits(frame_range, len(frames))
    prompts = resolve_prompts(ordered_prompts(ctx), frames.shape, f"{frames.frame_axis or 'Z'}YX")
    labels_path = choose_labels(output, frames.path)
    check_outputs([stack], labels_path, [(preview, ".png"), (scores, ".csv")], image=frames.path, overwrite=overwrite)
    job = _Job(stack, frames, prompts, limits, labels_path, network, elsewhere.address(network.device), keep_apart)
    if along.upper() == "Z":
        _track_by_frame(
            job,
            full_resolution=full_resolution,
            preview=preview,
            scores=scores,
            overwrite=overwrite,
            show_progress=not quiet,
        )
        return
    _check_along(
        along,
        {
            "--range": frame_range is not None,
            "--preview": preview is not None,
            "--scores": scores is not None,
            "--keep-apart": keep_apart,
            "--full-resolution": full_resolution is True,
        },
    )
    _track_along(job, along, overwrite=overwrite)


@dataclass(frozen=True, eq=False)
class _Job:
    """What to track, and with which model."""

    stack: Path
    frames: Frames
    prompts: Sequence[ObjectPrompt]
    limits: range
    labels_path: Path
    network: PromptedModelOptions
    compute: ComputeAddress | None
    keep_apart: bool


def _track_along(job: _Job, axes: str, *, overwrite: bool) -> None:
    """Track along axes other than the first one, and write the labels."""
    if job.compute is not None:
        raise DeviceError(f"--along {axes} runs on this computer only; leave out --compute")
    from napari_sam2.cli._along_axes import write_along_axes

    path = write_along_axes(job.labels_path, job.frames, job.prompts, axes, job.network, overwrite=overwrite)
    say(f"wrote {path}")


def _track_by_frame(
    job: _Job,
    *,
    full_resolution: bool | None,
    preview: Path | None,
    scores: Path | None,
    overwrite: bool,
    show_progress: bool,
) -> None:
    """Track from frame to frame; write the labels, and the picture and scores that are wanted."""
    sheet = None
    # before the model is loaded, so that a folder that cannot be written to is reported early
    with open_labels(
        job.labels_path, job.frames, job.network, full_resolution=full_resolution, overwrite=overwrite
    ) as writer:
        with StopRequest() as stop, finished_frames_kept(writer):
            tracked = _tracked(job, writer, stop=stop, show_progress=show_progress)
        if preview is not None and tracked.num_steps:
            sheet = _draw(job, writer, tracked)
        written = [writer.close(complete=tracked.is_complete)]
        say_refined(writer)
    if sheet is not None and preview is not None:
        save_picture(preview, sheet)
        written.append(preview)
    if scores is not None and tracked.num_steps:
        _save_scores(scores, tracked)
        written.append(scores)
    object_ids = [given.object_id for given in job.prompts]
    _report(tracked, object_ids, len(job.limits), [path for path in written if path is not None])
    if not tracked.is_complete:
        kept = "no frame was finished, nothing was written"
        if written[0]:
            kept = f"the finished frames are in {job.labels_path}"
        say(f"interrupted: {kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def _tracked(job: _Job, writer: AnyWriter, *, stop: StopRequest, show_progress: bool) -> Tracked:
    """Track on this computer or on a server."""
    given = writer, job.frames, job.prompts, job.limits
    if job.compute is not None:
        from napari_sam2.cli._tracking_elsewhere import track_elsewhere
        from napari_sam2.session.state.settings import SessionSettings

        settings = SessionSettings(keep_apart=job.keep_apart)
        return track_elsewhere(
            *given, job.network, job.compute, stop=stop, show_progress=show_progress, settings=settings
        )
    from napari_sam2.cli._tracking import track_into
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

    segmenter = SAM2VideoSegmenter(job.network.load(), keep_apart=job.keep_apart)
    segmenter.set_video(job.frames)
    return track_into(writer, segmenter, job.prompts, job.limits, stop=stop, show_progress=show_progress)


def _draw(job: _Job, writer: AnyWriter, tracked: Tracked) -> NDArray[np.uint8]:
    """A picture of the tracked frames."""
    from napari_sam2.cli._tracking import draw_tracked

    axis = (job.frames.frame_axis or "").lower()
    return draw_tracked(
        job.frames,
        writer,
        job.prompts,
        tracked.frames_found,
        title=job.stack.expanduser().resolve().name,
        caption=lambda frame: f"{axis} {frame}".strip(),
    )


def _check_along(along: str, given: Mapping[str, bool]) -> None:
    """Raise PromptError for options that tracking along other axes does not have."""
    for option, is_given in given.items():
        if is_given:
            raise PromptError(
                f"{option} cannot be combined with --along {along}, which writes labels only; leave one out"
            )


def _limits(text: str | None, num_frames: int) -> range:
    """The frames to track on, from ``A,B`` with both ends included."""
    if text is None:
        return range(num_frames)
    first, _, last = text.partition(",")
    if not (first.strip().isdecimal() and last.strip().isdecimal()) or not int(first) <= int(last) < num_frames:
        raise FrameError(
            f"--range {text} was given; expected two frames FIRST,LAST from 0 to {num_frames - 1}, both included"
        )
    return range(int(first), int(last) + 1)


def _save_scores(path: Path, tracked: Tracked) -> None:
    rows = [(s.object_id, s.frame, f"{s.predicted_iou:.4f}", f"{s.object_score:.4f}", s.area, int(s.is_prompted))
            for s in sorted(tracked.scores)]  # fmt: skip
    save_table(path, _SCORES, rows)


def _report(tracked: Tracked, object_ids: Sequence[int], num_frames: int, written: list[Path]) -> None:
    from napari_sam2.cli._tracking import print_summary

    if not tracked.num_steps:
        return
    print_summary(tracked, list(dict.fromkeys(object_ids)), num_frames)
    say(
        f"\n{counted(tracked.num_steps, 'frame')} tracked in {tracked.seconds:.1f} s "
        f"({tracked.num_steps / tracked.seconds:.1f} frames/s, {tracked.device})"
    )
    if tracked.skipped:
        say("blank, saturated or unreadable frames, skipped: " + ", ".join(map(str, sorted(tracked.skipped))))
    for path in written:
        say(f"wrote {path}")
