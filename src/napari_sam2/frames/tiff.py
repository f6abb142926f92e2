"""TIFF, OME-TIFF and ImageJ TIFF as lazily read stacks: one plane is fetched from the file at a time."""

from __future__ import annotations

import itertools
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_sam2._errors import FrameError
from napari_sam2.frames.spacing import Spacing, unit_name
from napari_sam2.frames.stack import READ_ERRORS, RawStack, one_line

__all__ = ["TIFF_SUFFIXES", "open_tiff"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk")


def open_tiff(path: Path, level: int = 0) -> RawStack:
    """Describe the first series of a TIFF file without reading its pixels.

    Parameters
    ----------
    path : Path
        An existing file.
    level : int, default 0
        Level of a pyramid; 0 is the full resolution.

    Returns
    -------
    RawStack
        Holds no open file; each read opens and closes it.

    Raises
    ------
    FrameError
        If the file is not a TIFF, holds no image, is damaged, or has no such level.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            return _describe(tif, path, level)
    except FrameError:
        raise
    except READ_ERRORS as error:
        raise FrameError(
            f"{path} cannot be read as a TIFF ({one_line(error)}); check or export the file again"
        ) from error


def _describe(tif: tifffile.TiffFile, path: Path, level: int) -> RawStack:
    if not tif.series:
        raise FrameError(f"{path} holds no image")
    series = tif.series[0]
    if len(tif.series) > 1:
        warnings.warn(f"{path} holds {len(tif.series)} images; the first is read", stacklevel=5)
    if not 0 <= level < len(series.levels):
        raise FrameError(f"level {level} of {path} was asked for; it has {len(series.levels)}, 0 is the finest")
    full, series = series, series.levels[level]
    axes, shape = series.axes, tuple(series.shape)
    array: ContiguousPlanes | PagedPlanes
    offset = None if getattr(full, "is_multifile", False) else series.dataoffset
    if offset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        array = ContiguousPlanes(path, offset, shape, dtype, num_leading=_first_of(axes, "YX"))
    else:
        pages = list(series.pages)
        missing = sum(page is None for page in pages)  # OME-XML may announce planes that were never written
        if missing:
            warnings.warn(f"{missing} of {len(pages)} planes of {path} are missing and are read as zeros", stacklevel=5)
        array = PagedPlanes(pages, shape, np.dtype(series.dtype))
    voxel_size = {
        axis: Spacing(spacing.value * _zoom(axis, full, series), spacing.unit)
        for axis, spacing in _voxel_size(tif).items()
        if axis in axes or axis in "YX"
    }
    is_rgb = True if "S" in axes else None
    return RawStack(array, str(path), f"tiff:{level}", axes, voxel_size, is_rgb)


def _first_of(axes: str, letters: str) -> int:
    return min(axes.index(letter) for letter in letters if letter in axes)


def _zoom(axis: str, full: tifffile.TiffPageSeries, level: tifffile.TiffPageSeries) -> float:
    """How many pixels of the finest level lie in one of this level, along one axis."""
    if axis not in full.axes or axis not in level.axes:
        return 1.0
    return full.shape[full.axes.index(axis)] / level.shape[level.axes.index(axis)]


class ContiguousPlanes:
    """Uncompressed planes one after another in a file: a plane is one seek and one read."""

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], num_leading: int
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._offset = offset
        self._num_leading = num_leading

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        leading, trailing = index[: self._num_leading], index[self._num_leading :]
        return _gather(self._read_block, self.shape[: self._num_leading], leading)[(..., *trailing)]

    def _read_block(self, position: int) -> NDArray[np.generic]:
        shape = self.shape[self._num_leading :]
        count = math.prod(shape)
        offset = self._offset + position * count * self.dtype.itemsize
        block = np.fromfile(self.path, self.dtype, count, offset=offset)
        if block.size != count:
            raise FrameError(f"{self.path} is truncated: {self.shape} of {self.dtype} were announced; copy it again")
        return block.reshape(shape).astype(self.dtype.newbyteorder("="), copy=False)


class PagedPlanes:
    """Pages of a TIFF, decoded one at a time (compressed, tiled, scattered, or spread over several files)."""

    def __init__(
        self,
        pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame | None],
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._pages = pages
        self._lock = threading.Lock()  # pages share one file handle
        splits = [k for k in range(len(shape) + 1) if math.prod(shape[:k]) == len(pages)]
        if not splits:
            raise FrameError(f"{len(pages)} pages do not make up an image of shape {shape}; the file is incomplete")
        self._num_leading = splits[0]

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        leading, trailing = index[: self._num_leading], index[self._num_leading :]
        return _gather(self._read_block, self.shape[: self._num_leading], leading)[(..., *trailing)]

    def _read_block(self, position: int) -> NDArray[np.generic]:
        shape, page = self.shape[self._num_leading :], self._pages[position]
        if page is None:
            return np.zeros(shape, self.dtype)
        handle = page.parent.filehandle
        with self._lock:
            handle.open()  # the file was closed after its directory had been read
            try:
                plane = page.asarray(maxworkers=1)
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                plane = _decode_by_pillow(page, self.dtype)
            finally:
                handle.close()
        return np.asarray(plane).reshape(shape)


def _decode_by_pillow(page: tifffile.TiffPage | tifffile.TiffFrame, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Pixels of a page whose compression tifffile knows only with imagecodecs: LZW, JPEG and fax in common layouts."""
    path, keyframe = page.parent.filehandle.path, page.keyframe
    if keyframe is not None:
        with Image.open(path, formats=["TIFF"]) as image:
            image.seek(page.index)
            plane = np.asarray(image)
        # a pyramid's smaller levels are out of Pillow's reach: their index finds a page of another size
        if plane.size == keyframe.size and (plane.dtype.kind, plane.dtype.itemsize) == (dtype.kind, dtype.itemsize):
            return plane
    compression = getattr(getattr(keyframe, "compression", None), "name", "an unusual method")
    raise FrameError(f"{path} is compressed by {compression}, which needs another package: pip install imagecodecs")


def _gather(
    read_block: Callable[[int], NDArray[np.generic]], sizes: tuple[int, ...], index: tuple[int | slice, ...]
) -> NDArray[np.generic]:
    """Blocks at an index of integers and slices over the leading dimensions; slices keep their dimension."""
    ranges = [range(size)[i] if isinstance(i, slice) else (int(i),) for size, i in zip(sizes, index, strict=True)]
    kept = [len(r) for r, i in zip(ranges, index, strict=True) if isinstance(i, slice)]
    blocks = [read_block(_ravel(at, sizes)) for at in itertools.product(*ranges)]
    return np.stack(blocks).reshape(*kept, *blocks[0].shape) if kept else blocks[0]


def _ravel(at: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(at, sizes)) if sizes else 0


def _voxel_size(tif: tifffile.TiffFile) -> dict[str, Spacing]:
    if tif.is_ome and tif.ome_metadata:
        return _ome_voxel_size(tif.ome_metadata)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_voxel_size(tif)
    if tif.is_shaped and tif.shaped_metadata:
        return _shaped_voxel_size(tif.shaped_metadata[0])
    return {}


def _ome_voxel_size(xml: str) -> dict[str, Spacing]:
    pixels = next((e for e in ET.fromstring(xml).iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return {}
    found = {}
    for axis, name, default in (
        ("X", "PhysicalSizeX", "µm"),
        ("Y", "PhysicalSizeY", "µm"),
        ("Z", "PhysicalSizeZ", "µm"),
        ("T", "TimeIncrement", "s"),
    ):
        value = float(pixels.get(name, 0))
        if value > 0 and math.isfinite(value):
            found[axis] = Spacing(value, unit_name(pixels.get(f"{name}Unit", default)))
    return found


def _imagej_voxel_size(tif: tifffile.TiffFile) -> dict[str, Spacing]:
    metadata = tif.imagej_metadata or {}
    unit = unit_name(str(metadata.get("unit", "")))
    found = {}
    if unit:  # without a unit the resolution tags are dots per inch for printers
        tags = tif.pages[0].tags  # type: ignore[union-attr]
        for axis, tag in (("X", "XResolution"), ("Y", "YResolution")):
            pixels, units = tags[tag].value if tag in tags else (0, 1)
            if pixels > 0 and units > 0:
                found[axis] = Spacing(units / pixels, unit)
        if float(metadata.get("spacing", 0)) > 0:
            found["Z"] = Spacing(float(metadata["spacing"]), unit)
    if float(metadata.get("finterval", 0)) > 0:
        found["T"] = Spacing(float(metadata["finterval"]), unit_name(str(metadata.get("tunit", "s"))))
    return found


def _shaped_voxel_size(metadata: dict[str, object]) -> dict[str, Spacing]:
    """What this package's own int32 label files say: ``{"spacing": {"Z": [0.5, "micrometer"], ...}}``."""
    spacing = metadata.get("spacing")
    if not isinstance(spacing, dict):
        return {}
    pairs = ((str(axis), pair) for axis, pair in spacing.items())
    return {a: Spacing(float(p[0]), unit_name(str(p[1]))) for a, p in pairs if isinstance(p, list) and len(p) == 2}
