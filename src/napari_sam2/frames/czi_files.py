"""Zeiss CZI files through pylibCZIrw: scenes are positions, and only the parts of planes that are wanted are read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import FrameError
from napari_sam2._messages import one_line
from napari_sam2.frames.positions import one_of_several, position_number, stack_of_positions, warn_of_others
from napari_sam2.frames.spacing import Spacing, read_distance
from napari_sam2.frames.stack import READ_ERRORS, RawStack

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader

__all__ = ["CZI_SUFFIX", "open_czi_file"]

CZI_SUFFIX = ".czi"
_ADVICE = "pip install 'napari-sam2[czi]'"
_LEADING = {"V": "V", "H": "H", "R": "R", "I": "L", "B": "E", "T": "T", "C": "C", "Z": "Z"}
"""Dimensions of CZI before Y and X in the order of the axes, and their letters here."""
_TYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4"}
_METRES = 1e6  # in micrometres


@dataclass
class _Scene:
    """A scene in the directory of a file: number, rectangle, range along each dimension, and type of the pixels."""

    number: int | None
    left: int
    top: int
    right: int
    bottom: int
    ranges: dict[str, tuple[int, int]]
    pixel_type: str

    @property
    def letters(self) -> list[str]:
        """Dimensions that become axes."""
        always = "TZ" if self.has_colours else "TCZ"
        return [letter for letter in _LEADING if letter in always or self._size(letter) > 1]

    @property
    def has_colours(self) -> bool:
        """Whether pixels are blue, green and red."""
        return self.pixel_type.startswith("Bgr")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its array, with colours last."""
        leading = tuple(self._size(letter) for letter in self.letters)
        colours = (3,) if self.has_colours else ()
        return (*leading, self.bottom - self.top, self.right - self.left, *colours)

    @property
    def axes(self) -> str:
        """One letter for each axis."""
        return "".join(_LEADING[letter] for letter in self.letters) + "YX" + "S" * self.has_colours

    @property
    def title(self) -> str:
        """Axes, sizes and type, for a message."""
        return f"{self.axes} {' x '.join(map(str, self.shape))}, {np.dtype(_TYPES[self.pixel_type])}"

    def _size(self, letter: str) -> int:
        start, stop = self.ranges.get(letter, (0, 1))
        return stop - start


def open_czi_file(path: Path, position: int | str | None = None) -> RawStack:
    """Describe a CZI file without reading its pixels.

    Parameters
    ----------
    path : Path
        An existing file.
    position : int or str, optional
        Number or name of the scene that is opened, if scenes differ in size. Default: the first, with a warning.

    Returns
    -------
    RawStack
        TCZYX, with S for colours. Scenes are positions, axis P, if there are several; those of one size can all be
        read. Tiles of a scene are put together.

    Raises
    ------
    FrameError
        If pylibCZIrw is not installed, or the file is damaged.
    """
    try:
        from pylibCZIrw import czi
    except ImportError as error:
        raise FrameError(f"{path} is a Zeiss CZI file; to read it: {_ADVICE}, or export it as OME-TIFF") from error
    try:
        with czi.open_czi(str(path)) as document:
            scenes = _scenes(document, path)
            metadata = ET.fromstring(document.raw_metadata)
    except FrameError:
        raise
    except (ET.ParseError, *READ_ERRORS) as error:
        raise FrameError(f"{path} cannot be read as a CZI ({one_line(error)}); check or copy the file again") from error
    names = _names(metadata, scenes)
    stacks = [_stack(path, scene, metadata) for scene in scenes]
    if len(scenes) == 1:
        return stacks[0]
    sizes = [scene.title for scene in scenes]
    if len(set(sizes)) == 1:
        return stack_of_positions(stacks, names)
    number = 0 if position is None else position_number(position, names, len(names), path)
    if position is None:
        warn_of_others(path, names, sizes, number)
    return one_of_several(stacks[number], number, names)


def _scenes(document: CziReader, path: Path) -> list[_Scene]:
    """The scenes by their numbers, without reading pixels; a file without scenes is one."""
    found: dict[int | None, _Scene] = {}
    mixed: set[str] = set()

    def add(_: int, block: Any) -> bool:
        if block.get_zoom() < 1:  # of the pyramid
            return True
        places = block.coordinate.to_dict()
        number = places.pop("S", None)
        rectangle = block.logicalRect
        kind = str(block.pixelType).rpartition(".")[2]
        right, bottom = rectangle.x + rectangle.w, rectangle.y + rectangle.h
        scene = found.setdefault(number, _Scene(number, rectangle.x, rectangle.y, right, bottom, {}, kind))
        scene.left, scene.top = min(scene.left, rectangle.x), min(scene.top, rectangle.y)
        scene.right, scene.bottom = max(scene.right, right), max(scene.bottom, bottom)
        for letter, at in places.items():
            start, stop = scene.ranges.get(letter, (at, at + 1))
            scene.ranges[letter] = min(start, at), max(stop, at + 1)
        if kind != scene.pixel_type:
            mixed.update((kind, scene.pixel_type))
        return True

    document.enumerate_subblocks(add)
    if mixed:
        raise FrameError(
            f"{path} has channels of the types {' and '.join(sorted(mixed))}; export it as OME-TIFF with one type"
        )
    scenes = sorted(found.values(), key=lambda scene: -1 if scene.number is None else scene.number)
    if not scenes:
        raise FrameError(f"{path} holds no image; if it is one of several files, open the others")
    for scene in scenes:
        if scene.pixel_type not in _TYPES:
            raise FrameError(
                f"{path} has pixels of the type {scene.pixel_type}, which is not read; export it as OME-TIFF"
            )
    return scenes


def _names(metadata: ET.Element, scenes: Sequence[_Scene]) -> list[str]:
    """The names of the scenes, with those of wells or regions; empty where there is none."""
    named = {}
    for each in metadata.iterfind(".//Information/Image/Dimensions/S/Scenes/Scene"):
        shape = each.find("Shape")
        parts = [each.get("Name") or "", "" if shape is None else shape.get("Name") or ""]
        named[each.get("Index") or ""] = "-".join(part for part in parts if part)
    return [named.get(str(scene.number), "") for scene in scenes]


def _stack(path: Path, scene: _Scene, metadata: ET.Element) -> RawStack:
    voxel_size = {}
    for axis in "ZYX":
        metres = read_distance(metadata.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value"), axis, path)
        if metres is not None:
            voxel_size[axis] = Spacing(round(metres * _METRES, 9), "micrometer")
    channels = metadata.findall(".//Information/Image/Dimensions/Channels/Channel")
    start, stop = scene.ranges.get("C", (0, 1))
    names = tuple(channel.get("Name") or "" for channel in channels)[start:stop]
    shown = metadata.findall(".//DisplaySetting/Channels/Channel")
    by_id = {channel.get("Id"): _colour(channel.findtext("Color")) for channel in shown}
    colours = tuple(by_id.get(channel.get("Id"), "") for channel in channels[start:stop])
    return RawStack(
        CziPlanes(path, scene),
        str(path),
        "czi",
        scene.axes,
        voxel_size,
        scene.has_colours,
        channel_names=names if not scene.has_colours and any(names) else (),
        channel_colours=colours if not scene.has_colours and all(colours) else (),
    )


def _colour(text: str | None) -> str:
    """A colour such as ``#FF00FF5B``, opacity first, as ``#rrggbb``; empty if there is none."""
    digits = (text or "").strip().removeprefix("#").lower()
    is_colour = len(digits) in (6, 8) and all(digit in "0123456789abcdef" for digit in digits)
    return f"#{digits[-6:]}" if is_colour else ""


class CziPlanes:
    """The pixels of a scene; the file is opened for each read, and only the rows and columns wanted are decoded."""

    def __init__(self, path: Path, scene: _Scene) -> None:
        self.path, self.shape = path, scene.shape
        self.dtype: np.dtype[np.generic] = np.dtype(_TYPES[scene.pixel_type])
        self._scene = scene

    def __getitem__(self, index: int | slice | tuple[int | slice, ...], /) -> NDArray[np.generic]:
        from pylibCZIrw import czi

        scene = self._scene
        given = index if isinstance(index, tuple) else (index,)
        given += (slice(None),) * (len(self.shape) - len(given))
        num_leading = len(scene.letters)
        places = [_places(at, size) for at, size in zip(given, self.shape, strict=True)]
        leading, (rows, columns) = places[:num_leading], places[num_leading : num_leading + 2]
        within = tuple(_within(each, at) for each, at in zip(places[num_leading:], given[num_leading:], strict=True))
        kept = [len(each) for each, at in zip(leading, given, strict=False) if isinstance(at, slice)]
        if not all(map(len, places)):
            return np.empty((*kept, *self.shape[num_leading:]), self.dtype)[(..., *given[num_leading:])]
        left, top = scene.left + min(columns), scene.top + min(rows)
        window = left, top, max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
        planes = []
        with czi.open_czi(str(self.path)) as document:
            for chosen in itertools.product(*leading):
                plane = {letter: start for letter, (start, _) in scene.ranges.items()}
                for letter, place in zip(scene.letters, chosen, strict=True):
                    plane[letter] = plane.get(letter, 0) + place
                # a copy: the pixels belong to the file
                pixels = np.array(document.read(roi=window, plane=plane, scene=scene.number), self.dtype)
                # colours are stored as blue, green and red
                planes.append((pixels[..., ::-1] if scene.has_colours else pixels[..., 0])[within])
        return np.stack(planes).reshape((*kept, *planes[0].shape))


def _places(at: int | slice, size: int) -> range:
    """The places along an axis that an index chooses."""
    if isinstance(at, slice):
        return range(size)[at]
    place = range(size)[at]  # raises IndexError
    return range(place, place + 1)


def _within(places: range, at: int | slice) -> int | slice:
    """The index of chosen places in the part of an axis that is read from the first to the last of them."""
    if not isinstance(at, slice):
        return 0
    return slice(None) if places.step > 0 and abs(places.step) == 1 else slice(None, None, places.step)
