"""Automatic segmentation and tracking of labels of an open image, with one model kept between calls; imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from napari_sam2._files import file_stamp
from napari_sam2._messages import counted
from napari_sam2._viewer.alike import Candidate
from napari_sam2.frames.planes import ClipFrames
from napari_sam2.frames.regions import PlaneRegions
from napari_sam2.labels.protocols import ReindexedLabels
from napari_sam2.labels.storage import allocate_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.frames.planes import ArrayPlanes
    from napari_sam2.inference.automatic.mask_generator import Proposals, SAM2AutomaticMaskGenerator
    from napari_sam2.inference.stacks.report import TrackingReport
    from napari_sam2.labels.rle import RLE
    from napari_sam2.labels.tracks import Tracks
    from napari_sam2.labels.volume_linking import TimelapseReport

__all__ = ["Filters", "Found", "Searcher", "StackSearch", "TaskControl", "Tracked", "leave_a_core_to_the_window"]

_TILED_ABOVE = 2048  # pixels along a side
_MIN_VISIBLE = 0.2
_STOPPED = "stopped early: finished frames are shown"


class TaskControl(Protocol):
    """How work reports its progress, and learns that it is to end."""

    def report(self, value: Any, /) -> None:
        """Take a report: the stage, how much of it is finished, and how much there is."""

    def should_stop(self) -> bool:
        """Whether to end the work."""


@dataclass(frozen=True)
class Filters:
    """Which masks are kept; None where the model's own threshold is meant.

    Attributes
    ----------
    min_iou, min_stability : float or None
        0 to 1.
    min_area, max_area : float
        In the unit of ``pixel_size`` squared.
    pixel_size : (float, float)
        Height and width.
    exclude_border : bool
        Leave out what touches a side.
    """

    min_iou: float | None = None
    min_stability: float | None = None
    min_area: float = 0.0
    max_area: float = float("inf")
    pixel_size: tuple[float, float] = (1.0, 1.0)
    exclude_border: bool = False

    def by_shape(self) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """The filter of area and border."""
        from napari_sam2.inference.automatic.record_filters import filter_records

        return partial(
            filter_records,
            min_area=self.min_area,
            max_area=self.max_area,
            pixel_size=self.pixel_size,
            exclude_border=self.exclude_border,
        )


@dataclass(frozen=True)
class StackSearch:
    """How a stack is searched.

    Attributes
    ----------
    every : int or None
        Distance of key frames; None: chosen from the image.
    split_stacked : bool or None
        Whether objects stacked in z are split; None: chosen from the image.
    """

    every: int | None = None
    split_stacked: bool | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """Everything on one plane: ``labels`` (H, W), and the candidates where thresholds can choose again.

    ``is_all`` is false where another search would find more candidates for thresholds as low as these.
    """

    plane: int
    labels: NDArray[np.int32]
    proposals: Proposals | None = None
    is_all: bool = True

    @property
    def num_objects(self) -> int:
        """How many there are now."""
        return int((np.unique(self.labels) > 0).sum())

    @property
    def can_filter(self) -> bool:
        """Whether thresholds can move without searching again."""
        return self.proposals is not None

    @property
    def num_candidates(self) -> int | None:
        """How many masks there are to choose among."""
        return None if self.proposals is None else len(self.proposals.runs)


@dataclass(frozen=True, eq=False)
class Tracked:
    """Labels of the planes of a clip.

    Attributes
    ----------
    clip : range
        The planes.
    labels : array
        (T, H, W), or of the image's shape.
    text : str
        A summary.
    is_search : bool
        Whether everything was searched; otherwise given labels were tracked.
    is_complete : bool
        False if it was stopped.
    tracks : Tracks or None
        The lineage, of cells that divide; their frames are those of the clip.
    num_objects : int or None
        How many were found in a search.
    """

    clip: range
    labels: Any
    text: str
    is_search: bool
    is_complete: bool = True
    tracks: Tracks | None = None
    num_objects: int | None = None

    def as_image(self, geometry: StackGeometry) -> Any:
        """Labels of the image's shape; other clips are empty."""
        if tuple(self.labels.shape) == geometry.shape:
            return self.labels
        image = allocate_labels(geometry.shape)
        for frame, plane in enumerate(self.clip):
            image[geometry.index(plane)] = self.labels[frame]
        return image


class _StoppedError(Exception):
    """The user cancelled; leaves the generator."""


class Searcher:
    """Keeps the latest model between runs; one call at a time, but for ``filter``."""

    def __init__(self) -> None:
        self._loaded: tuple[str, tuple[int, int] | None] | None = None  # name, and the file as it was
        self._model: Any = None
        self._generator: SAM2AutomaticMaskGenerator | None = None

    def has_loaded(self, name: str) -> bool:
        """Whether this model is loaded already, from the file that is there now."""
        return self._model is not None and self._loaded == (name, file_stamp(name))

    def _load(self, name: str) -> Any:
        leave_a_core_to_the_window()
        if not self.has_loaded(name):
            from napari_sam2.weights.loading import load_model

            self._model = self._generator = None
            loaded = (name, file_stamp(name))
            self._model, self._loaded = load_model(name), loaded
        return self._model

    def _finder(self, name: str, filters: Filters | None = None) -> SAM2AutomaticMaskGenerator:
        """A generator; with ``filters``, one that keeps only what passes them."""
        from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator

        model = self._load(name)
        return SAM2AutomaticMaskGenerator(
            model,
            output_mode="coco_rle",
            pred_iou_thresh=None if filters is None else filters.min_iou,
            stability_score_thresh=None if filters is None else filters.min_stability,
        )

    def search_plane(
        self, name: str, planes: ArrayPlanes, plane: int, filters: Filters, context: TaskControl
    ) -> Found | None:
        """Everything on one plane; None if it was stopped."""
        if max(planes.shape[1:]) > _TILED_ABOVE:
            return self._search_tiles(name, planes, plane, filters, context)
        self._generator = self._finder(name, filters)
        rgb = planes[plane]

        def progress(done: int, total: int) -> None:
            context.report(("searching", done, total))
            if context.should_stop():
                raise _StoppedError

        try:
            proposals = self._generator.propose(rgb, progress=progress)
        except _StoppedError:
            return None
        return self.filter(plane, proposals, filters)

    def filter(self, plane: int, proposals: Proposals, filters: Filters) -> Found:
        """Choose among candidates that were found before."""
        from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
        from napari_sam2.inference.automatic.refinement import candidate_thresholds
        from napari_sam2.labels.compose import masks_to_labels

        generator = self._generator
        assert generator is not None
        suits = SAM2AutomaticMaskGenerator(generator.predictor).options
        iou = suits.pred_iou_thresh if filters.min_iou is None else filters.min_iou
        stability = suits.stability_score_thresh if filters.min_stability is None else filters.min_stability
        records = generator.filter(proposals, pred_iou_thresh=iou, stability_score_thresh=stability)
        kept = filters.by_shape()(records)
        lowest = candidate_thresholds(generator.options)
        return Found(
            plane,
            masks_to_labels(kept, proposals.hw, min_visible_fraction=_MIN_VISIBLE),
            proposals,
            is_all=iou >= lowest[0] and stability >= lowest[1],
        )

    def candidates(self, name: str, image: NDArray[np.uint8], near: Candidate, context: TaskControl) -> list[Candidate]:
        """All masks of an (H, W, 3) image that may be objects; of a large one, those around ``near``."""
        from napari_sam2.inference.automatic.refinement import candidate_thresholds
        from napari_sam2.labels.rle import decode_rle

        top, left = (
            min(max(0, middle - _TILED_ABOVE // 2), max(0, size - _TILED_ABOVE))
            for middle, size in zip((near.top, near.left), image.shape[:2], strict=True)
        )
        part = np.ascontiguousarray(image[top : top + _TILED_ABOVE, left : left + _TILED_ABOVE])
        finder = self._finder(name)

        def progress(done: int, total: int) -> None:
            context.report(("searching", done, total))
            if context.should_stop():
                raise _StoppedError

        try:
            proposals = finder.propose(part, progress=progress)
        except _StoppedError:
            return []
        iou, stability = candidate_thresholds(finder.options)
        records = finder.filter(proposals, pred_iou_thresh=iou, stability_score_thresh=stability)
        masks = [decode_rle(cast("RLE", record["segmentation"])) for record in records]
        scores = [cast("float", record["predicted_iou"]) for record in records]
        return [Candidate.of(mask, score, (top, left)) for mask, score in zip(masks, scores, strict=True) if mask.any()]

    def _search_tiles(
        self, name: str, planes: ArrayPlanes, plane: int, filters: Filters, context: TaskControl
    ) -> Found | None:
        from napari_sam2.inference.automatic.tiling import segment_tiled

        unit = filters.pixel_size[0] * filters.pixel_size[1]
        labels = segment_tiled(
            PlaneRegions(planes, plane),
            finder=self._finder(name, filters),
            min_area_px=filters.min_area / unit,
            max_area_px=filters.max_area / unit,
            exclude_border=filters.exclude_border,
            out=allocate_labels(planes.shape[1:]),
            on_progress=lambda *progress: context.report(progress),
            should_stop=context.should_stop,
        )
        return None if context.should_stop() else Found(plane, labels)

    def search_stack(
        self, name: str, planes: ArrayPlanes, clip: range, search: StackSearch, filters: Filters, context: TaskControl
    ) -> Tracked:
        """Everything in the planes of a clip; what is finished when it is stopped."""
        from napari_sam2.inference.stacks.key_frame_search import segment_stack
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

        finder, frames = self._finder(name, filters), ClipFrames(planes, clip)
        labels, report = segment_stack(
            frames,
            every=search.every,
            split_stacked=search.split_stacked,
            finder=finder,
            segmenter=SAM2VideoSegmenter(self._load(name)),
            keep=filters.by_shape(),
            out=allocate_labels(frames.shape),
            on_progress=lambda *progress: context.report(progress),
            should_stop=context.should_stop,
        )
        text, count = _describe(report, not_found=len(report.not_found)), len(report.tracks)
        return Tracked(clip, labels, text, is_search=True, is_complete=report.is_complete, num_objects=count)

    def search_divisions(
        self, name: str, planes: ArrayPlanes, clip: range, filters: Filters, context: TaskControl
    ) -> Tracked:
        """Cells that divide, in the frames of a clip; what is finished when it is stopped."""
        from napari_sam2.inference.stacks.dividing_cells import segment_dividing_cells

        found = segment_dividing_cells(
            ClipFrames(planes, clip),
            finder=self._finder(name, filters),
            keep=filters.by_shape(),
            on_progress=lambda *progress: context.report(progress),
            should_stop=context.should_stop,
        )
        count = len(found.tracks.spans())
        num_divisions = sum(len(each) > 1 for each in found.tracks.daughters().values())
        text = f"{count} tracks, {num_divisions} division{'s' * (num_divisions != 1)}"
        if not found.is_complete:
            text = f"{text}; {_STOPPED}"
        return Tracked(
            clip,
            found.labels,
            text,
            is_search=True,
            is_complete=found.is_complete,
            tracks=found.tracks,
            num_objects=count,
        )

    def search_volumes(
        self, name: str, planes: ArrayPlanes, search: StackSearch, filters: Filters, context: TaskControl
    ) -> Tracked:
        """Everything in every clip, linked from one clip to the next; what is finished when it is stopped."""
        from napari_sam2.inference.stacks.volumes import segment_time_points
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

        geometry = planes.geometry
        clips = [geometry.clip_range(clip * geometry.num_frames) for clip in range(geometry.num_clips)]
        labels, shape = allocate_labels(geometry.shape), (len(clips), geometry.num_frames, *geometry.hw)
        report = segment_time_points(
            lambda time: ClipFrames(planes, clips[time]),
            ReindexedLabels(labels, shape, lambda place: geometry.index(clips[place[0]][place[1]])),
            shape,
            every=search.every,
            split_stacked=search.split_stacked,
            finder=self._finder(name, filters),
            segmenter=SAM2VideoSegmenter(self._load(name)),
            keep=filters.by_shape(),
            on_progress=lambda *progress: context.report(progress),
            should_stop=context.should_stop,
        )
        text, count, clip = _describe(report, "last time point"), len(report.tracks), range(geometry.num_planes)
        return Tracked(clip, labels, text, is_search=True, is_complete=report.is_complete, num_objects=count)

    def track(
        self,
        name: str,
        planes: ArrayPlanes,
        clip: range,
        seeds: Mapping[int, NDArray[np.int32]],
        context: TaskControl,
    ) -> Tracked:
        """The objects of some planes (labels by plane) in all planes of their clip; what is finished when stopped."""
        from napari_sam2.inference.stacks.label_seeds import segment_seeds
        from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

        frames = ClipFrames(planes, clip)
        labels, report = segment_seeds(
            frames,
            {plane - clip.start: labels for plane, labels in seeds.items()},
            segmenter=SAM2VideoSegmenter(self._load(name)),
            out=allocate_labels(frames.shape),
            on_progress=lambda *progress: context.report(progress),
            should_stop=context.should_stop,
        )
        text = _describe(report, not_found=len(report.not_found))
        return Tracked(clip, labels, text, is_search=False, is_complete=report.is_complete)


def _describe(report: TrackingReport | TimelapseReport, last: str = "last frame", not_found: int = 0) -> str:
    kinds = (
        (len(report.lost), f"end before the {last}"),
        (len(report.appeared), "begin after the first"),
        (not_found, "were found on no other frame"),
    )
    parts = [counted(len(report.tracks), "object"), *(f"{count} {what}" for count, what in kinds if count)]
    if not report.is_complete:
        parts.append(_STOPPED)
    return "; ".join(parts)


def leave_a_core_to_the_window() -> None:
    """Called at the start of work: torch computes with one core less than there are. Imports torch."""
    from napari_sam2._torch_import import importing_torch
    from napari_sam2.session.state.settings import threads_beside_a_window

    with importing_torch():
        import torch

    torch.set_num_threads(threads_beside_a_window())
