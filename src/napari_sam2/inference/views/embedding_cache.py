"""A least recently used cache of image embeddings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import check_count
from napari_sam2._errors import PromptError
from napari_sam2._messages import counted, shown
from napari_sam2.network.features import ImageEmbedding

__all__ = ["EmbeddingCache"]


@checked_calls(PromptError)
class EmbeddingCache:
    """Least recently used cache of ``ImageEmbedding``.

    Parameters
    ----------
    max_bytes : int, default 512 MiB
        The least recently used embeddings are dropped beyond this size. At least one is always kept.

    Raises
    ------
    PromptError
        If ``max_bytes`` is not an integer from 0.

    Notes
    -----
    Keys must identify the pixels, the view, the preprocessing and the model.
    """

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self.max_bytes = check_count("max_bytes", max_bytes, 0)
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
        """Size of the cached embeddings in bytes."""
        return self._nbytes

    def get_or_encode(self, key: Hashable, encode: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        """The embedding for ``key``, computed by ``encode`` if it is not cached.

        Raises
        ------
        PromptError
            If ``encode`` returns anything but an ImageEmbedding.
        """
        return self.get_or_encode_all([key], lambda _: [encode()])[0]

    def get_or_encode_all(
        self, keys: Sequence[Hashable], encode: Callable[[list[int]], Sequence[ImageEmbedding]]
    ) -> list[ImageEmbedding]:
        """The embeddings for ``keys``, which must be unique.

        ``encode`` is called at most once, with the positions in ``keys`` of those that are not cached.

        Raises
        ------
        PromptError
            If ``encode`` does not return one ImageEmbedding for each position.
        """
        found = {i: self._entries[key] for i, key in enumerate(keys) if key in self._entries}
        for i in found:
            self._entries.move_to_end(keys[i])
        missing = [i for i in range(len(keys)) if i not in found]
        self.hits += len(found)
        self.misses += len(missing)
        if missing:
            made: object = encode(missing)
            if not isinstance(made, Sequence) or len(made) != len(missing):
                what = counted(len(missing), "embedding")
                raise PromptError(f"encode returned {shown(made)}; it must return a sequence of {what}")
            for embedding in made:
                if not isinstance(embedding, ImageEmbedding):
                    raise PromptError(f"encode returned {shown(embedding)}; it must return ImageEmbedding objects")
            for i, embedding in zip(missing, made, strict=True):
                found[i] = self._entries[keys[i]] = embedding
                self._nbytes += embedding.nbytes
        while self._nbytes > self.max_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._nbytes -= dropped.nbytes
        return [found[i] for i in range(len(keys))]

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._nbytes = 0
