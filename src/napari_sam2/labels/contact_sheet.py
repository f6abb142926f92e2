"""Contact sheets: one picture of several frames, with the outlines of their labels and their prompts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_sam2._errors import FrameError
from napari_sam2._types import Prompt
from napari_sam2.labels.colours import object_colour

__all__ = ["PreviewTile", "choose_frames", "draw_contact_sheet"]

_WIDTH = 1280  # of a sheet, in pixels
_HIGHEST = 900  # of one row of tiles
_GAP, _CAPTION, _TITLE = 8, 22, 34
_MAX_ZOOM = 6.0
_BACKGROUND, _TEXT, _FAINT = (24, 26, 30), (236, 238, 242), (160, 166, 176)
_FILL = 0.22  # opacity of the colour inside an outline
_LEAST_DEPTH = 7  # least distance from an object's number to its outline, in pixels of the sheet
_MAX_NUMBERED = 60  # tiles with more objects than this show no numbers
_MARGIN = 0.2  # around the labels and prompts, as a fraction of their size
_SMALLEST_WINDOW = 64


@dataclass(frozen=True, eq=False)
class PreviewTile:
    """One picture of a contact sheet.

    Attributes
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    labels : numpy.ndarray
        (H, W) integers, 0 is background.
    caption : str
        Written above it.
    prompts : tuple of (int, Prompt)
        Object number and its prompt on this image; clicks and boxes are drawn.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    caption: str = ""
    prompts: tuple[tuple[int, Prompt], ...] = ()


def choose_frames(num_frames: int, *, prompted: Collection[int], found: Collection[int], count: int = 12) -> list[int]:
    """Choose frames to show: the first prompted ones, then frames spread over those with labels.

    Parameters
    ----------
    num_frames : int
        Frames of the stack.
    prompted, found : collection of int
        Frames with prompts, and frames with objects.
    count : int, default 12
        At most so many.

    Returns
    -------
    list of int
        Ascending.
    """
    pool = sorted({*prompted, *found}) or list(range(num_frames))
    if len(pool) <= count:
        return pool
    chosen = sorted(prompted)
    if len(chosen) > count // 2:
        chosen = [chosen[i] for i in _spread(len(chosen), count // 2)]
    chosen += [frame for frame in (pool[0], pool[-1]) if frame not in chosen]
    while len(chosen) < count:  # add the frame farthest from those chosen
        chosen.append(max(pool, key=lambda frame: min(abs(frame - other) for other in chosen)))
    return sorted(chosen)


def draw_contact_sheet(tiles: Sequence[PreviewTile], *, title: str = "", zoom_in: bool = True) -> NDArray[np.uint8]:
    """Lay tiles out in rows, all showing the same part of the image at the same scale.

    Parameters
    ----------
    tiles : sequence of PreviewTile
        One or more, all of the same height and width.
    title : str, default ""
        Written above the tiles.
    zoom_in : bool, default True
        Show only the part in which there are objects and prompts, where that is much smaller than the image.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8 RGB, about 1300 pixels wide.

    Raises
    ------
    FrameError
        If there is no tile, or tiles differ in size.
    """
    sizes = {tile.labels.shape for tile in tiles} | {tile.image.shape[:2] for tile in tiles}
    if len(sizes) != 1:
        raise FrameError(f"{len(tiles)} tiles of sizes {sorted(sizes)} were given; give one or more of the same size")
    window = _window_of(tiles) if zoom_in else _whole(tiles[0])
    columns = _columns(len(tiles), window.width / window.height)
    rows = math.ceil(len(tiles) / columns)
    side = (_WIDTH - _GAP * (columns - 1)) / columns
    zoom = min(side / window.width, _HIGHEST / window.height, _MAX_ZOOM)
    width, height = max(1, round(window.width * zoom)), max(1, round(window.height * zoom))
    top = _GAP + (_TITLE if title else 0)
    left = _GAP
    sheet_width = max(2 * left + columns * width + (columns - 1) * _GAP, _text_width(title, 17) + 2 * left)
    sheet = Image.new("RGB", (sheet_width, top + rows * (_CAPTION + height + _GAP)), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((left, _GAP), title, fill=_TEXT, font=_font(17))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = left + column * (width + _GAP), top + row * (_CAPTION + height + _GAP)
        draw.text((x + 1, y + 2), tile.caption, fill=_TEXT if tile.prompts else _FAINT, font=_font(14))
        sheet.paste(_draw_tile(tile, window, (width, height)), (x, y + _CAPTION))
    return np.asarray(sheet)


class _Window(NamedTuple):
    """The part of the images that is shown, in their pixels."""

    x: int
    y: int
    width: int
    height: int


def _whole(tile: PreviewTile) -> _Window:
    height, width = tile.labels.shape
    return _Window(0, 0, width, height)


def _window_of(tiles: Sequence[PreviewTile]) -> _Window:
    """The bounding box of all labels and prompts with a margin; the whole image if that covers most of it."""
    spans = [span for tile in tiles for span in _spans(tile)]
    whole = _whole(tiles[0])
    if not spans:
        return whole
    corners = np.array(spans)
    x0, y0 = corners[:, :2].min(axis=0)
    x1, y1 = corners[:, 2:].max(axis=0)
    side = max(x1 - x0, y1 - y0, _SMALLEST_WINDOW) * (1 + 2 * _MARGIN)
    width, height = min(whole.width, math.ceil(side)), min(whole.height, math.ceil(side))
    if width * height > 0.7 * whole.width * whole.height:
        return whole
    x = min(max(round((x0 + x1 - width) / 2), 0), whole.width - width)
    y = min(max(round((y0 + y1 - height) / 2), 0), whole.height - height)
    return _Window(x, y, width, height)


def _spans(tile: PreviewTile) -> list[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of the labels and of each prompt."""
    spans: list[tuple[float, float, float, float]] = []
    ys, xs = np.flatnonzero(tile.labels.any(axis=1)), np.flatnonzero(tile.labels.any(axis=0))
    if len(ys):
        spans.append((float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)))
    for _, prompt in tile.prompts:
        spans += [(float(x), float(y), float(x), float(y)) for x, y in prompt.points]
        if prompt.box is not None:
            x0, y0, x1, y1 = (float(v) for v in prompt.box)
            spans.append((x0, y0, x1, y1))
    return spans


def _columns(num_tiles: int, aspect: float) -> int:
    if num_tiles <= 3:
        return num_tiles if aspect < 2.5 else 1
    if num_tiles == 4:
        return 4 if aspect < 0.8 else 2
    return 3 if num_tiles in (5, 6, 9) else 4


# ---------------------------------------------------------------------- one tile
def _draw_tile(tile: PreviewTile, window: _Window, size: tuple[int, int]) -> Image.Image:
    rows, columns = slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)
    image, labels = tile.image[rows, columns], tile.labels[rows, columns]
    is_larger = size[0] > window.width
    resampling = Image.Resampling.BICUBIC if is_larger else Image.Resampling.LANCZOS
    shown = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, resampling)).astype(np.float32)
    places = _paint_objects(shown, labels, size)
    picture = Image.fromarray(np.rint(shown).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    scale = (size[0] / window.width, size[1] / window.height)
    prompted = {object_id for object_id, _ in tile.prompts}
    if len(places) <= _MAX_NUMBERED:
        for object_id, xy in places.items():
            if object_id not in prompted:
                _number(draw, xy, object_id)
    for object_id, prompt in tile.prompts:
        _draw_prompt(draw, object_id, prompt, window, scale)
    return picture


def _paint_objects(
    shown: NDArray[np.float32], labels: NDArray[np.int32], size: tuple[int, int]
) -> dict[int, tuple[float, float]]:
    """Tint and outline each object in place; where its number fits inside, (x, y) in pixels of the tile."""
    places: dict[int, tuple[float, float]] = {}
    for object_id in np.unique(labels):
        if object_id == 0:
            continue
        mask = _resized_mask(labels == object_id, size)
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(ys):
            continue
        y0, y1, x0, x1 = max(ys[0] - 3, 0), ys[-1] + 4, max(xs[0] - 3, 0), xs[-1] + 4
        part, inside = shown[y0:y1, x0:x1], mask[y0:y1, x0:x1]
        colour = np.array(object_colour(int(object_id)), np.float32)
        part[inside] += _FILL * (colour - part[inside])
        part[_grown(inside, 1) & ~inside] *= 0.35  # a dark rim, so that the outline is visible on a bright background
        part[inside & ~_shrunk(inside, 2)] = colour
        place = _deepest(inside)
        if place is not None:
            places[int(object_id)] = (place[0] + float(x0), place[1] + float(y0))
    return places


def _deepest(mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    """(x, y) of the point farthest inside a mask; None if no number fits."""
    step = max(1, math.ceil(max(mask.shape) / 64))
    rest, depth = np.pad(mask[::step, ::step], 1), 0
    while (smaller := _shrunk(rest, 1)).any():
        rest, depth = smaller, depth + 1
    if (depth + 1) * step < _LEAST_DEPTH:
        return None
    ys, xs = np.nonzero(rest)
    middle = len(ys) // 2
    return float(xs[middle] - 1) * step, float(ys[middle] - 1) * step


def _resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask scaled to the tile with smooth edges; structures thinner than a pixel remain visible."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if size[0] >= mask.shape[1]:
        return np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) > 127
    return np.asarray(picture.resize(size, Image.Resampling.BOX)) > 60


def _grown(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return mask


def _shrunk(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    return ~_grown(~mask, steps)


def _draw_prompt(
    draw: ImageDraw.ImageDraw, object_id: int, prompt: Prompt, window: _Window, scale: tuple[float, float]
) -> None:
    colour = object_colour(object_id)

    def place(x: float, y: float, offset: float = 0.5) -> tuple[float, float]:
        return (x + offset - window.x) * scale[0], (y + offset - window.y) * scale[1]

    if prompt.box is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        corners = (*place(x0, y0, 0), *place(x1, y1, 0))
        draw.rectangle(corners, outline=(0, 0, 0), width=4)
        draw.rectangle((corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1), outline=colour, width=2)
        _number(draw, (max(corners[0], 0) + 10, max(corners[1] - 9, 9)), object_id)
    for number, ((px, py), label) in enumerate(zip(prompt.points, prompt.labels, strict=True)):
        x, y = place(float(px), float(py))
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=(0, 0, 0))
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(255, 255, 255))
        if label:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        else:
            draw.line((x - 3, y, x + 3, y), fill=(200, 0, 0), width=2)
        if number == 0 and prompt.box is None:
            _number(draw, (x + 13, y - 9), object_id)


def _number(draw: ImageDraw.ImageDraw, xy: tuple[float, float], object_id: int) -> None:
    white, black = (255, 255, 255), (0, 0, 0)
    draw.text(xy, str(object_id), fill=white, font=_font(13), anchor="mm", stroke_width=2, stroke_fill=black)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text_width(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text)) if text else 0


def _spread(length: int, count: int) -> list[int]:
    """``count`` indices spread evenly over ``range(length)``, both ends included."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(count, length))})
