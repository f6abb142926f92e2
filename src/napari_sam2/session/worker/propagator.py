"""Runs and ends propagations: one at a time, frame by frame on the compute thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from napari_sam2._types import Direction
from napari_sam2.inference.requests import TrackRequest
from napari_sam2.session.engines.tracked_planes import TrackedPlane
from napari_sam2.session.state.history import Change
from napari_sam2.session.state.operations import Operation
from napari_sam2.session.state.session_state import SessionState
from napari_sam2.session.worker.axes_scope import axes_requests, num_axes_steps
from napari_sam2.session.worker.compute_thread import ComputeThread, Steps
from napari_sam2.session.worker.delivery import Delivery
from napari_sam2.session.worker.engine_keeper import EngineKeeper
from napari_sam2.session.worker.propagation_handle import PropagationHandle
from napari_sam2.session.worker.time_scope import time_request
from napari_sam2.session.worker.tracking_scope import known_prompts, objects_to_track, steps_to_track

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari_sam2.session.engines.protocol import SessionEngine

__all__ = ["Propagator"]


class Propagator:
    """Tracks objects, writes their masks as they come, and stops when cancelled or before anything else changes.

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
    notify : callable
        Called with the handle when a propagation starts, advances or ends.
    fail : callable
        Called with the error that ended one early.

    Attributes
    ----------
    handle : PropagationHandle or None
        The propagation that runs, or ran last.
    """

    def __init__(
        self,
        state: SessionState,
        compute: ComputeThread,
        engine_keeper: EngineKeeper,
        delivery: Delivery,
        *,
        notify: Callable[[PropagationHandle], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._state = state
        self._compute = compute
        self._engine_keeper = engine_keeper
        self._delivery = delivery
        self._notify = notify
        self._fail = fail
        self.handle: PropagationHandle | None = None
        # of the one that runs
        self._change: Change | None = None
        self._steps: Steps | None = None
        self._request: TrackRequest | None = None

    @property
    def is_running(self) -> bool:
        """Whether frames may still come."""
        return self.handle is not None and self.handle.is_running

    def is_ahead(self, object_id: int, planes: Collection[int]) -> bool:
        """Whether the running propagation has yet to reach any of the planes."""
        handle, request = self.handle, self._request
        if handle is None or request is None or not handle.is_running:
            return False
        return any(s.frame in planes and object_id in s.reported_ids for s in request.steps[handle.num_done :])

    def so_far(self, operation: Operation) -> Operation:
        """The call of the running propagation, up to the frame it has reached; any other call unchanged."""
        if self._change is not None and self.handle is not None and operation is self._change.operation:
            return _cut(operation, self.handle)
        return operation

    def start(
        self,
        direction: Direction,
        limits: range,
        *,
        object_ids: Sequence[int] | None,
        max_frames: int | None,
        arguments: dict[str, object],
    ) -> PropagationHandle:
        """Start a propagation; one that runs is ended first.

        Parameters
        ----------
        direction
            As for ``Session.propagate``.
        limits : range
            Planes to fill.
        object_ids, max_frames
            As for ``Session.propagate``.
        arguments : dict of str to object
            Of the call, for scripts.

        Returns
        -------
        PropagationHandle
            Already ended if no mask is missing or out of date.
        """
        self.stop()
        state = self._state
        with state.lock:
            chosen = objects_to_track(state.store, object_ids)
            steps = steps_to_track(state.store, chosen, direction, limits)
            if max_frames is not None:
                steps = steps[:max_frames]
            handle = self._new_handle(len(steps), chosen)
            if steps:
                self._change = state.push("propagate", "propagate", arguments, [])
                self._request = TrackRequest(
                    known_prompts(state.store, chosen), steps, state.settings.lost_after, state.settings.keep_apart
                )
                request = self._request
                self._run(handle, lambda engine: engine.track(request, lambda: handle.is_cancelled))
            else:
                handle.finish()
        self._notify(handle)
        return handle

    def start_axes(
        self,
        axes: tuple[str, ...],
        voxel_size: tuple[float, float, float],
        *,
        object_ids: Sequence[int] | None,
        arguments: dict[str, object],
    ) -> PropagationHandle:
        """Start tracking along axes of the volumes that hold prompts; a propagation that runs is ended first.

        Parameters
        ----------
        axes, voxel_size, object_ids
            As for ``Session.track_along``.
        arguments : dict of str to object
            Of the call, for scripts.

        Returns
        -------
        PropagationHandle
            Its masks come after all frames of all axes.
        """
        self.stop()
        state = self._state
        with state.lock:
            requests = axes_requests(state.store, objects_to_track(state.store, object_ids), axes, voxel_size)
            num_steps = sum(num_axes_steps(request, state.store.geometry.hw) for request in requests)
            handle = self._new_handle(num_steps, sorted({i for r in requests for i in r.clicks}))
            self._change = state.push(f"track along {''.join(axes)}", "track_along", arguments, [])

            def track(engine: SessionEngine) -> Iterator[TrackedPlane]:
                for request in requests:
                    yield from engine.track_axes(request, lambda: handle.is_cancelled)

            self._run(handle, track)
        self._notify(handle)
        return handle

    def start_through_time(
        self, *, object_ids: Sequence[int] | None, max_frames: int | None, arguments: dict[str, object]
    ) -> PropagationHandle:
        """Start tracking through volumes and from each to the next; a propagation that runs is ended first.

        Parameters
        ----------
        object_ids, max_frames
            As for ``Session.propagate_through_time``.
        arguments : dict of str to object
            Of the call, for scripts.

        Returns
        -------
        PropagationHandle
            Already ended if no mask is missing or out of date.
        """
        self.stop()
        state = self._state
        with state.lock:
            chosen = objects_to_track(state.store, object_ids)
            request = time_request(state.store, chosen, state.settings, max_frames)
            handle = self._new_handle(request.num_steps, chosen)
            if request.num_steps:
                self._change = state.push("propagate through time", "propagate_through_time", arguments, [])
                self._run(handle, lambda engine: engine.track_through_time(request, lambda: handle.is_cancelled))
            else:
                handle.finish()
        self._notify(handle)
        return handle

    def stop(self) -> None:
        """End the running propagation; finished frames are kept."""
        handle, steps = self.handle, self._steps
        if handle is None or not handle.is_running:
            return
        with self._state.lock:
            handle.mark_cancelled()
            if steps is not None:
                steps.is_stopped = True
            self._close_change(handle)
            handle.finish()
        self._compute.wake()
        self._notify(handle)

    def _new_handle(self, num_steps: int, object_ids: Sequence[int]) -> PropagationHandle:
        """The handle of a propagation that is about to start."""
        handle = PropagationHandle(num_steps, tuple(object_ids))
        handle.on_request, handle.wait_for = self._follow, self._delivery.wait
        self.handle = handle
        return handle

    def _follow(self, handle: PropagationHandle) -> None:
        """Follow a request that came through a handle: pause, resume or cancel."""

        def follow() -> None:
            if handle is not self.handle or not handle.is_running:
                return
            if handle.is_cancelled:
                self.stop()
                return
            self._compute.wake()
            self._notify(handle)

        self._delivery.hand_over(follow)

    def _run(self, handle: PropagationHandle, track: Callable[[SessionEngine], Iterator[TrackedPlane]]) -> None:
        state = self._state
        model, frames = state.model, state.frames

        def start() -> Iterator[TrackedPlane]:
            return track(self._engine_keeper.engine(model, frames, state.settings))

        def on_step(tracked: TrackedPlane) -> bool:
            if not handle.is_cancelled:
                self._delivery.hand_over(lambda: self._take(handle, tracked))
            return not handle.is_cancelled

        def on_end(error: BaseException | None) -> None:
            problem = error if isinstance(error, Exception) else None
            self._delivery.hand_over(lambda: self._end(handle, problem))

        self._steps = Steps(start, on_step, on_end, lambda: handle.is_paused)
        self._compute.submit_steps(self._steps)

    def _take(self, handle: PropagationHandle, tracked: TrackedPlane) -> None:
        state, store = self._state, self._state.store
        with state.lock:
            if handle is not self.handle or not handle.is_running or handle.is_cancelled:
                return
            plane = tracked.step.frame
            new = {
                i: m
                for i, m in tracked.masks.items()
                if i in store.objects and plane not in store.objects[i].locked and (i, plane) not in store.prompts
            }
            handle.note_done(handle.num_done + 1 if tracked.num_done is None else tracked.num_done)
            handle.plane = plane
            edits = store.mask_edits(plane, new, state.settings.overlap)
            if tracked.is_usable is not None:
                edits += store.condition_edits(plane, is_usable=tracked.is_usable, shift=tracked.stage_shift)
            state.amend(edits, self._change)
        self._notify(handle)

    def _end(self, handle: PropagationHandle, error: Exception | None) -> None:
        with self._state.lock:
            if not handle.is_running:
                return
            if error is None and not handle.is_cancelled:
                handle.note_done(handle.num_steps)
            self._close_change(handle)
            handle.finish(error)
        if error is not None:
            self._fail(error)
        self._notify(handle)

    def _close_change(self, handle: PropagationHandle) -> None:
        """Note which frame a propagation reached, for scripts."""
        change = self._change
        if change is not None and change.operation is not None and handle is self.handle:
            change.operation = _cut(change.operation, handle)
            if change.operation.method == "track_along" and handle.num_done < handle.num_steps:
                self._state.amend([edit.reversed() for edit in reversed(change.edits)], change)
            self._change = None
            self._steps = None
            self._request = None


def _cut(operation: Operation, handle: PropagationHandle) -> Operation:
    """The call, limited to the frames that were finished."""
    if handle.num_done >= handle.num_steps:
        return operation
    if operation.method == "track_along":  # masks come at its end: it is not repeated
        return Operation(operation.method, {**operation.arguments, "max_frames": 0})
    return Operation(operation.method, {**operation.arguments, "max_frames": handle.num_done})
