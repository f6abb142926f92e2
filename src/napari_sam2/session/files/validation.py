"""Checks that the content of a session file is one that a session can have on its image."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import check_object_id
from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.records import ObjectMask, PromptEntry, SessionObject
    from napari_sam2.session.state.snapshot import SessionContent

__all__ = ["check_content"]

Key = tuple[int, int]


def check_content(content: SessionContent, geometry: StackGeometry) -> None:
    """Check that all parts fit each other and the image.

    Raises
    ------
    ValueError
        If an object, plane, position or value is not possible; PromptError is one.
    """
    objects = {item.object_id for item in content.objects}
    _check_objects(content.objects, geometry)
    _check_keys("prompt", content.prompts, objects, geometry)
    _check_keys("mask", content.masks, objects, geometry)
    for key, entry in content.prompts.items():
        _check_entry(key, entry, geometry)
    stamps = [entry.stamp for entry in content.prompts.values()]
    if len(set(stamps)) != len(stamps):
        raise ValueError("two prompts have the same number")
    _check_masks(content.masks, geometry.hw)
    for plane, found in content.conditions.items():
        geometry.check_plane(plane)
        if any(abs(shift) >= side for shift, side in zip(found.shift_yx, geometry.hw, strict=True)):
            raise ValueError(f"plane {plane} is shifted by {found.shift_yx} pixels, more than its size {geometry.hw}")
    for operation in content.operations:
        _check_operation(operation, geometry)


def _check_objects(items: Iterable[SessionObject], geometry: StackGeometry) -> None:
    known = {item.object_id: item for item in items}
    for item in known.values():
        check_object_id(item.object_id)
        for plane in item.locked:
            geometry.check_plane(plane)
        if (item.parent is None) != (item.born is None):
            raise ValueError(f"object {item.object_id} has a parent or a plane of birth, but not both")
        if item.born is not None:
            geometry.check_plane(item.born)
    _check_parents(known)


def _check_parents(objects: Mapping[int, SessionObject]) -> None:
    """Every parent exists, and no object is its own ancestor."""
    is_settled: set[int] = set()
    for start in objects:
        line: set[int] = set()
        current: int | None = start
        while current is not None and current not in is_settled:
            if current not in objects:
                raise ValueError(f"object {current} is a parent, and there is no such object")
            if current in line:
                raise ValueError(f"object {current} descends from itself")
            line.add(current)
            current = objects[current].parent
        is_settled.update(line)


def _check_keys(what: str, table: Mapping[Key, object], objects: set[int], geometry: StackGeometry) -> None:
    for object_id, plane in table:
        if object_id not in objects:
            raise ValueError(f"there is a {what} of object {object_id}, but no such object")
        geometry.check_plane(plane)


def _check_entry(key: Key, entry: PromptEntry, geometry: StackGeometry) -> None:
    where = f"the prompt of object {key[0]} on plane {key[1]}"
    entry.prompt.check_inside(geometry.hw)
    if entry.smaller is not None:
        entry.smaller[0].check_inside(geometry.hw)
    if entry.stamp < 1:
        raise ValueError(f"{where} has the number {entry.stamp}")
    if entry.candidate not in (None, 0, 1, 2):
        raise ValueError(f"{where} chooses candidate {entry.candidate} of three")
    for answer in (entry.answer, None if entry.smaller is None else entry.smaller[1]):
        if answer is not None and not (math.isfinite(answer.iou) and math.isfinite(answer.object_score)):
            raise ValueError(f"{where} has scores that are not finite")
        if answer is not None and min(answer.view[2:4]) < 1:
            raise ValueError(f"{where} was answered on an empty view {answer.view}")


def _check_masks(masks: Mapping[Key, ObjectMask], hw: tuple[int, int]) -> None:
    """Every mask fills its box, has its area, and shares no pixel with another one of its plane."""
    by_plane: dict[int, list[tuple[int, ObjectMask]]] = defaultdict(list)
    for (object_id, plane), mask in masks.items():
        by_plane[plane].append((object_id, mask))
    taken = np.zeros(hw, bool)
    for plane, found in by_plane.items():
        for object_id, mask in found:
            where = f"the mask of object {object_id} on plane {plane}"
            y0, x0, y1, x1 = mask.box
            if not mask.area:
                if mask.box != (0, 0, 0, 0) or mask.packed.data:
                    raise ValueError(f"{where} is empty and has a box")
                continue
            if not (0 <= y0 < y1 <= hw[0] and 0 <= x0 < x1 <= hw[1]):
                raise ValueError(f"{where} lies outside the image: {mask.box}")
            pixels = mask.pixels()
            if int(np.count_nonzero(pixels)) != mask.area:
                raise ValueError(f"{where} has another area than {mask.area}")
            if not (pixels[0].any() and pixels[-1].any() and pixels[:, 0].any() and pixels[:, -1].any()):
                raise ValueError(f"{where} does not fill its box {mask.box}")
            window = taken[mask.window]
            if (window & pixels).any():
                raise ValueError(f"{where} overlaps that of another object")
            window |= pixels
        for _, mask in found:
            taken[mask.window] = False


def _check_operation(operation: Operation, geometry: StackGeometry) -> None:
    """Planes exist, and prompts and masks fit the image; types were checked when the operation was made."""
    arguments = operation.arguments
    planes = [arguments[name] for name in ("frame", "start") if name in arguments]
    frames = arguments.get("frames")
    for plane in [*planes, *(frames if isinstance(frames, list) else [])]:
        geometry.check_plane(plane)
    prompt = arguments.get("prompt")
    if isinstance(prompt, Prompt):
        prompt.check_inside(geometry.hw)
    masks = arguments.get("masks")
    given = [
        *(masks.values() if isinstance(masks, dict) else ()),
        *([arguments["mask"]] if "mask" in arguments else ()),
    ]
    for mask in given:
        if mask.shape != geometry.hw:
            raise ValueError(f"a call sets a mask of shape {mask.shape} on an image of {geometry.hw}")
