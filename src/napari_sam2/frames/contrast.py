"""Contrast limits: how they are given, and how they are measured on a sample of the stack."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._errors import FrameError
from napari_sam2._messages import Message, Option, shown

__all__ = [
    "Contrast",
    "ContrastRule",
    "ContrastSample",
    "FrameLimits",
    "Limits",
    "PixelSource",
    "PlaneSample",
    "StackContrast",
    "automatic_contrast",
    "automatic_limits",
    "check_dtype",
    "dtype_limits",
    "limits_on_frame",
    "parse_contrast",
    "percentile_limits",
    "sample_pixels",
]

Limits = tuple[float, float]


@dataclass(frozen=True)
class StackContrast:
    """The contrast of a stack as it was measured; given to `open_frames`, it opens a part of the stack alike.

    Attributes
    ----------
    limits : tuple of (float, float)
        Value shown black and value shown in full, per channel.
    usual : tuple of float
        Upper quartile of a usual frame, per channel: see `limits_on_frame`. Empty where all frames are shown by the
        limits of the stack.
    """

    limits: tuple[Limits, ...]
    usual: tuple[float, ...] = ()


_LEAST_COUNTS = 3.0  # of a hot pixel above its neighbours: photons that are counted one by one are no fault
Contrast = Literal["auto", "dtype"] | Limits | Sequence[Limits] | StackContrast


@dataclass(frozen=True)
class ContrastRule:
    """How the contrast limits of a stack are measured.

    Attributes
    ----------
    percentiles : (float, float)
        Percentiles of the sampled values that become the limits.
    max_frames : int
        Frames that are sampled, spread over the stack.
    max_searched : int
        Frames that are searched for one with finite values if none of those sampled has any.
    max_pixels : int
        Pixels per channel that are sampled, over all frames.
    max_plane_pixels : int
        A plane with more pixels is sampled in parts, and is never read as a whole.
    max_outlier_share : float
        Share of the sampled frames that may be left out as flashes or dead frames; at least one of three frames.
    hot_factor : float
        A pixel beyond the range of the others is a hot or dead one if it differs from all its neighbours by more than
        this share of that range, or of twice its part above or below the median, and by more than they differ from the
        median. With 0.3 to 0.5, 0.2 % hot pixels at the top of the range change no image of the development sets by
        more than a tenth, and without hot pixels none changes.
    spike_factor : float
        A frame whose range of values is more than this many times that of every other frame is left out.
    bright_factor : float
        A frame that is brighter as a whole and reaches this many times the range of the stack's limits is shown by
        its own. On a made stack of discs, masks of a frame 1.5 times as bright as the others had a mean IoU of 0.92
        with the limits of the stack, 2 times 0.86, 4 times 0.76, and 6 times none; no frame of 336 labelled ones of
        microscopes is out of line by more than this.
    max_frame_sample : int
        Pixels that are looked at to tell whether a frame is out of line.
    """

    percentiles: tuple[float, float] = (0.1, 99.9)
    max_frames: int = 8
    max_searched: int = 1000
    max_pixels: int = 1_000_000
    max_plane_pixels: int = 2**24
    max_outlier_share: float = 0.2
    hot_factor: float = 0.4
    spike_factor: float = 8.0
    bright_factor: float = 1.5
    max_frame_sample: int = 2**16


class PixelSource(Protocol):
    """Planes of which rectangles can be read, in the type of the source."""

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""

    def read(self, frame: int, rows: slice, columns: slice, /) -> NDArray[np.generic]:
        """(C, h, w) of a part of one frame."""


@dataclass(frozen=True, eq=False)
class PlaneSample:
    """Sampled values of one frame.

    Attributes
    ----------
    values : numpy.ndarray
        (C, n) in the type of the source.
    is_used : numpy.ndarray
        (C, n) bool: finite, and neither a hot nor a dead pixel.
    """

    values: NDArray[np.generic]
    is_used: NDArray[np.bool_]

    def used(self, channels: slice) -> NDArray[np.generic]:
        """(n,) values that count towards the limits of some channels."""
        values: NDArray[np.generic] = self.values[channels][self.is_used[channels]]
        return values


ContrastSample = Sequence[PlaneSample]


def sample_pixels(source: PixelSource, rule: ContrastRule | None = None) -> list[PlaneSample]:
    """Sample the frames of a stack for their contrast.

    Parameters
    ----------
    source : PixelSource
        The stack.
    rule : ContrastRule, optional
        How many frames and pixels are read.

    Returns
    -------
    list of PlaneSample
        One per sampled frame, in the order of the stack. Where none of these has a finite value, the first of up to
        ``rule.max_searched`` others that has one.

    Raises
    ------
    FrameError
        If none of these frames can be read; a damaged one among others is skipped here, and raises when it is read
        itself.
    """
    rule = rule or ContrastRule()
    num_frames, height, width = source.frames_shape
    frames = _spread(num_frames, rule.max_frames)
    parts = list(_parts(height, width, len(frames), rule))
    num_pixels = len(frames) * sum((r.stop - r.start) * (c.stop - c.start) for r, c in parts)
    step = max(1, math.ceil(math.sqrt(num_pixels / rule.max_pixels)))
    found: list[PlaneSample] = []
    failure: FrameError | None = None
    for t in frames:
        try:
            found.append(_joined([_sample_part(source.read(t, *part), step, rule) for part in parts]))
        except FrameError as error:
            failure = failure or error
    if found and not any(plane.used(slice(None)).size for plane in found):  # such as a movie that is mostly NaN
        for t in _spread(num_frames, rule.max_searched):
            with suppress(FrameError):  # raised again when the frame is read itself
                plane = _joined([_sample_part(source.read(t, *part), step, rule) for part in parts])
                if plane.used(slice(None)).size:
                    return [plane]
    if not found and failure is not None:
        raise failure
    return found


def _spread(num_frames: int, count: int) -> list[int]:
    """Up to ``count`` frames at equal distances, the first and the last among them."""
    frames: list[int] = np.unique(np.linspace(0, num_frames - 1, min(num_frames, count)).round().astype(int)).tolist()
    return frames


def automatic_limits(sample: ContrastSample, *, is_rgb: bool, rule: ContrastRule | None = None) -> tuple[Limits, ...]:
    """Measure contrast limits: one pair per channel; the three colours of a picture share theirs.

    Percentiles of all sampled values, leaving out frames that are unlike the rest as a whole (a flash, a dead frame)
    and single pixels far brighter or darker than all their neighbours (hot and dead pixels), so that a fault of the
    camera does not darken the stack.

    Parameters
    ----------
    sample : sequence of PlaneSample
        From `sample_pixels`.
    is_rgb : bool
        Whether the channels are the red, green and blue samples of one picture.
    rule : ContrastRule, optional
        Percentiles, and what counts as an outlier.

    Returns
    -------
    tuple of (float, float)
        Value shown black and value shown in full, per channel.

    Raises
    ------
    FrameError
        If no value is finite.
    """
    rule = rule or ContrastRule()
    num_channels = len(sample[0].values)
    if is_rgb:
        if sample[0].values.dtype == np.uint8:
            return ((0.0, 255.0),) * num_channels
        return (_limits_of([plane.used(slice(None)) for plane in sample], rule),) * num_channels
    return tuple(_limits_of([plane.used(slice(c, c + 1)) for plane in sample], rule) for c in range(num_channels))


def automatic_contrast(sample: ContrastSample, *, is_rgb: bool, rule: ContrastRule | None = None) -> StackContrast:
    """Measure the contrast of a stack: its limits, and how bright a usual frame is; see `automatic_limits`.

    The three colours of a picture, and stacks of which fewer than three frames were sampled, have no usual frame.
    """
    rule = rule or ContrastRule()
    limits = automatic_limits(sample, is_rgb=is_rgb, rule=rule)
    if is_rgb or len(sample) < 3 or sample[0].values.dtype == bool:
        return StackContrast(limits)
    usual = []
    for c in range(len(limits)):
        frames = [values for plane in sample if (values := plane.used(slice(c, c + 1))).size]
        kept = [values for values, is_kept in zip(frames, _typical(frames, rule), strict=True) if is_kept]
        usual.append(float(np.median([np.percentile(values.astype(np.float64), 75) for values in kept])))
    return StackContrast(limits, tuple(usual))


def limits_on_frame(plane: NDArray[Any], limits: Limits, usual: float, rule: ContrastRule | None = None) -> Limits:
    """Limits of one frame: those of the stack, or its own if it is far brighter as a whole.

    A frame is out of line if three quarters of it are brighter than ``usual`` and it reaches far beyond the limits,
    such as one exposed four times as long: by the limits of the stack, objects would grow by their blurred borders, or
    vanish in a white frame. A few bright objects do not make a frame that is out of line.

    Parameters
    ----------
    plane : numpy.ndarray
        (H, W) values of the whole frame.
    limits : (float, float)
        Of the stack.
    usual : float
        Upper quartile of a usual frame.
    rule : ContrastRule, optional
        What counts as out of line.
    """
    rule = rule or ContrastRule()
    step = max(1, math.ceil(math.sqrt(plane.size / rule.max_frame_sample)))
    values = plane[::step, ::step].astype(np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return limits
    lower, high = np.percentile(values, (25, rule.percentiles[1]))
    if lower <= usual or high - limits[0] <= rule.bright_factor * (limits[1] - limits[0]):
        return limits
    used = _sample_part(plane[None], 1, rule).used(slice(0, 1))
    own = percentile_limits(used, rule.percentiles) if used.size else limits
    is_flat = used.size == 0 or used.min() == used.max()  # a white frame has no contrast of its own
    return limits if is_flat else own


def content_hash(sample: ContrastSample) -> str:
    """Hash of the sampled values, which changes with an array that is changed in place."""
    digest = hashlib.sha256()
    for plane in sample:
        digest.update(np.ascontiguousarray(plane.values).tobytes())
    return digest.hexdigest()


class FrameLimits:
    """The limits by which each frame of a stack is shown; `limits_on_frame` is asked once for each frame.

    Parameters
    ----------
    limits : sequence of (float, float)
        Of the stack, per channel.
    usual : sequence of (float or None)
        Upper quartile of a usual frame, per channel; None where all frames are shown by the limits of the stack.
    hw : (int, int)
        Height and width of the frames. Those larger than `ContrastRule.max_plane_pixels` have no limits of their own.
    """

    def __init__(self, limits: Sequence[Limits], usual: Sequence[float | None], hw: tuple[int, int]) -> None:
        is_small = math.prod(hw) <= ContrastRule.max_plane_pixels
        self._limits = tuple(limits)
        self._usual = tuple(usual) if is_small else (None,) * len(self._limits)
        self._found: dict[int, tuple[Limits, ...]] = {}

    def of(self, frame: int, read: Callable[[], Iterable[NDArray[Any]]]) -> tuple[Limits, ...]:
        """Limits per channel; ``read`` gives the whole planes of the frame, and is called only if they are needed."""
        if all(value is None for value in self._usual):
            return self._limits
        if frame not in self._found:
            self._found[frame] = tuple(
                pair if value is None else limits_on_frame(plane, pair, value)
                for plane, pair, value in zip(read(), self._limits, self._usual, strict=True)
            )
        return self._found[frame]


def percentile_limits(array: ArrayLike, percentiles: tuple[float, float] = (0.1, 99.9)) -> Limits:
    """Contrast limits from the finite values of an array.

    Parameters
    ----------
    array : array-like
        Any real type and shape; of more than a million values every n-th is used.
    percentiles : (float, float), default (0.1, 99.9)
        Percentiles that become the limits. Where they coincide (a few bright pixels on a flat background) minimum and
        maximum are taken, and for a constant image limits that show it black.

    Returns
    -------
    tuple of float
        (low, high), low < high.

    Raises
    ------
    FrameError
        If no value is finite.
    """
    values = np.asarray(array).ravel()
    check_dtype(values.dtype)
    if values.dtype == bool:
        return 0.0, 1.0
    values = values[:: max(1, math.ceil(values.size / ContrastRule.max_pixels))]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise FrameError(
            Message(
                "the image has no finite values (all NaN or infinite); give ",
                Option("contrast", "contrast=(low, high)", "--contrast LOW,HIGH"),
                ", or other data",
            )
        )
    low, high = (float(v) for v in np.percentile(values.astype(np.float64), percentiles, overwrite_input=True))
    if low >= high:
        low, high = float(values.min()), float(values.max())
    if low >= high:
        high = max(low + 1, float(np.nextafter(low, math.inf)))
    return low, high


def parse_contrast(contrast: Contrast, num_channels: int, dtype: np.dtype[np.generic]) -> tuple[Limits, ...] | None:
    """One pair of limits per channel, or None where ``"auto"`` leaves them to be measured.

    Of a measured contrast, its limits.

    Raises
    ------
    FrameError
        If a pair is not finite and increasing, or if their number is not that of the channels.
    """
    allowed = "expected 'auto', 'dtype', (low, high) with low < high, or one such pair per channel"
    if isinstance(contrast, StackContrast):
        return parse_contrast(contrast.limits, num_channels, dtype)
    if isinstance(contrast, str):
        if contrast not in ("auto", "dtype"):
            raise FrameError(f"contrast={shown(contrast)} was given; {allowed}")
        return None if contrast == "auto" else (dtype_limits(dtype),) * num_channels
    try:
        pairs = np.asarray(contrast, np.float64)
    except (TypeError, ValueError):
        raise FrameError(f"contrast={shown(contrast)} was given; {allowed}") from None
    if pairs.shape == (2,):
        pairs = np.repeat(pairs[None], num_channels, axis=0)
    if pairs.shape != (num_channels, 2):
        raise FrameError(f"contrast={shown(contrast)} was given for {num_channels} channel(s); {allowed}")
    if not np.isfinite(pairs).all() or not (pairs[:, 0] < pairs[:, 1]).all():
        raise FrameError(f"contrast={shown(contrast)} was given; {allowed}")
    return tuple((float(low), float(high)) for low, high in pairs)


def dtype_limits(dtype: np.dtype[np.generic]) -> Limits:
    """Whole range of an integer type; (0, 1) for bool and floats."""
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)  # type: ignore[type-var]
        return float(bounds.min), float(bounds.max)
    return 0.0, 1.0


def check_dtype(dtype: np.dtype[np.generic]) -> None:
    """Raise FrameError unless the type is bool, an integer or a float."""
    if dtype.kind not in "biuf":
        raise FrameError(
            f"an image of type {dtype} was given; expected booleans, integers or floats (of complex numbers, the "
            "real part or modulus)"
        )


def _parts(height: int, width: int, num_frames: int, rule: ContrastRule) -> Iterator[tuple[slice, slice]]:
    """The whole plane, or squares spread over a large one."""
    if height * width <= rule.max_plane_pixels:
        yield slice(0, height), slice(0, width)
        return
    side = math.isqrt(rule.max_pixels)
    per_side = max(2, math.ceil(4 / math.sqrt(num_frames)))
    rows, columns = (
        np.unique(np.linspace(0, max(length - side, 0), per_side).round().astype(int)).tolist()
        for length in (height, width)
    )
    for y in rows:
        for x in columns:
            yield slice(y, min(y + side, height)), slice(x, min(x + side, width))


def _sample_part(part: NDArray[Any], step: int, rule: ContrastRule) -> PlaneSample:
    """Every step-th row and column of (C, h, w) values."""
    values = part[:, ::step, ::step]
    is_used = np.ones(values.shape, bool)
    if values.dtype.kind == "f":
        is_used = np.isfinite(values)
    if values.dtype.kind in "iuf" and min(part.shape[1:]) > 2:
        for c in range(len(part)):
            is_used[c] &= ~_is_hot(part[c], step, is_used[c], rule)
    return PlaneSample(values.reshape(len(values), -1), is_used.reshape(len(values), -1))


def _is_hot(plane: NDArray[Any], step: int, is_finite: NDArray[np.bool_], rule: ContrastRule) -> NDArray[np.bool_]:
    """Sampled pixels beyond the range of the rest of the plane that differ much from all their neighbours."""
    padded = np.pad(plane, 1, mode="reflect")
    height, width = plane.shape
    shifts = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    neighbours = [padded[y : y + height : step, x : x + width : step] for y, x in shifts]
    values, highest, lowest = plane[::step, ::step], neighbours[0], neighbours[0]
    for other in neighbours[1:]:
        highest, lowest = np.fmax(highest, other), np.fmin(lowest, other)
    smooth = np.clip(values, lowest, highest)[is_finite].astype(np.float64)
    smooth = smooth[np.isfinite(smooth)]
    if not smooth.size:
        return np.zeros(values.shape, bool)
    lowest_percentile, highest_percentile = rule.percentiles
    low, middle, high = np.percentile(smooth, (lowest_percentile, 50, highest_percentile), overwrite_input=True)
    if not high > low:
        return np.zeros(values.shape, bool)
    # on a dark background, a dead pixel differs from its neighbours by little of the range that bright objects have
    least = _LEAST_COUNTS if plane.dtype.kind in "iu" else 0.0
    above, below = (max(rule.hot_factor * min(high - low, 2 * side), least) for side in (high - middle, middle - low))
    with np.errstate(invalid="ignore", over="ignore"):
        wide, most, fewest = (each.astype(np.float64) for each in (values, highest, lowest))
        # a spot as small as light allows has neighbours that are brighter than the background by half of its peak
        is_bright = (wide > high) & (wide > most + np.maximum(above, most - middle))
        is_dark = (wide < low) & (wide < fewest - np.maximum(below, middle - fewest))
    return np.asarray(is_bright | is_dark)


def _joined(parts: Sequence[PlaneSample]) -> PlaneSample:
    if len(parts) == 1:
        return parts[0]
    return PlaneSample(
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.is_used for part in parts], axis=1),
    )


def _limits_of(frames: Sequence[NDArray[np.generic]], rule: ContrastRule) -> Limits:
    held = [values for values in frames if values.size]
    if not held:
        return percentile_limits(frames[0], rule.percentiles)  # raises: nothing is finite
    kept = [values for values, is_kept in zip(held, _typical(held, rule), strict=True) if is_kept]
    return percentile_limits(np.concatenate(kept), rule.percentiles)


def _typical(frames: Sequence[NDArray[np.generic]], rule: ContrastRule) -> NDArray[np.bool_]:
    """Which frames are like the others: neither dead (constant), nor a flash, nor full of extreme values."""
    everything = np.ones(len(frames), bool)
    if len(frames) < 3 or frames[0].dtype == bool:
        return everything
    marks = (rule.percentiles[0], 25, 75, rule.percentiles[1])
    table = np.array([np.percentile(values.astype(np.float64), marks, overwrite_input=True) for values in frames])
    low, lower, upper, high = table.T
    is_constant = low == high
    if is_constant.all():
        return everything
    # at least three quarters of the frame lie beyond the middle half of a typical one
    is_shifted = (lower > np.median(upper)) | (upper < np.median(lower))
    width = high - low
    second = np.partition(width, -2)[-2]
    is_spike = width > rule.spike_factor * second if second > 0 else np.zeros(len(frames), bool)
    is_outlier = is_shifted | is_spike
    if is_outlier.sum() > max(1, rule.max_outlier_share * len(frames)):
        is_outlier = is_spike  # the stack changes; no few frames are at fault
    typical = ~(is_constant | is_outlier)
    return typical if typical.any() else everything
