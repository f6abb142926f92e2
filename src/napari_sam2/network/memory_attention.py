"""Condition a frame's features on memories of the object (SAM 2 paper, section 4, "Memory attention")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.attention import RotaryMemoryAttention, RotarySelfAttention
from napari_sam2.network.encoding_cache import EncodingCache
from napari_sam2.network.linear import Linear
from napari_sam2.network.position import axial_rotation

__all__ = ["MemoryAttention"]


class _MemoryLayer(nn.Module):
    def __init__(self, dim: int, memory_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.self_attn = RotarySelfAttention(dim)
        self.cross_attn_image = RotaryMemoryAttention(dim, memory_dim)
        self.linear1 = Linear(dim, mlp_dim)
        self.linear2 = Linear(mlp_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        position: Tensor,
        num_pointer_tokens: int,
        table: Tensor,
        products: torch.dtype | None,
    ) -> Tensor:
        x = x + self.self_attn(self.norm1(x), table, products)
        x = x + self.cross_attn_image(self.norm2(x), memory, position, num_pointer_tokens, table, products)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class MemoryAttention(nn.Module):
    """Layers of self-attention over the frame and cross-attention to the memories.

    Attributes
    ----------
    products : torch.dtype or None
        Half precision of the attention on a CPU.
    """

    products: torch.dtype | None = None

    def __init__(self, dim: int, memory_dim: int, mlp_dim: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_MemoryLayer(dim, memory_dim, mlp_dim) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self._rotations = EncodingCache()

    def forward(
        self, embed: Tensor, embed_position: Tensor, memory: Tensor, position: Tensor, num_pointer_tokens: int
    ) -> Tensor:
        """Condition features on memory.

        Parameters
        ----------
        embed, embed_position : Tensor
            (1 or O, C, h, w) features and (1, C, h, w) position encoding of the frame. If objects share the features,
            the first self-attention is computed only once.
        memory, position : Tensor
            (O, N, Cm) memory tokens and (1 or O, N, Cm) their encodings; the last ``num_pointer_tokens`` are pointers.
        num_pointer_tokens : int
            Number of pointer tokens, which have no position in the image.

        Returns
        -------
        Tensor
            (O, C, h, w).
        """
        hw = (embed.shape[-2], embed.shape[-1])
        x = (embed + 0.1 * embed_position.to(embed.dtype)).flatten(2).transpose(1, 2)  # (O, C, h, w) -> (O, N, C)
        width, device = x.shape[-1], x.device
        table = self._rotations.get((hw, width, device), lambda: axial_rotation(hw, width, device=device))
        for layer in self.layers:
            x = layer(x, memory, position, num_pointer_tokens, table, self.products)
        out: Tensor = self.norm(x)
        return out.transpose(1, 2).unflatten(2, hw)  # (O, N, C) -> (O, C, h, w)
