"""Targets and loss of the dense head, which describes all objects of an image without a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sam2.labels.distances import distance_to_outline
from napari_sam2.network.dense_head import AFFINITY_OFFSETS, DENSE_STRIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dense_distances", "dense_loss", "dense_targets"]

_DISTANCE_WEIGHT = 5.0  # of squared errors, which are far below cross entropies
_HALF = DENSE_STRIDE // 2


def dense_distances(labels: NDArray[Any]) -> NDArray[np.float16]:
    """How deep cells lie in their objects, and how near to the deepest point.

    Parameters
    ----------
    labels : numpy.ndarray
        (S, S) integers; 0 background, below 0 unknown.

    Returns
    -------
    numpy.ndarray
        (2, S/4, S/4) float16, 0 to 1; 0 outside objects. The crop's own edge is no outline.
    """
    coarse = np.maximum(labels[::2, ::2], 0)
    depth = distance_to_outline(coarse)
    ids, place = np.unique(coarse, return_inverse=True)
    place = place.reshape(coarse.shape)
    rows = np.arange(len(ids))
    deepest = ndimage.maximum_position(depth, place, rows)
    relative = depth / ndimage.maximum(depth, place, rows)[place]
    centre = np.array(deepest, np.float64)[place]
    y, x = np.indices(coarse.shape)
    away = np.hypot(y - centre[..., 0], x - centre[..., 1])
    nearness = 1 - away / np.maximum(ndimage.maximum(away, place, rows), 1)[place]
    both = np.stack((relative, nearness)) * (coarse > 0)
    return np.asarray(both[:, _HALF // 2 :: 2, _HALF // 2 :: 2], np.float16)


def dense_targets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the head should say of everything but distances, and where that is known.

    Parameters
    ----------
    labels : Tensor
        (B, S, S) integers; 0 background, below 0 unknown.

    Returns
    -------
    target, known : Tensor
        (B, 2 + len(AFFINITY_OFFSETS), S/4, S/4) bool: foreground, border, then affinities. What is unknown may be
        background or an object without a label; next to an object it is something else in any case. Affinities
        whose offset leaves the image are unknown.
    """
    cells = labels[:, _HALF::DENSE_STRIDE, _HALF::DENSE_STRIDE]
    edge = torch.zeros_like(labels, dtype=torch.bool)
    across, down = labels[:, :, 1:] != labels[:, :, :-1], labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, 1:] |= down
    border = F.max_pool2d(edge[:, None].float(), DENSE_STRIDE)[:, 0] > 0
    maps = [cells > 0, border]
    known = [cells >= 0, border | (cells >= 0)]
    h, w = cells.shape[-2:]
    for below, right in AFFINITY_OFFSETS:
        other = torch.full_like(cells, -2)
        rows, other_rows = slice(0, h - below), slice(below, h)
        columns = slice(max(-right, 0), w - max(right, 0))
        other_columns = slice(max(right, 0), w - max(-right, 0))
        other[:, rows, columns] = cells[:, other_rows, other_columns]
        maps.append((cells == other) & (cells > 0))
        known.append((other > -2) & ((cells > 0) | (other > 0) | ((cells == 0) & (other == 0))))
    return torch.stack(maps, dim=1), torch.stack(known, dim=1)


def dense_loss(logits: Tensor, labels: Tensor, distances: Tensor) -> Tensor:
    """Cross entropy in which yes and no count the same, map by map, and squared errors of distances.

    Parameters
    ----------
    logits : Tensor
        (B, DENSE_CHANNELS, S/4, S/4).
    labels : Tensor
        (B, S, S) integers; 0 background, below 0 unknown.
    distances : Tensor
        (B, 2, S/4, S/4), see ``dense_distances``.
    """
    found = logits.float()
    target, known = (t.float() for t in dense_targets(labels))
    each = F.binary_cross_entropy_with_logits(torch.cat((found[:, :2], found[:, 4:]), 1), target, reduction="none")
    axes = (0, 2, 3)
    is_yes, is_no = target * known, (1 - target) * known
    yes = (each * is_yes).sum(axes) / is_yes.sum(axes).clamp(min=1)
    no = (each * is_no).sum(axes) / is_no.sum(axes).clamp(min=1)
    error = (found[:, 2:4].sigmoid() - distances.float()).square()
    inside, sure = target[:, 0], known[:, 0]
    depth = (error[:, 0] * sure).sum() / sure.sum().clamp(min=1)
    centre = (error[:, 1] * inside).sum() / inside.sum().clamp(min=1)
    return (yes + no).mean() / 2 + _DISTANCE_WEIGHT * (depth + centre) / 2
