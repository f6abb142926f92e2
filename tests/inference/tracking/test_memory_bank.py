"""What an object remembers, in which order, and what it forgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._errors import PromptError
from napari_sam2.inference.tracking.memory_bank import FrameMemory, MemoryBank, PastMasks
from napari_sam2.inference.views.view import View

VIEW = View(0, 0, 8, 8)


def make_memory(frame: int, **over) -> FrameMemory:
    fields = {
        "frame": frame,
        "is_conditioning": False,
        "reverse": False,
        "view": VIEW,
        "logits": torch.zeros(1, 1, 4, 4),
        "iou": torch.ones(1),
        "object_score": torch.ones(1, 1),
        "pointer": torch.zeros(1, 8),
        "features": torch.zeros(1, 2, 2, 2),
    }
    return FrameMemory(**(fields | over))


def make_bank(tracked=(), prompted=(0,), **over) -> MemoryBank:
    bank = MemoryBank(7, 16, **over)
    for frame in prompted:
        bank.add(make_memory(frame, is_conditioning=True))
    for frame in tracked:
        bank.add(make_memory(frame))
    return bank


def slots(recall):
    return [(memory.frame, slot) for memory, slot in recall.spatial]


def distances(recall):
    return [(memory.frame, distance) for memory, distance in recall.pointers]


def test_recall_has_prompted_frames_first_then_recent_ones_oldest_first():
    recall = make_bank(range(1, 10)).recall(10, reverse=False, num_frames=100)
    assert slots(recall) == [(0, 6), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1), (9, 0)]


def test_pointers_are_those_behind_nearest_first():
    recall = make_bank(range(1, 5), prompted=(0, 8)).recall(5, reverse=False, num_frames=100)
    assert distances(recall) == [(0, 5), (4, 1), (3, 2), (2, 3), (1, 4)]
    assert (8, 6) in slots(recall)


def test_turning_round_reads_later_frames():
    bank = make_bank(prompted=(20,))
    for frame in (19, 18, 17):
        bank.add(make_memory(frame, reverse=True))
    recall = bank.recall(16, reverse=True, num_frames=100)
    assert slots(recall) == [(20, 6), (19, 2), (18, 1), (17, 0)]
    assert distances(recall) == [(20, 4), (17, 1), (18, 2), (19, 3)]


def test_memories_of_the_other_direction_are_not_read_unless_asked():
    tracked = range(1, 6)
    assert slots(make_bank(tracked).recall(3, reverse=True, num_frames=9)) == [(0, 6)]
    both = make_bank(tracked, any_direction=True).recall(3, reverse=True, num_frames=9)
    assert slots(both) == [(0, 6), (5, 1), (4, 0)]


@pytest.mark.parametrize(("num_frames", "expected"), [(5, 4), (16, 15), (40, 15)])
def test_reach_of_pointers_depends_on_the_length_of_a_short_stack(num_frames, expected):
    bank = MemoryBank(7, 16, extra_frames=30)
    bank.add(make_memory(0, is_conditioning=True))
    for frame in range(1, 30):
        bank.add(make_memory(frame))
    recall = bank.recall(30, reverse=False, num_frames=num_frames)
    assert max(d for m, d in recall.pointers if not m.is_conditioning) == expected


def test_select_keeps_conditioning_frames_when_full():
    bank = make_bank(range(10, 60), prompted=(0, 5))
    assert set(bank.prompted) == {0, 5}
    assert [frame for frame, slot in slots(bank.recall(60, reverse=False, num_frames=99)) if slot == 6] == [0, 5]


def test_what_attention_can_no_longer_read_is_dropped():
    bank = make_bank(range(1, 200))
    assert len(bank.tracked) <= 15
    assert sum(m.features is not None for m in bank.tracked.values()) == 6
    full = MemoryBank(7, 16, extra_frames=500)
    full.add(make_memory(0, is_conditioning=True))
    for frame in range(1, 200):
        full.add(make_memory(frame))
    ours, theirs = (b.recall(200, reverse=False, num_frames=300) for b in (bank, full))
    assert slots(ours) == slots(theirs)
    assert distances(ours) == distances(theirs)


def test_prompting_a_tracked_frame_makes_it_a_prompted_one():
    bank = make_bank(range(1, 5))
    bank.add(make_memory(3, is_conditioning=True))
    assert 3 in bank.prompted
    assert 3 not in bank.tracked


def test_frames_left_out_are_not_read():
    recall = make_bank(prompted=(0, 4)).recall(4, reverse=False, num_frames=9, leave_out=(4,))
    assert slots(recall) == [(0, 6)]


def test_recall_without_a_prompt_is_an_error():
    with pytest.raises(PromptError, match="has no prompt"):
        MemoryBank(7, 16).recall(0, reverse=False, num_frames=5)


def test_objects_with_equal_layouts_can_share_a_batch():
    a, b = make_bank(range(1, 4)), make_bank(range(1, 4))
    c = make_bank(range(1, 3))
    layout = a.recall(4, reverse=False, num_frames=50).layout
    assert b.recall(4, reverse=False, num_frames=50).layout == layout
    assert c.recall(4, reverse=False, num_frames=50).layout != layout


def test_past_masks_come_back_and_are_small():
    past = PastMasks(max_frames=3)
    rng = np.random.default_rng(0)
    masks = {frame: rng.random((16, 16)) > 0.5 for frame in range(5)}
    for frame, mask in masks.items():
        past.add(frame, VIEW, mask)
    assert 0 not in past
    view, logits = past.logits(4)
    assert view == VIEW
    assert np.array_equal(logits[0, 0].numpy() > 0, masks[4])


def without(left_out, **over):
    """A bank tracked from 1 to 9, where frames in ``left_out`` do not count."""
    bank = make_bank(**over)
    for frame in range(1, 10):
        is_out = frame in left_out
        bank.add(make_memory(frame, is_left_out=is_out, features=None if is_out else torch.zeros(1, 2, 2, 2)))
    return bank


def test_time_does_not_advance_on_frames_that_are_left_out():
    bank = without({4, 5, 9})
    recall = bank.recall(10, reverse=False, num_frames=100)
    assert slots(recall) == [(0, 6), (1, 5), (2, 4), (3, 3), (6, 2), (7, 1), (8, 0)]
    assert distances(recall) == [(0, 7), (8, 1), (7, 2), (6, 3), (3, 4), (2, 5), (1, 6)]
    assert bank.before(10, reverse=False) is bank.tracked[8]
    assert bank.before(6, reverse=False) is bank.tracked[3]


def test_a_bank_without_frames_that_are_left_out_looks_at_the_frame_before():
    bank = make_bank(range(1, 4))
    assert bank.before(4, reverse=False) is bank.tracked[3]
    assert bank.before(1, reverse=False) is bank.prompted[0]
    assert bank.before(6, reverse=False) is None


def test_a_frame_counts_again_after_it_was_tracked_prompted_or_forgotten():
    for change in (
        lambda bank: bank.add(make_memory(9)),
        lambda bank: bank.add(make_memory(9, is_conditioning=True)),
        lambda bank: bank.forget(9),
        lambda bank: bank.forget_tracked(),
    ):
        bank = without({9})
        change(bank)
        before = bank.before(10, reverse=False)
        assert before is bank.at(9)


def test_memories_before_a_long_gap_are_kept():
    bank = make_bank(range(1, 4))
    for frame in range(4, 60):
        bank.add(make_memory(frame, is_left_out=True, features=None))
    recall = bank.recall(60, reverse=False, num_frames=100)
    assert slots(recall) == [(0, 6), (1, 2), (2, 1), (3, 0)]
    assert distances(recall)[0] == (0, 4)


def test_frames_with_distractors_are_recalled_beyond_the_recent_ones_and_the_oldest_is_dropped():
    bank = MemoryBank(7, 16, max_distractors=2)
    bank.add(make_memory(0, is_conditioning=True))
    for frame in range(1, 40):
        bank.add(make_memory(frame, shows_distractor=frame in (3, 4, 12, 20)))
    recalled = [memory.frame for memory, _ in bank.recall(40, reverse=False, num_frames=50).spatial]
    assert recalled == [0, 12, 20, 34, 35, 36, 37, 38, 39]  # 4 is near 3, which made room for 20
    assert [memory.frame for memory, _ in bank.recall(5, reverse=True, num_frames=50).spatial] == [0]
    before = bank.nbytes
    bank.forget_tracked()
    assert not bank.distractors
    assert bank.nbytes < before


def test_a_frame_with_a_distractor_that_is_prompted_or_tracked_again_is_no_longer_one():
    bank = make_bank(max_distractors=2)
    for frame in (1, 10):
        bank.add(make_memory(frame, shows_distractor=True))
    bank.add(make_memory(1, is_conditioning=True))
    bank.add(make_memory(10))
    assert not bank.distractors


def test_no_frame_with_a_distractor_is_kept_unless_asked_for():
    bank = make_bank()
    for frame in range(1, 20):
        bank.add(make_memory(frame, shows_distractor=True))
    assert not bank.distractors
