"""Matrix products through oneDNN are those of torch, and are used where they gain and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from napari_sam2.network import attention
from napari_sam2.network import linear as module
from napari_sam2.network.linear import Linear, linear, onednn_gains

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="torch is built without oneDNN here",
)


@pytest.fixture
def fresh() -> Iterator[None]:
    onednn_gains.cache_clear()
    yield
    onednn_gains.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every processor counts as one that gains; grows by one each time that this is asked, with nothing in the way."""
    times: list[str] = []

    def gains() -> bool:
        times.append("asked")
        return True

    for place in (module, attention):
        monkeypatch.setattr(place, "onednn_gains", gains)
    return times


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_onednn
@torch.inference_mode()
def test_gelu_in_one_go_is_that_afterwards(asked: list[str]) -> None:
    layer, x = Linear(48, 96), 3 * _random(100, 48)
    expected = F.gelu(F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(layer.then_gelu(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.then_gelu(x[:3]), expected[:3], atol=1e-5, rtol=1e-5)
    layer.multiply = lambda x, weight, bias: 2 * F.linear(x, weight, bias)
    torch.testing.assert_close(layer.then_gelu(x), F.gelu(2 * F.linear(x, layer.weight, layer.bias)))


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("leading", [(64,), (2, 100), (3, 8, 8)])
def test_the_product_is_that_of_torch(asked: list[str], leading: tuple[int, ...], has_bias: bool) -> None:
    x, weight, bias = _random(*leading, 48), _random(96, 48), _random(96) if has_bias else None
    with torch.inference_mode():
        ours = linear(x, weight, bias)
        scattered = linear(x.transpose(0, -2), weight, bias)
    assert asked
    torch.testing.assert_close(ours, F.linear(x, weight, bias), atol=2e-5, rtol=0)
    torch.testing.assert_close(scattered, F.linear(x.transpose(0, -2), weight, bias), atol=2e-5, rtol=0)


@needs_onednn
@pytest.mark.parametrize("num_heads", [1, 4])
def test_attention_in_blocks_is_that_of_torch(asked: list[str], num_heads: int) -> None:
    query, key = _random(600, 3 * num_heads * 32), _random(1100, 3 * num_heads * 32)  # of which heads are views
    query, key = (t[:, : num_heads * 32].unflatten(1, (num_heads, 32)).transpose(0, 1) for t in (query, key))
    value = _random(1, 1100, 16)
    with torch.inference_mode():
        ours = attention.attend(query, key, value)
    assert asked
    theirs = F.scaled_dot_product_attention(query, key, value.expand(num_heads, -1, -1))
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_gradients_few_rows_and_half_precision_go_the_ordinary_way(asked: list[str]) -> None:
    layer = Linear(8, 8)
    layer(_random(100, 8)).sum().backward()
    assert layer.weight.grad is not None
    with torch.inference_mode():
        layer(_random(3, 8))
        layer.bfloat16()(_random(100, 8).bfloat16())
    assert not asked


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("AMD EPYC", "AVX512", True),
        ("AMD Ryzen 9 9950X", "AVX512", True),
        ("AMD Ryzen 7 5800X", "AVX2", True),
        ("AMD Opteron", "DEFAULT", False),
        ("Intel Core", "AVX2", False),
        ("Intel Xeon", "AVX512", False),
        ("", "AVX512", False),
        (None, "AVX512", False),
    ],
)
def test_only_amd_processors_gain(
    monkeypatch: pytest.MonkeyPatch, name: str | None, capability: str, expected: bool
) -> None:
    if name is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name}, raising=False)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    assert onednn_gains() is (expected and has_onednn)
