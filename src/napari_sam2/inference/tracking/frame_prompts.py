"""Answer the prompts of objects on frames, and encode the memories of prompted frames."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam2._types import Prompt, grew, is_same
from napari_sam2.inference.masks.components import fill_holes_in_scores
from napari_sam2.inference.masks.logits import LOGIT_LIMIT, MASK_LOGIT
from napari_sam2.inference.tracking.batches import attend, encode_memories, take_row, to_frame_memories
from napari_sam2.inference.tracking.tracked_object import PromptedFrame, TrackedObject
from napari_sam2.inference.views.click_search import (
    ViewCandidates,
    answer_prompts,
    needs_click_search,
    refining_views,
)
from napari_sam2.inference.views.encoder import one_row_per_view
from napari_sam2.inference.views.transforms import mask_to_model, not_mirrored, prompts_to_model
from napari_sam2.inference.views.view import View, choose_view, contains_prompt
from napari_sam2.network.sam2 import ABSENT_LOGIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2.inference.tracking.memory_bank import FrameMemory
    from napari_sam2.inference.tracking.settings import SegmentationSettings
    from napari_sam2.inference.views.click_search import Decode
    from napari_sam2.inference.views.encoder import FrameEncoder
    from napari_sam2.network.features import FrameSegmentation, ImageEmbedding

__all__ = ["FramePrompts"]


class FramePrompts:
    """Segments objects on the frames of one stack from their prompts.

    Parameters
    ----------
    encoder : FrameEncoder
        Encodes the frames of the stack.
    settings : SegmentationSettings
        How frames are segmented.
    """

    def __init__(self, encoder: FrameEncoder, settings: SegmentationSettings) -> None:
        self._encoder, self._settings = encoder, settings
        self._model = encoder.model
        self._num_frames, height, width = encoder.frames.shape
        self._hw = (height, width)
        self._stamps = itertools.count(1)

    def answer(self, tracked: TrackedObject, frame: int, prompt: Prompt) -> None:
        """Segment one object on one frame from its complete prompt, and store the prompt and the mask."""
        settings = self._settings
        old = tracked.prompts.get(frame)
        if old is not None and is_same(prompt, old.prompt) and not settings.reference_behaviour:
            return
        base = old.base if old is not None else self._tracked_logits(tracked, frame)
        feedback = self._feedback(tracked, frame, prompt, old, base)
        view = feedback[0] if feedback is not None else choose_view(prompt, self._hw, self._model.config.native_window)
        if prompt.packed_mask is not None and prompt.is_mask_only:
            found = self._adopt(frame, prompt.packed_mask.to_array(), view)
        else:
            logits = None if feedback is None else feedback[1]
            view, found = self._answer(tracked, frame, prompt, view, logits)
        is_conditioning = settings.corrections_stick or not tracked.was_tracked(frame)
        found = found._replace(logits=fill_holes_in_scores(found.logits, settings.fill_hole_area))
        (memory,) = to_frame_memories(
            found, None, [view], frame=frame, reverse=tracked.was_reverse(frame), is_conditioning=is_conditioning
        )
        tracked.bank.add(memory)
        tracked.prompts[frame] = PromptedFrame(prompt, base, view, next(self._stamps))

    def _tracked_logits(self, tracked: TrackedObject, frame: int) -> tuple[View, Tensor] | None:
        """The tracked mask of a frame that is prompted for the first time; None if the object was absent there."""
        memory = tracked.bank.at(frame)
        if memory is not None:
            found = memory.view, memory.logits
        elif frame in tracked.past:
            found = tracked.past.logits(frame)
        else:
            return None
        return found if self._settings.reference_behaviour or bool((found[1] > 0).any()) else None

    def _feedback(
        self,
        tracked: TrackedObject,
        frame: int,
        prompt: Prompt,
        old: PromptedFrame | None,
        base: tuple[View, Tensor] | None,
    ) -> tuple[View, Tensor] | None:
        """Logits to refine: those of the previous prompt if this one extends it, otherwise the tracked mask."""
        memory = tracked.bank.at(frame)
        given = base
        if memory is not None and (
            self._settings.reference_behaviour or (old is not None and grew(prompt, old.prompt))
        ):
            given = (memory.view, memory.logits)
        if given is None or not contains_prompt(given[0], prompt):
            return None
        return given[0], given[1].clamp(-LOGIT_LIMIT, LOGIT_LIMIT)

    def _answer(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, view: View, feedback: Tensor | None
    ) -> tuple[View, FrameSegmentation]:
        """Decode a prompt in the views that suit it; the view and segmentation to keep."""
        found: dict[View, FrameSegmentation] = {}
        decode = self._decoder(tracked, frame, prompt, found)

        def decode_rows(
            _: Sequence[int], views: Sequence[View], logits: Sequence[Tensor | None]
        ) -> Sequence[ViewCandidates]:
            return decode(views, logits[0])

        window, settings = self._model.config.native_window, self._settings.click_search.for_frames(self._num_frames)
        if self._settings.reference_behaviour:
            settings = replace(settings, corrections=None)
        (answer,) = answer_prompts(decode_rows, [prompt], [view], [feedback], self._hw, window, settings)
        best = int(answer.scores[0].argmax())
        return answer.view, found[answer.view]._replace(logits=answer.logits[:, best : best + 1])

    def _decoder(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, found: dict[View, FrameSegmentation]
    ) -> Decode:
        """A function that decodes a prompt; the latest segmentation in each view, upright, is stored in ``found``."""

        def decode(views: Sequence[View], logits: Tensor | None) -> list[ViewCandidates]:
            several = self._decode(tracked, frame, prompt, views, logits)
            rows = [take_row(several, row) for row in range(len(views))]
            found.update(zip((each.upright for each in views), rows, strict=True))
            is_ambiguous = _is_ambiguous(prompt)
            return [_as_candidates(row, view, is_ambiguous=is_ambiguous) for row, view in zip(rows, views, strict=True)]

        return decode

    def refining_views(self, tracked: TrackedObject, frame: int, click: Prompt) -> list[View]:
        """The views in which a click on a new object is decoded after the first pass."""
        window = self._model.config.native_window
        if window is None or not needs_click_search(click, window, has_logits=False):
            return []
        return refining_views(
            self._decoder(tracked, frame, click, {}), click, self._hw, window, self._settings.click_search
        )

    def _adopt(self, frame: int, mask: NDArray[np.bool_], view: View) -> FrameSegmentation:
        coverage = mask_to_model(mask, view, self._model.image_size, device=self._model.device)
        return self._model.adopt_mask(self._encoder.embed(frame, view), (coverage >= 0.5).float())

    def _decode(
        self, tracked: TrackedObject, frame: int, prompt: Prompt, views: Sequence[View], feedback: Tensor | None
    ) -> FrameSegmentation:
        """Decode a prompt in several views, one row per view; ``feedback`` applies to all of them."""
        model, count = self._model, len(views)
        embeddings = self._encoder.embed_all(frame, views)
        low = None if feedback is None else feedback[0, 0].float().cpu().numpy()
        model_prompt = prompts_to_model(
            [prompt] * count, views, model.image_size, device=model.device, mask_inputs=[low] * count
        )
        each = [self._prompt_features(tracked, frame, embeddings[view]) for view in views]
        features = each[0] if count == 1 else torch.cat(each)  # changes the memory layout and hence the order of sums
        high_res = one_row_per_view(embeddings, views).high_res
        is_present = not self._settings.reference_behaviour and _names_an_object(prompt)
        found = model.segment_frame(
            features, high_res, model_prompt, multimask=_is_ambiguous(prompt), assume_present=is_present
        )
        candidates = found.candidates._replace(logits=not_mirrored(found.candidates.logits, views))
        return found._replace(logits=not_mirrored(found.logits, views), candidates=candidates)

    def _prompt_features(self, tracked: TrackedObject, frame: int, embedding: ImageEmbedding) -> Tensor:
        """Features of a prompted frame: conditioned on memory if the frame was tracked before, otherwise without."""
        if not tracked.was_tracked(frame):
            return self._model.without_memory(embedding)
        if not self._settings.reference_behaviour:
            self.encode_prompted([tracked])
        others = [t for t, m in tracked.bank.prompted.items() if m.features is not None]
        own = () if self._settings.reference_behaviour else (frame,)
        if not set(others) - set(own):
            return self._model.without_memory(embedding)
        recall = tracked.bank.recall(
            frame, reverse=tracked.was_reverse(frame), num_frames=self._num_frames, leave_out=own
        )
        return attend(self._model, embedding, [recall], num_frames=self._num_frames)

    def encode_prompted(self, active: Sequence[TrackedObject]) -> None:
        """Encode the spatial memory of prompted frames, just before it is read, when the prompt is final."""
        for tracked in active:
            for memory in (*tracked.bank.prompted.values(), *tracked.bank.tracked.values()):
                if memory.features is None and memory.frame in tracked.prompts:
                    features = encode_memories(
                        self._model,
                        self._encoder.embed(memory.frame, memory.view),
                        self._prompted_logits(tracked, memory),
                        memory.object_score,
                        binarise=True,
                        dtype=self._settings.memory_dtype,
                    )
                    tracked.bank.add(replace(memory, features=features))

    def _prompted_logits(self, tracked: TrackedObject, memory: FrameMemory) -> Tensor:
        """Logits for the memory of a prompted frame: the user's mask, if that is the whole prompt."""
        mask = None if self._settings.reference_behaviour else tracked.own_mask(memory.frame)
        if mask is None:
            return memory.logits
        coverage = mask_to_model(mask, memory.view, self._model.image_size, device=self._model.device)
        return (2 * coverage - 1) * MASK_LOGIT


def _is_ambiguous(prompt: Prompt) -> bool:
    """Whether a prompt is ambiguous: a single click without a box."""
    return len(prompt.points) <= 1 and prompt.box is None


def _names_an_object(prompt: Prompt) -> bool:
    """Whether a prompt marks an object, not only background."""
    return prompt.box is not None or prompt.has_mask or bool(np.any(prompt.labels == 1))


def _as_candidates(found: FrameSegmentation, view: View, *, is_ambiguous: bool) -> ViewCandidates:
    """A segmentation as candidates: all three of an ambiguous prompt, otherwise its one mask."""
    if not is_ambiguous:
        return ViewCandidates(view, found.logits.float(), found.iou[:, None].float())
    logits = torch.where(found.object_score[..., None, None] > 0, found.candidates.logits[:, 1:].float(), ABSENT_LOGIT)
    return ViewCandidates(view, logits, found.candidates.iou[:, 1:].float())
