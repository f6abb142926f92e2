"""One stack, or volumes over time, in parts that are segmented by workers: key frames, or time points."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, PlanesLeftOutWarning
from napari_sam2._files import write_whole
from napari_sam2.batch.jobs import AutoJob, num_time_points
from napari_sam2.batch.lists import input_path
from napari_sam2.batch.pieces import Outcome, Piece, Source
from napari_sam2.batch.plane_files import PlaneFile, unreadable, write_planes
from napari_sam2.batch.report import BatchProgress, BatchReport
from napari_sam2.batch.running import LabelTarget, Stage, checked_execution, output_path, run_divided

if TYPE_CHECKING:
    from napari_sam2.frames import Frames
    from napari_sam2.inference.stacks.key_frame_search import KeyFrameTracks
    from napari_sam2.inference.stacks.seed_tracking import SeedTrackingSettings
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.network.sam2 import SAM2

__all__ = ["JoinJob", "KeyFrameJob", "LinkJob", "PartSource", "SpacingJob", "TimePointJob", "segment_stack_parts"]

_SPACING_NAME = "spacing.json"


@dataclass(frozen=True)
class PartSource(Source):
    """A part of a stack.

    Attributes
    ----------
    number : int
        Of the time point, or of the key frame among all key frames.
    every : int or None
        Distance of key frames, unless the job names them.
    folder : Path
        Where the results of parts are.
    """

    number: int = 0
    every: int | None = None
    folder: Path = Path()

    def keys(self, job: AutoJob, num_frames: int) -> list[int]:
        """All key frames of a stack."""
        from napari_sam2.inference.stacks.key_frames import choose_key_frames

        return choose_key_frames(num_frames, self.every, job.key_frames) or []


@dataclass(frozen=True)
class _PartJob:
    """What is done with a part.

    Attributes
    ----------
    auto : AutoJob
        How objects are found; the contrast is that of the whole file.
    """

    auto: AutoJob

    def check(self, sources: Sequence[Source]) -> None:
        """Do nothing: parts are planned, not given by users."""

    def _opened(self, source: Source, model: SAM2) -> tuple[Frames, SAM2VideoSegmenter]:
        """The stack, and what tracks in it."""
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

        frames = self.auto.reading.open(source)
        segmenter = SAM2VideoSegmenter(model)
        segmenter.set_video(frames)
        return frames, segmenter


@dataclass(frozen=True)
class SpacingJob(_PartJob):
    """The distance of key frames, measured on a stack or on its first time point."""

    command: ClassVar[str] = "spacing"

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Detect and track the objects of one frame."""
        from napari_sam2.inference.stacks.key_frames import measure_spacing

        frames, segmenter = self._opened(source, model)
        every = measure_spacing(
            frames,
            self.auto.finding.generator(model),
            segmenter,
            _tracking(self.auto),
            keep=self.auto.shapes.limits(frames).keep,
            split_stacked=self.auto.split_stacked,
        )
        write_whole(output, lambda part: part.write_text(json.dumps({"every": every}), encoding="utf-8"))
        return Outcome(0, len(frames))


@dataclass(frozen=True)
class TimePointJob(_PartJob):
    """Everything in the volume of one time point, before it is linked to the others."""

    command: ClassVar[str] = "time point"

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Segment one volume."""
        from napari_sam2.inference.stacks.key_frame_search import segment_stack
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
        from napari_sam2.labels.window import LabelWindow

        assert isinstance(source, PartSource)
        frames = replace(self.auto.reading, frame_axis="Z", fixed=(("T", source.number),)).open(source)
        whole = range(len(frames))
        with LabelWindow(whole, frames.shape[1:]) as labels:
            found = segment_stack(
                frames,
                every=source.every,
                key_frames=self.auto.key_frames,
                finder=self.auto.finding.generator(model),
                segmenter=SAM2VideoSegmenter(model),
                keep=self.auto.shapes.limits(frames).keep,
                min_score=self.auto.min_score,
                split_stacked=self.auto.split_stacked,
                out=labels,
            )
            write_planes(output, labels, whole)
        return Outcome(len(found.report.tracks), len(frames))


@dataclass(frozen=True)
class KeyFrameJob(_PartJob):
    """The objects of one key frame, tracked to the neighbouring ones."""

    command: ClassVar[str] = "key frame"

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Detect and track."""
        from napari_sam2.inference.stacks.key_frame_search import track_key_frame
        from napari_sam2.inference.stacks.key_frames import tracked_window
        from napari_sam2.labels.overlaps import label_areas

        assert isinstance(source, PartSource)
        frames, segmenter = self._opened(source, model)
        keys = source.keys(self.auto, len(frames))
        window = tracked_window(keys, source.number, len(frames))
        with track_key_frame(
            frames,
            keys,
            source.number,
            finder=self.auto.finding.generator(model),
            segmenter=segmenter,
            tracking=_tracking(self.auto),
            keep=self.auto.shapes.limits(frames).keep,
        ) as tracks:
            write_planes(output, tracks.labels, window, tracks.scores.as_text())
            labels = tracks.labels
            count = 0 if labels is None else len(label_areas(labels[keys[source.number]]))
        return Outcome(count, len(window))


@dataclass(frozen=True)
class JoinJob(_PartJob):
    """The tracks of all key frames, joined to objects that are tracked further where they go on."""

    command: ClassVar[str] = "join"

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Join the tracks and write the labels."""
        from napari_sam2.inference.stacks.key_frame_search import join_key_frames
        from napari_sam2.inference.stacks.tracklets import JoinRules
        from napari_sam2.inference.stacks.unreadable import read_or_skip
        from napari_sam2.labels.files import LabelWriter

        assert isinstance(source, PartSource)
        frames, segmenter = self._opened(source, model)
        hw = (frames.shape[1], frames.shape[2])
        keys = source.keys(self.auto, len(frames))
        if all(read_or_skip(frames, key) is None for key in keys):
            frames[keys[0]]  # says why
        with LabelWriter.for_frames(output, frames, overwrite=True) as writer:
            report = join_key_frames(
                frames,
                keys,
                lambda index: _tracks(source.folder / _part_name(index), hw),
                writer,
                segmenter=segmenter,
                rules=JoinRules(),
                tracking=_tracking(self.auto),
                split_stacked=self.auto.split_stacked,
            )
        return Outcome(len(report.tracks), len(frames))


@dataclass(frozen=True)
class LinkJob(_PartJob):
    """All time points in one file, objects with one number at all of them."""

    command: ClassVar[str] = "link"

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:  # noqa: ARG002 - as all jobs
        """Read one time point after the other, and write the labels."""
        from napari_sam2.labels.files import LabelWriter
        from napari_sam2.labels.protocols import stack_as_volumes
        from napari_sam2.labels.volume_linking import VolumeLinker

        assert isinstance(source, PartSource)
        frames, num_times = _open(self.auto, source.path)
        hw = (frames.shape[1], frames.shape[2])
        with LabelWriter.for_frames(output, frames, num_times=num_times, overwrite=True) as writer:
            volumes = stack_as_volumes(writer, writer.shape, len(frames))
            linker = VolumeLinker()
            for time in range(num_times):
                with PlaneFile(source.folder / _part_name(time), hw) as part:
                    for z in range(len(frames)):
                        plane = part[z]
                        if plane.any():
                            volumes[time, z] = plane
                linker.link(volumes, time, len(frames))
        tracks = linker.report(num_times, is_complete=True).tracks
        return Outcome(len(tracks), num_times * len(frames))


@checked(FrameError)
def segment_stack_parts(
    job: AutoJob,
    stack: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "sam2_micro",
    device: str = "auto",
    dtype: str = "auto",
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    retries: int = 1,
    restart: bool = False,
    on_progress: Callable[[BatchProgress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BatchReport:
    """Segment one stack or movie, or volumes over time, on the cores of this computer or a Dask cluster.

    The labels are those of `segment_stack`, or of `segment_timelapse_volumes`. Workers segment time points, which a
    last piece links; or they detect and track the objects of one key frame each, and a last piece joins the tracks,
    tracks objects that go on beyond their key frames, and writes the labels. Parts are kept in a folder beside the
    output, ``NAME.parts``, until the labels are written; the same call again resumes there. In scripts the call must be
    inside ``if __name__ == "__main__":``, as worker processes import the script.

    Parameters
    ----------
    job : AutoJob
        How objects are found, and which are kept.
    stack : path-like
        A stack, or volumes over time.
    output : path-like
        Labels to write: a new file, or a zarr.
    model, device, dtype, workers, scheduler, cluster, retries, restart, on_progress, should_stop
        As for `run_batch`.

    Returns
    -------
    BatchReport
        State of all parts, and last of the labels. If a part failed, or it was stopped, no labels are written.

    Raises
    ------
    FrameError
        If the image cannot be read, or an argument is not of its type.
    PromptError
        If an option is impossible.
    OutputError
        If the output exists or cannot be written, or parts of other settings are there.
    CheckpointError, DownloadError, DeviceError
        As for `run_batch`.
    """
    from napari_sam2.inference.stacks.key_frames import choose_key_frames

    execution = checked_execution(
        model=model,
        device=device,
        dtype=dtype,
        workers=workers,
        scheduler=scheduler,
        cluster=cluster,
        retries=retries,
        restart=restart,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    job.check([])
    path = input_path(stack)
    frames, num_times = _open(job, path)
    if len(frames) == 1:
        raise FrameError(f"{stack} has one frame; use 'batch tiles' for large images")
    choose_key_frames(len(frames), job.every, job.key_frames)  # reports mistakes
    job.shapes.limits(frames)
    target = output_path(output)
    folder = target.with_name(f"{target.name}.parts")
    parts = _Parts(job, path, frames, num_times, folder, target)
    return run_divided(job, parts.stages(), folder, LabelTarget(target, path, frames, num_times), execution)


class _Parts:
    """Which parts there are, planned one stage after the other."""

    def __init__(self, job: AutoJob, path: Path, frames: Frames, num_times: int, folder: Path, target: Path) -> None:
        self._job = replace(job, reading=replace(job.reading, contrast=frames.contrast))
        self._path, self._num_frames, self._num_times = path, len(frames), num_times
        self._folder, self._target = folder, target

    def stages(self) -> list[Stage]:
        """The distance of key frames, if it is not given; then what follows from it."""
        stages = []
        if self._is_measured:
            stages.append(Stage(SpacingJob(self._first()), lambda: [self._piece(_SPACING_NAME)]))
        if self._num_times > 1:
            last = Stage(LinkJob(self._job), self._whole)
            return [*stages, Stage(TimePointJob(self._job), self._time_points), last]
        last = Stage(JoinJob(self._job), self._whole)
        return [*stages, Stage(KeyFrameJob(self._job), self._key_frames), last]

    def _time_points(self) -> list[Piece]:
        """One piece for each."""
        every = self._every()
        return [self._piece(_part_name(time), number=time, every=every) for time in range(self._num_times)]

    def _key_frames(self) -> list[Piece]:
        every = self._every()
        keys = PartSource(self._path, every=every).keys(self._job, self._num_frames)
        return [self._piece(_part_name(index), number=index, every=every) for index in range(len(keys))]

    def _whole(self) -> list[Piece]:
        source = PartSource(self._path, every=self._every(), folder=self._folder)
        return [Piece(self._target.name, source, self._target)]

    def _first(self) -> AutoJob:
        """Of the stack, or of the first time point."""
        if self._num_times == 1:
            return self._job
        return replace(self._job, reading=replace(self._job.reading, frame_axis="Z", fixed=(("T", 0),)))

    def _piece(self, name: str, *, number: int = 0, every: int | None = None) -> Piece:
        return Piece(name, PartSource(self._path, number=number, every=every), self._folder / name)

    @property
    def _is_measured(self) -> bool:
        return self._job.every is None and self._job.key_frames is None

    def _every(self) -> int | None:
        """As given, or as measured by the first stage."""
        if not self._is_measured:
            return self._job.every
        place = self._folder / _SPACING_NAME
        try:
            return int(json.loads(place.read_text(encoding="utf-8"))["every"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise unreadable(place, error) from error


def _part_name(number: int) -> str:
    return f"{number:07}.zip"


def _open(job: AutoJob, path: Path) -> tuple[Frames, int]:
    """The stack, or the first one with the contrast of all time points; and the number of these."""
    from napari_sam2.inference.stacks.volumes import open_time_points

    source = Source(path)
    is_free = job.reading.frame_axis is None and not job.reading.fixed
    with warnings.catch_warnings():
        if is_free:  # all planes are read
            warnings.simplefilter("ignore", PlanesLeftOutWarning)
        frames = job.reading.open(source)
    num_times = num_time_points(frames) if is_free else 1
    if num_times == 1:
        return frames, 1

    def at_time(time: int) -> Frames:
        return replace(job.reading, frame_axis="Z", fixed=(("T", time),)).open(source)

    return open_time_points(frames, at_time if job.reading.contrast == "auto" else None)(0), num_times


def _tracking(job: AutoJob) -> SeedTrackingSettings:
    from napari_sam2.inference.stacks.seed_tracking import SeedTrackingSettings

    return SeedTrackingSettings(job.min_score)


@contextmanager
def _tracks(path: Path, hw: tuple[int, int]) -> Iterator[KeyFrameTracks]:
    """The result of a `KeyFrameJob`."""
    from napari_sam2.inference.stacks.key_frame_search import KeyFrameTracks
    from napari_sam2.inference.stacks.report import FoundScores

    with PlaneFile(path, hw) as file:
        try:
            scores = FoundScores.from_text(file.note)
        except (ValueError, KeyError, TypeError) as error:
            raise unreadable(path, error) from error
        yield KeyFrameTracks(None if file.is_empty else file, scores)
