"""Frames of a stack as embeddings: read on demand, one view at a time, through the shared cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam2._types import FrameSource
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.transforms import image_to_model
from napari_sam2.inference.views.view import View
from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.sam2 import SAM2

__all__ = ["FrameEncoder", "encode_views", "one_row_per_view"]

_VIEWS_TOGETHER = 32  # fills a GPU; the encoder of the bundled model holds 20 MB of each for a moment
_VIEWS_TOGETHER_ON_CPU = 4  # a tenth faster than one by one; with 16 their features leave the processor's cache


class FrameEncoder:
    """Encodes views of frames; the last frame read is kept, so that many views of it cost one read.

    Parameters
    ----------
    model : SAM2
        The network.
    frames : FrameSource
        The stack.
    cache : EmbeddingCache
        Shared with image predictors.
    pil_bicubic : bool
        Resize as the reference does for videos.
    """

    def __init__(self, model: SAM2, frames: FrameSource, cache: EmbeddingCache, *, pil_bicubic: bool) -> None:
        self.model = model
        self.frames = frames
        self.cache = cache
        self.pil_bicubic = pil_bicubic
        self._read: tuple[int, NDArray[np.uint8]] | None = None

    def _frame(self, frame: int) -> NDArray[np.uint8]:
        if self._read is None or self._read[0] != frame:
            self._read = (frame, self.frames[frame])
        return self._read[1]

    def embed(self, frame: int, view: View) -> ImageEmbedding:
        """One view of one frame."""
        return self.embed_all(frame, [view])[view]

    def embed_all(self, frame: int, views: Iterable[View]) -> dict[View, ImageEmbedding]:
        """Several views of one frame; those that are not held are encoded together."""
        resize = "pil-bicubic" if self.pil_bicubic else "bilinear"
        each = list(dict.fromkeys(views))
        keys = [(self.frames.key, frame, view, self.model.image_size, id(self.model), resize) for view in each]
        found = self.cache.get_or_encode_all(
            keys,
            lambda missing: encode_views(
                self.model, self._frame(frame), [each[i] for i in missing], pil_bicubic=self.pil_bicubic
            ),
        )
        return dict(zip(each, found, strict=True))


def encode_views(
    model: SAM2, rgb: NDArray[np.uint8], views: Sequence[View], *, pil_bicubic: bool = False
) -> list[ImageEmbedding]:
    """Views of an image (H, W, 3), several at a time: on a GPU one takes as long as many."""
    together = _VIEWS_TOGETHER_ON_CPU if model.device.type == "cpu" else _VIEWS_TOGETHER
    embeddings: list[ImageEmbedding] = []
    for start in range(0, len(views), together):
        part = views[start : start + together]
        pixels = [
            image_to_model(rgb, view, model.image_size, device=model.device, pil_bicubic=pil_bicubic) for view in part
        ]
        encoded = model.encode_image(torch.cat(pixels))
        embeddings += [encoded] if len(part) == 1 else [encoded.rows(slice(i, i + 1)).copy() for i in range(len(part))]
    return embeddings


def one_row_per_view(embeddings: dict[View, ImageEmbedding], views: Sequence[View]) -> ImageEmbedding:
    """One embedding per object, or a single one where all look at the same view."""
    if len(set(views)) == 1:
        return embeddings[views[0]]
    rows = [embeddings[view] for view in views]
    high_res = (torch.cat([row.high_res[0] for row in rows]), torch.cat([row.high_res[1] for row in rows]))
    return ImageEmbedding(torch.cat([row.embed for row in rows]), high_res)
