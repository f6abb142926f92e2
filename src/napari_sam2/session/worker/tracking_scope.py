"""The scope of a propagation: which objects, which planes, and the masks known there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from napari_sam2._errors import PromptError
from napari_sam2._types import Direction, Prompt
from napari_sam2.inference.requests import AnsweredPrompt, TrackStep
from napari_sam2.inference.tracking.plan import ObjectPlan, anchor_planes, plan_passes

if TYPE_CHECKING:
    from napari_sam2.session.state.records import PromptEntry
    from napari_sam2.session.state.store import SessionStore

__all__ = ["known_prompts", "objects_to_track", "steps_to_track"]


def objects_to_track(store: SessionStore, object_ids: Sequence[int] | None) -> list[int]:
    """The objects to track; None: all that have a prompt with its mask.

    Raises
    ------
    PromptError
        If one does not exist, was never prompted or has no mask of any prompt, or there is none.
    """
    ids = list(store.objects) if object_ids is None else [int(i) for i in object_ids]
    prompted = {i for i, _ in store.prompts}
    answered = {i for (i, _), entry in store.prompts.items() if _has_mask(entry)}
    for i in ids:
        store.object(i)
        if object_ids is not None and i not in prompted:
            raise PromptError(f"{store.object(i).name} has no prompt; click on it first")
    ids = [i for i in ids if i in answered]
    if not ids and prompted:
        raise PromptError("no prompt has a mask yet; wait for it, or prompt again if it failed")
    if not ids:
        raise PromptError("nothing was prompted; click on an object, draw a box or give a mask first")
    return ids


def steps_to_track(store: SessionStore, ids: Sequence[int], direction: Direction, limits: range) -> list[TrackStep]:
    """The passes that fill missing and outdated masks in the planes of ``limits``."""
    steps: list[TrackStep] = []
    count = store.geometry.num_frames
    for first in range(0, store.geometry.num_planes, count):
        clip = range(first, first + count)
        plans = [plan for i in ids if (plan := _object_plan(store, i, clip, limits)) is not None]
        steps += plan_passes(plans, clip, direction).steps
    return steps


def _object_plan(store: SessionStore, object_id: int, clip: range, limits: range) -> ObjectPlan | None:
    prompts = store.prompts_of(object_id, clip)
    if not prompts:
        return None
    locked = store.object(object_id).locked
    shown = {p for p in locked if p in clip and (m := store.masks.get((object_id, p))) and m.area}
    taken = locked | prompts.keys()
    life = store.life(object_id, clip)

    def is_wanted(plane: int) -> bool:
        if plane in taken or plane not in limits or plane not in life:
            return False
        mask = store.masks.get((object_id, plane))
        return mask is None or mask.is_stale

    return ObjectPlan(object_id, anchor_planes(prompts, shown, clip), [p for p in clip if is_wanted(p)])


def known_prompts(store: SessionStore, ids: Sequence[int]) -> dict[int, dict[int, AnsweredPrompt]]:
    """Prompted and locked planes of objects, as the engine takes them."""
    known: dict[int, dict[int, AnsweredPrompt]] = {}
    for i in ids:
        known[i] = {p: AnsweredPrompt(e.prompt, e.answer) for p, e in store.prompts_of(i).items() if _has_mask(e)}
        for p in _boundary_locks(store, i, known[i]):
            known[i][p] = AnsweredPrompt(Prompt(mask=store.masks[i, p].to_image(store.geometry.hw)), None)
    return known


def _has_mask(entry: PromptEntry) -> bool:
    return entry.answer is not None or entry.is_mask_only


def _boundary_locks(store: SessionStore, object_id: int, prompted: Mapping[int, object]) -> list[int]:
    """Locked planes next to unlocked ones; planes between two locked ones are never tracked."""
    locked = store.object(object_id).locked
    return [
        p
        for p in sorted(locked)
        if p not in prompted
        and (m := store.masks.get((object_id, p))) is not None
        and m.area
        and not {p - 1, p + 1} <= locked
    ]
