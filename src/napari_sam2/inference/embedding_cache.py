"""The most recently used image embeddings, within a byte budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from napari_sam2.network.features import ImageEmbedding

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Least recently used cache of ``ImageEmbedding``.

    Parameters
    ----------
    max_bytes : int, default 512 MiB
        Embeddings are dropped, oldest use first, once they hold more than this. One embedding is always kept.

    Notes
    -----
    A key must name the pixels, the view of them, the preprocessing and the model.
    """

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, ImageEmbedding] = OrderedDict()
        self._nbytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def get_or_encode(self, key: Hashable, encode: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        """The embedding under ``key``, made by ``encode`` if it is not held."""
        if key in self._entries:
            self.hits += 1
            self._entries.move_to_end(key)
            return self._entries[key]
        self.misses += 1
        embedding = encode()
        self._entries[key] = embedding
        self._nbytes += embedding.nbytes
        while self._nbytes > self.max_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._nbytes -= dropped.nbytes
        return embedding

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._nbytes = 0
