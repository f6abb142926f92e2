"""The stored masks of a frame as a result at the size of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam2._types import FrameResult, LogitWindow
from napari_sam2.inference.masks.logits import MASK_LOGIT, SUPPRESSED_LOGIT
from napari_sam2.inference.views.transforms import logits_in_view
from napari_sam2.labels.components import without_specks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam2.inference.tracking.memory_bank import FrameMemory
    from napari_sam2.inference.tracking.settings import SegmentationSettings
    from napari_sam2.inference.tracking.tracked_object import TrackedObject

__all__ = ["render_frame"]


def render_frame(
    frame: int,
    objects: Sequence[TrackedObject],
    hw: tuple[int, int],
    settings: SegmentationSettings,
    *,
    return_logits: bool = False,
) -> FrameResult:
    """The stored masks of a frame at the size of the image."""
    held = [(tracked, memory) for tracked in objects if (memory := tracked.bank.at(frame)) is not None]
    windows = [_window(tracked, memory, hw, settings) for tracked, memory in held]
    memories = [memory for _, memory in held]
    iou = torch.cat([m.iou for m in memories]).cpu().numpy() if held else np.zeros(0, np.float32)
    score = torch.cat([m.object_score[:, 0] for m in memories]).cpu().numpy() if held else np.zeros(0, np.float32)
    return FrameResult(
        frame=frame,
        object_ids=tuple(tracked.object_id for tracked, _ in held),
        hw=hw,
        windows=tuple(window if return_logits else window.cropped() for window in windows),
        iou_scores=iou,
        object_scores=score,
        has_logits=return_logits,
        is_prompted=tuple(frame in tracked.bank.prompted for tracked, _ in held),
        prompt_distances=tuple(tracked.bank.prompt_distance(frame) for tracked, _ in held),
        is_usable=not any(memory.is_unusable for memory in memories),
    )


def _window(
    tracked: TrackedObject, memory: FrameMemory, hw: tuple[int, int], settings: SegmentationSettings
) -> LogitWindow:
    """Logits of one object in the part of the image that its view shows, without small components of its mask.

    Masks given by the user are kept as they are.
    """
    own = None if settings.reference_behaviour else tracked.own_mask(memory.frame)
    if own is not None:
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        top, left = int(rows[0]), int(columns[0])
        inner = own[top : rows[-1] + 1, left : columns[-1] + 1]
        return LogitWindow(top, left, np.where(inner, np.float32(MASK_LOGIT), np.float32(-MASK_LOGIT)))
    (top, left), local = logits_in_view(memory.logits, memory.view, hw)
    logits = local[0, 0].cpu().numpy()
    if not settings.reference_behaviour:
        mask = logits > 0
        kept = without_specks(mask, settings.component_filter.min_component)
        if kept is not mask:
            logits[mask & ~kept] = SUPPRESSED_LOGIT
    return LogitWindow(top, left, logits)
