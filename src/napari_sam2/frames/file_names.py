"""Axes in the names of files, as microscopes write one file per plane: ``img_t003_z01_ch0.tif``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from napari_sam2._errors import FrameError

__all__ = ["FileGrid", "grid_of_names"]

_WORDS = {
    "t": "T",
    "time": "T",
    "timepoint": "T",
    "z": "Z",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "w": "C",  # wavelengths of MetaMorph
    "p": "P",
    "pos": "P",
    "position": "P",
    "s": "P",
    "scene": "P",
    "series": "P",
    "f": "P",
    "fov": "P",
    "field": "P",
    "xy": "P",
    "m": "M",
}
_ALONE = {"t", "time", "timepoint", "ch", "channel", "pos", "position", "fov", "scene"}  # clear without other axes
_HARMONY = {"f": "P", "p": "Z", "ch": "C", "sk": "T"}  # of Opera and Operetta: r01c02f03p04-ch1sk1fk1fl1
_IS_HARMONY = re.compile(r"r\d+c\d+f\d+p\d+-ch\d+sk\d+", re.IGNORECASE)
_WELL = re.compile(r"r\d+c\d+", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<word>[A-Za-z]+)[ _-]?(?P<number>\d+)")
_ORDER = "PMTCZ"


class FileGrid(NamedTuple):
    """Files along axes.

    Attributes
    ----------
    axes : str
        Letters of the axes along which the numbers in the names vary, of ``PMTCZ`` in this order.
    shape : tuple of int
        Their lengths.
    order : tuple of int
        Index of the file at each place, the last axis fastest.
    """

    axes: str
    shape: tuple[int, ...]
    order: tuple[int, ...]


def grid_of_names(names: Sequence[str], folder: str) -> FileGrid | None:
    """The axes along which files are numbered by words for axes, such as ``t``, ``z``, ``ch`` and ``pos``.

    Parameters
    ----------
    names : sequence of str
        Names of the files, without suffixes.
    folder : str
        Where they are, for messages.

    Returns
    -------
    FileGrid or None
        None if no such word has a number that varies, or a number is missing in some names.

    Raises
    ------
    FrameError
        If the numbers vary along several axes and some files are missing, or several wells are mixed.
    """
    if len({well[0].lower() for name in names if _IS_HARMONY.match(name) and (well := _WELL.findall(name))}) > 1:
        raise FrameError(f"the files of {folder} are of several wells; move those of each well to a folder of its own")
    found = [_axes_of(name) for name in names]
    letters = [axis for axis in _ORDER if len({each.get(axis) for each in found}) > 1]
    if not letters or any(axis not in each for each in found for axis in letters):
        return None
    if len(letters) == 1 and not _is_clear(names, letters[0]):
        return None
    numbers = {axis: sorted({each[axis] for each in found}) for axis in letters}
    grid = itertools.product(*numbers.values())  # may be far larger than the number of files
    places = {tuple(each[axis] for axis in letters): index for index, each in enumerate(found)}
    if len(places) < len(names):  # other numbers tell them apart
        return None
    shape = tuple(len(numbers[axis]) for axis in letters)
    if len(places) < math.prod(shape):
        missing = next(place for place in grid if place not in places)
        lengths = ", ".join(f"{n} of {axis}" for axis, n in zip(letters, shape, strict=True))
        where = ", ".join(f"{axis}={number}" for axis, number in zip(letters, missing, strict=True))
        raise FrameError(
            f"the files of {folder} are numbered along several axes ({lengths}), and {math.prod(shape) - len(places)} "
            f"of {math.prod(shape)} are missing, such as the one with {where}; add them, or move the files of one axis "
            "to a folder of their own"
        )
    order = tuple(places[place] for place in grid)
    return FileGrid("".join(letters), shape, order)


def _axes_of(name: str) -> dict[str, int]:
    """Axis -> number in a name; nothing for an axis that is named twice."""
    words = _HARMONY if _IS_HARMONY.match(name) else _WORDS
    found: dict[str, int] = {}
    twice: set[str] = set()
    for match in _NUMBERED.finditer(name):
        axis = words.get(match["word"].lower())
        if axis is not None:
            twice |= {axis} & found.keys()
            found[axis] = int(match["number"])
    return {axis: number for axis, number in found.items() if axis not in twice}


def _is_clear(names: Sequence[str], axis: str) -> bool:
    """Whether the word for the only axis is clear enough; a letter such as s may stand for slices or for scenes."""
    used = {match["word"].lower() for name in names for match in _NUMBERED.finditer(name)}
    return any(_WORDS.get(word) == axis for word in used & _ALONE)
