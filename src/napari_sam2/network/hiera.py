"""Hiera, the hierarchical image encoder of SAM 2 (arXiv:2306.00989; SAM 2 paper, section 4, "Image encoder")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.attention import attend
from napari_sam2.network.config import HieraConfig
from napari_sam2.network.encoding_cache import EncodingCache
from napari_sam2.network.layers import MLP
from napari_sam2.network.linear import Linear
from napari_sam2.network.row_chunks import map_rows_in_chunks

__all__ = ["Hiera"]


def _pool(x: Tensor) -> Tensor:
    """2 x 2 max pooling of (B, H, W, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _to_windows(x: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, H, W, C) -> (B * windows, side, side, C), zero-padded to a multiple of ``side``; and the padded (H, W)."""
    _, h, w, _ = x.shape
    pad_h, pad_w = -h % side, -w % side
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    b, h, w, c = x.shape
    windows = x.view(b, h // side, side, w // side, side, c).permute(0, 1, 3, 2, 4, 5)
    return windows.reshape(-1, side, side, c), (h, w)


def _from_windows(windows: Tensor, padded_hw: tuple[int, int], hw: tuple[int, int]) -> Tensor:
    """Undo ``_to_windows`` for windows of any side: (B * windows, s, s, C) -> (B, H, W, C)."""
    side, c = windows.shape[1], windows.shape[-1]
    rows, columns = padded_hw[0] // side, padded_hw[1] // side
    x = windows.view(-1, rows, columns, side, side, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, rows * side, columns * side, c)[:, : hw[0], : hw[1]]


class _PatchEmbed(nn.Module):
    """Overlapping 7 x 7 patches at stride 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 7, stride=4, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)


class _MultiScaleAttention(nn.Module):
    """Attention inside each window; the queries may be pooled, which halves the grid."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, *, pools: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pools = pools
        self.qkv = Linear(dim, 3 * dim_out)
        self.proj = Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # each (B, H, W, C)
        if self.pools:
            q = _pool(q)
            h, w = q.shape[1:3]
        q, k, v = (t.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        x = attend(q, k, v)  # (B, heads, N, c)
        return self.proj(x.transpose(1, 2).reshape(b, h, w, -1))


class _Block(nn.Module):
    """Transformer block on a grid, in windows (``window > 0``) or over the whole image."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, *, window: int, pools: bool) -> None:
        super().__init__()
        self.window = window
        self.pools = pools
        self.dim_out = dim_out
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = _MultiScaleAttention(dim, dim_out, num_heads, pools=pools)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = MLP(dim_out, 4 * dim_out, dim_out, 2, activation=F.gelu)
        if dim != dim_out:
            self.proj = Linear(dim, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.window == 0:
            x = x + self.attn(self.norm1(x))
            return map_rows_in_chunks(self._feed_forward, x.flatten(0, 2), 4 * self.dim_out).view(x.shape)
        # rows of windows are independent
        return map_rows_in_chunks(
            self._in_windows, x, 4 * x.shape[0] * x.shape[2] * self.dim_out, dim=1, multiple_of=self.window
        )

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))

    def _in_windows(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C') or half the grid; H is a multiple of the window, except for the last rows."""
        normed = self.norm1(x)
        shortcut = self.proj(normed) if hasattr(self, "proj") else x
        if self.pools:
            shortcut = _pool(shortcut)
        hw = (shortcut.shape[1], shortcut.shape[2])
        windows, padded = _to_windows(normed, self.window)
        windows = self.attn(windows)
        if self.pools:  # a window of the pooled grid, padded to whole windows as the grid before pooling was
            side = self.window // 2
            padded = (hw[0] + -hw[0] % side, hw[1] + -hw[1] % side)
        return self._feed_forward(shortcut + _from_windows(windows, padded, hw))


class Hiera(nn.Module):
    """Image (B, 3, S, S) -> features at strides 4, 8, 16 and 32, each (B, C, H, W)."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.embed_dim, *config.position_grid))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.embed_dim, config.windows[0], config.windows[0]))
        blocks: list[_Block] = []
        for stage, (depth, channels) in enumerate(zip(config.stages, config.channels, strict=True)):
            for i in range(depth):
                first = i == 0 and stage > 0  # pools, with the windows of the previous stage
                window = config.windows[stage - 1 if first else stage]
                blocks.append(
                    _Block(
                        channels // 2 if first else channels,
                        channels,
                        config.num_heads * 2**stage,
                        window=0 if len(blocks) in config.global_blocks else window,
                        pools=first,
                    )
                )
        self.blocks = nn.ModuleList(blocks)
        ends = [sum(config.stages[: i + 1]) - 1 for i in range(4)]
        self.stage_ends = frozenset(ends)
        self._positions = EncodingCache()

    def _position(self, hw: tuple[int, int]) -> Tensor:
        """(1, H, W, C): an interpolated background plus the repeated pattern of one window."""
        sources = (self.pos_embed, self.pos_embed_window)
        key = (hw, self.pos_embed.device, self.pos_embed.dtype)
        return self._positions.get(key, lambda: self._make_position(hw), sources=sources)

    def _make_position(self, hw: tuple[int, int]) -> Tensor:
        background = F.interpolate(self.pos_embed, size=hw, mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        repeats = (-(-hw[0] // side), -(-hw[1] // side))
        windows = self.pos_embed_window.tile((1, 1, *repeats))[:, :, : hw[0], : hw[1]]
        return (background + windows).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.patch_embed(image)
        x = x + self._position((x.shape[1], x.shape[2]))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                features.append(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
        return features
