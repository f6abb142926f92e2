"""Objects that are missing on some frames are found again; those that are gone are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from factories import make_model, make_movie
from napari_sam2 import open_frames
from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.recovery import RecoverySettings, recovery_view
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.view import View
from napari_sam2.inference.views.view_tracking import MaskExtent
from napari_sam2.weights.loading import load_model

NUM_FRAMES, SEAM = 8, 3


@pytest.fixture(scope="module")
def micro():
    return load_model("sam2_micro")


def make_cells(shift: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Two blurred discs on noise, (T, H, W) each; from frame 3 on they are shifted by (y, x)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:112, :128]
    image, labels = np.zeros((NUM_FRAMES, 112, 128)), np.zeros((NUM_FRAMES, 112, 128), int)
    for t in range(NUM_FRAMES):
        dy, dx = np.array(shift) * (t >= SEAM)
        for i, (cy, cx, radius) in enumerate(((30, 30, 10), (70, 45, 8)), 1):
            labels[t][(y - cy - dy) ** 2 + (x - cx - dx) ** 2 < radius**2] = i
        plane = 30 + 60 * (labels[t] > 0) + 60 * (labels[t] == 2)
        image[t] = ndimage.gaussian_filter(plane.astype(float), 1) + rng.normal(0, 6, y.shape)
    return image.clip(0, 255).astype(np.float32), labels


def track(model, image, labels, start: int = 0, **over) -> np.ndarray:
    segmenter = SAM2VideoSegmenter(model, **over)
    segmenter.set_video(open_frames(image, axes="TYX", contrast=(0.0, 255.0)))
    for i in (1, 2):
        segmenter.add_prompt(start, Prompt(mask=labels[start] == i), object_id=i)
    return segmenter.track_objects()


def overlaps(found, labels, ids=(1, 2)) -> np.ndarray:
    """(T,) the lowest IoU of the cells."""
    return np.array(
        [
            min(((f == i) & (t == i)).sum() / max(((f == i) | (t == i)).sum(), 1) for i in ids)
            for f, t in zip(found, labels, strict=True)
        ]
    )


def test_view_grows_with_each_missing_frame_up_to_a_limit():
    view, extent = View(20, 20, 40, 40, True), MaskExtent(40, 40, 10)
    settings = RecoverySettings(view_growth=1.2, max_growth=1.5)
    assert recovery_view(view, extent, 0, (200, 200), settings) == view
    sides = [recovery_view(view, extent, n, (200, 200), settings).width for n in (1, 2, 3, 9)]
    assert sides == [48, 58, 60, 60]


@pytest.mark.parametrize("value", [0.0, np.nan, 255.0])
@pytest.mark.parametrize("start", [0, NUM_FRAMES - 1])
def test_cells_are_found_again_after_unusable_frames(micro, value, start):
    image, labels = make_cells()
    image[SEAM : SEAM + 3] = value
    found = track(micro, image, labels, start)
    assert not found[SEAM : SEAM + 3].any()
    seen = np.r_[:SEAM, SEAM + 3 : NUM_FRAMES]
    assert overlaps(found[seen], labels[seen]).min() > 0.85


def test_clicked_cells_that_drift_are_found_again_after_blank_frames(micro):
    rng = np.random.default_rng(0)
    radii, centres = rng.uniform(8, 12, 4), np.array([(24, 26), (26, 80), (66, 30), (70, 84)])
    y, x = np.mgrid[:96, :112]
    image, labels = np.empty((6, 96, 112), np.float32), np.zeros((6, 96, 112), int)
    for t in range(6):
        plane = np.full((96, 112), 200.0)
        for i, ((cy, cx), radius) in enumerate(zip(centres + t, radii, strict=True)):
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            plane[inside], labels[t][inside] = 1300 + 130 * i, i + 1
        image[t] = ndimage.gaussian_filter(plane, 1.0) + rng.normal(0, 40, (96, 112))
    image[2:5] = np.nan
    segmenter = SAM2VideoSegmenter(micro)
    segmenter.set_video(open_frames(image, axes="TYX"))
    for i, (cy, cx) in enumerate(centres.tolist(), 1):
        segmenter.add_clicks(0, [(cx, cy)], object_id=i)
    found = segmenter.track_objects()
    assert overlaps(found[5:], labels[5:], ids=(1, 2, 3, 4)).min() > 0.85


def test_cells_that_moved_by_a_radius_meanwhile_are_found_on_the_first_frame_that_shows_them(micro):
    """In opposite directions, so that the stage has not moved."""
    rng, (y, x) = np.random.default_rng(5), np.mgrid[:112, :128]
    image, labels = np.zeros((7, 112, 128)), np.zeros((7, 112, 128), int)
    for t in range(7):
        for i, (cy, cx, dy, dx) in enumerate(((40, 40, -1.9, -0.6), (72, 84, 0.6, 1.9)), 1):
            labels[t][((y - cy - dy * t) / 9) ** 2 + ((x - cx - dx * t) / 10) ** 2 < 1] = i
        image[t] = ndimage.gaussian_filter(30.0 + 100 * (labels[t] > 0), 1) + rng.normal(0, 8, y.shape)
    image[2:6] = 0
    found = track(micro, image.clip(0, 255).astype(np.float32), labels)
    assert overlaps(found[6:], labels[6:]).min() > 0.85


def test_cells_are_found_again_after_frames_that_show_only_noise(micro):
    image, labels = make_cells()
    image[SEAM : SEAM + 4] = np.random.default_rng(0).normal(30, 6, (4, 112, 128))
    found = track(micro, image, labels)
    assert not found[SEAM : SEAM + 4].any()
    assert overlaps(found[SEAM + 4 :], labels[SEAM + 4 :]).min() > 0.85


def test_cells_that_are_gone_stay_gone(micro):
    image, labels = make_cells()
    image[SEAM:] = np.random.default_rng(0).normal(30, 6, (NUM_FRAMES - SEAM, 112, 128))
    assert not track(micro, image, labels)[SEAM:].any()


def test_cells_are_followed_across_a_jump_of_the_stage(micro):
    image, labels = make_cells((3, 50))
    assert overlaps(track(micro, image, labels), labels).min() > 0.85


@pytest.mark.parametrize("reverse", [False, True])
def test_blank_frames_change_nothing_for_a_network_that_sees_the_whole_image(reverse):
    model, movie = make_model(follows_last_mask=False), make_movie(20)
    blank = (3, 4, 9, 10, 11)
    padded = np.insert(movie, [3, 3, 7, 7, 7], 0, axis=0)
    kept = [t for t in range(len(padded)) if t not in blank]
    results = []
    for frames in (movie, padded):
        segmenter = SAM2VideoSegmenter(model)
        segmenter.set_video(frames)
        start = len(frames) - 1 if reverse else 0
        segmenter.add_clicks(start, [(15 + 2 * (19 if reverse else 0), 20)])
        results.append({r.frame: r for r in segmenter.propagate_masklets(reverse=reverse, return_logits=True)})
    plain, skipped = results
    assert sorted(t for t, r in skipped.items() if not r.is_usable) == list(blank)
    assert all(not skipped[t].masks.any() for t in blank)
    for t, frame in enumerate(kept):
        assert np.array_equal(plain[t].logits, skipped[frame].logits)


def test_the_reference_does_not_skip_blank_frames():
    movie = make_movie(4)
    movie[2] = 0
    segmenter = SAM2VideoSegmenter(make_model(), reference_behaviour=True)
    segmenter.set_video(movie)
    segmenter.add_clicks(0, [(15, 20)])
    assert all(result.is_usable for result in segmenter.propagate_masklets())
