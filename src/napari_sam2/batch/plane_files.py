"""Label planes of a part of a stack in one compressed file, read and written plane by plane."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.lib import format as npy

from napari_sam2._errors import OutputError
from napari_sam2._files import write_whole
from napari_sam2._messages import AGAIN, Message

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.labels.protocols import LabelStack

__all__ = ["PlaneFile", "unreadable", "write_planes"]

_NOTE = "note"


def write_planes(path: Path, labels: LabelStack | None, frames: Iterable[int], note: str = "") -> None:
    """Write planes, whole or not at all; empty ones take no space.

    Parameters
    ----------
    path : Path
        File to write.
    labels : LabelStack or None
        Planes by frame; None if all are empty.
    frames : iterable of int
        Which frames.
    note : str
        Text to be kept with them.

    Raises
    ------
    OutputError
        If it cannot be written.
    """

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for frame in frames:
                plane = np.zeros(0, np.int32) if labels is None else np.asarray(labels[frame], np.int32)
                if plane.any():
                    with file.open(f"{frame}.npy", "w", force_zip64=True) as stream:
                        npy.write_array(stream, plane, allow_pickle=False)
            file.writestr(_NOTE, note)

    write_whole(path, write)


def unreadable(path: Path, error: Exception) -> OutputError:
    """The error of a part that cannot be read."""
    return OutputError(Message(f"the part {path} cannot be read ({error}); remove it and ", AGAIN))


class PlaneFile:
    """Planes of `write_planes`, read one at a time; a `LabelStack` that cannot be changed. Use in ``with``.

    Parameters
    ----------
    path : Path
        The file.
    hw : (int, int)
        Height and width of planes.

    Attributes
    ----------
    is_empty : bool
        Whether all planes are empty.
    note : str
        The text kept with them.

    Raises
    ------
    OutputError
        If it, or later a plane, cannot be read.
    """

    def __init__(self, path: Path, hw: tuple[int, int]) -> None:
        self._path, self._hw = path, hw
        with _Readable(path):
            self._file = zipfile.ZipFile(path)
            self._names = set(self._file.namelist())
            self.note = self._file.read(_NOTE).decode()
        self.is_empty = self._names == {_NOTE}

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        name = f"{frame}.npy"
        if name not in self._names:
            return np.zeros(self._hw, np.int32)
        with _Readable(self._path):
            with self._file.open(name) as stream:
                plane: NDArray[np.int32] = npy.read_array(stream, allow_pickle=False)
            if plane.shape != self._hw:
                raise ValueError(f"a plane has the shape {plane.shape}, not {self._hw}")
        return plane

    def __setitem__(self, frame: int, labels: NDArray[np.int32], /) -> None:
        raise OutputError(f"{self._path} is open for reading")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()


class _Readable:
    """Reports what can go wrong while a part is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)):
            raise unreadable(self._path, error) from error
