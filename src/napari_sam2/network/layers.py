"""Small layers shared by the parts of SAM 2."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.arithmetic import in_reference_order
from napari_sam2.network.linear import Linear

__all__ = ["MLP", "LayerNorm2d"]


class MLP(nn.Module):
    """Linear layers with an activation between them, and an optional sigmoid at the end."""

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        num_layers: int,
        *,
        activation: Callable[[Tensor], Tensor] = F.relu,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(Linear(a, b) for a, b in itertools.pairwise(dims))
        self.activation = activation
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers  # a slice would make a new module each time
        for layer in hidden:
            x = cast(Linear, layer).then_gelu(x) if self.activation is F.gelu else self.activation(layer(x))
        x = last(x)
        return torch.sigmoid(x) if self.sigmoid else x


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if in_reference_order():
            centred = x - x.mean(1, keepdim=True)
            scaled = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + self.eps)
            return self.weight[:, None, None] * scaled + self.bias[:, None, None]
        x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, self.eps)  # -> (B, H, W, C)
        return x.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
