"""Convert images, prompts and masks between image pixels and model pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from napari_sam2._types import OUTSIDE_LOGIT
from napari_sam2.inference.masks.logits import MASK_LOGIT, SUPPRESSED_LOGIT
from napari_sam2.inference.views.view import View
from napari_sam2.network.features import ModelPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2._types import Prompt

__all__ = [
    "Pixels",
    "image_to_model",
    "logits_in_view",
    "masks_to_image",
    "not_mirrored",
    "prompts_to_model",
    "resample_logits",
]

_MEAN = (0.485, 0.456, 0.406)  # ImageNet statistics, used in training
_STD = (0.229, 0.224, 0.225)


class Pixels(Protocol):
    """What views are cropped from: an (H, W, 3) uint8 array, or what reads parts of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""

    def __getitem__(self, part: tuple[slice, slice], /) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB."""


def image_to_model(rgb: Pixels, view: View, size: int, *, device: torch.device, pil_bicubic: bool = False) -> Tensor:
    """Crop a view, resize and normalise it.

    Parameters
    ----------
    rgb : numpy.ndarray or Pixels
        (H, W, 3) uint8.
    view : View
        The rectangle to crop; black where it exceeds the image.
    size : int
        Side S of the model's input.
    device : torch.device
        Device of the result.
    pil_bicubic : bool, default False
        Resize as the reference does for videos (PIL, bicubic, 8 bits) instead of as for images (bilinear with
        antialiasing, floats).

    Returns
    -------
    Tensor
        (1, 3, S, S) float32.
    """
    h, w = rgb.shape[:2]
    x0, y0 = max(view.x, 0), max(view.y, 0)
    x1, y1 = min(view.x + view.width, w), min(view.y + view.height, h)
    crop = rgb[y0:y1, x0:x1]
    if (x1 - x0, y1 - y0) != (view.width, view.height):
        crop = np.pad(crop, ((y0 - view.y, view.y + view.height - y1), (x0 - view.x, view.x + view.width - x1), (0, 0)))
    if pil_bicubic:
        crop = np.asarray(Image.fromarray(crop).resize((size, size)))
    pixels = (
        torch.from_numpy(crop.astype(np.float32)).to(device).permute(2, 0, 1)[None] / 255
    )  # (H, W, C) -> (1, C, H, W)
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    if view.is_mirrored:
        pixels = pixels.flip(-1)
    mean = torch.tensor(_MEAN, device=device)[:, None, None]
    std = torch.tensor(_STD, device=device)[:, None, None]
    return (pixels - mean) / std


def prompts_to_model(
    prompts: Sequence[Prompt],
    views: Sequence[View],
    size: int,
    *,
    device: torch.device,
    mask_inputs: Sequence[NDArray[np.float32] | None] | None = None,
) -> ModelPrompt:
    """A batch of prompts of the same form: same number of points, all or none with a box, all or none with a mask.

    ``mask_inputs`` are low-resolution logits (h, w) of an earlier prediction, one per prompt; they replace masks.
    """
    coordinates = [_model_points(p, v, size) for p, v in zip(prompts, views, strict=True)]
    points = np.stack([c[0] for c in coordinates])
    labels = np.stack([c[1] for c in coordinates])
    masks: list[Tensor] = []
    for i, (prompt, view) in enumerate(zip(prompts, views, strict=True)):
        given = None if mask_inputs is None else mask_inputs[i]
        if given is not None:
            mask = torch.from_numpy(np.asarray(given, np.float32)).to(device)[None, None]
            if mask.shape[-2:] != (size // 4, size // 4):
                mask = F.interpolate(
                    mask, size=(size // 4, size // 4), mode="bilinear", align_corners=False, antialias=True
                )
            masks.append(mask.flip(-1) if view.is_mirrored else mask)
        elif (marked := prompt.mask) is not None:
            full = mask_to_model(marked, view, size, device=device)
            low = F.interpolate(full, size=(size // 4, size // 4), mode="bilinear", align_corners=False, antialias=True)
            low = low.flip(-1) if view.is_mirrored else low
            masks.append((2 * low - 1) * MASK_LOGIT)
    has_points = points.shape[1] > 0
    return ModelPrompt(
        torch.from_numpy(points).to(device) if has_points else None,
        torch.from_numpy(labels).to(device) if has_points else None,
        torch.cat(masks) if masks else None,
    )


def _model_points(prompt: Prompt, view: View, size: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Box corners (labels 2 and 3) followed by clicks, in model pixels."""
    origin = np.array((view.x, view.y), np.float32)
    extent = np.array((view.width, view.height), np.float32)
    half = np.float32(0.5 if view.is_native else 0.0)
    points = (prompt.points - origin + half) / extent * size - half  # same order of operations as the reference
    if view.is_mirrored:
        points = np.stack((size - 2 * half - points[:, 0], points[:, 1]), axis=1)
    labels = prompt.labels
    if prompt.box is not None:
        corners = (prompt.box.reshape(2, 2) - origin) / extent * size
        if view.is_mirrored:
            corners = np.stack((size - corners[::-1, 0], corners[:, 1]), axis=1)
        points = np.concatenate((corners, points))
        labels = np.concatenate((np.array((2, 3), np.int32), labels))
    return points.astype(np.float32), labels


def mask_to_model(mask: NDArray[np.bool_], view: View, size: int, *, device: torch.device) -> Tensor:
    """Bool mask (H, W) -> (1, 1, S, S) float coverage in the view, 0 to 1."""
    h, w = mask.shape
    x0, y0 = max(view.x, 0), max(view.y, 0)
    x1, y1 = min(view.x + view.width, w), min(view.y + view.height, h)
    out = np.zeros((view.height, view.width), np.float32)
    out[y0 - view.y : y1 - view.y, x0 - view.x : x1 - view.x] = mask[y0:y1, x0:x1]
    tensor = torch.from_numpy(out).to(device)[None, None]
    return F.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def not_mirrored(logits: Tensor, views: Sequence[View]) -> Tensor:
    """Logits (B, ..., w), row b as decoded in ``views[b]``, with left and right as in the image."""
    if not any(view.is_mirrored for view in views):
        return logits
    return torch.stack([row.flip(-1) if view.is_mirrored else row for row, view in zip(logits, views, strict=True)])


def masks_to_image(logits: Tensor, view: View, hw: tuple[int, int]) -> Tensor:
    """Resize low-resolution logits (B, M, h, w) of a view to the image, (B, M, H, W) float32.

    Pixels outside the view are set to ``OUTSIDE_LOGIT``.
    """
    (top, left), local = logits_in_view(logits, view, hw)
    if local.shape[-2:] == hw:
        return local
    out = local.new_full((*local.shape[:2], *hw), OUTSIDE_LOGIT)
    out[..., top : top + local.shape[-2], left : left + local.shape[-1]] = local
    return out


def logits_in_view(logits: Tensor, view: View, hw: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
    """Resize low-resolution logits (B, M, h, w) of a view to the part of the image in it.

    Returns
    -------
    tuple of int
        First row and column of that part.
    Tensor
        (B, M, y, x) float32, one value per image pixel.
    """
    local = F.interpolate(logits.float(), size=(view.height, view.width), mode="bilinear", align_corners=False)
    x0, y0 = max(view.x, 0), max(view.y, 0)
    x1, y1 = min(view.x + view.width, hw[1]), min(view.y + view.height, hw[0])
    return (y0, x0), local[..., y0 - view.y : y1 - view.y, x0 - view.x : x1 - view.x]


def resample_logits(logits: Tensor, source: View, target: View) -> Tensor:
    """Resample low-resolution logits (1, M, h, w) from one view to another; pixels not in ``source`` are background."""
    if source == target:
        return logits
    h, w = logits.shape[-2:]
    x = target.x + (torch.arange(w, device=logits.device) + 0.5) / w * target.width
    y = target.y + (torch.arange(h, device=logits.device) + 0.5) / h * target.height
    grid_x = ((x - source.x) / source.width * 2 - 1).expand(h, w)
    grid_y = ((y - source.y) / source.height * 2 - 1)[:, None].expand(h, w)
    grid = torch.stack((grid_x, grid_y), dim=-1)[None]  # (1, h, w, 2)
    seen = F.grid_sample(logits.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    is_seen = ((grid_x.abs() <= 1) & (grid_y.abs() <= 1))[None, None]
    return torch.where(is_seen, seen, SUPPRESSED_LOGIT)
