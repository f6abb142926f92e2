"""Areas written as text, in pixels or in units of the image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_sam2._errors import FrameError
from napari_sam2.frames.spacing import convert, unit_name

if TYPE_CHECKING:
    from napari_sam2.frames.sources import Frames

__all__ = ["parse_area"]

_AREA = re.compile(r"(?P<number>\d+\.?\d*|\.\d+)\s*((?P<unit>[a-zA-Zµμ]+)(\^?2|²))?")


def parse_area(option: str, text: str | None, frames: Frames) -> float | None:
    """An area in pixels, from ``30`` (pixels) or ``5um2`` (needs the pixel size of the file).

    Raises
    ------
    FrameError
        If it cannot be understood, or the file does not state the pixel size.
    """
    if text is None:
        return None
    match = _AREA.fullmatch(text.strip())
    if match is None:
        raise FrameError(f"{option} {text} was given; expected pixels, such as 30, or an area, such as 5um2")
    value, unit = float(match["number"]), match["unit"]
    if not unit:
        return value
    sizes = [(frames.voxel_size or {}).get(axis) for axis in "YX"]
    sides = [None if size is None else convert(size, unit_name(unit)) for size in sizes]
    if sides[0] is None or sides[1] is None:
        raise FrameError(f"{option} {text} was given, but the file states no pixel size in that unit; give pixels")
    return value / (sides[0] * sides[1])
