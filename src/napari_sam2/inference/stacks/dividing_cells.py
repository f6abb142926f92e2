"""Segment movies of cells that divide: everything on each frame by itself, linked over time with divisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_sam2._arguments import checked
from napari_sam2._errors import PromptError
from napari_sam2.frames import open_frames
from napari_sam2.inference.automatic.automatic_labels import KeepRecords, MaskFinder, automatic_labels
from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from napari_sam2.inference.progress import ProgressCallback, ShouldStop, TaskProgress
from napari_sam2.inference.stacks.unreadable import read_or_skip
from napari_sam2.labels.time_linking import TimeLinkingSettings, check_time_linking, link_frames
from napari_sam2.labels.waists import split_at_waist
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.labels.tracks import Tracks
    from napari_sam2.network.sam2 import SAM2

__all__ = ["DividingCells", "segment_dividing_cells"]


class DividingCells(NamedTuple):
    """Cells of a movie with their lineage.

    Attributes
    ----------
    labels : numpy.ndarray
        (T, H, W) int32; daughters have numbers of their own.
    tracks : Tracks
        With parents.
    is_complete : bool
        False if it was cancelled; frames that were not searched are empty.
    """

    labels: NDArray[np.int32]
    tracks: Tracks
    is_complete: bool


@checked(PromptError)
def segment_dividing_cells(
    movie: FrameSource | ArrayLike | str | Path,
    *,
    model: SAM2 | str | Path | None = None,
    finder: MaskFinder | None = None,
    keep: KeepRecords | None = None,
    linking: TimeLinkingSettings | None = None,
    on_progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> DividingCells:
    """Segment a movie of cells that divide, without prompts.

    Each frame is searched by itself, masks with a waist are split there, and objects are linked over time with
    divisions, as by `link_frames`: tracking tends to keep two daughters in one mask. Needs the extra ``tracks``. The
    labels are held in memory.

    Parameters
    ----------
    movie : FrameSource, array or path
        Anything `open_frames` reads: (T, H, W) or (T, H, W, 3) arrays.
    model : SAM2, str, Path or None
        A network, or a name or path for `load_model`; None is the bundled model.
    finder : SAM2AutomaticMaskGenerator, optional
        Segments each frame. Default: one for ``model`` with its default options.
    keep : callable, optional
        Selects among the masks of a frame, such as ``partial(filter_records, min_area=20)``; default all.
    linking : TimeLinkingSettings, optional
        How objects are linked. Default: as its attributes say, but with ``max_gap=2``.
    on_progress : callable, optional
        Called with the stage, the steps done and the steps in total.
    should_stop : callable, optional
        Called between steps; returns True to cancel. Finished frames are linked and returned.

    Returns
    -------
    DividingCells
        Labels and tracks.

    Raises
    ------
    PromptError
        If an argument has the wrong type.
    FrameError
        If the movie cannot be read, or the library that links is missing; single frames that cannot be read are
        skipped.
    """
    check_time_linking()  # before the long search
    frames = open_frames(movie)  # type: ignore[arg-type]
    if finder is None:
        finder = SAM2AutomaticMaskGenerator(ensure_model(model), output_mode="coco_rle")
    labels, num_done, num_read = np.zeros(frames.shape, np.int32), 0, 0
    watch = TaskProgress("movie", on_progress, should_stop)
    for frame in watch.frames(range(len(frames)), "detecting objects"):
        rgb = read_or_skip(frames, frame)
        if rgb is not None:
            found = automatic_labels(finder, rgb, keep=keep, should_stop=should_stop)
            if found is None:
                break
            labels[frame] = _split_at_waists(found)
            num_read += 1
        num_done += 1
    if num_done and not num_read:
        frames[0]  # says why
    linked, tracks = link_frames(labels, linking or TimeLinkingSettings(max_gap=2))
    return DividingCells(linked, tracks, num_done == len(frames))


def _split_at_waists(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Label image (H, W) in which masks with a waist are two objects."""
    split, number = labels.copy(), int(labels.max(initial=0))
    for object_id, box in enumerate(ndimage.find_objects(labels), 1):
        parts = [] if box is None else split_at_waist(labels[box] == object_id)
        if len(parts) == 2:
            number += 1
            split[box][parts[1]] = number
    return split
