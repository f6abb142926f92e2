"""Windows of a frame are encoded together, once each, and come out as if encoded one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from factories import make_model, make_movie
from napari_sam2 import SAM2VideoSegmenter
from napari_sam2.frames import open_frames
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.frames.planes import ArrayPlanes, Channel
from napari_sam2.inference.views import encoder as frame_encoder
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.encoder import FrameEncoder
from napari_sam2.inference.views.view import View

VIEWS = [View(x, 0, 32, 32) for x in range(0, 32, 4)]


def make_encoder(cache: EmbeddingCache) -> FrameEncoder:
    model = make_model(native_window=32, image_size=64)
    return FrameEncoder(model, open_frames(make_movie(3)), cache, pil_bicubic=False)


def test_several_views_equal_one_by_one() -> None:
    together, single = make_encoder(EmbeddingCache()), make_encoder(EmbeddingCache())
    with torch.inference_mode():
        found = together.embed_all(1, VIEWS)
        for view in VIEWS:
            expected = single.embed(1, view)
            assert torch.allclose(found[view].embed, expected.embed, atol=1e-5)
            assert torch.allclose(found[view].high_res[0], expected.high_res[0], atol=1e-5)


def test_only_views_that_are_not_held_are_encoded(monkeypatch) -> None:
    cache = EmbeddingCache()
    encoder = make_encoder(cache)
    with torch.inference_mode():
        first = encoder.embed(1, VIEWS[2])
        asked: list[int] = []
        encode = frame_encoder.encode_views
        monkeypatch.setattr(frame_encoder, "encode_views", lambda *a, **k: asked.append(len(a[2])) or encode(*a, **k))
        found = encoder.embed_all(1, [*VIEWS, VIEWS[0]])
        encoder.embed_all(1, VIEWS[:3])
    assert asked == [len(VIEWS) - 1]
    assert found[VIEWS[2]] is first
    assert (cache.misses, cache.hits) == (len(VIEWS), 4)


def test_a_view_that_is_dropped_gives_its_memory_back() -> None:
    with torch.inference_mode():
        embedding = make_encoder(EmbeddingCache()).embed_all(0, VIEWS)[VIEWS[0]]
    assert embedding.embed.untyped_storage().nbytes() == embedding.embed.numel() * embedding.embed.element_size()


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return function(*args, **(kwargs or {}))


def _operations_per_frame(num_objects: int) -> int:
    segmenter = SAM2VideoSegmenter(make_model(native_window=32, image_size=64))
    segmenter.set_video(make_movie(6))
    for i in range(num_objects):
        x, y = 4 + 3 * i, 6 + 2 * i
        segmenter.add_clicks(0, None, box=(x - 3, y - 3, x + 4, y + 4), object_id=i + 1)
    results = segmenter.propagate_masklets()
    for _ in range(4):
        next(results)
    with _Operations() as operations:
        next(results)
    return operations.count


def test_another_object_costs_few_operations_where_many_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU spends its time on starting operations: 100 objects must not start 100 networks."""
    monkeypatch.setattr(frame_encoder, "_BATCH_ON_CPU", 32)
    each = (_operations_per_frame(13) - _operations_per_frame(3)) / 10
    assert each < 150  # one encoding alone takes about 400


class _CountedArray:
    """An array that counts the pixels that are read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, index):
        part = self.array[index]
        self.read += part.size
        return part


@pytest.mark.parametrize("num_views", [1, 8], ids=["few views", "most of the frame"])
def test_of_a_large_plane_only_the_views_are_read(monkeypatch, num_views) -> None:
    """Of a picture of 20,000 x 20,000 all was read and shown in colours before the first mask."""
    movie = make_movie(3)
    counted = _CountedArray(movie)
    geometry = StackGeometry.choose(movie.shape, 0)
    planes = ArrayPlanes([Channel(counted, (0, 255))], geometry)
    views = [View(6 * i, 4, 16, 16) for i in range(num_views)]
    model = make_model(native_window=32, image_size=64)
    whole = FrameEncoder(model, planes, EmbeddingCache(), pil_bicubic=False)
    with torch.inference_mode():
        expected = whole.embed_all(1, views)
        monkeypatch.setattr(frame_encoder, "_LARGE", 1000)
        counted.read = 0
        found = FrameEncoder(model, planes, EmbeddingCache(), pil_bicubic=False).embed_all(1, views)
    assert counted.read == (16 * 16 if num_views == 1 else movie[1].size)
    for view in views:
        assert torch.equal(found[view].embed, expected[view].embed)
