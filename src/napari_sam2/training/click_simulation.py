"""Simulated users: the first click, box or mask on an object, and the correction of a wrong prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PromptMix", "SimulatedPrompt", "correction_clicks", "first_prompt", "interior_point", "tight_box"]

MAX_BOX_JITTER = 20.0


@dataclass(frozen=True)
class PromptMix:
    """How often each kind of first prompt is drawn.

    Attributes
    ----------
    click, box, mask : float
        Relative frequencies.
    interior : float
        Share of clicks that sit on the most interior pixel; the others are random pixels of the object.
    box_jitter : float
        Largest shift of a side as a fraction of the box, never above 20 pixels.
    exact_box : float
        Share of boxes left tight.
    """

    click: float = 0.50
    box: float = 0.45
    mask: float = 0.05
    interior: float = 0.5
    box_jitter: float = 0.10
    exact_box: float = 0.4


@dataclass(frozen=True, eq=False)
class SimulatedPrompt:
    """A first prompt in pixels (x, y); exactly one of click, box and mask is given.

    Attributes
    ----------
    points : numpy.ndarray
        (N, 2) float32 clicks, pixel centres are whole numbers; N is 1 for a click and 0 otherwise.
    labels : numpy.ndarray
        (N,) int32, 1 for object.
    box : numpy.ndarray or None
        (4,) float32 x0, y0, x1, y1 at pixel edges: a tight box ends at the last pixel plus one.
    mask : numpy.ndarray or None
        (H, W) bool.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    box: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None


def first_prompt(mask: NDArray[np.bool_], rng: np.random.Generator, mix: PromptMix | None = None) -> SimulatedPrompt:
    """Draw what a user gives first.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool, the object; at least one pixel.
    rng : numpy.random.Generator
        Source of randomness.
    mix : PromptMix, optional
        Frequencies; the defaults of ``PromptMix`` if not given.

    Returns
    -------
    SimulatedPrompt
        One click, one box or one mask.

    Raises
    ------
    PromptError
        If the mask is empty.

    References
    ----------
    .. [1] Ravi et al., SAM 2, 2024, appendix on training. arXiv:2408.00714
    """
    mix = mix or PromptMix()
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int32)
    draw = rng.random() * (mix.click + mix.box + mix.mask)
    if draw < mix.click:
        xy = interior_point(mask) if rng.random() < mix.interior else _random_point(mask, rng)
        return SimulatedPrompt(np.array([xy], np.float32), np.ones(1, np.int32))
    if draw < mix.click + mix.box:
        box = tight_box(mask)
        if rng.random() >= mix.exact_box:
            box = _jitter_box(box, mask.shape, rng, mix.box_jitter)
        return SimulatedPrompt(*nothing, box=box)
    tight_box(mask)
    return SimulatedPrompt(*nothing, mask=mask.copy())


def correction_clicks(
    truths: Tensor, predicted: Tensor, rng: np.random.Generator, *, centre: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Draw the click that a user adds to each of some wrong predictions, on the device where they are.

    Parameters
    ----------
    truths, predicted : Tensor
        (N, H, W) bool.
    rng : numpy.random.Generator
        Source of randomness.
    centre : float, default 0.5
        Share of clicks in the middle of an error, where it is farthest to what is right; the others are a random
        pixel of all errors.

    Returns
    -------
    points : Tensor
        (N, 2) float32 x, y.
    labels : Tensor
        (N,) int32: 1 where the object was missed, 0 where background was taken. Where nothing is wrong, a pixel of
        the object with label 1, or, with no object either, a random pixel with label 0.

    References
    ----------
    .. [1] Ravi et al., SAM 2, 2024, appendix D: clicks in the centre of the error. arXiv:2408.00714
    """
    device, width = truths.device, truths.shape[-1]
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**31)))
    chance = torch.rand(truths.shape, generator=generator, device=device)
    is_central = torch.from_numpy(rng.random(len(truths)) < centre).to(device)
    wrong = truths ^ predicted
    score = torch.where(is_central[:, None, None], _depth(truths & wrong) + _depth(predicted & wrong), wrong) + chance
    allowed = torch.where(wrong.any((1, 2), keepdim=True), wrong, truths)
    allowed |= ~allowed.any((1, 2), keepdim=True)
    place = torch.where(allowed, score, -1).flatten(1).argmax(1)
    points = torch.stack((place % width, place // width), 1).float()
    return points, truths.flatten(1).gather(1, place[:, None])[:, 0].int()


def _depth(masks: Tensor) -> Tensor:
    """(N, H, W) float32: how many pixels deep each pixel lies in its mask; beyond the image counts as background."""
    if masks.device.type == "cpu":
        return torch.from_numpy(np.stack([_chessboard_depth(mask) for mask in masks.numpy()]))
    left = F.pad(masks[:, None].float(), (1, 1, 1, 1))
    depth = torch.zeros_like(left)
    while left.any():
        depth += left
        left = -F.max_pool2d(-left, 3, stride=1, padding=1)
    return depth[:, 0, 1:-1, 1:-1]


def _chessboard_depth(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The same for one (H, W) mask, inside its bounds only: many times faster than pooling on a CPU."""
    depth = np.zeros(mask.shape, np.float32)
    if mask.any():
        y0, x0, y1, x1 = _bounds(mask)
        inside = np.pad(mask[y0:y1, x0:x1], 1)
        depth[y0:y1, x0:x1] = ndimage.distance_transform_cdt(inside, "chessboard")[1:-1, 1:-1]
    return depth


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Box of a mask as (4,) float32 x0, y0, x1, y1 at pixel edges; PromptError if the mask is empty."""
    y0, x0, y1, x1 = _bounds(mask)
    return np.array([x0, y0, x1, y1], np.float32)


def interior_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Pixel (x, y) farthest from the border of a mask; beyond the image counts as background.

    Raises
    ------
    PromptError
        If the mask is empty.
    """
    distance, y0, x0 = _distance(mask)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x) + x0, int(y) + y0


def _random_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """A pixel (x, y) of the object, drawn in proportion to its distance to the border."""
    distance, y0, x0 = _distance(mask)
    cumulative = np.cumsum(distance.reshape(-1))
    index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    y, x = divmod(min(index, len(cumulative) - 1), distance.shape[1])
    return x + x0, y + y0


def _bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(y0, x0, y1, x1), the ends exclusive."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        raise PromptError("an empty mask was given; a prompt needs at least one pixel of the object")
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _distance(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int, int]:
    """Distance to background inside the mask's bounds, and the (y, x) where they begin."""
    y0, x0, y1, x1 = _bounds(mask)
    distance = ndimage.distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1))
    return distance[1:-1, 1:-1], y0, x0


def _jitter_box(
    box: NDArray[np.float32], hw: tuple[int, ...], rng: np.random.Generator, fraction: float
) -> NDArray[np.float32]:
    """Shift each side by normal noise of ``fraction`` of the box, as for SAM, and keep it inside the image."""
    side = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32)
    limit = np.minimum(side * fraction, MAX_BOX_JITTER)
    # noise of half the limit, cut at the limit: most boxes are drawn with care
    shift = np.clip(rng.standard_normal(4) * limit / 2, -limit, limit)
    x0, y0, x1, y1 = (box + shift).tolist()
    h, w = hw[0], hw[1]
    x0, y0 = min(max(x0, 0.0), w - 1.0), min(max(y0, 0.0), h - 1.0)
    return np.array([x0, y0, min(max(x1, x0 + 1), w), min(max(y1, y0 + 1), h)], np.float32)
