"""The distance between neighbouring planes or pixels, and the names and symbols its units go by in image files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from napari_sam2._errors import warn_caller
from napari_sam2._messages import shown

__all__ = ["Spacing", "VoxelSize", "convert", "read_distance", "unit_name", "unit_symbol"]


class Spacing(NamedTuple):
    """Distance between neighbours along one axis.

    Attributes
    ----------
    value : float
        The distance, greater than 0.
    unit : str
        Name of the unit as OME-NGFF spells it (``"micrometer"``, ``"second"``); empty where it is not known.
    """

    value: float
    unit: str = ""


VoxelSize = Mapping[str, tuple[float, str]]
"""Axis letter to (distance, unit); a `Spacing` is such a pair."""

_LENGTHS = {
    "meter": (1.0, "m"),
    "decimeter": (1e-1, "dm"),
    "centimeter": (1e-2, "cm"),
    "inch": (2.54e-2, "in"),
    "millimeter": (1e-3, "mm"),
    "micrometer": (1e-6, "µm"),
    "nanometer": (1e-9, "nm"),
    "angstrom": (1e-10, "Å"),
    "picometer": (1e-12, "pm"),
}
_TIMES = {
    "day": (86400.0, "d"),
    "hour": (3600.0, "h"),
    "minute": (60.0, "min"),
    "second": (1.0, "s"),
    "millisecond": (1e-3, "ms"),
    "microsecond": (1e-6, "µs"),
    "nanosecond": (1e-9, "ns"),
}
_ALIASES = {
    "um": "micrometer",
    "μm": "micrometer",  # Greek mu; the table above has the micro sign
    "\\u00b5m": "micrometer",  # as ImageJ escapes it
    "âµm": "micrometer",  # UTF-8 read as Latin-1
    "î¼m": "micrometer",  # the Greek mu likewise
    "\ufffdm": "micrometer",  # a byte that no decoder knew
    "micron": "micrometer",
    "microns": "micrometer",
    "a": "angstrom",
    "us": "microsecond",
    "μs": "microsecond",
    "âµs": "microsecond",
    "\ufffds": "microsecond",
    "sec": "second",
    "secs": "second",
    "seconds": "second",
    "msec": "millisecond",
    "mins": "minute",
    "minutes": "minute",
    "hours": "hour",
    "pixel": "",
    "pixels": "",
    "null": "",
    "none": "",
}
_BY_SYMBOL = {symbol.lower(): name for table in (_LENGTHS, _TIMES) for name, (_, symbol) in table.items()}


def unit_name(text: str | None) -> str:
    """The OME-NGFF name of a unit written as name, symbol or alias; unknown units are returned as they are.

    Parameters
    ----------
    text : str or None
        ``"µm"``, ``"um"``, ``"micron"``, ``"micrometer"``, ... ; ``"pixel"`` and None mean no unit.

    Returns
    -------
    str
        For example ``"micrometer"``; empty for no unit.
    """
    given = (text or "").strip()
    low = given.lower()
    if low in _LENGTHS or low in _TIMES:
        return low
    if low in _ALIASES:
        return _ALIASES[low]
    singular = low.removesuffix("s").replace("metre", "meter")
    return _BY_SYMBOL.get(low, singular if singular in _LENGTHS or singular in _TIMES else given)


def unit_symbol(name: str) -> str:
    """The symbol OME-XML uses for a unit's name (``"µm"`` for ``"micrometer"``); ``"pixel"`` for an unknown unit."""
    for table in (_LENGTHS, _TIMES):
        if name in table:
            return table[name][1]
    return "pixel"


def read_distance(given: object, axis: str, path: object, *, may_be_negative: bool = False) -> float | None:
    """A distance from a file's metadata, or None with a warning where it is not a finite number above 0.

    Parameters
    ----------
    given : object
        Number or text, also with a decimal comma; None, "" and "null" mean that nothing is known.
    axis : str
        Letter of the axis, for the warning.
    path : object
        The file, for the warning.
    may_be_negative : bool, default False
        Take the absolute value: ImageJ writes a negative spacing for stacks that were acquired downwards.
    """
    text = str("" if given is None else given).strip()
    if text.lower() in ("", "null", "none"):
        return None
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        value = math.nan
    if may_be_negative:
        value = abs(value)
    if value == 0:
        return None
    if not (math.isfinite(value) and value > 0):
        warn_caller(f"the distance along {axis} of {path} is not known: the file says {shown(text[:40])}")
        return None
    return value


def convert(spacing: tuple[float, str], unit: str) -> float | None:
    """A distance in another unit, or None where the two units do not measure the same thing."""
    value, own = spacing
    if own == unit:
        return value
    for table in (_LENGTHS, _TIMES):
        if own in table and unit in table:
            return value * (table[own][0] / table[unit][0])
    return None
