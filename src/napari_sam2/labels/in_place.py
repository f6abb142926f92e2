"""Correct an OME-Zarr label image where it is: only the chunks that changed are written, at every level."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam2._arguments import as_array, checked_calls
from napari_sam2._checks import LARGEST_ID
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._files import expand, write_error
from napari_sam2._messages import one_line
from napari_sam2.frames.geometry import as_position
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.ngff import resample_labels
from napari_sam2.labels.overlaps import label_areas

__all__ = ["LabelEditor"]

_KEPT = "Chunks that were written before are kept."


class _NewPlane:
    """New labels of one plane in place of those that an array of ``shape`` stores there."""

    def __init__(self, shape: tuple[int, ...], labels: NDArray[Any], by_index: bool = False) -> None:
        self.shape = shape
        self._labels, self._by_index = labels, by_index

    @property
    def oindex(self) -> _NewPlane:
        """As of zarr arrays: the rows and columns of an index are chosen independently."""
        return _NewPlane(self.shape, self._labels, by_index=True)

    def __getitem__(self, index: tuple[Any, ...], /) -> NDArray[Any]:
        return self._labels[np.ix_(*index[-2:]) if self._by_index else index[-2:]]


@checked_calls(OutputError)
class LabelEditor:
    """An OME-Zarr label image that is corrected frame by frame; used in ``with``.

    Setting a frame writes the chunks in which it differs from what is stored, and what depends on them at the coarser
    levels. New objects are added to the metadata when it is closed. Work that is interrupted leaves the frames that
    were set before.

    Parameters
    ----------
    path : path-like
        Folder of the label image, as ``image.zarr/labels/cells``.

    Attributes
    ----------
    shape : tuple of int
        (T, H, W), with T frames along all axes before Y and X, the last one fastest.
    num_written : int
        Chunks of the full resolution that were written so far; of a sharded image, shards.

    Raises
    ------
    OutputError
        If it is not an OME-Zarr label image, or cannot be written to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import zarr

        self.path: Path = expand(path)
        try:
            self._group = zarr.open_group(str(self.path), mode="r+", use_consolidated=False)
            attributes: dict[str, Any] = dict(self._group.attrs.asdict())
            ome: dict[str, Any] = attributes.get("ome", attributes)
            paths = [str(level["path"]) for level in ome["multiscales"][0]["datasets"]]
            levels: list[Any] = [self._group[name] for name in paths]
            self._levels = sorted(levels, key=lambda level: -math.prod(level.shape))  # finest first
            is_label = "image-label" in ome and all(level.dtype.kind in "iu" for level in self._levels)
        except READ_ERRORS as error:
            raise OutputError(f"{path} cannot be opened as an OME-Zarr label image ({one_line(error)})") from error
        if not is_label:
            raise OutputError(
                f"{path} is not a label image; expected OME-Zarr with integers and 'image-label' metadata"
            )
        self._full = self._levels[0]
        shape = tuple(int(length) for length in self._full.shape)
        self.shape: tuple[int, int, int] = (math.prod(shape[:-2]), shape[-2], shape[-1])
        self.num_written = 0
        self._new_ids: set[int] = set()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        """(H, W) labels of a frame as they are stored.

        Raises
        ------
        IndexError
            If there is no such frame; negative ones count from the end.
        FrameError
            If they cannot be read, or hold ids that are no int32.
        """
        position = as_position(frame, len(self), "frame")
        try:
            stored = np.asarray(self._full[self._place(position)])
        except READ_ERRORS as error:
            raise FrameError(f"frame {frame} of {self.path} cannot be read ({one_line(error)})") from error
        low, high = int(stored.min()), int(stored.max())
        if low < 0 or high > LARGEST_ID:
            raise FrameError(
                f"frame {frame} of {self.path} holds labels from {low} to {high}; labels that are corrected in place "
                f"are 0 to {LARGEST_ID}: read them with read_labels, which renumbers them, and save them as another "
                "label image"
            )
        return stored.astype(np.int32, copy=False)

    def __setitem__(self, frame: int, labels: ArrayLike, /) -> None:
        """Store the labels of a frame where they differ.

        Raises
        ------
        OutputError
            If frame, shape or ids do not fit, or the disk is full.
        """
        new = as_array(labels, "labels", OutputError)
        if new.shape != self.shape[1:] or new.dtype.kind not in "biu":
            raise OutputError(
                f"labels of shape {new.shape}, {new.dtype} were given; expected integers {self.shape[1:]}"
            )
        low, high = int(new.min()), int(new.max())
        limit = int(np.iinfo(self._full.dtype).max)
        if low < 0 or high > limit:
            raise OutputError(f"labels from {low} to {high} were given; {self.path} holds 0 to {limit}")
        place = self._place(frame)
        stored = np.asarray(self._full[place])
        is_changed = stored != new
        if not is_changed.any():
            return
        try:
            self._write(place, new, is_changed)
        except OSError as error:
            raise write_error(self.path, error, kept=_KEPT) from error
        self._new_ids.update(label_areas(np.where(is_changed, new, 0))[:, 0].tolist())

    def _write(self, place: tuple[int, ...], new: NDArray[Any], is_changed: NDArray[np.bool_]) -> None:
        height, width = (self._full.shards or self._full.chunks)[-2:]
        for y in range(0, new.shape[0], height):
            for x in range(0, new.shape[1], width):
                part = (slice(y, min(y + height, new.shape[0])), slice(x, min(x + width, new.shape[1])))
                if not is_changed[part].any():
                    continue
                window = (*(slice(i, i + 1) for i in place), *part)
                # the full resolution last: work that is cut off between is done again, as it still differs there
                for level in self._levels[1:]:
                    resample_labels(_NewPlane(self._full.shape, new), level, window)
                self._full[(*place, *part)] = new[part]
                self.num_written += 1

    def close(self) -> None:
        """Add new objects to the metadata; raises OutputError if it cannot be written."""
        if not self._new_ids:
            return
        attributes: dict[str, Any] = dict(self._group.attrs.asdict())
        ome: dict[str, Any] = dict(attributes.get("ome", attributes))
        label = dict(ome["image-label"])
        for key in ("properties", "colors"):
            listed = list(label.get(key, []))
            known = {entry.get("label-value") for entry in listed}
            for object_id in sorted(self._new_ids - known):
                colour = {"rgba": [*object_colour(object_id), 255]} if key == "colors" else {}
                listed.append({"label-value": object_id, **colour})
            label[key] = listed
        ome["image-label"] = label
        try:
            self._group.attrs.put({**attributes, "ome": ome} if "ome" in attributes else ome)
        except OSError as error:
            raise write_error(self.path, error, kept=_KEPT) from error
        self._new_ids.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, frame: int) -> tuple[int, ...]:
        if not 0 <= frame < self.shape[0]:
            raise OutputError(f"frame {frame} was given for a label image of {self.shape[0]} frames")
        return tuple(int(i) for i in np.unravel_index(frame, self._full.shape[:-2])) if self._full.ndim > 2 else ()
