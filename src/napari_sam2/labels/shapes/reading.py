"""Read a file of shapes as labels."""

from __future__ import annotations

import gc
import json
import math
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, PromptError, warn_caller
from napari_sam2._messages import one_line
from napari_sam2.frames.stack import READ_ERRORS, check_fits_memory
from napari_sam2.labels.outlines import fill_polygons
from napari_sam2.labels.runs import (
    MAX_CROSSINGS,
    MaskRuns,
    count_crossings,
    join_runs,
    runs_of_masks,
    runs_of_polygons,
    runs_of_rle,
)
from napari_sam2.labels.shapes.coco import coco_of_results, read_coco
from napari_sam2.labels.shapes.found_shape import LIMITS
from napari_sam2.labels.shapes.geojson import read_geojson
from napari_sam2.labels.shapes.rois import read_rois

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_sam2.labels.outlines import Polygon
    from napari_sam2.labels.shapes.found_shape import FoundShape, Place

__all__ = ["SHAPE_SUFFIXES", "read_shapes"]

SHAPE_SUFFIXES = (".zip", ".roi", ".geojson", ".json")
_JSON_SUFFIXES = (".geojson", ".json")
_DAMAGED = (*READ_ERRORS, RecursionError, NotImplementedError, zipfile.BadZipFile)


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


def _shapes_of(path: Path, shape: tuple[int, ...] | None) -> tuple[list[FoundShape], tuple[int, ...] | None]:
    """The shapes of a file, and the size of the image where it says so."""
    if path.suffix.lower() in (".zip", ".roi"):
        return read_rois(path), None
    content = _json(path)
    is_coco = isinstance(content, Mapping) and "annotations" in content
    if isinstance(content, list) and content and "image_id" in content[0]:
        content, is_coco = coco_of_results(content), True
    return read_coco(content, path, shape) if is_coco else (read_geojson(content, path), None)


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
    if num_bytes > LIMITS.max_text_bytes:
        raise FrameError(
            f"{path} has {num_bytes:,} bytes; JSON of up to {LIMITS.max_text_bytes:,} is read: save the objects in "
            "several files, or as a label image"
        )
    content = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(content, (dict, list)):
        raise FrameError(f"{path} is neither GeoJSON nor COCO: it holds {json.dumps(content):.40}")
    return content


def _paint(
    path: Path, shapes: Sequence[FoundShape], size: tuple[int, ...] | None, shape: tuple[int, ...] | None
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


def _own_numbers(path: Path, shapes: Sequence[FoundShape], planes: Sequence[int | None]) -> list[int | None]:
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


def _of_stack(path: Path, shapes: Sequence[FoundShape], fixed: Mapping[str, int]) -> list[FoundShape]:
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


def _without(place: Place, number: int) -> Place:
    """A place with 0 along one of the two axes."""
    return (0, place[1]) if number == 0 else (place[0], 0)


def _check_one_axis(path: Path, shapes: Sequence[FoundShape]) -> None:
    """Refuse shapes of several stacks as those of one."""
    if any(each.place[0] for each in shapes if each.place[1] is not None) and any(each.place[1] for each in shapes):
        raise FrameError(
            f"{path} holds objects at several z and time points; give the shapes of one stack, or the shape (T, Z, H, "
            "W) of the image"
        )


def _plane(path: Path, shape: FoundShape, full: tuple[int, ...]) -> int | None:
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


def _draw(shapes: Sequence[FoundShape], hw: tuple[int, int]) -> MaskRuns:
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
