"""Functions give the same result on chunks of rows as on all rows."""

from __future__ import annotations

import pytest
import torch

from factories import make_model
from napari_sam2.network import row_chunks
from napari_sam2.network.arithmetic import reference_order
from napari_sam2.network.row_chunks import map_rows_in_chunks, may_reorder_sums


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.inference_mode()
def test_chunks_are_small_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_chunks, "_MAX_ELEMENTS", 40)
    x = _random(11, 3)
    seen: list[int] = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return 2 * rows

    assert torch.equal(map_rows_in_chunks(double, x, 10), 2 * x)
    assert seen == [4, 4, 3]
    seen.clear()
    assert torch.equal(map_rows_in_chunks(double, x, 1000), 2 * x)
    assert seen == [1] * 11, "a row is not taken apart"
    seen.clear()
    with reference_order():
        map_rows_in_chunks(double, x, 10)
    assert seen == [11]


def test_nothing_is_taken_apart_while_gradients_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_chunks, "_MAX_ELEMENTS", 1)
    assert not may_reorder_sums(_random(2))
    map_rows_in_chunks(lambda rows: pytest.fail("not whole") if len(rows) < 5 else rows, _random(5, 2), 2)
    with torch.no_grad():
        assert may_reorder_sums(_random(2))


@pytest.mark.parametrize("image_size", [64, 96])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_an_image_encoded_in_chunks_equals_one_encoded_at_once(
    monkeypatch: pytest.MonkeyPatch, image_size: int, batch: int
) -> None:
    model = make_model(image_size=image_size)
    image = _random(batch, 3, image_size, image_size)
    with reference_order():
        whole = model.encode_image(image)
    monkeypatch.setattr(row_chunks, "_MAX_ELEMENTS", 5000)
    found = model.encode_image(image)
    for one, other in zip((found.embed, *found.high_res), (whole.embed, *whole.high_res), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
