"""An array or file before contrast: something lazily indexed, with what its file says about axes and spacing."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import FrameError
from napari_sam2._messages import Message, Option, one_line
from napari_sam2.frames.axes import Selection
from napari_sam2.frames.contrast import check_dtype
from napari_sam2.frames.spacing import Spacing

__all__ = ["READ_ERRORS", "LazyArray", "OneIndex", "RawStack", "check_fits_memory"]

_ALL = slice(None)
_MAX_FRAME_PIXELS = 2**30
READ_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    EOFError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What decoders raise on damaged files; turned into `FrameError` at the place of reading."""


class LazyArray(Protocol):
    """Anything indexed like a numpy array by integers and slices: numpy, dask, zarr, h5py, pages of a TIFF."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""

    @property
    def dtype(self) -> Any:
        """Type of the values, as numpy understands it."""

    def __getitem__(self, index: Any, /) -> Any: ...


class OneIndex:
    """An array at one index along an axis, which it does not have; a `LazyArray`.

    Parameters
    ----------
    array : LazyArray
        The whole.
    axis : int
        Which axis is left out.
    index : int
        Where.
    """

    def __init__(self, array: LazyArray, axis: int, index: int) -> None:
        self._array, self._axis, self._index = array, axis, index
        self.shape = tuple(int(n) for at, n in enumerate(array.shape) if at != axis)
        self.dtype: np.dtype[np.generic] = np.dtype(array.dtype)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...], /) -> Any:
        given = index if isinstance(index, tuple) else (index,)
        given += (_ALL,) * (len(self.shape) - len(given))
        return self._array[(*given[: self._axis], self._index, *given[self._axis :])]


@dataclass(frozen=True, eq=False)
class RawStack:
    """A source of pixels of any type, and what is known about them.

    Parameters
    ----------
    array : LazyArray
        The pixels; only indexed, never converted whole.
    name : str
        What messages call it.
    key : str
        Names the content: path, time of change and size for files.
    axes : str or None
        Axis letters as the file spells them (also S, I, Q, ...); None where nothing is known.
    voxel_size : dict of str to Spacing
        Spacing by axis letter; empty where nothing is known.
    is_rgb : bool or None
        Whether channels are colours, where the file says so.
    translation : dict of str to float
        Position of the first pixel by axis letter, in the unit of `voxel_size`; empty where nothing is known.
    channel_names : tuple of str
        Names of all channels; empty where the file has none.
    channel_colours : tuple of str
        Colours of all channels as ``"#rrggbb"``; empty where the file has none.
    path : Path or None
        File or folder that holds the image: of a plate, the folder of the field. None for arrays and addresses.
    full_shape : tuple of int or None
        Of a coarser level: the shape of the full resolution.
    size_and_time : tuple of int or None
        Of a single file when it was opened: bytes, and nanoseconds of its change.
    default_fixed : dict of str to int
        Index along axes of which one is read, where none is given: of the position that lies in the opened file.
    position_names : tuple of str
        Names of all positions (axis P); empty where the file has none.
    num_levels : int
        How many levels the image has.
    has_several_sizes : bool
        The positions differ in size or type: the array holds the one in ``default_fixed`` only.
    indices : RawStack or None
        Where colours were looked up in a palette: the indices as they are in the file, which labels are.
    """

    array: LazyArray
    name: str
    key: str
    axes: str | None = None
    voxel_size: dict[str, Spacing] = field(default_factory=dict)
    is_rgb: bool | None = None
    translation: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    channel_colours: tuple[str, ...] = ()
    path: Path | None = None
    full_shape: tuple[int, ...] | None = None
    size_and_time: tuple[int, int] | None = None
    default_fixed: dict[str, int] = field(default_factory=dict)
    position_names: tuple[str, ...] = ()
    num_levels: int = 1
    has_several_sizes: bool = False
    indices: RawStack | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values."""
        dtype: np.dtype[np.generic] = np.dtype(self.array.dtype)
        return dtype

    def at_position(self, position: int | None = None) -> RawStack:
        """One position, without the axis P; by default that which lies in the opened file.

        A stack without this axis, or a file that is not of one position, is returned as it is.
        """
        chosen = self.default_fixed.get("P") if position is None else position
        letters = "" if self.axes is None else self.axes.upper()
        if chosen is None or "P" not in letters or len(letters) != len(self.array.shape):
            return self
        at = letters.index("P")
        full = self.full_shape
        return replace(
            self,
            array=OneIndex(self.array, at, chosen),
            axes=letters.replace("P", ""),
            full_shape=None if full is None else (*full[:at], *full[at + 1 :]),
            default_fixed={},
            position_names=(),
            has_several_sizes=False,
            indices=None if self.indices is None else self.indices.at_position(chosen),
        )

    def read_planes(
        self, selection: Selection, frame: int, rows: slice = _ALL, columns: slice = _ALL
    ) -> NDArray[np.generic]:
        """(C, H, W) of one frame's selected channels, or of a part of it, in the source's own type.

        Raises
        ------
        FrameError
            If the file is damaged or has changed.
        """
        height, width = selection.frames_shape[1:]
        expected = (len(selection.channels), len(range(height)[rows]), len(range(width)[columns]))
        if expected[1] * expected[2] > _MAX_FRAME_PIXELS:
            raise FrameError(
                Message(
                    f"frames of {self.name} have {height:,} x {width:,} pixels, too many to read at once; read a "
                    "coarser level with ",
                    Option("level"),
                    ", or a part at a time with ",
                    Option("tile", "region= or segment_tiled"),
                )
            )
        try:
            planes = self._read(selection, frame, rows, columns)
        except FrameError:
            raise
        except READ_ERRORS as error:
            raise FrameError(
                f"{_place(self.name, selection, frame)} cannot be read ({one_line(error)}); the file may be damaged"
            ) from error
        if planes.shape != expected:
            raise FrameError(
                f"{_place(self.name, selection, frame)} has shape {planes.shape}, not {expected} as expected"
            )
        check_dtype(planes.dtype)
        return planes

    def _read(self, selection: Selection, frame: int, rows: slice, columns: slice) -> NDArray[np.generic]:
        axes, channels = selection.axes, selection.channels
        is_transposed = axes.index("X") < axes.index("Y")
        if axes.endswith("C"):  # samples lie side by side: one read fetches them all
            span = slice(min(channels), max(channels) + 1)
            block = np.asarray(self.array[selection.index(frame, span, rows, columns)])
            planes = np.moveaxis(block, -1, 0)[[c - span.start for c in channels]]  # (H, W, C) -> (C, H, W)
        else:
            planes = np.stack([np.asarray(self.array[selection.index(frame, c, rows, columns)]) for c in channels])
        return planes.swapaxes(1, 2) if is_transposed else planes


def _place(name: str, selection: Selection, frame: int) -> str:
    """What messages call a frame: its number, and the indices along the other axes where there is a choice."""
    others = ", ".join(f"{axis}={index}" for axis, index in selection.fixed if selection.size(axis) > 1)
    of_frame = name if selection.frame_axis is None else f"frame {frame} of {name}"
    return f"{of_frame} at {others}" if others else of_frame


def check_fits_memory(name: object, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Raise FrameError if an array that is read as a whole is larger than the memory that is free."""
    import psutil

    needed, free = math.prod(int(n) for n in shape) * dtype.itemsize, int(psutil.virtual_memory().available)
    if needed > free:
        raise FrameError(
            f"{name} claims the shape {' x '.join(f'{n:,}' for n in shape)} ({needed / 2**30:,.1f} GB), which is read "
            f"as a whole; {free / 2**30:,.1f} GB of memory are free: check the file, or give a part of it"
        )
