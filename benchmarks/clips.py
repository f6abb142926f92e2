"""Moving discs as frames, drawn when they are read: a clip of any length costs no memory, and its truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MIN_AREA", "MovingDiscs", "chosen_objects", "mask_iou"]

MIN_AREA = 30
"""Smaller objects, in pixels, are not measured."""

_BACKGROUND, _NOISE = 40.0, 8.0


@dataclass(frozen=True)
class MovingDiscs:
    """A `FrameSource` of bright discs, each on a small circle of its own, under noise.

    Parameters
    ----------
    num_frames, side : int
        T, and H = W.
    num_discs : int, default 1
        Discs, spread over a grid.
    """

    num_frames: int
    side: int
    num_discs: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self.num_frames, self.side, self.side

    @property
    def key(self) -> str:
        """Names the pixels."""
        return f"moving-discs-{self.num_frames}-{self.side}-{self.num_discs}"

    def __len__(self) -> int:
        return self.num_frames

    def centre_xy(self, frame: int, disc: int) -> tuple[float, float]:
        """Where a disc is, in pixels."""
        columns = math.ceil(math.sqrt(self.num_discs))
        cell = self.side / columns
        angle = 2 * math.pi * frame / 60 + disc
        x, y = (disc % columns + 0.5) * cell, (disc // columns + 0.5) * cell
        return x + 0.15 * cell * math.cos(angle), y + 0.15 * cell * math.sin(angle)

    @property
    def radius(self) -> float:
        """Of every disc, in pixels."""
        return 0.2 * self.side / math.ceil(math.sqrt(self.num_discs))

    def mask(self, frame: int, disc: int) -> NDArray[np.bool_]:
        """(H, W) truth."""
        x, y = self.centre_xy(frame, disc)
        ys, xs = np.mgrid[: self.side, : self.side]
        inside: NDArray[np.bool_] = (xs - x) ** 2 + (ys - y) ** 2 <= self.radius**2
        return inside

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        grey = _BACKGROUND + np.random.default_rng(frame).normal(0, _NOISE, (self.side, self.side))
        for disc in range(self.num_discs):
            grey[self.mask(frame, disc)] += 100 + 80 * disc / self.num_discs
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 if both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def chosen_objects(labels: NDArray[np.integer], limit: int, trusted: frozenset[int] | None) -> list[int]:
    """At most ``limit`` objects of a label image, drawn alike each time, ascending; None trusts all."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    kept = [int(i) for i, a in zip(ids, areas, strict=True) if a >= MIN_AREA and (trusted is None or i in trusted)]
    return sorted(np.random.default_rng(0).permutation(kept)[:limit].tolist())
