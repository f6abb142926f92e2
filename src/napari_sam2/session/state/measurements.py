"""Measurements of a session's objects: its labels and image, read one plane at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.labels.measurements import MeasuredPlane, measure_planes, summarize_objects, surface_area

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_sam2._types import FrameSource
    from napari_sam2.session.state.store import SessionStore

__all__ = ["Measurement"]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is to be measured, noted on the thread that owns the session; ``run`` may be called on another one.

    Attributes
    ----------
    store : SessionStore
        Whose labels are read.
    frames : FrameSource
        Whose intensities are measured.
    planes : tuple of int
        The planes with masks.
    names : mapping of int to str
        Object -> name.
    ious : mapping of (int, int) to float
        Object and plane -> predicted IoU.
    by : {"object", "plane"}
        One row per object and clip, or per object and plane.
    sizes : tuple of float
        Distance of two pixels along each axis.
    is_volume : bool
        Whether the frames are planes of a z-stack, and not time points.
    """

    store: SessionStore
    frames: FrameSource
    planes: tuple[int, ...]
    names: Mapping[int, str]
    ious: Mapping[tuple[int, int], float]
    by: Literal["object", "plane"]
    sizes: tuple[float, ...]
    is_volume: bool

    @classmethod
    def of(
        cls,
        store: SessionStore,
        frames: FrameSource,
        by: Literal["object", "plane"],
        *,
        scale: Sequence[float] | None,
        frames_are_times: bool,
    ) -> Measurement:
        """Note the state of a store; arguments and errors as for ``Session.measurements``."""
        if by not in ("object", "plane"):
            raise PromptError(f"by={by!r} was given; choose 'object' or 'plane'")
        geometry = store.geometry
        return cls(
            store,
            frames,
            tuple(store.planes_with_masks()),
            {object_id: each.name for object_id, each in store.objects.items()},
            {key: mask.iou for key, mask in store.masks.items() if mask.area},
            by,
            _sizes(scale, geometry.ndim),
            geometry.num_frames > 1 and not frames_are_times,
        )

    def run(self, on_plane: Callable[[int, int], object] | None = None) -> pd.DataFrame:
        """Read and measure.

        Parameters
        ----------
        on_plane : callable, optional
            Called with how many planes were read, and how many there are; an exception from it ends the run.
        """
        spacing = (self.sizes[-2], self.sizes[-1])
        rows = measure_planes(self._read(on_plane), spacing=spacing)
        rows = rows[rows["object"].isin(list(self.names))].reset_index(drop=True)
        rows.insert(1, "name", rows["object"].map(self.names))
        keys = zip(rows["object"].tolist(), rows["plane"].tolist(), strict=True)
        rows["iou"] = [self.ious.get((int(i), int(p)), np.nan) for i, p in keys]
        return rows if self.by == "plane" else self._by_object(rows, spacing)

    def _by_object(self, rows: pd.DataFrame, spacing: tuple[float, float]) -> pd.DataFrame:
        axis = self.store.geometry.frame_axis
        distance = self.sizes[axis] if self.is_volume and axis is not None else None
        table = summarize_objects(rows, plane_distance=distance)
        if not len(table):
            return table
        table.insert(1, "name", table["object"].map(self.names))
        if distance is not None:
            windows = table[["object", "clip", "first_frame", "last_frame", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]]
            table["surface"] = [
                self._surface(tuple(int(v) for v in window), (distance, *spacing))
                for window in windows.itertuples(index=False, name=None)
            ]
        ious = rows.groupby(["object", "clip"], sort=True)["iou"].mean()
        table["iou"] = [ious[key] for key in zip(table["object"], table["clip"], strict=True)]
        return table

    def _read(self, on_plane: Callable[[int, int], object] | None) -> Iterator[MeasuredPlane]:
        """The planes with masks, one after the other."""
        for number, plane in enumerate(self.planes):
            if on_plane is not None:
                on_plane(number, len(self.planes))
            labels = self.store.plane_labels(plane)
            if not labels.any():
                continue
            frames = self.frames
            values = frames.raw(plane) if isinstance(frames, ArrayPlanes) else [np.asarray(frames[plane])]
            channels: list[NDArray[Any]] = []
            for image in values:
                channels += [image] if image.ndim == 2 else [image[..., i] for i in range(min(image.shape[-1], 3))]
            clip, frame = divmod(plane, self.store.geometry.num_frames)
            yield MeasuredPlane(plane, clip, frame, labels, channels)

    def _surface(self, window: tuple[int, ...], spacing: tuple[float, float, float]) -> float:
        object_id, clip, first, last, y0, x0, y1, x1 = window
        start = clip * self.store.geometry.num_frames
        planes = range(start + first, start + last + 1)
        mask = np.stack([self.store.plane_labels(p)[y0:y1, x0:x1] == object_id for p in planes])
        return surface_area(mask, spacing)


def _sizes(scale: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    if scale is None:
        return (1.0,) * ndim
    sizes = tuple(float(value) for value in scale)
    if len(sizes) != ndim or not all(value > 0 and np.isfinite(value) for value in sizes):
        raise PromptError(f"scale={tuple(scale)} was given; expected {ndim} positive distances, one for each axis")
    return sizes
