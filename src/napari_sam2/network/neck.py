"""Feature pyramid that brings the encoder's stages to one width (SAM 2 paper, appendix D.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.config import HieraConfig
from napari_sam2.network.hiera import Hiera

__all__ = ["ImageEncoder"]


class _Lateral(nn.Module):
    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Neck(nn.Module):
    """Lateral 1 x 1 convolutions; stride 32 flows into stride 16, the finer levels stay as they are."""

    def __init__(self, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_Lateral(c, dim) for c in reversed(channels))  # coarse to fine, as in the files

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        stride32, stride16, stride8, stride4 = (conv(f) for conv, f in zip(self.convs, reversed(features), strict=True))
        top_down = F.interpolate(stride32.float(), scale_factor=2.0, mode="nearest").to(stride16.dtype)
        return stride4, stride8, stride16 + top_down


class ImageEncoder(nn.Module):
    """Image (B, 3, S, S) -> (B, dim, ., .) at strides 4, 8 and 16."""

    def __init__(self, trunk: HieraConfig, dim: int) -> None:
        super().__init__()
        self.trunk = Hiera(trunk)
        self.neck = _Neck(trunk.channels, dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        levels: tuple[Tensor, Tensor, Tensor] = self.neck(self.trunk(image))
        return levels
