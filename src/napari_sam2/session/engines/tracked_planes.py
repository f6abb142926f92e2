"""Packed masks of tracked frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from napari_sam2._packed_mask import PackedMask
from napari_sam2._types import FrameResult, StageShift
from napari_sam2.inference.requests import TrackStep
from napari_sam2.inference.tracking.plan import frames_met_twice
from napari_sam2.labels.canvas import FrameComposer
from napari_sam2.session.state.records import ObjectMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PlanePacker", "TrackedPlane"]


@dataclass(frozen=True, eq=False)
class TrackedPlane:
    """Masks of one step, packed; they do not overlap each other.

    ``is_usable`` and ``stage_shift`` are those of the ``FrameResult``; None where they are not known.
    ``num_done`` steps of the request are done with it; None: one more.
    """

    step: TrackStep
    masks: dict[int, ObjectMask]
    is_usable: bool | None = None
    stage_shift: StageShift | None = None
    num_done: int | None = None


class PlanePacker:
    """Packs the results of one propagation; overlapping masks are composed as ``FrameComposer`` composes them.

    Parameters
    ----------
    hw : tuple of int
        Height and width of a plane.
    steps : sequence of TrackStep
        All steps of the propagation.
    min_component : float
        As for ``FrameComposer``.
    """

    def __init__(self, hw: tuple[int, int], steps: Sequence[TrackStep], *, min_component: float) -> None:
        self._hw = hw
        self._contested = frames_met_twice(steps)
        self._composer = FrameComposer(hw, self._contested, min_component=min_component)
        self._packed: dict[int, dict[int, ObjectMask]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._composer.__exit__(kind, error, trace)

    def pack(self, result: FrameResult, step: TrackStep) -> TrackedPlane:
        """The masks of a tracked frame.

        Objects that are no longer tracked are empty and "lost". Masks of the frame's earlier result are included if
        they lost pixels to this one.
        """
        before = self._packed.get(result.frame, {})
        labels = self._composer.compose(result, lambda: self._labels_of(before))
        masks: dict[int, ObjectMask] = {}
        for row, object_id in enumerate(result.object_ids):
            iou, score = float(result.iou_scores[row]), float(result.object_scores[row])
            window = result.windows[row]
            own = labels[window.slices] == object_id
            packed = PackedMask.pack(own, origin_yx=(window.top, window.left))
            masks[object_id] = ObjectMask(packed, "tracked", iou, score)
        for object_id, mask in before.items():
            left = PackedMask.pack(labels[mask.window] == object_id, origin_yx=mask.box[:2])
            if left.area != mask.area:
                masks[object_id] = replace(mask, packed=left)
        for object_id in step.reported_ids:
            if object_id not in masks:
                masks[object_id] = ObjectMask(PackedMask(), "lost")
        if result.frame in self._contested:
            self._packed[result.frame] = before | masks
        return TrackedPlane(step, masks, result.is_usable, result.stage_shift)

    def _labels_of(self, masks: dict[int, ObjectMask]) -> NDArray[np.int32]:
        labels = np.zeros(self._hw, np.int32)
        for object_id, mask in masks.items():
            if mask.area:
                labels[mask.window][mask.pixels()] = object_id
        return labels
