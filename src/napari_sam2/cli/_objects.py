"""Options, progress and reports of the commands that find or track many objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from napari_sam2._messages import counted
from napari_sam2.cli._outputs import save_table
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from napari_sam2.batch.options import FindOptions, KeepOptions
    from napari_sam2.inference.stacks.report import TrackingReport
    from napari_sam2.labels.volume_linking import TimelapseReport

__all__ = [
    "FinderOptions",
    "MinScoreOption",
    "ShapeOptions",
    "StageBar",
    "TableOption",
    "print_links",
    "print_report",
    "save_links",
    "save_report",
]

MinScoreOption = Annotated[
    float,
    typer.Option("--min-score", metavar="0..1", help="Treat tracked masks with a lower predicted IoU as absent."),
]
TableOption = Annotated[
    Path | None, typer.Option("--csv", metavar="CSV", help="Write where each object was found, tracked and lost.")
]

_COLUMNS = ("object", "first_frame", "last_frame", "frames", "tracked_frames", "mean_score", "found_on")
_LINK_COLUMNS = ("object", "first_time", "last_time", "times", "found_at")
_MAX_LISTED = 20


class StageBar:
    """A progress bar labelled with the stage; called with stage, steps done and number of steps."""

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


@dataclass(frozen=True)
class FinderOptions:
    """Options of the mask generator, named like its own; those not given have the values that suit the model."""

    point_spacing_px: Annotated[
        float | None, typer.Option("--spacing", metavar="PIXELS", help="Distance between the points of the grid.")
    ] = None
    pred_iou_thresh: Annotated[
        float | None, typer.Option("--iou", metavar="0..1", help="Lowest predicted IoU of the masks that are kept.")
    ] = None
    stability_score_thresh: Annotated[
        float | None,
        typer.Option("--stability", metavar="0..1", help="Lowest stability of the masks that are kept."),
    ] = None

    def given(self) -> dict[str, float]:
        """The options that were given, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def as_find_options(self) -> FindOptions:
        """The same as options of a job."""
        from napari_sam2.batch.options import FindOptions

        return FindOptions(**self.given())  # type: ignore[arg-type]  # the names are those of its fields


@dataclass(frozen=True)
class ShapeOptions:
    """Which objects are kept."""

    min_area: Annotated[
        str | None, typer.Option("--min-area", metavar="AREA", help="Smallest object, in pixels or as 5um2.")
    ] = None
    max_area: Annotated[
        str | None, typer.Option("--max-area", metavar="AREA", help="Largest object, in pixels or as 500um2.")
    ] = None
    exclude_border: Annotated[
        bool, typer.Option("--exclude-border", help="Leave out objects that touch the edge of the image.")
    ] = False

    def as_keep_options(self) -> KeepOptions:
        """The same as options of a job."""
        from napari_sam2.batch.options import KeepOptions

        return KeepOptions(self.min_area, self.max_area, self.exclude_border)


def print_report(report: TrackingReport, *, say: Callable[[str], object] = typer.echo) -> None:
    """Print the number of objects, and which of them were lost or found on one frame only."""
    merged = f", {counted(report.num_merged, 'duplicate')} merged" if report.num_merged else ""
    say(counted(len(report.tracks), "object") + merged)
    if report.lost:
        say("end before the last frame: " + _listed([f"{i} (frame {frame})" for i, frame in report.lost.items()]))
    if report.appeared:
        say("begin after the first frame: " + _listed([f"{i} (frame {frame})" for i, frame in report.appeared.items()]))
    if report.skipped:
        say("blank, saturated or unreadable frames, skipped: " + _listed([str(frame) for frame in report.skipped]))
    if report.not_found:
        say("found on one frame only: " + _listed([str(i) for i in report.not_found]))


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
    """Print the number of objects in volumes over time, and which of them end or begin in between."""
    say(counted(len(report.tracks), "object"))
    for what, times in (("end before the last time point", report.lost), ("begin after the first", report.appeared)):
        if times:
            say(f"{what}: " + _listed([f"{i} (time {time})" for i, time in times.items()]))


def save_links(path: Path, report: TimelapseReport) -> None:
    """Write one line per object of volumes over time."""
    rows = [(t.object_id, t.times[0], t.times[-1], len(t.times), " ".join(map(str, t.times))) for t in report.tracks]
    save_table(path, _LINK_COLUMNS, rows)


def _listed(texts: list[str]) -> str:
    shown = ", ".join(texts[:_MAX_LISTED])
    return shown + (f", ... ({len(texts)} in all)" if len(texts) > _MAX_LISTED else "")
