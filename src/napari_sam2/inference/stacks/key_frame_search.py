"""Segment all objects of a stack: detect them on key frames, track them in both directions, and merge the tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._checks import check_out
from napari_sam2._errors import PromptError
from napari_sam2.frames import open_frames
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.inference.progress import ProgressCallback, ShouldStop, TaskProgress
from napari_sam2.inference.stacks.depth_contrast import (
    Contrasts,
    contrasts_for_splitting,
    drop_flat_objects,
    measure_contrasts,
    split_labels,
    trim_labels,
)
from napari_sam2.inference.stacks.key_frames import choose_key_frames, measure_spacing, tracked_window
from napari_sam2.inference.stacks.report import FoundScores, TrackedLabels, TrackingReport, describe_tracks
from napari_sam2.inference.stacks.seed_planes import read_seeds
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings, track_seeds
from napari_sam2.inference.stacks.settings import DepthContrastSettings, StackSettings
from napari_sam2.inference.stacks.track_extension import extensions, open_ends, paint_extension
from napari_sam2.inference.stacks.tracklets import JoinRules, TrackletJoiner
from napari_sam2.inference.stacks.unreadable import read_or_skip, readable_key_frames
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.labels.protocols import LabelStack
from napari_sam2.labels.window import LabelWindow
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2

__all__ = ["KeyFrameTracks", "join_key_frames", "segment_stack", "track_key_frame"]


@checked(PromptError)
def segment_stack(
    stack: FrameSource | ArrayLike | str | Path,
    *,
    model: SAM2 | str | Path | None = None,
    every: int | None = None,
    key_frames: Sequence[int] | None = None,
    finder: MaskFinder | None = None,
    segmenter: ObjectTracker | None = None,
    keep: KeepRecords | None = None,
    min_iou: float = 0.5,
    min_containment: float = 0.8,
    min_score: float = 0.0,
    extend: bool = True,
    split_stacked: bool | None = None,
    out: LabelStack | None = None,
    settings: StackSettings = StackSettings(),
    memory_bytes: int = 2**30,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> TrackedLabels:
    """Segment all objects of a z-stack or movie.

    Objects are detected on key frames and tracked in both directions to the neighbouring key frames, or to the ends of
    the stack. Tracks are compared over their common frames: matching tracks are merged; an unmatched track becomes a
    new object. Objects that reach a key frame without being detected there are then tracked further. Labels of two key
    intervals at a time are stored on disk.

    Parameters
    ----------
    stack : FrameSource, array or path
        Anything `open_frames` reads: (T, H, W) or (T, H, W, 3) arrays.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    every : int, optional
        Distance of key frames; objects between two key frames are not detected. Default: chosen from the typical object
        depth, 3 to 10; for this the objects in the middle of the stack are segmented first.
    key_frames : sequence of int, optional
        Key frames, in place of ``every``.
    finder : SAM2AutomaticMaskGenerator, optional
        Segments key frames. Default: one for ``model`` with its default options.
    segmenter : SAM2VideoSegmenter, optional
        Tracks objects; its stack and objects are replaced. Default: one for ``model``.
    keep : callable, optional
        Selects among the masks of a key frame, such as ``partial(filter_records, min_area=20)``; default all.
    min_iou : float, default 0.5
        Tracks with at least this IoU over their common frames are merged.
    min_containment : float, default 0.8
        A track of which at least this fraction lies inside one object, on common frames, is part of that object. An
        object that contains several such tracks and matches none of them is a merge error: the tracks become separate
        objects.
    min_score : float, default 0.0
        Tracked masks with a lower predicted IoU, 0 to 1, are dropped.
    extend : bool, default True
        Track objects beyond a key frame on which they were not detected. Otherwise an object ends at the neighbours of
        the key frames on which it was detected.
    split_stacked : bool, optional
        Split objects stacked in z at minima of their contrast with the background, such as nuclei connected by
        out-of-focus light, and end them where it falls to half of its maximum. Then trim pixels with less than 0.4 of
        an object's maximum contrast, and drop objects with too few planes for their width. Default: if objects are
        bright on dark, as in fluorescence, unless the frames are time points; for an array of time points use
        ``open_frames(movie, axes="TYX")``.
    out : array, optional
        (T, H, W) array of zeros to write into, such as a zarr array. Default: a new array.
    settings : StackSettings, optional
        Tuned constants.
    memory_bytes : int, default 1 GiB
        Memory for the masks of the objects tracked together.
    on_progress : callable, optional
        Called with the stage (``"key frame 20: detecting objects"``), the steps done and the steps in total.
    should_stop : callable, optional
        Called between steps; returns True to cancel. Finished frames are returned.

    Returns
    -------
    TrackedLabels
        ``labels`` (T, H, W) int32, objects numbered from 1 in the order of detection, and ``report``; the seed frames
        of an object are the key frames on which it was detected.

    Raises
    ------
    PromptError
        If a number or key frame is not allowed.
    FrameError
        If the stack cannot be read. Single frames that cannot be read are skipped; of key frames, the nearest one that
        can be read is searched.
    """
    frames = open_frames(stack)  # type: ignore[arg-type]
    check_out(out, frames.shape)
    keys = choose_key_frames(len(frames), every, key_frames)
    rules, tracking = JoinRules(min_iou, min_containment), SeedTrackingSettings(min_score, memory_bytes)
    if finder is None or segmenter is None:
        network = ensure_model(model)
        finder = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle") if finder is None else finder
        segmenter = SAM2VideoSegmenter(network) if segmenter is None else segmenter
    segmenter.set_video(frames)
    target = np.zeros(frames.shape, np.int32) if out is None else out
    if keys is None:
        spacing = measure_spacing(
            frames, finder, segmenter, tracking, stack_settings=settings,
            keep=keep, split_stacked=split_stacked, on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip
        keys = choose_key_frames(len(frames), spacing) or []
    searched = keys = readable_key_frames(frames, keys)

    def tracks_of(index: int) -> AbstractContextManager[KeyFrameTracks]:
        return track_key_frame(
            frames, searched, index, finder=finder, segmenter=segmenter, tracking=tracking,
            keep=keep, on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip

    report = join_key_frames(
        frames,
        keys,
        tracks_of,
        target,
        segmenter=segmenter,
        rules=rules,
        tracking=tracking,
        extend=extend,
        split_stacked=split_stacked,
        settings=settings,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return TrackedLabels(target, report)  # type: ignore[arg-type]  # out is returned as it is


@dataclass(frozen=True)
class KeyFrameTracks:
    """Objects detected on one key frame, tracked to the neighbouring ones.

    Attributes
    ----------
    labels : LabelStack or None
        Tracks, numbered by themselves and indexed by frame; None if nothing was detected.
    scores : FoundScores
        Predicted IoU of the tracks.
    is_complete : bool
        False if it was cancelled.
    """

    labels: LabelStack | None
    scores: FoundScores
    is_complete: bool = True


@contextmanager
def track_key_frame(
    frames: FrameSource,
    keys: Sequence[int],
    index: int,
    *,
    finder: MaskFinder,
    segmenter: ObjectTracker,
    tracking: SeedTrackingSettings,
    keep: KeepRecords | None = None,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[KeyFrameTracks]:
    """Detect the objects of a key frame and track them; within the context, their labels can be read.

    Where the key frame itself cannot be read, nothing is detected.

    Parameters
    ----------
    frames : FrameSource
        The stack, which is also that of the segmenter.
    keys : sequence of int
        All key frames, ascending.
    index : int
        Which of them.
    finder, segmenter, tracking, keep, on_progress, should_stop
        As in `segment_stack`.

    Yields
    ------
    KeyFrameTracks
        Tracks over `tracked_window`.
    """
    key, scores = keys[index], FoundScores()
    watched = TaskProgress(f"key frame {key} ({index + 1} of {len(keys)})", on_progress, should_stop)
    rgb = read_or_skip(frames, key)
    # `segment_stack` chose other key frames; where parts are computed by themselves, one less is searched
    if rgb is None:
        yield KeyFrameTracks(None, scores, is_complete=True)
        return
    found = automatic_labels(finder, rgb, keep=keep, progress=watched.detecting, should_stop=watched.should_stop)
    if found is None or not found.any():
        yield KeyFrameTracks(None, scores, found is not None)
        return
    window, shape = tracked_window(keys, index, len(frames)), frames.shape
    with LabelWindow(window, shape[1:]) as tracklets:
        is_complete = track_seeds(
            segmenter,
            read_seeds({key: found}, None, shape),
            window,
            tracklets,
            scores,
            tracking,
            on_progress=watched.report,
            should_stop=watched.should_stop,
        )
        yield KeyFrameTracks(tracklets, scores, is_complete)


def join_key_frames(
    frames: FrameSource,
    keys: Sequence[int],
    tracks_of: Callable[[int], AbstractContextManager[KeyFrameTracks]],
    target: LabelStack,
    *,
    segmenter: ObjectTracker,
    rules: JoinRules,
    tracking: SeedTrackingSettings,
    extend: bool = True,
    split_stacked: bool | None = None,
    settings: StackSettings = StackSettings(),
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> TrackingReport:
    """Merge the tracks of all key frames into objects, track these further, and split those stacked in z.

    Parameters
    ----------
    frames : FrameSource
        The stack, which is also that of the segmenter.
    keys : sequence of int
        All key frames, ascending.
    tracks_of : callable
        From the index of a key frame to its tracks.
    target : LabelStack
        Zeros, written into.
    segmenter, rules, tracking, extend, split_stacked, settings, on_progress, should_stop
        As in `segment_stack`.

    Returns
    -------
    TrackingReport
        As of `segment_stack`.
    """
    joiner, scores, is_complete = TrackletJoiner(target, rules), FoundScores(), bool(keys)
    for index, key in enumerate(keys):
        with tracks_of(index) as tracks:
            if tracks.labels is not None:
                window = tracked_window(keys, index, len(frames))
                scores.join_as(tracks.scores, joiner.join(tracks.labels, window, key))
        is_complete = tracks.is_complete
        if not is_complete:
            break
    if is_complete and extend:
        is_complete = _extend(joiner, segmenter, keys, frames.shape, scores, tracking, on_progress, should_stop)
    if is_complete:
        watched = TaskProgress("stacked objects", on_progress, should_stop)
        contrasts = contrasts_for_splitting(
            target, frames, range(len(frames)), split_stacked, watched, settings.depth_contrast
        )
        if contrasts is not None:
            _split_stacked(joiner, contrasts, scores, frames, watched, settings.depth_contrast)
        is_complete = not watched.is_cancelled
    return describe_tracks(
        target,
        range(len(frames)),
        joiner.seed_frames,
        scores,
        is_complete=is_complete,
        num_merged=joiner.num_joined,
    )


def _extend(
    joiner: TrackletJoiner,
    segmenter: ObjectTracker,
    keys: Sequence[int],
    shape: tuple[int, int, int],
    scores: FoundScores,
    settings: SeedTrackingSettings,
    on_progress: ProgressCallback | None,
    should_stop: ShouldStop | None,
) -> bool:
    """Track objects beyond key frames on which they were not detected; False if cancelled."""
    for extension in extensions(keys, shape[0]):
        ends = open_ends(joiner.labels, extension, lambda i, frame: frame in joiner.seed_frames.get(i, ()))
        if not ends.any():
            continue
        watched = TaskProgress(f"beyond key frame {extension.key}", on_progress, should_stop)
        with LabelWindow(extension.frames, shape[1:]) as tracked:
            is_complete = track_seeds(
                segmenter,
                read_seeds({extension.key: ends}, None, shape),
                extension.frames,
                tracked,
                scores,
                settings,
                on_progress=watched.report,
                should_stop=should_stop,
            )
            paint_extension(joiner.labels, tracked, extension.frames, max_claimed=joiner.rules.max_claimed)
        if not is_complete:
            return False
    return True


def _split_stacked(
    joiner: TrackletJoiner,
    contrasts: Contrasts,
    scores: FoundScores,
    frames: FrameSource,
    watch: TaskProgress,
    settings: DepthContrastSettings,
) -> None:
    """Split objects stacked in z that were tracked as one, and trim out-of-focus light."""
    whole = range(len(frames))
    for _ in range(settings.max_rounds):
        found = {object_id: tuple(keys) for object_id, keys in joiner.seed_frames.items()}
        pieces = split_labels(joiner.labels, contrasts, found, len(frames), settings)
        for piece in pieces:
            joiner.seed_frames[piece.number] = [key for key in found.get(piece.source_id, ()) if key in piece.frames]
            if piece.number != piece.source_id:
                scores.join_as(scores, {piece.source_id: piece.number})
        if all(piece.number == piece.source_id for piece in pieces):
            break
        contrasts = measure_contrasts(joiner.labels, frames, watch.frames(whole, "measuring contrast"), settings)
        if watch.is_cancelled:
            return
    trim_labels(joiner.labels, contrasts, frames, watch.frames(whole, "trimming"), settings)
    if watch.is_cancelled:
        return
    for object_id in drop_flat_objects(joiner.labels, len(frames), settings):
        joiner.seed_frames.pop(object_id, None)
