"""`open_frames`: any array or image file as a source of uint8 RGB frames that are read one at a time."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import Message, Option
from napari_sam2._types import FrameSource
from napari_sam2.frames.arrays import named_axes, plain_array
from napari_sam2.frames.axes import (
    FrameAxis,
    Selection,
    channel_numbers,
    guess_axes,
    name_unnamed,
    parse_axes,
    select,
)
from napari_sam2.frames.bioio_files import is_video
from napari_sam2.frames.contrast import (
    Contrast,
    ContrastSample,
    FrameLimits,
    StackContrast,
    automatic_contrast,
    check_dtype,
    content_hash,
    parse_contrast,
    sample_pixels,
)
from napari_sam2.frames.files import IMAGE_SUFFIXES, open_path
from napari_sam2.frames.geometry import as_position
from napari_sam2.frames.intensity import check_gamma, parse_colours, to_rgb_uint8
from napari_sam2.frames.pictures import PICTURE_SUFFIXES
from napari_sam2.frames.positions import position_number
from napari_sam2.frames.spacing import Spacing
from napari_sam2.frames.stack import LazyArray, RawStack
from napari_sam2.frames.zarr_files import open_zarr_node, open_zarr_url

if TYPE_CHECKING:
    import zarr

__all__ = ["Frames", "open_frames"]


@dataclass(frozen=True)
class ReopenOptions:
    """The arguments of `open_frames` that open the same frames again, on this or another computer.

    Attributes
    ----------
    path : Path
        The file.
    axes, frame_axis, fixed, channels, colours, contrast, gamma
        As for `open_frames`; colours are None where the file holds colours itself.
    size_and_time : tuple of int or None
        Of a single file when it was opened: bytes, and nanoseconds of its change.
    """

    path: Path
    axes: str
    frame_axis: FrameAxis | None
    fixed: tuple[tuple[str, int], ...]
    channels: tuple[int, ...]
    colours: tuple[tuple[float, ...], ...] | None
    contrast: StackContrast
    gamma: float
    size_and_time: tuple[int, int] | None = None


class Frames:
    """Frames of an array or file, made by `open_frames`; a `FrameSource`.

    Each ``frames[t]`` reads one plane per channel and shows it with the stack's one contrast rule. Nothing is kept.

    Attributes
    ----------
    shape : tuple of int
        (T, H, W).
    key : str
        Names the pixels shown: file and time of change (or array and a sample of it), planes, contrast and colours.
    axes : str
        One letter per dimension of the source: ``TCZYX``, P for positions and so on.
    frame_axis : {"Z", "T"} or None
        The source's axis that the frames run along; None for a single picture.
    source_shape : tuple of int
        Shape of the source array, at the chosen level.
    fixed : dict of str to int
        Index on the axes that were left out of the frames.
    channels : tuple of int
        Channels shown.
    voxel_size : dict of str to Spacing, or None
        Distance between neighbours by axis letter, (value, unit); None where the file says nothing.
    translation : dict of str to float
        Position of the first pixel by axis letter, in the unit of ``voxel_size``; empty where the file says nothing.
    channel_names : tuple of str
        Names of the channels shown; empty where the file has none.
    contrast_limits : tuple of (float, float)
        Value shown as black and value shown in full, per channel. With automatic contrast, a frame that is far
        brighter as a whole than the others is shown by its own.
    dtype : numpy.dtype
        Type of the source's values.
    path : Path or None
        File or folder that holds the image: of a plate, the folder of the field. None for arrays and addresses.
    full_hw : (int, int)
        Height and width at the full resolution; those of the frames unless a coarser level was opened.
    """

    def __init__(
        self,
        stack: RawStack,
        selection: Selection,
        contrast: StackContrast,
        colours: NDArray[np.float32],
        *,
        gamma: float = 1.0,
        content_key: str = "",
    ) -> None:
        self._stack = stack
        self._selection = selection
        self._colours = colours
        self._gamma = gamma
        self._content_key = content_key
        self._contrast = contrast
        usual = contrast.usual or (None,) * len(contrast.limits)
        self._limits = FrameLimits(contrast.limits, usual, selection.frames_shape[1:])
        self._warned_of_nan = False
        self.axes = selection.axes
        self.frame_axis: FrameAxis | None = selection.frame_axis
        self.source_shape = selection.shape
        self.fixed = dict(selection.fixed)
        self.channels = selection.channels
        self.contrast_limits = contrast.limits
        self.dtype = stack.dtype
        self.path = stack.path
        full = stack.full_shape or selection.shape
        self.full_hw: tuple[int, int] = (full[selection.axes.index("Y")], full[selection.axes.index("X")])
        self.voxel_size: dict[str, Spacing] | None = dict(stack.voxel_size) or None
        self.translation = dict(stack.translation)
        names = stack.channel_names
        self.channel_names = tuple(names[c] for c in selection.channels) if len(names) == selection.size("C") else ()
        view = (stack.key, content_key, selection, str(stack.dtype), contrast, gamma, colours.tolist())
        self._key = hashlib.sha256(repr(view).encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return self._selection.frames_shape

    @property
    def key(self) -> str:
        """Names the pixels; equal keys give equal frames."""
        return self._key

    @property
    def output_axes(self) -> str:
        """Axes of a label stack of these frames: the frame axis, Y and X."""
        return (self.frame_axis or "") + "YX"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one frame; negative indices count from the end.

        Raises
        ------
        IndexError
            If there is no such frame.
        FrameError
            If the file is damaged.
        """
        planes = self.raw(frame)
        if planes.dtype.kind == "f" and not self._warned_of_nan and np.isnan(planes).all():
            self._warned_of_nan = True
            warn_caller(f"frame {frame} of {self._stack.name} holds only NaN and is shown black")
        return to_rgb_uint8(planes, self._limits.of(self._position(frame), lambda: planes), self._gamma, self._colours)

    def region(self, frame: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part of a frame, as ``frames[frame][rows, columns]`` shows it.

        Only that part is read from zarr and dask arrays; of a TIFF the whole plane, for a moment. Of a stack with
        automatic contrast, a plane of up to 16 million pixels is read whole once, to see whether it is far brighter
        than the others. Raises as ``frames[frame]``.
        """
        planes = self._stack.read_planes(self._selection, self._position(frame), rows, columns)
        limits = self._limits.of(self._position(frame), lambda: self.raw(frame))
        return to_rgb_uint8(planes, limits, self._gamma, self._colours)

    @property
    def contrast(self) -> StackContrast:
        """The contrast that opens a part of the stack alike."""
        return self._contrast

    def at_time(self, time: int, contrast: StackContrast | None = None) -> Frames:
        """The stack of another time point of the same source, shown by the same contrast or by the one given.

        Raises
        ------
        FrameError
            If time is no axis of the source besides that of the frames, or the time point is not there.
        """
        if "T" not in self.fixed:
            raise FrameError(f"time point {time} was requested; axes {self.axes} along {self.frame_axis} have no other")
        num_times = self.source_shape[self.axes.index("T")]
        if not 0 <= time < num_times:
            raise FrameError(f"time point {time} was requested; there are {num_times}, 0 to {num_times - 1}")
        fixed = tuple((axis, time if axis == "T" else index) for axis, index in self._selection.fixed)
        return Frames(
            self._stack,
            replace(self._selection, fixed=fixed),
            contrast or self._contrast,
            self._colours,
            gamma=self._gamma,
            content_key=self._content_key,
        )

    def reopening(self) -> ReopenOptions | None:
        """The arguments that open the same frames again; None for arrays, addresses and coarser levels."""
        full = tuple(self.source_shape[self.axes.index(axis)] for axis in "YX")
        if self.path is None or self.full_hw != full:
            return None
        selection = self._selection
        colours = tuple(tuple(float(v) for v in row) for row in self._colours)
        return ReopenOptions(
            path=self.path.resolve(),
            axes=self.axes,
            frame_axis=self.frame_axis,
            fixed=tuple(selection.fixed),
            channels=self.channels,
            colours=None if selection.is_rgb else colours,
            contrast=self._contrast,
            gamma=self._gamma,
            size_and_time=self._stack.size_and_time,
        )

    def full_resolution(self) -> Frames:
        """The same frames at the full resolution of their file, shown by the same contrast.

        Raises
        ------
        FrameError
            If they are not those of a file, or its full resolution has other axes.
        """
        if self.path is None:
            raise FrameError(f"{self._stack.name} is not a file, so that its full resolution is not known")
        stack = open_path(self.path, 0, position=self.fixed.get("P"))
        shape = tuple(stack.array.shape)
        if len(shape) != len(self.axes):
            raise FrameError(f"{self.path} has {len(shape)} axes at full resolution; expected {self.axes}")
        selection = replace(self._selection, shape=shape)
        return Frames(stack, selection, self._contrast, self._colours, gamma=self._gamma)

    def raw(self, frame: int, channels: Sequence[int] | None = None) -> NDArray[np.generic]:
        """(C, H, W) of one frame in the source's own type; raises as ``frames[frame]``.

        By default of the channels that are shown; any number of ``channels`` of the source can be given.
        """
        selection = self._selection if channels is None else replace(self._selection, channels=tuple(channels))
        return self._stack.read_planes(selection, self._position(frame))

    def find_channels(self, channels: Sequence[int | str] | None = None) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Numbers and names of any number of channels of the source, also of those that are not shown.

        Parameters
        ----------
        channels : sequence of int or str, optional
            By number from 0 or by name. Default: all, of colours red, green and blue.

        Returns
        -------
        numbers : tuple of int
        names : tuple of str
            Empty where the file has no names.

        Raises
        ------
        FrameError
            If there is no such channel, or one is given twice.
        """
        count, names = self._selection.size("C"), self._stack.channel_names
        every = range(3 if self._selection.is_rgb else count)
        found = tuple(channel_numbers(channels, names, count) or every)
        twice = sorted({str(number) for number in found if found.count(number) > 1})
        if twice:
            raise FrameError(f"channel {', '.join(twice)} was given twice; give each channel once")
        return found, tuple(names[number] for number in found) if len(names) == count else ()

    def _position(self, frame: int) -> int:
        return as_position(frame, len(self), "frame")

    def __repr__(self) -> str:
        t, h, w = self.shape
        return f"<Frames of {self._stack.name}: {t} of {h} x {w} along {self.frame_axis}, {self.dtype} {self.axes}>"


@overload
def open_frames(
    source: str | os.PathLike[str] | LazyArray | zarr.Group,
    *,
    axes: str | None = None,
    frame_axis: str | None = None,
    fixed: Mapping[str, int | str] | None = None,
    channels: int | str | Sequence[int | str] | None = None,
    colours: Sequence[str | Sequence[float]] | None = None,
    contrast: Contrast = "auto",
    gamma: float = 1.0,
    level: int | None = None,
) -> Frames: ...


@overload
def open_frames(source: FrameSource) -> FrameSource: ...


@checked(FrameError)
def open_frames(
    source: str | os.PathLike[str] | LazyArray | zarr.Group | FrameSource,
    *,
    axes: str | None = None,
    frame_axis: str | None = None,
    fixed: Mapping[str, int | str] | None = None,
    channels: int | str | Sequence[int | str] | None = None,
    colours: Sequence[str | Sequence[float]] | None = None,
    contrast: Contrast = "auto",
    gamma: float = 1.0,
    level: int | None = None,
) -> Frames | FrameSource:
    """Open an array or image file as frames that are read one at a time.

    Parameters
    ----------
    source : path, array or FrameSource
        TIFF, OME-TIFF, ImageJ TIFF; OME-Zarr or plain zarr folder; PNG, JPEG and other pictures; folder of images in
        natural order; numpy, dask or zarr array (anything indexed like one), zarr group. A FrameSource is returned
        as it is. Masked arrays are refused, unless nothing is masked: fill them first.
    axes : str, optional
        One letter per dimension out of ``TCZYX``, and P for positions (or M, V, A, R, E, H, L), of which one is read.
        Default: what the file or array (of xarray) says, else YX; YXC and ZYXC where the last dimension is 3 or 4 in
        uint8; ZYX. The one unnamed axis of a file, and the images of a folder, are Z (T where Z is taken).
    frame_axis : str, optional
        ``"Z"`` or ``"T"``. Default: the one with more than one plane; if both have, Z, and a warning says so.
    fixed : mapping of str to int or str, optional
        Index on the other of Z and T, and on further axes, such as ``{"T": 3, "P": 0}``. Default 0, with a warning
        where there is a choice. A position can be given by its name in the file: ``{"P": "Scene 2"}``.
    channels : int, str or sequence of those, optional
        One to three channels, by number from 0 or by name, such as ``"DAPI"``, where the file has names. Default: all
        up to three; of more, the first three with a warning. Alpha is ignored.
    colours : sequence, optional
        Per channel a name, ``"#rrggbb"`` or RGB from 0 to 1; channels are added. Default: grey; magenta and green;
        red, green and blue.
    contrast : "auto", "dtype", (low, high) or one pair per channel, default "auto"
        One rule for the whole stack. ``"auto"``: uint8 RGB is left as it is; else the 0.1 and 99.9 percentiles of the
        finite values in up to 8 frames spread over the stack and a million pixels, per channel (colours share theirs).
        Flashes, dead frames and hot pixels do not count; a frame that is far brighter as a whole than the others is
        shown by its own percentiles.
        ``"dtype"``: whole range of the integer type, 0 to 1 for floats.
    gamma : float, default 1.0
        Exponent of the value between the limits.
    level : int, optional
        Level of a multiscale file. Default: 0, the full resolution.

    Returns
    -------
    Frames
        ``frames[t]`` is (H, W, 3) uint8.

    Raises
    ------
    FrameError
        If the file is missing, damaged or of no known kind; if the image is empty or wholly NaN; if axes, indices,
        channels, level or contrast do not fit.
    """
    if isinstance(source, FrameSource):
        given = (axes, frame_axis, fixed, channels, colours, level)
        if any(option is not None for option in given) or contrast != "auto" or gamma != 1:
            raise FrameError("frames that are already open were given with options; give the options when opening them")
        return source
    wanted = {axis.upper(): index for axis, index in (fixed or {}).items()}
    stack = _open_source(source, level, wanted.get("P"))
    check_dtype(stack.dtype)
    letters = _letters(stack, axes)
    if axes is None and stack.is_rgb and letters.endswith("CYX"):
        others = ("ZYX", "TYX") if letters == "CYX" else ("TZYX",)
        warn_caller(
            Message(
                f"{stack.name} says that its {stack.array.shape[letters.index('C')]} planes"
                f"{' of each image' if len(letters) > 3 else ''} are the colours red, green and blue; if they are "
                "slices or time points, give ",
                Option("axes", "axes=" + " or ".join(map(repr, others)), "--axes " + " or ".join(others)),
            )
        )
    shape = tuple(int(size) for size in stack.array.shape)
    defaults = {axis: index for axis, index in stack.default_fixed.items() if axis in letters}
    selection = select(
        letters,
        shape,
        frame_axis=frame_axis,
        fixed=defaults | _numbers(stack, letters, wanted),
        channels=channel_numbers(channels, stack.channel_names, dict(zip(letters, shape, strict=True)).get("C", 1)),
        is_rgb=stack.is_rgb if axes is None else None,
    )
    if colours is not None:
        selection = replace(selection, is_rgb=False)
    rgb = parse_colours(colours, len(selection.channels))
    limits = parse_contrast(contrast, len(selection.channels), stack.dtype)
    if limits is None and selection.is_rgb and stack.dtype == np.uint8:
        limits = ((0.0, 255.0),) * 3
    sample: ContrastSample | None = None
    if isinstance(contrast, StackContrast):
        shown = contrast
    elif limits is not None:
        shown = StackContrast(limits)
    else:
        sample = sample_pixels(_SelectedPlanes(stack, selection))
        shown = automatic_contrast(sample, is_rgb=selection.is_rgb)
    content_key = ""
    if not stack.key.startswith(_FILE_KEYS):
        content_key = content_hash(sample or sample_pixels(_SelectedPlanes(stack, selection)))
    return Frames(stack, selection, shown, rgb, gamma=check_gamma(gamma), content_key=content_key)


def num_positions(path: Path, axes: str | None = None) -> int:
    """How many positions (axis P) an image file has, of which `open_frames` reads one; no pixels are read.

    Parameters
    ----------
    path : Path
        File or folder.
    axes : str, optional
        As for `open_frames`.

    Returns
    -------
    int
        1 if it has no such axis, or is itself the file of one of several positions.

    Raises
    ------
    FrameError
        If it cannot be read, or the axes do not fit it.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES or is_video(path):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanesLeftOutWarning)  # of positions that were not chosen
        stack = open_path(path, checks_all=False)
    letters = _letters(stack, axes)
    is_one = "P" in stack.default_fixed and not stack.has_several_sizes
    return 1 if is_one or "P" not in letters else int(stack.array.shape[letters.index("P")])


def _numbers(stack: RawStack, letters: str, fixed: Mapping[str, int | str]) -> dict[str, int]:
    """Indices on axes, with the number of a position in place of its name."""
    numbers: dict[str, int] = {}
    for axis, index in fixed.items():
        if axis == "P" and axis in letters and (stack.position_names or isinstance(index, str)):
            count = int(stack.array.shape[letters.index("P")])
            numbers[axis] = position_number(index, stack.position_names, count, stack.name)
        elif isinstance(index, str):
            raise FrameError(f"{axis}={index} was given as a fixed index; expected a number: positions have names (P)")
        else:
            numbers[axis] = index
    return numbers


def _letters(stack: RawStack, axes: str | None) -> str:
    """One letter per axis: as given, as the file says, or as the shape suggests."""
    shape = tuple(stack.array.shape)
    if axes is not None:
        # those of the image itself, where the file holds others of other sizes
        is_of_image = stack.has_several_sizes and len(axes) == len(shape) - 1 and "P" not in axes.upper()
        return parse_axes("P" + axes if is_of_image else axes, shape)
    return guess_axes(shape, stack.dtype) if stack.axes is None else name_unnamed(stack.axes, shape)


def _open_url(url: str, level: int | None, position: int | str | None = None) -> RawStack:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return open_path(Path(url2pathname(parts.path)), level, position=position)
    name = parts.path.lower()
    if name.endswith(IMAGE_SUFFIXES):
        raise FrameError(f"{url} is a single file, which is not read over the network; download it and give its path")
    return open_zarr_url(url, level or 0)


@dataclass(frozen=True, eq=False)
class _SelectedPlanes:
    """The chosen planes of a stack as a `PixelSource`."""

    stack: RawStack
    selection: Selection

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        return self.selection.frames_shape

    def read(self, frame: int, rows: slice, columns: slice, /) -> NDArray[np.generic]:
        return self.stack.read_planes(self.selection, frame, rows, columns)


_FILE_KEYS = ("tiff:", "picture:", "folder:", "dask:", "bioio:", "czi:")


def _open_source(
    source: str | os.PathLike[str] | LazyArray | zarr.Group, level: int | None, position: int | str | None = None
) -> RawStack:
    if isinstance(source, str) and "://" in source:
        return _open_url(source, level, position)
    if isinstance(source, (str, os.PathLike)):
        return open_path(Path(source), level, position=position)
    import zarr

    if isinstance(source, (zarr.Array, zarr.Group)):
        return open_zarr_node(source, level or 0, f"the zarr {source.store_path}")
    if level:
        raise FrameError(f"level {level} was requested; an array has one level, 0: give the level's array itself")
    array, letters = plain_array(source), named_axes(source)
    if hasattr(array, "dask") and hasattr(array, "name"):
        return RawStack(array, "the dask array", f"dask:{array.name}", letters)
    return RawStack(array, "the array", f"array:{type(array).__name__}:{id(array)}", letters)
