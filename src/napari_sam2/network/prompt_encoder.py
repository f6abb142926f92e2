"""Encode prompts as tokens and a dense map (SAM 2 paper, section 4, "Prompt encoder")."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from napari_sam2.network.encoding_cache import EncodingCache
from napari_sam2.network.features import ModelPrompt
from napari_sam2.network.layers import LayerNorm2d
from napari_sam2.network.position import RandomPosition

__all__ = ["PromptEncoder", "draw_prompt"]

_DOT_RADIUS = 5.0  # model pixels, standard deviation
_DOT_HEIGHT, _BOX_HEIGHT = 6.0, 3.0  # amplitude of drawn prompts, in mask logits
_DRAWN_LIMIT = 10.0  # mask prompts are clamped to +- this before prompts are drawn


class PromptEncoder(nn.Module):
    """Encodes points, boxes (as pairs of points) and earlier masks.

    Parameters
    ----------
    dim : int
        Width of the tokens.
    position_frame : int or None
        Side in model pixels of the square that the position encoding maps to the unit square; ``None``: the image size.
        With a fixed frame the encoding of a distance does not depend on the image size.
    draws_prompts : bool
        Draw clicks and boxes into the mask prompt, in addition to tokens.
    """

    def __init__(self, dim: int, *, position_frame: int | None = None, draws_prompts: bool = False) -> None:
        super().__init__()
        self.draws_prompts = draws_prompts
        self.position_frame = position_frame
        self.pe_layer = RandomPosition(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)
        self._positions = EncodingCache()

    def dense_position(self, image_size: int, origin: float | None = None) -> Tensor:
        """Position encoding of the stride-16 grid of an image -> (1, dim, S/16, S/16)."""
        weight = self.no_mask_embed.weight
        key = (image_size, origin, weight.device, weight.dtype)
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        return self._positions.get(
            key, lambda: self._make_dense_position(image_size, origin).to(weight.dtype), sources=(matrix,)
        )

    def _make_dense_position(self, image_size: int, origin: float | None) -> Tensor:
        side = image_size // 16
        frame, offset = self._frame(image_size, origin)
        if frame == image_size and not offset:
            return self.pe_layer.grid((side, side))
        centres = (torch.arange(side, device=self.no_mask_embed.weight.device, dtype=torch.float32) + 0.5) * 16
        unit = (centres + offset) / frame
        unit_xy = torch.stack((unit[None, :].expand(side, side), unit[:, None].expand(side, side)), dim=-1)
        encoded: Tensor = self.pe_layer(unit_xy)
        return encoded.permute(2, 0, 1)[None]  # (H, W, C) -> (1, C, H, W)

    def _frame(self, image_size: int, origin: float | None) -> tuple[int, float]:
        """Side of the position frame, and where the image begins in it (centred by default)."""
        frame = self.position_frame or image_size
        return frame, (frame - image_size) / 2 if origin is None else origin

    def _point_tokens(self, points: Tensor, labels: Tensor, image_size: int, origin: float | None) -> Tensor:
        """(B, N, 2), (B, N) -> (B, N + 1, C); the last token is padding, as in the reference."""
        points = torch.cat((points + 0.5, points.new_zeros(points.shape[0], 1, 2)), dim=1)
        labels = torch.cat((labels, labels.new_full((labels.shape[0], 1), -1)), dim=1)[..., None]
        frame, offset = self._frame(image_size, origin)
        tokens: Tensor = self.pe_layer((points + offset) / frame)
        tokens = torch.where(labels == -1, self.not_a_point_embed.weight, tokens)
        for value, embedding in enumerate(self.point_embeddings):
            tokens = torch.where(labels == value, tokens + cast(Tensor, embedding.weight), tokens)
        return tokens

    def draw(self, prompt: ModelPrompt, image_size: int) -> Tensor | None:
        """Clicks and boxes as maps (B, 1, S/4, S/4), see `draw_prompt`; None without ``draws_prompts``."""
        if not self.draws_prompts or prompt.points is None or prompt.labels is None:
            return None
        return draw_prompt(prompt.points.float(), prompt.labels, image_size // 4)

    def forward(
        self, prompt: ModelPrompt, image_size: int, origin: float | None = None, drawn: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch of prompts.

        Parameters
        ----------
        prompt : ModelPrompt
            B prompts.
        image_size : int
            Side of the model's input in model pixels.
        origin : float, optional
            Offset of the image in the position frame; centred by default.
        drawn : Tensor, optional
            From `draw`.

        Returns
        -------
        tokens : Tensor
            (B, N + 1, C), or (B, 0, C) if the prompt has no points.
        dense : Tensor
            (B or 1, C, S/16, S/16), to be added to the image embedding.
        """
        weight = self.no_mask_embed.weight
        if prompt.points is not None and prompt.labels is not None:
            tokens = self._point_tokens(prompt.points.float(), prompt.labels, image_size, origin).to(weight.dtype)
        else:
            batch = 1 if prompt.mask is None else prompt.mask.shape[0]
            tokens = weight.new_zeros(batch, 0, weight.shape[1])
        mask = prompt.mask
        if drawn is not None and mask is not None:
            mask = mask.float().clamp(-_DRAWN_LIMIT, _DRAWN_LIMIT) + drawn
        elif drawn is not None and prompt.labels is not None and bool((prompt.labels >= 0).any()):
            mask = drawn
        if mask is not None:
            return tokens, self.mask_downscaling(mask.to(weight.dtype))
        side = image_size // 16
        return tokens, weight[:, :, None, None].expand(1, -1, side, side)


def draw_prompt(points: Tensor, labels: Tensor, side: int) -> Tensor:
    """Draw clicks as Gaussian dots and boxes as smooth plateaus.

    Parameters
    ----------
    points, labels : Tensor
        (B, N, 2) in model pixels and (B, N) as in ``ModelPrompt``.
    side : int
        Side of the map: a quarter of the model's input.

    Returns
    -------
    Tensor
        (B, 1, side, side) float32: positive at object clicks and inside boxes, negative at background clicks and
        outside boxes, 0 elsewhere.
    """
    centre = torch.arange(side, device=points.device, dtype=torch.float32) * 4 + 1.5  # of each cell, in model pixels
    dx = (centre - points[..., :1]).square()  # (B, N, side)
    dy = (centre - points[..., 1:]).square()
    dots = torch.exp(-(dx[:, :, None, :] + dy[:, :, :, None]) / (2 * _DOT_RADIUS**2))  # (B, N, side, side)
    sign = (labels == 1).float() - (labels == 0).float()
    drawn = (_DOT_HEIGHT * sign[..., None, None] * dots).sum(1).clamp(-_DOT_HEIGHT, _DOT_HEIGHT)
    first, last = labels == 2, labels == 3
    if bool(first.any()):
        low = (points * first[..., None]).sum(1)  # (B, 2)
        high = (points * last[..., None]).sum(1)
        inside = torch.ones_like(drawn)
        for axis, shape in ((0, (-1, 1, side)), (1, (-1, side, 1))):
            span = torch.minimum(centre + 2 - low[:, axis, None], high[:, axis, None] - centre + 2) / 4
            inside = inside * span.clamp(0, 1).reshape(shape)
        has_box = first.any(1)[:, None, None]
        drawn = drawn + torch.where(has_box, (2 * inside - 1) * _BOX_HEIGHT, 0.0)
    return drawn[:, None]
