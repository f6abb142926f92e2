"""Attention in the forms SAM 2 uses: plain, with downsampled channels, and rotary over memories."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.position import axial_rotation, rotate

__all__ = ["Attention", "RotaryMemoryAttention", "RotarySelfAttention", "attend"]

_CHUNK = 256  # queries per block on a CPU: the block of scores then stays in the cache


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention.

    Parameters
    ----------
    query, key, value : Tensor
        (..., Nq, C), (..., Nk, C) and (..., Nk, Cv).

    Returns
    -------
    Tensor
        (..., Nq, Cv).

    Notes
    -----
    Long sequences on a CPU are worked through in blocks of queries with plain matrix products: torch's
    fused kernel there reads keys and values in small tiles and reaches neither the fp32 nor the bf16 rate of
    the matrix units. Elsewhere, and while gradients are recorded, torch's own kernel is used.
    """
    blockwise = query.device.type == "cpu" and not torch.is_grad_enabled() and key.shape[-2] >= 1024
    if not blockwise:
        return F.scaled_dot_product_attention(query, key, value)
    query = query * (1 / math.sqrt(query.shape[-1]))
    transposed = key.transpose(-2, -1)
    blocks = [(q @ transposed).softmax(dim=-1) @ value for q in query.split(_CHUNK, dim=-2)]
    return torch.cat(blocks, dim=-2)


class Attention(nn.Module):
    """Multi-head attention between token sequences (mask decoder); inner width is ``dim / downsample``."""

    def __init__(self, dim: int, num_heads: int, *, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, heads, N, C/heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = self._heads(self.q_proj(query)), self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))  # (B, heads, N, c) -> (B, N, C)


class RotarySelfAttention(nn.Module):
    """Single-head self-attention of an image grid with rotary positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        table = axial_rotation(hw, x.shape[-1], device=x.device)
        q, k = rotate(self.q_proj(x), table), rotate(self.k_proj(x), table)
        return self.out_proj(attend(q, k, self.v_proj(x)))


class RotaryMemoryAttention(nn.Module):
    """Single-head attention from an image grid to memories, with rotary positions on all but the pointers.

    The value projection is applied after the attention: it is linear and the weights of the softmax sum to
    one, so the result is the same while the values stay ``memory_dim`` wide.
    """

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, memory: Tensor, position: Tensor, num_pointer_tokens: int, hw: tuple[int, int]
    ) -> Tensor:
        table = axial_rotation(hw, x.shape[-1], device=x.device)
        key = self.k_proj(memory + position)
        num_spatial = key.shape[1] - num_pointer_tokens
        if num_spatial:
            key = torch.cat((rotate(key[:, :num_spatial], table), key[:, num_spatial:]), dim=1)
        attended = attend(rotate(self.q_proj(x), table), key, memory)
        return self.out_proj(self.v_proj(attended))
