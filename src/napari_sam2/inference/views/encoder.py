"""Encode views of frames on demand, through a shared cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam2._types import FrameSource
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.transforms import Pixels, image_to_model
from napari_sam2.inference.views.view import View
from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.sam2 import SAM2

__all__ = ["FrameEncoder", "encode_views", "one_row_per_view", "views_to_model"]

_BATCH = 32  # fills a GPU; the encoder of the bundled model needs 20 MB per view
_BATCH_ON_CPU = 4  # 10 % faster than single views; with 16, activations no longer fit in the processor's cache
_LARGE = 2**24  # pixels of a frame: of a larger one only the views are read, if they are less than a part of it
_SMALL_PART = 1 / 4


@dataclass(frozen=True, eq=False)
class _LargePlane:
    """A plane of which only parts are read."""

    planes: ArrayPlanes
    plane: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return (*self.planes.shape[1:], 3)

    def __getitem__(self, part: tuple[slice, slice], /) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB."""
        return self.planes.region(self.plane, *part)


class FrameEncoder:
    """Encodes views of frames; the last frame is kept in memory, so that several views of it need one read.

    Parameters
    ----------
    model : SAM2
        The network.
    frames : FrameSource
        The stack.
    cache : EmbeddingCache
        Cache of embeddings, which can be shared with image predictors.
    pil_bicubic : bool
        Resize with PIL, as the reference does for videos.
    """

    def __init__(self, model: SAM2, frames: FrameSource, cache: EmbeddingCache, *, pil_bicubic: bool) -> None:
        self.model = model
        self.frames = frames
        self.cache = cache
        self.pil_bicubic = pil_bicubic
        self._read: tuple[int, NDArray[np.uint8]] | None = None

    def read(self, frame: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of a frame."""
        if self._read is None or self._read[0] != frame:
            self._read = (frame, self.frames[frame])
        return self._read[1]

    def _pixels(self, frame: int, views: Sequence[View]) -> Pixels:
        """What the views are cropped from."""
        height, width = self.frames.shape[1:]
        is_read = self._read is not None and self._read[0] == frame
        area = sum(view.width * view.height for view in views)
        is_small = height * width > _LARGE and area < _SMALL_PART * height * width
        if is_small and not is_read and isinstance(self.frames, ArrayPlanes):
            return _LargePlane(self.frames, frame)
        return self.read(frame)

    def embed(self, frame: int, view: View) -> ImageEmbedding:
        """One view of one frame."""
        return self.embed_all(frame, [view])[view]

    def embed_all(self, frame: int, views: Iterable[View]) -> dict[View, ImageEmbedding]:
        """Several views of one frame; those that are not cached are encoded in batches."""
        resize = "pil-bicubic" if self.pil_bicubic else "bilinear"
        each = list(dict.fromkeys(views))
        keys = [(self.frames.key, frame, view, self.model.image_size, id(self.model), resize) for view in each]
        found = self.cache.get_or_encode_all(
            keys,
            lambda missing: self._encode(frame, [each[i] for i in missing]),
        )
        return dict(zip(each, found, strict=True))

    def _encode(self, frame: int, views: Sequence[View]) -> list[ImageEmbedding]:
        return encode_views(self.model, self._pixels(frame, views), views, pil_bicubic=self.pil_bicubic)


def encode_views(model: SAM2, rgb: Pixels, views: Sequence[View], *, pil_bicubic: bool = False) -> list[ImageEmbedding]:
    """Encode views of an (H, W, 3) image in batches: on a GPU a batch takes as long as a single view."""
    together = _BATCH_ON_CPU if model.device.type == "cpu" else _BATCH
    embeddings: list[ImageEmbedding] = []
    for start in range(0, len(views), together):
        part = views[start : start + together]
        encoded = model.encode_image(views_to_model(model, rgb, part, pil_bicubic=pil_bicubic))
        embeddings += [encoded] if len(part) == 1 else [encoded.rows(slice(i, i + 1)).copy() for i in range(len(part))]
    return embeddings


def views_to_model(model: SAM2, rgb: Pixels, views: Sequence[View], *, pil_bicubic: bool = False) -> Tensor:
    """Views of an (H, W, 3) image as the network sees them, (B, 3, S, S), one row each."""
    size, device = model.image_size, model.device
    return torch.cat([image_to_model(rgb, view, size, device=device, pil_bicubic=pil_bicubic) for view in views])


def one_row_per_view(embeddings: dict[View, ImageEmbedding], views: Sequence[View]) -> ImageEmbedding:
    """One embedding per object, or a single one where all objects share a view."""
    if len(set(views)) == 1:
        return embeddings[views[0]]
    rows = [embeddings[view] for view in views]
    high_res = (torch.cat([row.high_res[0] for row in rows]), torch.cat([row.high_res[1] for row in rows]))
    return ImageEmbedding(torch.cat([row.embed for row in rows]), high_res)
