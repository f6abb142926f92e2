"""Objects that claim the same pixels of a frame: which of them gets the pixels, and whether they look alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from napari_sam2._types import OUTSIDE_LOGIT
from napari_sam2.inference.masks.logits import SUPPRESSED_LOGIT
from napari_sam2.inference.tracking.claims import Claim, find_distracted, motion_likelihood, settle_claims
from napari_sam2.inference.tracking.sharing import share_pixels
from napari_sam2.inference.views.transforms import logits_in_view
from napari_sam2.network.sam2 import ABSENT_LOGIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2.inference.tracking.last_places import LastPlaces
    from napari_sam2.inference.tracking.memory_bank import FrameMemory
    from napari_sam2.inference.tracking.motion import Motion
    from napari_sam2.inference.tracking.settings import SegmentationSettings
    from napari_sam2.inference.tracking.tracked_object import TrackedObject
    from napari_sam2.inference.views.view import View
    from napari_sam2.network.features import DecodedMasks
    from napari_sam2.network.sam2 import SAM2

__all__ = ["FrameOverlaps"]


class FrameOverlaps:
    """Compares the new masks of the objects of one frame with each other.

    Parameters
    ----------
    model : SAM2
        The network.
    places : LastPlaces
        Where the objects were last seen.
    hw : tuple of int
        (H, W) of the frames.
    settings : SegmentationSettings
        How overlaps are settled.
    """

    def __init__(self, model: SAM2, places: LastPlaces, hw: tuple[int, int], settings: SegmentationSettings) -> None:
        self._model, self._places, self._hw, self._settings = model, places, hw, settings

    def settled(
        self, raw: dict[int, FrameMemory], others: dict[int, DecodedMasks], motions: dict[int, Motion | None]
    ) -> dict[int, FrameMemory]:
        """The memories after objects that claim the same pixels were compared."""
        settings = self._settings.claims
        claims: dict[int, list[Claim]] = {}
        options: dict[int, list[FrameMemory]] = {}
        for i, memory in raw.items():
            motion = motions[i]
            if motion is None or not bool((memory.logits > 0).any()):
                continue
            options[i] = [memory, *self._alternatives(memory, others[i])]
            claims[i] = [self._claim(each, motion) for each in options[i]]
        settled = settle_claims(claims, settings)
        chosen = {i: self._absent(raw[i]) if rank is None else options[i][rank] for i, rank in settled.items()}
        return raw | chosen

    def shares(self, num_objects: int) -> bool:
        """Whether the objects of a frame share pixels that several of them claim."""
        settings = self._settings
        is_wanted = settings.sharing.are_shared and not settings.reference_behaviour
        return is_wanted and num_objects > 1 and self._model.config.follows_last_mask

    def shared(
        self, raw: dict[int, FrameMemory], objects: Sequence[TrackedObject], frame: int, *, reverse: bool
    ) -> dict[int, FrameMemory]:
        """The memories after each pixel was given to one object."""
        memories = {t.object_id: raw.get(t.object_id) or t.bank.prompted[frame] for t in objects}
        there = [tracked for tracked in objects if memories[tracked.object_id].mask.any()]
        claimants = [self._places.claimant(t, memories[t.object_id], reverse=reverse) for t in there]
        shares = share_pixels(claimants, self._settings.sharing)
        changed: dict[int, FrameMemory] = {}
        for row, lost in shares.lost.items():
            object_id = there[row].object_id
            memory = self._without(memories[object_id], lost)
            changed[object_id] = replace(memory, is_contested=row in shares.contested)
        return raw | changed

    def _without(self, memory: FrameMemory, lost: NDArray[np.bool_]) -> FrameMemory:
        """A memory without pixels that belong to other objects."""
        mask = memory.mask
        left = mask & ~lost
        if left.sum() < self._settings.sharing.min_left * mask.sum():
            return self._absent(memory)
        is_lost = torch.from_numpy(lost).to(memory.logits.device)
        return replace(memory, logits=torch.where(is_lost, memory.logits.clamp(max=SUPPRESSED_LOGIT), memory.logits))

    def _alternatives(self, memory: FrameMemory, candidates: DecodedMasks) -> list[FrameMemory]:
        """Other masks of the decoder, as memories."""
        logits, iou = candidates.logits.float(), candidates.iou.float()
        return [
            replace(
                memory,
                logits=logits[:, k : k + 1],
                iou=iou[:, k],
                pointer=self._model.obj_ptr_proj(candidates.tokens[:, k]),
            )
            for k in range(1, logits.shape[1])
            if bool((logits[:, k] > 0).any())
        ]

    def distracted(self, raw: dict[int, FrameMemory], others: dict[int, DecodedMasks]) -> set[int]:
        """Objects that could be taken for another one on this frame."""
        visible = {i: memory for i, memory in raw.items() if i in others and bool((memory.logits > 0).any())}
        masks = {i: mask for i, memory in visible.items() if (mask := self._mask_in_image(memory)).area}
        candidates = {i: [self._mask_in_image(m) for m in self._alternatives(visible[i], others[i])] for i in masks}
        return find_distracted(masks, candidates, self._settings.distractors)

    def _claim(self, memory: FrameMemory, motion: Motion) -> Claim:
        claim = self._mask_in_image(memory)
        if not claim.area:
            return claim
        likely = motion_likelihood(
            claim.centre_xy, claim.area, motion.expected, motion.last_area, self._settings.claims
        )
        return replace(claim, score=claim.score * likely)

    def _mask_in_image(self, memory: FrameMemory) -> Claim:
        """The mask of a memory with its predicted IoU as the score; empty where it lies outside the image."""
        (top, left), local = logits_in_view(memory.logits, memory.view, self._hw)
        mask = _as_mask(local[0, 0])
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return Claim(top, left, np.zeros((1, 1), bool), 0.0)
        inner = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Claim(top + int(rows[0]), left + int(columns[0]), inner, float(memory.iou[0]))

    def _absent(self, memory: FrameMemory) -> FrameMemory:
        return replace(
            memory,
            logits=torch.full_like(memory.logits, ABSENT_LOGIT),
            object_score=memory.object_score.clamp(max=self._settings.component_filter.absent_score),
            pointer=self._model.no_obj_ptr.detach().clone().to(memory.pointer.dtype),
        )

    def non_overlapping(self, memories: dict[int, FrameMemory]) -> dict[int, Tensor]:
        """Logits of each object at the model's input size; pixels assigned to another object are suppressed."""
        parts = {i: logits_in_view(m.logits, m.view, self._hw) for i, m in memories.items()}
        first = next(iter(parts.values()))[1]
        best = first.new_full(self._hw, OUTSIDE_LOGIT)
        owner = torch.zeros(self._hw, dtype=torch.int32, device=first.device)
        for object_id, ((top, left), logits) in parts.items():
            part = (slice(top, top + logits.shape[-2]), slice(left, left + logits.shape[-1]))
            wins = logits[0, 0] > best[part]
            best[part] = torch.where(wins, logits[0, 0], best[part])
            owner[part] = torch.where(wins, object_id, owner[part])
        kept: dict[int, Tensor] = {}
        for object_id, ((top, left), logits) in parts.items():
            is_own = owner[top : top + logits.shape[-2], left : left + logits.shape[-1]] == object_id
            own = torch.where(is_own, logits, logits.clamp(max=SUPPRESSED_LOGIT))
            kept[object_id] = _in_view(own, (top, left), memories[object_id].view, self._model.image_size)
        return kept


def _as_mask(logits: Tensor) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (logits > 0).cpu().numpy()
    return mask


def _in_view(logits: Tensor, top_left: tuple[int, int], view: View, size: int) -> Tensor:
    """Logits (1, 1, y, x) of the part of the image in a view, as (1, 1, S, S); what lies outside is background."""
    above, before = top_left[0] - view.y, top_left[1] - view.x
    padding = (before, view.width - before - logits.shape[-1], above, view.height - above - logits.shape[-2])
    padded = F.pad(logits, padding, value=SUPPRESSED_LOGIT)
    return F.interpolate(padded, size=(size, size), mode="bilinear", align_corners=False)
