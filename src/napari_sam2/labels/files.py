"""Label stacks on disk, written frame by frame to any format, whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._arguments import as_array, checked_calls
from napari_sam2._checks import LARGEST_ID
from napari_sam2._errors import OutputError
from napari_sam2._files import (
    check_new,
    check_not_in_use,
    expand,
    partial_path,
    put_in_place,
    remove_partial,
    reserved,
    write_error,
)
from napari_sam2._messages import shown
from napari_sam2.frames.spacing import VoxelSize, unit_name
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.labels.formats import LabelLayout, LabelTarget, TiffTarget, ZarrTarget, standalone_labels
from napari_sam2.labels.ngff import image_of_labels, plan_for_image, register_labels
from napari_sam2.labels.overlaps import label_areas
from napari_sam2.labels.shapes.writing import ShapeTarget

if TYPE_CHECKING:
    from napari_sam2.frames import Frames

__all__ = ["LABEL_SUFFIXES", "LabelParts", "LabelWriter", "reserved_labels"]

LABEL_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr", ".zip", ".geojson", ".json")
_SHAPES = (".zip", ".geojson", ".json")


@checked_calls(OutputError)
class LabelWriter:
    """Writes a label stack frame by frame; the file appears under its name only when it is finished.

    Frames are written in any order and may be written again; frames never written are zero. Used in ``with``: leaving
    normally, or by Ctrl-C after at least one frame, gives a readable file; any other exception leaves nothing (and an
    existing file as it was). While it is open, other processes cannot write the same file.

    ``.ome.tif`` and ``.zarr`` / ``.ome.zarr`` (OME-NGFF 0.5 on zarr 3) hold int32. ``.tif`` is an ImageJ TIFF of uint16
    where all ids fit and the stack is below 4 GB, else an int32 TIFF with axes and spacing as JSON.
    ``.zip`` is a set of ImageJ ROIs, ``.geojson`` is GeoJSON as QuPath imports it, ``.json`` is COCO with run lengths.
    ``IMAGE/labels/NAME`` writes into the OME-Zarr image IMAGE, in its version of NGFF and with its levels, chunks and
    transformations.

    Parameters
    ----------
    path : path-like
        File (or, for zarr, folder) to write; its suffix, one of `LABEL_SUFFIXES`, or its place in an image chooses the
        format.
    shape : tuple of int
        One length per axis; (1, H, W) is allowed for the axes YX.
    axes : str, default "ZYX"
        Axes of the output, out of TCZYX in this order and ending in YX. Frames are the planes, numbered so that the
        last axis before Y runs fastest.
    voxel_size : mapping of str to (float, str), optional
        Axis letter to distance and unit, as `Frames.voxel_size`, also "um"; letters not in ``axes`` are ignored.
    translation : mapping of str to float, optional
        Position of the first pixel by axis letter, in the unit of ``voxel_size``, as `Frames.translation`.
    full_hw : (int, int), optional
        Height and width of the full resolution, where the labels belong to a coarser level of the image: outlines and
        run lengths (.zip, .geojson, .json) are written in its pixels.
    fixed : mapping of str to int, optional
        For labels inside an image: index on the axes of the image that ``axes`` lacks.
    overwrite : bool, default False
        Replace an existing file when finished. A folder is replaced only if it is a zarr.

    Raises
    ------
    OutputError
        If the suffix is unknown, the labels do not fit the image they go into, the file exists, another process is
        writing it, or it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        *,
        axes: str = "ZYX",
        voxel_size: VoxelSize | None = None,
        translation: Mapping[str, float] | None = None,
        full_hw: tuple[int, int] | None = None,
        fixed: Mapping[str, int] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = expand(path)
        full = _check_axes(axes, shape)
        self.shape: tuple[int, int, int] = (math.prod(full[:-2]), full[-2], full[-1])
        sizes = {axis: (size, unit_name(unit)) for axis, (size, unit) in (voxel_size or {}).items()}
        self._layout = LabelLayout(self.path.name, full, axes, sizes, translation or {}, full_hw)
        self._image = image_of_labels(self.path)
        suffix = ".zarr" if self._image is not None else _suffix(self.path)
        _check_free(self.path, is_zarr=suffix.endswith("zarr"), in_image=self._image is not None, overwrite=overwrite)
        self._overwrite = overwrite
        self._written: set[int] = set()
        self._ids: set[int] = set()
        self._is_open = True
        self._target: LabelTarget
        with _Reported(self.path, lambda: None):
            if self._image is not None:
                plan = plan_for_image(self._image, self.path.name, axes, full, fixed)
                self.path.parent.mkdir(exist_ok=True)
            self._partial = partial_path(self.path)
        with _Reported(self.path, self._clean_up):
            if self._image is not None:
                self._target = ZarrTarget(self._partial, plan)
            elif suffix.endswith("zarr"):
                self._target = ZarrTarget(self._partial, standalone_labels(self._layout))
            elif suffix in _SHAPES:
                self._target = ShapeTarget(self._partial, self._layout, suffix)
            else:
                self._target = TiffTarget(self._partial, self._layout, is_ome=suffix.startswith(".ome"))
        with _Reported(self.path, self.discard):
            check_not_in_use(self.path)

    @classmethod
    def for_frames(
        cls,
        path: str | os.PathLike[str],
        frames: Frames,
        *,
        num_times: int = 1,
        frame: int | None = None,
        overwrite: bool = False,
    ) -> Self:
        """A writer for labels of opened frames, with their axes, spacing and position.

        Parameters
        ----------
        path : path-like
            As above.
        frames : Frames
            What the labels belong to.
        num_times : int, default 1
            With more than 1, for all time points of the z-stack ``frames``, as TZYX.
        frame : int, optional
            For this frame alone, as YX.
        overwrite : bool, default False
            As above.

        Raises
        ------
        OutputError
            As above.
        """
        axes, fixed = frames.output_axes, dict(frames.fixed)
        shape: tuple[int, ...] = frames.shape
        if num_times > 1:
            axes, shape = "TZYX", (num_times, *shape)
        elif frame is not None:
            axes, shape = "YX", (1, *shape[1:])
            if frames.frame_axis is not None:
                fixed[frames.frame_axis] = frame
        return cls(
            path,
            shape,
            axes=axes,
            voxel_size=frames.voxel_size,
            translation=frames.translation,
            full_hw=frames.full_hw,
            fixed=fixed,
            overwrite=overwrite,
        )

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
        array = as_array(labels, "labels", OutputError)
        if not 0 <= frame < num_frames:
            raise OutputError(f"frame {frame} was given for a label stack of {num_frames} frames")
        if array.shape != tuple(hw) or array.dtype.kind not in "biu":
            raise OutputError(f"labels of shape {array.shape}, {array.dtype} were given; expected integers {tuple(hw)}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > LARGEST_ID:
            raise OutputError(f"labels from {low} to {high} were given; expected 0 to {LARGEST_ID}")
        array = np.ascontiguousarray(array, np.int32)
        with _Reported(self.path, self.discard):
            self._target.write(int(frame), array)
        self._written.add(int(frame))
        self._ids.update(label_areas(array)[:, 0].tolist())

    def note(self, frame: int, ids: Iterable[int] = ()) -> None:
        """Record that a frame was written in parts, and which objects are on it.

        Raises
        ------
        OutputError
            If there is no such frame.
        """
        if not 0 <= frame < self.shape[0]:
            raise OutputError(f"frame {frame} was given for a label stack of {self.shape[0]} frames")
        self._written.add(frame)
        self._ids.update(ids)

    def __setitem__(self, frame: int, labels: ArrayLike, /) -> None:
        """As `write`, so that a writer can be used where a label stack is painted."""
        self.write(frame, labels)

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        """(H, W) of one frame as written last; zero where it was never written. Raises as `write`."""
        self._check_open()
        if frame not in self._written:
            if not 0 <= frame < self.shape[0]:
                raise OutputError(f"frame {frame} was requested; the label stack has {self.shape[0]} frames")
            return np.zeros(self.shape[1:], np.int32)
        with _Reported(self.path, self.discard):
            return self._target.read(int(frame))

    def parts(self, frame: int = 0) -> LabelParts | None:
        """A frame that is read and written in parts, as it may not fit in memory; None where the format cannot do this.

        Raises
        ------
        OutputError
            If there is no such frame.
        """
        self._check_open()
        if not 0 <= frame < self.shape[0]:
            raise OutputError(f"frame {frame} was requested; the label stack has {self.shape[0]} frames")
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
            in_image = self._image is not None
            _check_free(self.path, is_zarr=finished.is_dir(), in_image=in_image, overwrite=self._overwrite)
            put_in_place(finished, self.path)
            self._is_open = False
            if self._image is not None:
                register_labels(self._image, self.path.name)
            self._clean_up()
        return self.path

    def discard(self) -> None:
        """Remove everything written; a file that was there before stays as it is."""
        if self._is_open:
            self._is_open = False
            self._target.stop()
            self._clean_up()

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

    def _clean_up(self) -> None:
        remove_partial(self._partial)
        if self._image is not None:
            with suppress(OSError):  # not empty: other labels are there
                self.path.parent.rmdir()


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
        """Record which objects are on the frame, and return how many."""
        ids: set[int] = set()
        step = self._target.chunk_rows
        for start in range(0, self.shape[0], step):
            ids.update(label_areas(self[slice(start, start + step), slice(None)])[:, 0].tolist())
        self._writer.note(self._frame, ids)
        return len(ids)


@contextmanager
def reserved_labels(path: str | os.PathLike[str]) -> Iterator[None]:
    """As ``reserved``, for a label file that may be the first one inside an OME-Zarr image."""
    place = expand(path)
    is_in_image = image_of_labels(place) is not None
    try:
        if is_in_image:
            place.parent.mkdir(exist_ok=True)
        with reserved(place):
            yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_error(place, error) from error
    finally:
        if is_in_image:
            with suppress(OSError):  # not empty: labels are there
                place.parent.rmdir()


def _suffix(path: Path) -> str:
    for suffix in LABEL_SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise OutputError(
        f"labels cannot be written to {path}; allowed suffixes are {', '.join(LABEL_SUFFIXES)}, "
        "and IMAGE.zarr/labels/NAME inside an OME-Zarr image"
    )


def _check_axes(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with one length per axis."""
    lengths = tuple(int(length) for length in shape)
    if axes == "YX" and len(lengths) == 3 and lengths[0] == 1:
        lengths = lengths[1:]
    if axes != "".join(axis for axis in "TCZYX" if axis in axes) or not axes.endswith("YX"):
        raise OutputError(f"axes {shown(axes)} were given; expected letters out of TCZYX, in this order, ending in YX")
    if len(lengths) != len(axes) or min(lengths) < 1:
        raise OutputError(f"the shape {tuple(shape)} was given for axes {axes}; give one length of at least 1 per axis")
    return lengths


def _check_free(path: Path, *, is_zarr: bool, in_image: bool, overwrite: bool) -> None:
    if path.is_dir() and not (is_zarr and is_zarr_folder(path)):
        raise OutputError(f"{path} is a folder that holds something else and is not replaced; choose another name")
    if not in_image or path.exists():
        check_new(path, overwrite=overwrite)


def _note(complete: bool, written: set[int], num_frames: int) -> str:
    if complete:
        return ""
    return f"interrupted: {len(written)} of {num_frames} frames were finished, from {min(written)} to {max(written)}"


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
            raise write_error(self._path, error) from error
