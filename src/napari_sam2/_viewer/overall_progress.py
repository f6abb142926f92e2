"""How much of a search is finished over all its stages, and how long the rest takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OverallProgress", "StageShares"]

_TIME = re.compile(r"time (\d+) of (\d+), ")
_KEY_FRAME = re.compile(r"key frame \d+ \((\d+) of (\d+)\): (.+)")


@dataclass(frozen=True)
class StageShares:
    """How long the stages of a stack take, in the time of one key frame.

    Attributes
    ----------
    depth : float
        Measuring the depth of objects on one frame, which chooses the key frames.
    detecting : float
        Detecting the objects of a key frame; the rest of its time they are tracked.
    beyond : float
        Tracking objects beyond key frames, for each key frame.
    stacked : float
        Splitting objects stacked in z, for each key frame.
    num_keys : int
        Key frames, as long as their number is not known.
    first_s : float
        Seconds before anything is estimated.
    smoothing : float
        Weight of what was expected before, 0 to 1, so that the time left does not jump.
    """

    depth: float = 1.5
    detecting: float = 0.5
    beyond: float = 0.3
    stacked: float = 0.1
    num_keys: int = 6
    first_s: float = 3.0
    smoothing: float = 0.7


class OverallProgress:
    """Follows the reports of `segment_stack`, `segment_timelapse_volumes` and the others; the stage is in their names.

    Parameters
    ----------
    shares : StageShares
        How long the stages take.
    now : callable, optional
        The clock, in seconds.
    """

    def __init__(self, shares: StageShares = StageShares(), now: Callable[[], float] = time.monotonic) -> None:
        self._shares, self._now = shares, now
        self._began = now()
        self._num_keys = shares.num_keys
        self._beyond: list[str] = []  # stages of this kind so far, of one time point
        self._point = 0  # time point of these
        self._end: float | None = None  # when all is expected to be finished
        self.fraction = 0.0

    def update(self, stage: str, done: int, total: int) -> None:
        """Take a report of the work; ``fraction`` never decreases."""
        share = min(1.0, done / max(1, total))
        found = _TIME.match(stage)
        point, num_points = (int(found[1]), int(found[2])) if found else (1, 1)
        if point != self._point:
            self._point, self._beyond = point, []
        of_stack = self._of_stack(stage[found.end() :] if found else stage, share)
        self.fraction = max(self.fraction, min(1.0, (point - 1 + of_stack) / num_points))
        now = self._now()
        elapsed = now - self._began
        if self.fraction > 0 and elapsed >= self._shares.first_s:
            end = self._began + elapsed / self.fraction
            weight = 0.0 if self._end is None else self._shares.smoothing
            self._end = end if self._end is None else weight * self._end + (1 - weight) * end

    def _of_stack(self, stage: str, share: float) -> float:
        """How much of one stack, or of work of a single stage, is finished."""
        shares, keys = self._shares, self._num_keys
        found = _KEY_FRAME.match(stage)
        if stage.startswith("measuring object depth"):
            finished = shares.depth * self._of_key_frame(stage, share)
        elif found:
            keys = self._num_keys = int(found[2])
            finished = shares.depth + int(found[1]) - 1 + self._of_key_frame(found[3], share)
        elif stage.startswith("beyond key frame"):
            name = stage.split(":")[0]
            if name not in self._beyond:
                self._beyond.append(name)
            finished = shares.depth + keys + shares.beyond * min(keys, len(self._beyond) - 1 + share)
        elif stage.startswith("stacked objects"):
            is_last = stage.endswith("trimming")
            finished = shares.depth + keys * (1 + shares.beyond + shares.stacked * (is_last + share) / 2)
        else:
            return share
        return finished / (shares.depth + keys * (1 + shares.beyond + shares.stacked))

    def _of_key_frame(self, stage: str, share: float) -> float:
        detecting = self._shares.detecting
        return detecting * share if stage.endswith("detecting objects") else detecting + (1 - detecting) * share

    @property
    def seconds_left(self) -> float | None:
        """Time left, which runs down between reports; None as long as nothing can be said."""
        return None if self._end is None else max(0.0, self._end - self._now())
