"""A propagation while it runs and after: progress, pause, cancel, wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import check_count
from napari_sam2._errors import PromptError
from napari_sam2.session.worker.delivery import wait_until

__all__ = ["PropagationHandle"]

_WEIGHT_OF_EARLIER = 0.9  # of the pace before a frame: the last ten count most


@checked_calls(PromptError)
class PropagationHandle:
    """A running or finished propagation.

    Attributes
    ----------
    num_steps : int
        Frames to track; a frame that is reached both forwards and backwards counts twice.
    error : Exception or None
        The error that ended it early, if any.

    Raises
    ------
    PromptError
        If an argument is not of its type.
    """

    def __init__(self, num_steps: int, object_ids: tuple[int, ...]) -> None:
        self.num_steps = num_steps
        self.object_ids = object_ids
        self._num_done = 0
        self._pace = 0.0  # seconds per frame, of the latest ones
        self._noted = time.monotonic()
        self.plane: int | None = None
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._is_paused = False
        # set by the session: what follows from a request, and how to wait so that results are still applied
        self.on_request: Callable[[PropagationHandle], None] = _do_nothing
        self.wait_for: Callable[[Callable[[], bool], float | None], None] = _wait

    @property
    def progress(self) -> float:
        """Share that is done, 0 to 1."""
        return 1.0 if not self.num_steps else self.num_done / self.num_steps

    @property
    def num_done(self) -> int:
        """Frames whose masks have been written."""
        return self._num_done

    def note_done(self, count: int) -> None:
        """Say how many frames have been written, which the session does; the pace of the latest ones is measured.

        Parameters
        ----------
        count : int
            Frames in all.

        Raises
        ------
        PromptError
            If it is no count.
        """
        count = check_count("count", count, 0)
        more, now = count - self._num_done, time.monotonic()
        if more > 0:
            latest = max(more / count, 1 - _WEIGHT_OF_EARLIER**more)
            self._pace += latest * ((now - self._noted) / more - self._pace)
        self._num_done, self._noted = count, now

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace of the latest frames, without pauses; None before the first frame."""
        return self._pace * (self.num_steps - self._num_done) if self._num_done else None

    @property
    def is_running(self) -> bool:
        """Whether frames may still come."""
        return not self._ended.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._stop.is_set()

    @property
    def is_paused(self) -> bool:
        """Whether it waits for ``resume``."""
        return self._is_paused

    def cancel(self) -> None:
        """Stop now, also when paused; finished frames are kept."""
        if self.is_running and not self.is_cancelled:
            self._stop.set()
            self.on_request(self)

    def mark_cancelled(self) -> None:
        """Note that it is cancelled, without a request to stop it."""
        self._stop.set()

    def pause(self) -> None:
        """Pause after the frame that is being computed."""
        if self.is_running and not self._is_paused:
            self._is_paused = True
            self.on_request(self)

    def resume(self) -> None:
        """Continue after a pause."""
        if self._is_paused:
            self._is_paused = False
            self._noted = time.monotonic()
            self.on_request(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended; whether it has, within ``timeout`` seconds.

        On the thread of a viewer's window, results are still written meanwhile.

        Raises
        ------
        NapariSAM2Error
            The error that ended it early.
        """
        with contextlib.suppress(TimeoutError):
            self.wait_for(self._ended.is_set, timeout)
        if self.error is not None:
            raise self.error
        return self._ended.is_set()

    def finish(self, error: Exception | None = None) -> None:
        """Note the end; the handle no longer refers to its session.

        Raises
        ------
        PromptError
            If it is not an exception.
        """
        self.error = error
        self._ended.set()
        self.on_request = _do_nothing


def _do_nothing(_: PropagationHandle) -> None:
    pass


def _wait(is_done: Callable[[], bool], timeout: float | None) -> None:
    wait_until(is_done, timeout, None)
