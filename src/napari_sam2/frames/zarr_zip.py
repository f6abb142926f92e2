"""Zarr stores in one zip file (``.ozx``, ``.zarr.zip``): which archive a path names, and where in it the zarr lies."""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_sam2._errors import FrameError

__all__ = ["ZARR_ZIP_SUFFIXES", "ZippedZarr", "zipped_zarr"]

ZARR_ZIP_SUFFIXES = (".ozx", ".zarr.zip")
_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray")
_MAX_LISTING_BYTES = 2**27  # of the list of files at the end: about a million files
_END_BYTES = 2**16 + 22  # in which the end record lies
_SHOWN = 8  # names in a message


@dataclass(frozen=True)
class ZippedZarr:
    """A zarr group or array in a zip file.

    Attributes
    ----------
    archive : Path
        The zip file.
    inner : str
        What the path names within the zarr; empty for all of it.
    """

    archive: Path
    inner: str

    def node_path(self) -> str:
        """Path of the group or array within the archive; raises FrameError if there is no zarr, or several."""
        return "/".join(part for part in (_root(self.archive), self.inner) if part)


def zipped_zarr(path: Path) -> ZippedZarr | None:
    """The zip file that a path is or lies in, if it holds a zarr; None for any other path.

    Files are taken for it by their ending, those ending in ``.zip`` only by what they hold.
    """
    for archive in (path, *path.parents):
        name = archive.name.lower()
        if not name.endswith((*ZARR_ZIP_SUFFIXES, ".zip")):
            continue
        try:
            if not archive.is_file():
                continue
        except (OSError, ValueError):
            continue
        if not name.endswith(ZARR_ZIP_SUFFIXES) and not _holds_zarr(archive):
            return None
        inner = path.relative_to(archive).as_posix()
        return ZippedZarr(archive, "" if inner == "." else inner)
    return None


def _holds_zarr(archive: Path) -> bool:
    try:
        return bool(_roots(_names(archive)))
    except FrameError:
        return False


def _root(archive: Path) -> str:
    names = _names(archive)
    roots = _roots(names)
    if len(roots) == 1:
        return roots[0]
    if roots:
        raise FrameError(
            f"{archive} holds {len(roots)} zarrs, {', '.join(roots[:_SHOWN])}; give a file with one of them"
        )
    held = ", ".join(sorted({name.split("/")[0] for name in names})[:_SHOWN]) or "nothing"
    raise FrameError(f"{archive} holds no zarr but {held}; unpack it, and open what it holds")


def _roots(names: list[str]) -> list[str]:
    """The uppermost folders with metadata of zarr; empty text for the archive itself."""
    folders = {PurePosixPath(name).parent for name in names if name.rpartition("/")[2] in _METADATA_FILES}
    depth = min((len(folder.parts) for folder in folders), default=0)
    return sorted("" if not folder.parts else str(folder) for folder in folders if len(folder.parts) == depth)


def _names(archive: Path) -> list[str]:
    try:
        size = _listing_bytes(archive)
        if size > _MAX_LISTING_BYTES:
            raise FrameError(
                f"the list of files in {archive} has {size:,} bytes, more than the {_MAX_LISTING_BYTES:,} that are "
                "read; unpack it, and open the folder"
            )
        with zipfile.ZipFile(archive) as opened:
            return [name for name in opened.namelist() if not name.startswith("__MACOSX/")]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:160]
        raise FrameError(f"{archive} cannot be read as a zip file ({reason}); copy the file again") from error


def _listing_bytes(archive: Path) -> int:
    """Size of the list of files by the record at the end of a zip file; 0 if there is none."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(size - _END_BYTES, 0)
        file.seek(begin)
        end = file.read()
        at = end.rfind(b"PK\5\6")
        if at < 0 or len(end) < at + 22:
            return 0
        (stated,) = struct.unpack_from("<I", end, at + 12)
        locator = at - 20
        if stated != 0xFFFFFFFF or locator < 0 or end[locator : locator + 4] != b"PK\6\7":
            return int(stated)
        (offset,) = struct.unpack_from("<Q", end, locator + 8)
        if offset + 56 > size:
            return 0
        file.seek(offset + 40)
        return int(struct.unpack("<Q", file.read(8))[0])
