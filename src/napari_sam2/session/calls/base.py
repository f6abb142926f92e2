"""What all calls of a session build on: a stack, the state on it, the threads that work for it, and undo."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np
from psygnal import Signal

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import check_number
from napari_sam2._errors import PromptError
from napari_sam2._files import expand
from napari_sam2._messages import shown
from napari_sam2.frames.display import open_stack
from napari_sam2.session.engines.compute_address import ComputeAddress, as_compute_address
from napari_sam2.session.files.autosave import Autosave
from napari_sam2.session.state.history import replayable
from napari_sam2.session.state.session_state import SessionState
from napari_sam2.session.state.settings import ModelState, SessionSettings
from napari_sam2.session.state.snapshot import SessionContent, SessionOrigin, SessionSetup, SessionSnapshot
from napari_sam2.session.state.store import SessionStore, StoreDelta
from napari_sam2.session.worker.compute_thread import ComputeThread
from napari_sam2.session.worker.delivery import Delivery
from napari_sam2.session.worker.engine_keeper import EngineKeeper
from napari_sam2.session.worker.prompt_queue import PromptQueue
from napari_sam2.session.worker.propagation_handle import PropagationHandle
from napari_sam2.session.worker.propagator import Propagator

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.history import History
    from napari_sam2.session.state.measurements import Measurement
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.records import PlaneCondition, SessionObject

__all__ = ["SessionBase"]

T = TypeVar("T")
_EXIT_TIMEOUT_S = 60.0  # for the step under way when the program ends, such as loading a model


class _Threads:
    """The threads that work for one session; ended together, also where the session was never closed.

    Parameters
    ----------
    interrupt : callable
        Ends the compute thread's waiting for others.
    forget : callable
        Frees what the compute thread has used; called once it works no more.
    """

    def __init__(self, interrupt: Callable[[], None], forget: Callable[[], None]) -> None:
        self.compute = ComputeThread()
        self._interrupt, self._forget = interrupt, forget
        self.autosave: Autosave | None = None
        self._process = os.getpid()

    def close(self, timeout: float, *, keep_autosave: bool = True) -> bool:
        """End both, the changes of the last step included; whether the compute thread has ended within ``timeout``."""
        if os.getpid() != self._process:  # a fork: the threads belong to the other process
            return True
        self._interrupt()
        has_ended = self.compute.close(timeout, self._forget)
        autosave, self.autosave = self.autosave, None
        if autosave is not None:
            autosave.close(keep=keep_autosave)
        return has_ended


@checked_calls(PromptError)
class SessionBase:
    """The base of a session, without most calls; parameters and signals as for ``Session``.

    ``_state`` is changed within ``_changing()``, or with its lock held where a propagation may continue.
    ``_prompt_queue`` has the masks of prompts predicted and ``_propagator`` tracks; both write to the state as results
    come. None of these parts keeps the session alive: its threads end once nothing refers to it, and when the program
    ends.

    Attributes
    ----------
    binding : object or None
        The layers that show the session, set by ``open_session`` and by the dock widget. The session never reads it.
    """

    changed = Signal(object)
    propagation_changed = Signal(object)
    model_changed = Signal(object)
    failed = Signal(object)

    def __init__(
        self,
        stack: Any,
        *,
        model: SAM2 | str | Path | None = "sam2_micro",
        frame_axis: int | None = None,
        is_rgb: bool | None = None,
        labels: Any = None,
        settings: SessionSettings | None = None,
        deliver: Callable[[Callable[[], None]], None] | None = None,
        compute: str | ComputeAddress | None = None,
    ) -> None:
        frames, self.geometry = open_stack(stack, frame_axis, is_rgb)
        self.store = SessionStore(self.geometry, _labels_to_write(labels, self.geometry.shape))
        self.model_state = ModelState("waiting")
        self.binding: object | None = None
        self._engine_keeper = EngineKeeper(_weak(self._follow_model), as_compute_address(compute))
        self._threads = _Threads(self._engine_keeper.interrupt, self._engine_keeper.forget_engine)
        self._delivery = Delivery(deliver)
        self._compute = self._threads.compute
        origin = SessionOrigin(
            stack_path=str(stack) if isinstance(stack, str) or hasattr(stack, "__fspath__") else None,
            model="sam2_micro" if model is None else model,
            settings=settings or SessionSettings(),
            frames=frames,
            has_automatic_contrast=frames is not stack,
        )
        self._state = SessionState(self.store, origin, _weak(self._notify))
        parts = (self._state, self._compute, self._engine_keeper, self._delivery)
        self._prompt_queue = PromptQueue(*parts, self.failed.emit)
        self._propagator = Propagator(*parts, notify=self.propagation_changed.emit, fail=self.failed.emit)
        self._ending = weakref.finalize(self, self._threads.close, _EXIT_TIMEOUT_S)

    def _follow_model(self, state: ModelState) -> None:
        def apply() -> None:
            self.model_state = state
            self.model_changed.emit(state)

        self._delivery.hand_over(apply)

    def _notify(self, delta: StoreDelta) -> None:
        if self._threads.autosave is not None:
            self._threads.autosave.note(delta, self.objects, self.operations, self.settings, self.setup)
        self.changed.emit(delta)

    def _changing(self) -> threading.RLock:
        """Stop a running propagation, its finished frames kept, and return the lock to hold while changing the state.

        Raises
        ------
        PromptError
            If the session was closed.
        """
        self._check_open()
        self._propagator.stop()
        return self._state.lock

    def _check_open(self) -> None:
        if self._compute.is_closed:
            raise PromptError(
                "the session is closed: it can be read and saved, not changed; create a new one, or open the saved one "
                "with Session.load(path)"
            )

    def report_failure(self, error: Exception) -> None:
        """Emit ``failed`` for an error of background work, on the thread that owns the session.

        Raises
        ------
        PromptError
            If it is not an exception.
        """
        self._delivery.hand_over(lambda: self.failed.emit(error))

    # ------------------------------------------------------------------ reading
    @property
    def labels(self) -> Any:
        """Labels, int32 of the image's shape: 0 background, else object numbers; written in place as results come."""
        return self.store.labels

    @property
    def objects(self) -> list[SessionObject]:
        """The objects by number, as the table of the dock lists them."""
        return [self.store.objects[number] for number in sorted(self.store.objects)]

    @property
    def conditions(self) -> dict[int, PlaneCondition]:
        """Planes that were unusable, or to which the stage had moved, as found while objects were tracked."""
        with self._state.lock:
            return dict(sorted(self.store.conditions.items()))

    @property
    def scores(self) -> pd.DataFrame:
        """One row per object and frame: object, name, frame (index of the plane where there are several axes), iou,
        object_score, area (pixels), kind, locked, stale.
        """
        from napari_sam2.session.state.tables import score_table

        return score_table(self.store)

    def measurements(
        self,
        by: Literal["object", "plane"] = "object",
        *,
        scale: Sequence[float] | None = None,
        frames_are_times: bool = False,
    ) -> pd.DataFrame:
        """Measure the objects: sizes, shapes, positions and intensities, read one plane at a time.

        Parameters
        ----------
        by : {"object", "plane"}
            One row per object (and clip, where there are several), or per object and plane.
        scale : sequence of float, optional
            Distance of two pixels along each axis of the image. Default: 1, so that lengths are in pixels.
        frames_are_times : bool, default False
            The frames are time points: an object has no volume and no surface.

        Returns
        -------
        pandas.DataFrame
            With "plane" the columns of ``labels.measurements.measure_planes``, name, class and iou. With "object"
            object, name, class, clip, num_planes, first_frame, last_frame, num_pixels, area_mean, centroid, bounding
            box, mean, min, max, std and sum of each channel, iou; in a z-stack also volume, equivalent_diameter and
            surface.

        Raises
        ------
        PromptError
            If ``by`` is something else, or ``scale`` has not one positive distance for each axis.
        FrameError
            If a plane of the image cannot be read.
        """
        return self.measurement(by, scale=scale, frames_are_times=frames_are_times).run()

    def measurement(
        self,
        by: Literal["object", "plane"] = "object",
        *,
        scale: Sequence[float] | None = None,
        frames_are_times: bool = False,
    ) -> Measurement:
        """As ``measurements``, to be run later and on another thread.

        Raises
        ------
        PromptError
            As `measurements`.
        """
        from napari_sam2.session.state.measurements import Measurement

        return Measurement.of(self.store, self.frames, by, scale=scale, frames_are_times=frames_are_times)

    @property
    def origin(self) -> SessionOrigin:
        """What the session was opened with; to be replaced as a whole."""
        return self._state.origin

    @origin.setter
    def origin(self, origin: SessionOrigin) -> None:
        self._state.origin = origin

    @property
    def stack_path(self) -> str | None:
        """Where the image was read from; None for an array."""
        return self.origin.stack_path

    @property
    def setup(self) -> SessionSetup:
        """Image, model and origin of the session, as they are now."""
        return SessionSetup(self.geometry, self.model, self.frames, self.origin)

    @property
    def model(self) -> SAM2 | str | Path:
        """The model that answers prompts."""
        return self._state.model

    @property
    def frames(self) -> FrameSource:
        """What the model is shown."""
        return self._state.frames

    @property
    def compute(self) -> ComputeAddress | None:
        """The server that computes for the session; None: this process."""
        return self._engine_keeper.compute

    @property
    def settings(self) -> SessionSettings:
        """Overlap rule and other settings, as they are now."""
        return self._state.settings

    @property
    def history(self) -> History:
        """Changes that can be undone or redone."""
        return self._state.history

    @property
    def is_busy(self) -> bool:
        """Whether a mask is being predicted or a propagation runs."""
        return self._prompt_queue.has_waiting or self._propagator.is_running

    @property
    def is_answering(self) -> bool:
        """Whether a prompt waits for its mask."""
        return self._prompt_queue.has_waiting

    @property
    def handle(self) -> PropagationHandle | None:
        """The running propagation, or the last one."""
        return self._propagator.handle

    def wait_for_answers(self, timeout: float | None = None) -> None:
        """Block until every prompt has its mask.

        Raises
        ------
        NapariSAM2Error
            The error of one of them.
        TimeoutError
            If it takes longer than ``timeout`` seconds.
        """
        self._prompt_queue.wait(timeout)

    # ------------------------------------------------------------------ undo
    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return self.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is a change to redo."""
        return self.history.can_redo

    def undo(self) -> bool:
        """Undo the latest change exactly; whether there was one."""
        with self._changing():
            is_done = self._state.undo()
            if is_done:
                self._prompt_queue.add_missing()
        return is_done

    def redo(self) -> bool:
        """Redo the change that was undone last; whether there was one."""
        with self._changing():
            is_done = self._state.redo()
            if is_done:
                self._prompt_queue.add_missing()
        return is_done

    @contextmanager
    def as_one_step(self) -> Iterator[None]:
        """Within it, all changes are one step of ``undo``.

        Yields
        ------
        None
            Nothing.
        """
        with self._state.as_one_step():
            yield

    # ------------------------------------------------------------------ the state as a whole
    @property
    def operations(self) -> list[Operation]:
        """The calls that lead to the state, oldest first, without those superseded before they took effect."""
        with self._state.lock:
            found = replayable(self.history.done, {e.stamp for e in self.store.prompts.values()})
            return [*self.history.earlier, *(self._propagator.so_far(operation) for operation in found)]

    def snapshot(self) -> SessionSnapshot:
        """The state at one moment, for files; its values never change."""
        with self._state.lock:
            content = SessionContent(
                objects=tuple(self.store.objects.values()),
                prompts=dict(self.store.prompts),
                masks=dict(self.store.masks),
                operations=tuple(self.operations),
                settings=self.settings,
                conditions=dict(self.store.conditions),
            )
            return SessionSnapshot(content, self.setup)

    def restore(self, content: SessionContent) -> None:
        """Replace what the session holds, such as by the content of a file; this cannot be undone.

        The model and the frames stay.

        Raises
        ------
        PromptError
            If it is not the content of a session.
        """
        with self._changing():
            self._state.restore(content)
            self._prompt_queue.add_missing()

    @property
    def autosave_path(self) -> Path | None:
        """The file of the autosave; None if the session does not save itself."""
        autosave = self._threads.autosave
        return None if autosave is None else autosave.path

    @autosave_path.setter
    def autosave_path(self, path: str | Path | None) -> None:
        autosave, self._threads.autosave = self._threads.autosave, None
        if autosave is not None:
            autosave.close()
        if path is not None:
            self._check_open()
            # the lock: no change may be missed between the snapshot and the first change that is noted
            with self._state.lock:
                self._threads.autosave = Autosave(expand(path), self.snapshot(), _weak(self.report_failure))

    def flush_autosave(self, timeout: float | None = None) -> bool:
        """Wait until all changes are in the autosave's file; whether they are.

        Raises
        ------
        PromptError
            If ``timeout`` is not a number.
        """
        autosave = self._threads.autosave
        return autosave is not None and autosave.flush(timeout)

    def close(self, *, keep_autosave: bool = True, timeout: float = 10.0) -> None:
        """End the session's threads and free the model's memory; the session can still be read and saved.

        Sessions are also closed when the program ends and when they are garbage-collected.

        Parameters
        ----------
        keep_autosave : bool, default True
            False removes the file of the autosave.
        timeout : float, default 10
            Seconds to wait for the frame that is being computed. If it takes longer, its thread ends and the memory is
            freed after it; its masks are dropped.

        Raises
        ------
        PromptError
            If ``timeout`` is no number of seconds.
        """
        seconds = check_number("timeout", timeout, 0, threading.TIMEOUT_MAX)
        self._propagator.stop()
        self._threads.close(seconds, keep_autosave=keep_autosave)
        # a thread that has not ended yet was asked to, and the end of the program waits for it
        self._ending.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _weak(method: Callable[[T], None]) -> Callable[[T], None]:
    """A bound method as a function that does not keep its object alive, and does nothing once that is gone."""
    reference = weakref.WeakMethod(method)

    def call(value: T) -> None:
        found = reference()
        if found is not None:
            found(value)

    return call


def _labels_to_write(labels: Any, shape: tuple[int, ...]) -> Any:
    """The array that was given, if it suits, or a new one."""
    if labels is None:
        from napari_sam2.labels.storage import allocate_labels

        return allocate_labels(shape)
    given, dtype = getattr(labels, "shape", None), getattr(labels, "dtype", None)
    if not isinstance(given, tuple) or dtype is None:
        raise PromptError(f"{shown(labels)} was given as labels; expected an int32 array of shape {shape}")
    if tuple(given) != shape or np.dtype(dtype) != np.int32:
        raise PromptError(
            f"labels of shape {tuple(given)} and type {dtype} were given; expected int32 of shape {shape}"
        )
    return labels
