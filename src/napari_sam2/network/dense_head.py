"""A head that describes all objects of an image without a prompt: foreground, borders, distances, affinities."""

from __future__ import annotations

from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.features import ImageEmbedding

__all__ = ["AFFINITY_OFFSETS", "DENSE_CHANNELS", "DENSE_STRIDE", "DenseChannel", "DenseHead"]

DENSE_STRIDE = 4  # model pixels per cell of the maps
# (down, right) in cells: neighbours for outlines, far ones for what belongs together
AFFINITY_OFFSETS = ((1, 0), (0, 1), (2, 0), (0, 2), (4, 0), (0, 4), (4, 4), (4, -4), (9, 0), (0, 9))
DENSE_CHANNELS = 4 + len(AFFINITY_OFFSETS)


class DenseChannel(IntEnum):
    """Where the maps lie in the output of `DenseHead`; affinities follow in the order of ``AFFINITY_OFFSETS``."""

    FOREGROUND = 0
    BORDER = 1
    DEPTH = 2
    CENTRE = 3
    SAME_BELOW = 4
    SAME_RIGHT = 5


_WIDTH = 48
_PIXEL_WIDTH = 64
_DILATIONS = (1, 2, 1, 4)  # of one convolution after the other, and again


class DenseHead(nn.Module):
    """Maps of all objects from the features of an image.

    Parameters
    ----------
    dim : int
        Channels of the coarsest features.
    num_blocks : int, default 0
        Convolutions, one after the other, on the features and on the pixels of each cell: the features alone do not
        show a gap of one pixel between two objects.

    Notes
    -----
    The output (B, ``DENSE_CHANNELS``, S/4, S/4) holds logits; after a sigmoid, the channels are:

    0. foreground: whether the middle of the cell lies in an object;
    1. border: whether an outline of an object passes through the cell;
    2. depth: the distance to the object's outline, divided by the largest one in the same object; 0 outside;
    3. centre: 1 less the distance to the object's deepest point, divided by the largest one in the same object;
       undefined outside;
    4. and further: for each offset, whether the cell and the cell at the offset lie in the same object [1]_.

    References
    ----------
    .. [1] Wolf et al., The mutex watershed, 2018 (affinities of short and long range). arXiv:1904.12654
    .. [2] Archit et al., Segment Anything for Microscopy, 2025 (foreground and two distances beside SAM's decoder).
    """

    def __init__(self, dim: int, num_blocks: int = 0) -> None:
        super().__init__()
        self.from_16 = nn.Conv2d(dim, _WIDTH, 1)
        self.from_8 = nn.Conv2d(dim // 4, _WIDTH, 1)
        self.from_4 = nn.Conv2d(dim // 8, _WIDTH, 1)
        self.mix_1 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.mix_2 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=2, dilation=2)
        self.out = nn.Conv2d(_WIDTH, DENSE_CHANNELS, 1)
        self.pixel_blocks = _PixelBlocks(num_blocks) if num_blocks else None

    def forward(self, embedding: ImageEmbedding, images: Tensor) -> Tensor:
        """Maps of a batch of images.

        Parameters
        ----------
        embedding : ImageEmbedding
            Features of B images.
        images : Tensor
            (B, 3, S, S), the normalised images that the features were made of.

        Returns
        -------
        Tensor
            Logits (B, DENSE_CHANNELS, S/4, S/4).
        """
        fine, middle = embedding.high_res
        size = fine.shape[-2:]
        x = self.from_4(fine)
        for level in (self.from_8(middle), self.from_16(embedding.embed)):
            x = x + F.interpolate(level, size=size, mode="bilinear", align_corners=False)
        x = F.gelu(x)
        x = x + F.gelu(self.mix_1(x))
        x = x + F.gelu(self.mix_2(x))
        if self.pixel_blocks is not None:
            x = x + self.pixel_blocks(x, images.to(x.dtype))
        out: Tensor = self.out(x)
        return out


class _PixelBlocks(nn.Module):
    """What the pixels of each cell, and the cells around it, add to its features."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(_WIDTH + 3 * DENSE_STRIDE**2, _PIXEL_WIDTH, 1)
        dilations = (_DILATIONS[index % len(_DILATIONS)] for index in range(num_blocks))
        self.convs = nn.ModuleList(
            nn.Conv2d(_PIXEL_WIDTH, _PIXEL_WIDTH, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        self.exit = nn.Conv2d(_PIXEL_WIDTH, _WIDTH, 1)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        pixels = F.pixel_unshuffle(images, DENSE_STRIDE)
        x = self.entry(torch.cat((features, pixels), 1)).contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = x + F.gelu(conv(x))
        added: Tensor = self.exit(x)
        return added
