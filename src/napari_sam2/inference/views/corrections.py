"""What a further click changes in a mask: every click is honoured, and what is far from it mostly stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2._types import Prompt
    from napari_sam2.inference.views.view import View

__all__ = ["CorrectionSettings", "honour_clicks", "keep_far_from_clicks"]


@dataclass(frozen=True)
class CorrectionSettings:
    """How an earlier mask and further clicks make a new one, for models with a native window.

    Lengths are in pixels of the low-resolution mask; each is four pixels of the model's input wide.

    Attributes
    ----------
    kept_weight : float
        Weight of the earlier logits far from the click in the mean with the new ones, 0 to 1.
    reach_factor : float
        "Far" begins at this many times the distance from the click to the outline of the earlier mask.
    min_reach : float
        The distance is taken to be at least this.
    min_iou : float
        The earlier mask is kept only if its IoU with the new one is at least this; otherwise the click means another
        object.
    max_radius : float
        Pixels around a click that the mask contradicts are changed as far as the outline, but no farther than this, nor
        more than half of the way to a click of the other kind.
    honoured_logit : float
        Logits of these pixels are at least this, or at most its negative.
    shrunken : float
        A mask whose suitable view is smaller than this fraction of the one it was made in is decoded there once more.

    Notes
    -----
    Chosen on about 20 objects of each of the seven 2D sets of ``dev2`` (`docs/model_card.md`): with ``reach_factor``
    from 2 to 5 and ``kept_weight`` from 0.5 to 0.9, about as many clicks are needed.
    """

    kept_weight: float = 0.7
    reach_factor: float = 2.0
    min_reach: float = 1.5
    min_iou: float = 0.5
    max_radius: float = 3.0
    honoured_logit: float = 1.0
    shrunken: float = 0.67


def honour_clicks(
    logits: Tensor, view: View, prompt: Prompt, settings: CorrectionSettings = CorrectionSettings()
) -> Tensor:
    """Change masks that contradict a click around it, so that clicks on the object are inside, others outside.

    Parameters
    ----------
    logits : Tensor
        (1, M, h, w) float32 in ``view``.
    view : View
        What they show.
    prompt : Prompt
        Clicks in image pixels; those outside the view are ignored. Of two clicks on one pixel of the mask, the later
        one counts.
    settings : CorrectionSettings, optional
        How far from a click the mask changes.

    Returns
    -------
    Tensor
        (1, M, h, w); ``logits`` itself where nothing is contradicted.
    """
    places, wanted = _places(prompt, view, logits.shape[-2:]), prompt.labels == 1
    changed = logits
    for row in range(logits.shape[1]):
        mask = (logits[0, row] > 0).cpu().numpy()
        for (x, y), is_object in zip(places, wanted, strict=True):
            column, line = round(float(x)), round(float(y))
            if not _is_inside(mask, line, column) or mask[line, column] == is_object:
                continue
            if changed is logits:
                changed = logits.clone()
            others = places[wanted != is_object]
            limit = np.hypot(*(others - (x, y)).T).min(initial=np.inf) / 2
            radius = min(_depth(mask != is_object, line, column), settings.max_radius, limit)
            near = _distances(mask.shape, x, y) <= radius
            near[line, column] = True
            plane, inside = changed[0, row], torch.from_numpy(near).to(logits.device)
            logit = settings.honoured_logit
            plane[inside] = plane[inside].clamp(min=logit) if is_object else plane[inside].clamp(max=-logit)
            mask[near] = is_object
    return changed


def keep_far_from_clicks(
    logits: Tensor, earlier: Tensor, view: View, prompt: Prompt, settings: CorrectionSettings = CorrectionSettings()
) -> Tensor:
    """Average new masks with an earlier one, except around the clicks that correct it.

    Parameters
    ----------
    logits : Tensor
        (1, M, h, w) float32 in ``view``, decoded from the earlier mask and the clicks.
    earlier : Tensor
        (1, 1, h, w) logits of the earlier mask in the same view.
    view : View
        What they show.
    prompt : Prompt
        All clicks. Those that the earlier mask contradicts correct it, or the last one if it contradicts none.
    settings : CorrectionSettings, optional
        Weight of the earlier mask, and where it counts.

    Returns
    -------
    Tensor
        (1, M, h, w). Masks that have little in common with the earlier one are returned as they are.
    """
    before: NDArray[np.bool_] = (earlier[0, 0] > 0).cpu().numpy()
    if earlier.shape[-2:] != logits.shape[-2:] or not before.any() or not len(prompt.points):
        return logits
    weight = np.full(before.shape, settings.kept_weight)
    for x, y, is_object in _correcting(before, _places(prompt, view, logits.shape[-2:]), prompt.labels == 1):
        reach = settings.reach_factor * max(
            _depth(before != is_object, round(float(y)), round(float(x))), settings.min_reach
        )
        ramp = np.clip((_distances(before.shape, x, y) - reach) / reach, 0, 1)
        weight = np.minimum(weight, settings.kept_weight * ramp)
    kept = torch.from_numpy(weight).to(logits)
    after = logits[0] > 0
    shown = torch.from_numpy(before).to(logits.device)
    iou = (after & shown).sum((1, 2)) / (after | shown).sum((1, 2))
    weights = torch.where((iou >= settings.min_iou)[:, None, None], kept, 0.0)
    return logits * (1 - weights) + earlier.to(logits) * weights


def _correcting(
    before: NDArray[np.bool_], places: NDArray[np.float32], wanted: NDArray[np.bool_]
) -> list[tuple[float, float, bool]]:
    """x, y and kind of the clicks that a mask contradicts, or of the last one."""
    inside = [
        (float(x), float(y), bool(is_object))
        for (x, y), is_object in zip(places, wanted, strict=True)
        if _is_inside(before, round(float(y)), round(float(x)))
    ]
    contradicted = [each for each in inside if before[round(each[1]), round(each[0])] != each[2]]
    return contradicted or inside[-1:]


def _places(prompt: Prompt, view: View, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(N, 2) x, y of the clicks in pixels of a low-resolution mask."""
    origin, extent = np.array((view.x, view.y)), np.array((view.width, view.height))
    places: NDArray[np.float32] = (prompt.points + 0.5 - origin) / extent * np.array(shape[::-1]) - 0.5
    return places


def _is_inside(mask: NDArray[np.bool_], line: int, column: int) -> bool:
    height, width = mask.shape
    return bool(0 <= line < height and 0 <= column < width)


def _depth(region: NDArray[np.bool_], line: int, column: int) -> float:
    """Distance of a pixel to the nearest one outside a region, at least 1; beyond the view counts as inside."""
    if not region[line, column] or region.all():
        return 1.0
    return max(float(ndimage.distance_transform_edt(region)[line, column]), 1.0)


def _distances(shape: tuple[int, ...], x: float, y: float) -> NDArray[np.float64]:
    lines, columns = np.ogrid[: shape[0], : shape[1]]
    distances: NDArray[np.float64] = np.hypot(lines - y, columns - x)
    return distances
