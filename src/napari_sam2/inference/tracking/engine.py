"""Answer prompts and track objects in one stack; results depend on the request alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam2._errors import PromptError
from napari_sam2._types import FrameResult, Prompt, is_same
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.requests import (
    Answer,
    AnsweredPrompt,
    PredictRequest,
    PredictResult,
    TrackRequest,
)
from napari_sam2.inference.tracking.follow import follow_steps
from napari_sam2.inference.tracking.memory_bank import FrameMemory, MemoryBank
from napari_sam2.inference.tracking.object_frames import ObjectFrames
from napari_sam2.inference.tracking.settings import SegmentationSettings
from napari_sam2.inference.tracking.tracked_object import PromptedFrame, TrackedObject
from napari_sam2.inference.views.click_search import ClickSearchSettings, nearby_views
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.encoder import FrameEncoder
from napari_sam2.inference.views.transforms import mask_to_model
from napari_sam2.inference.views.view import View, choose_view, whole_view
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2

__all__ = ["Engine"]

_MAX_PREFETCH = 24  # views; 0.7 s on one core, and nearly all of an image of 256 x 256


class Engine:
    """Answers requests about one stack. It has caches, but no state that affects results.

    Parameters
    ----------
    model : SAM2, str, Path or None
        As for ``SAM2VideoSegmenter``.
    frames : FrameSource
        The stack.
    fill_hole_area : float, default 8
        Fill holes up to this area, in pixels of the low-resolution mask.
    batch_bytes : int, optional
        As for ``SAM2VideoSegmenter``.
    cache_bytes : int, default 256 MiB
        Size of the embedding cache.
    click_search : ClickSearchSettings, optional
        How clicks are decoded at several scales.
    """

    def __init__(
        self,
        model: SAM2 | str | Path | None,
        frames: FrameSource,
        *,
        fill_hole_area: float = 8.0,
        batch_bytes: int | None = None,
        cache_bytes: int = 256 * 2**20,
        click_search: ClickSearchSettings = ClickSearchSettings(),
    ) -> None:
        self.model = ensure_model(model)
        self.frames = frames
        self._all_threads = torch.get_num_threads()
        self.cache = EmbeddingCache(cache_bytes)
        settings = SegmentationSettings(
            reference_behaviour=False,
            corrections_stick=True,
            memory_dtype=self.model.dtype,
            fill_hole_area=fill_hole_area,
            keep_apart=False,
            batch_bytes=batch_bytes,
            click_search=click_search,
        )
        encoder = FrameEncoder(self.model, frames, self.cache, pil_bicubic=False)
        self._frames = ObjectFrames(encoder, settings)
        self._predictor = SAM2ImagePredictor(self.model, cache=self.cache, click_search=click_search)
        self._foreseen: tuple[int, Prompt, PredictResult] | None = None

    @property
    def min_component(self) -> float:
        """Smallest component of a mask, as a fraction of its largest one."""
        return self._frames.settings.component_filter.min_component

    def replace_frames(self, frames: FrameSource) -> None:
        """Replace the frames by others of the same shape, such as after a change of contrast."""
        if frames.shape != self.frames.shape:
            raise PromptError(f"frames of shape {frames.shape} were given; the stack has {self.frames.shape}")
        self.frames, self._foreseen = frames, None
        encoder = FrameEncoder(self.model, frames, self.cache, pil_bicubic=False)
        self._frames = ObjectFrames(encoder, self._frames.settings)

    def use_threads(self, num_threads: int | None) -> None:
        """Set the number of CPU threads of torch for this thread; None restores the initial number."""
        wanted = self._all_threads if num_threads is None else num_threads
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def prepare(self, frame: int) -> None:
        """Read and encode a frame before the first prompt, for models that see the whole image."""
        if self.model.config.native_window is None:
            with torch.inference_mode():
                self._frames.encoder.embed(frame, whole_view(self._frames.hw))

    def look_ahead(self, frame: int, point_xy: tuple[float, float]) -> Iterator[None]:
        """Prepare for a click on or near a point of a frame; yields after each encoded view.

        Decodes a click on the point itself, then encodes the initial views of nearby clicks. Models that see the whole
        image encode the frame on a GPU only: on a CPU this can take seconds, which would delay a click on another
        frame.

        Parameters
        ----------
        frame : int
            Index of the frame.
        point_xy : tuple of float
            (x, y) in pixels of the frame.
        """
        window = self.model.config.native_window
        if window is None:
            if self.model.device.type != "cpu":
                self.prepare(frame)
            return
        hw, (x, y) = self._frames.hw, point_xy
        nearby = nearby_views(point_xy, hw, window, self._frames.settings.click_search)[:_MAX_PREFETCH]
        if 0 <= x <= hw[1] - 1 and 0 <= y <= hw[0] - 1:
            click = Prompt(points=np.array([point_xy], np.float32))
            yield from self._embed(frame, nearby[: self._frames.settings.click_search.num_initial])
            with torch.inference_mode():
                refining = self._frames.refining_views(self._remember(0, {}), frame, click)
            yield from self._embed(frame, refining)
            self._foreseen = frame, click, self.predict(PredictRequest(0, frame, click))
            yield
        yield from self._embed(frame, nearby)

    def _embed(self, frame: int, views: Sequence[View]) -> Iterator[None]:
        for view in views:
            with torch.inference_mode():
                self._frames.encoder.embed(frame, view)
            yield

    def _answer_foreseen(self, request: PredictRequest) -> PredictResult | None:
        """The result of `look_ahead`, if the request is a first click at exactly that point."""
        if self._foreseen is None or not request.is_fresh:
            return None
        frame, click, result = self._foreseen
        if request.frame != frame or not is_same(request.prompt, click):
            return None
        return replace(result, object_id=request.object_id)

    # ------------------------------------------------------------------ one frame
    def predict(self, request: PredictRequest) -> PredictResult:
        """Segment one object on one frame.

        Raises
        ------
        PromptError
            If the prompt lies outside the image, or the candidate does not exist.
        FrameError
            If the frame cannot be read.
        DeviceError
            If the device runs out of memory.
        """
        frame, prompt = request.frame, request.prompt
        prompt.check_inside(self._frames.hw)
        foreseen = self._answer_foreseen(request)
        if foreseen is not None:
            return foreseen
        score: float | None = None
        with torch.inference_mode():
            if request.candidate is not None:
                mask, score = self._candidate(request, request.candidate)
                prompt = Prompt(mask=mask)
            tracked = self._remember(request.object_id, request.others if request.base is not None else {})
            if request.smaller is not None:
                self._add(tracked, frame, request.smaller)
            elif request.base is not None:
                view = choose_view(_mask_or(request.base, prompt), self._frames.hw, self.model.config.native_window)
                tracked.past.add(frame, view, self._low_resolution(request.base, view))
            if request.base is not None and tracked.prompts.keys() - {frame}:
                nearest = min(tracked.prompts.keys() - {frame}, key=lambda t: abs(t - frame))
                tracked.mark_tracked(frame, reverse=nearest > frame)
            result = self._frames.prompt(tracked, frame, prompt)
            memory = tracked.bank.at(frame)
        assert memory is not None
        answer = _answer(memory)
        if score is not None:  # the mask is the model's, so its predicted IoU is, too
            answer = replace(answer, iou=score)
        return PredictResult(request.object_id, frame, result.masks[0], answer)

    def _candidate(self, request: PredictRequest, number: int) -> tuple[NDArray[np.bool_], float]:
        """(H, W) mask of the candidate with rank ``number`` by score, and its score."""
        self._predictor.set_frame(self.frames, request.frame)
        found = self._predictor.predict(request.prompt, multimask_output=True)
        order = np.argsort(-found.scores, kind="stable")
        if not 0 <= number < len(order):
            raise PromptError(f"candidate {number} does not exist; choose 0 to {len(order) - 1}")
        mask = np.asarray(found.masks[order[number]], bool)
        if not mask.any():
            raise PromptError(f"candidate {number} of this click is empty; choose another one or add a click")
        return mask, float(found.scores[order[number]])

    def _low_resolution(self, mask: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
        side = self.model.image_size // 4
        coverage = mask_to_model(mask, view, side, device=torch.device("cpu"))
        small: NDArray[np.bool_] = (coverage[0, 0] >= 0.5).numpy()
        return small

    # ------------------------------------------------------------------ many frames
    def track(self, request: TrackRequest, should_stop: Callable[[], bool] = lambda: False) -> Iterator[FrameResult]:
        """Track objects; yields one result per step, in order.

        Parameters
        ----------
        request : TrackRequest
            Objects and frames.
        should_stop : callable, optional
            Called between frames; returns True to cancel.

        Yields
        ------
        FrameResult
            Objects in the step's ``reported_ids``; an object is missing from a result if it was lost and is no longer
            tracked.

        Raises
        ------
        FrameError
            If a frame cannot be read.
        DeviceError
            If the device runs out of memory even with a single object per batch.
        """
        self._frames.settings = replace(self._frames.settings, keep_apart=request.keep_apart)
        known = {}
        for object_id, prompts in request.prompts.items():
            if should_stop():
                return
            known[object_id] = self._remember(object_id, prompts)
        steps = follow_steps(self._frames, known, request.steps, lost_after=request.lost_after, should_stop=should_stop)
        for step, result in steps:
            yield _only(result, set(step.reported_ids))

    # ------------------------------------------------------------------ memories
    def _remember(self, object_id: int, prompts: Mapping[int, AnsweredPrompt]) -> TrackedObject:
        """An object with memories of its prompted frames only."""
        config = self.model.config
        tracked = TrackedObject(object_id, MemoryBank(config.num_memories, config.max_pointers), self.frames.shape[0])
        with torch.inference_mode():
            for frame, answered in sorted(prompts.items()):
                self._add(tracked, frame, answered)
        return tracked

    def _add(self, tracked: TrackedObject, frame: int, answered: AnsweredPrompt) -> None:
        if answered.answer is None:
            self._frames.prompt(tracked, frame, answered.prompt)
            return
        memory = self._memory(frame, answered.answer)
        tracked.bank.add(memory)
        tracked.prompts[frame] = PromptedFrame(answered.prompt, None, memory.view)

    def _memory(self, frame: int, answer: Answer) -> FrameMemory:
        device, dtype = self.model.device, self.model.dtype

        def tensor(values: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)

        x, y, width, height, is_native = answer.view
        return FrameMemory(
            frame=frame,
            is_conditioning=True,
            reverse=False,
            view=View(x, y, width, height, bool(is_native)),
            logits=tensor(answer.logits)[None, None],
            iou=torch.tensor([answer.iou], device=device),
            object_score=torch.tensor([[answer.object_score]], device=device),
            pointer=tensor(answer.pointer)[None],
        )


def _answer(memory: FrameMemory) -> Answer:
    return Answer(
        view=(memory.view.x, memory.view.y, memory.view.width, memory.view.height, int(memory.view.is_native)),
        logits=memory.logits[0, 0].float().cpu().numpy().copy(),
        pointer=memory.pointer[0].float().cpu().numpy().copy(),
        iou=float(memory.iou[0]),
        object_score=float(memory.object_score[0, 0]),
    )


def _mask_or(mask: NDArray[np.bool_], prompt: Prompt) -> Prompt:
    return Prompt(mask=mask) if mask.any() else prompt


def _only(result: FrameResult, wanted: set[int]) -> FrameResult:
    """The result restricted to some objects."""
    rows = [row for row, i in enumerate(result.object_ids) if i in wanted]
    return replace(
        result,
        object_ids=tuple(result.object_ids[row] for row in rows),
        windows=tuple(result.windows[row] for row in rows),
        iou_scores=result.iou_scores[rows],
        object_scores=result.object_scores[rows],
        is_prompted=tuple(result.is_prompted[row] for row in rows),
        prompt_distances=tuple(result.prompt_distances[row] for row in rows),
    )
