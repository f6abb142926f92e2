"""What an encoder that is given to the cache returns."""

from __future__ import annotations

import pytest

from napari_sam2 import EmbeddingCache, PromptError


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (KeyError, "a sequence of 2 embeddings"),
        ([], "a sequence of 2 embeddings"),
        (None, "a sequence of 2 embeddings"),
        ([1, 2], "ImageEmbedding objects"),
    ],
    ids=str,
)
def test_what_is_no_embedding_is_refused_and_not_kept(made, match):
    cache = EmbeddingCache()
    with pytest.raises(PromptError, match=f"^encode returned .*{match}"):
        cache.get_or_encode_all(["a", "b"], lambda _: made)
    assert "a" not in cache
    assert len(cache) == 0
