"""Segment volumes over time: each time point through z, with objects linked from one time point to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import check_out
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._messages import shown
from napari_sam2._types import FrameSource
from napari_sam2.frames import Contrast, Frames, open_frames
from napari_sam2.frames.contrast import StackContrast
from napari_sam2.frames.stack import LazyArray
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.inference.progress import ProgressCallback, ShouldStop
from napari_sam2.inference.stacks.key_frame_search import segment_stack
from napari_sam2.inference.stacks.key_frames import measure_spacing
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings
from napari_sam2.inference.stacks.settings import StackSettings
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.labels.protocols import LabelVolumes, time_point
from napari_sam2.labels.volume_linking import LinkedVolumes, TimelapseReport, VolumeLinker
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["open_time_points", "segment_time_points", "segment_timelapse_volumes"]


@checked(PromptError)
def segment_timelapse_volumes(
    volumes: LazyArray | str | Path,
    *,
    axes: str | None = None,
    model: SAM2 | str | Path | None = None,
    every: int | None = None,
    key_frames: Sequence[int] | None = None,
    finder: MaskFinder | None = None,
    segmenter: ObjectTracker | None = None,
    keep: KeepRecords | None = None,
    min_score: float = 0.0,
    split_stacked: bool | None = None,
    min_link_iou: float = 0.2,
    max_gap: int = 1,
    channels: int | str | Sequence[int | str] | None = None,
    contrast: Contrast = "auto",
    gamma: float = 1.0,
    level: int | None = None,
    out: LabelVolumes | None = None,
    settings: StackSettings = StackSettings(),
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> LinkedVolumes:
    """Segment all objects of volumes over time: each time point through z, linked over time by 3D overlap.

    Parameters
    ----------
    volumes : (T, Z, Y, X) array or path
        Numpy, dask or zarr array, or a file; read plane by plane.
    axes : str, optional
        One letter per dimension, including T and Z. Default: those of the file; TZYX or TZCYX for an array.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    every, key_frames, finder, segmenter, keep, min_score, split_stacked : optional
        As in `segment_stack`, for the planes of one time point; the distance of key frames is chosen on the first one.
    min_link_iou : float, default 0.2
        Minimum 3D IoU of an object at consecutive time points.
    max_gap : int, default 1
        Number of time points that an object may be missing without losing its number.
    channels : int, str or sequence of those, optional
        Channels to use, as in `open_frames`.
    contrast : "auto", "dtype", (low, high) or one pair per channel, default "auto"
        Contrast limits of all time points; "auto" samples the first, middle and last one.
    gamma : float, default 1.0
        Below 1 brightens, above 1 darkens, as in `open_frames`.
    level : int, optional
        Resolution level of a file that has several, as in `open_frames`.
    out : array, optional
        (T, Z, Y, X) array of zeros to write into, such as a zarr array of int32. Default: a new array.
    settings : StackSettings, optional
        Tuned constants.
    on_progress : callable, optional
        Called with the stage, the steps done and the steps in total.
    should_stop : callable, optional
        Called between steps; returns True to cancel. Finished frames are returned.

    Returns
    -------
    LinkedVolumes
        ``labels`` (T, Z, Y, X) int32, with one number per object at all time points, and ``report``.

    Raises
    ------
    PromptError
        If a number is not allowed.
    FrameError
        If the volumes cannot be read.
    """
    shape, open_at = _time_points(volumes, axes, channels, contrast, gamma=gamma, level=level)
    check_out(out, shape)
    if finder is None or segmenter is None:
        network = ensure_model(model)
        finder = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle") if finder is None else finder
        segmenter = SAM2VideoSegmenter(network) if segmenter is None else segmenter
    labels: LabelVolumes = np.zeros(shape, np.int32) if out is None else out
    report = segment_time_points(
        open_at,
        labels,
        shape,
        every=every,
        key_frames=key_frames,
        finder=finder,
        segmenter=segmenter,
        keep=keep,
        min_score=min_score,
        split_stacked=split_stacked,
        min_link_iou=min_link_iou,
        max_gap=max_gap,
        settings=settings,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return LinkedVolumes(labels, report)  # type: ignore[arg-type]  # out is returned as it is


def segment_time_points(
    open_at: Callable[[int], FrameSource],
    labels: LabelVolumes,
    shape: tuple[int, int, int, int],
    *,
    every: int | None,
    finder: MaskFinder,
    segmenter: ObjectTracker,
    key_frames: Sequence[int] | None = None,
    keep: KeepRecords | None = None,
    min_score: float = 0.0,
    split_stacked: bool | None = None,
    min_link_iou: float = 0.2,
    max_gap: int = 1,
    settings: StackSettings = StackSettings(),
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> TimelapseReport:
    """As `segment_timelapse_volumes`, for volumes that ``open_at`` opens one at a time, written to ``labels``."""
    linker = VolumeLinker(min_link_iou, max_gap)
    is_complete = True
    if every is None and key_frames is None:
        first = open_at(0)
        segmenter.set_video(first)
        every = measure_spacing(
            first, finder, segmenter, SeedTrackingSettings(min_score), stack_settings=settings,
            keep=keep, split_stacked=split_stacked, on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip
        if every is None:
            return linker.report(shape[0], is_complete=False)
    for time in range(shape[0]):
        prefix = f"time {time + 1} of {shape[0]}, "
        found = segment_stack(
            open_at(time),
            every=every,
            key_frames=key_frames,
            finder=finder,
            segmenter=segmenter,
            keep=keep,
            min_score=min_score,
            split_stacked=split_stacked,
            out=time_point(labels, time),
            settings=settings,
            on_progress=None if on_progress is None else _prefixed(on_progress, prefix),
            should_stop=should_stop,
        )
        linker.link(labels, time, shape[1])
        if not found.report.is_complete:
            is_complete = False
            break
    return linker.report(shape[0], is_complete=is_complete)


def _time_points(
    volumes: LazyArray | str | Path,
    axes: str | None,
    channels: int | str | Sequence[int | str] | None,
    contrast: Contrast,
    *,
    gamma: float,
    level: int | None,
) -> tuple[tuple[int, int, int, int], Callable[[int], FrameSource]]:
    """(T, Z, Y, X), and a function that opens one time point; all have the same contrast limits."""
    if axes is None and not isinstance(volumes, str | Path):
        axes = {4: "TZYX", 5: "TZCYX"}.get(len(volumes.shape))
        if axes is None:
            raise FrameError(f"an array of shape {tuple(volumes.shape)} was given; expected TZYX or TZCYX, or axes=")
    if axes is not None and not {"T", "Z"} <= set(axes.upper()):
        raise FrameError(f"axes {shown(axes)} were given; volumes over time need T and Z, such as TZYX or TZCYX")

    def open_at(time: int) -> Frames:
        return open_frames(
            volumes,
            axes=axes,
            frame_axis="Z",
            fixed={"T": time},
            channels=channels,
            contrast=contrast,
            gamma=gamma,
            level=level,
        )

    first = open_at(0)
    num_times = first.source_shape[first.axes.index("T")]
    return (num_times, *first.shape), open_time_points(first, open_at if contrast == "auto" else None)


def open_time_points(first: Frames, open_at: Callable[[int], Frames] | None = None) -> Callable[[int], Frames]:
    """A function that opens one time point of volumes, all with the same contrast limits.

    Parameters
    ----------
    first : Frames
        The first time point, along Z.
    open_at : callable, optional
        Opens a time point with its own contrast limits; the union of those of the first, middle and last one is used
        for all. Default: those of ``first``.
    """
    if open_at is None:
        return first.at_time
    num_times = first.source_shape[first.axes.index("T")]
    others = [open_at(time) for time in sorted({num_times // 2, num_times - 1} - {0})]
    seen = np.array([frames.contrast_limits for frames in (first, *others)])  # (N, C, 2)
    lowest, highest = seen[..., 0].min(0), seen[..., 1].max(0)
    limits = tuple((float(low), float(high)) for low, high in zip(lowest, highest, strict=True))
    usual = [frames.contrast.usual for frames in (first, *others)]  # the brightest time point is a usual one too
    contrast = StackContrast(limits, tuple(max(values) for values in zip(*usual, strict=True)) if all(usual) else ())
    return lambda time: first.at_time(time, contrast)


def _prefixed(on_progress: ProgressCallback, prefix: str) -> ProgressCallback:
    return lambda stage, done, total: on_progress(prefix + stage, done, total)
