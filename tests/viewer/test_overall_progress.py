"""The time left of a search counts down over all its stages."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._viewer.overall_progress import OverallProgress, StageShares
from napari_sam2.inference.stacks.key_frame_search import segment_stack
from oracle import OracleFinder, OracleTracker, paint


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def stack_stages(num_keys: int):
    """Stages of a stack, the steps of each, and how long a step takes."""
    yield "measuring object depth: detecting objects", 10, 0.75
    yield "measuring object depth: tracking", 10, 0.75
    for index in range(num_keys):
        name = f"key frame {3 * index} ({index + 1} of {num_keys})"
        yield f"{name}: detecting objects", 10, 0.5
        yield f"{name}: tracking", 10, 0.5
    for index in range(num_keys):
        yield f"beyond key frame {3 * index}: tracking", 5, 0.6
    yield "stacked objects: measuring contrast", 10, 0.05 * num_keys
    yield "stacked objects: trimming", 10, 0.05 * num_keys


def run(stages, clock: Clock, progress: OverallProgress) -> list[tuple[float, float, float | None]]:
    """Report all steps; (seconds, fraction, seconds left) after each."""
    seen = []
    for stage, steps, seconds in stages:
        for step in range(steps):
            progress.update(stage, step, steps)
            seen.append((clock.seconds, progress.fraction, progress.seconds_left))
            clock.seconds += seconds
    return seen


@pytest.mark.parametrize("num_keys", [4, 9])
def test_time_left_of_a_stack_spans_all_stages(num_keys):
    clock = Clock()
    seen = run(stack_stages(num_keys), clock, OverallProgress(now=clock))
    fractions = [fraction for _, fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.97
    known = [(at, left) for at, fraction, left in seen if left is not None and fraction > 0.4]
    assert all(abs(left - (clock.seconds - at)) < 0.25 * clock.seconds for at, left in known)
    assert seen[0][2] is None


def test_volumes_over_time_are_one_work_of_which_each_time_point_is_a_part():
    clock, stages = Clock(), list(stack_stages(3))
    later = [(f"time {time} of 4, {stage}", *rest) for time in range(1, 5) for stage, *rest in stages[2:]]
    seen = run(later, clock, OverallProgress(StageShares(depth=0.0), now=clock))
    quarter = [fraction for at, fraction, _ in seen if at <= clock.seconds / 4][-1]
    assert quarter == pytest.approx(0.25, abs=0.05)
    assert seen[-1][1] > 0.95


def test_time_left_runs_down_between_reports_and_ends_at_0():
    clock = Clock()
    progress = OverallProgress(now=clock)
    clock.seconds = 10.0
    progress.update("movie: detecting objects", 1, 4)
    assert progress.seconds_left == pytest.approx(30.0)
    clock.seconds = 25.0
    assert progress.seconds_left == pytest.approx(15.0)
    clock.seconds = 99.0
    assert progress.seconds_left == 0.0


def test_the_stages_that_a_search_reports_are_known():
    truth = np.zeros((20, 30, 40), np.int32)
    truth[:, 3:12, 3:12], truth[:, 15:25, 20:30] = 1, 2
    keys = [0, 4, 8, 12, 16]

    class BlindToTheSecond(OracleFinder):
        def generate_masks(self, image, *, progress=None):
            records = super().generate_masks(image, progress=progress)
            return records if len(self.shapes) == 3 else records[:1]

    progress, seen = OverallProgress(), {}

    def report(stage: str, done: int, total: int) -> None:
        progress.update(stage, done, total)
        seen.setdefault(stage.split(":")[0], progress.fraction)

    segment_stack(
        paint(truth), key_frames=keys, finder=BlindToTheSecond(), segmenter=OracleTracker(truth), split_stacked=True,
        on_progress=report,
    )  # fmt: skip
    # a stage whose name is not known would count as all of the work
    begins = list(seen.values())
    assert {stage.split()[0] for stage in seen} == {"key", "beyond", "stacked"}
    assert begins == sorted(set(begins))
    assert begins[-1] < 1
