"""Planes of an array of any number of axes as RGB frames, shown as a viewer shows them, read one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2.frames.contrast import FrameLimits, automatic_contrast, check_dtype, sample_pixels
from napari_sam2.frames.geometry import as_position
from napari_sam2.frames.intensity import to_rgb_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.frames.stack import LazyArray

__all__ = ["ArrayPlanes", "Channel", "ClipFrames", "automatic_channel"]

_counter = itertools.count()


@dataclass(frozen=True, eq=False)
class Channel:
    """One image of a stack and how it is shown.

    Attributes
    ----------
    array : LazyArray
        (..., H, W), or (..., H, W, 3 or 4) with ``is_rgb``.
    limits : (float, float)
        Value shown black and value shown in full colour; not used for 8-bit RGB.
    gamma : float
        Exponent of the value between the limits.
    colour : (float, float, float)
        RGB of the full value, 0 to 1.
    is_rgb : bool
        Whether the last axis holds colours.
    usual : float or None
        Upper quartile of a usual plane: one that is far brighter as a whole is shown by its own limits. None: all are
        shown by ``limits``.
    """

    array: LazyArray
    limits: tuple[float, float]
    gamma: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_rgb: bool = False
    usual: float | None = None


class ArrayPlanes:
    """Frames of arrays, one per plane of the geometry; a ``FrameSource``.

    Parameters
    ----------
    channels : sequence of Channel
        One or more of the same shape, added as a viewer with additive blending does.
    geometry : StackGeometry
        Which axis is which.
    """

    def __init__(self, channels: Sequence[Channel], geometry: StackGeometry) -> None:
        if not channels:
            raise FrameError("no channel was given; give at least one image")
        for channel in channels:
            shape = tuple(channel.array.shape[: geometry.ndim])
            if shape != geometry.shape:
                raise FrameError(
                    f"a channel has the shape {tuple(channel.array.shape)}; all must have {geometry.shape}"
                )
            check_dtype(np.dtype(channel.array.dtype))
        self.channels = tuple(channels)
        self.geometry = geometry
        self._limits = FrameLimits([c.limits for c in channels], [c.usual for c in channels], self.geometry.hw)
        self._key = f"planes:{next(_counter)}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(planes, H, W)."""
        return (self.geometry.num_planes, *self.geometry.hw)

    @property
    def key(self) -> str:
        """Names the pixels: new for each instance."""
        return self._key

    def __len__(self) -> int:
        return self.geometry.num_planes

    def __getitem__(self, plane: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one plane.

        Raises
        ------
        IndexError
            If there is no such plane; negative ones count from the end.
        FrameError
            If it cannot be read.
        """
        parts = self.raw(plane)
        return self._mixed(parts, self._limits.of(self._position(plane), lambda: parts))

    def region(self, plane: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part of a plane, as ``planes[plane][rows, columns]`` shows it; raises as that.

        Only that part is read; the whole plane once where `Channel.usual` asks for it, if it has up to 16 million
        pixels.
        """
        position = self._position(plane)
        index: tuple[int | slice, ...] = (*self.geometry.index(position), rows, columns)
        parts = [_read(channel, index, position) for channel in self.channels]
        return self._mixed(parts, self._limits.of(position, lambda: self.raw(position)))

    def _mixed(self, parts: list[NDArray[Any]], limits: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
        shown = [
            _show(part, replace(channel, limits=pair))
            for part, channel, pair in zip(parts, self.channels, limits, strict=True)
        ]
        if len(shown) == 1:
            return shown[0]
        total = np.sum([image.astype(np.uint16) for image in shown], axis=0)
        mixed: NDArray[np.uint8] = np.minimum(total, 255).astype(np.uint8)
        return mixed

    def raw(self, plane: int) -> list[NDArray[Any]]:
        """(H, W) or (H, W, 3 or 4) values of each channel on one plane; raises as ``planes[plane]``."""
        position = self._position(plane)
        return [_read(channel, self.geometry.index(position), position) for channel in self.channels]

    def _position(self, plane: int) -> int:
        return as_position(plane, len(self), "plane")


def _read(channel: Channel, index: tuple[int | slice, ...], plane: int) -> NDArray[Any]:
    try:
        return np.asarray(channel.array[index])
    # a reader of files may fail in its own ways; which ones depends on the library behind the array
    except Exception as error:
        raise FrameError(
            f"plane {plane} (index {index}) cannot be read ({type(error).__name__}: {error}); "
            "check the file, or leave this frame out of the range"
        ) from error


def _show(plane: NDArray[Any], channel: Channel) -> NDArray[np.uint8]:
    if not channel.is_rgb:
        return to_rgb_uint8(plane[None], [channel.limits], channel.gamma, [channel.colour])
    colours = plane[..., :3]
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    # (H, W, 3) -> (3, H, W)
    return to_rgb_uint8(np.moveaxis(colours, -1, 0), [channel.limits] * 3, channel.gamma)


def automatic_channel(array: LazyArray, geometry: StackGeometry, *, is_rgb: bool = False) -> Channel:
    """A channel with automatic contrast limits, as `open_frames` chooses them; 8-bit RGB is shown as it is.

    Raises
    ------
    FrameError
        If a plane cannot be read, or no value is finite.
    """
    probe = Channel(array, (0.0, 255.0), is_rgb=is_rgb)
    if is_rgb and np.dtype(array.dtype) == np.uint8:
        return probe
    found = automatic_contrast(sample_pixels(_ChannelPlanes(probe, geometry)), is_rgb=is_rgb)
    return replace(probe, limits=found.limits[0], usual=found.usual[0] if found.usual else None)


@dataclass(frozen=True, eq=False)
class _ChannelPlanes:
    """The planes of one image as a `PixelSource`."""

    channel: Channel
    geometry: StackGeometry

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        return self.geometry.num_planes, *self.geometry.hw

    def read(self, plane: int, rows: slice, columns: slice, /) -> NDArray[np.generic]:
        part = _read(self.channel, (*self.geometry.index(plane), rows, columns), plane)
        # (h, w, 3 or 4) -> (3, h, w)
        return np.moveaxis(part[..., :3], -1, 0) if self.channel.is_rgb else part[None]


class ClipFrames:
    """The planes of one clip as a stack of their own; a ``FrameSource``.

    Parameters
    ----------
    planes : ArrayPlanes
        Of the whole image.
    clip : range
        Which of them.
    """

    def __init__(self, planes: ArrayPlanes, clip: range) -> None:
        self._planes = planes
        self.clip = clip

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return (len(self.clip), *self._planes.shape[1:])

    @property
    def key(self) -> str:
        """Names the pixels."""
        return f"{self._planes.key}:{self.clip.start}:{self.clip.stop}"

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return self._planes[self.clip[frame]]
