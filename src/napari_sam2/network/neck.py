"""Feature pyramid that maps the encoder's stages to the same width (SAM 2 paper, appendix D.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.config import HieraConfig
from napari_sam2.network.hiera import Hiera
from napari_sam2.network.linear import linear
from napari_sam2.network.row_chunks import may_reorder_sums

__all__ = ["ImageEncoder"]


class _Lateral(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, 1)


class _Neck(nn.Module):
    """Lateral 1 x 1 convolutions; stride 32 is added to stride 16, each finer level has a head."""

    def __init__(self, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_Lateral(c, dim) for c in reversed(channels))  # coarse to fine, as in the files

    def forward(self, features: list[Tensor], heads: Sequence[nn.Conv2d]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        stride4, stride8, stride16, stride32 = features
        lateral32, lateral16, lateral8, lateral4 = (cast(_Lateral, lateral).conv for lateral in self.convs)
        embed = lateral16(stride16)
        top_down = F.interpolate(lateral32(stride32).float(), scale_factor=2.0, mode="nearest").to(embed.dtype)
        fine = (_through(stride4, lateral4, heads[0]), _through(stride8, lateral8, heads[1]))
        return embed + top_down, fine


def _through(x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """Two 1 x 1 convolutions of (B, C, H, W), fused on a CPU to avoid the large intermediate array."""
    if not may_reorder_sums(x):
        out: Tensor = second(first(x))
        return out
    assert first.bias is not None
    exact = torch.promote_types(x.dtype, torch.float32)
    outer = second.weight.flatten(1).to(exact)
    weight, bias = outer @ first.weight.flatten(1).to(exact), outer @ first.bias.to(exact)
    if second.bias is not None:
        bias = bias + second.bias
    return linear(x.permute(0, 2, 3, 1), weight.to(x.dtype), bias.to(x.dtype)).permute(0, 3, 1, 2)


class ImageEncoder(nn.Module):
    """Image (B, 3, S, S) -> (B, dim, S/16, S/16), and strides 4 and 8 after their 1 x 1 heads."""

    def __init__(self, trunk: HieraConfig, dim: int) -> None:
        super().__init__()
        self.trunk = Hiera(trunk)
        self.neck = _Neck(trunk.channels, dim)

    def forward(self, image: Tensor, heads: Sequence[nn.Conv2d]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        levels: tuple[Tensor, tuple[Tensor, Tensor]] = self.neck(self.trunk(image), heads)
        return levels
