"""Measurements of a session's objects: its labels and image, read one plane at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2.frames.display import plane_values
from napari_sam2.frames.sources import Frames
from napari_sam2.frames.volume_series import VolumeSeries
from napari_sam2.labels.measurements import measure_stack

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
    classes : mapping of int to str
        Object -> class.
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
    classes: Mapping[int, str]
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
            raise PromptError(f"by={shown(by)} was given; choose 'object' or 'plane'")
        geometry = store.geometry
        return cls(
            store,
            frames,
            tuple(store.planes_with_masks()),
            {object_id: each.name for object_id, each in store.objects.items()},
            {object_id: each.class_name for object_id, each in store.objects.items()},
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
        geometry, axis = self.store.geometry, self.store.geometry.frame_axis
        distance = self.sizes[axis] if axis is not None else 1.0
        ids = list(self.names)

        def labels_of(plane: int) -> NDArray[Any]:
            labels = self.store.plane_labels(plane)
            return np.where(np.isin(labels, ids), labels, 0)

        table = measure_stack(
            self.planes,
            labels_of,
            self._channels,
            by=self.by,
            scale=(distance, self.sizes[-2], self.sizes[-1]),
            is_volume=self.is_volume,
            planes_per_clip=geometry.num_frames,
            channel_names=self.frames.channel_names if isinstance(self.frames, Frames | VolumeSeries) else (),
            on_plane=on_plane,
        )
        if not len(table) and self.by == "object":
            return table
        table.insert(1, "name", table["object"].map(self.names))
        table.insert(2, "class", table["object"].map(self.classes))
        table["iou"] = self._ious_of(table)
        return table

    def _ious_of(self, table: pd.DataFrame) -> list[float]:
        """The predicted IoU of each row: that of its mask, or the mean over the masks of its object."""
        if self.by == "plane":
            keys = zip(table["object"].tolist(), table["plane"].tolist(), strict=True)
            return [self.ious.get((int(i), int(p)), np.nan) for i, p in keys]
        found: dict[tuple[int, int], list[float]] = {}
        for (object_id, plane), iou in self.ious.items():
            if not np.isnan(iou):
                found.setdefault((object_id, plane // self.store.geometry.num_frames), []).append(iou)
        places = zip(table["object"].tolist(), table["clip"].tolist(), strict=True)
        return [float(np.mean(found[place])) if place in found else np.nan for place in places]

    def _channels(self, plane: int) -> list[NDArray[Any]]:
        """(H, W) values of each channel of a plane."""
        channels: list[NDArray[Any]] = []
        for image in plane_values(self.frames, plane):
            channels += [image] if image.ndim == 2 else [image[..., i] for i in range(min(image.shape[-1], 3))]
        return channels


def _sizes(scale: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    if scale is None:
        return (1.0,) * ndim
    sizes = tuple(float(value) for value in scale)
    if len(sizes) != ndim or not all(value > 0 and np.isfinite(value) for value in sizes):
        raise PromptError(f"scale={tuple(scale)} was given; expected {ndim} positive distances, one for each axis")
    return sizes
