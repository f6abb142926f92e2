"""Track prompted objects through stacks and movies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import (
    as_numbers,
    check_count,
    check_frame,
    check_ids,
    check_number,
    check_object_id,
    check_out,
    check_stop,
)
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._types import FrameResult, FrameSource, Prompt
from napari_sam2.frames import open_frames
from napari_sam2.inference.tracking.claims import ClaimSettings, DistractorSettings
from napari_sam2.inference.tracking.component_filter import ComponentFilterSettings
from napari_sam2.inference.tracking.follow import follow_steps
from napari_sam2.inference.tracking.frame_survey import ShiftSettings
from napari_sam2.inference.tracking.memory_bank import MemoryBank
from napari_sam2.inference.tracking.motion import MotionSettings
from napari_sam2.inference.tracking.object_frames import ObjectFrames
from napari_sam2.inference.tracking.plan import TrackingPlan, plan_tracking
from napari_sam2.inference.tracking.recovery import RecoverySettings
from napari_sam2.inference.tracking.settings import SegmentationSettings
from napari_sam2.inference.tracking.sharing import SharingSettings
from napari_sam2.inference.tracking.tracked_object import TrackedObject
from napari_sam2.inference.views.click_search import ClickSearchSettings
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.encoder import FrameEncoder
from napari_sam2.inference.views.view_tracking import ViewTrackingSettings
from napari_sam2.labels.canvas import LabelCanvas
from napari_sam2.labels.protocols import LabelStack
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["SAM2VideoSegmenter"]


@checked_calls(PromptError)
class SAM2VideoSegmenter:
    """Tracks objects through z-stacks and movies: one click gives a mask on every frame.

    Parameters
    ----------
    model : SAM2, str, Path or None
        A network, or a name or path for ``load_model``; ``None`` is the bundled model.
    reference_behaviour : bool, default False
        Reproduce the reference exactly: frames are resized by PIL in 8 bits, earlier logits are always fed back, mask
        prompts become low-resolution logits, memories are stored in bfloat16 and used in both directions, objects are
        also tracked on frames before their first prompt, sums are computed in the reference's order, one object at a
        time.
    corrections_stick : bool, default True
        A prompt on a tracked frame makes it a prompted frame permanently. With ``False``, the reference's default, the
        next propagation overwrites the correction.
    memory_dtype : torch.dtype, optional
        Precision of stored memories. Default: that of the model; bfloat16 with ``reference_behaviour``.
    fill_hole_area : float, default 8
        Fill holes up to this area, in pixels of the low-resolution mask.
    keep_apart : bool, default False
        Write each pixel only to the memory of the object with the highest logit there.
    batch_bytes : int, optional
        Peak memory of a batch of objects. Default 2 GiB, on a GPU half of the free memory; a single object with
        ``reference_behaviour``.
    cache : EmbeddingCache, optional
        Cache of encoded views, which can be shared with other predictors. Default: a new one of 32 MiB.
    click_search : ClickSearchSettings, optional
        How clicks are decoded at several scales, for models with a native window.
    view_tracking : ViewTrackingSettings, optional
        When the view of a tracked object moves.
    component_filter : ComponentFilterSettings, optional
        Which components of masks are kept.
    recovery : RecoverySettings, optional
        How objects that are missing on some frames are found again, for models that follow the last mask.
    shifts : ShiftSettings, optional
        When a shift between frames is taken for a movement of the stage, for the same models.
    motion : MotionSettings, optional
        How the movement of objects is predicted, for the same models.
    claims : ClaimSettings, optional
        How objects that claim the same pixels are distinguished, for the same models.
    distractors : DistractorSettings, optional
        Which frames with look-alike objects are kept in memory, however far behind they are; not with
        ``reference_behaviour``.
    sharing : SharingSettings, optional
        How pixels that several objects claim are shared, for models that follow the last mask.

    Raises
    ------
    PromptError
        If a number is not allowed.

    References
    ----------
    .. [1] Ravi et al., SAM 2, 2024. arXiv:2408.00714

    Examples
    --------
    >>> segmenter = SAM2VideoSegmenter()
    >>> segmenter.set_video(stack)
    >>> segmenter.add_clicks(12, [(120, 80)])
    >>> labels = segmenter.track_objects()
    """

    def __init__(
        self,
        model: SAM2 | str | Path | None = None,
        *,
        reference_behaviour: bool = False,
        corrections_stick: bool = True,
        memory_dtype: torch.dtype | None = None,
        fill_hole_area: float = 8.0,
        keep_apart: bool = False,
        batch_bytes: int | None = None,
        cache: EmbeddingCache | None = None,
        click_search: ClickSearchSettings = ClickSearchSettings(),
        view_tracking: ViewTrackingSettings = ViewTrackingSettings(),
        component_filter: ComponentFilterSettings = ComponentFilterSettings(),
        recovery: RecoverySettings = RecoverySettings(),
        shifts: ShiftSettings = ShiftSettings(),
        motion: MotionSettings = MotionSettings(),
        claims: ClaimSettings = ClaimSettings(),
        distractors: DistractorSettings = DistractorSettings(),
        sharing: SharingSettings = SharingSettings(),
    ) -> None:
        check_number("fill_hole_area", fill_hole_area, 0)
        if batch_bytes is not None:
            check_count("batch_bytes", batch_bytes, 1)
        self.model = ensure_model(model)
        if memory_dtype is None:
            memory_dtype = torch.bfloat16 if reference_behaviour else self.model.dtype
        self.settings = SegmentationSettings(
            reference_behaviour=reference_behaviour,
            corrections_stick=corrections_stick,
            memory_dtype=memory_dtype,
            fill_hole_area=fill_hole_area,
            keep_apart=keep_apart,
            batch_bytes=batch_bytes,
            click_search=click_search,
            view_tracking=view_tracking,
            component_filter=component_filter,
            recovery=recovery,
            shifts=shifts,
            motion=motion,
            claims=claims,
            distractors=distractors,
            sharing=sharing,
        )
        self.cache = EmbeddingCache(32 * 2**20) if cache is None else cache
        self._source: FrameSource | None = None
        self._objects: dict[int, TrackedObject] = {}
        self._frames: ObjectFrames | None = None

    # ------------------------------------------------------------------ stack
    def set_video(self, frames: FrameSource | ArrayLike | str | Path) -> None:
        """Set the stack to segment; prompts and memories of an earlier one are removed.

        Parameters
        ----------
        frames : FrameSource, array or path
            Anything ``open_frames`` reads. Arrays are (T, H, W) or (T, H, W, 3); pass the result of
            ``open_frames`` to choose axes, channels or contrast.

        Raises
        ------
        FrameError
            If it is empty or cannot be read.
        PromptError
            If something else than a stack is given.
        """
        self._source = open_frames(frames)  # type: ignore[arg-type]
        self._objects.clear()
        encoder = FrameEncoder(self.model, self._source, self.cache, pil_bicubic=self.settings.reference_behaviour)
        self._frames = ObjectFrames(encoder, self.settings)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the stack."""
        return self._video().shape

    @property
    def num_frames(self) -> int:
        """T."""
        return self._video().shape[0]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Identifiers of the objects, in the order of their first prompts."""
        return tuple(self._objects)

    @property
    def nbytes(self) -> int:
        """Size of memories and cached embeddings in bytes."""
        return self.cache.nbytes + sum(tracked.bank.nbytes for tracked in self._objects.values())

    def prompted_frames(self, object_id: int) -> tuple[int, ...]:
        """Frames on which an object was prompted, ascending.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        return tuple(sorted(self._object(object_id).prompts))

    def _video(self) -> FrameSource:
        if self._source is None:
            raise PromptError("no video is set; call set_video(frames) first")
        return self._source

    def _object_frames(self) -> ObjectFrames:
        self._video()
        assert self._frames is not None
        return self._frames

    def _object(self, object_id: int) -> TrackedObject:
        object_id = check_object_id(object_id)
        if object_id not in self._objects:
            raise PromptError(f"object {object_id} does not exist; the objects are {list(self._objects) or 'none yet'}")
        return self._objects[object_id]

    def _check_frame(self, frame: int) -> int:
        return check_frame(frame, self.num_frames)

    # ------------------------------------------------------------------ prompts
    def add_clicks(
        self,
        frame: int | ArrayLike,
        clicks: ArrayLike | None,
        labels: ArrayLike | None = None,
        *,
        object_id: int = 1,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> NDArray[np.bool_]:
        """Prompt one object on one frame and return its mask there.

        The arguments are the complete prompt of the object on this frame and replace an earlier one. Repeating a prompt
        returns the same mask; a prompt that extends the earlier one refines its mask.

        Parameters
        ----------
        frame : int or array-like
            Index of the frame. Before ``set_video``, an image (H, W) or (H, W, 3) becomes a video of one frame.
        clicks : (N, 2) array-like
            (x, y) in image pixels; may be empty if a box or mask is given.
        labels : (N,) array-like, optional
            1 for object, 0 for background; default all 1.
        object_id : int, default 1
            Positive integer; a new number creates a new object, also after tracking.
        box : (4,) array-like, optional
            x0, y0, x1, y1 in image pixels.
        mask : (H, W) array-like, optional
            Mask of the object; returned unchanged if there are no clicks.

        Returns
        -------
        numpy.ndarray
            (1, H, W) bool mask of the object on this frame.

        Raises
        ------
        PromptError
            If the frame or object number is not allowed, or the prompt is malformed or lies outside the image.
        """
        index = self._frame_index(frame)
        prompt = Prompt(points=clicks, labels=labels, box=box, mask=mask)
        return self.add_prompt(index, prompt, object_id=object_id).masks

    def add_prompt(self, frame: int, prompt: Prompt, *, object_id: int = 1) -> FrameResult:
        """Prompt one object on one frame, as ``add_clicks``, and return the mask with its scores.

        Raises
        ------
        PromptError
            If the frame or object number is not allowed, or the prompt is not a ``Prompt`` or lies outside the image.
        """
        if not isinstance(prompt, Prompt):
            raise PromptError(f"{shown(prompt)} was given as a prompt; give Prompt(points=..., box=..., mask=...)")
        frame = self._check_frame(frame)
        object_id = check_object_id(object_id)
        _, h, w = self.shape
        prompt.check_inside((h, w))
        config = self.model.config
        tracked = self._objects.get(object_id)
        if tracked is None:
            reference, distractors = self.settings.reference_behaviour, self.settings.distractors
            bank = MemoryBank(
                config.num_memories,
                config.max_pointers,
                extra_frames=config.max_pointers if reference else 0,
                any_direction=reference,
                max_distractors=distractors.max_frames if distractors.are_remembered and not reference else 0,
            )
            tracked = TrackedObject(object_id, bank, self.num_frames)
        with torch.inference_mode():
            result = self._object_frames().prompt(tracked, frame, prompt)
        self._objects[tracked.object_id] = tracked  # only after it was segmented
        return result

    def _frame_index(self, frame: int | ArrayLike) -> int:
        if isinstance(frame, str | bytes | int) or frame is None:
            return check_frame(frame, self._video().shape[0])
        if not hasattr(frame, "dtype"):
            as_numbers(frame, "frame")  # refuses ragged rows and text
        if np.ndim(frame) == 0:
            return check_frame(frame, self._video().shape[0])
        if self._source is not None:
            raise PromptError("an image was given as the frame, but a video is set; give the index of a frame")
        image = np.asarray(frame)
        if image.ndim not in (2, 3):
            raise PromptError(f"an array of shape {image.shape} was given as the frame; expected an index or an image")
        self.set_video(open_frames(image, axes="YX" if image.ndim == 2 else "YXC"))
        return 0

    def clear_prompts(self, frame: int, object_id: int) -> None:
        """Remove the prompt of an object on a frame; an object without any prompt left is removed.

        Raises
        ------
        PromptError
            If there is no such object or frame, or the object has no prompt there.
        """
        tracked, frame = self._object(object_id), self._check_frame(frame)
        if frame not in tracked.prompts:
            raise PromptError(
                f"object {object_id} has no prompt on frame {frame}; it has prompts on {list(tracked.prompts)}"
            )
        tracked.forget_frame(frame)
        if not tracked.prompts:
            del self._objects[tracked.object_id]

    def remove_object(self, object_id: int) -> None:
        """Remove an object; the others are not changed.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        del self._objects[self._object(object_id).object_id]

    def reset(self) -> None:
        """Remove all objects; the stack and its cached embeddings are kept."""
        self._objects.clear()

    # ------------------------------------------------------------------ tracking
    def propagate_masklets(
        self,
        start: int | None = None,
        stop: int | None = None,
        *,
        reverse: bool = False,
        object_ids: Sequence[int] | None = None,
        return_logits: bool = False,
    ) -> Iterator[FrameResult]:
        """Track objects frame by frame.

        Parameters
        ----------
        start : int, optional
            First frame. Default: the earliest prompted frame, or the latest for ``reverse``.
        stop : int, optional
            The frame to stop before, as in ``range(start, stop)``, or ``range(start, stop, -1)`` for ``reverse``.
            Default: the end of the stack.
        reverse : bool, default False
            Track backwards.
        object_ids : sequence of int, optional
            Objects to track; default all.
        return_logits : bool, default False
            Return logits at the size of the image in addition to masks.

        Yields
        ------
        FrameResult
            One per frame, including the start. Prompted frames return the prompted mask. An object appears in the
            results from its first prompted or tracked frame on.

        Raises
        ------
        PromptError
            If there is no prompt, or an object or frame does not exist.

        Notes
        -----
        Each frame is complete when it is yielded: the generator can be closed at any time, and tracking can continue
        from the next frame later, with the same results. It ends early if another stack is set or all of its objects
        are removed.
        """
        chosen = self._chosen(object_ids)
        prompted = [frame for tracked in chosen for frame in tracked.prompts]
        first = self._check_frame((max(prompted) if reverse else min(prompted)) if start is None else start)
        if reverse and stop is None:
            stop = -1
        frames = range(first, check_stop(stop, self.num_frames), -1 if reverse else 1)
        return self._propagate(frames, chosen, reverse=reverse, return_logits=return_logits)

    def _propagate(
        self, frames: range, chosen: list[TrackedObject], *, reverse: bool, return_logits: bool
    ) -> Iterator[FrameResult]:
        source = self._video()
        for frame in frames:
            known = [t for t in chosen if self._objects.get(t.object_id) is t]
            if self._source is not source or not known:
                return  # the stack or all objects were replaced or removed after the last frame
            active = [t for t in known if self._reaches(t, frame, reverse=reverse)]
            with torch.inference_mode():
                result = self._object_frames().advance(
                    active, frame, reverse=reverse, return_logits=return_logits, others=known
                )
            yield result

    def _reaches(self, tracked: TrackedObject, frame: int, *, reverse: bool) -> bool:
        """Whether the object is tracked on this frame: not before its first prompt."""
        if self.settings.reference_behaviour:
            return True
        return any(p >= frame if reverse else p <= frame for p in tracked.prompts)

    def track_objects(
        self,
        *,
        object_ids: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        lost_after: int | None = 5,
        on_frame: Callable[[FrameResult], None] | None = None,
        out: LabelStack | None = None,
    ) -> NDArray[np.int32]:
        """Track all objects through the stack, in both directions from every prompted frame.

        Between two prompted frames each half is tracked from the nearer one. Prompted masks keep their pixels; where
        tracked masks overlap, the object whose prompt is nearer in time wins, then the highest logit. ``Session`` gives
        the same labels for the same prompts.

        Parameters
        ----------
        object_ids : sequence of int, optional
            Objects to track; default all.
        start, stop : int, optional
            Frames to fill, as in ``range(start, stop)``; default all.
        lost_after : int or None, default 5
            Stop tracking an object in a direction after this many consecutive frames without it, until its next
            prompt; None: never.
        on_frame : callable, optional
            Called with each ``FrameResult``, for progress and scores; an exception stops tracking.
        out : array-like, optional
            (T, H, W) int32 with item assignment, such as a numpy or zarr array, or a `LabelWriter`; written frame by
            frame. Default: a new array.

        Returns
        -------
        numpy.ndarray
            (T, H, W) int32; 0 is background, other values are object identifiers. ``out`` if given.

        Raises
        ------
        PromptError
            If there is no prompt, an object does not exist, or the shape or dtype of ``out`` does not fit.
        """
        chosen = self._chosen(object_ids)
        labels = cast("NDArray[np.int32]", np.zeros(self.shape, np.int32) if out is None else out)
        check_out(out, self.shape, max(t.object_id for t in chosen))
        for result in self.track_into(labels, object_ids=object_ids, start=start, stop=stop, lost_after=lost_after):
            if on_frame is not None:
                on_frame(result)
        return labels

    def track_into(
        self,
        labels: LabelStack,
        *,
        object_ids: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        lost_after: int | None = 5,
    ) -> Iterator[FrameResult]:
        """As ``track_frames``; each frame is written into labels of the shape of the stack before it is yielded.

        Tracking stops when the iteration is stopped; the frames until then are written. Raises as `track_objects`.

        Raises
        ------
        PromptError
            As `track_objects`, or if ``labels`` has another shape or too small a type.
        """
        plan = self.plan(object_ids=object_ids, start=start, stop=stop)
        check_out(labels, self.shape, max(t.object_id for t in self._chosen(object_ids)))
        results = self._follow_plan(plan, lost_after)
        smallest = self.settings.component_filter.min_component

        def painted() -> Iterator[FrameResult]:
            with LabelCanvas(labels, self.shape[1:], plan.frames_met_twice(), min_component=smallest) as canvas:
                for result in results:
                    canvas.paint(result)
                    yield result

        return painted()

    def track_frames(
        self,
        *,
        object_ids: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        lost_after: int | None = 5,
    ) -> Iterator[FrameResult]:
        """The frames of ``track_objects`` one by one, with logits: a forward pass followed by a backward pass.

        A frame is yielded twice if some objects reach it forwards and others backwards; each object once. Objects that
        are lost are missing from the results.

        Raises
        ------
        PromptError
            As `track_objects`.
        """
        return self._follow_plan(self.plan(object_ids=object_ids, start=start, stop=stop), lost_after)

    def plan(self, *, object_ids: Sequence[int] | None = None, start: int = 0, stop: int | None = None) -> TrackingPlan:
        """The steps of ``track_objects``, for progress bars.

        Raises
        ------
        PromptError
            As `track_objects`.
        """
        chosen = self._chosen(object_ids)
        limits = range(self._check_frame(start), check_stop(stop, self.num_frames))
        return plan_tracking({t.object_id: sorted(t.prompts) for t in chosen}, limits)

    def _follow_plan(self, plan: TrackingPlan, lost_after: int | None) -> Iterator[FrameResult]:
        if lost_after is not None:
            check_count("lost_after", lost_after, 1)
        steps = follow_steps(self._object_frames(), self._objects, plan.steps, lost_after=lost_after)
        return (result for step, result in steps if step.reported_ids)

    def _chosen(self, object_ids: Sequence[int] | None) -> list[TrackedObject]:
        self._video()
        if not self._objects:
            raise PromptError("no object was prompted; call add_clicks(frame, clicks) first")
        if object_ids is None:
            return list(self._objects.values())
        return [self._object(object_id) for object_id in check_ids(object_ids)]
