"""Bright objects stacked in z are split at contrast minima; others are unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from factories import make_model
from napari_sam2.frames import open_frames
from napari_sam2.inference.progress import TaskProgress
from napari_sam2.inference.stacks import key_frame_search as automatic_stack
from napari_sam2.inference.stacks.depth_contrast import (
    Contrasts,
    contrasts_for_splitting,
    drop_flat_objects,
    measure_contrasts,
    split_at_minima,
    split_labels,
    trim_labels,
)
from napari_sam2.inference.stacks.key_frame_search import segment_stack

UNWATCHED = TaskProgress("test", None, None)
LIGHT = (200, 190, 120, 60, 110, 180, 200, 130, 40, 10, 5)  # two nuclei, and what is left of the second's light


def make_pile(*, background: int = 10, noise: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W) uint8 with two nuclei on each other, and the labels of one track that runs through both."""
    y, x = np.mgrid[:48, :48]
    disc = (y - 24) ** 2 + (x - 20) ** 2 < 64
    light = np.array(LIGHT)[:, None, None] * disc + background
    noisy = light + np.random.default_rng(0).normal(0, noise, light.shape)
    return noisy.clip(0, 255).astype(np.uint8), np.repeat(disc[None], len(LIGHT), 0).astype(np.int32) * 3


def measured(stack: np.ndarray, labels: np.ndarray) -> Contrasts:
    return measure_contrasts(labels, open_frames(stack, contrast=(0, 255)), range(len(stack)))


def test_contrast_is_what_an_object_is_brighter_than_its_surroundings() -> None:
    stack, labels = make_pile()
    contrasts = measured(stack, labels)
    assert contrasts.is_bright
    assert list(contrasts.of_object) == [3]
    assert [contrasts.of_object[3][t] for t in range(len(stack))] == pytest.approx(LIGHT, abs=3)


def test_neighbours_are_no_surroundings() -> None:
    stack, labels = make_pile(noise=0)
    labels[:, :, 31:] = 7
    stack[:, :, 31:] = 255
    assert measured(stack, labels).of_object[3][0] == pytest.approx(200, abs=3)


def test_a_track_through_two_nuclei_is_two_objects() -> None:
    stack, labels = make_pile()
    track = labels.copy()
    pieces = split_labels(labels, measured(stack, labels), {3: [1, 6]}, len(stack))
    assert [(piece.number, piece.source_id) for piece in pieces] == [(3, 3), (4, 3)]
    assert set(np.unique(labels[:3])) == {0, 3}
    assert set(np.unique(labels[4:8])) == {0, 4}
    assert not labels[8:].any()
    assert ((labels > 0) <= (track > 0)).all()


def test_the_detected_object_keeps_the_number() -> None:
    stack, labels = make_pile()
    split_labels(labels, measured(stack, labels), {3: [6]}, len(stack))
    assert set(np.unique(labels[5:7])) == {0, 3}
    assert set(np.unique(labels[:3])) == {0, 4}


def test_a_faint_object_is_dropped_unless_it_was_detected() -> None:
    bright, faint = {0: 200.0, 1: 190.0, 2: 10.0}, {3: 5.0, 4: 20.0, 5: 25.0}
    for seeds, expected in (([0], {3}), ([0, 5], {3, 4})):
        labels = np.full((6, 4, 4), 3, np.int32)
        split_labels(labels, Contrasts({3: bright | faint}, {}, is_bright=True), {3: seeds}, 6)
        assert set(np.unique(labels)) - {0} == expected


@pytest.mark.parametrize("contrast", [[50] * 8, [50, 52, 49, 51, 50, 53, 50, 51], [60, 58, 55, 52, 48, 45, 42, 40]])
def test_constant_or_fading_contrast_is_one_object(contrast: list[float]) -> None:
    ((_, frames),) = split_at_minima(dict(enumerate(contrast)))
    assert frames == list(range(8))


def test_an_object_that_is_darker_than_its_surroundings_stays_as_it_is() -> None:
    labels = np.full((4, 4, 4), 2, np.int32)
    assert split_at_minima(dict.fromkeys(range(4), -20.0)) == []
    assert split_labels(labels, Contrasts({2: dict.fromkeys(range(4), -20.0)}, {}, is_bright=False), {2: [1]}, 4) == []
    assert (labels == 2).all()


def test_objects_in_texture_are_not_bright_on_dark() -> None:
    stack, labels = make_pile(noise=3)
    stack = np.random.default_rng(1).integers(60, 200, stack.shape).astype(np.uint8)
    stack[labels > 0] += 20
    assert not measured(stack, labels).is_bright


def test_out_of_focus_light_is_trimmed() -> None:
    y, x = np.mgrid[:48, :48]
    distance = np.hypot(y - 24, x - 20)
    radii = (4, 8, 10, 8, 4)
    truth = np.stack([distance < r for r in radii])
    light = 10 + 160 * truth + 40 * (np.stack([distance < 10] * 5) & ~truth)  # of the widest section, above and below
    stack = light.astype(np.uint8)
    stack[2, 24, 20] = 0  # a dark spot stays in
    labels = np.stack([distance < 10] * 5).astype(np.int32) * 3
    trim_labels(labels, measured(stack, labels), open_frames(stack, contrast=(0, 255)), range(5))
    for t in range(5):  # noise is smoothed first, which leaves a rim
        assert not ((labels[t] > 0) & ~ndimage.binary_dilation(truth[t], np.ones((3, 3)))).any()
        assert labels[t][truth[t]].all()
    assert set(np.unique(labels)) == {0, 3}


def test_specks_beside_an_object_are_left_out() -> None:
    stack, labels = make_pile(noise=0)
    labels[1, 20:28, 30:40] = 3
    stack[1, 22:25, 35:38] = 220
    trim_labels(labels, measured(stack, labels), open_frames(stack, contrast=(0, 255)), range(len(stack)))
    assert not labels[1, :, 31:].any()
    assert labels[1, 24, 20] == 3


def test_dark_objects_are_not_trimmed() -> None:
    stack, labels = make_pile()
    dark, before = 255 - stack, labels.copy()
    trim_labels(labels, measured(dark, labels), open_frames(dark, contrast=(0, 255)), range(len(stack)))
    np.testing.assert_array_equal(labels, before)


def test_a_faint_end_is_left_as_it_is_rather_than_lost() -> None:
    stack, labels = make_pile(noise=0)
    contrasts = measured(stack, labels)
    trim_labels(labels, contrasts, open_frames(stack, contrast=(0, 255)), range(len(stack)))
    assert contrasts.of_object[3][10] < 0.1 * contrasts.of_object[3][0]
    assert all((plane > 0).any() for plane in labels)


def test_objects_that_are_dark_on_most_frames_are_not_bright_on_dark() -> None:
    rng = np.random.default_rng(0)
    stack = rng.normal(100, 3, (10, 48, 48))
    labels = np.zeros(stack.shape, np.int32)
    for number, (y, x) in enumerate(((6, 6), (6, 30), (30, 6), (30, 30)), 1):
        labels[:, y : y + 10, x : x + 10] = number
        stack[:9, y : y + 10, x : x + 10] -= 10
        stack[9, y : y + 10, x : x + 10] += 30
    assert not measured(stack.astype(np.uint8), labels).is_bright


def test_an_object_without_surroundings_keeps_its_number() -> None:
    stack, labels = make_pile()
    whole = np.zeros((2, 48, 48), np.int32) + 4  # fills its frames, and has a higher number than all others
    labels, stack = np.concatenate((labels, whole)), np.concatenate((stack, np.full_like(stack[:2], 90)))
    pieces = split_labels(labels, measured(stack, labels), {3: [1, 6], 4: [11]}, len(stack))
    assert [piece.number for piece in pieces] == [3, 5]
    assert (labels[-2:] == 4).all()


def test_time_points_are_split_only_on_request() -> None:
    stack, labels = make_pile()
    for axes, expected in (("ZYX", [True, True, False]), ("TYX", [False, True, False])):
        frames = open_frames(stack, axes=axes, contrast=(0, 255))
        parted = [
            contrasts_for_splitting(labels, frames, range(len(stack)), asked, UNWATCHED)
            for asked in (None, True, False)
        ]
        assert [contrasts is not None for contrasts in parted] == expected


def make_balls(planes: tuple[int, ...], *, start: int = 2, num_frames: int = 14) -> np.ndarray:
    """Labels of squares of 8 pixels beside each other, number i through ``planes[i - 1]`` planes."""
    labels = np.zeros((num_frames, 16, 10 * len(planes)), np.int32)
    for number, count in enumerate(planes, 1):
        labels[start : start + count, 4:12, 10 * number - 9 : 10 * number - 1] = number
    return labels


def test_a_flat_object_of_out_of_focus_light_is_dropped() -> None:
    labels = make_balls((6, 5, 1, 6, 7, 2, 6, 3))
    assert drop_flat_objects(labels, len(labels)) == [3, 6]
    assert set(np.unique(labels)) == {0, 1, 2, 4, 5, 7, 8}
    labels[2:3, 4:12, 21:29] = 3
    labels[2:4, 4:6, 51:53] = 6  # as few planes as before, but small
    assert drop_flat_objects(labels, len(labels)) == [3]
    assert (labels == 6).any()


def test_objects_at_the_ends_of_a_stack_and_those_of_few_are_left_alone() -> None:
    labels = make_balls((6, 5, 6, 7, 5, 1))
    labels[:] = np.where(labels == 6, 0, labels)
    labels[0, 4:12, 51:59] = 6
    before = labels.copy()
    assert drop_flat_objects(labels, len(labels)) == []
    np.testing.assert_array_equal(labels, before)
    assert drop_flat_objects(make_balls((6, 1, 6)), 14) == []
    assert drop_flat_objects(np.zeros((3, 4, 4), np.int32), 3) == []


def test_flat_objects_leave_the_labels_and_the_report(follow_labels) -> None:
    labels = make_balls((6, 5, 6, 1, 7, 5))
    frames = open_frames((labels > 0).astype(np.uint8) * 200 + 20, axes="ZYX", contrast=(0, 255))

    follow_labels(labels, at=2)
    found, report = segment_stack(frames, model=make_model(), key_frames=[2], extend=False)
    assert len(np.unique(found)) == 1 + 5
    assert len(report.tracks) == 5
    assert not found[labels == 4].any()
    assert (found[labels == 5] > 0).all()


def test_one_picture_is_no_pile() -> None:
    stack, labels = make_pile()
    frames = open_frames(stack[:1], axes="ZYX", contrast=(0, 255))
    assert contrasts_for_splitting(labels[:1], frames, range(1), None, UNWATCHED) is None


def test_cancelling_leaves_objects_unchanged() -> None:
    stack, labels = make_pile()
    seen: list[tuple[str, int, int]] = []
    watch = TaskProgress("test", lambda *step: seen.append(step), lambda: len(seen) > 2)
    assert (
        contrasts_for_splitting(labels, open_frames(stack, contrast=(0, 255)), range(len(stack)), True, watch) is None
    )
    assert [done for _, done, _ in seen] == [0, 1, 2]
    assert {total for _, _, total in seen} == {len(stack)}


@pytest.fixture
def follow_labels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tells which labels a search finds, those of frame ``at``, and tracking gives."""

    def use(labels: np.ndarray, at: int = 0) -> None:
        def search(_finder, rgb, **_):
            return labels[at]

        def follow(_segmenter, _seeds, window, out, scores, *_, **__):
            for frame in window:
                out[frame] = labels[frame]
            for number in np.unique(labels)[1:].tolist():
                scores.join(number, 0.9 * len(window), len(window))
            return True

        monkeypatch.setattr(automatic_stack, "automatic_labels", search)
        monkeypatch.setattr(automatic_stack, "track_seeds", follow)

    return use


def test_objects_are_trimmed_after_splitting(follow_labels) -> None:
    stack, labels = make_pile(noise=0)
    y, x = np.mgrid[:48, :48]
    wide = (y - 24) ** 2 + (x - 20) ** 2 < 144
    stack[:, wide & (labels[0] == 0)] += 20  # the light around it, which the tracks take in
    follow_labels(np.repeat(wide[None], len(stack), 0).astype(np.int32))
    frames = open_frames(stack, axes="ZYX", contrast=(0, 255))
    found, _ = segment_stack(frames, model=make_model(), every=5, extend=False)
    left, _ = segment_stack(frames, model=make_model(), every=5, extend=False, split_stacked=False)
    assert set(np.unique(found)) == {0, 1, 2}
    assert (left[1] > 0).sum() == wide.sum()
    assert (found[1][labels[1] > 0] > 0).all()
    assert not (found[1][~ndimage.binary_dilation(labels[1] > 0)] > 0).any()


def test_splitting_is_repeated_while_objects_are_found(follow_labels, monkeypatch) -> None:
    stack, labels = make_pile()
    follow_labels(labels)
    rounds = []
    part = automatic_stack.split_labels

    def spy(*given):
        pieces = part(*given)
        rounds.append(len(pieces))
        return pieces

    monkeypatch.setattr(automatic_stack, "split_labels", spy)
    segment_stack(open_frames(stack, axes="ZYX", contrast=(0, 255)), model=make_model(), every=5, extend=False)
    assert rounds == [2, 2], "parted in the first round, looked at again in the second"


@pytest.mark.parametrize("when", ["measuring contrast", "trimming"])
def test_cancelling_works_while_objects_are_split(follow_labels, when) -> None:
    stack, labels = make_pile()
    follow_labels(labels)
    said: list[str] = []

    def should_stop() -> bool:
        return sum(when in stage for stage in said) >= 3

    found, report = segment_stack(
        open_frames(stack, axes="ZYX", contrast=(0, 255)), model=make_model(), every=5, extend=False,
        on_progress=lambda stage, *_: said.append(stage), should_stop=should_stop,
    )  # fmt: skip
    assert not report.is_complete
    assert found.any()
    assert sum(when in stage for stage in said) == 3


def test_report_lists_split_objects(follow_labels) -> None:
    stack, labels = make_pile()
    follow_labels(labels)
    found, report = segment_stack(stack, model=make_model(), every=5, extend=False)
    assert report.num_merged > 0
    assert [(track.first_frame, track.seed_frames) for track in report.tracks] == [(0, (2,)), (4, (7,))]
    assert all(track.mean_score == pytest.approx(0.9) for track in report.tracks)
    assert set(np.unique(found)) == {0, 1, 2}
    whole, _ = segment_stack(stack, model=make_model(), every=5, extend=False, split_stacked=False)
    assert set(np.unique(whole)) == {0, 1}
