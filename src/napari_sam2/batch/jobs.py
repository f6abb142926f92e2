"""What is done with each file of a batch: settings as frozen values, sent to the workers, and the work itself.

Modules that load torch are imported when a job runs, so that commands can describe jobs quickly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, cast

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import check_count, check_number
from napari_sam2._errors import FrameError, PlanesLeftOutWarning, PromptError
from napari_sam2.batch.options import FindOptions, KeepOptions, ReadOptions
from napari_sam2.batch.pieces import Outcome, Source, Unchanged
from napari_sam2.frames import Frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt
    from napari_sam2.inference.stacks.report import TrackingReport
    from napari_sam2.labels.files import LabelWriter
    from napari_sam2.labels.volume_linking import TimelapseReport
    from napari_sam2.network.sam2 import SAM2

__all__ = [
    "AutoJob",
    "AutoResult",
    "FileJob",
    "GenerateJob",
    "Job",
    "PropagateJob",
    "TrackJob",
    "num_time_points",
    "settings_of",
]


class Job(Protocol):
    """What is done with a file.

    Attributes
    ----------
    command : str
        The command that does the same with a single file.
    """

    command: ClassVar[str]

    def check(self, sources: Sequence[Source]) -> None:
        """Raise NapariSAM2Error if the settings, or what is given for the files, cannot work; reads no image."""

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Read the file, compute, and write the labels, whole or not at all."""


class FileJob(Job, Protocol):
    """What is done with each file of a batch, whose settings can be tried on a file beforehand."""

    @property
    def reading(self) -> ReadOptions:
        """How files are read."""

    def try_on(self, source: Source) -> None:
        """Open a file as `run` does; raises NapariSAM2Error if it cannot be read, or the settings do not fit it."""


def settings_of(job: Job) -> dict[str, object]:
    """The settings of a job as values of JSON, without those that are not given."""
    values = asdict(job)  # type: ignore[call-overload]  # jobs are dataclasses, which a protocol cannot say
    return cast("dict[str, object]", _as_json(values))


@checked_calls(PromptError)
@dataclass(frozen=True)
class GenerateJob:
    """Every object of single images, as ``napari-sam2 generate``.

    Attributes
    ----------
    finding, shapes, reading
        See these classes.
    frame : int or None
        Frame of stacks; a list of files may give each its own.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    finding: FindOptions = field(default_factory=FindOptions)
    shapes: KeepOptions = field(default_factory=KeepOptions)
    reading: ReadOptions = field(default_factory=ReadOptions)
    frame: int | None = None
    command: ClassVar[str] = "generate"

    def check(self, sources: Sequence[Source]) -> None:
        """Raise NapariSAM2Error if an option is impossible, or a file has several frames in the list."""
        self.finding.check()
        for source in sources:
            if len(source.frames) > 1:
                raise FrameError(f"{source.path} was given with {len(source.frames)} frames; generate reads one")

    def try_on(self, source: Source) -> None:
        """Open a file, choose its frame, and convert the areas; raises FrameError."""
        frames, _ = self._open(source)
        self.shapes.limits(frames)

    def _open(self, source: Source) -> tuple[Frames, int]:
        """The frames of a file, and which of them is segmented."""
        frames = self.reading.open(source)
        frame = source.frames[0] if source.frames else self.frame
        if frame is None and len(frames) > 1:
            raise FrameError(f"{source.path} has {len(frames)} frames; choose one with --frame, or use 'batch auto'")
        frame = frame or 0
        if not 0 <= frame < len(frames):
            raise FrameError(f"frame {frame} was given; {source.path} has the frames 0 to {len(frames) - 1}")
        return frames, frame

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Segment one image."""
        from napari_sam2.labels.compose import masks_to_labels
        from napari_sam2.labels.files import LabelWriter

        unchanged = Unchanged(source)
        frames, frame = self._open(source)
        keep = self.shapes.limits(frames).keep
        with LabelWriter.for_frames(output, frames, frame=frame, overwrite=True) as writer, unchanged:
            records = keep(self.finding.generator(model).generate_masks(frames[frame]))
            writer.write(0, masks_to_labels(records, frames.shape[1:]))
        return Outcome(len(records), 1)


class AutoResult(NamedTuple):
    """What `AutoJob` found in a file: the number of objects, the report of tracking, and whether it was not stopped.

    There is no report of a single image.
    """

    num_objects: int
    report: TrackingReport | TimelapseReport | None
    is_complete: bool


def num_time_points(frames: Frames) -> int:
    """Time points of volumes over time; 1 for anything else."""
    if frames.frame_axis != "Z" or "T" not in frames.axes:
        return 1
    return frames.source_shape[frames.axes.index("T")]


@checked_calls(PromptError)
@dataclass(frozen=True)
class AutoJob:
    """Everything in stacks, movies, volumes over time and large images, as ``napari-sam2 auto``.

    Attributes
    ----------
    finding, shapes, reading
        See these classes.
    every, key_frames, min_score, split_stacked
        As for `segment_stack`.
    tile, overlap : int
        As for `segment_tiled`; of files with one frame.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    finding: FindOptions = field(default_factory=FindOptions)
    shapes: KeepOptions = field(default_factory=KeepOptions)
    reading: ReadOptions = field(default_factory=ReadOptions)
    every: int | None = None
    key_frames: tuple[int, ...] | None = None
    min_score: float = 0.0
    split_stacked: bool | None = None
    tile: int = 768
    overlap: int = 128
    command: ClassVar[str] = "auto"

    def check(self, sources: Sequence[Source]) -> None:  # noqa: ARG002 - as all jobs
        """Raise PromptError if an option, such as the size of tiles or the distance of key frames, is impossible."""
        from napari_sam2.frames.regions import tile_grid

        self.finding.check()
        check_number("min_score", self.min_score, 0, 1)
        tile_grid((2 * self.tile, 2 * self.tile), self.tile, self.overlap)
        if self.every is not None:
            check_count("every", self.every, 1)

    def try_on(self, source: Source) -> None:
        """Open a file, and convert the areas; raises FrameError."""
        self.shapes.limits(self._open(source)[0])

    def _open(self, source: Source) -> tuple[Frames, int]:
        """The frames of a file, or of its first time point, and the number of time points."""
        is_free = self.reading.frame_axis is None and not self.reading.fixed
        with warnings.catch_warnings():
            if is_free:  # all planes are read
                warnings.simplefilter("ignore", PlanesLeftOutWarning)
            frames = self.reading.open(source)
        return frames, num_time_points(frames) if is_free else 1

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Segment one file."""
        from napari_sam2.labels.files import LabelWriter

        unchanged = Unchanged(source)
        frames, num_times = self._open(source)

        def at_time(time: int) -> Frames:
            return replace(self.reading, frame_axis="Z", fixed=(("T", time),)).open(source)

        with LabelWriter.for_frames(output, frames, num_times=num_times, overwrite=True) as writer, unchanged:
            found = self.segment(frames, at_time, writer, self.finding.generator(model), num_times=num_times)
        return Outcome(found.num_objects, num_times * len(frames))

    def segment(
        self,
        frames: Frames,
        at_time: Callable[[int], Frames],
        writer: LabelWriter,
        finder: SAM2AutomaticMaskGenerator,
        *,
        num_times: int = 1,
        on_progress: Callable[[str, int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> AutoResult:
        """Segment opened frames into a file of labels, which is left open.

        Parameters
        ----------
        frames : Frames
            The image, the stack, or the first stack of several time points.
        at_time : callable
            Opens the stack of a time point.
        writer : LabelWriter
            Takes the labels.
        finder : SAM2AutomaticMaskGenerator
            Finds the objects of a plane.
        num_times : int, default 1
            Time points of volumes over time.
        on_progress, should_stop : callable, optional
            As for `segment_stack`.

        Returns
        -------
        AutoResult
            What was found.
        """
        if len(frames) == 1:
            return self._image(frames, writer, finder, on_progress, should_stop)
        from napari_sam2.inference.stacks.key_frame_search import segment_stack
        from napari_sam2.inference.stacks.volumes import open_time_points, segment_time_points
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
        from napari_sam2.labels.protocols import stack_as_volumes

        segmenter, keep = SAM2VideoSegmenter(finder.predictor.model), self.shapes.limits(frames).keep
        report: TrackingReport | TimelapseReport
        if num_times > 1:
            report = segment_time_points(
                open_time_points(frames, at_time if self.reading.contrast == "auto" else None),
                stack_as_volumes(writer, writer.shape, len(frames)),
                (num_times, *frames.shape),
                every=self.every,
                key_frames=self.key_frames,
                finder=finder,
                segmenter=segmenter,
                keep=keep,
                min_score=self.min_score,
                split_stacked=self.split_stacked,
                on_progress=on_progress,
                should_stop=should_stop,
            )
        else:
            report = segment_stack(
                frames,
                every=self.every,
                key_frames=self.key_frames,
                finder=finder,
                segmenter=segmenter,
                keep=keep,
                min_score=self.min_score,
                split_stacked=self.split_stacked,
                out=writer,
                on_progress=on_progress,
                should_stop=should_stop,
            ).report
        return AutoResult(len(report.tracks), report, report.is_complete)

    def _image(
        self,
        frames: Frames,
        writer: LabelWriter,
        finder: SAM2AutomaticMaskGenerator,
        on_progress: Callable[[str, int, int], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> AutoResult:
        from napari_sam2.frames.regions import FrameRegions
        from napari_sam2.inference.automatic.tiling import segment_tiled

        limits = self.shapes.limits(frames)
        parts = writer.parts()
        labels = segment_tiled(
            FrameRegions(frames),
            tile=self.tile,
            overlap=self.overlap,
            finder=finder,
            min_area_px=limits.min_area,
            max_area_px=limits.max_area,
            exclude_border=limits.exclude_border,
            out=parts,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        is_complete = should_stop is None or not should_stop()
        if parts is not None:
            return AutoResult(int(parts.finish()), None, is_complete)
        if is_complete or labels.any():
            writer.write(0, labels)
        return AutoResult(int(labels.max()), None, is_complete)


@checked_calls(PromptError)
@dataclass(frozen=True)
class PropagateJob:
    """Labelled objects through stacks, as ``napari-sam2 propagate``; each file has its labels.

    Attributes
    ----------
    reading : ReadOptions
        How files are read.
    frames : tuple of int
        Frames of the labels, of files that do not give their own.
    min_area_px, min_score, give_up_after
        As for `segment_seeds`.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    frames: tuple[int, ...] = ()
    min_area_px: int = 1
    min_score: float = 0.0
    give_up_after: int | None = None
    command: ClassVar[str] = "propagate"

    def check(self, sources: Sequence[Source]) -> None:
        """Raise NapariSAM2Error if an option is impossible, or a file has no labels."""
        check_number("min_score", self.min_score, 0, 1)
        check_count("min_area_px", self.min_area_px, 1)
        if self.give_up_after is not None:
            check_count("give_up_after", self.give_up_after, 1)
        for source in sources:
            if source.labels is None:
                raise FrameError(f"{source.path} has no labels; give --labels, or a list with the column labels")

    def try_on(self, source: Source) -> None:
        """Open a file, and find the objects of its labels; raises FrameError or PromptError."""
        from napari_sam2.inference.stacks.seed_planes import read_seeds

        frames, labels = self._open(source)
        read_seeds(labels, self._labelled(source), frames.shape, min_area_px=self.min_area_px)

    def _open(self, source: Source) -> tuple[Frames, NDArray[np.int32]]:
        """The frames of a file, and its labels."""
        from napari_sam2.labels.reading import read_labels, without_single_planes

        assert source.labels is not None, "checked before"
        frames = self.reading.open(source)
        labels = read_labels(source.labels, shape=frames.shape, fixed=frames.fixed)
        return frames, without_single_planes(labels, len(frames))

    def _labelled(self, source: Source) -> list[int] | None:
        """The frames of the labels, if they were given."""
        return list(source.frames or self.frames) or None

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Track the labels of one file."""
        from napari_sam2.inference.stacks.label_seeds import segment_seeds
        from napari_sam2.labels.files import LabelWriter

        unchanged = Unchanged(source)
        frames, labels = self._open(source)
        with LabelWriter.for_frames(output, frames, overwrite=True) as writer, unchanged:
            found = segment_seeds(
                frames,
                labels,
                self._labelled(source),
                model=model,
                min_area_px=self.min_area_px,
                min_score=self.min_score,
                give_up_after=self.give_up_after,
                out=writer,
            )
        return Outcome(len(found.report.tracks), len(frames))


@checked_calls(PromptError)
@dataclass(frozen=True)
class TrackJob:
    """Prompted objects through stacks, as ``napari-sam2 track``; each file has its prompts. Single images work too.

    Attributes
    ----------
    reading : ReadOptions
        How files are read.

    Raises
    ------
    PromptError
        If an option is not of its type.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    command: ClassVar[str] = "track"

    def check(self, sources: Sequence[Source]) -> None:
        """Raise PromptError if a file has no prompts."""
        for source in sources:
            if not source.prompts:
                raise PromptError(f"{source.path} has no prompts; give a list (.csv, .toml) with prompts of each file")

    def try_on(self, source: Source) -> None:
        """Open a file, and find the frames of its prompts; raises FrameError or PromptError."""
        self._open(source)

    def _open(self, source: Source) -> tuple[Frames, list[ObjectPrompt]]:
        from napari_sam2.inference.prompts.prompt_text import resolve_prompts

        frames = self.reading.open(source)
        axes = f"{frames.frame_axis or 'Z'}YX" if len(frames) > 1 else "YX"
        return frames, resolve_prompts(source.prompts, frames.shape, axes)

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Track the objects of one file."""
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
        from napari_sam2.labels.files import LabelWriter

        unchanged = Unchanged(source)
        frames, prompts = self._open(source)
        segmenter = SAM2VideoSegmenter(model)
        with LabelWriter.for_frames(output, frames, overwrite=True) as writer, unchanged:
            segmenter.set_video(frames)
            for given in prompts:
                segmenter.add_prompt(given.frame, given.prompt, object_id=given.object_id)
            segmenter.track_objects(out=writer)
        return Outcome(len(segmenter.object_ids), len(frames))


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _as_json(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
