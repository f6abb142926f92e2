"""Which axis of an array is which: reading and guessing axis letters, and choosing the planes that become frames."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from napari_sam2._errors import FrameError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import AXES, Message, Option, shown

__all__ = [
    "FrameAxis",
    "Selection",
    "axis_of_word",
    "channel_numbers",
    "guess_axes",
    "letter_of_unknown_word",
    "name_unnamed",
    "parse_axes",
    "select",
]

FrameAxis = Literal["Z", "T"]
_LETTERS = "TCZYX"
_UNNAMED = "IQ"  # tifffile's letters for axes that no metadata names
_OTHERS = {
    "P": "positions",
    "M": "mosaic tiles",
    "V": "views",
    "A": "angles",
    "R": "rounds",
    "E": "wavelengths",
    "H": "lifetimes",
    "L": "exposures",
    "I": "images of an unnamed axis (I)",
    "Q": "images of an unnamed axis (Q)",
}
_PLANES = {"T": "time points", "Z": "planes", **_OTHERS}
_WORDS = {
    "t": "T",
    "time": "T",
    "timepoint": "T",
    "frame": "T",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "band": "C",
    "s": "C",
    "sample": "C",
    "rgb": "C",
    "z": "Z",
    "depth": "Z",
    "plane": "Z",
    "slice": "Z",
    "section": "Z",
    "y": "Y",
    "row": "Y",
    "height": "Y",
    "lat": "Y",
    "x": "X",
    "col": "X",
    "column": "X",
    "width": "X",
    "lon": "X",
    "p": "P",
    "pos": "P",
    "position": "P",
    "scene": "P",
    "fov": "P",
    "field": "P",
    "series": "P",
    "m": "M",
    "tile": "M",
    "v": "V",
    "view": "V",
    "angle": "A",
    "round": "R",
    "wavelength": "E",
    "lambda": "E",
    "emission": "E",
    "excitation": "E",
    "lifetime": "H",
    "exposure": "L",
}
_MAX_CHANNELS = 3
_SHOWN = 8  # names in a message
_SMALLEST_SIDE = 16  # of an image whose last axis of length 3 or 4 is no side
_MAX_FRAMES = 2**24  # along which lists are kept
_ALL = slice(None)
_ALLOWED = (
    "expected one letter per dimension out of T, C, Z, Y, X, each at most once, with Y and X, "
    "such as YX, YXC, CYX, ZYX, TYX, ZCYX, TCYX, TZYX or TZCYX; further axes, of which one index is read, are "
    "P (positions), M, V, A, R, E, H and L"
)


@dataclass(frozen=True)
class Selection:
    """The planes of an array that become frames.

    Parameters
    ----------
    axes : str
        One letter per dimension of the array: ``TCZYX``, and letters of further axes such as P for positions.
    shape : tuple of int
        Shape of the array.
    frame_axis : {"Z", "T"} or None
        The axis whose planes are the frames; None for a single frame.
    fixed : tuple of (str, int)
        Index on each further axis that is neither the frame axis nor C, Y or X.
    channels : tuple of int
        Channels that are read, one to three; (0,) where there is no channel axis.
    is_rgb : bool
        The channels are the red, green and blue samples of one picture.
    """

    axes: str
    shape: tuple[int, ...]
    frame_axis: FrameAxis | None
    fixed: tuple[tuple[str, int], ...]
    channels: tuple[int, ...]
    is_rgb: bool

    def size(self, axis: str) -> int:
        """Length of an axis; 1 if the array does not have it."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def frames_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the frames."""
        num_frames = 1 if self.frame_axis is None else self.size(self.frame_axis)
        return num_frames, self.size("Y"), self.size("X")

    def index(
        self, frame: int, channel: int | slice, rows: slice = _ALL, columns: slice = _ALL
    ) -> tuple[int | slice, ...]:
        """Index into the array that leaves Y, X and, for a slice of channels, C."""
        chosen: dict[str, int | slice] = {"C": channel, "Y": rows, "X": columns, **dict(self.fixed)}
        if self.frame_axis is not None:
            chosen[self.frame_axis] = frame
        return tuple(chosen[axis] for axis in self.axes)


def parse_axes(axes: str, shape: Sequence[int]) -> str:
    """Check axis letters that a user gave against a shape.

    Parameters
    ----------
    axes : str
        One letter per dimension, any case.
    shape : sequence of int
        Shape of the array.

    Returns
    -------
    str
        The letters in upper case.

    Raises
    ------
    FrameError
        If a letter is unknown, missing or given twice, or if their number is not the number of dimensions.
    """
    upper = axes.upper()
    known = (*_LETTERS, *(letter for letter in _OTHERS if letter not in _UNNAMED))
    is_known = all(letter in known for letter in upper) and len(set(upper)) == len(upper)
    if not is_known or len(upper) != len(shape) or not {"Y", "X"} <= set(upper):
        raise FrameError(f"axes {shown(axes)} were given for an image of shape {tuple(shape)}; {_ALLOWED}")
    return upper


def guess_axes(shape: Sequence[int], dtype: DTypeLike) -> str:
    """Axis letters of an array that carries none.

    Two dimensions are YX. A last dimension of 3 or 4 in uint8 is a colour picture: YXC, or ZYXC in four dimensions.
    Three other dimensions are ZYX. Anything else is ambiguous (TZYX? ZCYX? TCYX?) and is an error, and so is another
    last dimension of 1 to 4, which may be channels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    dtype : dtype-like
        Its type.

    Returns
    -------
    str
        One letter per dimension.

    Raises
    ------
    FrameError
        If the shape does not determine the axes.
    """
    is_colour = len(shape) >= 3 and shape[-1] in (3, 4) and np.dtype(dtype) == np.uint8
    guesses = {2: "YX", 3: "YXC" if is_colour else "ZYX", 4: "ZYXC" if is_colour else ""}
    guess = guesses.get(len(shape), "")
    if len(shape) >= 3 and not is_colour and shape[-1] in (1, 2, 3, 4) and min(shape[-3:-1]) >= _SMALLEST_SIDE:
        guess = ""  # colours or channels rather than planes of so few columns
    if not guess:
        raise FrameError(
            Message(f"the axes of an image of shape {tuple(shape)} cannot be guessed; give ", AXES, f": {_ALLOWED}")
        )
    return guess


def axis_of_word(word: str) -> str | None:
    """Letter of an axis by its name in a file (``"time"``, ``"channel"``, ``"z"``, ``"column"``); None if unknown."""
    low = word.strip().lower().rstrip("_")
    return _WORDS.get(low) or _WORDS.get(low.removesuffix("s"))


def letter_of_unknown_word(word: str, taken: str) -> str:
    """A letter for an axis whose name says nothing, of which one index is read: never one of T, C, Z, Y and X."""
    letters = [letter for letter in _OTHERS if letter not in _UNNAMED and letter not in taken]
    if len(word) == 1 or not letters:
        return word[0].upper()
    return word[0].upper() if word[0].upper() in letters else letters[0]


def name_unnamed(axes: str, shape: Sequence[int]) -> str:
    """Axis letters of a file in this package's letters.

    Samples become C. The first axis without a name (I, Q) becomes Z, or T where Z is taken; positions, angles and other
    axes keep their letters, and one index of them is read.

    Raises
    ------
    FrameError
        If the axes are ambiguous.
    """
    letters = list(axes.upper())
    if "S" in letters and "C" in letters and shape[letters.index("C")] > 1:
        raise FrameError(
            Message(f"the file's axes {axes} of shape {tuple(shape)} hold channels and colours; give ", AXES)
        )
    names = ["C" if letter == "S" else letter for letter in letters]
    free = [letter for letter in "ZT" if letter not in names]
    unnamed = [i for i, letter in enumerate(names) if letter in _UNNAMED]
    if sum(shape[i] > 1 for i in unnamed) > 1:
        raise _unknown_axes(axes, shape)
    if unnamed and free:
        named = max(unnamed, key=lambda i: int(shape[i]))
        names[named] = free[0]
        spare = [letter for letter in _OTHERS if letter not in names]
        for i in unnamed:  # of length 1: any letters will do
            if i != named and names.count(names[i]) > 1 and spare:
                names[i] = spare.pop()
    is_known = all(letter in _LETTERS or letter in _OTHERS for letter in names)
    if not is_known or len(set(names)) < len(names) or not {"Y", "X"} <= set(names):
        raise _unknown_axes(axes, shape)
    return "".join(names)


def select(
    axes: str,
    shape: Sequence[int],
    *,
    frame_axis: str | None = None,
    fixed: Mapping[str, int] | None = None,
    channels: int | Sequence[int] | None = None,
    is_rgb: bool | None = None,
) -> Selection:
    """Choose frame axis, indices on the other axes, and channels.

    Parameters
    ----------
    axes : str
        One letter per dimension, upper case.
    shape : sequence of int
        Shape of the array.
    frame_axis : str, optional
        ``"Z"`` or ``"T"``. Default: the one of the two that is not in ``fixed`` and has more than one plane; if both
        have, Z, and a warning says which time point is read.
    fixed : mapping of str to int, optional
        Index on the axes that are not the frame axis; 0 where not given, with a warning if there is a choice.
    channels : int or sequence of int, optional
        One to three channels. Default: all up to three; of more, the first three with a warning.
    is_rgb : bool, optional
        Whether the channels are colours. Default: they are if C is the last axis and has length 3 or 4.

    Returns
    -------
    Selection
        The planes that become frames.

    Raises
    ------
    FrameError
        If the image is empty, or an axis, index or channel does not exist.
    """
    shape = tuple(int(size) for size in shape)
    if 0 in shape:
        raise FrameError(f"the image is empty: its shape is {shape} (axes {axes}); give at least one pixel")
    if max(shape) > sys.maxsize:
        raise FrameError(f"the image claims the shape {shape}, which is too large for this computer; check the file")
    fixed = _check_fixed(axes, shape, fixed or {})
    chosen = _choose_frame_axis(axes, shape, frame_axis, fixed)
    if chosen is not None and shape[axes.index(chosen)] > _MAX_FRAMES:
        raise FrameError(
            f"the image claims {shape[axes.index(chosen)]:,} frames along {chosen}; up to {_MAX_FRAMES:,} are read: "
            "check the file, or give a part of it"
        )
    rest = tuple(axis for axis in (*"TZ", *_OTHERS) if axis in axes and axis != chosen)
    for axis in rest:
        if axis not in fixed and shape[axes.index(axis)] > 1:
            in_python, in_shell = f"fixed={{'{axis}': index}}", f"--fix {axis}=INDEX"
            if axis in "TZ":
                in_python, in_shell = f"{in_python} or frame_axis='{axis}'", f"{in_shell} or --axis {axis}"
            warn_caller(
                Message(
                    f"the image has several {_PLANES[axis]}{f' and {chosen} as its frame axis' if chosen else ''}; "
                    f"{axis}=0 is read (give ",
                    Option("fixed", in_python, in_shell),
                    " to choose)",
                ),
                PlanesLeftOutWarning,
            )
    num_channels = shape[axes.index("C")] if "C" in axes else 1
    if is_rgb is None:
        is_rgb = axes.endswith("C") and num_channels in (3, 4)
    is_rgb = is_rgb and num_channels in (3, 4)
    picked = _choose_channels(num_channels, channels, is_rgb)
    return Selection(
        axes=axes,
        shape=shape,
        frame_axis=chosen,
        fixed=tuple((axis, fixed.get(axis, 0)) for axis in rest),
        channels=picked,
        is_rgb=is_rgb and picked == (0, 1, 2),
    )


def channel_numbers(
    channels: int | str | Sequence[int | str] | None, names: Sequence[str], num_channels: int
) -> list[int] | None:
    """Numbers of channels that are given by number or name.

    Parameters
    ----------
    channels : int, str or sequence of those, or None
        A number that is no channel, such as the wavelength 488, is looked for among the names.
    names : sequence of str
        Of all channels, or none. Capitals make no difference unless names differ by them.
    num_channels : int
        How many channels there are.

    Returns
    -------
    list of int or None
        None where None was given.

    Raises
    ------
    FrameError
        If there is no such channel, or several channels have the name.
    """
    if channels is None:
        return None
    given = [channels] if isinstance(channels, (int, np.integer, str)) else list(channels)
    return [_channel_number(channel, names if len(names) == num_channels else (), num_channels) for channel in given]


def _channel_number(channel: int | str, names: Sequence[str], num_channels: int) -> int:
    if not isinstance(channel, str) and 0 <= _integer(channel, num_channels) < num_channels:
        return int(channel)
    wanted = str(channel).strip()
    found = [at for at, name in enumerate(names) if name == wanted]
    found = found or [at for at, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    named = ", ".join(f"{at} ({name})" if name else str(at) for at, name in enumerate(names[:_SHOWN]))
    if len(found) > 1:
        raise FrameError(
            f"channel {shown(channel)} was given; several channels have this name: give a number out of {named}"
        )
    named += ", ..." * (len(names) > _SHOWN)
    has = f"{num_channels} channel{'s' * (num_channels > 1)}"
    without = f" without {'names' if num_channels > 1 else 'a name'}" if isinstance(channel, str) and not names else ""
    numbers = "0" if num_channels == 1 else f"0 to {num_channels - 1}"
    expected = f"one of {named}" if names else numbers
    raise FrameError(f"channel {shown(channel)} was given; the image has {has}{without}, expected {expected}")


def _check_fixed(axes: str, shape: tuple[int, ...], fixed: Mapping[str, int]) -> dict[str, int]:
    checked = {}
    for name, index in fixed.items():
        axis = name.upper()
        if axis not in _PLANES or axis not in axes:
            has = ", ".join(a for a in _PLANES if a in axes) or "none: the image has only Y, X and C"
            raise FrameError(f"{name}={index} was given as a fixed index for axes {axes}; expected one of {has}")
        size = shape[axes.index(axis)]
        if not -size <= _integer(index, size) < size:
            raise FrameError(f"{name}={index} was given as a fixed index; {axis} has {size} planes, 0 to {size - 1}")
        checked[axis] = int(index) % size
    return checked


def _choose_frame_axis(
    axes: str, shape: tuple[int, ...], frame_axis: str | None, fixed: Mapping[str, int]
) -> FrameAxis | None:
    candidates: list[FrameAxis] = [axis for axis in ("Z", "T") if axis in axes and axis not in fixed]
    if frame_axis is None:
        moving = [axis for axis in candidates if shape[axes.index(axis)] > 1]
        preferred = moving or candidates
        return preferred[0] if preferred else None
    for axis in candidates:
        if axis == frame_axis.upper():
            return axis
    if frame_axis.upper() in fixed:
        raise FrameError(f"{frame_axis} was given both as the frame axis and with a fixed index; give one of the two")
    allowed = " or ".join(candidates) or "none: the image is a single frame"
    raise FrameError(
        f"the frame axis {shown(frame_axis)} was given for axes {axes} of shape {shape}; expected {allowed}"
    )


def _unknown_axes(axes: str, shape: Sequence[int]) -> FrameError:
    what = f"the file's axes {axes} of shape {tuple(shape)} have unknown names"
    return FrameError(Message(f"{what}; give ", AXES, f": {_ALLOWED}"))


def _choose_channels(num_channels: int, channels: int | Sequence[int] | None, is_rgb: bool) -> tuple[int, ...]:
    if channels is None:
        if num_channels > _MAX_CHANNELS and not is_rgb:
            warn_caller(
                Message(
                    f"the image has {num_channels} channels; the first three are shown (give ",
                    Option("channels"),
                    " to choose)",
                )
            )
        return tuple(range(min(num_channels, _MAX_CHANNELS)))
    picked = (channels,) if isinstance(channels, (int, np.integer)) else tuple(channels)
    if not 1 <= len(picked) <= _MAX_CHANNELS:
        raise FrameError(f"{len(picked)} channels were given; expected one to three")
    return tuple(channel_numbers(picked, (), num_channels) or ())


def _integer(index: object, otherwise: int) -> int:
    """An index given by a user as int, or a value that is out of range where it is no integer."""
    return int(index) if isinstance(index, (int, np.integer)) and not isinstance(index, bool) else otherwise
