"""Frames on their way to a server: equal pixels, the same file or none, and a cache that keeps to its size."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import tifffile

from napari_sam2 import FrameError, open_frames
from napari_sam2.session.engines.frame_transfer import (
    FrameOffer,
    PackedFrame,
    ReceivedFrames,
    offer_frames,
    pack_frame,
    reopen,
    unpack_frame,
)

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (7, 11, 3), np.uint8)
SENT = "the frames are sent to the server"
GREY = np.repeat(COLOURS[..., :1], 3, -1)


@pytest.mark.parametrize(("rgb", "channels"), [(COLOURS, 3), (GREY, 1), (np.zeros((1, 1, 3), np.uint8), 1)])
def test_pixels_arrive_as_they_were(rgb, channels):
    packed = pack_frame(rgb)
    assert packed.channels == channels
    assert np.array_equal(unpack_frame(packed), rgb)


def test_smooth_frames_are_sent_as_less_than_their_pixels():
    ramp = np.repeat(np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[..., None], 3, -1)
    assert len(pack_frame(ramp).data) < 64 * 64 / 4


@pytest.mark.parametrize("damage", [b"", b"\0" * 20])
def test_damaged_frames_are_refused(damage):
    with pytest.raises(FrameError, match="arrived"):
        unpack_frame(PackedFrame((4, 4), 1, damage))


@pytest.fixture
def stack(tmp_path):
    values = RNG.integers(0, 4000, (2, 5, 12, 16), np.uint16)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values, metadata={"axes": "CZYX"}, photometric="minisblack")
    return path


def test_a_server_opens_the_same_file_the_same_way(stack):
    frames = open_frames(stack, channels=[1], gamma=0.5)
    again = reopen(offer_frames(frames)).frames
    assert again is not None
    assert all(np.array_equal(again[t], frames[t]) for t in range(5))


def test_a_frame_that_is_far_brighter_is_shown_alike_by_a_server(tmp_path):
    values = RNG.integers(100, 200, (6, 12, 16), np.uint16)
    values[1] *= 5
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    frames = open_frames(tmp_path / "a.tif")
    again = reopen(offer_frames(frames)).frames
    assert again is not None
    assert frames[1].std() > 50
    assert all(np.array_equal(again[t], frames[t]) for t in range(6))


@pytest.mark.parametrize("frame", [1, 3])
def test_a_file_that_was_changed_on_any_frame_is_not_taken_for_the_same(frame, stack):
    offer = offer_frames(open_frames(stack))
    values = tifffile.imread(stack)
    values[:, frame] = values[:, frame][:, ::-1]
    tifffile.imwrite(stack, values, metadata={"axes": "CZYX"}, photometric="minisblack")
    assert reopen(offer) == (None, f"{stack} has another size or time of change on the server; {SENT}")


def test_a_file_with_other_pixels_is_not_taken_for_the_same(stack):
    offer = offer_frames(open_frames(stack))
    values = tifffile.imread(stack)
    values[:, 2] = values[:, 2][:, ::-1]
    tifffile.imwrite(stack, values, metadata={"axes": "CZYX"}, photometric="minisblack")
    assert reopen(offer).frames is None
    stack.write_bytes(b"II*\0 no more")
    frames, note = reopen(offer)
    assert frames is None
    assert "cannot be read on the server" in note
    stack.unlink()
    assert reopen(offer) == (None, "")


@pytest.mark.parametrize("unit", [100, 10**6, 10**9, 2 * 10**9])
@pytest.mark.parametrize("is_server_rounding", [True, False])
def test_a_drive_that_rounds_times_has_the_same_file(unit, is_server_rounding, stack):
    exact = 1_700_000_001_123_456_789
    times = [exact, exact // unit * unit]
    seen, there = times if is_server_rounding else reversed(times)
    os.utime(stack, ns=(seen, seen))
    offer = offer_frames(open_frames(stack))
    os.utime(stack, ns=(there, there))
    assert reopen(offer).frames is not None
    os.utime(stack, ns=(there + 1000 * unit + 1, there + 1000 * unit + 1))
    assert "another size or time" in reopen(offer).note
    values = tifffile.imread(stack)
    values[:, 2] = values[:, 2][:, ::-1]
    tifffile.imwrite(stack, values, metadata={"axes": "CZYX"}, photometric="minisblack")
    os.utime(stack, ns=(there, there))
    assert reopen(offer) == (None, f"{stack} has other pixels on the server; {SENT}")


def test_arrays_are_offered_without_a_file():
    offer = offer_frames(open_frames(np.zeros((3, 8, 8), np.uint8)))
    assert offer.recipe is None
    assert reopen(offer) == (None, "")


def received(limit: int, timeout_s: float = 0.05) -> tuple[ReceivedFrames, list[int]]:
    wanted: list[int] = []
    frames = ReceivedFrames(
        FrameOffer((9, 7, 11), "key"),
        cache_bytes=limit,
        on_wanted=lambda: wanted.append(-1 if frames.wanted is None else frames.wanted),
        timeout_s=timeout_s,
    )
    return frames, wanted


def test_a_frame_is_waited_for():
    frames, wanted = received(10**6, timeout_s=20)
    sender = threading.Timer(0.05, lambda: frames.add({3: pack_frame(COLOURS)}))
    sender.start()
    assert np.array_equal(frames[3], COLOURS)
    assert wanted == [3]
    assert frames.wanted is None
    assert np.array_equal(frames[3], COLOURS)
    assert wanted == [3]


def test_a_frame_that_does_not_come_is_an_error():
    frames, _ = received(10**6)
    with pytest.raises(FrameError, match="frame 4 was not sent"):
        frames[4]


def test_the_cache_keeps_to_its_size():
    packed = pack_frame(COLOURS)
    frames, wanted = received(3 * len(packed.data))
    for t in range(9):
        frames.add({t: packed})
        assert frames.num_bytes <= 3 * len(packed.data)
    frames[8]
    assert wanted == []
    with pytest.raises(FrameError):
        frames[0]
    assert wanted == [0]


def test_closing_ends_the_waiting():
    frames, _ = received(10**6, timeout_s=20)
    threading.Timer(0.05, frames.close).start()
    with pytest.raises(FrameError):
        frames[0]
    assert frames.num_bytes == 0
