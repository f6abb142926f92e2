"""Objects of volumes over time tracked through z and time, for ``track --through-time``."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import typer

from napari_sam2._errors import FrameError, OutputError, PlanesLeftOutWarning, PromptError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._outputs import check_outputs, choose_labels, finished_frames_kept, save_picture, save_table
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say
from napari_sam2.cli._tracking import draw_tracked, follow_propagation
from napari_sam2.frames.volume_series import VolumeSeries
from napari_sam2.inference.prompts.prompt_text import resolve_prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import Prompt, Zoom
    from napari_sam2.cli._option_groups import InputOptions, PromptedModelOptions
    from napari_sam2.frames import Frames
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
    from napari_sam2.labels.files import LabelWriter
    from napari_sam2.session.session import Session

__all__ = ["check_options", "track_through_time"]


@dataclass(frozen=True)
class _Volumes:
    """Opened volumes over time.

    Attributes
    ----------
    first : Frames
        Those of the first time point.
    open_at : callable
        Opens a time point; all have one contrast.
    num_times : int
        Number of time points.
    """

    first: Frames
    open_at: Callable[[int], Frames]
    num_times: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, Z, H, W)."""
        return self.num_times, *self.first.shape


def check_options(given: Mapping[str, bool]) -> None:
    """Raise PromptError for options that tracking through time does not have.

    Parameters
    ----------
    given : mapping of str to bool
        Option -> whether it was given.
    """
    for option, is_given in given.items():
        if is_given:
            raise PromptError(f"{option} cannot be combined with --through-time; leave one of them out")


def _open_volumes(path: Path, reading: InputOptions) -> _Volumes:
    """Open all time points of a file.

    Parameters
    ----------
    path : Path
        The image.
    reading : InputOptions
        How it is read.

    Raises
    ------
    PromptError
        If --axis, or --fix along T or Z, was given.
    FrameError
        If the file cannot be read, or is no series of volumes.
    """
    from napari_sam2.batch.jobs import num_time_points
    from napari_sam2.cli._options import parse_fixed
    from napari_sam2.inference.stacks.volumes import open_time_points

    if reading.axis is not None:
        raise PromptError("--axis cannot be combined with --through-time, which tracks along z and t; leave it out")
    for axis in ("T", "Z"):
        if axis in parse_fixed(reading.fix or ()):
            raise PromptError(f"--fix {axis}=... cannot be combined with --through-time, which reads all of them")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = reading.open(path)
    num_times = num_time_points(first)
    if num_times < 2 or len(first) < 2:
        sizes = " x ".join(map(str, first.source_shape))
        raise FrameError(
            f"--through-time needs volumes over time; {path} has the axes {first.axes} ({sizes}): give a file with "
            "several time points and slices, and its axes with --axes if the file does not name them"
        )
    for warning in caught:
        if not issubclass(warning.category, PlanesLeftOutWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def open_at(point: int) -> Frames:
        return replace(reading, axis="Z", fix=[*(reading.fix or ()), f"T={point}"]).open(path)

    return _Volumes(first, open_time_points(first, open_at if reading.contrast == "auto" else None), num_times)


def _is_session(path: Path | None) -> bool:
    """Whether there is a session to continue.

    Raises
    ------
    OutputError
        If a session cannot be kept under this name.
    """
    from napari_sam2._files import check_folder, check_writable, expand
    from napari_sam2.session.files.database import is_session_file

    if path is None:
        return False
    place = expand(path)
    if place.suffix.lower() != ".sam2":
        raise OutputError(f"--session {path} was given; its name must end in .sam2")
    check_folder(place)
    if place.exists() and not is_session_file(place):
        raise OutputError(f"--session {path} is not a session file; give another name")
    check_writable(place)
    return place.exists()


def track_through_time(
    path: Path,
    output: Path | None,
    given: Sequence[tuple[str, str]],
    *,
    network: PromptedModelOptions,
    reading: InputOptions,
    keep_apart: bool,
    session_path: Path | None,
    preview: Path | None,
    scores: Path | None,
    overwrite: bool,
    show_progress: bool,
) -> None:
    """Prompt and track objects of volumes over time, and write labels, scores and a picture.

    Parameters
    ----------
    path : Path
        The image.
    output : Path or None
        As given with ``-o``.
    given : sequence of (str, str)
        Prompt options and their values, in order.
    network, reading
        The model, and how the image is read.
    keep_apart : bool
        As for ``SessionSettings``.
    session_path : Path or None
        Where prompts and masks are kept; the run continues from there if the file exists.
    preview, scores : Path or None
        Further outputs.
    overwrite : bool
        Replace existing outputs.
    show_progress : bool
        A bar on stderr, if that is a terminal.

    Raises
    ------
    PromptError
        If options contradict each other, or a prompt cannot be understood.
    FrameError
        If the file cannot be read, or is no series of volumes.
    OutputError
        If an output exists or cannot be written.
    typer.Exit
        After an interruption.
    """
    volumes = _open_volumes(path, reading)
    continues = _is_session(session_path)
    prompts: list[ObjectPrompt] = []
    if given or not continues:
        prompts = resolve_prompts(given, volumes.shape, "TZYX")
    image = volumes.first.path
    labels_path = choose_labels(output, image)
    check_outputs([path], labels_path, [(preview, ".png"), (scores, ".csv")], image=image, overwrite=overwrite)

    from napari_sam2.labels.files import LabelWriter

    sheet = None
    with (
        LabelWriter.for_frames(labels_path, volumes.first, num_times=volumes.num_times, overwrite=overwrite) as writer,
        StopRequest("plane") as stop,
    ):
        series = VolumeSeries(volumes.open_at, volumes.num_times)
        with _open_session(series, network, keep_apart=keep_apart, path=session_path) as session:
            with finished_frames_kept(writer):
                _track(session, writer, prompts, stop, show_progress=show_progress)
            if session_path is not None:
                with finished_frames_kept(writer, (OutputError,)):
                    session.save(session_path)
        has_masks = bool(session.store.masks)
        if preview is not None and has_masks:
            sheet = _draw(series, writer, prompts, session, title=path.expanduser().resolve().name)
        written = [writer.close(complete=not stop.is_set())]
    if sheet is not None and preview is not None:
        save_picture(preview, sheet)
        written.append(preview)
    if scores is not None and has_masks:
        _write_scores(scores, session)
        written.append(scores)
    for each in written:
        if each is not None:
            say(f"wrote {each}")
    if stop.is_set():
        kept = f"the finished planes are in {labels_path}" if written[0] else "nothing was finished or written"
        again = "" if session_path is None else f"; run the command again with --overwrite to continue {session_path}"
        say(f"interrupted: {kept}{again}", err=True)
        raise typer.Exit(INTERRUPTED)


def _track(
    session: Session, writer: LabelWriter, prompts: Sequence[ObjectPrompt], stop: StopRequest, *, show_progress: bool
) -> None:
    """Prompt and track, and write the labels that there are at the end, also after an interruption or an error."""
    from tqdm import tqdm

    begin = time.perf_counter()
    with tqdm(total=len(prompts), desc="prompts", unit="plane", disable=None if show_progress else True) as bar:
        try:
            for each in prompts:
                if stop.is_set():
                    break
                _set_prompt(session, each)
                bar.update()
            if not stop.is_set():
                follow_propagation(session, session.propagate_through_time(block=False), bar, stop)
        finally:
            for plane in sorted({plane for _, plane in session.store.masks}):
                writer.write(plane, session.store.plane_labels(plane))
    _print_summary(session)
    place = f" ({session.model_state.place})" if session.model_state.place else ""
    say(f"\n{time.perf_counter() - begin:.1f} s{place}")


def _open_session(
    series: VolumeSeries, network: PromptedModelOptions, *, keep_apart: bool, path: Path | None
) -> Session:
    from napari_sam2._files import expand
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.settings import SessionSettings

    settings = SessionSettings(
        keep_apart=keep_apart, device=network.device, dtype=network.dtype, zoom=cast("Zoom", network.zoom)
    )
    place = None if path is None else expand(path)
    if place is not None and place.exists():
        session = Session.load(place, series, model=network.model, settings=settings)
    else:
        session = Session(series, model=network.model, settings=settings)
    if place is not None:
        session.autosave_path = place
    return session


def _set_prompt(session: Session, given: ObjectPrompt) -> None:
    """Set a prompt, unless the session has the same one."""
    entry = session.store.prompts.get((given.object_id, given.frame))
    if entry is None or entry.answer is None or not _is_same(entry.prompt, given.prompt):
        session.set_prompt(given.frame, given.prompt, object_id=given.object_id)


def _is_same(first: Prompt, second: Prompt) -> bool:
    pairs: list[tuple[NDArray[Any] | None, NDArray[Any] | None]] = [
        (first.points, second.points),
        (first.labels, second.labels),
        (first.box, second.box),
        (first.mask, second.mask),
    ]
    return all(a is b if a is None or b is None else np.array_equal(a, b) for a, b in pairs)


def _draw(
    series: VolumeSeries, writer: LabelWriter, prompts: Sequence[ObjectPrompt], session: Session, *, title: str
) -> NDArray[np.uint8]:
    def caption(plane: int) -> str:
        point, part = series.geometry.index(plane)
        return f"t {point}, z {part}"

    found = {plane for (_, plane), mask in session.store.masks.items() if mask.area}
    return draw_tracked(series, writer, prompts, found, title=title, caption=caption)


def _write_scores(path: Path, session: Session) -> None:
    """Write score and area of each object on each plane as CSV; raises OutputError."""
    rows = [
        (row.object, row.axis_0, row.frame, f"{row.iou:.4f}", f"{row.object_score:.4f}", row.area,
         int(row.kind in ("prompted", "painted")))
        for row in session.scores.itertuples()
    ]  # fmt: skip
    save_table(path, ("object", "time", "slice", "predicted_iou", "object_score", "area", "is_prompted"), rows)


def _print_summary(session: Session) -> None:
    """Print one line per object: the time points that show it, its mean score, and its mean volume."""
    table, num_times = session.scores, session.geometry.num_clips
    shown = table[table["area"] > 0]
    rows = []
    for item in session.objects:
        found = shown[shown["object"] == item.object_id]
        times = sorted(set(found["axis_0"]))
        scores = found["iou"].dropna()
        rows.append(
            (
                str(item.object_id),
                f"{len(times)}/{num_times}",
                f"{times[0]}-{times[-1]}" if times else "-",
                f"{scores.mean():.3f}" if len(scores) else "-",
                f"{found['area'].sum() / len(times):.1f}" if times else "-",
            )
        )
    print_table(("object", "time points", "from-to", "mean score", "mean volume (voxels)"), rows)
    unusable = [
        str(session.geometry.index(plane)) for plane, found in session.conditions.items() if not found.is_usable
    ]
    if unusable:
        say("blank, saturated or unreadable planes (t, z), skipped: " + ", ".join(unusable))
