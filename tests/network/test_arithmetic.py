"""The reference's order of operations is used where it is asked for, and gives the same numbers up to rounding."""

from __future__ import annotations

import threading

import pytest
import torch

from factories import make_model, make_movie
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.network import attention
from napari_sam2.network.arithmetic import in_reference_order, reference_order
from napari_sam2.network.attention import RotaryMemoryAttention
from napari_sam2.network.layers import LayerNorm2d
from napari_sam2.network.position import axial_rotation


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_order_holds_for_the_block_and_this_thread() -> None:
    elsewhere: list[bool] = []
    with pytest.raises(KeyError), reference_order():
        assert in_reference_order()
        with reference_order(enabled=False):
            assert not in_reference_order()
        thread = threading.Thread(target=lambda: elsewhere.append(in_reference_order()))
        thread.start()
        thread.join()
        raise KeyError
    assert not in_reference_order()
    assert elsewhere == [False]


@torch.inference_mode()
def test_layer_norm_is_the_same_up_to_rounding() -> None:
    norm = LayerNorm2d(24)
    norm.weight.copy_(_random(24))
    norm.bias.copy_(_random(24))
    x = 3 + 5 * _random(2, 24, 7, 9)
    usual = norm(x)
    with reference_order():
        ordered = norm(x)
    torch.testing.assert_close(ordered, usual, atol=1e-5, rtol=1e-5)
    assert not torch.equal(ordered, usual)


@torch.inference_mode()
def test_attention_to_memory_is_the_same_up_to_rounding() -> None:
    torch.manual_seed(0)
    layer = RotaryMemoryAttention(64, 16)
    table = axial_rotation((16, 16), 64, device=torch.device("cpu"))
    arguments = (_random(2, 256, 64), _random(2, 7 * 256 + 4, 16), _random(1, 7 * 256 + 4, 16), 4, table)
    usual = layer(*arguments)
    with reference_order():
        ordered = layer(*arguments)
    torch.testing.assert_close(ordered, usual, atol=1e-5, rtol=1e-4)


def test_the_references_behaviour_computes_in_its_order_one_object_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: dict[bool, set[bool]] = {}
    batches: dict[bool, set[int]] = {}
    usual = RotaryMemoryAttention.forward

    def forward(self, x, *rest):  # type: ignore[no-untyped-def]
        orders.setdefault(behaves, set()).add(in_reference_order())
        batches.setdefault(behaves, set()).add(x.shape[0])
        return usual(self, x, *rest)

    monkeypatch.setattr(attention.RotaryMemoryAttention, "forward", forward)
    for behaves in (False, True):
        segmenter = SAM2VideoSegmenter(make_model(), reference_behaviour=behaves)
        segmenter.set_video(make_movie(4))
        segmenter.add_clicks(0, [(15, 20)], object_id=1)
        segmenter.add_clicks(0, [(50, 30)], object_id=2)
        between = [in_reference_order() for _ in segmenter.propagate_masklets()]
        assert between == [False] * 4, "a caller of the generator is not touched"
        segmenter.add_clicks(2, [(17, 20)], object_id=1)
    assert orders == {False: {False}, True: {True}}
    assert batches == {False: {1, 2}, True: {1}}
