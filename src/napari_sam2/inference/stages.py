"""What a caller is told while a long task goes on, and how it says that it wants no more of it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["StageProgress", "StopWish", "Watch"]

StageProgress = Callable[[str, int, int], None]
"""Called with what is being done, and how many steps of how many are done."""

StopWish = Callable[[], bool]
"""Asked between steps whether to stop; what is finished is kept."""


class Watch:
    """Reports the stages of one part of a task, and asks whether to stop."""

    def __init__(self, name: str, on_progress: StageProgress | None, should_stop: StopWish | None) -> None:
        self._name, self._on_progress = name, on_progress
        self.should_stop = should_stop

    def searching(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(f"{self._name}: searching", done, total)

    def tracking(self, stage: str, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(f"{self._name}: {stage}", done, total)
