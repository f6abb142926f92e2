"""How many bytes a compressed chunk decodes to, from its headers alone: a small file may hold gigabytes of zeros."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

__all__ = ["blosc_length", "decoded_size"]

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 2**17  # bytes: no block decodes to more
_GZIP_MAGIC = b"\x1f\x8b"
_BZ2_MAGIC = b"BZh"
_XZ_MAGIC = b"\xfd7zXZ\0"
_PROBE_BYTES = 2**16  # of a gzip stream, whose header does not state a size
_STEP_BYTES = 2**24  # that are decoded at a time
_BOMB_RATIO = 300  # images are compressed less than this, even empty ones with a frame around


class _Stream(Protocol):
    """A decompressor of bz2 or lzma."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decoded_size(data: bytes | memoryview, limit: int, *, is_lz4: bool = False) -> int:
    """Lower bound of the bytes that a chunk decodes to; 0 where nothing is known.

    Parameters
    ----------
    data : bytes
        A chunk or shard as stored: zstd, blosc, gzip, zlib, bz2, xz, LZ4, or anything else.
    limit : int
        Bytes it may decode to; streams without a size in their header are decoded up to just beyond it where they begin
        like one that is compressed beyond all measure.
    is_lz4 : bool, default False
        The codec is LZ4 of numcodecs, which begins with the size and has no mark of its own.
    """
    head = bytes(data[:18])
    if is_lz4:
        return max(int.from_bytes(head[:4], "little", signed=True), 0)
    if head.startswith(_BZ2_MAGIC):
        return _stream_size(data, limit, bz2.BZ2Decompressor)
    if head.startswith(_XZ_MAGIC):
        return _stream_size(data, limit, lzma.LZMADecompressor)
    if head.startswith(_ZSTD_MAGIC):
        return _zstd_size(data)
    if head.startswith(_GZIP_MAGIC) or (head[:1] == b"\x78" and len(head) > 1 and not int.from_bytes(head[:2]) % 31):
        return _deflate_size(data, limit)
    return _blosc_size(data)


def blosc_length(data: bytes | memoryview) -> int:
    """Bytes that a chunk of blosc 1 has by its header; 0 if it is too short for one."""
    return int(struct.unpack_from("<I", data, 12)[0]) if len(data) >= 16 else 0


def _blosc_size(data: bytes | memoryview) -> int:
    """Sum over the blosc 1 chunks that follow each other, as in a shard."""
    total, at = 0, 0
    while at + 16 <= len(data) and data[at] == 2:  # version, versionlz, flags, typesize, nbytes, blocksize, cbytes
        num_bytes, _, num_stored = struct.unpack_from("<III", data, at + 4)
        if not 16 <= num_stored <= len(data) - at:
            break
        total += num_bytes
        at += num_stored
    return total


def _zstd_size(data: bytes | memoryview) -> int:
    """Sum over the frames of a zstd stream (RFC 8878); blocks are skipped, not decoded."""
    total, at = 0, 0
    while at + 6 <= len(data) and bytes(data[at : at + 4]) == _ZSTD_MAGIC:
        descriptor = data[at + 4]
        is_single, size_code = bool(descriptor & 0x20), descriptor >> 6
        at += 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
        size_bytes = (1 if is_single else 0, 2, 4, 8)[size_code]
        stated = int.from_bytes(data[at : at + size_bytes], "little") + (256 if size_bytes == 2 else 0)
        at += size_bytes
        num_blocks, is_last = 0, False
        while not is_last and at + 3 <= len(data):
            header = int.from_bytes(data[at : at + 3], "little")
            is_last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == 1 else length)  # one byte that is repeated
            num_blocks += 1
        total += stated if size_bytes else (num_blocks - 1) * _ZSTD_BLOCK
        at += 4 * bool(descriptor & 4)  # checksum
    return total


def _deflate_size(data: bytes | memoryview, limit: int) -> int:
    stream = zlib.decompressobj(47)  # gzip or zlib
    try:
        begin = len(stream.decompress(data[:_PROBE_BYTES], _PROBE_BYTES * _BOMB_RATIO))
        if begin < _BOMB_RATIO * min(len(data), _PROBE_BYTES):
            return begin
        total, rest = begin, stream.unconsumed_tail + bytes(data[_PROBE_BYTES:])
        while rest and total <= limit and not stream.eof:
            total += len(stream.decompress(rest, _STEP_BYTES))
            rest = stream.unconsumed_tail
    except zlib.error:
        return 0  # the decoder says what is wrong
    return total


def _stream_size(data: bytes | memoryview, limit: int, open_stream: Callable[[], _Stream]) -> int:
    """Of streams one after the other, decoded up to just beyond the limit."""
    total, rest = 0, bytes(data)
    try:
        while rest and total <= limit:
            stream = open_stream()
            while total <= limit and not stream.eof:
                part = stream.decompress(rest, _STEP_BYTES)
                rest = b""
                total += len(part)
                if not part:
                    break
            if not stream.eof:
                break
            rest = stream.unused_data
    except (OSError, EOFError, lzma.LZMAError):
        return 0  # the decoder says what is wrong
    return total
