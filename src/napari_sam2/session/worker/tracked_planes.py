"""Packed masks of a tracked frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._types import FrameResult
from napari_sam2.inference.requests import TrackStep
from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.packed_mask import PackedMask
from napari_sam2.session.state.records import ObjectMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TrackedPlane", "pack_result", "without_specks"]


@dataclass(frozen=True, eq=False)
class TrackedPlane:
    """Masks of one step, packed; they do not overlap each other."""

    step: TrackStep
    masks: dict[int, ObjectMask]


def pack_result(result: FrameResult, step: TrackStep) -> TrackedPlane:
    """Masks of a tracked frame; the highest logit wins a pixel, and objects no longer tracked are empty and "lost"."""
    masks: dict[int, ObjectMask] = {}
    found = np.asarray(result.masks)
    if len(found) > 1 and result.logits is not None:
        winner = result.logits.argmax(0)
        found = np.stack([mask & (winner == row) for row, mask in enumerate(found)])
    for row, object_id in enumerate(result.object_ids):
        iou, score = float(result.iou_scores[row]), float(result.object_scores[row])
        masks[object_id] = ObjectMask.pack(without_specks(found[row]), "tracked", iou, score)
    for object_id in step.reported_ids:
        if object_id not in masks:
            masks[object_id] = ObjectMask(PackedMask(), "lost")
    return TrackedPlane(step, masks)


def without_specks(mask: NDArray[np.bool_], smallest_share: float = 0.05) -> NDArray[np.bool_]:
    """An (H, W) mask without components smaller than a share of its largest one, which are not objects of their own."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return mask
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    numbers, areas = find_pieces(mask[window])
    if len(areas) < 3:
        return mask
    kept = np.zeros_like(mask)
    kept[window] = (areas >= smallest_share * areas.max())[numbers] & mask[window]
    return kept
