"""Write the objects of label frames to a file of shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam2.labels.formats import FrameScratch, LabelLayout
from napari_sam2.labels.shapes.coco import save_coco
from napari_sam2.labels.shapes.geojson import save_geojson
from napari_sam2.labels.shapes.rois import save_rois

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ShapeTarget"]


class ShapeTarget:
    """Label frames in a scratch file, from which the objects of all frames are written at the end.

    Parameters
    ----------
    partial : Path
        Scratch file to create; the finished file has its name with the suffix appended.
    layout : LabelLayout
        Shape and axes.
    suffix : {".zip", ".geojson", ".json"}
        ImageJ ROI set, GeoJSON or COCO.
    """

    def __init__(self, partial: Path, layout: LabelLayout, suffix: str) -> None:
        self._partial, self._layout, self._suffix = partial, layout, suffix
        self._scratch = FrameScratch(partial, layout.hw)

    def write(self, frame: int, labels: NDArray[np.int32]) -> None:
        self._scratch.write(frame, labels)

    def read(self, frame: int) -> NDArray[np.int32]:
        return self._scratch.read(frame)

    def finish(self, ids: list[int], note: str) -> Path:  # noqa: ARG002 the objects are read again
        finished = self._partial.with_name(f"{self._partial.name}{self._suffix}")
        save: Callable[[Path, LabelLayout, FrameScratch, str], None]
        save = {".zip": save_rois, ".geojson": save_geojson, ".json": save_coco}[self._suffix]
        save(finished, self._layout, self._scratch, note)
        self.stop()
        return finished

    def stop(self) -> None:
        self._scratch.close()
