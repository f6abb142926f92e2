"""TIFF files of ScanImage: pages that tifffile leaves out, and channels, slices and volumes one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import tifffile

from napari_sam2._errors import warn_caller

__all__ = ["has_left_out_pages", "warn_of_interleaved_pages"]

_MAX_CLASSIC_BYTES = 2**31  # above which the places of pages in an old file cannot be trusted
_VALUE = r"\s*=\s*([^\r\n]+)"
_CHANNELS = re.compile(rf"(?:channelSave|channelsSave){_VALUE}")
_NUM_CHANNELS = re.compile(rf"numberOfChannelsSave{_VALUE}")
_NUM_SLICES = re.compile(rf"(?:actualNumSlices|numSlices|stackNumSlices|numberOfZSlices){_VALUE}")


def has_left_out_pages(tif: tifffile.TiffFile) -> bool:
    """Whether tifffile has worked out the places of pages of an old ScanImage file, which leaves out the last one."""
    return tif.is_scanimage and not tif.is_bigtiff and tif.filehandle.size < _MAX_CLASSIC_BYTES


def warn_of_interleaved_pages(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Warn of a file of ScanImage with channels or slices that are not told apart.

    The channels of a frame follow each other, then frames, slices and volumes, in an order that depends on how the
    stack was acquired; tifffile tells channels apart in files of newer versions only.
    """
    page = tif.pages.first
    text = "\n".join((page.description, page.software))
    if not (page.software.startswith("SI.") or page.description.startswith("state.") or "scanimage.SI" in text):
        return
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if "Z" not in sizes:  # pages without names are read as slices
        sizes["Z"] = sizes.get("I", 1)
    given = (("channels", "C", _num_channels(text)), ("slices", "Z", _number(_NUM_SLICES, text)))
    mixed = [f"{number} {name}" for name, axis, number in given if number > 1 and sizes.get(axis, 1) != number]
    if mixed and len(tif.pages) > 1:
        warn_caller(
            f"{path} is a stack of ScanImage with {' and '.join(mixed)}, whose planes are in the order of acquisition "
            "and are not told apart; export it as OME-TIFF, or pass an array of the right axes"
        )


def _num_channels(text: str) -> int:
    """How many channels were saved; 1 where the text does not say."""
    listed = _CHANNELS.search(text)
    return len(re.findall(r"\d+", listed[1])) if listed else _number(_NUM_CHANNELS, text)


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    digits = re.match(r"\d{1,9}", found[1]) if found else None
    return int(digits[0]) if digits else 1
