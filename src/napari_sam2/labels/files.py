"""Label stacks on disk: written frame by frame to TIFF, OME-TIFF or OME-Zarr, whole or not at all, and read back."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._errors import FrameError, OutputError
from napari_sam2.frames.files import open_path
from napari_sam2.frames.spacing import VoxelSize
from napari_sam2.frames.stack import READ_ERRORS, one_line
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.labels.formats import PART_ROWS, LabelLayout, LabelTarget, TiffTarget, ZarrTarget

__all__ = ["LABEL_SUFFIXES", "LabelParts", "LabelWriter", "read_labels"]

LABEL_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr")
_MAX_ID = 2**31 - 1


class LabelWriter:
    """Writes a label stack frame by frame; the file appears under its name only when it is finished.

    Frames arrive in any order and may be written again; frames never written are zero. Used in ``with``: leaving
    normally, or by Ctrl-C after at least one frame, gives a readable file; any other exception leaves nothing (and an
    existing file as it was).

    ``.ome.tif`` and ``.zarr`` / ``.ome.zarr`` (OME-NGFF 0.5 on zarr 3) hold int32. ``.tif`` is an ImageJ TIFF of uint16
    where all ids fit and the stack is below 4 GB, else a compressed int32 TIFF with axes and spacing as JSON.

    Parameters
    ----------
    path : path-like
        File (or, for zarr, folder) to write; its suffix, one of `LABEL_SUFFIXES`, chooses the format.
    shape : (int, int, int)
        (T, H, W).
    axes : {"ZYX", "TYX", "YX", "TZYX"}, default "ZYX"
        Axes of the output; "YX" for a single frame, which then has two dimensions; "TZYX" for volumes over time, whose
        frames are the slices of the first time point, then those of the second, and so on.
    voxel_size : mapping of str to (float, str), optional
        Axis letter to distance and unit, as `Frames.voxel_size`; letters not in ``axes`` are ignored.
    overwrite : bool, default False
        Replace an existing file when finished. A folder is replaced only if it is a zarr.
    num_slices : int, optional
        With "TZYX": slices of each time point; T of ``shape`` is a multiple of it.

    Raises
    ------
    OutputError
        If the suffix is unknown, the file exists, or it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, int, int],
        *,
        axes: str = "ZYX",
        voxel_size: VoxelSize | None = None,
        overwrite: bool = False,
        num_slices: int | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.shape = shape
        checked = _check_axes(axes, shape, num_slices)
        self._layout = LabelLayout(self.path.name, shape, checked, dict(voxel_size or {}), num_slices)
        suffix = _suffix(self.path)
        _check_free(self.path, is_zarr=suffix.endswith("zarr"), overwrite=overwrite)
        self._overwrite = overwrite
        self._written: set[int] = set()
        self._ids: set[int] = set()
        self._is_open = True
        token = secrets.token_hex(4)
        self._partial = self.path.with_name(f".{self.path.name}.{token}.partial")
        self._target: LabelTarget
        with _Reported(self.path, self._remove_partial):
            if suffix.endswith("zarr"):
                self._target = ZarrTarget(self._partial, self._layout)
            else:
                self._target = TiffTarget(self._partial, self._layout, is_ome=suffix.startswith(".ome"))

    @property
    def frames_written(self) -> tuple[int, ...]:
        """Frames written so far, in increasing order."""
        return tuple(sorted(self._written))

    def write(self, frame: int, labels: ArrayLike) -> None:
        """Write one frame.

        Parameters
        ----------
        frame : int
            0 <= frame < T.
        labels : (H, W) array-like
            Integer ids from 0 (background) to 2**31 - 1, or bool.

        Raises
        ------
        OutputError
            If frame, shape or ids do not fit, or the disk is full; what was written is then removed.
        """
        self._check_open()
        num_frames, *hw = self.shape
        array = np.asarray(labels)
        if not 0 <= frame < num_frames:
            raise OutputError(f"frame {frame} was given for a label stack of {num_frames} frames")
        if array.shape != tuple(hw) or array.dtype.kind not in "biu":
            raise OutputError(
                f"labels of shape {array.shape}, {array.dtype} were given; allowed are integers {tuple(hw)}"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > _MAX_ID:
            raise OutputError(f"labels from {low} to {high} were given; allowed are 0 to {_MAX_ID}")
        array = np.ascontiguousarray(array, np.int32)
        with _Reported(self.path, self.discard):
            self._target.write(int(frame), array)
        self._written.add(int(frame))
        self._ids.update(_ids_in(array, high))

    def note(self, frame: int, ids: Iterable[int] = ()) -> None:
        """Know that a frame was written in parts, and which objects are on it."""
        self._written.add(frame)
        self._ids.update(ids)

    def __setitem__(self, frame: int, labels: ArrayLike, /) -> None:
        """As `write`, so that a writer can stand where a label stack is painted."""
        self.write(frame, labels)

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        """(H, W) of one frame as written last; zero where it was never written. Raises as `write`."""
        self._check_open()
        if frame not in self._written:
            if not 0 <= frame < self.shape[0]:
                raise OutputError(f"frame {frame} was asked for in a label stack of {self.shape[0]} frames")
            return np.zeros(self.shape[1:], np.int32)
        with _Reported(self.path, self.discard):
            return self._target.read(int(frame))

    def parts(self, frame: int = 0) -> LabelParts | None:
        """One frame to be read and written in parts, for frames too large to be held; None where the format cannot.

        Raises
        ------
        OutputError
            If there is no such frame.
        """
        self._check_open()
        if not 0 <= frame < self.shape[0]:
            raise OutputError(f"frame {frame} was asked for in a label stack of {self.shape[0]} frames")
        if not isinstance(self._target, ZarrTarget):
            return None
        return LabelParts(self, self._target, frame)

    def close(self, complete: bool = True) -> Path | None:
        """Finish the file and give it its final name.

        Parameters
        ----------
        complete : bool, default True
            False after an interruption: the file says so in its metadata, and nothing is left if no frame was written.

        Returns
        -------
        Path or None
            The file; None if there was nothing to keep or the writer was closed before.

        Raises
        ------
        OutputError
            If the file cannot be written; nothing is then left.
        """
        if not self._is_open:
            return None
        if not complete and not self._written:
            self.discard()
            return None
        with _Reported(self.path, self.discard):
            finished = self._target.finish(sorted(self._ids), _note(complete, self._written, self.shape[0]))
            _check_free(self.path, is_zarr=finished.is_dir(), overwrite=self._overwrite)
            _move(finished, self.path)
            self._is_open = False
            self._remove_partial()
        return self.path

    def discard(self) -> None:
        """Remove everything written; a file that was there before stays as it is."""
        if self._is_open:
            self._is_open = False
            self._target.stop()
            self._remove_partial()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self.close(complete=False)
        else:
            self.discard()

    def _check_open(self) -> None:
        if not self._is_open:
            raise OutputError(f"{self.path} was already closed; open a new LabelWriter")

    def _remove_partial(self) -> None:
        for leftover in self.path.parent.glob(f"{_escaped(self._partial.name)}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


class LabelParts:
    """(H, W) labels of one frame of a `LabelWriter`, on disk: indexed by (rows, columns)."""

    def __init__(self, writer: LabelWriter, target: ZarrTarget, frame: int) -> None:
        self._writer, self._target, self._frame = writer, target, frame
        self.shape: tuple[int, int] = writer.shape[1:]

    def __getitem__(self, part: tuple[slice, slice], /) -> NDArray[np.int32]:
        with _Reported(self._writer.path, self._writer.discard):
            return self._target.read_part(self._frame, part)

    def __setitem__(self, part: tuple[slice, slice], labels: NDArray[np.int32], /) -> None:
        with _Reported(self._writer.path, self._writer.discard):
            self._target.write_part(self._frame, part, labels)
        self._writer.note(self._frame)

    def finish(self) -> int:
        """Note which objects there are, a row of chunks at a time; how many there are."""
        ids: set[int] = set()
        for start in range(0, self.shape[0], PART_ROWS):
            rows = self[slice(start, start + PART_ROWS), slice(None)]
            ids.update(_ids_in(rows, int(rows.max(initial=0))))
        self._writer.note(self._frame, ids)
        return len(ids)


def read_labels(path: str | os.PathLike[str]) -> NDArray[np.int32]:
    """Read a label image or stack from any format `LabelWriter` writes, or any other integer image.

    Parameters
    ----------
    path : path-like
        TIFF, zarr folder, PNG or folder of images.

    Returns
    -------
    numpy.ndarray
        int32 in the file's own axes, (T, H, W) or (H, W); TIFF files drop axes of length one.

    Raises
    ------
    FrameError
        If the file is missing, damaged, or holds no integers from 0 to 2**31 - 1.
    """
    stack = open_path(Path(path))
    if stack.dtype.kind not in "biu":
        raise FrameError(f"{path} holds {stack.dtype}; labels must be integers")
    try:
        labels = np.asarray(stack.array[(slice(None),) * len(stack.array.shape)])
    except FrameError:
        raise
    except READ_ERRORS as error:
        raise FrameError(f"{path} cannot be read ({one_line(error)}); the file may be damaged") from error
    if labels.size and (int(labels.min()) < 0 or int(labels.max()) > _MAX_ID):
        raise FrameError(f"{path} holds values from {labels.min()} to {labels.max()}; labels are 0 to {_MAX_ID}")
    return labels.astype(np.int32, copy=False)


def _ids_in(labels: NDArray[np.int32], highest: int) -> list[int]:
    """The ids of a label image, without background."""
    can_count = highest < labels.size  # several times faster than sorting
    ids = np.flatnonzero(np.bincount(labels.ravel())) if can_count else np.unique(labels)
    return [int(i) for i in ids if i]


def _suffix(path: Path) -> str:
    for suffix in LABEL_SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise OutputError(f"labels cannot be written to {path}; allowed suffixes are {', '.join(LABEL_SUFFIXES)}")


def _check_axes(axes: str, shape: Sequence[int], num_slices: int | None) -> str:
    if axes not in ("ZYX", "TYX", "YX", "TZYX") or (axes == "YX" and shape[0] != 1):
        raise OutputError(
            f"axes {axes!r} were given for {shape[0]} frames; allowed are ZYX, TYX, TZYX, and YX for one frame"
        )
    if (axes == "TZYX") != (num_slices is not None) or (num_slices is not None and shape[0] % num_slices):
        raise OutputError(f"{num_slices} slices were given for axes {axes} and {shape[0]} frames; TZYX needs a divisor")
    if len(shape) != 3 or min(shape) < 1:
        raise OutputError(f"the shape {shape} was given; allowed is (T, H, W), each at least 1")
    return axes


def _check_free(path: Path, *, is_zarr: bool, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first, or write elsewhere than {path}")
    if not path.exists():
        return
    if path.is_dir() and not (is_zarr and is_zarr_folder(path)):
        raise OutputError(f"{path} is a folder that holds something else and is not replaced; choose another name")
    if not overwrite:
        raise OutputError(f"{path} exists already; choose another name, or overwrite it on purpose")


def _note(complete: bool, written: set[int], num_frames: int) -> str:
    if complete:
        return ""
    return f"interrupted: {len(written)} of {num_frames} frames were finished, from {min(written)} to {max(written)}"


def _move(finished: Path, path: Path) -> None:
    """Give a finished file or folder its final name, replacing what is there."""
    if not path.is_dir() and not finished.is_dir():
        finished.replace(path)
        return
    if not path.exists():
        finished.rename(path)
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.replaced")  # a folder cannot be replaced in one step
    path.rename(aside)
    try:
        finished.rename(path)
    except OSError:
        aside.rename(path)
        raise
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def _escaped(name: str) -> str:
    """A file name as a glob pattern that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


class _Reported:
    """Within this block, any failure cleans up, and an OSError becomes an OutputError that names the file."""

    def __init__(self, path: Path, clean_up: Callable[[], None]) -> None:
        self._path, self._clean_up = path, clean_up

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        self._clean_up()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            reason = error.strerror or f"{one_line(error)}; is the disk full?"  # numpy gives no errno
            raise OutputError(
                f"{self._path} cannot be written ({reason}); nothing was left there; free space or write elsewhere"
            ) from error
