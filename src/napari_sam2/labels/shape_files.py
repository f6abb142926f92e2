"""Objects as outlines or run lengths in files of other programs: ImageJ ROI sets, GeoJSON as QuPath has it, COCO."""

from __future__ import annotations

import gc
import json
import math
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, PromptError, warn_caller
from napari_sam2._messages import one_line
from napari_sam2.frames.file_names import by_numbers
from napari_sam2.frames.stack import READ_ERRORS, check_fits_memory
from napari_sam2.labels.colours import object_colour
from napari_sam2.labels.formats import FrameScratch, LabelLayout
from napari_sam2.labels.ngff import nearest_pixels
from napari_sam2.labels.outlines import Polygon, fill_polygons, label_polygons, label_windows
from napari_sam2.labels.rle import RLE, compress_rle, rle_area, run_lengths_of_window
from napari_sam2.labels.runs import (
    MAX_CROSSINGS,
    MaskRuns,
    count_crossings,
    join_runs,
    runs_of_masks,
    runs_of_polygons,
    runs_of_rle,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPE_SUFFIXES", "ShapeTarget", "read_shapes"]

SHAPE_SUFFIXES = (".zip", ".roi", ".geojson", ".json")
_JSON_SUFFIXES = (".geojson", ".json")
_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0  # of a path, as in java.awt.geom.PathIterator
_CATEGORY = 1
_NAME = re.compile(r"label-(?P<id>\d{1,10})(-\d+)?")  # of the ROIs written here
_Place = tuple[int | None, int | None]


@dataclass(frozen=True)
class ShapeLimits:
    """What a file of shapes may claim; beyond it is refused, as it would fill memory.

    Attributes
    ----------
    max_text_bytes : int
        Size of a JSON file, which is read as a whole.
    max_coordinate : float
        Of a corner, in pixels.
    max_pixels : int
        Of an image whose size is known from a COCO file alone.
    max_roi_bytes : int
        Decompressed size of all members of a ROI set, unless they are compressed less than ``max_ratio``.
    max_ratio : int
        How many times larger than in the file the members of a ROI set may become above that size.
    """

    max_text_bytes: int = 2**30
    max_coordinate: float = 2.0**31
    max_pixels: int = 2**28
    max_roi_bytes: int = 2**26
    max_ratio: int = 100


_LIMITS = ShapeLimits()
_DAMAGED = (*READ_ERRORS, RecursionError, NotImplementedError, zipfile.BadZipFile)


# ---------------------------------------------------------------------- writing
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
        save = {".zip": _save_rois, ".geojson": _save_geojson, ".json": _save_coco}[self._suffix]
        save(finished, self._layout, self._scratch, note)
        self.stop()
        return finished

    def stop(self) -> None:
        self._scratch.close()


def _frames(layout: LabelLayout, scratch: FrameScratch) -> Iterator[tuple[int, dict[str, int], NDArray[np.int32]]]:
    """Number, position by axis letter, and labels of each frame that was written."""
    for frame in range(layout.num_frames):
        if frame in scratch:
            yield frame, dict(zip(layout.axes, layout.place(frame), strict=False)), scratch.read(frame)


def _polygons(layout: LabelLayout, labels: NDArray[np.int32]) -> Iterator[tuple[int, list[Polygon]]]:
    """Id and polygons of each object of a frame, in pixels of the full resolution."""
    zoom_xy = np.array(layout.full_hw[::-1]) / layout.hw[::-1]
    for object_id, polygons in label_polygons(labels):
        yield object_id, [[ring * zoom_xy for ring in rings] for rings in polygons]


def _save_rois(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for frame, place, labels in _frames(layout, scratch):
            for object_id, polygons in _polygons(layout, labels):
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


def _save_geojson(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    features = []
    for _, place, labels in _frames(layout, scratch):
        plane = {"c": place.get("C", -1), "z": place.get("Z", 0), "t": place.get("T", 0)}  # c: -1 is all channels
        for object_id, polygons in _polygons(layout, labels):
            closed = [[[*ring.tolist(), ring[0].tolist()] for ring in rings] for rings in polygons]
            shape = (
                {"type": "Polygon", "coordinates": closed[0]}
                if len(closed) == 1
                else {"type": "MultiPolygon", "coordinates": closed}
            )
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid4()),
                    "geometry": {**shape, "plane": plane},
                    "properties": {
                        "objectType": "detection",
                        "name": str(object_id),
                        "color": list(object_colour(object_id)),
                        "label": object_id,
                    },
                }
            )
    collection = {"type": "FeatureCollection", "features": features, **({"note": note} if note else {})}
    path.write_text(json.dumps(collection), "utf-8")


def _save_coco(path: Path, layout: LabelLayout, scratch: FrameScratch, note: str) -> None:
    height, width = layout.full_hw
    rows, columns = (nearest_pixels(*lengths) for lengths in zip(layout.full_hw, layout.hw, strict=True))
    annotations: list[dict[str, object]] = []
    images = [
        {
            "id": frame + 1,
            "file_name": f"{frame:05d}.png",
            "height": height,
            "width": width,
            **{axis.lower(): i for axis, i in zip(layout.axes, layout.place(frame), strict=False)},
        }
        for frame in range(layout.num_frames)
    ]
    for frame, _, labels in _frames(layout, scratch):
        for object_id, (high, wide) in label_windows(labels):
            y0, y1 = np.searchsorted(rows, (high.start, high.stop)).tolist()
            x0, x1 = np.searchsorted(columns, (wide.start, wide.stop)).tolist()
            mask = labels[np.ix_(rows[y0:y1], columns[x0:x1])] == object_id
            counts = run_lengths_of_window(mask, (y0, x0), (height, width)).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "category_id": _CATEGORY,
                    "segmentation": compress_rle({"size": [height, width], "counts": counts}),
                    "area": rle_area(counts),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                    "track_id": object_id,
                }
            )
    content = {
        "info": {"description": note or "labels of napari-sam2"},
        "images": images,
        "categories": [{"id": _CATEGORY, "name": "object"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content), "utf-8")


# ---------------------------------------------------------------------- reading
@dataclass(frozen=True, eq=False)
class _Shape:
    """One object on one plane, as polygons or run lengths.

    ``place`` is its position along Z and T, counted from 0, None for all planes; without a position along T, that along
    Z counts all planes. ``channel`` is counted from 0; only in labels that have several channels does it say more than
    which one was shown when the object was drawn.
    """

    object_id: int | None
    place: _Place
    polygons: tuple[Polygon, ...] = ()
    rle: RLE | None = None
    channel: int | None = None
    is_of_channel: bool = False


def read_shapes(
    path: Path, shape: tuple[int, ...] | None = None, fixed: Mapping[str, int] | None = None
) -> NDArray[np.int32]:
    """Labels of a file of shapes.

    Parameters
    ----------
    path : Path
        ImageJ ``.roi`` or ``.zip``, GeoJSON, or COCO with polygons or run lengths.
    shape : tuple of int, optional
        (T, H, W), (H, W), (T, Z, H, W) or (T, C, Z, H, W) of the image; COCO files say height and width themselves.
    fixed : mapping of str to int, optional
        Of one stack out of several: its index along T (of a z-stack) or Z (of a movie). Objects of the others are left
        out, with a warning.

    Returns
    -------
    numpy.ndarray
        int32, (H, W) if no object says on which plane it lies, else of ``shape``. Numbers are those that this package
        wrote, else 1, 2, ... in the order of the file. Where objects overlap, the smaller one is on top.

    Raises
    ------
    FrameError
        If the file is missing or damaged, holds no areas, or does not fit ``shape``.
    """
    try:
        with _paused_collection():
            shapes, size = _shapes_of(path, shape)
            return _paint(path, _of_stack(path, shapes, fixed or {}), size, shape)
    except FrameError:
        raise
    except (*_DAMAGED, PromptError) as error:
        raise FrameError(f"{path} cannot be read as shapes ({one_line(error)}); the file may be damaged") from error


def _shapes_of(path: Path, shape: tuple[int, ...] | None) -> tuple[list[_Shape], tuple[int, ...] | None]:
    """The shapes of a file, and the size of the image where it says so."""
    if path.suffix.lower() in (".zip", ".roi"):
        return _rois(path), None
    content = _json(path)
    is_coco = isinstance(content, Mapping) and "annotations" in content
    if isinstance(content, list) and content and "image_id" in content[0]:
        content, is_coco = _coco_of_results(content), True
    return _coco(content, path, shape) if is_coco else (_geojson(content, path), None)


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Within it, Python does not look for unreachable cycles: that takes longer than reading millions of corners."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _json(path: Path) -> Any:
    num_bytes = path.stat().st_size
    if num_bytes > _LIMITS.max_text_bytes:
        raise FrameError(
            f"{path} has {num_bytes:,} bytes; JSON of up to {_LIMITS.max_text_bytes:,} is read: save the objects in "
            "several files, or as a label image"
        )
    content = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(content, (dict, list)):
        raise FrameError(f"{path} is neither GeoJSON nor COCO: it holds {json.dumps(content):.40}")
    return content


def _check_roi_set(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members become far larger than the file."""
    claimed = sum(member.file_size for member in archive.infolist())
    held = path.stat().st_size
    if claimed > _LIMITS.max_roi_bytes and claimed > _LIMITS.max_ratio * held:
        raise FrameError(f"{path} claims ROIs of {claimed:,} bytes in a file of {held:,}; export the ROI set again")


def _paint(
    path: Path, shapes: Sequence[_Shape], size: tuple[int, ...] | None, shape: tuple[int, ...] | None
) -> NDArray[np.int32]:
    if not shapes:
        raise FrameError(f"{path} holds no areas; draw objects as areas or polygons")
    full = size if size is not None else shape
    if full is None:
        raise FrameError(f"{path} does not say how large its image is; give the shape (T, H, W) of the image")
    if shape is not None and tuple(full[-2:]) != tuple(shape[-2:]):
        raise FrameError(f"{path} belongs to an image of {full[-2:]}; the image has {tuple(shape[-2:])}")
    hw = (int(full[-2]), int(full[-1]))
    if len(full) == 3:
        _check_one_axis(path, shapes)
    planes = [_plane(path, each, full) for each in shapes]
    is_stack = any(plane is not None for plane in planes)
    num_planes = math.prod(full[:-2]) if is_stack else 1
    label_shape = (num_planes, *hw)
    check_fits_memory(path, label_shape, np.dtype(np.int32))
    labels = np.zeros(label_shape, np.int32)
    known = _own_numbers(path, shapes, planes)
    has_ids = all(i is not None and 0 < i < 2**31 for i in known)
    runs = _draw(shapes, hw)
    areas = runs.areas(len(shapes))
    num_outside = int((areas == 0).sum())
    if num_outside == len(shapes):
        raise FrameError(f"no object of {path} lies inside the image of {hw[0]} x {hw[1]}; they belong to another one")
    if num_outside:
        warn_caller(f"{num_outside} of {len(shapes)} objects of {path} lie outside the image and are left out")
    numbers = np.array([(number or 0) if has_ids else index + 1 for index, number in enumerate(known)])
    plane_of = (
        np.array([-1 if plane is None else plane for plane in planes]) if is_stack else np.zeros(len(shapes), int)
    )
    flat = labels.reshape(num_planes, -1)
    for owners, pixels in runs.pixels(np.argsort(-areas, kind="stable"), hw):
        on_all = plane_of[owners] < 0
        if on_all.any():  # one after the other, as they may overlap with those on one plane
            for owner in owners[np.flatnonzero(np.diff(owners, prepend=-1))].tolist():
                plane = slice(None) if plane_of[owner] < 0 else plane_of[owner]
                flat[plane, pixels[owners == owner]] = numbers[owner]
        else:
            flat[plane_of[owners], pixels] = numbers[owners]
    if not is_stack or len(full) < 3:
        labels = labels[0]
    elif shape is not None and math.prod(shape) == labels.size:
        labels = labels.reshape(shape)
    return labels


def _own_numbers(path: Path, shapes: Sequence[_Shape], planes: Sequence[int | None]) -> list[int | None]:
    """The numbers of objects, of which those that are found again on one plane get new ones, with a warning.

    Several objects of a class may have its name or number; what is written here is one shape per object and plane.
    """
    numbers = [each.object_id for each in shapes]
    following = max((number for number in numbers if number is not None), default=0) + 1
    seen: set[tuple[int | None, int]] = set()
    repeated: list[int] = []
    for index, (plane, number) in enumerate(zip(planes, numbers, strict=True)):
        if number is None:
            continue
        if (plane, number) in seen:
            repeated.append(number)
            numbers[index], following = following, following + 1
        seen.add((plane, number))
    if repeated and all(number is not None for number in numbers):
        warn_caller(
            f"{path} has several objects of the number {repeated[0]} on one plane; the first keeps it, and the others "
            "get numbers of their own"
        )
    return numbers


def _of_stack(path: Path, shapes: Sequence[_Shape], fixed: Mapping[str, int]) -> list[_Shape]:
    """The shapes that lie on one stack out of several, with a warning of the others.

    If all lie on the first one, they may have been drawn on the stack alone, and are kept.
    """
    kept = list(shapes)
    for axis, number in (("Z", 0), ("T", 1)):
        if axis not in fixed or not any(each.place[number] for each in kept):
            continue
        there = [each for each in kept if each.place[1] is None or each.place[number] == fixed[axis]]
        if not there:
            raise FrameError(f"{path} holds no object at {axis}={fixed[axis]}, which is the stack that is read")
        if len(there) < len(kept):
            warn_caller(
                f"{len(kept) - len(there)} of {len(kept)} objects of {path} do not lie at {axis}={fixed[axis]} and are "
                "left out"
            )
        kept = [each if each.place[1] is None else replace(each, place=_without(each.place, number)) for each in there]
    return kept


def _without(place: _Place, number: int) -> _Place:
    """A place with 0 along one of the two axes."""
    return (0, place[1]) if number == 0 else (place[0], 0)


def _check_one_axis(path: Path, shapes: Sequence[_Shape]) -> None:
    """Refuse shapes of several stacks as those of one."""
    if any(each.place[0] for each in shapes if each.place[1] is not None) and any(each.place[1] for each in shapes):
        raise FrameError(
            f"{path} holds objects at several z and time points; give the shapes of one stack, or the shape (T, Z, H, "
            "W) of the image"
        )


def _plane(path: Path, shape: _Shape, full: tuple[int, ...]) -> int | None:
    """The plane of the stack that a shape lies on; None for all."""
    place = shape.place
    if shape.is_of_channel and shape.channel and len(full) < 5:  # the image is a stack of channels
        if place != (0, 0):
            raise FrameError(f"{path} holds objects on several channels and planes; give those of one channel")
        place = (shape.channel, 0)
    if place == (None, None):
        return None
    z, t = (i or 0 for i in place)
    if len(full) < 3 and path.suffix.lower() in _JSON_SUFFIXES and (z or t):  # of ROIs it may be a channel
        raise FrameError(f"{path} holds an object on plane {z or t}; the image has one plane, 0")
    if len(full) < 3:
        return None
    lengths = full[:-2]
    if len(lengths) == 1 or place[1] is None:
        num_planes = math.prod(lengths)
        if not 0 <= z + t < num_planes:
            raise FrameError(f"{path} holds an object on plane {z + t}; the image has 0 to {num_planes - 1}")
        return z + t
    if len(lengths) == 3 and lengths[1] > 1 and shape.channel is None:
        raise FrameError(
            f"{path} holds an object on all channels, and its image has {lengths[1]}; give the shape of one channel"
        )
    where = (t, z) if len(lengths) == 2 else (t, shape.channel or 0, z)
    if not all(0 <= i < length for i, length in zip(where, lengths, strict=True)):
        raise FrameError(
            f"{path} holds an object on plane {z} of time point {t}; the image has {lengths[-1]} planes and "
            f"{lengths[0]} time points"
        )
    return int(np.ravel_multi_index(where, lengths))


def _rois(path: Path) -> list[_Shape]:
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
        place: _Place
        if roi.z_position or roi.t_position:
            place = (max(roi.z_position, 1) - 1, max(roi.t_position, 1) - 1)
        else:
            place = (roi.position - 1, None) if roi.position else (None, None)
        named = _NAME.fullmatch(roi.name)
        channel = roi.c_position - 1 if roi.c_position else None
        shapes.append(_Shape(None if named is None else int(named["id"]), place, (rings,), channel=channel))
    _warn_of_others(path, len(rois) - len(shapes), len(shapes))
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


def _warn_of_others(path: Path, num_others: int, num_areas: int) -> None:
    if num_others and num_areas:
        warn_caller(f"{path} holds {num_others} points, lines, texts or empty shapes besides areas; they are left out")


def _draw(shapes: Sequence[_Shape], hw: tuple[int, int]) -> MaskRuns:
    """The pixels of all shapes inside an image; those without holes are drawn many at a time."""
    coded = [(index, each.rle) for index, each in enumerate(shapes) if each.rle is not None]
    parts = [runs_of_rle([index for index, _ in coded], [rle for _, rle in coded], hw)] if coded else []
    drawn = [index for index, each in enumerate(shapes) if each.rle is None]
    simple = [index for index in drawn if all(len(rings) == 1 for rings in shapes[index].polygons)]
    rings = [[polygon[0] for polygon in shapes[index].polygons] for index in simple]
    crossings = count_crossings(rings, hw) if rings else np.zeros(0, np.int64)
    fitting = np.flatnonzero(crossings <= MAX_CROSSINGS).tolist()
    small = [simple[i] for i in fitting]
    if small:
        parts.append(runs_of_polygons(small, [rings[i] for i in fitting], crossings[fitting], hw))
    others = sorted(set(drawn) - set(small))
    masks = [(index, *_filled(shapes[index].polygons, hw)) for index in others]
    return join_runs([*parts, runs_of_masks(masks, hw)])


def _filled(polygons: Sequence[Polygon], hw: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """The mask of polygons, drawn in their bounding box alone, and the first row and column of that."""
    corners = np.concatenate([ring for rings in polygons for ring in rings])
    x0, y0 = np.floor(corners.min(0)).clip(0, (hw[1], hw[0])).astype(int).tolist()
    x1, y1 = np.ceil(corners.max(0)).clip(0, (hw[1], hw[0])).astype(int).tolist()
    moved = [[ring - (x0, y0) for ring in rings] for rings in polygons]
    return fill_polygons(moved, (max(y1 - y0, 0), max(x1 - x0, 0))), (y0, x0)


def _geojson(content: Any, path: Path) -> list[_Shape]:
    if isinstance(content, Mapping):
        content = content.get("features", [content])
    shapes = []
    is_own = all("label" in (feature.get("properties") or {}) for feature in content)
    for feature in content:
        geometry = feature.get("geometry", feature) or {}
        polygons = [[_corners(ring) for ring in rings if len(ring)] for rings in _polygons_of(geometry)]
        polygons = [rings for rings in polygons if rings]
        if not polygons:  # also POLYGON EMPTY
            continue
        properties = feature.get("properties") or {}
        plane = geometry.get("plane") or feature.get("plane")
        place: _Place = (None, None) if plane is None else (int(plane.get("z", 0)), int(plane.get("t", 0)))
        channel = None if plane is None or int(plane.get("c", -1)) < 0 else int(plane["c"])
        given = properties.get("label", properties.get("name", ""))
        name = str(int(given) if isinstance(given, float) and given.is_integer() else given)  # as pandas writes numbers
        object_id = int(name) if name.isdecimal() and len(name) < 11 else None
        shapes.append(_Shape(object_id, place, tuple(polygons), channel=channel, is_of_channel=is_own))
    _warn_of_others(path, len(content) - len(shapes), len(shapes))
    has_channels = any(s.is_of_channel and s.channel for s in shapes)
    # the first plane is also what is written for pictures
    if not has_channels and all(s.place in ((0, 0), (None, None)) for s in shapes):
        return [replace(each, place=(None, None)) for each in shapes]
    return shapes


def _polygons_of(geometry: Mapping[str, Any]) -> list[Any]:
    """Coordinates of the polygons of a geometry: for each the rings."""
    kind = geometry.get("type")
    if kind == "Polygon":
        return [geometry["coordinates"]]
    if kind == "MultiPolygon":
        return list(geometry["coordinates"])
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in _polygons_of(part)]
    return []


def _corners(values: Any) -> NDArray[np.float64]:
    ring = np.asarray(values, np.float64)
    if ring.ndim != 2 or ring.shape[1] < 2 or not (np.abs(ring) < _LIMITS.max_coordinate).all():
        raise FrameError(f"a ring of shape {ring.shape} was found; expected rows of x, y in pixels")
    return ring[:, :2]


def _coco_of_results(annotations: list[Any]) -> dict[str, Any]:
    """COCO of a file of results: a list of annotations, whose run lengths say how large the images are."""
    sizes = {entry["image_id"]: entry["segmentation"]["size"] for entry in annotations if _is_rle(entry)}
    if not sizes:
        raise FrameError("the list of annotations holds no run lengths; give the whole COCO file, with its images")
    images = [{"id": number, "height": size[0], "width": size[1]} for number, size in sizes.items()]
    return {"images": images, "annotations": annotations}


def _is_rle(annotation: Any) -> bool:
    return isinstance(annotation.get("segmentation"), Mapping)


def _coco(
    content: Mapping[str, Any], path: Path, shape: tuple[int, ...] | None
) -> tuple[list[_Shape], tuple[int, ...]]:
    given = content.get("images") or [each for each in [content.get("image")] if each is not None]
    if not given:
        raise FrameError(f"{path} is COCO that lists no images, and so no size of them; export it with its images")
    images = [given[at] for at in by_numbers([_image_id(image) for image in given])]
    sizes = {(int(image["height"]), int(image["width"])) for image in images}
    if len(sizes) != 1:
        raise FrameError(
            f"{path} holds images of the sizes {sorted(sizes)}; expected planes of one size: split it by image"
        )
    keys = [_image_id(image) for image in images]
    frame_of = {key: frame for frame, key in enumerate(keys)}
    hw = sizes.pop()
    if shape is not None and hw != tuple(shape[-2:]):
        raise FrameError(f"{path} belongs to an image of {hw}; the image has {tuple(shape[-2:])}")
    if shape is None and math.prod(hw) > _LIMITS.max_pixels:
        raise FrameError(
            f"images of {hw[0]:,} x {hw[1]:,} pixels were declared, more than {_LIMITS.max_pixels:,}; give the shape "
            "of the image if that is right"
        )
    is_stack = len(images) > 1
    shapes = []
    for entry in content["annotations"]:
        if not entry.get("segmentation"):
            raise FrameError(
                "an annotation has no 'segmentation'; expected polygons or run lengths; boxes are not supported"
            )
        image_id = entry.get("image_id")
        if image_id is None and not is_stack:  # files of one image need not say so
            image_id = keys[0]
        if str(image_id) not in frame_of:
            raise FrameError(f"an annotation belongs to image {image_id}, which {path} does not list; export it again")
        frame = frame_of[str(image_id)] if is_stack else None
        number = entry.get("track_id")
        polygons, rle = _coco_mask(entry["segmentation"], hw)
        shapes.append(_Shape(None if number is None else int(number), (frame, None), polygons, rle))
    return shapes, ((len(images), *hw) if is_stack else hw)


def _image_id(image: Mapping[str, Any]) -> str:
    return str(image.get("id", image.get("image_id", 0)))


def _coco_mask(segmentation: Any, hw: tuple[int, int]) -> tuple[tuple[Polygon, ...], RLE | None]:
    """Polygons, or run lengths."""
    if isinstance(segmentation, Mapping):
        size = [int(n) for n in segmentation["size"]]
        if tuple(size) != hw:
            raise FrameError(f"a mask of {size[0]:,} x {size[1]:,} was found in an image of {hw[0]:,} x {hw[1]:,}")
        return (), {"size": size, "counts": segmentation["counts"]}
    return tuple([_corners(np.asarray(flat, np.float64).reshape(-1, 2))] for flat in segmentation), None
