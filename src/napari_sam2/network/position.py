"""Position encodings: sine for images and time, random Fourier features for prompts, rotary for memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["RandomPosition", "axial_rotation", "rotate", "sine_1d", "sine_2d"]


def sine_2d(hw: tuple[int, int], num_channels: int, *, device: torch.device, temperature: float = 10000.0) -> Tensor:
    """Sine position encoding of an image grid.

    Parameters
    ----------
    hw : tuple of int
        (height, width) of the grid.
    num_channels : int
        Channels: the first half encodes y, the second x.
    device : torch.device
        Device of the result.
    temperature : float
        Base of the wavelengths.

    Returns
    -------
    Tensor
        (1, num_channels, height, width), float32.

    References
    ----------
    .. [1] Carion et al., DETR, 2020. arXiv:2005.12872
    """
    half = num_channels // 2
    channel = torch.arange(half, dtype=torch.float32, device=device)
    wavelength = temperature ** (2 * torch.div(channel, 2, rounding_mode="floor") / half)

    def encode(length: int) -> Tensor:
        position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = (position / (length + 1e-6) * (2 * math.pi))[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)  # (L, half)

    h, w = hw
    y = encode(h)[:, None, :].expand(h, w, half)
    x = encode(w)[None, :, :].expand(h, w, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1)[None]  # (H, W, C) -> (1, C, H, W)


def sine_1d(position: Tensor, num_channels: int, *, temperature: float = 10000.0) -> Tensor:
    """Sine encoding of (P,) scaled times -> (P, num_channels): first all sines, then all cosines."""
    half = num_channels // 2
    channel = torch.arange(half, dtype=torch.float32, device=position.device)
    wavelength = temperature ** (2 * torch.div(channel, 2, rounding_mode="floor") / half)
    angle = position[:, None] / wavelength
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


class RandomPosition(nn.Module):
    """Random Fourier features of positions in the unit square (SAM's encoding of prompts).

    Always computed in float32, also in bfloat16 or float16 networks, whose precision is too low for large angles.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_features))

    def forward(self, unit_xy: Tensor) -> Tensor:
        """Encode (..., 2) positions as (x, y) in [0, 1] -> (..., 2 * num_features), float32."""
        matrix = self.positional_encoding_gaussian_matrix.float()
        angle = 2 * math.pi * ((2 * unit_xy.float() - 1) @ matrix)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RandomPosition:
        exact = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = self.positional_encoding_gaussian_matrix
        if moved.dtype.itemsize < exact.dtype.itemsize and not exact.is_meta:
            self.positional_encoding_gaussian_matrix = exact.to(moved.device)
        return self

    def grid(self, hw: tuple[int, int]) -> Tensor:
        """Encode the pixel centres of a grid -> (1, 2 * num_features, H, W)."""
        device = self.positional_encoding_gaussian_matrix.device
        h, w = hw
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        unit_xy = torch.stack((x[None, :].expand(h, w), y[:, None].expand(h, w)), dim=-1)
        return self(unit_xy).permute(2, 0, 1)[None]  # (H, W, C) -> (1, C, H, W)


def axial_rotation(hw: tuple[int, int], num_channels: int, *, device: torch.device, theta: float = 10000.0) -> Tensor:
    """2D rotary encoding: a complex number of magnitude one for each position and pair of channels.

    Parameters
    ----------
    hw : tuple of int
        (height, width) of the grid.
    num_channels : int
        Number of channels to rotate; the first half by x, the second by y.
    device : torch.device
        Device of the result.
    theta : float
        Base of the wavelengths.

    Returns
    -------
    Tensor
        (H * W, num_channels / 2), complex64.

    References
    ----------
    .. [1] Heo et al., Rotary Position Embedding for Vision Transformer, 2024. arXiv:2403.13298
    """
    h, w = hw
    frequency = 1 / theta ** (torch.arange(0, num_channels, 4, dtype=torch.float32, device=device) / num_channels)
    index = torch.arange(h * w, dtype=torch.float32, device=device)
    y = torch.div(index, w, rounding_mode="floor")
    angle = torch.cat(((index % w)[:, None] * frequency, y[:, None] * frequency), dim=-1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the channel pairs of (..., N, C); N may be a multiple of the table's grid."""
    num_places = table.shape[0]
    pairs = x.float().unflatten(-2, (-1, num_places)).unflatten(-1, (-1, 2))  # (..., R, N, C/2, 2)
    turned = torch.view_as_real(torch.view_as_complex(pairs) * table)
    return turned.flatten(-2).flatten(-3, -2).to(x.dtype)
