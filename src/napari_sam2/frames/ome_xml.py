"""OME-XML in TIFF files and beside them: the files that an image is spread over."""

from __future__ import annotations

import contextlib
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

import tifffile

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import one_line, shown

__all__ = [
    "channel_colours",
    "channel_names",
    "check_beside",
    "companion_xml",
    "files_of_images",
    "named_files",
    "parse_ome_xml",
    "read_ome_xml",
    "tag_of",
]

_MAX_COMPANION_BYTES = 2**25
_LONG_TEXT = 2**20  # of which the depth is looked at first
_MAX_DEPTH = 1000


def companion_xml(path: Path) -> str | None:
    """The OME-XML in the file that a part of an OME-TIFF refers to; None for files that describe themselves."""
    with tifffile.TiffFile(path) as tif:
        text = tif.ome_metadata if tif.is_ome else None
    if not text or "BinaryOnly" not in text:
        return None
    named = [
        element.get("MetadataFile") for element in parse_ome_xml(text, path).iter() if tag_of(element) == "BinaryOnly"
    ]
    if not named or not named[0]:
        return None
    companion = path.resolve().parent / named[0]
    check_beside(path, named[0])
    if not companion.is_file():
        warn_caller(
            f"{path} is one file of the image that {named[0]} describes, which is not beside it; only the planes of "
            "this file are read"
        )
        return None
    return read_ome_xml(companion)


def read_ome_xml(path: Path) -> str:
    """The OME-XML of a text file or of an OME-TIFF."""
    with path.open("rb") as file:
        is_tiff = file.read(2) in (b"II", b"MM")
    if is_tiff:
        with tifffile.TiffFile(path) as tif:
            return tif.ome_metadata or ""
    if path.stat().st_size > _MAX_COMPANION_BYTES:
        raise FrameError(f"{path} has {path.stat().st_size:,} bytes, more than the text of an OME-TIFF takes")
    return path.read_text(encoding="utf-8", errors="replace")


def parse_ome_xml(text: str, path: Path) -> ET.Element:
    """The root of the OME-XML of a file; raises FrameError."""
    try:
        if len(text) > _LONG_TEXT:
            _check_depth(text, path)
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise FrameError(
            f"the OME-XML of {path} cannot be read ({one_line(error)}); export the file again, or save it as plain TIFF"
        ) from error


def _check_depth(text: str, path: Path) -> None:
    """Refuse elements that are nested without end, before they are kept."""
    depth = 0

    def begin(_name: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise FrameError(
                f"the OME-XML of {path} has elements nested more than {_MAX_DEPTH} deep; the file is damaged"
            )

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with contextlib.suppress(expat.ExpatError):  # whoever reads it says what is wrong
        parser.Parse(text, True)


def tag_of(element: ET.Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def named_files(root: ET.Element) -> list[str]:
    """The files that the UUID elements of OME-XML name, each once, in their order."""
    names = (element.get("FileName") for element in root.iter() if tag_of(element) == "UUID")
    return list(dict.fromkeys(name for name in names if name))


def files_of_images(root: ET.Element) -> list[tuple[str, ...]]:
    """The files that each image of OME-XML names, images that share a file together; each once, in their order."""
    groups: list[list[str]] = []
    for image in (element for element in root.iter() if tag_of(element) == "Image"):
        names = named_files(image)
        shared = [group for group in groups if not set(group).isdisjoint(names)]
        groups = [group for group in groups if group not in shared]
        if names:
            groups.append(list(dict.fromkeys([name for group in shared for name in group] + names)))
    return [tuple(group) for group in groups]


def channel_names(pixels: ET.Element | None) -> tuple[str, ...]:
    """Names of the channels of a Pixels element; empty where no channel has one."""
    names = [" ".join((channel.get("Name") or "").split()) for channel in _channels(pixels)]
    return tuple(names) if any(names) else ()


def channel_colours(pixels: ET.Element | None) -> tuple[str, ...]:
    """Colours of the channels of a Pixels element as ``"#rrggbb"``; empty where not each channel has one."""
    colours = []
    for channel in _channels(pixels):
        try:
            rgba = int(channel.get("Color", ""))  # red, green, blue and opacity in 32 bits, with or without a sign
        except ValueError:
            return ()
        colours.append(f"#{(rgba & 0xFFFFFFFF) >> 8:06x}")
    return tuple(colours)


def _channels(pixels: ET.Element | None) -> list[ET.Element]:
    return [] if pixels is None else [element for element in pixels if tag_of(element) == "Channel"]


def check_beside(path: Path, name: str) -> None:
    """Refuse OME-XML that names files elsewhere."""
    folder = path.resolve().parent
    companion = (folder / name).resolve()
    if folder not in companion.parents or (companion.exists() and not companion.is_file()):
        raise FrameError(f"the OME-XML of {path} names {shown(name)}; expected files in the same folder")
