"""The edits of the tables that follow from divisions, and from tracks that are cut, joined or exchanged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2._types import Prompt
from napari_sam2.labels.components import find_pieces
from napari_sam2.labels.waists import split_at_waist
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask, PromptEntry, SessionObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.session.state.store import SessionStore

__all__ = ["Draft", "two_pieces"]


class Draft:
    """The tables as one call leaves them; ``edits`` leads there from the tables as they are.

    Parameters
    ----------
    store : SessionStore
        Read only.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self.objects: dict[int, SessionObject | None] = {}
        self.prompts: dict[tuple[int, int], PromptEntry | None] = {}
        self.masks: dict[tuple[int, int], ObjectMask | None] = {}

    def edits(self) -> list[Edit]:
        """The edits, without those that change nothing; objects come first.

        Raises
        ------
        PromptError
            If an object would descend from itself.
        """
        store = self._store
        for object_id, item in self.objects.items():
            parent = None if item is None else item.parent
            while parent is not None:
                if parent == object_id:
                    raise PromptError(f"object {object_id} would descend from itself; remove its parent first")
                parent = self.object(parent).parent
        order = list(store.objects)
        found = []
        for object_id, item in self.objects.items():
            position = order.index(object_id) if object_id in store.objects and item is None else None
            found.append(Edit("objects", object_id, store.objects.get(object_id), item, position))
        found += [Edit("prompts", key, store.prompts.get(key), entry) for key, entry in self.prompts.items()]
        found += [Edit("masks", key, store.masks.get(key), mask) for key, mask in self.masks.items()]
        return [edit for edit in found if edit.before is not edit.after]

    # ------------------------------------------------------------------ reading
    def object(self, object_id: int) -> SessionObject:
        """An object as the draft leaves it."""
        found = self.objects.get(object_id) or self._store.objects.get(object_id)
        assert found is not None, f"object {object_id} was removed"
        return found

    def mask(self, object_id: int, plane: int) -> ObjectMask | None:
        """A mask as the draft leaves it."""
        key = (object_id, plane)
        return self.masks[key] if key in self.masks else self._store.masks.get(key)

    def prompt(self, object_id: int, plane: int) -> PromptEntry | None:
        """A prompt as the draft leaves it."""
        key = (object_id, plane)
        return self.prompts[key] if key in self.prompts else self._store.prompts.get(key)

    # ------------------------------------------------------------------ changing
    def new_object(self) -> SessionObject:
        """Add an object with the next free number."""
        number = max((*self._store.objects, *self.objects), default=0) + 1
        made = self._store.make_object(None, number)
        self.objects[number] = made
        return made

    def change(self, object_id: int, **fields: int | frozenset[int] | None) -> None:
        """Replace fields of an object."""
        self.objects[object_id] = replace(self.object(object_id), **fields)  # type: ignore[arg-type]

    def remove(self, object_id: int) -> None:
        """Remove an object that holds nothing any more."""
        self.objects[object_id] = None

    def move(self, planes: Collection[int], targets: Mapping[int, int]) -> None:
        """Hand masks, prompts and locks on some planes from each object to its target, all at once."""
        inside = frozenset(planes)
        masks = {(targets[i], p): self.mask(i, p) for i in targets for p in planes}
        prompts = {(targets[i], p): self.prompt(i, p) for i in targets for p in planes}
        locks = {targets[i]: self.object(i).locked & inside for i in targets}
        for i in targets:
            self.erase(i, planes)
        self.masks |= {key: mask for key, mask in masks.items() if mask is not None}
        self.prompts |= {key: entry for key, entry in prompts.items() if entry is not None}
        for i, planes_locked in locks.items():
            self.change(i, locked=self.object(i).locked | planes_locked)

    def set_mask(self, object_id: int, plane: int, mask: NDArray[np.bool_], *, stamp: int) -> None:
        """Give an object a mask prompt, which tracking starts from; its other masks stay up to date."""
        self.masks[object_id, plane] = ObjectMask.pack(mask, "painted")
        self.prompts[object_id, plane] = PromptEntry(Prompt(mask=mask), stamp)

    def erase(self, object_id: int, planes: Collection[int]) -> None:
        """Remove masks, prompts and locks of an object on some planes."""
        self.masks |= {(object_id, p): None for p in planes}
        self.prompts |= {(object_id, p): None for p in planes}
        self.change(object_id, locked=self.object(object_id).locked - frozenset(planes))

    def hand_down(self, parent: int, heir: int, planes: Collection[int]) -> None:
        """Make the daughters that were born on some planes those of another object."""
        for number in self._store.daughters(parent):
            if number != heir and self.object(number).born in planes:
                self.change(number, parent=heir)


def two_pieces(mask: NDArray[np.bool_], smallest_share: float = 0.1) -> list[NDArray[np.bool_]]:
    """Divide an (H, W) mask between its two largest components: smaller ones belong to the nearer of the two.

    Parameters
    ----------
    mask : (H, W) bool array
        True inside.
    smallest_share : float, default 0.1
        A second component with a smaller share of the area is not an object.

    Returns
    -------
    list of (H, W) bool arrays
        The larger one first; a mask in one component is split at its waist; only the mask itself if it has none.
    """
    numbers, areas = find_pieces(mask)
    if len(areas) < 3:
        return split_at_waist(mask)
    first, second = (int(n) for n in np.argsort(-areas, kind="stable")[:2])
    if areas[second] < smallest_share * areas.sum():
        return split_at_waist(mask)
    rows, columns = np.nonzero(mask)
    to_first, to_second = (_distances(rows, columns, numbers == number) for number in (first, second))
    near = np.zeros_like(mask)
    near[rows, columns] = to_first <= to_second
    return [near, mask & ~near]


def _distances(rows: NDArray[np.intp], columns: NDArray[np.intp], piece: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) distance of pixels to the nearest one of a piece."""
    from scipy.ndimage import distance_transform_edt

    distances: NDArray[np.float64] = distance_transform_edt(~piece)[rows, columns]
    return distances
