"""A folder of zarr files of which none is read that is larger than it can be, or no regular file."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.storage import LocalStore

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["GuardedStore", "largest_file"]

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
    """

    def __init__(self, root: Path | str, *, read_only: bool = True, max_chunk_bytes: int | None = None) -> None:
        super().__init__(root, read_only=read_only)
        self.max_chunk_bytes = max_chunk_bytes

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        """The same store, for reading only or not."""
        return type(self)(self.root, read_only=read_only, max_chunk_bytes=self.max_chunk_bytes)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Content of a file, or None where there is none; raises FrameError where it must not be read."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """As `get`, in place."""
        self._check(key)
        found: Buffer | None = super().get_sync(key, **options)
        return found

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


def largest_file(array: zarr.Array[Any]) -> int:
    """Bytes that no chunk file of an array exceeds, however badly it is compressed."""
    values = math.prod(array.shards or array.chunks)
    num_chunks = values // math.prod(array.chunks) if array.shards else 1
    return values * array.dtype.itemsize * 9 // 8 + 32 * num_chunks + 4096
