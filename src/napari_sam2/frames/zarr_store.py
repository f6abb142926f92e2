"""A folder of zarr files of which none is read that is larger than it can be, or no regular file."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.storage import LocalStore

from napari_sam2._errors import FrameError
from napari_sam2.frames.chunk_claims import decoded_size

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["GuardedStore", "chunks_per_shard", "largest_file"]

_MAX_METADATA_BYTES = 2**26
_METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class GuardedStore(LocalStore):
    """A local store, opened for reading, that checks each file before it reads it.

    A compressed chunk that is larger than its values decodes to more than it should, up to filling memory; a pipe or a
    device never ends.

    Parameters
    ----------
    root : Path
        Folder of the group or array.
    max_chunk_bytes : int, optional
        Size that no file but the metadata exceeds; default: not limited.
    chunks_per_shard : int, default 0
        Chunks that lie in one file; 0 where each has its own.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        read_only: bool = True,
        max_chunk_bytes: int | None = None,
        chunks_per_shard: int = 0,
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.max_chunk_bytes = max_chunk_bytes
        self.chunks_per_shard = chunks_per_shard

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        """The same store, for reading only or not."""
        return type(self)(
            self.root,
            read_only=read_only,
            max_chunk_bytes=self.max_chunk_bytes,
            chunks_per_shard=self.chunks_per_shard,
        )

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Content of a file, or None where there is none; raises FrameError where it must not be read."""
        self._check(key)
        return self._checked_content(key, await super().get(key, prototype, byte_range))

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """As `get`, in place."""
        self._check(key)
        return self._checked_content(key, super().get_sync(key, **options))

    def _checked_content(self, key: str, content: Buffer | None) -> Buffer | None:
        """What was read of a file: a chunk, or one of the chunks of a shard."""
        limit = self.max_chunk_bytes
        if content is None or limit is None or Path(key).name in _METADATA_NAMES:
            return content
        stored = memoryview(np.ascontiguousarray(content.as_numpy_array()).data)
        size = max(decoded_size(part, limit) for part in (stored, *self._inside_shard(stored)))
        if size > limit:
            raise FrameError(
                f"{self.root / key} holds a chunk that decodes to {size:,} bytes or more, more than the {limit:,} that "
                "it can hold; copy the image again"
            )
        return content

    def _inside_shard(self, stored: memoryview) -> list[memoryview]:
        """The chunks of a shard by the index at its end: offset and length of each, then a checksum."""
        begin = len(stored) - 16 * self.chunks_per_shard - 4
        if not self.chunks_per_shard or begin < 0:
            return []
        pairs = np.frombuffer(stored[begin:-4], "<u8").reshape(-1, 2).tolist()
        return [stored[at : at + length] for at, length in pairs if at + length <= begin]

    def _check(self, key: str) -> None:
        path = self.root / key
        try:
            found = path.stat()
        except OSError:
            return  # the store says what it makes of that
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise FrameError(f"{path} is no regular file; copy the image again")
        limit = _MAX_METADATA_BYTES if path.name in _METADATA_NAMES else self.max_chunk_bytes
        if limit is not None and found.st_size > limit:
            raise FrameError(
                f"{path} has {found.st_size:,} bytes, more than the {limit:,} that it can hold; copy the image again"
            )


def chunks_per_shard(array: zarr.Array[Any]) -> int:
    """How many chunks one file of an array holds; 0 where it is not sharded."""
    return math.prod(array.shards) // math.prod(array.chunks) if array.shards else 0


def largest_file(array: zarr.Array[Any]) -> int:
    """Bytes that no chunk file of an array exceeds, however badly it is compressed."""
    values = math.prod(array.shards or array.chunks)
    num_chunks = chunks_per_shard(array) or 1
    return values * array.dtype.itemsize * 9 // 8 + 32 * num_chunks + 4096
