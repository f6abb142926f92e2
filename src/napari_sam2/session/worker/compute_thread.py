"""One thread that computes: short jobs first, long work step by step between them, and idle work last."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from napari_sam2._threads import start_thread

__all__ = ["ComputeThread", "Job", "Steps"]

logger = logging.getLogger(__name__)


class Job:
    """A call that waits, runs or has ended.

    Parameters
    ----------
    call : callable
        Run on the compute thread.
    on_done : callable
        Called there with the result, or with the exception in its place.
    key : hashable, optional
        A waiting job is dropped when another one with its key comes.
    """

    def __init__(self, call: Callable[[], Any], on_done: Callable[[Any], None], key: Hashable = None) -> None:
        self.call = call
        self.on_done = on_done
        self.key = key


class Steps:
    """Long work: a generator that is advanced by one step whenever no job waits.

    Parameters
    ----------
    start : callable
        Makes the generator, on the compute thread.
    on_step : callable
        Called there with each value; returns whether to continue.
    on_end : callable
        Called there once: with None at the end or when stopped, or with the exception that ended it.
    is_paused : callable, optional
        Whether no step may be taken at the moment. Call ``ComputeThread.wake`` when that changes.
    """

    def __init__(
        self,
        start: Callable[[], Iterator[Any]],
        on_step: Callable[[Any], bool],
        on_end: Callable[[BaseException | None], None],
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self.start = start
        self.on_step = on_step
        self.on_end = on_end
        self.is_paused = is_paused
        self.is_stopped = False
        self.iterator: Iterator[Any] | None = None

    def take(self, value: Any) -> bool:
        """Pass a value on, unless another thread has stopped the work meanwhile; whether to continue."""
        return not self.is_stopped and self.on_step(value)


class ComputeThread:
    """Runs jobs and steps one after the other on a thread of its own, which ends with ``close``.

    The thread keeps nothing alive that is not running or waiting, and outlives any error: errors of the work go to
    whoever submitted it, errors of those calls to the log.
    """

    def __init__(self, name: str = "napari-sam2") -> None:
        self._name = name
        self._jobs: deque[Job] = deque()
        self._steps: deque[Steps] = deque()
        self._idle: Steps | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._has_ended = False
        self._at_end: list[Callable[[None], object]] = []
        self._running: Job | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nothing is computed any more."""
        return self._is_closed

    @property
    def is_busy(self) -> bool:
        """Whether something waits or runs."""
        with self._wake:
            return bool(self._jobs or self._steps)

    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def submit(self, job: Job) -> None:
        """Run a job as soon as possible; waiting jobs with the same key are dropped."""
        with self._wake:
            if self._is_closed:
                return
            if job.key is not None:
                self._jobs = deque(j for j in self._jobs if j is self._running or j.key != job.key)
            self._jobs.append(job)
            self._start()
            self._wake.notify()

    def submit_steps(self, steps: Steps) -> None:
        """Run long work after what waits already."""
        with self._wake:
            if self._is_closed:
                return
            self._steps.append(steps)
            self._start()
            self._wake.notify()

    def submit_idle(self, steps: Steps) -> None:
        """Run work step by step while nothing else is to be done; it replaces earlier idle work."""
        with self._wake:
            if self._is_closed:
                return
            self._idle = steps
            self._start()
            self._wake.notify()

    def wake(self) -> None:
        """Check again whether paused work may continue."""
        with self._wake:
            self._wake.notify()

    def close(self, timeout: float | None = 10.0, at_end: Callable[[], object] | None = None) -> bool:
        """Finish what runs, drop what waits, end the thread.

        Parameters
        ----------
        timeout : float or None, default 10
            How long to wait for the end, in seconds; None waits as long as it takes.
        at_end : callable, optional
            Called once the thread does no more work: on the thread, or here if there is none.

        Returns
        -------
        bool
            Whether the thread has ended within ``timeout``.
        """
        self._ask_to_end()
        thread = self._thread
        if at_end is not None:
            with self._wake:
                is_working = thread is not None and not self._has_ended
                if is_working:
                    self._at_end.append(lambda _: at_end())
            if not is_working:
                at_end()
        if thread is None:
            return True
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _ask_to_end(self) -> None:
        with self._wake:
            self._is_closed = True
            for steps in self._steps:
                steps.is_stopped = True
            self._wake.notify()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = start_thread(self._run, self._ask_to_end, name=self._name)

    def _run(self) -> None:
        while self._wait_for_work():
            self._work()
        with self._wake:
            ended = list(self._steps)
            self._jobs.clear()
            self._steps.clear()
            self._idle = None
        for steps in ended:
            self._call(steps.on_end, None)
        with self._wake:
            self._has_ended = True
            at_end, self._at_end = self._at_end, []
        for function in at_end:
            self._call(function, None)

    def _wait_for_work(self) -> bool:
        """Block until there is work; False once the thread is to end."""
        with self._wake:
            while not self._is_closed and not self._jobs and not self._may_step() and self._idle is None:
                self._wake.wait()
            return not self._is_closed

    def _work(self) -> None:
        """Run a job, or else one step. A separate method, so that no variable keeps finished work alive."""
        with self._wake:
            job = self._running = self._jobs[0] if self._jobs else None
            steps = self._steps[0] if job is None and self._may_step() else None
            idle = self._idle if job is None and steps is None else None
        if job is not None:
            self._do(job)
            with self._wake:
                self._running = None
                if job in self._jobs:
                    self._jobs.remove(job)
        elif steps is not None and self._advance(steps):
            with self._wake:
                if steps in self._steps:
                    self._steps.remove(steps)
        elif idle is not None and self._advance(idle):
            with self._wake:
                if self._idle is idle:
                    self._idle = None

    def _may_step(self) -> bool:
        return bool(self._steps) and (self._steps[0].is_stopped or not self._steps[0].is_paused())

    def _do(self, job: Job) -> None:
        try:
            result = job.call()
        except Exception as error:  # noqa: BLE001 passed on to whoever submitted the job
            result = error
        self._call(job.on_done, result)

    def _advance(self, steps: Steps) -> bool:
        """Take one step; whether the work has ended."""
        failure: BaseException | None = None
        try:
            if not steps.is_stopped:
                if steps.iterator is None:
                    steps.iterator = steps.start()
                value = next(steps.iterator)
                if steps.take(value):
                    return False
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 passed on to whoever submitted the work
            failure = error
        steps.is_stopped = True
        steps.iterator = None
        self._call(steps.on_end, failure)
        return True

    def _call(self, function: Callable[[Any], object], value: Any) -> None:
        """Pass a result on. An error there, such as of a user's callback, does not end the thread."""
        try:
            function(value)
        except Exception:
            logger.exception("a callback of %s failed", self._name)
