"""Attention layers of SAM 2: plain, with downsampled channels, and rotary over memories."""

from __future__ import annotations

import logging
import math
import time
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.arithmetic import in_reference_order
from napari_sam2.network.linear import MIN_ROWS, Linear, linear, onednn_gains
from napari_sam2.network.position import rotate

__all__ = ["Attention", "RotaryMemoryAttention", "RotarySelfAttention", "attend"]

logger = logging.getLogger(__name__)

_CHUNK = 256  # queries per block on a CPU: enough for matrix products to run at their full rate
_MIN_KEYS = 1024  # below, blocks are not faster than torch's kernel
_MIN_ROUNDED_KEYS = 4096  # below, half precision is not faster than float32
_TRIALS = 5  # timings of a small product, about a millisecond each; the fastest is used
_CLEAR_GAIN = 2.0  # a wide margin, so that timing noise cannot change the dtype, hence the masks, between runs


def attend(query: Tensor, key: Tensor, value: Tensor, products: torch.dtype | None = None) -> Tensor:
    """Softmax attention.

    Parameters
    ----------
    query, key, value : Tensor
        (..., Nq, C), (..., Nk, C) and (..., Nk, Cv); leading axes are broadcast.
    products : torch.dtype, optional
        Half precision for products of long float32 sequences on a CPU, if it is much faster there.

    Returns
    -------
    Tensor
        (..., Nq, Cv).

    Notes
    -----
    Long sequences on a CPU are processed in blocks of queries with plain matrix products: torch's fused kernel
    reads keys and values in small tiles there and reaches neither the fp32 nor the bf16 rate of the matrix units. Half
    precision is computed in float32 where it is not clearly faster. Elsewhere, in the reference's order, and while
    gradients are recorded, torch's kernel is used.
    """
    is_long_on_cpu = key.shape[-2] >= _MIN_KEYS and query.device.type == "cpu" and not torch.is_grad_enabled()
    if is_long_on_cpu and products is not None and key.shape[-2] >= _MIN_ROUNDED_KEYS and _gains_speed(products):
        return _attend_rounded(query, key, value, products)
    if is_long_on_cpu and not in_reference_order():
        if query.dtype.itemsize < 4 and not _gains_speed(query.dtype):
            return _attend_blockwise(query.float(), key.float(), value.float()).to(query.dtype)
        return _attend_blockwise(query, key, value)
    if query.ndim == 3:  # the fused kernels expect an axis of heads
        return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
    return F.scaled_dot_product_attention(query, key, value)


@cache
def _gains_speed(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies half precision matrices much faster than float32, measured by a short trial.

    Processors with the same instructions differ: bfloat16 runs at four times the rate of float32 on some, at half of
    it on others, and is emulated on those without such instructions.
    """
    seconds = {}
    for each in (torch.float32, dtype):
        left, right = torch.ones(_CHUNK, _CHUNK, dtype=each), torch.ones(_CHUNK, _MIN_KEYS, dtype=each)
        trials = []
        for _ in range(_TRIALS):
            begin = time.perf_counter()
            left @ right
            trials.append(time.perf_counter() - begin)
        seconds[each] = min(trials)
    gains = _CLEAR_GAIN * seconds[dtype] < seconds[torch.float32]
    logger.info(
        "long products requested in %s are computed in %s on this processor", dtype, dtype if gains else "float32"
    )
    return gains


def _attend_rounded(query: Tensor, key: Tensor, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention in another precision, with keys and values centred, so that their means are not rounded.

    The mean key adds the same constant to all scores of a query, to which the softmax is invariant.
    """
    mean = value.mean(dim=-2, keepdim=True)
    centred = key - key.mean(dim=-2, keepdim=True), value - mean
    return _attend_blockwise(query.to(dtype), *(t.to(dtype) for t in centred)).to(query.dtype) + mean


def _attend_blockwise(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in blocks of queries, which share one buffer for scores."""
    # not torch.broadcast_shapes, which imports sympy and blocks other threads for a second
    leading = torch.broadcast_tensors(*(t[..., :1, :1] for t in (query, key, value)))[0].shape[:-2]
    num_queries = query.shape[-2]
    query, key, value = (
        t.expand(*leading, -1, -1).reshape(-1, *t.shape[-2:]) for t in (query, key, value)
    )  # (..., N, C) -> (R, N, C)
    query = query * (1 / math.sqrt(query.shape[-1]))
    if num_queries >= _CHUNK and query.dtype == torch.float32 and onednn_gains():
        alone = [_attend_through_onednn(*one) for one in zip(query, key, value, strict=True)]
        return torch.stack(alone).reshape(*leading, num_queries, -1)
    transposed = key.transpose(1, 2)
    size = min(_CHUNK, num_queries)
    # long sequences are processed one by one, which keeps the scores small
    together = 1 if num_queries >= _CHUNK else len(query)
    scores = query.new_empty(together, size, key.shape[1])
    attended = query.new_empty(len(query), num_queries, value.shape[-1])
    for row in range(0, len(query), together):
        rows = slice(row, row + together)
        for start in range(0, num_queries, size):
            block = query[rows, start : start + size]
            part = scores[:, : block.shape[1]]
            torch.bmm(block, transposed[rows], out=part)
            weights = torch.softmax(part, dim=-1, out=part)
            torch.bmm(weights, value[rows], out=attended[rows, start : start + size])
    return attended.reshape(*leading, num_queries, -1)


def _attend_through_onednn(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one sequence (N, C) with scaled queries, block by block."""
    rows, columns = key.contiguous(), value.T.contiguous()
    blocks = []
    for block in query.split(_CHUNK):
        scores = linear(block, rows)
        weights = torch.softmax(scores, dim=-1, out=scores)
        # the first form is 10 % faster if the product is not too small for oneDNN
        blocks.append(linear(columns, weights).T if len(columns) >= MIN_ROWS else linear(weights, columns))
    return torch.cat(blocks)


class Attention(nn.Module):
    """Multi-head attention between token sequences (mask decoder); inner width is ``dim / downsample``."""

    def __init__(self, dim: int, num_heads: int, *, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.num_heads = num_heads
        self.q_proj = Linear(dim, inner)
        self.k_proj = Linear(dim, inner)
        self.v_proj = Linear(dim, inner)
        self.out_proj = Linear(inner, dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, heads, N, C/heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = self._heads(self.q_proj(query)), self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))  # (B, heads, N, c) -> (B, N, C)


class RotarySelfAttention(nn.Module):
    """Single-head self-attention of an image grid with rotary positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim)
        self.v_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: Tensor, table: Tensor, products: torch.dtype | None = None) -> Tensor:
        q, k = rotate(self.q_proj(x), table), rotate(self.k_proj(x), table)
        return self.out_proj(attend(q, k, self.v_proj(x), products))


class RotaryMemoryAttention(nn.Module):
    """Single-head attention from an image grid to memories, with rotary positions on all but the pointers.

    The value projection is applied after the attention: it is linear and the softmax weights sum to one, so the result
    is the same and the values remain ``memory_dim`` wide. The reference's order applies it before.
    """

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(memory_dim, dim)
        self.v_proj = Linear(memory_dim, dim)
        self.out_proj = Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        position: Tensor,
        num_pointer_tokens: int,
        table: Tensor,
        products: torch.dtype | None = None,
    ) -> Tensor:
        key = self.k_proj(memory + position)
        num_spatial = key.shape[1] - num_pointer_tokens
        if num_spatial:
            key = torch.cat((rotate(key[:, :num_spatial], table), key[:, num_spatial:]), dim=1)
        query = rotate(self.q_proj(x), table).expand(len(key), -1, -1)
        if in_reference_order():
            return self.out_proj(attend(query, key, self.v_proj(memory), products))
        return self.out_proj(self.v_proj(attend(query, key, memory, products)))
