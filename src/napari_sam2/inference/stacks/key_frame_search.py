"""A whole stack without a click: automatic masks on key frames, followed both ways, and joined where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import check_out
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
from napari_sam2.inference.stacks.key_frames import _window, choose_key_frames, measure_spacing
from napari_sam2.inference.stacks.report import FoundScores, TrackedLabels, describe_tracks
from napari_sam2.inference.stacks.seed_planes import read_seeds
from napari_sam2.inference.stacks.seed_tracking import ObjectTracker, SeedTrackingSettings, track_seeds
from napari_sam2.inference.stacks.track_extension import extensions, open_ends, paint_extension
from napari_sam2.inference.stacks.tracklets import JoinRules, TrackletJoiner
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.labels.window import LabelWindow
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from napari_sam2._types import FrameSource
    from napari_sam2.labels.protocols import LabelStack
    from napari_sam2.network.sam2 import SAM2

__all__ = ["segment_stack"]

_MAX_PARTINGS = 3  # objects that were parted surround their neighbours less, which shows more valleys


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
    memory_bytes: int = 2**30,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> TrackedLabels:
    """Segment everything in a z-stack or movie.

    On key frames everything is found automatically. What is found on one of them is followed both ways to its
    neighbouring key frames, the first and last to the ends of the stack. Where two such tracks meet they are
    compared over the frames they have in common: alike ones are one object, and what is like nothing before is a
    new object. Objects that reach a key frame on which they were not found are then followed further. Only frames of
    two key intervals are held at a time, on disk.

    Parameters
    ----------
    stack : FrameSource, array or path
        Anything `open_frames` reads: (T, H, W) or (T, H, W, 3) arrays.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    every : int, optional
        Distance of key frames; an object that never crosses one is not found. Default: 3 to 10, as far as three
        quarters of the objects in the middle of the stack reach, which are found and followed first.
    key_frames : sequence of int, optional
        Key frames, instead of ``every``.
    finder : SAM2AutomaticMaskGenerator, optional
        Finds the masks of key frames. Default: one of ``model`` with the options that suit it.
    segmenter : SAM2VideoSegmenter, optional
        Follows them; its stack and objects are replaced. Default: one of ``model``.
    keep : callable, optional
        Chooses among the masks of a key frame, such as ``partial(filter_records, min_area=20)``; default all.
    min_iou : float, default 0.5
        Tracks with at least this IoU over their common frames are one object.
    min_containment : float, default 0.8
        A track of which at least this part lies inside one object, on common frames, is a piece of that object; an
        object that holds several such tracks and is like none of the key frame's has run over them, and they are new.
    min_score : float, default 0.0
        A tracked mask with a lower predicted IoU, 0 to 1, counts as not seen.
    extend : bool, default True
        Follow objects beyond a key frame on which they were missed. Without it an object lasts to the neighbours of
        the key frames on which it was found.
    split_stacked : bool, optional
        End an object where its contrast with its surroundings falls to half, and part those between which it has a
        valley: nuclei on each other, from one of which the light leads into the next; up to three times, as objects
        that were parted surround each other less. Then leave out the pixels with less than 0.4 of an object's highest
        contrast, which are in the light of its middle, and objects with too few planes for their width. Default: where
        objects are light on dark, as in fluorescence, unless the frames are times; of an array that has to be said,
        ``open_frames(movie, axes="TYX")``.
    out : array, optional
        (T, H, W) of zeros with item assignment by frame, such as a zarr array, to write into. Default: a new array.
    memory_bytes : int, default 1 GiB
        What the masks of the objects tracked at once may take.
    on_progress : callable, optional
        Called with a stage (``"key frame 20: searching"``), the steps done and the steps in all.
    should_stop : callable, optional
        Asked between steps; once it is true, what was finished is returned.

    Returns
    -------
    TrackedLabels
        ``labels`` (T, H, W) int32, objects numbered from 1 in the order in which they were found, and ``report``;
        the seed frames of an object are the key frames on which it was found.

    Raises
    ------
    PromptError
        If a number or key frame is not allowed.
    FrameError
        If the stack cannot be read.
    """
    frames = open_frames(stack)  # type: ignore[arg-type]
    check_out(out, frames.shape)
    keys = choose_key_frames(len(frames), every, key_frames)
    rules, settings = JoinRules(min_iou, min_containment), SeedTrackingSettings(min_score, memory_bytes)
    if finder is None or segmenter is None:
        network = ensure_model(model)
        finder = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle") if finder is None else finder
        segmenter = SAM2VideoSegmenter(network) if segmenter is None else segmenter
    segmenter.set_video(frames)
    target = np.zeros(frames.shape, np.int32) if out is None else out
    if keys is None:
        found_out = measure_spacing(
            frames, finder, segmenter, settings,
            keep=keep, split_stacked=split_stacked, on_progress=on_progress, should_stop=should_stop,
        )  # fmt: skip
        keys = choose_key_frames(len(frames), found_out) or []
    joiner, scores, is_complete = TrackletJoiner(target, rules), FoundScores(), bool(keys)
    for index, key in enumerate(keys):
        watched = TaskProgress(f"key frame {key} ({index + 1} of {len(keys)})", on_progress, should_stop)
        found = automatic_labels(
            finder, frames[key], keep=keep, progress=watched.detecting, should_stop=watched.should_stop
        )
        if found is None:
            is_complete = False
            break
        if not found.any():
            continue
        window = _window(keys, index, len(frames))
        with LabelWindow(window, frames.shape[1:]) as tracklets:
            own = FoundScores()
            is_complete = track_seeds(
                segmenter,
                read_seeds({key: found}, None, frames.shape),
                window,
                tracklets,
                own,
                settings,
                on_progress=watched.report,
                should_stop=watched.should_stop,
            )
            scores.join_as(own, joiner.join(tracklets, window, key))
        if not is_complete:
            break
    if is_complete and extend:
        is_complete = _extend(joiner, segmenter, keys, frames.shape, scores, settings, on_progress, should_stop)
    if is_complete:
        watched = TaskProgress("objects on each other", on_progress, should_stop)
        contrasts = contrasts_for_splitting(target, frames, range(len(frames)), split_stacked, watched)
        if contrasts is not None:
            _split_stacked(joiner, contrasts, scores, frames, watched)
        is_complete = not watched.is_cancelled
    report = describe_tracks(
        target,
        range(len(frames)),
        joiner.seed_frames,
        scores,
        is_complete=is_complete,
        num_merged=joiner.num_joined,
    )
    return TrackedLabels(target, report)  # type: ignore[arg-type]  # what came as out goes back


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
    """Follow objects beyond key frames on which they were missed; False if a wish to stop came."""
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
    joiner: TrackletJoiner, contrasts: Contrasts, scores: FoundScores, frames: FrameSource, watch: TaskProgress
) -> None:
    """Part objects that lie on each other, where they were taken for one, and trim them to their own light."""
    whole = range(len(frames))
    for _ in range(_MAX_PARTINGS):
        found = {object_id: tuple(keys) for object_id, keys in joiner.seed_frames.items()}
        pieces = split_labels(joiner.labels, contrasts, found, len(frames))
        for piece in pieces:
            joiner.seed_frames[piece.number] = [key for key in found.get(piece.source_id, ()) if key in piece.frames]
            if piece.number != piece.source_id:
                scores.join_as(scores, {piece.source_id: piece.number})
        if all(piece.number == piece.source_id for piece in pieces):
            break
        contrasts = measure_contrasts(joiner.labels, frames, watch.frames(whole, "comparing with surroundings"))
        if watch.is_cancelled:
            return
    trim_labels(joiner.labels, contrasts, frames, watch.frames(whole, "trimming"))
    if watch.is_cancelled:
        return
    for object_id in drop_flat_objects(joiner.labels, len(frames)):
        joiner.seed_frames.pop(object_id, None)
