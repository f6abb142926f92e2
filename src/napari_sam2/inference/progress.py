"""Progress callbacks and cancellation of long tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["ProgressCallback", "ShouldStop", "TaskProgress"]

ProgressCallback = Callable[[str, int, int], None]
"""Called with the name of the current stage, the steps done and the steps in total."""

ShouldStop = Callable[[], bool]
"""Called between steps; returns True to cancel the task. Results so far are kept."""


class TaskProgress:
    """Reports the stages of one part of a task, and checks whether the task was cancelled.

    Parameters
    ----------
    name : str
        Name of the part, the prefix of every stage reported.
    on_progress : callable or None
        Called with the stage, the steps done and the steps in total.
    should_stop : callable or None
        Returns True once the task is cancelled.
    """

    def __init__(self, name: str, on_progress: ProgressCallback | None, should_stop: ShouldStop | None) -> None:
        self._name, self._on_progress = name, on_progress
        self.should_stop = should_stop

    def detecting(self, done: int, total: int) -> None:
        """Report progress of automatic detection on one image."""
        self.report("detecting objects", done, total)

    def report(self, stage: str, done: int, total: int) -> None:
        """Report progress of any other stage."""
        if self._on_progress is not None:
            self._on_progress(f"{self._name}: {stage}", done, total)

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.should_stop is not None and self.should_stop()

    def frames(self, window: range, stage: str) -> Iterator[int]:
        """Iterate over the frames of a window and report each one; ends early if the task is cancelled."""
        for done, frame in enumerate(window):
            if self.is_cancelled:
                return
            self.report(stage, done, len(window))
            yield frame
