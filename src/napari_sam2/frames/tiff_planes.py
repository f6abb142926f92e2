"""Pixels of a TIFF, read one plane, or a part of one, at a time."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2.frames.coded_sizes import coded_size
from napari_sam2.frames.pictures import picture_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_sam2.frames.stack import LazyArray

__all__ = ["ContiguousPlanes", "PagedPlanes", "TiffLimits", "TiffPages", "WithoutAlpha"]

TiffPages = list[tifffile.TiffPage | tifffile.TiffFrame | None]
_HEADER_BYTES = 2**16  # of a strip or tile, in which the header of its picture lies
_PICTURES = (  # compressions whose strips and tiles are whole pictures with a header of their own
    tifffile.COMPRESSION.OJPEG,
    tifffile.COMPRESSION.JPEG,
    tifffile.COMPRESSION.JPEG_LOSSY,
    tifffile.COMPRESSION.ALT_JPEG,
    tifffile.COMPRESSION.APERIO_JP2000_YCBC,
    tifffile.COMPRESSION.JPEG_2000_LOSSY,
    tifffile.COMPRESSION.APERIO_JP2000_RGB,
    tifffile.COMPRESSION.JPEG2000,
    tifffile.COMPRESSION.WEBP,
    tifffile.COMPRESSION.PNG,
    tifffile.COMPRESSION.JPEGXL,
    tifffile.COMPRESSION.JPEGXL_DNG,
    tifffile.COMPRESSION.JPEGXR,
    tifffile.COMPRESSION.JPEGXR_NDPI,
    tifffile.COMPRESSION.LERC,
)


@dataclass(frozen=True)
class TiffLimits:
    """What a file may claim; beyond it is refused, as it would fill memory or never end.

    Attributes
    ----------
    max_planes : int
        Planes that OME-XML or ImageJ's text may announce.
    max_segment_bytes : int
        Decoded size of a compressed strip or tile that is decoded with any compression.
    max_ratio : int
        Above that size: how many times larger than in the file it may become.
    max_whole_bytes : int
        Decoded size of a plane that is decoded as a whole where only a part is read.
    max_levels : int
        Coarser levels of a page.
    """

    max_planes: int = 2**20
    max_segment_bytes: int = 2**28
    max_ratio: int = 200
    max_whole_bytes: int = 2**25
    max_levels: int = 100


class WithoutAlpha:
    """The first of two samples that lie side by side."""

    def __init__(self, array: LazyArray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape[:-1], array.dtype

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        return np.asarray(self._array[(*index, 0)])


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
        rows = slice(None)
        if trailing and isinstance(trailing[0], slice) and trailing[0].step in (None, 1):
            rows, trailing = trailing[0], (slice(None), *trailing[1:])  # only these rows are read
        return _gather(lambda n: self._read_rows(n, rows), self.shape[: self._num_leading], leading)[(..., *trailing)]

    def warn_if_truncated(self) -> None:
        """Say how many frames can be read of a file that ends too early."""
        num_blocks, num_whole = math.prod(self.shape[: self._num_leading]), self._num_whole_blocks()
        if num_whole < num_blocks:
            warn_caller(f"{self.path} is truncated: {num_whole} of {num_blocks} frames can be read")

    def _num_whole_blocks(self) -> int:
        num_bytes = math.prod(self.shape[self._num_leading :]) * self.dtype.itemsize
        return min((self.path.stat().st_size - self._offset) // num_bytes, math.prod(self.shape[: self._num_leading]))

    def _read_rows(self, position: int, rows: slice) -> NDArray[np.generic]:
        shape = self.shape[self._num_leading :]
        wanted = range(shape[0])[rows]
        row_size = math.prod(shape[1:])
        start = self._offset + (position * shape[0] + wanted.start) * row_size * self.dtype.itemsize
        if start + len(wanted) * row_size * self.dtype.itemsize > self.path.stat().st_size:
            raise FrameError(
                f"{self.path} is truncated: {max(self._num_whole_blocks(), 0)} of "
                f"{math.prod(self.shape[: self._num_leading])} frames can be read; copy the file again"
            )
        block = np.fromfile(self.path, self.dtype, len(wanted) * row_size, offset=start)
        return block.reshape(len(wanted), *shape[1:]).astype(self.dtype.newbyteorder("="), copy=False)


class PagedPlanes:
    """Pages of a TIFF, decoded one at a time (compressed, tiled, scattered, or spread over several files)."""

    def __init__(
        self,
        pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame | None],
        axes: str,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        limits: TiffLimits,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._pages = pages
        self._limits = limits
        self._lock = threading.Lock()  # pages share one file handle
        splits = [k for k in range(len(shape) + 1) if math.prod(shape[:k]) == len(pages)]
        if not splits:
            raise FrameError(f"{len(pages)} pages do not make up an image of shape {shape}; the file is incomplete")
        self._num_leading = splits[0]
        self._page_axes = axes[self._num_leading :]

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[np.generic]:
        leading, trailing = index[: self._num_leading], index[self._num_leading :]
        part = self._part(trailing)
        if part is not None:
            rows, columns = part
            trailing = tuple(slice(None) if isinstance(i, slice) else i for i in trailing)
            read = lambda n: self._read_part(n, rows, columns)  # noqa: E731
        else:
            read = self._read_block
        return _gather(read, self.shape[: self._num_leading], leading)[(..., *trailing)]

    def _part(self, trailing: tuple[int | slice, ...]) -> tuple[range, range] | None:
        """Rows and columns of an index that asks for a small part of large pages."""
        shape = self.shape[self._num_leading :]
        if math.prod(shape) * self.dtype.itemsize <= self._limits.max_whole_bytes:
            return None
        if self._page_axes not in ("YX", "YXS") or len(trailing) < 2:
            return None
        rows, columns = trailing[:2]
        if not isinstance(rows, slice) or not isinstance(columns, slice):
            return None
        chosen = range(shape[0])[rows], range(shape[1])[columns]
        is_small = len(chosen[0]) * len(chosen[1]) * 2 <= shape[0] * shape[1]
        return chosen if is_small and chosen[0].step == chosen[1].step == 1 else None

    def _read_block(self, position: int) -> NDArray[np.generic]:
        shape, page = self.shape[self._num_leading :], self._pages[position]
        if page is None:
            return np.zeros(shape, self.dtype)
        segments = range(len(page.databytecounts))
        self._check_segments(page, segments)
        handle = page.parent.filehandle
        with self._lock:
            handle.open()  # the file was closed after its directory had been read
            try:
                _check_pictures(page, segments)
                plane = page.asarray(maxworkers=1)
            finally:
                handle.close()
        return np.asarray(plane).reshape(shape)

    def _read_part(self, position: int, rows: range, columns: range) -> NDArray[np.generic]:
        """(h, w) or (h, w, S) of a page, decoding only the strips or tiles that it touches."""
        page = self._pages[position]
        shape = (len(rows), len(columns), *self.shape[self._num_leading + 2 :])
        part = np.zeros(shape, self.dtype)
        if page is None:
            return part
        keyframe = page.keyframe
        if keyframe is None:
            raise FrameError(f"{page.parent.filehandle.path} holds a page without a description; export it again")
        touched = list(_touched_segments(keyframe, len(page.databytecounts), rows, columns))
        self._check_segments(page, [segment for segment, *_ in touched])
        target = part if part.ndim == 3 else part[..., None]
        handle = page.parent.filehandle
        with self._lock:
            handle.open()
            try:
                _check_pictures(page, [segment for segment, *_ in touched])
                for segment, top, left in touched:
                    if not page.databytecounts[segment]:
                        continue  # a tile that was not written
                    handle.seek(page.dataoffsets[segment])
                    data = handle.read(page.databytecounts[segment])
                    found = keyframe.decode(data, segment, jpegtables=page.jpegtables, jpegheader=keyframe.jpegheader)
                    if found[0] is not None:
                        _paste(target, np.asarray(found[0])[0], top - rows.start, left - columns.start)
            finally:
                handle.close()
        return part

    def _check_segments(self, page: tifffile.TiffPage | tifffile.TiffFrame, segments: Sequence[int]) -> None:
        """Refuse strips and tiles that claim to be far larger than what the file holds of them."""
        keyframe = page.keyframe
        if keyframe is None or not segments:
            return
        claimed = math.prod(keyframe.chunks) * self.dtype.itemsize
        held = max(page.databytecounts[i] for i in segments)
        if claimed > self._limits.max_segment_bytes and claimed > self._limits.max_ratio * held:
            raise FrameError(
                f"{page.parent.filehandle.path} claims {claimed:,} bytes in a strip or tile of which the file holds "
                f"{held:,}; write it in smaller tiles if that is right"
            )


def _check_pictures(page: tifffile.TiffPage | tifffile.TiffFrame, segments: Sequence[int]) -> None:
    """Refuse strips and tiles whose own header claims a far larger picture: decoders follow it, not the TIFF.

    The file is open.
    """
    keyframe, handle = page.keyframe, page.parent.filehandle
    if keyframe is None or keyframe.compression not in _PICTURES:
        return
    allowed = 4 * math.prod(keyframe.chunks[:2])  # padded to whole blocks
    for segment in segments:
        handle.seek(page.dataoffsets[segment])
        start = handle.read(min(page.databytecounts[segment], _HEADER_BYTES))
        size = coded_size(start) or picture_size(start)
        if size is not None and math.prod(size) > max(allowed, _HEADER_BYTES):
            raise FrameError(
                f"{handle.path} holds a picture of {size[0]:,} x {size[1]:,} pixels in a strip or tile of "
                f"{keyframe.chunks[1]:,} x {keyframe.chunks[0]:,}; the file is damaged"
            )


def _touched_segments(
    keyframe: tifffile.TiffPage, count: int, rows: range, columns: range
) -> Iterator[tuple[int, int, int]]:
    """Index, first row and first column of the strips or tiles that a part of a page touches."""
    height, width = keyframe.chunks[:2]
    per_row = -(-keyframe.imagewidth // width)
    for y in range(rows.start // height, -(-rows.stop // height)):
        for x in range(columns.start // width, -(-columns.stop // width)):
            if y * per_row + x < count:
                yield y * per_row + x, y * height, x * width


def _paste(target: NDArray[Any], segment: NDArray[Any], top: int, left: int) -> None:
    """Copy a (h, w, S) segment into a (H, W, S) target; its first pixel may lie outside."""
    y, x = max(top, 0), max(left, 0)
    inside = segment[y - top :, x - left :][: target.shape[0] - y, : target.shape[1] - x]
    target[y : y + inside.shape[0], x : x + inside.shape[1]] = inside


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
