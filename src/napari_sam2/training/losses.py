"""Losses of SAM 2: focal and dice on masks, regression of their IoU, presence of the object (paper, appendix D.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.network.features import DecodedMasks

__all__ = ["LossWeights", "PromptLoss", "mask_losses", "prompt_loss"]


_OTHER_LEVEL = 0.5  # weight of an object that a click may mean besides the one that is meant


@dataclass(frozen=True)
class LossWeights:
    """How the terms are weighed.

    Attributes
    ----------
    focal, dice, iou, presence : float
        Weights of the terms.
    balanced : float
        Weight of a cross entropy in which object and background count the same. It keeps the first steps from
        settling on empty masks, the nearest minimum of the other terms for small objects.
    other_branch : float
        Weight of the masks that the prompt does not ask for: the single mask of an ambiguous click, the three
        candidates of a clear prompt. Both are read at inference (the fallback for unstable masks).
    dense : float
        Weight of the dense head, which learns all objects of an image; 0 trains without it.
    """

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    presence: float = 1.0
    balanced: float = 0.0
    other_branch: float = 0.5
    dense: float = 0.0


@dataclass(frozen=True)
class PromptLoss:
    """A loss to minimise and, for the log, the mean IoU of the mask that would be shown."""

    total: Tensor
    shown_iou: Tensor


def mask_losses(
    logits: Tensor, truth: Tensor, weights: LossWeights, hidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Per-mask loss and true IoU.

    Parameters
    ----------
    logits : Tensor
        (N, M, h, w).
    truth : Tensor
        (N, h, w) coverage of each cell, 0 to 1.
    weights : LossWeights
        Of focal and dice.
    hidden : Tensor, optional
        (N,) cells of the object that lie outside the image: a mask of what is seen lacks them.

    Returns
    -------
    loss, iou : Tensor
        (N, M) each; the IoU without gradient.
    """
    target = truth[:, None].expand_as(logits)
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = probability + target - 2 * probability * target  # 1 - p_t
    balance = 0.25 * target + 0.75 * (1 - target)
    focal = (balance * missed.square() * cross_entropy).flatten(2).mean(-1)
    overlap = (probability * target).flatten(2).sum(-1)
    dice = 1 - (2 * overlap + 1) / (probability.flatten(2).sum(-1) + target.flatten(2).sum(-1) + 1)
    with torch.no_grad():
        found, real = logits > 0, target > 0.5
        union = (found | real).flatten(2).sum(-1)
        if hidden is not None:
            union = union + hidden[:, None]
        iou = (found & real).flatten(2).sum(-1) / union.clamp(min=1)
    loss = weights.focal * focal + weights.dice * dice
    if weights.balanced:
        inside = (cross_entropy * target).flatten(2).sum(-1) / (target.flatten(2).sum(-1) + 1)
        outside = (cross_entropy * (1 - target)).flatten(2).sum(-1) / ((1 - target).flatten(2).sum(-1) + 1)
        loss = loss + weights.balanced * (inside + outside) / 2
    return loss, iou


def prompt_loss(
    decoded: DecodedMasks,
    truth: Tensor,
    is_present: Tensor,
    *,
    ambiguous: bool,
    weights: LossWeights,
    hidden: Tensor | None = None,
    others: tuple[Tensor, Tensor] | None = None,
) -> PromptLoss:
    """Loss of one decoder call with all four masks.

    Parameters
    ----------
    decoded : DecodedMasks
        Of N prompts; ``logits`` (N, 4, h, w).
    truth : Tensor
        (N, H, W) 0/1 masks, H a multiple of 2h.
    is_present : Tensor
        (N,) bool: whether the object is on the frame; absent objects only train the presence score.
    ambiguous : bool
        One click or a tracked frame: the best of three candidates is what counts.
    weights : LossWeights
        Of the terms.
    hidden : Tensor, optional
        (N,) pixels of the object outside the image: the IoU is that with the whole object, so that the scores of
        windows that show more or less of it compare. NaN where unknown: the IoU is not learned there.
    others : tuple of Tensor, optional
        Rows (M,) and masks (M, H, W) of further objects that a click may mean. For each, the best of the three
        candidates counts too, so that they come to differ in scale; the IoU remains that with ``truth``.
    """
    h, w = decoded.logits.shape[-2:]
    fine = F.interpolate(decoded.logits.float(), size=(2 * h, 2 * w), mode="bilinear", align_corners=False)
    target = F.adaptive_avg_pool2d(truth.float()[:, None], (2 * h, 2 * w))[:, 0]
    cells = None if hidden is None else hidden.nan_to_num(0) * (4 * h * w / truth.shape[-1] / truth.shape[-2])
    loss, iou = mask_losses(fine, target, weights, cells)
    single, several = loss[:, 0], loss[:, 1:].min(dim=1).values
    main, other = (several, single) if ambiguous else (single, several)
    present = is_present.float()
    count = present.sum().clamp(min=1)
    masks = ((main + weights.other_branch * other) * present).sum() / count
    if others is not None and len(others[0]):
        rows, further = others
        wanted = F.adaptive_avg_pool2d(further.float()[:, None], (2 * h, 2 * w))[:, 0]
        each, _ = mask_losses(fine[rows, 1:], wanted, weights)
        masks = masks + _OTHER_LEVEL * each.min(dim=1).values.sum() / count
    sure = present if hidden is None else present * ~hidden.isnan()
    iou_error = ((decoded.iou.float() - iou).square().mean(dim=1) * sure).sum() / sure.sum().clamp(min=1)
    presence = F.binary_cross_entropy_with_logits(decoded.object_score.float()[:, 0], present)
    total = masks + weights.iou * iou_error + weights.presence * presence
    with torch.no_grad():
        best = decoded.iou[:, 1:].argmax(dim=1) + 1
        shown = iou[torch.arange(len(best)), best] if ambiguous else iou[:, 0]
        shown_iou = (shown * present).sum() / count
    return PromptLoss(total, shown_iou)
