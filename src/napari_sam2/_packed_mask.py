"""Masks as packed bits of their bounding box, small enough to keep thousands in memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PackedImage", "PackedMask"]

_COMPRESS_ABOVE = 512  # bytes: smaller masks are not worth compressing


@dataclass(frozen=True)
class PackedMask:
    """The pixels of one mask, as bits of its bounding box; without arguments an empty mask.

    Attributes
    ----------
    box : tuple of int
        y0, x0, y1, x1 of the bounding box, the ends exclusive; all 0 for an empty mask.
    data : bytes
        The pixels of the box row by row, one bit each, compressed with zlib where that takes more than 512 bytes.
    area : int
        Number of pixels.
    """

    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    data: bytes = b""
    area: int = 0

    @classmethod
    def pack(cls, mask: NDArray[np.bool_], *, origin_yx: tuple[int, int] = (0, 0)) -> PackedMask:
        """Pack an (h, w) bool mask whose first pixel lies at ``origin_yx`` of the image."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls()
        y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inner = mask[y0:y1, x0:x1]
        data = np.packbits(inner).tobytes()
        if len(data) > _COMPRESS_ABOVE:
            data = zlib.compress(data, 1)
        dy, dx = origin_yx
        return cls((y0 + dy, x0 + dx, y1 + dy, x1 + dx), data, int(np.count_nonzero(inner)))

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        y0, x0, y1, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    def pixels(self) -> NDArray[np.bool_]:
        """(h, w) bool, the pixels of the box.

        Raises
        ------
        PromptError
            If ``data`` does not hold the pixels of the box, as in a damaged file; no more than these are decompressed.
        """
        y0, x0, y1, x1 = self.box
        count = max(y1 - y0, 0) * max(x1 - x0, 0)
        num_bytes = (count + 7) // 8
        bits = self.data if num_bytes <= _COMPRESS_ABOVE else _decompress(self.data, num_bytes)
        if len(bits) != num_bytes:
            raise PromptError(f"a packed mask holds {len(bits)} bytes; its box {self.box} needs {num_bytes}")
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), count=count)
        return unpacked.reshape(max(y1 - y0, 0), max(x1 - x0, 0)).astype(bool)

    def to_image(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """(H, W) bool, the mask in an image of that size."""
        mask = np.zeros(hw, bool)
        if self.area:
            mask[self.window] = self.pixels()
        return mask

    def overlaps(self, other: PackedMask) -> bool:
        """Whether the two masks share a pixel."""
        (top, left, bottom, right), box = self.box, other.box
        y0, x0, y1, x1 = max(top, box[0]), max(left, box[1]), min(bottom, box[2]), min(right, box[3])
        if y0 >= y1 or x0 >= x1:
            return False
        mine = self.pixels()[y0 - top : y1 - top, x0 - left : x1 - left]
        theirs = other.pixels()[y0 - box[0] : y1 - box[0], x0 - box[1] : x1 - box[1]]
        return bool((mine & theirs).any())

    def without(self, taken: NDArray[np.bool_]) -> PackedMask:
        """The mask minus the pixels of an (H, W) mask; itself where they do not overlap."""
        if not self.area or not taken[self.window].any():
            return self
        left = self.pixels() & ~taken[self.window]
        if int(np.count_nonzero(left)) == self.area:
            return self
        return PackedMask.pack(left, origin_yx=self.box[:2])


@dataclass(frozen=True)
class PackedImage:
    """A mask of a whole image, packed.

    Attributes
    ----------
    hw : tuple of int
        Height and width of the image.
    mask : PackedMask
        Its pixels.
    """

    hw: tuple[int, int]
    mask: PackedMask

    @classmethod
    def pack(cls, mask: NDArray[np.bool_]) -> PackedImage:
        """Pack an (H, W) bool mask."""
        return cls((mask.shape[0], mask.shape[1]), PackedMask.pack(mask))

    def to_array(self) -> NDArray[np.bool_]:
        """(H, W) bool, a new array."""
        return self.mask.to_image(self.hw)


def _decompress(data: bytes, num_bytes: int) -> bytes:
    """At most one byte more than expected, so that a small damaged or hostile blob cannot fill the memory."""
    try:
        return zlib.decompressobj().decompress(data, num_bytes + 1)
    except zlib.error as error:
        raise PromptError(f"a packed mask cannot be decompressed ({error})") from error
