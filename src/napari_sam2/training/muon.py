"""Muon: momentum made orthogonal, for the matrices of linear layers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from napari_sam2.weights.devices import cpu_computes

__all__ = ["Muon", "iteration_dtype", "linear_matrices", "orthogonalised"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, as published
_NUM_ITERATIONS = 5
_EPSILON = 1e-7
_RMS_OF_ADAMW = 0.2  # of AdamW's updates as a rule: scaled to it, both optimizers share one learning rate


def iteration_dtype(device: torch.device) -> torch.dtype:
    """Type of the iteration: bfloat16 where the device multiplies it natively, else float32.

    The iteration is robust against rounding, so the precision is a matter of speed alone. On a CPU without bfloat16
    instructions each product is emulated, and the update of the bundled model takes longer than all else of a step.
    """
    if device.type == "cpu":
        return torch.bfloat16 if cpu_computes(torch.bfloat16) else torch.float32
    return torch.bfloat16


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Replace the singular values of matrices by values near 1, by a Newton-Schulz iteration.

    Parameters
    ----------
    matrices : Tensor
        (N, rows, columns).
    dtype : torch.dtype
        Precision of the products.

    Returns
    -------
    Tensor
        (N, rows, columns) of ``dtype``.
    """
    x = matrices.to(dtype)
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPSILON)
    a, b, c = _COEFFICIENTS
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Gradient descent with Nesterov momentum whose updates are orthogonal matrices [1]_.

    Matrices of the same shape are iterated together. The state has the names of ``torch.optim.Muon``.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        Matrices, or groups of them.
    lr : float
        Learning rate, scaled by the shape of a matrix so that AdamW may have the same.
    weight_decay : float, default 0
        Decoupled, as in AdamW.
    momentum : float, default 0.95
        Share of the last steps' momentum that is kept.
    dtype : torch.dtype, optional
        Precision of the iteration; ``iteration_dtype`` of the parameters' device if not given.

    References
    ----------
    .. [1] Jordan et al., Muon, 2024; Liu et al., Muon is scalable for LLM training, 2025. arXiv:2502.16982
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape[0], parameter.shape[1]].append(parameter)
            for shape, alike in by_shape.items():
                self._update(alike, shape, group["lr"], group["weight_decay"], group["momentum"])
        return loss

    def _update(
        self, alike: list[nn.Parameter], shape: tuple[int, int], rate: float, weight_decay: float, momentum: float
    ) -> None:
        gradients = [parameter.grad for parameter in alike if parameter.grad is not None]
        kept = [self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter)) for parameter in alike]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        ahead = torch.stack(gradients).lerp(torch.stack(kept), momentum)
        updates = orthogonalised(ahead, self.dtype or iteration_dtype(ahead.device)).to(ahead.dtype)
        for parameter, update in zip(alike, updates, strict=True):
            parameter.mul_(1 - rate * weight_decay).add_(update, alpha=-rate * _RMS_OF_ADAMW * math.sqrt(max(shape)))


def linear_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers that Muon is made for: matrices of more than eight rows and columns."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    own = [p for layer in linear for p in layer.parameters(recurse=False)]
    return [p for p in own if p.ndim == 2 and min(p.shape) > 8]
