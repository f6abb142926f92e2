"""Datasets of Micro-Manager: the list of images of NDTiff, and names of channels in the order of their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2._messages import shown
from napari_sam2.frames.spacing import Spacing, read_distance

__all__ = [
    "INDEX_NAME",
    "NdtiffIndex",
    "folder_channels",
    "is_folder_of_planes",
    "positions_named",
    "read_ndtiff",
    "stack_channels",
    "step_in_z",
    "warn_of_order",
]

INDEX_NAME = "NDTiff.index"
_METADATA_NAME = "metadata.txt"  # of a folder with one file for each plane
_MAX_SUMMARY_AT = 2**16  # bytes of it, in which its first entry lies
_MAX_BYTES = 2**25  # of its text
_MAX_PLANES = 2**20
_KINDS = ("mmstack", "ndtiff")  # tifffile's names
_EXPORT = "copy the whole folder again, or export it from Micro-Manager as OME-TIFF"


class NdtiffIndex(NamedTuple):
    """What the list of images of an NDTiff dataset says.

    Attributes
    ----------
    first : Path
        The file that opens as the whole dataset.
    channel_names : tuple of str
        In the order in which they were acquired first; empty where channels have numbers only.
    """

    first: Path
    channel_names: tuple[str, ...]


def read_ndtiff(folder: Path) -> NdtiffIndex:
    """Read and check the list of images of an NDTiff dataset.

    Parameters
    ----------
    folder : Path
        With the files and ``NDTiff.index``.

    Returns
    -------
    NdtiffIndex
        The file to open, and names of channels.

    Raises
    ------
    FrameError
        If the list is empty or damaged, names files that are not there, or announces more planes than are allowed.
    """
    place = folder / INDEX_NAME
    if not place.is_file():
        raise FrameError(f"{place} is not a regular file; {_EXPORT}")
    files: dict[str, None] = {}
    values: dict[str, dict[int | str, None]] = {}
    entries: Iterable[tuple[Any, ...]] = tifffile.read_ndtiff_index(place)  # of a damaged list axes may be anything
    for axes, name, *_ in entries:
        files[name] = None
        if not isinstance(axes, dict) or (values and set(axes) != set(values)):
            raise FrameError(f"{place} lists images with different axes, which are not read; {_EXPORT}")
        for axis, value in axes.items():
            if not isinstance(value, int | str):
                raise FrameError(f"{place} lists the place {str(value)[:20]} along the axis {shown(axis)}; {_EXPORT}")
            values.setdefault(axis, {})[value] = None
    if files and not _is_whole(place):
        raise FrameError(f"{place} ends in the middle of an image's entry; {_EXPORT}")
    if not files:
        raise FrameError(f"{place} lists no image: it is empty or damaged; {_EXPORT}")
    missing = [name for name in files if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise FrameError(
            f"{place} lists {len(files)} files, of which {shown(missing[0])} is not in the folder; {_EXPORT}"
        )
    lengths = []
    for axis, found in values.items():
        numbers = [value for value in found if isinstance(value, int) and not isinstance(value, bool)]
        if numbers and len(numbers) < len(found):
            raise FrameError(f"{place} lists numbers and names along the axis {shown(axis)}; {_EXPORT}")
        lengths.append(max(numbers) - min(numbers) + 1 if numbers else len(found))
    if math.prod(lengths) > _MAX_PLANES:
        raise FrameError(
            f"{place} announces {math.prod(lengths):,} planes, more than the {_MAX_PLANES:,} that are allowed; it is "
            "damaged"
        )
    channels = tuple(str(name) for name in values.get("channel", ()) if isinstance(name, str))
    return NdtiffIndex(folder / next(iter(files)), channels)


def _is_whole(place: Path) -> bool:
    """Whether a list of images ends after an entry: two texts with their lengths, and eight numbers."""
    at, size = 0, place.stat().st_size
    with place.open("rb") as file:
        while at < size:
            for following in (0, 32):
                file.seek(at)
                at += 4 + int.from_bytes(file.read(4), "little") + following
    return at == size


def positions_named(axes: str, kind: str) -> str:
    """Axes of a series of Micro-Manager, whose positions are rounds (R) in tifffile's letters."""
    return axes.replace("R", "P") if kind.lower() in _KINDS and "P" not in axes else axes


def warn_of_order(tif: tifffile.TiffFile, kind: str, path: Path) -> None:
    """Warn of a file of Micro-Manager with several planes whose list of axes is lost or of an old version."""
    if tif.is_micromanager and len(tif.pages) > 1 and kind.lower() not in (*_KINDS, "ome", "imagej"):
        warn_caller(
            f"{path} is a stack of Micro-Manager whose list of axes ({INDEX_NAME}) is not beside it or not read: its "
            "planes are in the order of acquisition; if there are several channels, slices, times or positions, export "
            "it as OME-TIFF"
        )


def stack_channels(tif: tifffile.TiffFile, kind: str, path: Path) -> tuple[str, ...]:
    """Names of all channels of a series of Micro-Manager; empty for other files.

    The file is open.
    """
    if kind.lower() == "ndtiff":
        return read_ndtiff(path.parent).channel_names
    return _names(_summary(tif)) if kind.lower() == "mmstack" else ()


def step_in_z(tif: tifffile.TiffFile, path: Path) -> Spacing | None:
    """Distance of planes in the summary of a file of Micro-Manager; None where it says nothing."""
    value = read_distance(_summary(tif).get("z-step_um") or None, "Z", path, may_be_negative=True)
    return None if value is None else Spacing(value, "micrometer")


def is_folder_of_planes(folder: Path) -> bool:
    """Whether Micro-Manager wrote a folder with one file for each plane, which its metadata lists."""
    place = folder / _METADATA_NAME
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return b'"Summary"' in file.read(_MAX_SUMMARY_AT)


def folder_channels(folder: Path) -> tuple[str, ...]:
    """Names of all channels in the metadata of a folder with one file for each plane; empty where there is none."""
    place = folder / _METADATA_NAME
    if not place.is_file() or place.stat().st_size > _MAX_BYTES:
        return ()
    try:
        noted = json.loads(place.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return ()
    return _names(noted.get("Summary") if isinstance(noted, dict) else None)


def _summary(tif: tifffile.TiffFile) -> dict[str, object]:
    try:
        noted = tif.micromanager_metadata if tif.is_micromanager else None
    except ValueError:  # the beginning of the file is that of another program
        return {}
    summary = noted.get("Summary") if noted else None
    return summary if isinstance(summary, dict) else {}


def _names(summary: object) -> tuple[str, ...]:
    names = summary.get("ChNames") if isinstance(summary, dict) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()
