"""The time that a propagation still takes, by a clock that the test sets."""

from __future__ import annotations

import pytest

from napari_sam2.session.worker import propagation_handle
from napari_sam2.session.worker.propagation_handle import PropagationHandle


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(propagation_handle.time, "monotonic", lambda: now[0])
    return now


def advance(handle, clock, seconds, frames=1):
    clock[0] += seconds
    handle.note_done(handle.num_done + frames)


def test_time_left_is_that_of_the_latest_frames(clock):
    handle = PropagationHandle(200, (1,))
    assert handle.seconds_left is None
    advance(handle, clock, 2.0)
    assert handle.seconds_left == pytest.approx(2 * 199)
    for _ in range(49):
        advance(handle, clock, 2.0)
    assert handle.seconds_left == pytest.approx(2 * 150)
    for _ in range(50):  # another program takes half of the processor
        advance(handle, clock, 4.0)
    assert handle.seconds_left == pytest.approx(4 * 100, rel=0.01)
    advance(handle, clock, 40.0, frames=10)
    assert handle.seconds_left == pytest.approx(4 * 90, rel=0.01)


def test_a_pause_is_no_part_of_the_time_left(clock):
    handle = PropagationHandle(100, (1,))
    for _ in range(10):
        advance(handle, clock, 3.0)
    handle.pause()
    advance(handle, clock, 3.0)  # the frame that was being computed
    clock[0] += 3600
    handle.resume()
    advance(handle, clock, 3.0)
    assert handle.seconds_left == pytest.approx(3 * 88)
