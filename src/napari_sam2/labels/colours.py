"""The colour of an object, the same in every picture, layer and file."""

from __future__ import annotations

import colorsys

__all__ = ["object_colour"]

# Distinguishable hues, visible on grey, dark and pink backgrounds; later objects get hues in between.
_HUES = (0.52, 0.11, 0.90, 0.33, 0.75, 0.02, 0.61, 0.17, 0.83, 0.42)
_GOLDEN = 0.6180339887


def object_colour(object_id: int) -> tuple[int, int, int]:
    """RGB of an object, 0 to 255: the same number has the same colour in every picture."""
    index = object_id - 1
    turn, hue = divmod(index, len(_HUES))
    shift = (turn * _GOLDEN) % 1 * 0.1
    red, green, blue = colorsys.hsv_to_rgb((_HUES[hue] + shift) % 1, 0.85 - 0.25 * (turn % 2), 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
