"""What is written to files of shapes: the objects of label frames, as polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.labels.outlines import label_polygons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_sam2.labels.formats import FrameScratch, LabelLayout
    from napari_sam2.labels.outlines import Polygon

__all__ = ["frames_of", "polygons_of"]


def frames_of(layout: LabelLayout, scratch: FrameScratch) -> Iterator[tuple[int, dict[str, int], NDArray[np.int32]]]:
    """Number, position by axis letter, and labels of each frame that was written."""
    for frame in range(layout.num_frames):
        if frame in scratch:
            yield frame, dict(zip(layout.axes, layout.place(frame), strict=False)), scratch.read(frame)


def polygons_of(layout: LabelLayout, labels: NDArray[np.int32]) -> Iterator[tuple[int, list[Polygon]]]:
    """Id and polygons of each object of a frame, in pixels of the full resolution."""
    zoom_xy = np.array(layout.full_hw[::-1]) / layout.hw[::-1]
    for object_id, polygons in label_polygons(labels):
        yield object_id, [[ring * zoom_xy for ring in rings] for rings in polygons]
