"""How a stack is shown to the model: contrast, gamma and colour of its channels, as values that can be kept."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, PlanesLeftOutWarning
from napari_sam2._types import FrameSource
from napari_sam2.frames.arrays import named_axes, plain_array
from napari_sam2.frames.geometry import StackGeometry
from napari_sam2.frames.planes import ArrayPlanes, Channel, automatic_channel
from napari_sam2.frames.sources import Frames
from napari_sam2.frames.volume_series import VolumeSeries

__all__ = [
    "ChannelDisplay",
    "contrast_arguments",
    "displays_of",
    "fitting_positions",
    "make_displays",
    "open_array",
    "plane_values",
    "show_planes",
    "with_displays",
]


@dataclass(frozen=True)
class ChannelDisplay:
    """How one channel is shown.

    Attributes
    ----------
    limits : (float, float)
        Value shown black and value shown in full colour.
    gamma : float
        Exponent of the value between the limits.
    colour : (float, float, float)
        RGB of the full value, 0 to 1.
    is_rgb : bool
        Whether the channel holds colours itself.
    usual : float or None
        Upper quartile of a usual plane, where planes that are far brighter as a whole are shown by their own limits.
    """

    limits: tuple[float, float]
    gamma: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_rgb: bool = False
    usual: float | None = None


def displays_of(frames: FrameSource) -> tuple[ChannelDisplay, ...] | None:
    """How the channels of a stack are shown; None where the source decides for itself."""
    if not isinstance(frames, ArrayPlanes):
        return None
    return tuple(
        ChannelDisplay(
            _pair(c.limits),
            float(c.gamma),
            (float(c.colour[0]), float(c.colour[1]), float(c.colour[2])),
            c.is_rgb,
            c.usual,
        )
        for c in frames.channels
    )


def make_displays(
    limits: Sequence[Sequence[float]],
    gamma: Sequence[float] | None = None,
    colours: Sequence[Sequence[float]] | None = None,
    *,
    is_rgb: bool = False,
    usual: Sequence[float | None] | None = None,
) -> list[ChannelDisplay]:
    """Displays of the channels from columns of values.

    Raises
    ------
    FrameError
        If the columns differ in length or values are missing.
    """
    count = len(limits)
    gamma = [1.0] * count if gamma is None else gamma
    colours = [(1.0, 1.0, 1.0)] * count if colours is None else colours
    usual = [None] * count if usual is None else usual
    has_wrong_count = {len(gamma), len(colours), len(usual)} != {count}
    if has_wrong_count or any(len(p) != 2 for p in limits) or any(len(c) != 3 for c in colours):
        raise FrameError(
            f"limits {limits}, gamma {gamma}, colours {colours} and usual {usual} were given; "
            "expected, for each channel, a pair, a number, three numbers and a number"
        )
    return [
        ChannelDisplay(
            _pair(pair),
            float(exponent),
            (float(colour[0]), float(colour[1]), float(colour[2])),
            is_rgb,
            None if value is None else float(value),
        )
        for pair, exponent, colour, value in zip(limits, gamma, colours, usual, strict=True)
    ]


def contrast_arguments(displays: Sequence[ChannelDisplay]) -> dict[str, object]:
    """The arguments of ``make_displays`` that give these displays, without those that are default."""
    arguments: dict[str, object] = {"limits": [list(display.limits) for display in displays]}
    if any(display.gamma != 1 for display in displays):
        arguments["gamma"] = [display.gamma for display in displays]
    if any(display.colour != (1, 1, 1) for display in displays):
        arguments["colours"] = [list(display.colour) for display in displays]
    if any(display.usual is not None for display in displays):
        arguments["usual"] = [display.usual for display in displays]
    return arguments


def with_displays(frames: ArrayPlanes, displays: Sequence[ChannelDisplay]) -> ArrayPlanes:
    """The same channels, shown otherwise.

    Raises
    ------
    FrameError
        If there are more or fewer of them.
    """
    if len(displays) != len(frames.channels):
        raise FrameError(f"contrast for {len(displays)} channels was given; the stack has {len(frames.channels)}")
    return ArrayPlanes(
        [
            Channel(channel.array, display.limits, display.gamma, display.colour, channel.is_rgb, display.usual)
            for channel, display in zip(frames.channels, displays, strict=True)
        ],
        frames.geometry,
    )


@checked(FrameError)
def show_planes(
    stack: Any,
    *,
    frame_axis: int | None = None,
    limits: Sequence[Sequence[float]] | None = None,
    gamma: Sequence[float] | None = None,
    colours: Sequence[Sequence[float]] | None = None,
    usual: Sequence[float | None] | None = None,
    is_rgb: bool = False,
) -> ArrayPlanes:
    """A stack with a contrast of one's own, to be given to ``Session``.

    Parameters
    ----------
    stack : array, path or list of those
        (..., H, W), or with ``is_rgb`` (..., H, W, 3 or 4); a list gives channels that are added.
    frame_axis : int, optional
        The axis that objects are tracked along. Default: the last one before H and W that is longer than 1.
    limits : sequence of (float, float), optional
        For each channel the value shown black and the value shown in full. Default: percentiles 0.1 and 99.9.
    gamma : sequence of float, optional
        For each channel the exponent between the limits; default 1.
    colours : sequence of (float, float, float), optional
        For each channel the RGB of the full value, 0 to 1; default white.
    usual : sequence of float or None, optional
        For each channel the upper quartile of a usual plane, as automatic contrast measures it: planes that are far
        brighter as a whole are shown by their own percentiles. Default: with limits, all planes are shown by them.
    is_rgb : bool, default False
        Whether the last axis holds colours.

    Returns
    -------
    ArrayPlanes
        Frames for ``Session``.

    Raises
    ------
    FrameError
        If a file cannot be read, or the channels do not fit each other.
    """
    arrays = [_as_array(part, is_rgb=is_rgb) for part in (stack if isinstance(stack, (list, tuple)) else [stack])]
    shape = tuple(int(n) for n in arrays[0].shape)
    geometry = StackGeometry.choose(shape[:-1] if is_rgb else shape, frame_axis)
    automatic = ArrayPlanes([Channel(a, (0.0, 1.0), is_rgb=is_rgb) for a in arrays], geometry)
    if limits is None:
        measured = [automatic_channel(c.array, geometry, is_rgb=is_rgb) for c in automatic.channels]
        chosen = [channel.limits for channel in measured]
        usual = [channel.usual for channel in measured] if usual is None else usual
    else:
        chosen = [_pair(pair) for pair in limits]
    return with_displays(automatic, make_displays(chosen, gamma, colours, is_rgb=is_rgb, usual=usual))


def fitting_positions(path: str | Path, shape: tuple[int, ...]) -> list[int]:
    """The positions of a file, whose images differ in size, that have a shape, without colours.

    Empty for files with one image, or whose images have one size; raises FrameError if the file cannot be read.
    """
    from napari_sam2.frames.files import open_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanesLeftOutWarning)
        first = open_path(Path(path))
    if not first.has_several_sizes:
        return []
    each = [open_path(Path(path), position=number) for number in range(len(first.position_names))]
    return [number for number, stack in enumerate(each) if stack.array.shape[1 : 1 + len(shape)] == shape]


def open_array(path: str | Path, *, is_rgb: bool = False, ndim: int | None = None, position: int | None = None) -> Any:
    """The array of an image file, with all its axes, read lazily; colours of a palette only where they are wanted.

    Of a file that is one of several positions, that position only, as `open_frames` reads it. If ``ndim``, the number
    of axes wanted without colours, includes that of positions, as in a session on all of them, the whole image. Of a
    file whose images differ in size, that at ``position``; default: the first.
    """
    from napari_sam2.frames.files import open_path

    whole = open_path(Path(path), position=position)
    stack = whole.at_position()
    if ndim is not None and not whole.has_several_sizes and len(stack.array.shape) - is_rgb < ndim:
        stack = whole
    return stack.indices.array if stack.indices is not None and stack.is_rgb and not is_rgb else stack.array


def _as_array(part: Any, *, is_rgb: bool) -> Any:
    if isinstance(part, str) or hasattr(part, "__fspath__"):
        return open_array(part, is_rgb=is_rgb)
    return plain_array(part)


def _pair(limits: Sequence[float]) -> tuple[float, float]:
    return float(limits[0]), float(limits[1])


def plane_values(frames: FrameSource, plane: int) -> list[NDArray[Any]]:
    """Values of each channel on a plane, in the type of the file or array.

    Parameters
    ----------
    frames : FrameSource
        From `open_stack`.
    plane : int
        Number of the plane.

    Returns
    -------
    list of (H, W) or (H, W, 3 or 4) arrays
        One (H, W, 3) uint8 array for a source that shows nothing but RGB.
    """
    if isinstance(frames, ArrayPlanes | Frames | VolumeSeries):
        return list(frames.raw(plane))
    return [np.asarray(frames[plane])]


def open_stack(stack: Any, frame_axis: int | None, is_rgb: bool | None) -> tuple[FrameSource, StackGeometry]:
    """Frames of an array, path or source, and which of its axes is which; arguments as for ``Session``.

    Raises
    ------
    FrameError
        If it is not an image, or cannot be read.
    """
    if isinstance(stack, str) or hasattr(stack, "__fspath__"):
        from napari_sam2.frames import open_frames

        stack = open_frames(stack)
    if isinstance(stack, ArrayPlanes | VolumeSeries):
        return stack, stack.geometry
    if isinstance(stack, FrameSource) and not isinstance(stack, np.ndarray):
        return stack, StackGeometry.choose(stack.shape if len(stack) > 1 else stack.shape[1:])
    letters = named_axes(stack)
    if letters is not None and not letters.endswith(("YX", "YXC")):
        raise FrameError(
            f"an array was given that names its axes {letters}; expected Y and X last: give open_frames(array)"
        )
    array = plain_array(stack)
    shape = tuple(int(n) for n in array.shape)
    if is_rgb is None:
        is_rgb = len(shape) >= 3 and shape[-1] in (3, 4) and np.dtype(array.dtype) == np.uint8
    geometry = StackGeometry.choose(shape[:-1] if is_rgb else shape, frame_axis)
    return ArrayPlanes([automatic_channel(array, geometry, is_rgb=is_rgb)], geometry), geometry
