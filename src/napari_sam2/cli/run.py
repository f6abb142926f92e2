"""``napari-sam2 run``: replay a saved session without a viewer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import DeviceError, FrameError, OutputError
from napari_sam2._messages import Message, message_of
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._on_files import OtherFiles
from napari_sam2.cli._option_groups import ComputeOptions, with_option_groups
from napari_sam2.cli._options import DeviceOption, DtypeOption, LabelsOption, OverwriteOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, choose_labels, tracks_outputs
from napari_sam2.cli._server_notices import notices_shown
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say

if TYPE_CHECKING:
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["run"]


@with_option_groups
def run(
    session: Annotated[Path, typer.Argument(metavar="SESSION", help="A session file (.sam2).")],
    output: LabelsOption = None,
    stack: Annotated[
        Path | None, typer.Option("--stack", metavar="PATH", help="The image; default: the one named in the session.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME|FILE", help="Model; default: the session's own.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    *,
    on_files: OtherFiles,
    elsewhere: ComputeOptions,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="CSV", help="Write score and area of each object and frame.")
    ] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(
            "--tracks",
            metavar="PATH",
            help="Write tracks with parents: .geff, .xml (TrackMate), .csv, or a Cell Tracking Challenge folder.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Replay a session: its prompts, corrections and propagations, in their order.

    With the same image, model and kind of device the labels equal those of the session. Ctrl-C stops after the current
    frame and writes the labels made so far.

    \b
    A session that was saved in the viewer:
      napari-sam2 run cells.sam2 -o labels.ome.tif
    \b
    The prompts of the session at the same places of each stack of a folder:
      napari-sam2 run cells.sam2 --on stacks -o labels
    \b
    The same clicks with another model, on an image that is in another folder now:
      napari-sam2 run cells.sam2 --stack moved/cells.tif --model sam2.1_hiera_small -o labels.tif
    """
    if on_files.on:
        if output is None or stack is not None or scores is not None or tracks is not None or overwrite:
            raise OutputError(
                "with --on, -o names the folder of the results; leave out --stack, --scores, --tracks and --overwrite: "
                "--restart processes finished files again"
            )
        on_files.run(session, output, model, device, dtype, elsewhere, quiet=quiet)
        return
    on_files.check_left_out()
    inputs = [session] if stack is None else [session, stack]
    others = [(scores, ".csv"), *tracks_outputs(tracks)]
    if output is not None:  # mistakes that can be found without opening the session are reported first
        check_outputs([session], output, others, overwrite=overwrite)
    from napari_sam2.labels.files import reserved_labels
    from napari_sam2.session.results.export import export_labels, export_scores_csv, export_tracks
    from napari_sam2.session.results.replay import open_for_replay

    given = None if stack is None else str(stack)
    compute = elsewhere.address(device)
    replayed, operations = open_for_replay(session, given, model=model, device=device, dtype=dtype, compute=compute)
    with replayed, StopRequest() as stop, notices_shown(replayed):
        image = getattr(replayed.frames, "path", None)
        labels_path = choose_labels(output, image)
        if replayed.stack_path is not None:  # the image that the session names
            inputs = [*inputs, Path(replayed.stack_path)]
        check_outputs(inputs, labels_path, others, image=image, overwrite=overwrite)
        with reserved_labels(labels_path):
            outcome = _replay(replayed, operations, stop, show_progress=not quiet)
            written = [export_labels(replayed, labels_path, overwrite=overwrite)]
            if scores is not None:
                written.append(export_scores_csv(replayed, scores, overwrite=overwrite))
            if tracks is not None:
                written.append(export_tracks(replayed, tracks, overwrite=overwrite))
            _report(replayed, outcome, len(operations))
    for path in written:
        say(f"wrote {path}")
    if outcome.error is not None:
        raise type(outcome.error)(Message(message_of(outcome.error), f"; the labels made so far are in {labels_path}"))
    if outcome.is_interrupted:
        say(f"interrupted: {outcome.num_done} of {len(operations)} calls were replayed completely", err=True)
        raise typer.Exit(INTERRUPTED)


@dataclass
class _Outcome:
    """How far a session was replayed.

    Attributes
    ----------
    num_done : int
        Calls replayed completely.
    seconds : float
        Time it took.
    is_interrupted : bool
        Whether Ctrl-C ended it.
    error : FrameError, DeviceError or None
        What ended it otherwise.
    """

    num_done: int = 0
    seconds: float = 0.0
    is_interrupted: bool = False
    error: FrameError | DeviceError | None = None


def _replay(session: Session, operations: Sequence[Operation], stop: StopRequest, *, show_progress: bool) -> _Outcome:
    from tqdm import tqdm

    from napari_sam2.session.results.replay import replay

    outcome, begin = _Outcome(), time.perf_counter()
    with tqdm(total=len(operations), desc="calls", unit="call", disable=None if show_progress else True) as bar:

        def before_each(position: int, operation: Operation) -> bool:
            if stop.is_set():
                return False
            outcome.num_done = position
            bar.update(position - bar.n)
            bar.set_description(operation.method)
            return True

        def on_propagation(handle: PropagationHandle) -> None:
            bar.set_postfix_str(f"frame {handle.num_done}/{handle.num_steps}")
            if stop.is_set():
                handle.cancel()

        session.propagation_changed.connect(on_propagation)
        try:
            replay(operations, session, before_each=before_each)
            if not stop.is_set():
                outcome.num_done = len(operations)
        except (FrameError, DeviceError) as error:
            outcome.error = error
        bar.update(outcome.num_done - bar.n)
    outcome.is_interrupted = outcome.num_done < len(operations) and outcome.error is None
    outcome.seconds = time.perf_counter() - begin
    return outcome


def _report(session: Session, outcome: _Outcome, num_operations: int) -> None:
    from napari_sam2.session.state.tables import object_table

    table = object_table(session.store)
    rows = [
        (
            str(row["object"]),
            str(row["name"]),
            f"{row['frames']}/{session.geometry.num_planes}",
            f"{row['first']}-{row['last']}" if row["frames"] else "-",
            f"{row['mean_iou']:.3f}" if row["mean_iou"] == row["mean_iou"] else "-",
            f"{row['mean_area']:.1f}" if row["frames"] else "-",
        )
        for row in table.to_dict("records")
    ]
    print_table(("object", "name", "frames", "from-to", "mean score", "mean area (px)"), rows)
    unusable = [str(plane) for plane, found in session.conditions.items() if not found.is_usable]
    if unusable:
        say("blank, saturated or unreadable frames, skipped: " + ", ".join(unusable))
    moved = {plane: found.shift_yx for plane, found in session.conditions.items() if any(found.shift_yx)}
    shifts = [f"{plane} ({y:+d}, {x:+d})" for plane, (y, x) in moved.items()]
    if shifts:
        say("the stage moved, in pixels (y, x), before frame " + ", ".join(shifts))
    say(
        f"\n{outcome.num_done} of {num_operations} calls replayed in {outcome.seconds:.1f} s "
        f"({session.model_state.place})"
    )
