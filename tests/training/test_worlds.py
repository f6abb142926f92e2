"""Random worlds and regions of pictures: labelled, visible, on several levels, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2.training.batches import BatchPlan, make_batch
from napari_sam2.training.crops import CropConfig
from napari_sam2.training.dataset import ClipSampler
from napari_sam2.training.packs import LabelledStack
from napari_sam2.training.regions import picture_regions
from napari_sam2.training.worlds import ARRANGEMENTS, draw_scene, number_pieces, render
from napari_sam2.training.worlds.source import WorldSource

SHOWN = CropConfig(reference_size=96, extent_high=80.0, min_area=24.0, wrong_share=0.5)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_arrangement_gives_connected_objects(arrangement):
    scene = draw_scene(np.random.default_rng(3), arrangement)
    assert scene.objects.dtype == np.int32
    assert scene.objects.any()
    if scene.hosts is None:
        assert np.array_equal(number_pieces(scene.objects) > 0, scene.objects > 0)


def test_scenes_are_the_same_for_the_same_seed():
    one, other = (draw_scene(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.objects, other.objects)
    assert len(one.parts) == len(other.parts)


def test_overlapping_bodies_mostly_touch_others():
    touching = whole = 0
    for seed in range(6):
        objects = draw_scene(np.random.default_rng(seed), "overlapping").objects
        grown = ndimage.grey_dilation(objects, size=3)
        touching += len(np.unique(objects[(objects > 0) & (grown != objects)]))
        whole += int(objects.max())
    assert 0.3 * whole < touching < whole


def test_parts_lie_in_objects_and_objects_in_clumps():
    num_parts = num_clumps = 0
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed), "bodies")
        body = scene.objects if scene.hosts is None else scene.hosts
        for part in scene.parts:
            num_parts += 1
            assert not (part > 0)[body == 0].any()
        if scene.clumps is not None:
            num_clumps += 1
            for clump in np.unique(scene.clumps[scene.clumps > 0])[:5]:
                assert len(np.unique(scene.objects[(scene.clumps == clump) & (scene.objects > 0)])) >= 2
    assert num_parts
    assert num_clumps


def test_objects_show_in_the_image():
    visible = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, "bodies")
        crop = (slice(60, 188), slice(60, 188))
        hosts = None if scene.hosts is None else scene.hosts[crop]
        image = render(rng, scene.objects[crop], [part[crop] for part in scene.parts], hosts)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 255
        grey = image.mean(-1) if image.ndim == 3 else image
        labels = scene.objects[crop]
        edge = ndimage.grey_dilation(labels, 3) != ndimage.grey_erosion(labels, 3)
        if edge.any():
            change = ndimage.gaussian_gradient_magnitude(grey, 1)
            visible += change[edge].mean() > 1.05 * change[~edge].mean()
    assert visible >= 5


@pytest.mark.parametrize("source", [WorldSource(), picture_regions()], ids=["worlds", "regions"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_sources_give_crops_and_clips(source, num_frames):
    cut = source.sample(np.random.default_rng(1), num_frames, 96, SHOWN)
    assert cut.frames.shape[:3] == cut.labels.shape == (num_frames, 96, 96)
    assert cut.labels.any()
    assert len(cut.hidden) == (1 + len(cut.levels) if num_frames == 1 else 0)
    for labels, hidden in zip((cut.labels, *cut.levels), cut.hidden, strict=False):
        assert len(hidden) > labels.max()


def test_regions_of_micrographs_ignore_their_labels():
    rng = np.random.default_rng(0)
    frames = (ndimage.gaussian_filter(rng.random((1, 120, 120)), (0, 6, 6)) * 900 % 255).astype(np.uint8)
    labels = np.ones((1, 120, 120), np.int32)
    source = picture_regions([LabelledStack(frames, labels, "noise")])
    cuts = [source.sample(np.random.default_rng(k), 1, 96, SHOWN) for k in range(4)]
    assert all(len(cut.levels) == 2 for cut in cuts)


def test_batches_know_what_else_a_click_may_mean():
    sampler = ClipSampler([WorldSource()], size=96, crop=SHOWN)
    plan = BatchPlan(crop=96, stills=6, objects_per_still=4, clip_share=0.0, click_share=1.0)
    batch = make_batch(sampler, plan, np.random.default_rng(2))
    assert len(batch.hidden) == len(batch.prompts)
    assert (batch.hidden > 0).any()
    assert len(batch.others) == len(batch.other_of) > 0
    for mask, row in zip(batch.others, batch.other_of.tolist(), strict=True):
        x, y = batch.prompts[row].points[0].astype(int)
        assert mask[y, x]
        assert not np.array_equal(mask.numpy(), batch.truths[row, 0].numpy())


def test_labels_of_pictures_teach_the_dense_head_nothing():
    sampler = ClipSampler([picture_regions()], size=96, crop=SHOWN)
    plan = BatchPlan(crop=96, stills=1, objects_per_still=2, clip_share=0.0)
    assert (make_batch(sampler, plan, np.random.default_rng(0)).labels == -1).all()


def test_plain_worlds_show_whole_objects_only():
    plain, rich = (WorldSource("colonies", ("colony",), plain_share=share) for share in (1.0, 0.0))
    cuts = [
        [each.sample(np.random.default_rng(seed), 1, 96, CropConfig()) for seed in range(12)] for each in (plain, rich)
    ]
    assert not any(cut.levels for cut in cuts[0])
    assert any(cut.levels for cut in cuts[1])
    assert all(cut.labels.any() for cut in cuts[0])
    assert all(cut.frames.ndim == 3 for cut in cuts[0])  # contrast methods give no colours
    assert any(cut.frames.ndim == 4 for cut in cuts[1])
