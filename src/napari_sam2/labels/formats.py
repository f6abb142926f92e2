"""The formats of label stacks, OME-Zarr, OME-TIFF and ImageJ TIFF, each built under a temporary name."""

from __future__ import annotations

import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam2.frames.spacing import convert, unit_symbol
from napari_sam2.labels.ngff import (
    LabelLevel,
    NgffLabels,
    downsampled_levels,
    label_metadata,
    resample_labels,
)

__all__ = [
    "LABEL_SOFTWARE",
    "FrameScratch",
    "LabelLayout",
    "LabelTarget",
    "TiffTarget",
    "ZarrTarget",
    "standalone_labels",
]

_COLLECTED = ".frames"
_FEW_CHUNKS = 0.1  # share of a label image
LABEL_SOFTWARE = "napari-sam2 labels"
"""Written into TIFF files of labels, by which they are told from images when they are opened."""
_MAX_IMAGEJ_ID = 2**16 - 1
_MAX_IMAGEJ_BYTES = 2**32 - 2**25  # offsets of a classic TIFF have 32 bits; tifffile keeps 32 MiB for metadata


class LabelLayout:
    """Shape, axes, spacing and position of the output.

    Parameters
    ----------
    name : str
        File name of the output.
    shape : tuple of int
        One length per axis.
    axes : str
        Letters out of TCZYX, in this order, ending in YX.
    voxel_size : mapping of str to (float, str)
        Spacing by axis letter.
    translation : mapping of str to float
        Position of the first pixel by axis letter, in the unit of ``voxel_size``.
    full_hw : (int, int), optional
        Height and width of the full resolution, where the labels belong to a coarser level of the image.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        axes: str,
        voxel_size: Mapping[str, tuple[float, str]],
        translation: Mapping[str, float],
        full_hw: tuple[int, int] | None = None,
    ) -> None:
        self.name, self.axes, self.shape = name, axes, shape
        self.hw: tuple[int, int] = (shape[-2], shape[-1])
        self.full_hw = full_hw or self.hw
        self.num_frames = math.prod(shape[:-2])
        self.voxel_size = {axis: voxel_size[axis] for axis in axes if axis in voxel_size}
        self.translation = {axis: float(translation[axis]) for axis in axes if translation.get(axis)}

    def place(self, frame: int) -> tuple[int, ...]:
        """Index of a frame along the axes before Y and X."""
        return tuple(int(i) for i in np.unravel_index(frame, self.shape[:-2])) if len(self.shape) > 2 else ()


class LabelTarget(Protocol):
    """An output that is built under a temporary name."""

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        """Write the (H, W) labels of a frame."""

    def read(self, frame: int) -> NDArray[np.int32]:
        """(H, W) of a frame that was written before."""

    def finish(self, ids: list[int], note: str) -> Path:
        """Complete the data under a temporary name and return it."""

    def stop(self) -> None:
        """Close open files."""


class ZarrTarget:
    """An OME-NGFF label image, written level by level under a temporary name.

    Frames come one by one. Where a chunk holds several, they are collected in an array of one frame per chunk, and each
    chunk of the label image is written once, at the end.

    Parameters
    ----------
    partial : Path
        Folder to create.
    plan : NgffLabels
        Levels, axes and metadata.
    """

    def __init__(self, partial: Path, plan: NgffLabels) -> None:
        import zarr

        self._partial, self._plan = partial, plan
        partial.mkdir()
        self._group = zarr.open_group(str(partial), mode="a", zarr_format=plan.zarr_format)
        self._collected: list[tuple[Any, Any]] = []  # arrays of single frames, and those that they become
        self._arrays = [self._by_frame(self._create(level), level) for level in plan.levels]
        self._array = self._arrays[plan.main_level]
        self._is_scanned = False  # whole frames were written: coarser levels are computed from all chunks
        self._written: set[tuple[int, int, int]] = set()  # frame, and row and column in the grid of chunks
        self._group.attrs.put(label_metadata(plan, []))

    def _create(self, level: LabelLevel) -> Any:
        has_names = self._plan.zarr_format == 3
        return self._group.create_array(
            level.path,
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            dtype="int32",
            fill_value=0,
            dimension_names=[axis.lower() for axis in self._plan.axes] if has_names else None,
            chunk_key_encoding=None if has_names else {"name": "v2", "separator": "/"},
        )

    def _by_frame(self, array: Any, level: LabelLevel) -> Any:
        """An array that frames can be written to one by one: ``array`` itself unless its chunks hold several."""
        import zarr

        *depths, height, width = array.shards or array.chunks
        if all(depth == 1 for depth in depths):
            return array
        chunks = (*(1 for _ in depths), height, width)
        place = str(self._partial / _COLLECTED / level.path)
        frames = zarr.create_array(place, shape=array.shape, dtype=array.dtype, chunks=chunks, fill_value=0)
        self._collected.append((frames, array))
        return frames

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk: what is read or written in parts is best aligned with it."""
        return self._plan.levels[self._plan.main_level].chunks[-2]

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        self._array[self._plan.index(frame)] = labels
        self._is_scanned = True

    def read(self, frame: int) -> NDArray[np.int32]:
        return np.asarray(self._array[self._plan.index(frame)], np.int32)

    def write_part(self, frame: int, part: tuple[slice, slice], labels: NDArray[np.int32]) -> None:
        """Write some rows and columns of a frame."""
        self._array[(*self._plan.index(frame), *part)] = labels
        height, width = self._array.chunks[-2:]
        top, bottom, _ = part[0].indices(self._array.shape[-2])
        left, right, _ = part[1].indices(self._array.shape[-1])
        rows = range(top // height, -(-bottom // height))
        columns = range(left // width, -(-right // width))
        self._written.update((frame, row, column) for row in rows for column in columns)

    def read_part(self, frame: int, part: tuple[slice, slice]) -> NDArray[np.int32]:
        """Some rows and columns of a frame; zero where nothing was written."""
        return np.asarray(self._array[(*self._plan.index(frame), *part)], np.int32)

    def finish(self, ids: list[int], note: str) -> Path:
        windows = self._windows()
        for array in self._arrays:
            if array is self._array:
                continue
            if windows is None:
                resample_labels(self._array, array)
            for window in windows or ():
                resample_labels(self._array, array, window)
        for frames, array in self._collected:
            _copy_by_chunks(frames, array)
        if self._collected:
            shutil.rmtree(self._partial / _COLLECTED)
        self._group.attrs.update(label_metadata(self._plan, ids))
        if note:
            self._group.attrs["napari_sam2"] = {"note": note}
        return self._partial

    def _windows(self) -> list[tuple[slice, ...]] | None:
        """The chunks that were written, where they are few; None: all are looked through."""
        height, width = self._array.chunks[-2:]
        full_height, full_width = self._array.shape[-2:]
        num_chunks = self._array.nchunks
        if self._is_scanned or len(self._written) > _FEW_CHUNKS * num_chunks:
            return None
        return [
            (
                *(slice(i, i + 1) for i in self._plan.index(frame)),
                slice(row * height, min((row + 1) * height, full_height)),
                slice(column * width, min((column + 1) * width, full_width)),
            )
            for frame, row, column in sorted(self._written)
        ]

    def stop(self) -> None:
        """No file is held open."""


def _copy_by_chunks(source: Any, target: Any) -> None:
    """Copy an array to another one of its shape, writing each chunk of the target once; those of zeros are left out."""
    sizes = target.shards or target.chunks
    for place in np.ndindex(*(math.ceil(length / size) for length, size in zip(target.shape, sizes, strict=True))):
        part = tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, sizes, strict=True))
        block = np.asarray(source[part])
        if block.any():
            target[part] = block


def standalone_labels(layout: LabelLayout) -> NgffLabels:
    """The plan of a label image of its own, as OME-NGFF 0.5 on zarr 3, with coarser levels for large planes."""
    scale = tuple(float(layout.voxel_size.get(axis, (1.0, ""))[0]) for axis in layout.axes)
    shift = tuple(layout.translation.get(axis, 0.0) for axis in layout.axes)
    return NgffLabels(
        name=layout.name.split(".")[0],
        version="0.5",
        zarr_format=3,
        axes=layout.axes,
        units=tuple(layout.voxel_size.get(axis, (1.0, ""))[1] for axis in layout.axes),
        levels=downsampled_levels(layout.shape, scale, shift),
        frame_axes=layout.axes[:-2],
        frame_shape=layout.shape[:-2],
    )


class FrameScratch:
    """Compressed frames in a temporary file, from which the output is written in order at the end.

    Parameters
    ----------
    path : Path
        File to create.
    hw : (int, int)
        Size of a frame.
    """

    def __init__(self, path: Path, hw: tuple[int, int]) -> None:
        self._hw = hw
        self._file = path.open("xb+")
        self._places: dict[int, tuple[int, int]] = {}  # frame -> offset and length

    def __contains__(self, frame: int) -> bool:
        return frame in self._places

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        """Keep the labels of a frame."""
        packed = zlib.compress(labels.tobytes(), level=1)
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(packed)
        self._file.flush()  # so that a full disk shows here
        self._places[frame] = (offset, len(packed))

    def read(self, frame: int) -> NDArray[np.int32]:
        """(H, W) labels of a frame; zero if it was never written."""
        if frame not in self._places:
            return np.zeros(self._hw, np.int32)
        offset, length = self._places[frame]
        self._file.seek(offset)
        return np.frombuffer(zlib.decompress(self._file.read(length)), np.int32).reshape(self._hw)

    def close(self) -> None:
        """Close the file, whose content is no longer needed."""
        with suppress(OSError):  # what a full disk refused is written once more, and `write` has reported it
            self._file.close()


class TiffTarget:
    """An OME-TIFF, or a TIFF that ImageJ opens as a hyperstack; compressed.

    Parameters
    ----------
    partial : Path
        Scratch file to create; the finished file has its name with ``.tif`` appended.
    layout : LabelLayout
        Shape, axes, spacing and position.
    is_ome : bool
        OME-TIFF, or ImageJ where the labels fit.
    """

    def __init__(self, partial: Path, layout: LabelLayout, *, is_ome: bool) -> None:
        self._partial, self._layout, self._is_ome = partial, layout, is_ome
        self._scratch = FrameScratch(partial, layout.hw)

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        self._scratch.write(frame, labels)

    def read(self, frame: int) -> NDArray[np.int32]:
        return self._scratch.read(frame)

    def finish(self, ids: list[int], note: str) -> Path:
        finished = self._partial.with_name(f"{self._partial.name}.tif")
        layout = self._layout
        num_bytes = 2 * math.prod(layout.shape)
        if self._is_ome:
            self._save(finished, np.dtype(np.int32), "ome", _ome_metadata(layout, note))
        elif max(ids, default=0) <= _MAX_IMAGEJ_ID and num_bytes < _MAX_IMAGEJ_BYTES:
            self._save(finished, np.dtype(np.uint16), "imagej", _imagej_metadata(layout, note))
        else:
            spacing = {axis: list(pair) for axis, pair in layout.voxel_size.items()}
            metadata = {"axes": layout.axes, "spacing": spacing, "translation": layout.translation, "note": note}
            self._save(finished, np.dtype(np.int32), "shaped", metadata)
        self.stop()
        return finished

    def stop(self) -> None:
        self._scratch.close()

    def _save(
        self,
        path: Path,
        dtype: np.dtype[np.generic],
        kind: Literal["ome", "imagej", "shaped"],
        metadata: Mapping[str, object],
    ) -> None:
        axes = self._layout.axes
        if kind == "imagej":  # whose order is TZCYX
            axes = "".join(axis for axis in "TZCYX" if axis in axes)
        tifffile.imwrite(
            path,
            self._frames(axes, dtype),
            shape=tuple(self._layout.shape[self._layout.axes.index(axis)] for axis in axes),
            dtype=dtype,
            ome=kind == "ome",
            imagej=kind == "imagej",
            metadata={**metadata, "axes": axes},
            photometric="minisblack",
            compression="zlib",
            software=LABEL_SOFTWARE,
            resolution=_imagej_resolution(self._layout) if kind == "imagej" else None,
        )

    def _frames(self, axes: str, dtype: np.dtype[np.generic]) -> Iterator[NDArray[np.generic]]:
        """The planes in the order of ``axes``."""
        layout = self._layout
        numbers = np.arange(layout.num_frames).reshape(layout.shape[:-2])
        order = numbers.transpose([layout.axes.index(axis) for axis in axes[:-2]])
        for frame in order.ravel():
            yield self._scratch.read(int(frame)).astype(dtype)


def _ome_metadata(layout: LabelLayout, note: str) -> dict[str, object]:
    metadata: dict[str, object] = {"axes": layout.axes}
    if note:
        metadata["Description"] = note
    for axis, (value, unit) in layout.voxel_size.items():
        if axis == "C":
            continue
        name = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata[name] = value
        if unit or axis != "T":  # a time without unit is in seconds
            metadata[f"{name}Unit"] = unit_symbol(unit)
    planes = _ome_positions(layout)
    if planes:
        metadata["Plane"] = planes
    return metadata


def _ome_positions(layout: LabelLayout) -> dict[str, list[object]]:
    """Position of each plane in space, as OME-XML has it: that of the first pixel, in Z that of the plane itself."""
    moved = [axis for axis in "XYZ" if axis in layout.translation]
    positions: dict[str, list[object]] = {}
    for axis in moved:
        size, unit = layout.voxel_size.get(axis, (1.0, ""))
        start = layout.translation[axis]
        step = size if axis == "Z" else 0.0
        places = (layout.place(frame) for frame in range(layout.num_frames))
        numbers = [place[layout.axes.index("Z")] if axis == "Z" else 0 for place in places]
        positions[f"Position{axis}"] = [start + step * number for number in numbers]
        positions[f"Position{axis}Unit"] = [unit_symbol(unit)] * layout.num_frames
    return positions


def _imagej_unit(layout: LabelLayout) -> str:
    """The one length unit of an ImageJ file: that of X, else of Y or Z; empty where there is none."""
    return next((layout.voxel_size[axis][1] for axis in "XYZ" if axis in layout.voxel_size), "")


def _imagej_metadata(layout: LabelLayout, note: str) -> dict[str, object]:
    unit = _imagej_unit(layout)
    metadata: dict[str, object] = {"axes": layout.axes}
    if unit:
        metadata["unit"] = {"micrometer": "um", "angstrom": "angstrom"}.get(unit, unit_symbol(unit))  # ASCII only
    if note:
        metadata["Info"] = note
    spacing = convert(layout.voxel_size["Z"], unit) if "Z" in layout.voxel_size else None
    if spacing is not None:
        metadata["spacing"] = spacing
    interval = layout.voxel_size.get("T")
    if interval is not None:
        seconds = convert((interval[0], interval[1] or "second"), "second")
        if seconds is not None:
            metadata["finterval"] = seconds
    for axis, start in layout.translation.items():
        if axis in "XYZ":  # the pixel that lies at 0
            metadata[f"{axis.lower()}origin"] = -start / layout.voxel_size.get(axis, (1.0, ""))[0]
    return metadata


def _imagej_resolution(layout: LabelLayout) -> tuple[float, float] | None:
    """Pixels per unit in x and y."""
    unit = _imagej_unit(layout)
    sizes = [convert(layout.voxel_size[axis], unit) for axis in "XY" if axis in layout.voxel_size]
    if len(sizes) != 2 or sizes[0] is None or sizes[1] is None:
        return None
    return 1 / sizes[0], 1 / sizes[1]
