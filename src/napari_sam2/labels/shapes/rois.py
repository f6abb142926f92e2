"""ImageJ ROI files and ROI sets."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.shapes.found_shape import LIMITS, FoundShape, warn_of_others
from napari_sam2.labels.shapes.label_frames import frames_of, polygons_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_sam2.labels.formats import FrameScratch, LabelLayout
    from napari_sam2.labels.outlines import Polygon
    from napari_sam2.labels.shapes.found_shape import Place

__all__ = ["read_rois", "save_rois"]

_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0  # of a path, as in java.awt.geom.PathIterator
_NAME = re.compile(r"label-(?P<id>\d{1,10})(-\d+)?")  # of the ROIs written here


def save_rois(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for frame, place, labels in frames_of(layout, scratch):
            for object_id, polygons in polygons_of(layout, labels):
                name = f"label-{object_id}" + (f"-{frame + 1}" if layout.num_frames > 1 else "")
                archive.writestr(f"{name}.roi", _roi(name, object_id, polygons, place, frame))
        if note:
            archive.comment = note.encode()


def _roi(name: str, object_id: int, polygons: list[Polygon], place: Mapping[str, int], frame: int) -> bytes:
    import roifile

    rings = [np.rint(ring) for rings in polygons for ring in rings]
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0].astype(int), name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED
    else:  # several pieces or holes: a path
        path: list[float] = []
        for ring in rings:
            for operation, (x, y) in zip([_MOVE_TO] + [_LINE_TO] * (len(ring) - 1), ring.tolist(), strict=True):
                path += [operation, x, y]
            path.append(_CLOSE)
        corners = np.concatenate(rings).astype(int)
        roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name=name)
        roi.left, roi.top = (int(v) for v in corners.min(0))
        roi.right, roi.bottom = (int(v) for v in corners.max(0))
        roi.multi_coordinates = np.array(path, np.float32)
        roi.shape_roi_size = len(path)
    roi.stroke_color = bytes((255, *object_colour(object_id)))
    if len(place) > 1:  # a hyperstack: positions count from 1, and 0 would be all
        roi.c_position, roi.z_position, roi.t_position = (place.get(axis, 0) + 1 for axis in "CZT")
    elif place:
        roi.position = frame + 1
    data: bytes = roi.tobytes()
    return data


def read_rois(path: Path) -> list[FoundShape]:
    import roifile

    with_corners = (roifile.ROI_TYPE.POLYGON, roifile.ROI_TYPE.FREEHAND, roifile.ROI_TYPE.TRACED)
    rois = [roifile.ImagejRoi.frombytes(data) for data in _roi_data(path)]
    shapes = []
    for roi in rois:
        if roi.roitype in (roifile.ROI_TYPE.LINE, roifile.ROI_TYPE.FREELINE, roifile.ROI_TYPE.POLYLINE,
                           roifile.ROI_TYPE.NOROI, roifile.ROI_TYPE.ANGLE, roifile.ROI_TYPE.POINT):  # fmt: skip
            continue
        if roi.subtype in (roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.IMAGE):  # their frame is no object
            continue
        if roi.roitype in with_corners and not roi.n_coordinates:
            continue  # an empty selection
        rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
        place: Place
        if roi.z_position or roi.t_position:
            place = (max(roi.z_position, 1) - 1, max(roi.t_position, 1) - 1)
        else:
            place = (roi.position - 1, None) if roi.position else (None, None)
        named = _NAME.fullmatch(roi.name)
        channel = roi.c_position - 1 if roi.c_position else None
        shapes.append(FoundShape(None if named is None else int(named["id"]), place, (rings,), channel=channel))
    warn_of_others(path, len(rois) - len(shapes), len(shapes))
    return shapes


def _roi_data(path: Path) -> Iterator[bytes]:
    """Content of a ROI file, or of those of an archive; what a Mac adds to an archive (``._NAME``) is left out."""
    if path.suffix.lower() != ".zip":
        yield path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        _check_roi_set(path, archive)
        members = [each for each in archive.infolist() if _is_roi(each.filename)]  # several may have one name
        if not members:
            raise FrameError(f"{path} is not an ROI set: it contains no .roi file; save it in ImageJ's ROI Manager")
        for member in members:
            yield archive.read(member)


def _is_roi(name: str) -> bool:
    return name.lower().endswith(".roi") and not name.split("/")[-1].startswith("._")


def _check_roi_set(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members become far larger than the file."""
    claimed = sum(member.file_size for member in archive.infolist())
    held = path.stat().st_size
    if claimed > LIMITS.max_roi_bytes and claimed > LIMITS.max_ratio * held:
        raise FrameError(f"{path} claims ROIs of {claimed:,} bytes in a file of {held:,}; export the ROI set again")
