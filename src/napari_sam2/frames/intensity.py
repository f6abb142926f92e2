"""From measured intensities to the uint8 RGB a viewer would show: limits, gamma, and channels added in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from napari_sam2._errors import FrameError
from napari_sam2._messages import Message, given, one_line, shown
from napari_sam2.frames.contrast import Contrast, Limits, automatic_limits, check_dtype, parse_contrast, sample_pixels

__all__ = ["check_gamma", "image_to_rgb", "parse_colours", "pillow_to_array", "to_rgb_uint8"]

Colour = str | Sequence[float]

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
_BLOCK = 2**20  # pixels shown at once, which takes 10 ms


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
            f"planes of shape {stack.shape} and {len(limits)} limits were given; expected (C, H, W), C 1-3"
        )
    rgb = parse_colours(None, len(stack)) if colours is None else np.asarray(colours, np.float32)
    if rgb.shape != (len(stack), 3):
        raise FrameError(f"colours of shape {rgb.shape} were given for {len(stack)} channels; expected (C, 3)")
    height, width = stack.shape[1:]
    rows = max(1, _BLOCK // max(width, 1))
    if height > rows:  # block by block: other threads, as that of a window, can go on in between
        shown = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, rows):
            shown[top : top + rows] = to_rgb_uint8(stack[:, top : top + rows], limits, gamma, rgb)
        return shown
    if len(stack) == 1 and (rgb == 1).all():
        grey = _bytes_between(stack[0], limits[0], gamma)
        return np.repeat(grey[..., None], 3, axis=-1)
    if np.array_equal(rgb, _IDENTITY):  # colours do not mix
        if stack.dtype == np.uint8 and gamma == 1 and all(tuple(pair) == (0, 255) for pair in limits):
            return np.ascontiguousarray(np.moveaxis(stack, 0, -1))  # (3, H, W) -> (H, W, 3)
        return np.stack([_bytes_between(p, pair, gamma) for p, pair in zip(stack, limits, strict=True)], axis=-1)
    mixed = np.zeros((*stack.shape[1:], 3), np.float32)
    for plane, pair, colour in zip(stack, limits, rgb, strict=True):
        mixed += _between(plane, pair, gamma)[..., None] * colour
    return _as_bytes(np.minimum(mixed, 1))


def image_to_rgb(image: ArrayLike | Image.Image, *, contrast: Contrast = "auto") -> NDArray[np.uint8]:
    """One image of any real type as uint8 RGB.

    Parameters
    ----------
    image : array-like or PIL.Image.Image
        (H, W), (H, W, 1 to 4) or (1 to 3, H, W); a fourth sample is alpha and is ignored.
    contrast : "auto", "dtype", (low, high) or one pair per channel
        As in `open_frames`: ``"auto"`` leaves uint8 RGB, unchanged and stretches everything else.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    FrameError
        If the shape or type is not an image's, or if no value is finite.
    """
    try:
        array = pillow_to_array(image) if isinstance(image, Image.Image) else np.asarray(image)
    except OSError as error:
        raise FrameError(f"the image cannot be read ({one_line(error)}); check or copy the file again") from error
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
            f"an image of shape {array.shape} was given; expected (H, W), (H, W, C) with C 1 to 4, or (C, H, W) "
            "with C 1 to 3; choose one plane of a stack, or open it with open_frames"
        )
    limits = parse_contrast(contrast, len(planes), array.dtype)
    if limits is None:
        limits = automatic_limits(sample_pixels(_Image(planes)), is_rgb=is_rgb)
    return to_rgb_uint8(planes, limits)


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


@dataclass(frozen=True, eq=False)
class _Image:
    """(C, H, W) values as a `PixelSource` of one frame."""

    planes: NDArray[np.generic]

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        return 1, self.planes.shape[1], self.planes.shape[2]

    def read(self, _: int, rows: slice, columns: slice, /) -> NDArray[np.generic]:
        return self.planes[:, rows, columns]


def check_gamma(gamma: float) -> float:
    """Raise FrameError unless gamma is finite and positive."""
    if not (math.isfinite(gamma) and gamma > 0):
        raise FrameError(Message(given("gamma", gamma), " was given; expected a number above 0; 1 changes nothing"))
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
    allowed = f"expected {', '.join(_COLOURS)}, '#rrggbb' or (red, green, blue) from 0 to 1"
    if isinstance(colour, str):
        if colour.lower() in _COLOURS:
            return _COLOURS[colour.lower()]
        try:
            if len(colour) == 7 and colour[0] == "#":
                red, green, blue = bytes.fromhex(colour[1:])
                return red / 255, green / 255, blue / 255
        except ValueError:
            pass  # not hexadecimal: reported below
    elif len(colour) == 3 and all(0 <= value <= 1 for value in colour):
        return float(colour[0]), float(colour[1]), float(colour[2])
    raise FrameError(f"the colour {shown(colour)} was given; {allowed}")


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


def _bytes_between(plane: NDArray[Any], limits: Limits, gamma: float) -> NDArray[np.uint8]:
    """Values of any shape as 0 to 255; integers of 8 and 16 bits through a table."""
    if plane.dtype.kind not in "iu" or plane.dtype.itemsize > 2 or plane.size <= 1 << (8 * plane.dtype.itemsize):
        return _as_bytes(_between(plane, limits, gamma))
    bounds = np.iinfo(plane.dtype)
    table = _as_bytes(_between(np.arange(bounds.min, bounds.max + 1, dtype=np.int32), limits, gamma))
    if plane.dtype == np.uint8:  # bytes.translate takes a twentieth of the time of numpy.take
        return np.frombuffer(plane.tobytes().translate(table.tobytes()), np.uint8).reshape(plane.shape)
    return np.take(table, plane.astype(np.int32) - bounds.min)


def _as_bytes(unit: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0 to 1 as 0 to 255, rounded to nearest."""
    return (unit * np.float32(255) + np.float32(0.5)).astype(np.uint8)
