"""The edits of the tables that follow from a prompt being set, replaced or removed, before its mask is predicted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_sam2._packed_mask import PackedImage
from napari_sam2._types import Prompt, grew
from napari_sam2.inference.tracking.plan import affected_planes, anchor_planes
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask, PromptEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.session.state.settings import OverlapRule
    from napari_sam2.session.state.store import SessionStore

__all__ = ["painting_edits", "prompt_edits", "removal_edits"]


def prompt_edits(
    store: SessionStore,
    object_id: int,
    plane: int,
    prompt: Prompt,
    *,
    candidate: int | None,
    stamp: int,
    overlap: OverlapRule,
) -> list[Edit]:
    """Set the prompt of an object on a plane; a mask without points and box is written at once.

    Parameters
    ----------
    store : SessionStore
        Read only.
    object_id, plane : int
        Where; the object may be about to be created.
    prompt : Prompt
        Replaces an earlier prompt.
    candidate : int or None
        As for ``Session.set_prompt``.
    stamp : int
        Of this version.
    overlap : OverlapRule
        What a mask may do where it overlaps others.
    """
    key = (object_id, plane)
    mask, old = store.masks.get(key), store.prompts.get(key)
    if old is not None:
        base = old.base
    else:
        is_tracked = mask is not None and mask.kind == "tracked"
        base = PackedImage(store.geometry.hw, mask.packed) if mask is not None and is_tracked else None
    smaller = None
    if old is not None and old.answer is not None and grew(prompt, old.prompt):
        smaller = (old.prompt, old.answer)
    entry = PromptEntry(prompt, stamp, base, candidate, smaller)
    edits = [Edit("prompts", key, old, entry)]
    if entry.is_mask_only and prompt.packed_mask is not None:
        edits += store.mask_edits(plane, {object_id: ObjectMask(prompt.packed_mask.mask, "painted")}, overlap)
    return edits + _stale_edits(store, object_id, plane)


def removal_edits(store: SessionStore, object_id: int, plane: int) -> list[Edit]:
    """Remove a prompt: the mask that was tracked there before is restored, as outdated."""
    key = (object_id, plane)
    old = store.prompts.get(key)
    base = None if old is None else old.base
    after = None if base is None else ObjectMask(base.mask, "tracked", is_stale=True)
    edits = [Edit("prompts", key, old, None), Edit("masks", key, store.masks.get(key), after)]
    return edits + _stale_edits(store, object_id, plane)


def painting_edits(
    store: SessionStore, object_id: int, plane: int, mask: NDArray[np.bool_] | PackedImage, *, stamp: int
) -> list[Edit]:
    """Set the pixels (H, W) of an object on a plane; the object is created if there is none of that number."""
    packed = mask if isinstance(mask, PackedImage) else PackedImage.pack(mask)
    key = (object_id, plane)
    edits: list[Edit] = []
    if object_id not in store.objects:
        edits.append(Edit("objects", object_id, None, store.make_object(None, object_id)))
    old_mask, old = store.masks.get(key), store.prompts.get(key)
    base = old.base if old is not None else None
    entry = PromptEntry(Prompt(mask=packed), stamp, base) if packed.mask.area else None
    if old is not None or entry is not None:
        edits.append(Edit("prompts", key, old, entry))
    edits.append(Edit("masks", key, old_mask, ObjectMask(packed.mask, "painted")))
    return edits + _stale_edits(store, object_id, plane)


def _stale_edits(store: SessionStore, object_id: int, plane: int) -> list[Edit]:
    """Mark tracked masks up to the next anchors as outdated, on the planes of the clip and in other clips."""
    clip = store.geometry.clip_range(plane)
    found = store.objects.get(object_id)
    locked = found.locked if found is not None else frozenset()
    anchors = [a for a in anchor_planes(store.prompts_of(object_id, clip), locked, clip) if a != plane]
    reach = affected_planes(plane, anchors, clip)
    count = store.geometry.num_frames
    elsewhere = {p // count for p in (*store.prompts_of(object_id), *locked)} - {plane // count}
    clips = affected_planes(plane // count, elsewhere, range(store.geometry.num_clips))
    edits = []
    for p in store.planes_of(object_id):
        mask = store.masks[object_id, p]
        is_affected = p != plane if p in reach else p not in clip and p // count in clips
        if is_affected and mask.kind in ("tracked", "lost") and not mask.is_stale:
            edits.append(Edit("masks", (object_id, p), mask, replace(mask, is_stale=True)))
    return edits
