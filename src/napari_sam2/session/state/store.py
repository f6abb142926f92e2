"""Objects, prompts and masks of a session in tables, and the labels composed of them, changed only through edits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from napari_sam2._checks import check_name, check_object_id
from napari_sam2._errors import PromptError
from napari_sam2.session.state.box_index import Box, BoxIndex
from napari_sam2.session.state.history import Edit, Tables
from napari_sam2.session.state.records import ObjectMask, PlaneCondition, PromptEntry, SessionObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import StageShift
    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.settings import OverlapRule

__all__ = ["ObjectStats", "SessionStore", "StoreDelta"]

_NOWHERE: Box = (0, 0, 0, 0)
_MANY = 64  # masks that are erased in one pass over the labels
_LARGEST_TABLE = 2**24  # object numbers, one byte each
_Changed: TypeAlias = "dict[int, tuple[ObjectMask | None, ObjectMask | None]]"  # of a plane: before and after


@dataclass(frozen=True)
class StoreDelta:
    """What a commit changed.

    Attributes
    ----------
    edits : tuple of Edit
        In order.
    boxes : dict of int to tuple of int
        Plane -> y0, x0, y1, x1 around the labels that changed there.
    """

    edits: tuple[Edit, ...]
    boxes: dict[int, Box]

    @classmethod
    def join(cls, deltas: Sequence[StoreDelta]) -> StoreDelta:
        """What several commits changed, one after the other."""
        boxes: dict[int, Box] = {}
        for delta in deltas:
            for plane, (y0, x0, y1, x1) in delta.boxes.items():
                top, left, bottom, right = boxes.get(plane, (y0, x0, y1, x1))
                boxes[plane] = (min(top, y0), min(left, x0), max(bottom, y1), max(right, x1))
        return cls(tuple(edit for delta in deltas for edit in delta.edits), boxes)

    @property
    def object_ids(self) -> frozenset[int]:
        """Objects that any edit is about."""
        return frozenset(
            e.key if e.table == "objects" else e.key[0]  # type: ignore[index, misc]
            for e in self.edits
            if e.table not in ("settings", "conditions")
        )


@dataclass
class ObjectStats:
    """Running figures of one object.

    Attributes
    ----------
    num_prompts : int
        Clicks, boxes and masks on all planes.
    num_done, num_empty, num_stale, num_lost : int
        Planes with a mask; how many of them are empty; how many are outdated; how many are lost.
    mean_iou : float
        Mean predicted IoU of masks that show it; NaN without any.
    """

    num_prompts: int = 0
    num_done: int = 0
    num_empty: int = 0
    num_stale: int = 0
    num_lost: int = 0
    iou_sum: float = 0.0
    iou_count: int = 0

    @property
    def mean_iou(self) -> float:
        """See above."""
        return self.iou_sum / self.iou_count if self.iou_count else float("nan")

    def replace_mask(self, before: ObjectMask | None, after: ObjectMask | None) -> None:
        """Count a mask out, and another one in."""
        for mask, sign in ((before, -1), (after, 1)):
            if mask is None:
                continue
            self.num_done += sign
            self.num_empty += sign * (not mask.area)
            self.num_stale += sign * mask.is_stale
            self.num_lost += sign * (mask.kind == "lost")
            if mask.area and not math.isnan(mask.iou):
                self.iou_sum += sign * mask.iou
                self.iou_count += sign

    def replace_prompt(self, before: PromptEntry | None, after: PromptEntry | None) -> None:
        """Count the clicks, box and mask of a prompt out, and those of another one in."""
        for entry, sign in ((before, -1), (after, 1)):
            if entry is not None:
                count = len(entry.prompt.points) + (entry.prompt.box is not None) + entry.prompt.has_mask
                self.num_prompts += sign * count


class SessionStore:
    """Objects, prompts and masks, and their labels.

    The masks of a plane never overlap: which pixels a mask takes from others is decided by the overlap rule when it is
    written, so that the labels are the masks and nothing else.

    Parameters
    ----------
    geometry : StackGeometry
        Axes of the stack.
    labels : array
        int32 of the geometry's shape, zeros; written in place.
    """

    def __init__(self, geometry: StackGeometry, labels: Any) -> None:
        self.geometry = geometry
        self.labels = labels
        self.tables = Tables()
        self._planes: dict[int, set[int]] = {}
        self._objects: dict[int, set[int]] = {}
        self._prompted: dict[int, set[int]] = {}
        self._daughters: dict[int, set[int]] = {}
        self._boxes: dict[int, BoxIndex] = {}
        self._stats: dict[int, ObjectStats] = {}

    # ------------------------------------------------------------------ reading
    @property
    def objects(self) -> dict[int, SessionObject]:
        """By number, in the order of creation."""
        return self.tables["objects"]

    @property
    def prompts(self) -> dict[tuple[int, int], PromptEntry]:
        """By (object, plane)."""
        return self.tables["prompts"]

    @property
    def masks(self) -> dict[tuple[int, int], ObjectMask]:
        """By (object, plane)."""
        return self.tables["masks"]

    @property
    def conditions(self) -> dict[int, PlaneCondition]:
        """By plane; planes without anything unusual are missing."""
        return self.tables["conditions"]

    def object(self, object_id: int) -> SessionObject:
        """One of the objects; raises PromptError if there is none of that number."""
        found = self.objects.get(check_object_id(object_id))
        if found is None:
            raise PromptError(
                f"object {object_id} does not exist; there are {list(self.objects) or 'none yet: add a prompt'}"
            )
        return found

    def make_object(self, name: str | None, object_id: int | None) -> SessionObject:
        """An object that is not in the table yet; default: the lowest number above all others, and a name with it.

        Raises
        ------
        PromptError
            If the number is taken or below 1.
        """
        taken = self.objects
        number = max(taken, default=0) + 1 if object_id is None else check_object_id(object_id)
        if number in taken:
            raise PromptError(f"object {number} exists already; choose a number that is not among {sorted(taken)}")
        return SessionObject(number, ("" if name is None else check_name(name)) or f"object {number}")

    def masks_on(self, plane: int) -> dict[int, ObjectMask]:
        """The masks of a plane by object."""
        return {i: self.masks[i, plane] for i in sorted(self._planes.get(plane, ()))}

    def planes_of(self, object_id: int) -> list[int]:
        """The planes on which an object has a mask, empty ones too, ascending."""
        return sorted(self._objects.get(object_id, ()))

    def daughters(self, object_id: int) -> list[int]:
        """The objects that descend from an object, ascending."""
        return sorted(self._daughters.get(object_id, ()))

    def life(self, object_id: int, clip: range) -> range:
        """The planes of a clip between the division that an object comes from and the one in which it ends."""
        item = self.objects[object_id]
        begin = item.born if item.born is not None and item.born in clip else clip.start
        ends = (self.objects[each].born for each in self._daughters.get(object_id, ()))
        return range(begin, min((end for end in ends if end is not None and end in clip), default=clip.stop))

    def stats(self, object_id: int) -> ObjectStats:
        """Figures of an object, kept up to date with every commit."""
        return self._stats.get(object_id, ObjectStats())

    def planes_with_masks(self) -> list[int]:
        """The planes on which any object has a mask, ascending."""
        return sorted(plane for plane, ids in self._planes.items() if ids)

    def prompts_of(self, object_id: int, clip: range | None = None) -> dict[int, PromptEntry]:
        """Plane -> prompt of one object, in one clip or all, ascending."""
        planes = sorted(p for p in self._prompted.get(object_id, ()) if clip is None or p in clip)
        return {p: self.prompts[object_id, p] for p in planes}

    def plane_labels(self, plane: int) -> NDArray[np.int32]:
        """(H, W) labels of a plane in the array, which may have been painted."""
        return np.asarray(self.labels[self.geometry.index(plane)])

    def composed(self, plane: int) -> NDArray[np.int32]:
        """(H, W) labels of a plane composed of its masks."""
        image = np.zeros(self.geometry.hw, np.int32)
        for object_id, mask in self.masks_on(plane).items():
            if mask.area:
                image[mask.window][mask.pixels()] = object_id
        return image

    # ------------------------------------------------------------------ writing
    def mask_edits(self, plane: int, new: dict[int, ObjectMask], rule: OverlapRule) -> list[Edit]:
        """Edits that write masks of one plane, without the pixels that the overlap rule leaves to others.

        Masks of one call take their pixels in order; locked objects keep theirs under every rule.
        """
        edits: list[Edit] = []
        changed: dict[int, ObjectMask] = {}  # of this call: what is left of others, and masks of `new` before
        here, earlier = self._boxes.get(plane, BoxIndex()), BoxIndex()
        for object_id, mask in new.items():
            kept = mask
            stored = [i for i in here.meeting(mask.box) if i not in new]
            for i in (*stored, *earlier.meeting(mask.box)):
                other = changed.get(i) or self.masks[i, plane]
                if not kept.packed.overlaps(other.packed):
                    continue
                if self._wins(kept, i, other, plane, rule):
                    changed[i] = other.without(kept.to_image(self.geometry.hw))
                else:
                    kept = kept.without(other.to_image(self.geometry.hw))
            changed[object_id] = kept
            earlier.put({object_id: kept.box})
            edits.append(Edit("masks", (object_id, plane), self.masks.get((object_id, plane)), kept))
        edits += [Edit("masks", (i, plane), self.masks[i, plane], m) for i, m in changed.items() if i not in new]
        return edits

    def condition_edits(self, plane: int, *, is_usable: bool, shift: StageShift | None) -> list[Edit]:
        """Edits that write what tracking found out about a plane, and about the plane to which the stage has moved."""
        changed = {plane: replace(self.conditions.get(plane, PlaneCondition()), is_usable=is_usable)}
        if shift is not None:
            known = changed.get(shift.frame) or self.conditions.get(shift.frame, PlaneCondition())
            changed[shift.frame] = replace(known, shift_yx=(shift.y, shift.x))
        return [
            Edit("conditions", p, self.conditions.get(p), None if after.is_ordinary else after)
            for p, after in changed.items()
            if after != self.conditions.get(p, PlaneCondition())
        ]

    def _wins(self, new: ObjectMask, old_id: int, old: ObjectMask, plane: int, rule: OverlapRule) -> bool:
        if rule == "keep" or plane in self.objects[old_id].locked:
            return False
        if rule == "overwrite":
            return True
        # a mask that the user painted has no score and keeps its pixels
        return bool(np.nan_to_num(new.iou, nan=2.0) > np.nan_to_num(old.iou, nan=2.0))

    def commit(self, edits: Sequence[Edit]) -> StoreDelta:
        """Apply edits to the tables and the labels."""
        boxes: dict[int, Box] = {}
        by_plane: dict[int, _Changed] = {}
        for edit in edits:
            if edit.table == "masks":
                object_id, plane = cast("tuple[int, int]", edit.key)
                present, after = self.masks.get((object_id, plane)), cast("ObjectMask | None", edit.after)
                self._stats_of(object_id).replace_mask(present, after)
                changed = by_plane.setdefault(plane, {})
                changed[object_id] = (changed[object_id][0] if object_id in changed else present, after)
            elif edit.table == "prompts":
                object_id, plane = cast("tuple[int, int]", edit.key)
                entry = cast("PromptEntry | None", edit.after)
                self._stats_of(object_id).replace_prompt(self.prompts.get((object_id, plane)), entry)
                prompted = self._prompted.setdefault(object_id, set())
                (prompted.discard if entry is None else prompted.add)(plane)
            elif edit.table == "objects":
                object_id = cast("int", edit.key)
                self._index_parent(object_id, cast("SessionObject | None", edit.after))
            self.tables.apply(edit)
        self.tables.settle()
        for plane, changed in by_plane.items():
            self._index(plane, changed)
            box = self._write(plane, changed)
            if box is not None:
                boxes[plane] = box
        return StoreDelta(tuple(edits), boxes)

    def _stats_of(self, object_id: int) -> ObjectStats:
        found = self._stats.get(object_id)
        if found is None:
            found = self._stats[object_id] = ObjectStats()
        return found

    def _index(self, plane: int, changed: _Changed) -> None:
        on_plane = self._planes.setdefault(plane, set())
        boxes = {i: _NOWHERE if mask is None else mask.box for i, (_, mask) in changed.items()}
        self._boxes.setdefault(plane, BoxIndex()).put(boxes)
        for object_id, (_, mask) in changed.items():
            of_object = self._objects.setdefault(object_id, set())
            if mask is not None:
                on_plane.add(object_id)
                of_object.add(plane)
            else:
                on_plane.discard(object_id)
                of_object.discard(plane)

    def _index_parent(self, object_id: int, after: SessionObject | None) -> None:
        before = self.objects.get(object_id)
        if before is not None and before.parent is not None:
            self._daughters[before.parent].discard(object_id)
        if after is not None and after.parent is not None:
            self._daughters.setdefault(after.parent, set()).add(object_id)

    def _write(self, plane: int, changed: _Changed) -> Box | None:
        """Erase the masks before, paint those after; returns the box around both."""
        pairs = {
            i: (before, after)
            for i, (before, after) in changed.items()
            if before is None or after is None or before.packed != after.packed
        }
        box = _around(m.box for pair in pairs.values() for m in pair if m is not None and m.area)
        if box is None:
            return None
        y0, x0, y1, x1 = box
        region = (*self.geometry.index(plane), slice(y0, y1), slice(x0, x1))
        values = np.array(self.labels[region])
        erased = {i: before for i, (before, _) in pairs.items() if before is not None and before.area}
        largest = max(int(values.max()), *erased) if len(erased) > _MANY else _LARGEST_TABLE
        if largest < _LARGEST_TABLE:  # all at once: the pixels of an object on a plane are those of its mask
            is_erased = np.zeros(largest + 1, bool)
            is_erased[list(erased)] = True
            values[is_erased[values]] = 0
        else:
            for object_id, before in erased.items():
                inner = values[_shifted(before, y0, x0)]
                inner[before.pixels() & (inner == object_id)] = 0
        for object_id, (_, after) in pairs.items():
            if after is not None and after.area:
                values[_shifted(after, y0, x0)][after.pixels()] = object_id
        self.labels[region] = values
        return box


def _shifted(mask: ObjectMask, y: int, x: int) -> tuple[slice, slice]:
    y0, x0, y1, x1 = mask.box
    return slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)


def _around(boxes: Iterable[Box]) -> Box | None:
    found = list(boxes)
    if not found:
        return None
    low, high = np.array(found)[:, :2].min(0), np.array(found)[:, 2:].max(0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
