"""What every part of a session builds on: a stack, the state on it, the threads that work for it, and undo."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from psygnal import Signal

from napari_sam2._errors import PromptError
from napari_sam2.frames.display import open_stack
from napari_sam2.session.files.autosave import Autosave
from napari_sam2.session.state.operations import replayable
from napari_sam2.session.state.session_state import SessionState
from napari_sam2.session.state.settings import ModelState, SessionSettings
from napari_sam2.session.state.snapshot import SessionContent, SessionOrigin, SessionSetup, SessionSnapshot
from napari_sam2.session.state.store import SessionStore, StoreDelta
from napari_sam2.session.worker.answerer import Answerer
from napari_sam2.session.worker.compute_thread import ComputeThread
from napari_sam2.session.worker.delivery import Delivery
from napari_sam2.session.worker.propagation_handle import PropagationHandle
from napari_sam2.session.worker.propagator import Propagator
from napari_sam2.session.worker.questions import Questions

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.state.history import History, Operation
    from napari_sam2.session.state.measurements import Measurement
    from napari_sam2.session.state.records import SessionObject

__all__ = ["SessionBase"]


class SessionBase:
    """A session before anything is said; parameters and signals as for ``Session``.

    ``_state`` is changed with ``_changing`` entered, or its lock where a propagation may go on. ``_questions`` has
    prompts answered and ``_propagator`` tracks; both write to the state as results come.
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
    ) -> None:
        frames, self.geometry = open_stack(stack, frame_axis, is_rgb)
        self.store = SessionStore(self.geometry, _labels_to_write(labels, self.geometry.shape))
        self.model_state = ModelState("waiting")
        self.binding: object | None = None
        self._autosave: Autosave | None = None
        self._delivery = Delivery(deliver)
        self._compute = ComputeThread()
        self._answerer = Answerer(self._follow_model)
        origin = SessionOrigin(
            stack_path=str(stack) if isinstance(stack, str) or hasattr(stack, "__fspath__") else None,
            model="sam2_micro" if model is None else model,
            settings=settings or SessionSettings(),
            frames=frames,
            has_automatic_contrast=frames is not stack,
        )
        self._state = SessionState(self.store, origin, self._tell)
        parts = (self._state, self._compute, self._answerer, self._delivery)
        self._questions = Questions(*parts, self.failed.emit)
        self._propagator = Propagator(*parts, tell=self.propagation_changed.emit, fail=self.failed.emit)

    def _follow_model(self, state: ModelState) -> None:
        def apply() -> None:
            self.model_state = state
            self.model_changed.emit(state)

        self._delivery.hand_over(apply)

    def _tell(self, delta: StoreDelta) -> None:
        if self._autosave is not None:
            self._autosave.note(delta, self.objects, self.operations, self.settings, self.setup)
        self.changed.emit(delta)

    def _changing(self) -> threading.RLock:
        """To be entered for a change: a propagation that runs ends first, with all its frames kept.

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
                "the session was closed: it can be read and saved, not changed; make a new one, or open what was saved "
                "with Session.load(path)"
            )

    def report_failure(self, error: Exception) -> None:
        """Tell of an error of work in the background, on the thread that owns the session."""
        self._delivery.hand_over(lambda: self.failed.emit(error))

    # ------------------------------------------------------------------ reading
    @property
    def labels(self) -> Any:
        """Labels, int32 of the image's shape: 0 background, else object numbers; written in place as results come."""
        return self.store.labels

    @property
    def objects(self) -> list[SessionObject]:
        """In the order of their creation."""
        return list(self.store.objects.values())

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
        """Measure the objects: sizes, shapes, places and intensities, read one plane at a time.

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
            With "plane" the columns of ``labels.measurements.measure_planes``, name and iou. With "object" object,
            name, clip, num_planes, first_frame, last_frame, num_pixels, area_mean, centroid, bounding box, mean, min,
            max, std and sum of each channel, iou; in a z-stack also volume, equivalent_diameter and surface.

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
        """As ``measurements``, to be run later and on another thread."""
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
        """What the session works on, and with what, as it is now."""
        return SessionSetup(self.geometry, self.model, self.frames, self.origin)

    @property
    def model(self) -> SAM2 | str | Path:
        """The model that answers prompts."""
        return self._state.model

    @property
    def frames(self) -> FrameSource:
        """What the model looks at."""
        return self._state.frames

    @property
    def settings(self) -> SessionSettings:
        """Overlap rule and the like, as they are now."""
        return self._state.settings

    @property
    def history(self) -> History:
        """Changes, to be undone or done again."""
        return self._state.history

    @property
    def is_busy(self) -> bool:
        """Whether an answer or a propagation is under way."""
        return self._questions.are_open or self._propagator.is_running

    @property
    def is_answering(self) -> bool:
        """Whether a prompt waits for its mask."""
        return self._questions.are_open

    @property
    def handle(self) -> PropagationHandle | None:
        """The propagation that runs, or ran last."""
        return self._propagator.handle

    def wait_for_answers(self, timeout: float | None = None) -> None:
        """Block until every prompt has its mask.

        Raises
        ------
        NapariSAM2Error
            What went wrong with one of them.
        TimeoutError
            If it takes longer than ``timeout`` seconds.
        """
        self._questions.wait(timeout)

    # ------------------------------------------------------------------ undo
    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return self.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return self.history.can_redo

    def undo(self) -> bool:
        """Take the latest change back, exactly; whether there was one."""
        with self._changing():
            is_done = self._state.undo()
            if is_done:
                self._questions.ask_again()
        return is_done

    def redo(self) -> bool:
        """Do what was undone last; whether there was something."""
        with self._changing():
            is_done = self._state.redo()
            if is_done:
                self._questions.ask_again()
        return is_done

    # ------------------------------------------------------------------ the state as a whole
    @property
    def operations(self) -> list[Operation]:
        """The calls that lead to the state, oldest first: what never had an effect is left out."""
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
            )
            return SessionSnapshot(content, self.setup)

    def restore(self, content: SessionContent) -> None:
        """Replace what the session holds, such as by the content of a file; this cannot be undone.

        The model and the frames stay.
        """
        with self._changing():
            self._state.restore(content)
            self._questions.ask_again()

    @property
    def autosave_path(self) -> Path | None:
        """Where the session is saved by itself; None if it is not."""
        return None if self._autosave is None else self._autosave.path

    @autosave_path.setter
    def autosave_path(self, path: str | Path | None) -> None:
        if self._autosave is not None:
            self._autosave.close()
            self._autosave = None
        if path is not None:
            # no change is made between the first state that is saved and the first that is noted
            with self._state.lock:
                self._autosave = Autosave(path, self.snapshot(), self.report_failure)

    def flush_autosave(self, timeout: float | None = None) -> bool:
        """Wait until everything is in the autosave's file; whether it is."""
        return self._autosave is not None and self._autosave.flush(timeout)

    def close(self, *, keep_autosave: bool = True) -> None:
        """End the thread and the autosave; the session can still be read.

        Parameters
        ----------
        keep_autosave : bool, default True
            False removes the file that was saved by itself.
        """
        self._propagator.stop()
        self._compute.close()
        if self._autosave is not None:
            self._autosave.close(keep=keep_autosave)
            self._autosave = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _labels_to_write(labels: Any, shape: tuple[int, ...]) -> Any:
    """The array that was given, if it suits; else a new one."""
    if labels is None:
        from napari_sam2.labels.storage import allocate_labels

        return allocate_labels(shape)
    if tuple(labels.shape) != shape or np.dtype(labels.dtype) != np.int32:
        raise PromptError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} were given; "
            f"allowed is int32 of shape {shape}"
        )
    return labels
