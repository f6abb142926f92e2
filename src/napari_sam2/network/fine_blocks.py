"""Convolutions near the resolution of the masks, for thin gaps and borders between objects that touch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.layers import MLP

__all__ = ["FineBlocks"]

_FOLD = 2  # positions of a square of this side become channels: a quarter of the positions, with nothing lost
_WIDTH = 64
_KERNEL = 7
_EXPANSION = 2


class FineBlocks(nn.Module):
    """ConvNeXt blocks [1]_ on the mask decoder's finest features, which add to them.

    Parameters
    ----------
    dim : int
        Channels of the features.
    num_blocks : int
        Blocks, one after the other.

    References
    ----------
    .. [1] Liu et al., A ConvNet for the 2020s, 2022. arXiv:2201.03545
    """

    def __init__(self, dim: int, num_blocks: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d((dim + 2) * _FOLD**2, _WIDTH, 1)
        self.blocks = nn.ModuleList(_Block(_WIDTH) for _ in range(num_blocks))
        self.exit = nn.Conv2d(_WIDTH, dim * _FOLD**2, 1)

    def forward(self, features: Tensor, drawn: Tensor | None, mask: Tensor | None) -> Tensor:
        """Features with what was added.

        Parameters
        ----------
        features : Tensor
            (B, dim, h, w), h and w even.
        drawn, mask : Tensor, optional
            (B or 1, 1, h, w): clicks and boxes as ``draw_prompt`` draws them, and the mask prompt, both scaled to
            about -1 to 1; zeros if there are none.

        Returns
        -------
        Tensor
            (B, dim, h, w).
        """
        place = (len(features), 1, *features.shape[-2:])
        given = [features.new_zeros(place) if each is None else each.expand(place) for each in (drawn, mask)]
        x = self.entry(F.pixel_unshuffle(torch.cat((features, *given), 1), _FOLD))
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x)
        added: Tensor = self.exit(x)
        return features + F.pixel_shuffle(added, _FOLD)


class _Block(nn.Module):
    """A depthwise convolution, then an MLP at each position; the result is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, _EXPANSION * width, width, 2, activation=F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.mlp(self.norm(self.around(x).permute(0, 2, 3, 1)))  # (B, C, H, W) -> (B, H, W, C)
        return x + change.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
