"""Prompts that wait for their masks: predicted on the compute thread, applied on the thread that owns the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask
from napari_sam2.session.state.session_state import SessionState
from napari_sam2.session.worker.compute_thread import ComputeThread, Job
from napari_sam2.session.worker.delivery import Delivery
from napari_sam2.session.worker.engine_keeper import EngineKeeper, PendingPrompt, as_seen

if TYPE_CHECKING:
    from napari_sam2.inference.requests import PredictResult

__all__ = ["PromptQueue"]


class PromptQueue:
    """Has masks predicted for prompts, and applies those whose prompt is still current.

    Parameters
    ----------
    state : SessionState
        Where prompts are and masks go.
    compute : ComputeThread
        Where the model runs.
    engine_keeper : EngineKeeper
        The model's side; used on that thread only.
    delivery : Delivery
        How results reach the thread that owns the session.
    fail : callable
        Called with the error where a mask could not be predicted.
    """

    def __init__(
        self,
        state: SessionState,
        compute: ComputeThread,
        engine_keeper: EngineKeeper,
        delivery: Delivery,
        fail: Callable[[Exception], None],
    ) -> None:
        self._state = state
        self._compute = compute
        self._engine_keeper = engine_keeper
        self._delivery = delivery
        self._fail = fail
        self._waiting: dict[tuple[int, int], int] = {}
        self._errors: dict[tuple[int, int], Exception] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether a prompt waits for its mask."""
        return bool(self._waiting)

    def add(self, object_id: int, plane: int) -> None:
        """Have the mask of a new prompt predicted; an earlier error there is forgotten."""
        self._errors.pop((object_id, plane), None)
        self._submit(object_id, plane)

    def retry(self, object_id: int, plane: int) -> None:
        """Have the mask of a prompt predicted unless it has one or waits for it, as after an error."""
        self._errors.pop((object_id, plane), None)
        if (object_id, plane) not in self._waiting:
            self._submit(object_id, plane)

    def add_missing(self) -> None:
        """Have masks predicted for all prompts without one, such as those whose answer was undone."""
        for (object_id, plane), entry in list(self._state.store.prompts.items()):
            if entry.answer is None and not entry.is_mask_only:
                self._submit(object_id, plane)

    def wait(self, timeout: float | None) -> None:
        """Block until every prompt has its mask, or the session is closed; raises as ``Session.wait_for_answers``."""
        self._delivery.wait(lambda: not self._waiting or self._compute.is_closed, timeout)
        if self._errors:
            _, error = self._errors.popitem()
            raise error

    def wait_for_plane(self, plane: int) -> None:
        """Block until every prompt of a plane has its mask, so that pixels set by hand come after them."""
        if self._delivery.runs_while_waiting:
            self._delivery.wait(
                lambda: not any(p == plane for _, p in list(self._waiting)) or self._compute.is_closed, None
            )

    def _submit(self, object_id: int, plane: int) -> None:
        """Submit a prompt; it replaces an older one of the same object and plane."""
        state = self._state
        entry = state.store.prompts.get((object_id, plane))
        if entry is None or entry.answer is not None or entry.is_mask_only:
            self._waiting.pop((object_id, plane), None)
            return
        clip = state.store.geometry.clip_range(plane)
        others = {p: e for p, e in state.store.prompts_of(object_id, clip).items() if p != plane}
        pending = PendingPrompt(object_id, plane, entry, others, state.model, state.frames, state.settings.overlap)
        self._waiting[object_id, plane] = entry.stamp

        def done(outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
            self._delivery.hand_over(lambda: self._apply(pending, outcome))

        self._compute.submit(
            Job(lambda: self._engine_keeper.answer(pending, state.settings), done, key=(object_id, plane))
        )

    def _apply(self, pending: PendingPrompt, outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
        state = self._state
        key, stamp = (pending.object_id, pending.plane), pending.entry.stamp
        with state.lock:
            entry = state.store.prompts.get(key)
            try:
                if entry is None or entry.stamp != stamp or entry.answer is not None:
                    return
                if isinstance(outcome, Exception):
                    self._errors[key] = outcome
                    self._fail(outcome)
                    return
                result, packed = outcome
                answered = replace(entry, answer=result.answer)
                mask_edits = state.store.mask_edits(pending.plane, {pending.object_id: packed}, pending.overlap)
                if pending.model is not state.model and (kept := mask_edits[0].after) is not None:
                    answered = as_seen(answered, cast("ObjectMask", kept), state.store.geometry.hw)
                change = state.history.change_of(stamp)
                if change is not None:
                    change.is_answered = True
                state.amend([Edit("prompts", key, entry, answered), *mask_edits], change)
            finally:  # last, so that whoever waits finds the mask; also where a listener of the session raised an error
                if self._waiting.get(key) == stamp:
                    del self._waiting[key]
