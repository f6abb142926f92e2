"""Volumes over time as one stack: every plane of every time point, numbered with z running fastest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_sam2.frames.geometry import StackGeometry, as_position

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.frames.sources import Frames

__all__ = ["VolumeSeries"]


class VolumeSeries:
    """The planes of all time points of opened volumes; a ``FrameSource``.

    Parameters
    ----------
    open_at : callable
        Opens the z-stack of a time point, such as `Frames.at_time`; called once for each.
    num_times : int
        Number of time points.

    Attributes
    ----------
    geometry : StackGeometry
        (T, Z, H, W), along Z.
    """

    def __init__(self, open_at: Callable[[int], Frames], num_times: int) -> None:
        self._open_at = open_at
        self._opened: dict[int, Frames] = {}
        self._key: str | None = None
        first = self._at(0)
        self._num_slices = len(first)
        self.geometry = StackGeometry((num_times, *first.shape), 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T x Z, H, W)."""
        return (self.geometry.num_planes, *self.geometry.hw)

    @property
    def key(self) -> str:
        """Names the pixels; equal keys give equal planes."""
        if self._key is None:
            keys = ",".join(self._at(time).key for time in range(self.geometry.num_clips))
            self._key = hashlib.sha256(keys.encode()).hexdigest()
        return self._key

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels shown; empty where the file has none."""
        return self._at(0).channel_names

    def __len__(self) -> int:
        return self.geometry.num_planes

    def __getitem__(self, plane: int, /) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one plane.

        Raises
        ------
        IndexError
            If there is no such plane; negative ones count from the end.
        FrameError
            If the file is damaged.
        """
        frames, frame = self._find(plane)
        return frames[frame]

    def region(self, plane: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a part of a plane, as `Frames.region` reads it; raises as ``series[plane]``."""
        frames, frame = self._find(plane)
        return frames.region(frame, rows, columns)

    def raw(self, plane: int) -> list[NDArray[np.generic]]:
        """(H, W) values of each channel on one plane; raises as ``series[plane]``."""
        frames, frame = self._find(plane)
        return list(frames.raw(frame))

    def _find(self, plane: int) -> tuple[Frames, int]:
        """The time point that a plane belongs to, and its frame there."""
        time, frame = divmod(as_position(plane, len(self), "plane"), self._num_slices)
        return self._at(time), frame

    def _at(self, time: int) -> Frames:
        if time not in self._opened:
            self._opened[time] = self._open_at(time)
        return self._opened[time]
