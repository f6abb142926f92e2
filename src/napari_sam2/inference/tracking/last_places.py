"""Where an object was last seen, and where it is expected on the next frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.inference.tracking.motion import Motion, predict_motion
from napari_sam2.inference.tracking.recovery import recovery_view
from napari_sam2.inference.tracking.sharing import Claimant, Placed
from napari_sam2.inference.views.transforms import resample_logits
from napari_sam2.inference.views.view_tracking import extent_in_image, inside_image, moved_view, next_view
from napari_sam2.network.sam2 import LAST_MASK_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_sam2.inference.tracking.frame_survey import FrameSurvey
    from napari_sam2.inference.tracking.memory_bank import FrameMemory
    from napari_sam2.inference.tracking.settings import SegmentationSettings
    from napari_sam2.inference.tracking.tracked_object import TrackedObject
    from napari_sam2.inference.views.view import View
    from napari_sam2.network.config import SAM2Config

__all__ = ["LastPlaces"]


class LastPlaces:
    """The last masks of objects in their memories, moved to where the objects are expected.

    Parameters
    ----------
    config : SAM2Config
        Of the network.
    survey : FrameSurvey
        Movements of the stage.
    hw : tuple of int
        (H, W) of the frames.
    settings : SegmentationSettings
        How objects are followed.
    """

    def __init__(
        self, config: SAM2Config, survey: FrameSurvey, hw: tuple[int, int], settings: SegmentationSettings
    ) -> None:
        self._config, self._survey, self._hw, self._settings = config, survey, hw, settings

    def _seen_before(self, tracked: TrackedObject, frame: int, *, reverse: bool) -> FrameMemory | None:
        """The memory of the last frame on which the object is visible, unless that was long ago.

        A clear mask counts for longer than the frames in memory.
        """
        short = self._config.num_memories - 1
        reach = max(short, self._settings.recovery.max_missing + 1)
        for distance in range(1, reach + 1):
            memory = tracked.bank.at(frame + (distance if reverse else -distance))
            if memory is not None and memory.mask.any():
                return memory if distance <= short or self._is_clear(memory) else None
        nearest = tracked.bank.prompted[min(tracked.bank.prompted, key=lambda t: abs(t - frame))]
        distance = abs(nearest.frame - frame)
        return nearest if distance <= short or (distance <= reach and self._is_clear(nearest)) else None

    def is_missing(self, tracked: TrackedObject, memory: FrameMemory) -> bool:
        """Whether an object that was seen a short time ago is not visible on a new frame."""
        if not self._config.follows_last_mask or memory.mask.any():
            return False
        seen = self._seen_before(tracked, memory.frame, reverse=memory.reverse)
        if seen is None or not self._is_clear(seen):
            return False
        return abs(memory.frame - seen.frame) <= self._settings.recovery.max_missing

    def _is_clear(self, memory: FrameMemory) -> bool:
        """Whether a mask shows an object that may be found again, not one that has faded out."""
        return memory.is_contested or float(memory.iou[0]) >= self._settings.recovery.min_iou

    def motion(self, tracked: TrackedObject, frame: int, *, reverse: bool) -> Motion | None:
        """How an object is expected to move, for models that follow the last mask; None where nothing asks for it."""
        is_wanted = self._settings.motion.is_predicted or self._settings.claims.are_settled
        if not is_wanted or self._settings.reference_behaviour or not self._config.follows_last_mask:
            return None
        return self._predicted(self._visible_before(tracked, frame, reverse=reverse), frame)

    def _visible_before(self, tracked: TrackedObject, frame: int, *, reverse: bool) -> list[FrameMemory]:
        """The memories in which an object is visible, oldest first."""
        return [m for m in tracked.bank.behind(frame, reverse=reverse) if m.mask.any()]

    def _uncontested(self, visible: list[FrameMemory], frame: int) -> list[FrameMemory]:
        """Those of the memories that no other object contested, unless the last of them is long before a frame."""
        clear = [each for each in visible if not each.is_contested]
        return clear if clear and abs(frame - clear[-1].frame) <= self._settings.sharing.max_coasting else visible

    def has_grown(self, tracked: TrackedObject, memory: FrameMemory, *, reverse: bool) -> bool:
        """Whether a new mask is suddenly so much larger than those before it that it may hold a neighbour too."""
        settings = self._settings.sharing
        visible = self._visible_before(tracked, memory.frame, reverse=reverse)
        if not visible or not memory.mask.any() or float(memory.iou[0]) < self._settings.recovery.min_iou:
            return False
        before = self._uncontested(visible, visible[-1].frame)[-settings.num_before :]
        return _area(memory) > settings.largest_growth * float(np.median([_area(each) for each in before]))

    def _predicted(self, seen: Sequence[FrameMemory], frame: int) -> Motion | None:
        """How an object is expected to move; None if it has not been visible, or its view does not follow it."""
        seen = seen[-self._settings.motion.num_frames :]
        if not seen or not seen[-1].view.is_native:
            return None
        masks = [memory.mask for memory in seen]
        views = [self._view_along(memory, frame) for memory in seen]
        return predict_motion([memory.frame for memory in seen], masks, views, frame, self._settings.motion)

    def _coasting(
        self, tracked: TrackedObject, memory: FrameMemory, frame: int, *, reverse: bool
    ) -> tuple[FrameMemory, View] | None:
        """The last memory of an object that no other one contested, and where its view should be on a new frame.

        None if the view does not follow the object.
        """
        visible = self._uncontested(self._visible_before(tracked, frame, reverse=reverse), memory.frame)
        motion = self._predicted(visible, frame)
        if motion is None:
            return None
        x, y = motion.expected.x - motion.last_xy[0], motion.expected.y - motion.last_xy[1]
        return visible[-1], moved_view(self._view_along(visible[-1], frame), round(x), round(y))

    def _before_on(
        self, tracked: TrackedObject, memory: FrameMemory, frame: int, motion: Motion | None, *, reverse: bool
    ) -> tuple[FrameMemory, View]:
        """The memory that stands for the last mask of an object, and the place of its view on a new frame."""
        coasting = self._coasting(tracked, memory, frame, reverse=reverse) if memory.is_contested else None
        return coasting or (memory, self._carried(memory, frame, motion))

    def _carried(self, memory: FrameMemory, frame: int, motion: Motion | None) -> View:
        """The view of a memory on another frame, moved along with the stage and with the object."""
        view = self._view_on(memory, frame)
        if motion is None or not memory.mask.any():
            return view
        return moved_view(view, *motion.offset(self._settings.motion))

    def last_mask(
        self, tracked: TrackedObject, frame: int, view: View, motion: Motion | None, *, reverse: bool
    ) -> Tensor | None:
        """(1, 1, S/4, S/4) logits of the previous frame, in this view, for models that take them as a mask prompt."""
        before = tracked.bank.before(frame, reverse=reverse)
        if before is None or not self._config.follows_last_mask:
            return None
        # a blank frame says nothing about the object: it was not looked for there
        num_missing = tracked.bank.num_searched(before.frame, frame)
        if num_missing > self._settings.recovery.max_missing_for_prompt and not before.is_contested:
            return None
        before, place = self._before_on(tracked, before, frame, motion, reverse=reverse)
        logits = before.logits.float().clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
        return resample_logits(logits, place, view)

    def last_seen(
        self, tracked: TrackedObject, frame: int, view: View, motion: Motion | None, *, reverse: bool
    ) -> Tensor | None:
        """(1, 1, S/4, S/4) logits, in this view, of the last frame in memory on which the object is visible."""
        seen = self._seen_before(tracked, frame, reverse=reverse)
        if seen is None:
            return None
        seen, place = self._before_on(tracked, seen, frame, motion, reverse=reverse)
        return resample_logits(seen.logits.float(), place, view)

    def next_view(self, tracked: TrackedObject, frame: int, motion: Motion | None, *, reverse: bool) -> View:
        """The view of an object, given its position on the previous frame."""
        before = tracked.bank.before(frame, reverse=reverse)
        num_missing = 0 if before is None else abs(frame - before.frame) - 1
        if before is None:
            nearest = min(tracked.bank.prompted, key=lambda t: abs(t - frame))
            before = tracked.bank.prompted[nearest]
        if not before.view.is_native:
            return before.view
        before, view = self._before_on(tracked, before, frame, motion, reverse=reverse)
        extent = extent_in_image(before.mask, view)
        following = next_view(extent, inside_image(view, self._hw), self._hw, self._settings.view_tracking)
        return recovery_view(following, extent, num_missing, self._hw, self._settings.recovery)

    def claimant(self, tracked: TrackedObject, memory: FrameMemory, *, reverse: bool) -> Claimant:
        """An object that is visible on a frame, and where it was expected there."""
        frame, found = memory.frame, Placed(memory.mask, memory.view)
        if frame in tracked.bank.prompted:
            return Claimant(found, 0)
        distance = tracked.bank.prompt_distance(frame)
        seen = self._seen_before(tracked, frame, reverse=reverse)
        if seen is None:
            return Claimant(found, distance)
        clear, place = self._coasting(tracked, seen, frame, reverse=reverse) or (seen, self._view_on(seen, frame))
        last = Placed(clear.mask, self._view_along(clear, frame))
        return Claimant(found, distance, last, Placed(clear.mask, place))

    def _view_on(self, memory: FrameMemory, frame: int) -> View:
        """The view of a memory, moved along with the stage to another frame."""
        if not memory.view.is_native or not self._config.follows_last_mask:
            return memory.view
        return moved_view(memory.view, *self._survey.shift(memory.frame, frame))

    def _view_along(self, memory: FrameMemory, frame: int) -> View:
        """As ``_view_on``, by the movements of the stage from each usable frame to the next.

        Where few objects are in view, one that moves far over many frames would be taken for a movement of the stage.
        """
        if not memory.view.is_native or not self._config.follows_last_mask:
            return memory.view
        shift = self._survey.shift_along(memory.frame, frame)
        return moved_view(memory.view, *shift)


def _area(memory: FrameMemory) -> float:
    """Area of a mask in pixels of the image."""
    return float(memory.mask.mean()) * memory.view.width * memory.view.height
