"""Frames of a stack as embeddings: read on demand, one view at a time, through the shared cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam2._types import FrameSource
from napari_sam2.inference.embedding_cache import EmbeddingCache
from napari_sam2.inference.transforms import View, image_to_model
from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.sam2 import SAM2

__all__ = ["FrameEncoder"]


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
        model = self.model
        resize = "pil-bicubic" if self.pil_bicubic else "bilinear"

        def encode() -> ImageEmbedding:
            pixels = image_to_model(
                self._frame(frame), view, model.image_size, device=model.device, pil_bicubic=self.pil_bicubic
            )
            return model.encode_image(pixels)

        return self.cache.get_or_encode((self.frames.key, frame, view, model.image_size, id(model), resize), encode)
