"""From measured intensities to the uint8 RGB a viewer would show: limits, gamma, and channels added in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from napari_sam2._errors import FrameError

__all__ = [
    "Contrast",
    "Limits",
    "check_dtype",
    "check_gamma",
    "dtype_limits",
    "image_to_rgb",
    "parse_colours",
    "parse_contrast",
    "percentile_limits",
    "pillow_to_array",
    "to_rgb_uint8",
]

Limits = tuple[float, float]
Contrast = Literal["auto", "dtype"] | Limits | Sequence[Limits]
Colour = str | Sequence[float]

_PERCENTILES = (0.1, 99.9)
_MAX_SAMPLE = 1_000_000
_COLOURS: dict[str, tuple[float, float, float]] = {
    "gray": (1, 1, 1),
    "grey": (1, 1, 1),
    "white": (1, 1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "magenta": (1, 0, 1),
    "yellow": (1, 1, 0),
}
_DEFAULT_COLOURS = {1: ("grey",), 2: ("magenta", "green"), 3: ("red", "green", "blue")}
_IDENTITY = np.eye(3, dtype=np.float32)


def to_rgb_uint8(
    planes: ArrayLike, limits: Sequence[Limits], gamma: float = 1.0, colours: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """Show one to three channels as a viewer with additive blending does.

    Parameters
    ----------
    planes : (C, H, W) array-like
        Channels of any real type. NaN is black; infinities lie beyond the limits.
    limits : sequence of (float, float)
        Value shown as black and value shown in full colour, one pair per channel.
    gamma : float, default 1.0
        Exponent of the value between the limits (0 to 1): above 1 darkens, below 1 brightens.
    colours : (C, 3) array-like, optional
        RGB of each channel, 0 to 1. Default: grey; magenta and green; red, green and blue.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    FrameError
        If the numbers of channels, limits and colours differ, or if there are more than three channels.
    """
    stack = np.asarray(planes)
    if stack.ndim != 3 or not 1 <= len(stack) <= 3 or len(limits) != len(stack):
        raise FrameError(
            f"planes of shape {stack.shape} and {len(limits)} limits were given; allowed is (C, H, W), C 1-3"
        )
    rgb = parse_colours(None, len(stack)) if colours is None else np.asarray(colours, np.float32)
    if rgb.shape != (len(stack), 3):
        raise FrameError(f"colours of shape {rgb.shape} were given for {len(stack)} channels; allowed is (C, 3)")
    if len(stack) == 1 and (rgb == 1).all():
        grey = _as_bytes(_between(stack[0], limits[0], gamma))
        return np.repeat(grey[..., None], 3, axis=-1)
    if np.array_equal(rgb, _IDENTITY):  # colours do not mix
        if stack.dtype == np.uint8 and gamma == 1 and all(tuple(pair) == (0, 255) for pair in limits):
            return np.ascontiguousarray(np.moveaxis(stack, 0, -1))  # (3, H, W) -> (H, W, 3)
        return np.stack([_as_bytes(_between(p, pair, gamma)) for p, pair in zip(stack, limits, strict=True)], axis=-1)
    mixed = np.zeros((*stack.shape[1:], 3), np.float32)
    for plane, pair, colour in zip(stack, limits, rgb, strict=True):
        mixed += _between(plane, pair, gamma)[..., None] * colour
    return _as_bytes(np.minimum(mixed, 1))


def percentile_limits(array: ArrayLike, percentiles: tuple[float, float] = _PERCENTILES) -> Limits:
    """Contrast limits from the finite values of an array.

    Parameters
    ----------
    array : array-like
        Any real type and shape; of more than a million values every n-th is looked at.
    percentiles : (float, float), default (0.1, 99.9)
        Percentiles that become the limits. Where they coincide (a few bright pixels on a flat ground) minimum and
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
    values = values[:: max(1, math.ceil(values.size / _MAX_SAMPLE))]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise FrameError(
            "the image has no finite value (all NaN or infinite); give contrast=(low, high) "
            "(in the shell --contrast), or other data"
        )
    low, high = (float(v) for v in np.percentile(values.astype(np.float64, copy=False), percentiles))
    if low >= high:
        low, high = float(values.min()), float(values.max())
    if low >= high:
        high = max(low + 1, float(np.nextafter(low, math.inf)))
    return low, high


def image_to_rgb(image: ArrayLike | Image.Image, *, contrast: Contrast = "auto") -> NDArray[np.uint8]:
    """One image of any real type as uint8 RGB.

    Parameters
    ----------
    image : array-like or PIL.Image.Image
        (H, W), (H, W, 1 to 4) or (1 to 3, H, W); a fourth sample is alpha and is ignored.
    contrast : "auto", "dtype", (low, high) or one pair per channel
        As in `open_frames`: ``"auto"`` leaves uint8 RGB as it is and stretches everything else.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    FrameError
        If the shape or type is not an image's, or if no value is finite.
    """
    array = pillow_to_array(image) if isinstance(image, Image.Image) else np.asarray(image)
    check_dtype(array.dtype)
    if array.size == 0:
        raise FrameError(f"the image is empty: its shape is {array.shape}")
    is_rgb = array.ndim == 3 and array.shape[-1] in (3, 4)
    if array.ndim == 2:
        planes = array[None]
    elif is_rgb:
        planes = np.moveaxis(array[..., :3], -1, 0)  # (H, W, C) -> (3, H, W)
    elif array.ndim == 3 and array.shape[0] <= 3:
        planes = array
    elif array.ndim == 3 and array.shape[-1] <= 2:
        planes = np.moveaxis(array, -1, 0)  # (H, W, C) -> (C, H, W)
    else:
        raise FrameError(
            f"an image of shape {array.shape} was given; allowed are (H, W), (H, W, C) with C 1 to 4 and (C, H, W) "
            "with C 1 to 3; choose one plane of a stack, or open it with open_frames"
        )
    limits = parse_contrast(contrast, len(planes), array.dtype)
    if limits is None:
        limits = automatic_limits(planes, is_rgb=is_rgb)
    return to_rgb_uint8(planes, limits)


def automatic_limits(planes: NDArray[np.generic], *, is_rgb: bool) -> tuple[Limits, ...]:
    """Limits of (C, ...) samples under ``contrast="auto"``: one pair per channel, colours share theirs."""
    if is_rgb:
        shared = (0.0, 255.0) if planes.dtype == np.uint8 else percentile_limits(planes)
        return (shared,) * len(planes)
    return tuple(percentile_limits(plane) for plane in planes)


def parse_contrast(contrast: Contrast, num_channels: int, dtype: np.dtype[np.generic]) -> tuple[Limits, ...] | None:
    """One pair of limits per channel, or None where ``"auto"`` leaves them to be measured.

    Raises
    ------
    FrameError
        If a pair is not finite and increasing, or if their number is not that of the channels.
    """
    allowed = "allowed are 'auto', 'dtype', (low, high) with low < high, or one such pair per channel"
    if isinstance(contrast, str):
        if contrast not in ("auto", "dtype"):
            raise FrameError(f"contrast={contrast!r} was given; {allowed}")
        return None if contrast == "auto" else (dtype_limits(dtype),) * num_channels
    try:
        pairs = np.asarray(contrast, np.float64)
    except (TypeError, ValueError):
        raise FrameError(f"contrast={contrast!r} was given; {allowed}") from None
    if pairs.shape == (2,):
        pairs = np.repeat(pairs[None], num_channels, axis=0)
    if pairs.shape != (num_channels, 2):
        raise FrameError(f"contrast={contrast!r} was given for {num_channels} channel(s); {allowed}")
    if not np.isfinite(pairs).all() or not (pairs[:, 0] < pairs[:, 1]).all():
        raise FrameError(f"contrast={contrast!r} was given; {allowed}")
    return tuple((float(low), float(high)) for low, high in pairs)


def parse_colours(colours: Sequence[Colour] | None, num_channels: int) -> NDArray[np.float32]:
    """(C, 3) float32 RGB of names, ``"#rrggbb"`` or triples from 0 to 1; None gives the defaults.

    Raises
    ------
    FrameError
        If a colour is not known, or if their number is not that of the channels.
    """
    given: Sequence[Colour] = _DEFAULT_COLOURS[num_channels] if colours is None else colours
    if isinstance(given, str):
        given = (given,)
    if len(given) != num_channels:
        raise FrameError(f"{len(given)} colours were given for {num_channels} channel(s); give one per channel")
    return np.array([_colour(colour) for colour in given], np.float32)


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
            f"an image of type {dtype} was given; allowed are bool, integers and floats (take a part or abs)"
        )


def check_gamma(gamma: float) -> float:
    """Raise FrameError unless gamma is finite and positive."""
    if not (math.isfinite(gamma) and gamma > 0):
        raise FrameError(f"gamma={gamma!r} was given; allowed are numbers above 0, and 1 changes nothing")
    return float(gamma)


def pillow_to_array(image: Image.Image) -> NDArray[np.generic]:
    """Pixels of a Pillow image: (H, W) grey or bool, or (H, W, 3) RGB; palettes are looked up, alpha is dropped."""
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        array: NDArray[np.generic] = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel("L"))
    return np.asarray(image.convert("RGB"))


def _colour(colour: Colour) -> tuple[float, float, float]:
    allowed = f"allowed are {', '.join(_COLOURS)}, '#rrggbb' and (red, green, blue) from 0 to 1"
    if isinstance(colour, str):
        if colour.lower() in _COLOURS:
            return _COLOURS[colour.lower()]
        try:
            if len(colour) == 7 and colour[0] == "#":
                red, green, blue = bytes.fromhex(colour[1:])
                return red / 255, green / 255, blue / 255
        except ValueError:
            pass  # not hexadecimal: said below
    elif len(colour) == 3 and all(0 <= value <= 1 for value in colour):
        return float(colour[0]), float(colour[1]), float(colour[2])
    raise FrameError(f"the colour {colour!r} was given; {allowed}")


def _between(plane: NDArray[Any], limits: Limits, gamma: float) -> NDArray[np.float32]:
    """Values of any shape as 0 (at or below low, NaN) to 1 (at or above high), to the power of gamma."""
    if plane.dtype.kind in "iu" and plane.dtype.itemsize <= 2 and plane.size > 1 << (8 * plane.dtype.itemsize):
        bounds = np.iinfo(plane.dtype)
        table = _between(np.arange(bounds.min, bounds.max + 1, dtype=np.int32), limits, gamma)
        return np.take(table, plane.astype(np.int32) - bounds.min)
    low, high = limits
    if high <= low:
        return np.asarray(plane > low, np.float32)
    wide: type[np.float32 | np.float64] = (
        np.float32 if plane.dtype.itemsize <= 2 else np.float64
    )  # 32-bit integers do not fit a float32
    with np.errstate(invalid="ignore", over="ignore"):
        scaled: NDArray[Any] = plane.astype(wide)
        scaled = (scaled - wide(low)) / wide(high - low)
        scaled = np.clip(np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        return np.asarray(scaled if gamma == 1 else scaled**gamma, np.float32)


def _as_bytes(unit: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0 to 1 as 0 to 255, rounded to nearest."""
    return (unit * np.float32(255) + np.float32(0.5)).astype(np.uint8)
