"""Which frames are tracked in which direction; labels painted from two directions."""

from __future__ import annotations

import pytest
import torch

from napari_sam2.inference.tracking.plan import plan_tracking
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.network.features import ImageEmbedding


def frames(steps):
    return [(step.frame, step.object_ids) for step in steps]


def test_one_prompt_is_tracked_in_both_directions():
    plan = plan_tracking({7: [2]}, range(5))
    assert frames(plan.forwards) == [(2, (7,)), (3, (7,)), (4, (7,))]
    assert frames(plan.backwards) == [(1, (7,)), (0, (7,))]
    assert plan.num_steps == 5
    assert not plan.frames_met_twice()


@pytest.mark.parametrize("prompted", [[0], [9], [0, 9], [3, 4], [1, 5, 8], list(range(10))])
def test_every_object_comes_once_on_every_frame(prompted):
    plan = plan_tracking({1: prompted, 2: [4]}, range(10))
    for object_id in (1, 2):
        met = [s.frame for s in (*plan.forwards, *plan.backwards) if object_id in s.object_ids]
        assert sorted(met) == list(range(10))


def test_frames_outside_the_limits_are_passed_but_not_reported():
    plan = plan_tracking({1: [0]}, range(3, 6))
    assert [(s.frame, bool(s.reported_ids)) for s in plan.forwards] == [(i, i >= 3) for i in range(6)]
    assert not plan.backwards
    plan = plan_tracking({1: [9]}, range(3, 6))
    assert [s.frame for s in plan.backwards] == [8, 7, 6, 5, 4, 3]
    assert not any(s.reported_ids for s in plan.forwards)


def test_cache_drops_the_least_recently_used_within_its_budget():
    def encode() -> ImageEmbedding:
        return ImageEmbedding(torch.zeros(1, 1, 1, 1), (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)))

    num_bytes = encode().nbytes
    cache = EmbeddingCache(max_bytes=5 * num_bytes // 2)
    for key in "abac":
        cache.get_or_encode(key, encode)
    assert "a" in cache
    assert "c" in cache
    assert "b" not in cache
    assert cache.nbytes == 2 * num_bytes
    cache.clear()
    assert len(cache) == cache.nbytes == 0
