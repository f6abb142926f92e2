"""What a caller is told while a long task goes on, and how it says that it wants no more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["ProgressCallback", "ShouldStop", "TaskProgress"]

ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being done, and how many steps of how many are done."""

ShouldStop = Callable[[], bool]
"""Asked between steps whether to stop; what is finished is kept."""


class TaskProgress:
    """Reports the stages of one part of a task, and asks whether to stop."""

    def __init__(self, name: str, on_progress: ProgressCallback | None, should_stop: ShouldStop | None) -> None:
        self._name, self._on_progress = name, on_progress
        self.should_stop = should_stop

    def detecting(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(f"{self._name}: searching", done, total)

    def tracking(self, stage: str, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(f"{self._name}: {stage}", done, total)

    @property
    def is_cancelled(self) -> bool:
        """Whether a wish to stop came."""
        return self.should_stop is not None and self.should_stop()

    def frames(self, window: range, stage: str) -> Iterator[int]:
        """The frames of a window, reported one by one, until a wish to stop comes."""
        for done, frame in enumerate(window):
            if self.is_cancelled:
                return
            self.tracking(stage, done, len(window))
            yield frame
