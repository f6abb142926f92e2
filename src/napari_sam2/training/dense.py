"""A training-only head that says of every pixel whether it and its neighbours are one object, from the image alone.

A prompt teaches the encoder about one object; this head teaches it about all outlines of the image in the same step.
It is not part of the network: what it learned stays behind in the features that the mask decoder reads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.config import SAM2Config
from napari_sam2.network.features import ImageEmbedding

__all__ = ["OFFSETS", "DenseHead", "dense_loss", "dense_targets"]

# (down, right) in cells of 4 model pixels: neighbours for outlines, far ones for what belongs together
OFFSETS = ((1, 0), (0, 1), (2, 0), (0, 2), (4, 0), (0, 4), (4, 4), (4, -4), (9, 0), (0, 9))
_WIDTH = 48


class DenseHead(nn.Module):
    """Foreground and affinities at a quarter of the image's resolution.

    Parameters
    ----------
    config : SAM2Config
        Of the network whose features are read.

    References
    ----------
    .. [1] Wolf et al., The mutex watershed, 2018 (affinities of short and long range). arXiv:1904.12654
    """

    def __init__(self, config: SAM2Config) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.from_16 = nn.Conv2d(dim, _WIDTH, 1)
        self.from_8 = nn.Conv2d(dim // 4, _WIDTH, 1)
        self.from_4 = nn.Conv2d(dim // 8, _WIDTH, 1)
        self.mix = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_WIDTH, 1 + len(OFFSETS), 1)

    def forward(self, embedding: ImageEmbedding) -> Tensor:
        """Logits (B, 1 + len(OFFSETS), S/4, S/4): foreground, then one map per offset."""
        fine, middle = embedding.high_res
        size = fine.shape[-2:]
        x = self.from_4(fine)
        for level in (self.from_8(middle), self.from_16(embedding.embed)):
            x = x + F.interpolate(level, size=size, mode="bilinear", align_corners=False)
        out: Tensor = self.out(F.gelu(self.mix(F.gelu(x))))
        return out


def dense_targets(labels: Tensor) -> Tensor:
    """What the head should say.

    Parameters
    ----------
    labels : Tensor
        (B, S, S) integers, 0 background.

    Returns
    -------
    Tensor
        (B, 1 + len(OFFSETS), S/4, S/4) bool: foreground, then whether a cell and the one at the offset show the same
        object; False where the offset leaves the image.
    """
    cells = labels[:, 2::4, 2::4]
    maps = [cells > 0]
    for down, right in OFFSETS:
        other = torch.zeros_like(cells)
        h, w = cells.shape[-2:]
        rows, other_rows = slice(0, h - down), slice(down, h)
        columns = slice(max(-right, 0), w - max(right, 0))
        other_columns = slice(max(right, 0), w - max(-right, 0))
        other[:, rows, columns] = cells[:, other_rows, other_columns]
        maps.append((cells == other) & (cells > 0))
    return torch.stack(maps, dim=1)


def dense_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in which yes and no count the same, map by map."""
    target = dense_targets(labels).float()
    each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    axes = (0, 2, 3)
    yes = (each * target).sum(axes) / target.sum(axes).clamp(min=1)
    no = (each * (1 - target)).sum(axes) / (1 - target).sum(axes).clamp(min=1)
    return (yes + no).mean() / 2
