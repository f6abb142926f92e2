"""A tracker and a mask finder that know the truth, so that what is built on them can be told right from wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from napari_sam2._types import FrameResult, FrameSource, LogitWindow, MaskRecord, Prompt
from napari_sam2.inference.tracking.plan import plan_tracking
from napari_sam2.labels.rle import encode_rle
from napari_sam2.network.dense_head import DENSE_CHANNELS


def make_record(mask: np.ndarray, **over: object) -> MaskRecord:
    """An automatic mask with good scores, unless told otherwise."""
    y, x = np.nonzero(mask)
    fields: dict[str, object] = {
        "segmentation": encode_rle(mask),
        "area": int(mask.sum()),
        "bbox": [int(x.min()), int(y.min()), int(np.ptp(x)), int(np.ptp(y))],
        "predicted_iou": 0.9,
        "stability_score": 0.95,
        "point_coords": [[float(x[0]), float(y[0])]],
        "crop_box": [0, 0, mask.shape[1], mask.shape[0]],
    }
    return MaskRecord(fields | over)


def paint(labels: np.ndarray) -> np.ndarray:
    """Grey images in which each object has its label as its intensity."""
    return np.asarray(labels, np.uint8)


def dense_maps_of(labels: np.ndarray) -> np.ndarray:
    """Maps as a perfect head gives them: foreground and outlines of labels."""
    maps = np.zeros((DENSE_CHANNELS, *labels.shape), np.float32)
    maps[0] = labels > 0
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, labels.max() + 1), 3)
    maps[2:] = labels > 0
    maps[1] = (labels > 0) & ((highest != labels) | (lowest != labels) | (ndimage.minimum_filter(labels, 3) == 0))
    return maps


class OracleFinder:
    """Finds each intensity of an image that was drawn by `paint`, but those in ``blind_to``."""

    def __init__(self, blind_to: Callable[[int], bool] = lambda _: False) -> None:
        self.blind_to = blind_to
        self.shapes: list[tuple[int, ...]] = []

    def generate_masks(
        self, image: np.ndarray, *, progress: Callable[[int, int], None] | None = None
    ) -> list[MaskRecord]:
        self.shapes.append(image.shape)
        grey = image[..., 0]
        records = []
        values = [int(v) for v in np.unique(grey) if v]
        for number, value in enumerate(values):
            if progress is not None:
                progress(number + 1, len(values))
            if not self.blind_to(value):
                records.append(make_record(grey == value))
        return records


class OracleTracker:
    """Follows the object of the truth that a mask prompt covers most; never leaves it."""

    def __init__(self, truth: np.ndarray, iou_score: float = 0.8) -> None:
        self.truth = truth
        self.iou_score = iou_score
        self.tracked_frames: list[tuple[int, tuple[int, ...]]] = []
        self._prompts: dict[int, dict[int, Prompt]] = {}
        self._true_id: dict[int, int] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.truth.shape

    def set_video(self, frames: FrameSource) -> None:
        assert frames.shape == self.truth.shape

    def reset(self) -> None:
        self._prompts, self._true_id = {}, {}

    def add_prompt(self, frame: int, prompt: Prompt, *, object_id: int) -> FrameResult:
        covered = self.truth[frame][prompt.mask]
        self._true_id.setdefault(object_id, int(np.bincount(covered).argmax()))
        self._prompts.setdefault(object_id, {})[frame] = prompt
        return self._result(frame, (object_id,))

    def remove_object(self, object_id: int) -> None:
        del self._prompts[object_id]

    def track_frames(self, *, start: int, stop: int | None, lost_after: int | None = None) -> Iterator[FrameResult]:
        limits = range(start, len(self.truth) if stop is None else stop)
        plan = plan_tracking({i: sorted(prompts) for i, prompts in self._prompts.items()}, limits)
        for step in (*plan.forwards, *plan.backwards):
            ids = tuple(i for i in step.object_ids if i in self._prompts)
            if step.reported_ids:
                self.tracked_frames.append((step.frame, ids))
                yield self._result(step.frame, ids)

    def _result(self, frame: int, ids: tuple[int, ...]) -> FrameResult:
        prompted = tuple(frame in self._prompts[i] for i in ids)
        masks = np.array(
            [
                self._prompts[i][frame].mask
                if given
                else (self.truth[frame] == self._true_id[i]) & (self._true_id[i] > 0)
                for i, given in zip(ids, prompted, strict=True)
            ],
            bool,
        ).reshape(len(ids), *self.truth.shape[1:])
        scores = np.full(len(ids), self.iou_score, np.float32)
        windows = tuple(LogitWindow(0, 0, np.where(mask, 5.0, -5.0).astype(np.float32)) for mask in masks)
        return FrameResult(frame, ids, masks.shape[1:], windows, scores, scores, has_logits=True, is_prompted=prompted)


def moving_squares(num_frames: int = 12, side: int = 40) -> np.ndarray:
    """(T, H, W) labels: 1 and 2 are there throughout, 3 leaves after frame 4, 4 comes on frame 6."""
    labels = np.zeros((num_frames, side, side), np.int32)
    for t in range(num_frames):
        labels[t, 2:10, 2 + t : 10 + t] = 1
        labels[t, 28:36, 28 - t : 36 - t] = 2
        if t <= 4:
            labels[t, 14:20, 2:9] = 3
        if t >= 6:
            labels[t, 14:22, 28:36] = 4
    return labels
