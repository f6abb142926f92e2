"""The three formats of label stacks: OME-Zarr, OME-TIFF and ImageJ TIFF, each built under a temporary name."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam2.frames.spacing import convert, unit_symbol

__all__ = ["PART_ROWS", "LabelLayout", "LabelTarget", "TiffTarget", "ZarrTarget"]

_MAX_IMAGEJ_ID = 2**16 - 1
_MAX_IMAGEJ_BYTES = 2**32 - 2**25  # offsets of a classic TIFF have 32 bits; tifffile keeps 32 MiB for metadata
PART_ROWS = 1024
"""Rows of a chunk: what is read or written in parts is best aligned with it."""
_JSON: TypeAlias = "str | int | float | Mapping[str, _JSON] | Sequence[_JSON] | None"
_NGFF_TYPES = {"T": "time", "Z": "space", "Y": "space", "X": "space"}


class LabelLayout:
    """Shape, axes and spacing of the output."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        axes: str,
        voxel_size: dict[str, tuple[float, str]],
        num_slices: int | None = None,
    ) -> None:
        self.name, self.axes = name, axes
        self.num_frames, self.hw = shape[0], shape[1:]
        self.shape: tuple[int, ...] = shape if len(axes) == 3 else shape[1:]
        if num_slices is not None:
            self.shape = (shape[0] // num_slices, num_slices, *shape[1:])
        self.voxel_size = {axis: voxel_size[axis] for axis in axes if axis in voxel_size}

    def place(self, frame: int) -> tuple[int, ...]:
        """Index of a frame along the axes before Y and X."""
        return tuple(int(i) for i in np.unravel_index(frame, self.shape[:-2])) if len(self.shape) > 2 else ()

    def index(self, frame: int, part: tuple[slice, slice] = (slice(None), slice(None))) -> tuple[int | slice, ...]:
        """Index of a frame, or of some of its rows and columns."""
        before: tuple[int | slice, ...] = self.place(frame)
        return before + part


class LabelTarget(Protocol):
    def write(self, frame: int, labels: NDArray[np.int32]) -> None: ...

    def read(self, frame: int) -> NDArray[np.int32]:
        """(H, W) of a frame written before."""

    def finish(self, ids: list[int], note: str) -> Path:
        """Complete the data under a temporary name and return it."""

    def stop(self) -> None:
        """Let go of open files."""


class ZarrTarget:
    """An OME-NGFF 0.5 label image, one chunk row per frame."""

    def __init__(self, partial: Path, layout: LabelLayout) -> None:
        import zarr

        self._partial, self._layout = partial, layout
        partial.mkdir()
        self._group = zarr.open_group(str(partial), mode="a", zarr_format=3)
        height, width = layout.hw
        chunks = (*(1 for _ in layout.shape[:-2]), min(height, PART_ROWS), min(width, PART_ROWS))
        self._array = self._group.create_array(
            "0",
            shape=layout.shape,
            chunks=chunks,
            dtype="int32",
            fill_value=0,
            dimension_names=[axis.lower() for axis in layout.axes],
        )
        self._group.attrs.put({"ome": self._metadata([])})

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        self._array[self._layout.index(frame)] = labels

    def read(self, frame: int) -> NDArray[np.int32]:
        return np.asarray(self._array[self._layout.index(frame)], np.int32)

    def write_part(self, frame: int, part: tuple[slice, slice], labels: NDArray[np.int32]) -> None:
        """Write some rows and columns of a frame."""
        self._array[self._layout.index(frame, part)] = labels

    def read_part(self, frame: int, part: tuple[slice, slice]) -> NDArray[np.int32]:
        """Some rows and columns of a frame; zero where nothing was written."""
        return np.asarray(self._array[self._layout.index(frame, part)], np.int32)

    def finish(self, ids: list[int], note: str) -> Path:
        self._group.attrs.update({"ome": self._metadata(ids)})
        if note:
            self._group.attrs["napari_sam2"] = {"note": note}
        return self._partial

    def stop(self) -> None:
        """Nothing is held open."""

    def _metadata(self, ids: list[int]) -> _JSON:
        axes: list[_JSON] = []
        for axis in self._layout.axes:
            unit = self._layout.voxel_size.get(axis, (1.0, ""))[1]
            axes.append({"name": axis.lower(), "type": _NGFF_TYPES[axis], **({"unit": unit} if unit else {})})
        scale = [float(self._layout.voxel_size.get(axis, (1.0, ""))[0]) for axis in self._layout.axes]
        dataset: _JSON = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        image_label: _JSON = {"properties": [{"label-value": i} for i in ids]} if ids else {}
        return {
            "version": "0.5",
            "multiscales": [{"name": self._layout.name.split(".")[0], "axes": axes, "datasets": [dataset]}],
            "image-label": image_label,
        }


class TiffTarget:
    """Compressed frames in a scratch file, from which the TIFF is written in order at the end."""

    def __init__(self, partial: Path, layout: LabelLayout, *, is_ome: bool) -> None:
        self._partial, self._layout, self._is_ome = partial, layout, is_ome
        self._scratch = partial.open("xb+")
        self._places: dict[int, tuple[int, int]] = {}  # frame -> offset and length in the scratch file

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        packed = zlib.compress(labels.tobytes(), level=1)
        offset = self._scratch.seek(0, os.SEEK_END)
        self._scratch.write(packed)
        self._scratch.flush()  # a full disk shows here
        self._places[frame] = (offset, len(packed))

    def read(self, frame: int) -> NDArray[np.int32]:
        offset, length = self._places[frame]
        self._scratch.seek(offset)
        plane = np.frombuffer(zlib.decompress(self._scratch.read(length)), np.int32)
        return plane.reshape(self._layout.hw)

    def finish(self, ids: list[int], note: str) -> Path:
        finished = self._partial.with_name(f"{self._partial.name}.tif")
        layout = self._layout
        num_bytes = 2 * layout.num_frames * layout.hw[0] * layout.hw[1]
        if self._is_ome:
            self._save(finished, np.dtype(np.int32), "ome", _ome_metadata(layout, note))
        elif max(ids, default=0) <= _MAX_IMAGEJ_ID and num_bytes < _MAX_IMAGEJ_BYTES:
            self._save(finished, np.dtype(np.uint16), "imagej", _imagej_metadata(layout, note))
        else:
            spacing = {axis: list(pair) for axis, pair in layout.voxel_size.items()}
            self._save(finished, np.dtype(np.int32), "shaped", {"axes": layout.axes, "spacing": spacing, "note": note})
        self.stop()
        return finished

    def stop(self) -> None:
        self._scratch.close()

    def _save(
        self,
        path: Path,
        dtype: np.dtype[np.generic],
        kind: Literal["ome", "imagej", "shaped"],
        metadata: dict[str, object],
    ) -> None:
        tifffile.imwrite(
            path,
            self._frames(dtype),
            shape=self._layout.shape,
            dtype=dtype,
            ome=kind == "ome",
            imagej=kind == "imagej",
            metadata=metadata,
            photometric="minisblack",
            compression=None if kind == "imagej" else "zlib",  # ImageJ maps uncompressed planes only
            resolution=_imagej_resolution(self._layout) if kind == "imagej" else None,
        )

    def _frames(self, dtype: np.dtype[np.generic]) -> Iterator[NDArray[np.generic]]:
        for frame in range(self._layout.num_frames):
            if frame in self._places:
                yield self.read(frame).astype(dtype)
            else:
                yield np.zeros(self._layout.hw, dtype)


def _ome_metadata(layout: LabelLayout, note: str) -> dict[str, object]:
    metadata: dict[str, object] = {"axes": layout.axes}
    if note:
        metadata["Description"] = note
    for axis, (value, unit) in layout.voxel_size.items():
        name = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata[name] = value
        if unit or axis != "T":  # a time without unit is in seconds
            metadata[f"{name}Unit"] = unit_symbol(unit)
    return metadata


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
    return metadata


def _imagej_resolution(layout: LabelLayout) -> tuple[float, float] | None:
    """Pixels per unit in x and y."""
    unit = _imagej_unit(layout)
    sizes = [convert(layout.voxel_size[axis], unit) for axis in "XY" if axis in layout.voxel_size]
    if len(sizes) != 2 or sizes[0] is None or sizes[1] is None:
        return None
    return 1 / sizes[0], 1 / sizes[1]
