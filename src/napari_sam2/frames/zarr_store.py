"""Folders and zip files of zarr of which nothing is read that is larger than it can be, or no regular file."""

from __future__ import annotations

import math
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.storage import LocalStore, ZipStore

from napari_sam2._errors import FrameError
from napari_sam2.frames.chunk_claims import blosc_length, decoded_size

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["ChunkClaims", "GuardedStore", "GuardedZipStore", "chunk_claims"]

_MAX_PLAIN_BYTES = 2**27  # a chunk of more must hold a part of that in its file
_MAX_RATIO = 200
_MAX_METADATA_BYTES = 2**26
_COMPRESSORS = ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd")
_METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


@dataclass(frozen=True)
class ChunkClaims:
    """What the chunks of an array may hold.

    Attributes
    ----------
    max_bytes : int
        Size that no file of chunks exceeds, and no chunk decoded.
    chunks_per_shard : int
        Chunks that lie in one file; 0 where each has its own.
    is_lz4 : bool
        They are compressed with LZ4, which does not show in the file.
    is_blosc : bool
        They are compressed with Blosc, which decodes what lies behind the end of a chunk that was cut.
    """

    max_bytes: int
    chunks_per_shard: int = 0
    is_lz4: bool = False
    is_blosc: bool = False


def chunk_claims(array: zarr.Array[Any]) -> ChunkClaims:
    """What the chunks of an array may hold, however badly they are compressed.

    Raises
    ------
    FrameError
        If they are compressed more than once, so that the size of what is read does not follow from the file.
    """
    codecs = [_codec_name(codec) for codec in (*array.filters, *array.compressors)]
    compressed = [name for name in codecs if name in _COMPRESSORS]
    if len(compressed) > 1:
        raise FrameError(
            f"chunks of {array.name or 'the array'} are compressed {len(compressed)} times ({', '.join(compressed)}); "
            "write the image again with one compressor"
        )
    per_shard = math.prod(array.shards) // math.prod(array.chunks) if array.shards else 0
    values = math.prod(array.shards or array.chunks)
    largest = values * array.dtype.itemsize * 9 // 8 + 32 * (per_shard or 1) + 4096
    return ChunkClaims(largest, per_shard, compressed == ["lz4"], compressed == ["blosc"])


def _codec_name(codec: Any) -> str:
    """Name of a codec of zarr 3 ("GzipCodec") or of numcodecs ("gzip")."""
    return str(getattr(codec, "codec_id", "") or type(codec).__name__.removesuffix("Codec").lower())


class GuardedStore(LocalStore):
    """A local store, opened for reading, that checks each file before it reads it.

    A compressed chunk that is larger than its values decodes to more than it should, up to filling memory; a pipe or a
    device never ends.

    Parameters
    ----------
    root : Path
        Folder of the group or array.
    claims : ChunkClaims, optional
        Of the one array that is read; default: only metadata and kinds of files are checked.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True, claims: ChunkClaims | None = None) -> None:
        super().__init__(root, read_only=read_only)
        self.claims = claims

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        """The same store, for reading only or not."""
        return type(self)(self.root, read_only=read_only, claims=self.claims)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Content of a file, or None where there is none; raises FrameError where it must not be read."""
        if not self._is_there(key):
            return None
        return _checked(await super().get(key, prototype, byte_range), self.root / key, self.claims)

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """As `get`, in place."""
        if not self._is_there(key):
            return None
        return _checked(super().get_sync(key, **options), self.root / key, self.claims)

    def _is_there(self, key: str) -> bool:
        """Whether there is a file; raises FrameError where it must not be read."""
        path = self.root / key
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True  # the store says what it makes of that
        if stat.S_ISDIR(found.st_mode):
            return True
        if not stat.S_ISREG(found.st_mode):
            raise FrameError(f"{path} is not a regular file; copy the image again")
        _check_size(path, found.st_size, self.claims)
        return True


class GuardedZipStore(ZipStore):
    """A zip file, opened for reading, of which each file is checked before it is read; see `GuardedStore`.

    Attributes
    ----------
    claims : ChunkClaims or None
        Of the one array that is read; None: only metadata is checked.
    """

    claims: ChunkClaims | None = None

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Content of a file, or None where there is none; raises FrameError where it must not be read."""
        self._check(key)
        try:
            content = await super().get(key, prototype, byte_range)
        except (zipfile.BadZipFile, EOFError) as error:
            raise FrameError(f"{self.path / key} is damaged ({error}); copy the image again") from error
        return _checked(content, self.path / key, self.claims)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """As `get`, of several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def names_in(self, folder: str) -> Iterator[str]:
        """Names directly in a folder, of an opened store; that of a folder once for each file below it."""
        begin = f"{folder}/" if folder else ""
        inside = (name.removeprefix(begin) for name in self._zf.namelist() if name.startswith(begin))
        return (name.partition("/")[0] for name in inside if name)

    def _check(self, key: str) -> None:
        try:
            entry = self._zf.getinfo(key)
        except KeyError:
            return
        _check_size(self.path / key, entry.file_size, self.claims)
        if entry.file_size > max(_MAX_PLAIN_BYTES, _MAX_RATIO * entry.compress_size):
            raise FrameError(
                f"{self.path / key} holds {entry.compress_size:,} bytes that unpack to {entry.file_size:,}; copy the "
                "image again, or write it with smaller chunks"
            )


def _check_size(path: Path, num_bytes: int, claims: ChunkClaims | None) -> None:
    """Refuse a file that is larger than what it is can be."""
    largest = None if claims is None else claims.max_bytes
    limit = _MAX_METADATA_BYTES if path.name in _METADATA_NAMES else largest
    if limit is not None and num_bytes > limit:
        raise FrameError(
            f"{path} has {num_bytes:,} bytes, more than the {limit:,} that it can hold; copy the image again"
        )


def _checked(content: Buffer | None, path: Path, claims: ChunkClaims | None) -> Buffer | None:
    """What was read of a file, a chunk or one of the chunks of a shard; raises FrameError if it claims too much."""
    if content is None or claims is None or path.name in _METADATA_NAMES:
        return content
    stored = memoryview(np.ascontiguousarray(content.as_numpy_array()).data)
    for part in _inside_shard(stored, claims.chunks_per_shard) or [stored]:
        if claims.is_blosc and len(part) < blosc_length(part):
            raise FrameError(
                f"{path} is truncated: it holds {len(part):,} of {blosc_length(part):,} bytes of a chunk; copy the "
                "image again"
            )
        allowed = min(claims.max_bytes, max(_MAX_PLAIN_BYTES, _MAX_RATIO * len(part)))
        size = decoded_size(part, allowed, is_lz4=claims.is_lz4)
        if size > allowed:
            raise FrameError(
                f"{path} holds a chunk of {len(part):,} bytes that decodes to {size:,} bytes or more; expected "
                f"{allowed:,}: copy the image again, or write it with smaller chunks"
            )
    return content


def _inside_shard(stored: memoryview, num_chunks: int) -> list[memoryview]:
    """The chunks of a shard by the index at its end: offset and length of each, then a checksum."""
    begin = len(stored) - 16 * num_chunks - 4
    if not num_chunks or begin < 0:
        return []
    pairs = np.frombuffer(stored[begin:-4], "<u8").reshape(-1, 2).tolist()
    return [stored[at : at + length] for at, length in pairs if at + length <= begin]
