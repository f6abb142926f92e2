"""What ``auto`` and ``propagate`` share: progress, areas with a unit, and how the objects are reported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from napari_sam2._errors import FrameError
from napari_sam2.cli._outputs import save_table

if TYPE_CHECKING:
    from napari_sam2.frames import Frames
    from napari_sam2.inference.stacks.report import TrackingReport
    from napari_sam2.labels.volume_linking import TimelapseReport

__all__ = [
    "BorderOption",
    "MaxAreaOption",
    "MinAreaOption",
    "MinScoreOption",
    "StageBar",
    "TableOption",
    "parse_area",
    "print_links",
    "print_report",
    "save_links",
    "save_report",
]

MinAreaOption = Annotated[
    str | None, typer.Option("--min-area", metavar="AREA", help="Smallest object, in pixels or as 5um2.")
]
MaxAreaOption = Annotated[
    str | None, typer.Option("--max-area", metavar="AREA", help="Largest object, in pixels or as 500um2.")
]
BorderOption = Annotated[
    bool, typer.Option("--exclude-border", help="Leave out objects that touch a side of the image.")
]
MinScoreOption = Annotated[
    float, typer.Option("--min-score", metavar="0..1", help="A tracked mask with a lower score counts as not seen.")
]
TableOption = Annotated[
    Path | None, typer.Option("--csv", metavar="CSV", help="Write where each object was seen, found and lost.")
]

_COLUMNS = ("object", "first_frame", "last_frame", "frames", "tracked_frames", "mean_score", "found_on")
_LINK_COLUMNS = ("object", "first_time", "last_time", "times", "found_at")
_MAX_LISTED = 20
_AREA = re.compile(r"(?P<number>\d+\.?\d*|\.\d+)\s*((?P<unit>[a-zA-Zµμ]+)(\^?2|²))?")


class StageBar:
    """A progress bar whose name is the stage; called with stage, steps done and steps in all."""

    def __init__(self, *, show: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit="step", disable=None if show else True)
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._bar.reset(total=total)
            self._bar.set_description(stage)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def parse_area(option: str, text: str | None, frames: Frames) -> float | None:
    """An area in pixels, from ``30`` (pixels) or ``5um2`` (needs the pixel size of the file).

    Raises
    ------
    FrameError
        If it cannot be understood, or the file does not say how large a pixel is.
    """
    if text is None:
        return None
    from napari_sam2.frames.spacing import convert, unit_name

    match = _AREA.fullmatch(text.strip())
    if match is None:
        raise FrameError(f"{option} {text} was given; allowed are pixels, such as 30, or an area, such as 5um2")
    value, unit = float(match["number"]), match["unit"]
    if not unit:
        return value
    sizes = [(frames.voxel_size or {}).get(axis) for axis in "YX"]
    sides = [None if size is None else convert(size, unit_name(unit)) for size in sizes]
    if sides[0] is None or sides[1] is None:
        raise FrameError(f"{option} {text} was given, but the file gives no pixel size in that unit; give pixels")
    return value / (sides[0] * sides[1])


def print_report(report: TrackingReport, *, say: Callable[[str], object] = typer.echo) -> None:
    """Print how many objects there are, and which of them were lost or never followed."""
    say(f"{len(report.tracks)} objects" + (f", {report.num_merged} duplicates joined" if report.num_merged else ""))
    if report.lost:
        say("end before the last frame: " + _listed([f"{i} (frame {frame})" for i, frame in report.lost.items()]))
    if report.appeared:
        say("begin after the first frame: " + _listed([f"{i} (frame {frame})" for i, frame in report.appeared.items()]))
    if report.not_found:
        say("found on no further frame: " + _listed([str(i) for i in report.not_found]))


def save_report(path: Path, report: TrackingReport) -> None:
    """Write one line per object."""
    rows = [
        (
            track.object_id,
            "" if track.first_frame is None else track.first_frame,
            "" if track.last_frame is None else track.last_frame,
            track.num_frames,
            track.num_tracked,
            "" if math.isnan(track.mean_score) else f"{track.mean_score:.4f}",
            " ".join(str(frame) for frame in track.seed_frames),
        )
        for track in report.tracks
    ]
    save_table(path, _COLUMNS, rows)


def print_links(report: TimelapseReport) -> None:
    """Print how many objects there are in volumes over time, and which of them end or begin."""
    typer.echo(f"{len(report.tracks)} objects")
    for what, times in (("end before the last time point", report.lost), ("begin after the first", report.appeared)):
        if times:
            typer.echo(f"{what}: " + _listed([f"{i} (time {time})" for i, time in times.items()]))


def save_links(path: Path, report: TimelapseReport) -> None:
    """Write one line per object of volumes over time."""
    rows = [(t.object_id, t.times[0], t.times[-1], len(t.times), " ".join(map(str, t.times))) for t in report.tracks]
    save_table(path, _LINK_COLUMNS, rows)


def _listed(texts: list[str]) -> str:
    shown = ", ".join(texts[:_MAX_LISTED])
    return shown + (f", ... ({len(texts)} in all)" if len(texts) > _MAX_LISTED else "")
