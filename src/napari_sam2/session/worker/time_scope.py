"""The scope of tracking through time: which objects, from which volumes, to which others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sam2._errors import PromptError
from napari_sam2._packed_mask import PackedImage
from napari_sam2.inference.requests import TimeRequest, TrackRequest
from napari_sam2.inference.tracking.plan import ObjectPlan, plan_passes
from napari_sam2.session.worker.tracking_scope import known_prompts, steps_to_track

if TYPE_CHECKING:
    from napari_sam2.session.state.settings import SessionSettings
    from napari_sam2.session.state.store import SessionStore

__all__ = ["time_request"]


def time_request(
    store: SessionStore, ids: Sequence[int], settings: SessionSettings, max_frames: int | None
) -> TimeRequest:
    """What to track so that each object has a mask, or is known to be absent, on every plane of every volume.

    Raises
    ------
    PromptError
        If the image has no volumes over time.
    """
    geometry = store.geometry
    others = [axis for axis in geometry.fixed_axes if geometry.shape[axis] > 1]
    if geometry.num_frames < 2 or len(others) != 1:
        raise PromptError(
            f"an image of shape {geometry.shape} holds no series of volumes; open one with time and z, such as TZYX, "
            "with z as the frame axis"
        )
    everything = range(geometry.num_planes)
    count = geometry.num_frames
    prompted = TrackRequest(
        known_prompts(store, ids), steps_to_track(store, ids, "both", everything), settings.lost_after,
        settings.keep_apart,
    )  # fmt: skip
    plans = [_plan(store, i, count, geometry.num_clips) for i in ids]
    steps = [step for step in plan_passes(plans, range(geometry.num_clips)).steps if step.reported_ids]
    masks = {i: _masks(store, i) for i in ids}
    return TimeRequest(count, prompted, steps, masks, max_frames)


def _plan(store: SessionStore, object_id: int, count: int, num_volumes: int) -> ObjectPlan:
    """The volumes to start from, and those that are to be filled."""
    locked = store.object(object_id).locked
    shown = {p for p in locked if (mask := store.masks.get((object_id, p))) is not None and mask.area}
    anchors = sorted({p // count for p in (*store.prompts_of(object_id), *shown)})

    def is_wanted(volume: int) -> bool:
        masks = [
            store.masks.get((object_id, p)) for p in range(volume * count, (volume + 1) * count) if p not in locked
        ]
        return any(mask is None or mask.is_stale for mask in masks)

    wanted = [volume for volume in range(num_volumes) if volume not in anchors and is_wanted(volume)]
    return ObjectPlan(object_id, tuple(anchors), wanted)


def _masks(store: SessionStore, object_id: int) -> dict[int, PackedImage]:
    hw = store.geometry.hw
    masks = {p: store.masks.get((object_id, p)) for p in store.planes_of(object_id)}
    return {p: PackedImage(hw, m.packed) for p, m in masks.items() if m is not None and m.area and not m.is_stale}
