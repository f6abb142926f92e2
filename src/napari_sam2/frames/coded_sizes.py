"""Sizes in the headers of JPEG XL, JPEG XR and LERC data, read without decoding them."""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["coded_size"]

_XL_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # of width to height; 0: none
_XL_BITS = (9, 13, 18, 30)
_XR_WIDTH, _XR_HEIGHT = 0xBC80, 0xBC81  # tags


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of JPEG XL, JPEG XR or LERC data.

    Parameters
    ----------
    data : bytes
        The beginning of the data.

    Returns
    -------
    tuple of (int, int) or None
        None for data of another kind, or whose header is not complete.

    References
    ----------
    .. [1] ISO/IEC 18181-1 (JPEG XL), annex D: size header; ISO/IEC 29199-2 (JPEG XR), annex A: file format.
    """
    try:
        if data.startswith(b"Lerc2 "):
            (version,) = struct.unpack_from("<i", data, 6)
            rows, columns = struct.unpack_from("<ii", data, 14 if version >= 3 else 10)  # 3: a checksum comes before
            return columns, rows
        if data.startswith(b"II\xbc"):
            return _xr_size(data)
        start = data.find(b"\xff\x0a", 0, 4096) if data[4:8] == b"JXL " else 0  # in boxes, or by itself
        if start >= 0 and data[start : start + 2] == b"\xff\x0a":
            return _xl_size(data[start + 2 : start + 14])
    except (struct.error, IndexError):
        pass
    return None


def _xr_size(data: bytes) -> tuple[int, int] | None:
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    found: dict[int, int] = {}
    for entry in range(count):
        tag, kind, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        found[tag] = value & 0xFFFF if kind == 3 else value
    return (found[_XR_WIDTH], found[_XR_HEIGHT]) if {_XR_WIDTH, _XR_HEIGHT} <= found.keys() else None


class _Bits(NamedTuple):
    """Bits of bytes, the lowest first."""

    value: int

    def at(self, start: int, count: int) -> int:
        return self.value >> start & ((1 << count) - 1)


def _xl_size(data: bytes) -> tuple[int, int]:
    bits, is_small = _Bits(int.from_bytes(data, "little")), bool(data[0] & 1)
    height, position = _xl_side(bits, 1, is_small=is_small)
    ratio = bits.at(position, 3)
    if ratio:
        across, down = _XL_RATIOS[ratio]
        return height * across // down, height
    return _xl_side(bits, position + 3, is_small=is_small)[0], height


def _xl_side(bits: _Bits, position: int, *, is_small: bool) -> tuple[int, int]:
    """A side of the image, and the position after it."""
    if is_small:
        return 8 * (bits.at(position, 5) + 1), position + 5
    count = _XL_BITS[bits.at(position, 2)]
    return bits.at(position + 2, count) + 1, position + 2 + count
