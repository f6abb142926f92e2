"""Whole frames before they are segmented: whether a frame can be used, and how far it is shifted against another."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource

__all__ = ["FrameSurvey", "Shift", "ShiftSettings", "is_blank", "measure_shift"]

_KEPT = 32  # frames; their reduced planes take about 8 MiB


class Shift(NamedTuple):
    """Translation (x, y) in image pixels that moves the content of one frame to its place in another."""

    x: int
    y: int


NO_SHIFT = Shift(0, 0)


@dataclass(frozen=True)
class ShiftSettings:
    """When a shift between two frames is taken for a movement of the stage.

    Attributes
    ----------
    is_measured : bool
        Whether shifts are measured at all.
    max_side : int
        Frames are reduced to at most this many pixels per side.
    min_shift : float
        Smaller shifts, as a fraction of the longer side of the image, are left to tracking.
    min_overlap : float
        Fraction of the frame that must be visible in both.
    min_correlation : float
        Correlation of the overlapping parts after the shift.
    min_gain : float
        How much higher the correlation must be than without the shift.
    """

    is_measured: bool = True
    max_side: int = 256
    min_shift: float = 0.02
    min_overlap: float = 0.25
    min_correlation: float = 0.5
    min_gain: float = 0.15


class FrameSurvey:
    """Measures frames on demand and keeps the latest results.

    Parameters
    ----------
    frames : FrameSource
        The stack.
    settings : ShiftSettings, optional
        When a shift counts.
    """

    def __init__(self, frames: FrameSource, settings: ShiftSettings = ShiftSettings()) -> None:
        self._frames = frames
        self.settings = settings
        self._planes: OrderedDict[int, NDArray[np.float32] | None] = OrderedDict()
        self._shifts: OrderedDict[tuple[int, int], Shift] = OrderedDict()

    def is_usable(self, frame: int, rgb: NDArray[np.uint8] | None = None) -> bool:
        """Whether a frame shows anything; ``rgb`` (H, W, 3) is the frame itself, if it has been read."""
        return self._plane(frame, rgb) is not None

    def shift(self, past: int, frame: int) -> Shift:
        """How far the content of ``past`` has moved on ``frame``; zero where no shift is certain."""
        if past == frame or not self.settings.is_measured:
            return NO_SHIFT
        key = (past, frame)
        if key not in self._shifts:
            before, after = self._plane(past), self._plane(frame)
            known = NO_SHIFT
            if before is not None and after is not None:
                _, h, w = self._frames.shape
                known = measure_shift(before, after, _reduction((h, w), self.settings.max_side), self.settings)
            self._shifts[key] = known
            if len(self._shifts) > 2 * _KEPT:
                self._shifts.popitem(last=False)
        return self._shifts[key]

    def shift_along(self, past: int, frame: int) -> Shift:
        """The sum of the shifts from each usable frame to the next one, from ``past`` to ``frame``."""
        step = 1 if frame > past else -1
        stops = [past, *(t for t in range(past + step, frame, step) if self.is_usable(t)), frame]
        shifts = [self.shift(one, other) for one, other in itertools.pairwise(stops)]
        return Shift(sum(shift.x for shift in shifts), sum(shift.y for shift in shifts))

    def _plane(self, frame: int, rgb: NDArray[np.uint8] | None = None) -> NDArray[np.float32] | None:
        """The reduced grey plane (h, w) of a frame; None if the frame is blank or, for the moment, unreadable."""
        if frame in self._planes:
            self._planes.move_to_end(frame)
        else:
            try:
                pixels = self._frames[frame] if rgb is None else rgb
            except FrameError:  # tracking reports it
                return None
            self._planes[frame] = None if is_blank(pixels) else _reduced(pixels, self.settings.max_side)
            if len(self._planes) > _KEPT:
                self._planes.popitem(last=False)
        return self._planes[frame]


def is_blank(rgb: NDArray[np.uint8]) -> bool:
    """Whether a frame (H, W, 3) is empty or saturated: single pixels apart, all pixels have one value."""
    rows = rgb[:: max(1, len(rgb) // 16)]  # they decide nearly always
    if 1 - _counts(rows).max(1).sum() / max(rows.size, 1) > 0.05:
        return False
    common = _counts(rgb).argmax(1)
    differs = (rgb != common).any(-1)
    touching = (differs[1:] & differs[:-1]).any() or (differs[:, 1:] & differs[:, :-1]).any()
    return not touching


def _counts(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """(3, 256) how often each value occurs in each channel."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(rgb, -1, 0)])


def measure_shift(
    before: NDArray[np.float32], after: NDArray[np.float32], reduction: int, settings: ShiftSettings
) -> Shift:
    """The translation between two planes by phase correlation.

    Parameters
    ----------
    before, after : numpy.ndarray
        (h, w) float32.
    reduction : int
        Image pixels per pixel of the planes.
    settings : ShiftSettings
        When a shift counts.

    Returns
    -------
    Shift
        In image pixels; zero where no shift is certain.

    References
    ----------
    .. [1] Guizar-Sicairos et al., Efficient subpixel image registration algorithms, Optics Letters 33 (2008).
       doi:10.1364/OL.33.000156
    """
    from skimage.registration import phase_cross_correlation

    smallest = max(2.0, settings.min_shift * max(before.shape))
    at_rest = _correlation(before, after, 0, 0)
    if at_rest > 1 - settings.min_gain:
        return NO_SHIFT
    best, chosen = max(at_rest + settings.min_gain, settings.min_correlation), NO_SHIFT
    centred = [plane - plane.mean() for plane in (after, before)]
    for normalization in ("phase", None):
        found, _, _ = phase_cross_correlation(*centred, normalization=normalization)
        y, x = (int(v) for v in found)
        is_visible = (before.shape[0] - abs(y)) * (before.shape[1] - abs(x)) >= settings.min_overlap * before.size
        if is_visible and np.hypot(x, y) >= smallest and (value := _correlation(before, after, y, x)) > best:
            best, chosen = value, Shift(x * reduction, y * reduction)
    return chosen


def _correlation(before: NDArray[np.float32], after: NDArray[np.float32], y: int, x: int) -> float:
    """Pearson correlation of the parts that overlap after ``before`` is moved by (y, x); 0 if one of them is flat."""
    h, w = before.shape
    moved = before[max(-y, 0) : h - max(y, 0), max(-x, 0) : w - max(x, 0)]
    still = after[max(y, 0) : h - max(-y, 0), max(x, 0) : w - max(-x, 0)]
    one, other = moved - moved.mean(), still - still.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0


def _reduction(hw: tuple[int, int], max_side: int) -> int:
    return max(1, -(-max(hw) // max_side))


def _reduced(rgb: NDArray[np.uint8], max_side: int) -> NDArray[np.float32]:
    """Grey means over squares of pixels."""
    factor = _reduction(rgb.shape[:2], max_side)
    h, w = rgb.shape[:2]
    if factor == 1 or min(h, w) < factor:
        grey: NDArray[np.float32] = rgb[::factor, ::factor].mean(-1, dtype=np.float32)
        return grey
    rows, columns = h // factor, w // factor
    squares = rgb[: rows * factor, : columns * factor].reshape(rows, factor, columns, 3 * factor)
    sums: NDArray[np.float32] = squares.sum(3, dtype=np.uint32).sum(1, dtype=np.float32)
    return sums / np.float32(3 * factor**2)
