"""A head that describes all objects of an image without a prompt: foreground, borders, distances, affinities."""

from __future__ import annotations

from enum import IntEnum

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


class DenseHead(nn.Module):
    """Maps of all objects from the features of an image.

    Parameters
    ----------
    dim : int
        Channels of the coarsest features.

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

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.from_16 = nn.Conv2d(dim, _WIDTH, 1)
        self.from_8 = nn.Conv2d(dim // 4, _WIDTH, 1)
        self.from_4 = nn.Conv2d(dim // 8, _WIDTH, 1)
        self.mix_1 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.mix_2 = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=2, dilation=2)
        self.out = nn.Conv2d(_WIDTH, DENSE_CHANNELS, 1)

    def forward(self, embedding: ImageEmbedding) -> Tensor:
        """Logits (B, DENSE_CHANNELS, S/4, S/4)."""
        fine, middle = embedding.high_res
        size = fine.shape[-2:]
        x = self.from_4(fine)
        for level in (self.from_8(middle), self.from_16(embedding.embed)):
            x = x + F.interpolate(level, size=size, mode="bilinear", align_corners=False)
        x = F.gelu(x)
        x = x + F.gelu(self.mix_1(x))
        x = x + F.gelu(self.mix_2(x))
        out: Tensor = self.out(x)
        return out
