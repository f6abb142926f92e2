"""Prompts that wait for the model's answer: asked on the compute thread, taken on the one that owns the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.records import ObjectMask
from napari_sam2.session.state.session_state import SessionState
from napari_sam2.session.worker.answerer import Answerer, Asked, as_seen
from napari_sam2.session.worker.compute_thread import ComputeThread, Job
from napari_sam2.session.worker.delivery import Delivery

if TYPE_CHECKING:
    from napari_sam2.inference.requests import PredictResult

__all__ = ["Questions"]


class Questions:
    """Has the model answer prompts, and writes what it answers to those that are still said.

    Parameters
    ----------
    state : SessionState
        Where prompts are and answers go.
    compute : ComputeThread
        Where the model runs.
    answerer : Answerer
        The model's side; used on that thread only.
    delivery : Delivery
        The way back.
    fail : callable
        Called with what went wrong with an answer.
    """

    def __init__(
        self,
        state: SessionState,
        compute: ComputeThread,
        answerer: Answerer,
        delivery: Delivery,
        fail: Callable[[Exception], None],
    ) -> None:
        self._state = state
        self._compute = compute
        self._answerer = answerer
        self._delivery = delivery
        self._fail = fail
        self._waiting: dict[tuple[int, int], int] = {}
        self._errors: dict[tuple[int, int], Exception] = {}

    @property
    def are_open(self) -> bool:
        """Whether a prompt waits for its mask."""
        return bool(self._waiting)

    def ask(self, object_id: int, plane: int) -> None:
        """Have the model answer a prompt that has just been said; what went wrong there before is forgotten."""
        self._errors.pop((object_id, plane), None)
        self._ask(object_id, plane)

    def ask_where_it_failed(self, object_id: int, plane: int) -> None:
        """Ask once more, unless the prompt has its answer or waits for it."""
        self._errors.pop((object_id, plane), None)
        if (object_id, plane) not in self._waiting:
            self._ask(object_id, plane)

    def ask_again(self) -> None:
        """Prompts whose answer was undone with a later change are asked once more."""
        for (object_id, plane), entry in list(self._state.store.prompts.items()):
            if entry.answer is None and not entry.is_mask_only:
                self._ask(object_id, plane)

    def wait(self, timeout: float | None) -> None:
        """Block until every prompt has its mask, or the session is closed; raises as ``Session.wait_for_answers``."""
        self._delivery.wait(lambda: not self._waiting or self._compute.is_closed, timeout)
        if self._errors:
            _, error = self._errors.popitem()
            raise error

    def wait_for_plane(self, plane: int) -> None:
        """What is given pixel for pixel comes after the answers of its plane, whenever those arrive."""
        if self._delivery.goes_on_while_waiting:
            self._delivery.wait(lambda: not any(p == plane for _, p in self._waiting), None)

    def _ask(self, object_id: int, plane: int) -> None:
        """Ask; a newer prompt for the same object and plane takes the place of an older one."""
        state = self._state
        entry = state.store.prompts.get((object_id, plane))
        if entry is None or entry.answer is not None or entry.is_mask_only:
            self._waiting.pop((object_id, plane), None)
            return
        clip = state.store.geometry.clip_range(plane)
        others = {p: e for p, e in state.store.prompts_of(object_id, clip).items() if p != plane}
        asked = Asked(object_id, plane, entry, others, state.model, state.frames, state.settings.overlap)
        self._waiting[object_id, plane] = entry.stamp

        def done(outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
            self._delivery.hand_over(lambda: self._take(asked, outcome))

        self._compute.submit(Job(lambda: self._answerer.answer(asked, state.settings), done, key=(object_id, plane)))

    def _take(self, asked: Asked, outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
        state = self._state
        object_id, plane, stamp = asked.object_id, asked.plane, asked.entry.stamp
        with state.lock:
            key = (object_id, plane)
            entry = state.store.prompts.get(key)
            if entry is None or entry.stamp != stamp or entry.answer is not None:
                if self._waiting.get(key) == stamp:
                    del self._waiting[key]
                return
            if isinstance(outcome, Exception):
                self._waiting.pop(key, None)
                self._errors[key] = outcome
                self._fail(outcome)
                return
            result, packed = outcome
            answered = replace(entry, answer=result.answer)
            mask_edits = state.store.mask_edits(plane, {object_id: packed}, asked.overlap)
            if asked.model is not state.model and (kept := mask_edits[0].after) is not None:
                answered = as_seen(answered, cast("ObjectMask", kept), state.store.geometry.hw)
            change = state.history.change_of(stamp)
            if change is not None:
                change.is_answered = True
            state.amend([Edit("prompts", key, entry, answered), *mask_edits], change)
            self._waiting.pop(key, None)  # last: whoever waits for answers finds all of it
