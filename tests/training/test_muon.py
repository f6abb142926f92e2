"""Muon: what it computes, and in which precision."""

from __future__ import annotations

import pytest
import torch

from napari_sam2.training import muon
from napari_sam2.training.muon import Muon, iteration_dtype, orthogonalised


def make_matrices(seed: int = 0) -> list[torch.nn.Parameter]:
    torch.manual_seed(seed)
    shapes = ((24, 16), (24, 16), (16, 40))
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape), torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="muon came with torch 2.9")
def test_updates_are_those_of_torch():
    ours, theirs = make_matrices(), make_matrices()
    optimizer = Muon(ours, lr=0.1, weight_decay=0.02, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other, before in zip(ours, theirs, make_matrices(), strict=True):
        assert torch.allclose(one, other, atol=2e-3)
        assert not torch.allclose(one, before, atol=0.05)


def test_matrices_without_a_gradient_stay_as_they_are():
    matrices = make_matrices()
    matrices[0].grad = torch.ones_like(matrices[0])
    optimizer = Muon(matrices, lr=0.1)
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(matrices[1], make_matrices()[1])
    assert not torch.equal(matrices[0], make_matrices()[0])


@pytest.mark.parametrize(("is_native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_iteration_is_in_bfloat16_where_the_processor_multiplies_it(monkeypatch, is_native, dtype):
    monkeypatch.setattr(muon, "cpu_computes", lambda _: is_native)
    assert iteration_dtype(torch.device("cpu")) == dtype
    assert iteration_dtype(torch.device("cuda")) == torch.bfloat16
