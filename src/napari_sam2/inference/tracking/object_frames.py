"""Objects meet frames: a prompt is answered, a tracked frame is segmented, memories are made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_sam2._errors import DeviceError
from napari_sam2._types import FrameResult, Prompt, grew, is_same
from napari_sam2.inference.masks.components import fill_holes_in_scores
from napari_sam2.inference.tracking.batches import (
    attend,
    bytes_per_object,
    encode_memories,
    group_by_layout,
    to_frame_memories,
)
from napari_sam2.inference.tracking.component_filter import average_segmentations, keep_overlapping_components
from napari_sam2.inference.tracking.memory_bank import FrameMemory
from napari_sam2.inference.tracking.tracked_object import PromptedFrame, TrackedObject
from napari_sam2.inference.views.click_search import (
    Decode,
    ViewCandidates,
    average_best,
    needs_click_search,
    refining_views,
    search_click,
    wider_view,
)
from napari_sam2.inference.views.encoder import FrameEncoder, one_row_per_view
from napari_sam2.inference.views.transforms import (
    MASK_PROMPT_LOGIT,
    mask_to_model,
    masks_to_image,
    prompts_to_model,
    resample_logits,
)
from napari_sam2.inference.views.view import View, choose_view
from napari_sam2.inference.views.view_tracking import extent_in_image, follow
from napari_sam2.network.arithmetic import reference_order
from napari_sam2.network.features import DecodedMasks, FrameSegmentation, ImageEmbedding, ModelPrompt
from napari_sam2.network.sam2 import ABSENT_LOGIT, LAST_MASK_LIMIT

__all__ = ["ObjectFrames", "SegmentationSettings"]

logger = logging.getLogger(__name__)

_LOGIT_LIMIT = 32.0  # of logits fed back to the decoder
_ABSENT_CLAMP = -10.0  # logit of a pixel that another object won
_CPU_BATCH_BYTES = 2 * 2**30


@dataclass(frozen=True)
class SegmentationSettings:
    """How frames are segmented; see ``SAM2VideoSegmenter`` for the meaning of the fields."""

    reference_behaviour: bool
    corrections_stick: bool
    memory_dtype: torch.dtype
    fill_hole_area: float
    keep_apart: bool
    batch_bytes: int | None


class ObjectFrames:
    """Segments objects on frames of one stack.

    Parameters
    ----------
    encoder : FrameEncoder
        The stack, as embeddings.
    settings : SegmentationSettings
        How.
    """

    def __init__(self, encoder: FrameEncoder, settings: SegmentationSettings) -> None:
        self.encoder = encoder
        self.model = encoder.model
        self.settings = settings
        self.num_frames, height, width = encoder.frames.shape
        self.hw = (height, width)

    # ------------------------------------------------------------------ prompts
    def prompt(self, tracked: TrackedObject, frame: int, prompt: Prompt) -> FrameResult:
        """Answer the whole prompt of one object on one frame, and keep it."""
        with reference_order(enabled=self.settings.reference_behaviour):
            return self._prompt(tracked, frame, prompt)

    def _prompt(self, tracked: TrackedObject, frame: int, prompt: Prompt) -> FrameResult:
        settings = self.settings
        old = tracked.prompts.get(frame)
        if old is not None and is_same(prompt, old.prompt) and not settings.reference_behaviour:
            return self._render(frame, [tracked])
        base = old.base if old is not None else self._tracked_logits(tracked, frame)
        feedback = self._feedback(tracked, frame, prompt, old, base)
        view = feedback[0] if feedback is not None else choose_view(prompt, self.hw, self.model.config.native_window)
        if len(prompt.points) == 0 and prompt.box is None and prompt.mask is not None:
            found = self._adopt(frame, prompt.mask, view)
        else:
            logits = None if feedback is None else feedback[1]
            view, found = self._look(tracked, frame, prompt, view, logits)
        is_conditioning = settings.corrections_stick or not tracked.was_tracked(frame)
        found = found._replace(logits=self._filled(found.logits))
        (memory,) = to_frame_memories(
            found, None, [view], frame=frame, reverse=tracked.was_reverse(frame), is_conditioning=is_conditioning
        )
        tracked.bank.add(memory)
        tracked.prompts[frame] = PromptedFrame(prompt, base, view)
        return self._render(frame, [tracked])

    def _tracked_logits(self, tracked: TrackedObject, frame: int) -> tuple[View, Tensor] | None:
        """What tracking had found on a frame that is prompted now for the first time; an absent object is no hint."""
        memory = tracked.bank.at(frame)
        if memory is not None:
            found = memory.view, memory.logits
        elif frame in tracked.past:
            found = tracked.past.logits(frame)
        else:
            return None
        return found if self.settings.reference_behaviour or bool((found[1] > 0).any()) else None

    def _feedback(
        self,
        tracked: TrackedObject,
        frame: int,
        prompt: Prompt,
        old: PromptedFrame | None,
        base: tuple[View, Tensor] | None,
    ) -> tuple[View, Tensor] | None:
        """Earlier logits to refine: of a smaller prompt if this one grew, otherwise what tracking had found."""
        memory = tracked.bank.at(frame)
        given = base
        if memory is not None and (self.settings.reference_behaviour or (old is not None and grew(prompt, old.prompt))):
            given = (memory.view, memory.logits)
        if given is None or not _contains(given[0], prompt):
            return None
        return given[0], given[1].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)

    def _look(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, view: View, feedback: Tensor | None
    ) -> tuple[View, FrameSegmentation]:
        """Decode a prompt; a click on a model with a native window finds the window that suits the object."""
        window, has_logits = self.model.config.native_window, feedback is not None
        if window is None or not needs_click_search(prompt, window, has_logits=has_logits):
            wide = wider_view(prompt, view, self.hw, has_logits=has_logits)
            if wide is None:
                return view, self._decode(tracked, frame, prompt, [view], feedback)
            both = self._decode(tracked, frame, prompt, [view, wide], None)
            one, other = _row(both, 0), _row(both, 1)
            looks = (_as_look(one, view, is_ambiguous=False), _as_look(other, wide, is_ambiguous=False))
            return view, one._replace(logits=average_best(looks[0], looks[1:]).logits)
        found: dict[View, FrameSegmentation] = {}
        look = search_click(self._looker(tracked, frame, prompt, found), prompt, self.hw, window)
        best = int(look.scores[0].argmax())
        return look.view, found[look.view]._replace(logits=look.logits[:, best : best + 1])

    def _looker(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, found: dict[View, FrameSegmentation]
    ) -> Decode:
        """Decodes a prompt for those who look around; ``found`` keeps all that came out last in each view."""

        def decode(views: Sequence[View], logits: Tensor | None) -> list[ViewCandidates]:
            several = self._decode(tracked, frame, prompt, views, logits)
            found.update((each, _row(several, row)) for row, each in enumerate(views))
            return [_as_look(found[each], each, is_ambiguous=_is_ambiguous(prompt)) for each in views]

        return decode

    def refining_views(self, tracked: TrackedObject, frame: int, click: Prompt) -> list[View]:
        """The windows that a click on a new object is looked at through after the first look."""
        window = self.model.config.native_window
        if window is None or not needs_click_search(click, window, has_logits=False):
            return []
        return refining_views(self._looker(tracked, frame, click, {}), click, self.hw, window)

    def _adopt(self, frame: int, mask: NDArray[np.bool_], view: View) -> FrameSegmentation:
        coverage = mask_to_model(mask, view, self.model.image_size, device=self.model.device)
        return self.model.adopt_mask(self.encoder.embed(frame, view), (coverage >= 0.5).float())

    def _decode(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, views: Sequence[View], feedback: Tensor | None
    ) -> FrameSegmentation:
        """The prompt in each view, one row per view; earlier logits are of all of them."""
        model, count = self.model, len(views)
        embeddings = self.encoder.embed_all(frame, views)
        low = None if feedback is None else feedback[0, 0].float().cpu().numpy()
        model_prompt = prompts_to_model(
            [prompt] * count, views, model.image_size, device=model.device, mask_inputs=[low] * count
        )
        each = [self._prompt_features(tracked, frame, embeddings[view]) for view in views]
        features = each[0] if count == 1 else torch.cat(each)  # which changes the layout, hence the order of sums
        high_res = one_row_per_view(embeddings, views).high_res
        is_there = not self.settings.reference_behaviour and _names_an_object(prompt)
        return model.segment_frame(
            features, high_res, model_prompt, multimask=_is_ambiguous(prompt), assume_present=is_there
        )

    def _prompt_features(self, tracked: TrackedObject, frame: int, embedding: ImageEmbedding) -> Tensor:
        """A tracked frame remembers what led to it; a frame prompted first knows only itself."""
        if not tracked.was_tracked(frame):
            return self.model.without_memory(embedding)
        if not self.settings.reference_behaviour:
            self._encode_prompted([tracked])
        others = [t for t, m in tracked.bank.prompted.items() if m.features is not None]
        own = () if self.settings.reference_behaviour else (frame,)
        if not set(others) - set(own):
            return self.model.without_memory(embedding)
        recall = tracked.bank.recall(
            frame, reverse=tracked.was_reverse(frame), num_frames=self.num_frames, leave_out=own
        )
        return attend(self.model, embedding, [recall], num_frames=self.num_frames)

    # ------------------------------------------------------------------ tracking
    def advance(
        self, active: Sequence[TrackedObject], frame: int, *, reverse: bool, return_logits: bool
    ) -> FrameResult:
        """Segment one frame for all active objects, and remember it; nothing is kept unless all succeed.

        Where the device's memory runs out, half as many objects go through the network at once, down to one.

        Raises
        ------
        DeviceError
            If the memory does not suffice for one object.
        """
        moving = [tracked for tracked in active if frame not in tracked.bank.prompted]
        with reference_order(enabled=self.settings.reference_behaviour):
            memories = self._tracked_within_memory(active, moving, frame, reverse=reverse)
        masks = _as_mask(torch.cat([memory.logits for memory in memories])) if memories else ()
        for tracked, memory, mask in zip(moving, memories, masks, strict=True):
            tracked.bank.add(memory)
            tracked.past.add(frame, memory.view, mask[0])
        for tracked in active:
            tracked.mark_tracked(frame, reverse=reverse)
        return self._render(frame, active, return_logits=return_logits)

    def _tracked_within_memory(
        self, active: Sequence[TrackedObject], moving: Sequence[TrackedObject], frame: int, *, reverse: bool
    ) -> list[FrameMemory]:
        while True:
            try:
                self._encode_prompted(active)
                return self._track(moving, frame, reverse=reverse)
            except (DeviceError, torch.OutOfMemoryError) as error:
                self._take_fewer_at_once(len(active), error)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()  # out here, where the error does not hold what was computed any more

    def _take_fewer_at_once(self, count: int, error: Exception) -> None:
        at_once = min(self.objects_per_batch(), count)
        if at_once <= 1:
            raise DeviceError(
                f"{self.model.device} has too little memory for one object on a frame of {self.hw[1]} x {self.hw[0]} "
                "pixels; choose a smaller model or image_size, or another device"
            ) from error
        fewer = at_once // 2
        logger.warning("%s; going on with %d objects at once", error, fewer)
        self.settings = replace(self.settings, batch_bytes=fewer * bytes_per_object(self.model))

    def _track(self, moving: Sequence[TrackedObject], frame: int, *, reverse: bool) -> list[FrameMemory]:
        """New memories of objects that were not prompted here, in their order."""
        if not moving:
            return []
        views = {t.object_id: self._next_view(t, frame, reverse=reverse) for t in moving}
        embeddings = self.encoder.embed_all(frame, views.values())
        recalls = [(t, t.bank.recall(frame, reverse=reverse, num_frames=self.num_frames)) for t in moving]
        last = {t.object_id: self._last_mask(t, frame, views[t.object_id], reverse=reverse) for t in moving}
        has_last = {object_id for object_id, mask in last.items() if mask is not None}
        batches = group_by_layout(recalls, max_objects=self.objects_per_batch(), apart=has_last)
        raw: dict[int, FrameMemory] = {}
        for batch in batches:
            batch_views = [views[tracked.object_id] for tracked, _ in batch]
            embedding = one_row_per_view(embeddings, batch_views)
            features = attend(self.model, embedding, [recall for _, recall in batch], num_frames=self.num_frames)
            masks = [mask for tracked, _ in batch if (mask := last[tracked.object_id]) is not None]
            prompt = ModelPrompt(mask=torch.cat(masks)) if masks else None
            found = self.model.segment_frame(features, embedding.high_res, prompt, multimask=True)
            if self.model.config.follows_last_mask:
                # mean IoU in training stacks: asked once 0.616 from clicks, 0.765 from masks; twice 0.629, 0.777
                known = ModelPrompt(mask=found.logits.clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT))
                again = self.model.segment_frame(features, embedding.high_res, known, multimask=True)
                found = average_segmentations(found, again)
                past = [self._last_seen(t, frame, views[t.object_id], reverse=reverse) for t, _ in batch]
                found = keep_overlapping_components(found, past, self.model.no_obj_ptr)
            split = to_frame_memories(found, None, batch_views, frame=frame, reverse=reverse, is_conditioning=False)
            raw |= {tracked.object_id: memory for (tracked, _), memory in zip(batch, split, strict=True)}
        seen = self._apart(raw) if self.settings.keep_apart and len(raw) > 1 else {i: m.logits for i, m in raw.items()}
        done: dict[int, FrameMemory] = {}
        for batch in batches:
            ids = [tracked.object_id for tracked, _ in batch]
            features = encode_memories(
                self.model,
                one_row_per_view(embeddings, [views[i] for i in ids]),
                torch.cat([seen[i] for i in ids]),
                torch.cat([raw[i].object_score for i in ids]),
                binarise=False,
                dtype=self.settings.memory_dtype,
            )
            filled = self._filled(torch.cat([raw[i].logits for i in ids]))
            for row, i in enumerate(ids):
                one = slice(row, row + 1)
                done[i] = replace(raw[i], logits=filled[one], features=features[one])
        return [done[tracked.object_id] for tracked in moving]

    def _last_mask(self, tracked: TrackedObject, frame: int, view: View, *, reverse: bool) -> Tensor | None:
        """(1, 1, S/4, S/4) logits of the frame before in the view of this one, for models that follow them."""
        before = tracked.bank.at(frame + (1 if reverse else -1))
        if before is None or not self.model.config.follows_last_mask:
            return None
        logits = before.logits.float().clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
        return resample_logits(logits, before.view, view)

    def _last_seen(self, tracked: TrackedObject, frame: int, view: View, *, reverse: bool) -> Tensor | None:
        """(1, 1, S/4, S/4) logits, in this view, of the nearest remembered frame that shows the object."""
        for distance in range(1, self.model.config.num_memories):
            memory = tracked.bank.at(frame + (distance if reverse else -distance))
            if memory is not None and bool((memory.logits > 0).any()):
                return resample_logits(memory.logits.float(), memory.view, view)
        nearest = tracked.bank.prompted[min(tracked.bank.prompted, key=lambda t: abs(t - frame))]
        if abs(nearest.frame - frame) < self.model.config.num_memories:
            return resample_logits(nearest.logits.float(), nearest.view, view)
        return None

    def _next_view(self, tracked: TrackedObject, frame: int, *, reverse: bool) -> View:
        """Where to look for an object, given where it was on the frame tracked before."""
        before = tracked.bank.at(frame + (1 if reverse else -1))
        if before is None:
            nearest = min(tracked.bank.prompted, key=lambda t: abs(t - frame))
            before = tracked.bank.prompted[nearest]
        if not before.view.is_native:
            return before.view
        return follow(extent_in_image(_as_mask(before.logits[0, 0]), before.view), before.view, self.hw)

    def _apart(self, memories: dict[int, FrameMemory]) -> dict[int, Tensor]:
        """Logits of each object at the model's size, with the pixels that another object won pushed below zero."""
        full = torch.cat([masks_to_image(m.logits, m.view, self.hw) for m in memories.values()])  # (O, 1, H, W)
        winner = full.argmax(dim=0, keepdim=True)
        rank = torch.arange(len(full), device=full.device)[:, None, None, None]
        full = torch.where(rank == winner, full, full.clamp(max=_ABSENT_CLAMP))
        size = self.model.image_size
        return {
            object_id: _cut_out(full[i : i + 1], memory.view, size)
            for i, (object_id, memory) in enumerate(memories.items())
        }

    def _encode_prompted(self, active: Sequence[TrackedObject]) -> None:
        """Give prompted frames their spatial memory, once their prompt is final: before anything reads it."""
        for tracked in active:
            for memory in (*tracked.bank.prompted.values(), *tracked.bank.tracked.values()):
                if memory.features is None and memory.frame in tracked.prompts:
                    features = encode_memories(
                        self.model,
                        self.encoder.embed(memory.frame, memory.view),
                        self._prompted_logits(tracked, memory),
                        memory.object_score,
                        binarise=True,
                        dtype=self.settings.memory_dtype,
                    )
                    tracked.bank.add(replace(memory, features=features))

    def _prompted_logits(self, tracked: TrackedObject, memory: FrameMemory) -> Tensor:
        """Logits that the memory of a prompted frame is made from: the user's own pixels where there are any."""
        mask = self._own_mask(tracked, memory.frame)
        if mask is None:
            return memory.logits
        coverage = mask_to_model(mask, memory.view, self.model.image_size, device=self.model.device)
        return (2 * coverage - 1) * MASK_PROMPT_LOGIT

    def _own_mask(self, tracked: TrackedObject, frame: int) -> NDArray[np.bool_] | None:
        """The user's mask, if it is all that was said on the frame and stays as it is."""
        if self.settings.reference_behaviour or frame not in tracked.prompts or frame not in tracked.bank.prompted:
            return None
        prompt = tracked.prompts[frame].prompt
        return prompt.mask if len(prompt.points) == 0 and prompt.box is None else None

    def objects_per_batch(self) -> int:
        """How many objects go through the network together, within the memory budget."""
        budget = self.settings.batch_bytes
        if budget is None and self.settings.reference_behaviour:
            return 1  # as the reference does: sums of a larger batch are made in another order
        if budget is None:
            budget = _CPU_BATCH_BYTES
            if self.model.device.type == "cuda":
                device = self.model.device
                kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for reuse
                budget = (torch.cuda.mem_get_info(device)[0] + kept) // 2
        return max(1, budget // bytes_per_object(self.model))

    # ------------------------------------------------------------------ results
    def _filled(self, logits: Tensor) -> Tensor:
        return fill_holes_in_scores(logits, self.settings.fill_hole_area) if self.settings.fill_hole_area else logits

    def _render(self, frame: int, objects: Sequence[TrackedObject], *, return_logits: bool = False) -> FrameResult:
        """The kept memories of a frame at the size of the image."""
        memories = [(tracked, tracked.bank.at(frame)) for tracked in objects]
        planes = [self._plane(tracked, memory) for tracked, memory in memories if memory is not None]
        logits = torch.cat(planes).cpu().numpy() if planes else np.zeros((0, *self.hw), np.float32)
        held = [memory for _, memory in memories if memory is not None]
        iou = torch.cat([m.iou for m in held]).cpu().numpy() if held else np.zeros(0, np.float32)
        score = torch.cat([m.object_score[:, 0] for m in held]).cpu().numpy() if held else np.zeros(0, np.float32)
        return FrameResult(
            frame=frame,
            object_ids=tuple(tracked.object_id for tracked, memory in memories if memory is not None),
            masks=logits > 0,
            iou_scores=iou,
            object_scores=score,
            logits=logits if return_logits else None,
            is_prompted=tuple(frame in tracked.bank.prompted for tracked, memory in memories if memory is not None),
        )

    def _plane(self, tracked: TrackedObject, memory: FrameMemory) -> Tensor:
        """(1, H, W) float32 logits of one object."""
        mask = self._own_mask(tracked, memory.frame)
        if mask is not None:
            own = torch.from_numpy(mask).to(self.model.device).float()
            return ((2 * own - 1) * MASK_PROMPT_LOGIT)[None]
        return masks_to_image(memory.logits, memory.view, self.hw)[0]


def _is_ambiguous(prompt: Prompt) -> bool:
    """Whether a prompt may mean several things: a click, not several of them or a box."""
    return len(prompt.points) <= 1 and prompt.box is None


def _names_an_object(prompt: Prompt) -> bool:
    """Whether a prompt says that an object is there, not only what is none."""
    return prompt.box is not None or prompt.mask is not None or bool(np.any(prompt.labels == 1))


def _row(found: FrameSegmentation, row: int) -> FrameSegmentation:
    """What was found for one of several views."""
    one = slice(row, row + 1)
    return FrameSegmentation(
        found.logits[one],
        found.iou[one],
        found.object_score[one],
        found.pointer[one],
        DecodedMasks(*(value[one] for value in found.candidates)),
    )


def _as_look(found: FrameSegmentation, view: View, *, is_ambiguous: bool) -> ViewCandidates:
    """What was found in a view: all that was proposed for a click that may mean several things, otherwise one mask."""
    if not is_ambiguous:
        return ViewCandidates(view, found.logits.float(), found.iou[:, None].float())
    logits = torch.where(found.object_score[..., None, None] > 0, found.candidates.logits[:, 1:].float(), ABSENT_LOGIT)
    return ViewCandidates(view, logits, found.candidates.iou[:, 1:].float())


def _as_mask(logits: Tensor) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (logits > 0).cpu().numpy()
    return mask


def _contains(view: View, prompt: Prompt) -> bool:
    """Whether the whole prompt lies inside the view."""
    corners = prompt.points if prompt.box is None else np.concatenate((prompt.points, prompt.box.reshape(2, 2)))
    if not view.is_native or not len(corners):
        return True
    low, high = np.array((view.x, view.y)), np.array((view.x + view.width, view.y + view.height))
    return bool((corners >= low - 0.5).all() and (corners <= high).all())


def _cut_out(full: Tensor, view: View, size: int) -> Tensor:
    """Logits (1, 1, H, W) of the image -> (1, 1, S, S) of a view; what lies outside the image is background."""
    h, w = full.shape[-2:]
    padding = (max(-view.x, 0), max(view.x + view.width - w, 0), max(-view.y, 0), max(view.y + view.height - h, 0))
    padded = F.pad(full, padding, value=_ABSENT_CLAMP)
    x, y = view.x + padding[0], view.y + padding[2]
    cut = padded[..., y : y + view.height, x : x + view.width]
    return F.interpolate(cut, size=(size, size), mode="bilinear", align_corners=False)
