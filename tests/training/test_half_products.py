"""Products in bfloat16: near those in float32, forwards and backwards, in training and nowhere else."""

from __future__ import annotations

import pytest
import torch

from napari_sam2.network.linear import Linear, linear
from napari_sam2.training import half_products
from napari_sam2.training.half_products import multiply_in_bfloat16


def _twins(*, bias: bool) -> tuple[Linear, Linear]:
    torch.manual_seed(0)
    exact, rounded = Linear(48, 96, bias=bias), Linear(48, 96, bias=bias)
    rounded.load_state_dict(exact.state_dict())
    multiply_in_bfloat16(torch.nn.Sequential(rounded))
    return exact, rounded


def _relative(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> float:
    assert ours is not None
    assert theirs is not None
    assert ours.dtype == theirs.dtype == torch.float32
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_those_of_float32_up_to_rounding(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    monkeypatch.setattr(half_products, "_MIN_PRODUCTS", 0)
    exact, rounded = _twins(bias=bias)
    inputs = [torch.randn(2, 40, 48, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    outputs = [layer(x) for layer, x in zip((exact, rounded), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    differences = [
        _relative(outputs[1], outputs[0]),
        _relative(inputs[1].grad, inputs[0].grad),
        _relative(rounded.weight.grad, exact.weight.grad),
    ]
    if bias:
        differences.append(_relative(rounded.bias.grad, exact.bias.grad))
    assert all(1e-5 < difference < 0.01 for difference in differences), differences


def test_small_products_and_those_without_gradients_stay_exact() -> None:
    exact, rounded = _twins(bias=True)
    x = torch.randn(100, 48)
    assert torch.equal(rounded(x), exact(x))
    many = torch.randn(2000, 48)
    with torch.inference_mode():
        assert torch.equal(rounded(many), exact(many))
    assert not torch.equal(rounded(many), exact(many))


def test_other_layers_and_models_are_left_alone() -> None:
    exact, rounded = _twins(bias=True)
    assert exact.multiply is linear
    assert rounded.multiply is not linear
    assert set(rounded.state_dict()) == set(exact.state_dict())
