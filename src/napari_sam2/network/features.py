"""Containers of tensors that the parts of the network exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "DecodedMasks",
    "FrameSegmentation",
    "ImageEmbedding",
    "MemoryBatch",
    "ModelPrompt",
]


@dataclass(frozen=True)
class ImageEmbedding:
    """Features of a batch of images of side S.

    Attributes
    ----------
    embed : Tensor
        (B, C, S/16, S/16), not conditioned on memory.
    high_res : tuple of Tensor
        (B, C/8, S/4, S/4) and (B, C/4, S/8, S/8), added by the mask decoder while upscaling.
    """

    embed: Tensor
    high_res: tuple[Tensor, Tensor]

    @property
    def image_size(self) -> int:
        """Side S of the encoded images, in model pixels."""
        return 16 * self.embed.shape[-1]

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.embed, *self.high_res))

    def rows(self, index: Tensor | slice) -> ImageEmbedding:
        """Select images of the batch (first axis)."""
        return ImageEmbedding(self.embed[index], (self.high_res[0][index], self.high_res[1][index]))

    def copy(self) -> ImageEmbedding:
        """A copy in new memory."""
        return ImageEmbedding(self.embed.clone(), (self.high_res[0].clone(), self.high_res[1].clone()))

    def expand(self, num: int) -> ImageEmbedding:
        """Expand one image to a batch of ``num`` without copying."""
        return ImageEmbedding(
            self.embed.expand(num, -1, -1, -1),
            (self.high_res[0].expand(num, -1, -1, -1), self.high_res[1].expand(num, -1, -1, -1)),
        )


@dataclass(frozen=True)
class ModelPrompt:
    """A batch of prompts in model pixels.

    Attributes
    ----------
    points : Tensor or None
        (B, N, 2) as (x, y); a box is two points, its top-left and its bottom-right corner.
    labels : Tensor or None
        (B, N): 1 object, 0 background, 2 and 3 the corners of a box, -1 padding.
    mask : Tensor or None
        (B, 1, S/4, S/4) logits of an earlier mask.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def without_points(cls, count: int, device: torch.device, mask: Tensor | None = None) -> ModelPrompt:
        """A batch of ``count`` prompts that have a point of padding each, and a mask or nothing."""
        padding = torch.full((count, 1), -1, dtype=torch.int32, device=device)
        return cls(torch.zeros(count, 1, 2, device=device), padding, mask)


class DecodedMasks(NamedTuple):
    """Output of one decoder call: ``logits`` (B, M, S/4, S/4), ``iou`` (B, M), ``object_score`` (B, 1),
    ``tokens`` (B, M, C) that become object pointers (M = 1 for the single-mask branch)."""

    logits: Tensor
    iou: Tensor
    object_score: Tensor
    tokens: Tensor


class FrameSegmentation(NamedTuple):
    """One mask per object on one frame: ``logits`` (O, 1, S/4, S/4), ``iou`` (O,), ``object_score`` (O, 1),
    ``pointer`` (O, C), and all four ``candidates`` of the decoder."""

    logits: Tensor
    iou: Tensor
    object_score: Tensor
    pointer: Tensor
    candidates: DecodedMasks


@dataclass(frozen=True)
class MemoryBatch:
    """Memories of objects with the same layout in time.

    Attributes
    ----------
    features : tuple of Tensor
        Spatial memories, each (O, Cm, S/16, S/16), in the order in which they are concatenated.
    time_slots : tuple of int
        Row of the temporal encoding for each of them: ``num_memories - 1`` for prompted frames,
        0 for the previous frame, 1 for the one before it.
    pointers : Tensor or None
        (O, P, C) object pointers.
    pointer_offsets : tuple of float
        Temporal distance of each pointer in frames, in the direction of tracking.
    pointer_span : int
        Temporal distance that the time encoding maps to 1: ``min(num_frames, max_pointers) - 1``.
    """

    features: tuple[Tensor, ...]
    time_slots: tuple[int, ...]
    pointers: Tensor | None = None
    pointer_offsets: tuple[float, ...] = ()
    pointer_span: int = 15
