"""Clips cut from labelled data: geometry, promptable objects, sources and their errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2._errors import TrainingError
from napari_sam2.training.augment import AugmentConfig
from napari_sam2.training.crops import _frame_indices
from napari_sam2.training.dataset import (
    Clip,
    ClipSampler,
    CropConfig,
    StackSource,
    SyntheticSource,
    load_sources,
    promptable_ids,
)
from napari_sam2.training.packs import LabelledStack
from places import SHARED

TRAIN = SHARED / "data" / "train"
PLAIN = AugmentConfig(plain=1.0)


def make_disks(num_frames: int = 1, hw: tuple[int, int] = (120, 150), radius: float = 11) -> np.ndarray:
    """(T, H, W) labels of twelve disks that move by a pixel a frame; ids need not start at 1."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    labels = np.zeros((num_frames, *hw), np.uint16)
    for t in range(num_frames):
        for k in range(12):
            centre = 20 + 35 * (k // 4), 18 + 36 * (k % 4) + t
            labels[t][(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = 3 + 5 * k
    return labels


def make_stack(num_frames: int = 1, *, rgb: bool = False, trusted: frozenset[int] | None = None) -> LabelledStack:
    """A stack whose grey value is 80 + 2 * label on objects and 20 elsewhere."""
    labels = make_disks(num_frames)
    frames = np.where(labels > 0, 80 + 2 * labels, 20).astype(np.uint8)
    if rgb:
        frames = np.stack([frames, frames // 2, 255 - frames], -1)
    return LabelledStack(frames, labels, "disks", "disks", num_frames > 1, trusted)


def make_sampler(*stacks: LabelledStack, size: int = 96, **over: object) -> ClipSampler:
    sources = [StackSource("disks", stacks or (make_stack(),))]
    return ClipSampler(sources, **{"size": size, "augment": PLAIN, **over})  # type: ignore[arg-type]


def assert_valid(clip: Clip, num_frames: int, size: int) -> None:
    assert clip.frames.shape == (num_frames, size, size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.labels.shape == (num_frames, size, size)
    assert clip.labels.dtype == np.int32
    assert clip.object_ids
    assert set(clip.object_ids) <= set(np.unique(clip.labels).tolist()) - {0}


@pytest.mark.parametrize(
    ("stack", "num_frames"),
    [
        pytest.param(make_stack(), 1, id="still"),
        pytest.param(make_stack(), 5, id="pseudo-clip"),
        pytest.param(make_stack(9), 4, id="sequence"),
        pytest.param(make_stack(9), 1, id="still-of-sequence"),
        pytest.param(make_stack(3), 8, id="longer-than-sequence"),
        pytest.param(make_stack(rgb=True), 2, id="rgb"),
    ],
)
def test_labels_lie_on_their_objects(stack: LabelledStack, num_frames: int) -> None:
    """Every label keeps the grey value that its object has in the source, away from outlines."""
    sampler = make_sampler(stack)
    rng = np.random.default_rng(0)
    checked = 0
    for _ in range(8):
        clip = sampler.sample_clip(rng, num_frames)
        assert_valid(clip, num_frames, 96)
        for image, labels in zip(clip.frames[..., 0].astype(int), clip.labels, strict=True):
            deep = (ndimage.minimum_filter(labels, 9) == labels) & (ndimage.maximum_filter(labels, 9) == labels)
            inside = deep & (labels > 0)
            inside[[*range(5), *range(-5, 0)]] = inside[:, [*range(5), *range(-5, 0)]] = False
            assert (np.abs(image - 80 - 2 * labels)[inside] <= 2).all()
            checked += inside.sum()
    assert checked > 1000


def test_same_state_gives_the_same_clip() -> None:
    sampler = ClipSampler([StackSource("disks", [make_stack(6)]), SyntheticSource()], size=64)
    first, second = (sampler.sample_clip(np.random.default_rng(4), 3) for _ in range(2))
    assert (first.frames == second.frames).all()
    assert (first.labels == second.labels).all()
    assert first.object_ids == second.object_ids


def test_samplers_of_one_seed_agree_without_a_generator() -> None:
    first, second = (make_sampler(seed=3) for _ in range(2))
    for _ in range(3):
        assert (first.sample_still().frames == second.sample_still().frames).all()
    assert (make_sampler(seed=3).sample_still().frames != make_sampler(seed=4).sample_still().frames).any()


def test_ids_persist_through_a_sequence() -> None:
    sampler = make_sampler(make_stack(9))
    rng = np.random.default_rng(1)
    for _ in range(10):
        labels = sampler.sample_clip(rng, 4).labels
        both = (labels[0] > 0) & (labels[1] > 0)
        assert (labels[0] == labels[1])[both].mean() > 0.9


def test_objects_fill_the_range_of_sizes() -> None:
    sampler = make_sampler(size=256)
    rng = np.random.default_rng(0)
    extents = []
    for _ in range(40):
        clip = sampler.sample_still(rng)
        for i in clip.object_ids:
            ys, xs = np.nonzero(clip.labels[0] == i)
            if ys.min() > 0 and xs.min() > 0 and ys.max() < 255 and xs.max() < 255:
                extents.append(max(np.ptp(ys), np.ptp(xs)) + 1)
    # disks of 22 pixels at zoom 0.5 to 6, though never more than the image fills the crop
    assert np.percentile(extents, 5) < 45
    assert max(extents) > 90
    assert max(extents) < 180


def test_lengths_may_be_given_for_the_size_of_the_crop() -> None:
    small = CropConfig(extent_low=40, extent_high=44, core_share=0, anywhere=0, free_rotation=0, reference_size=96)
    clip = make_sampler(crop=small).sample_still(np.random.default_rng(0))
    widths = [np.ptp(np.nonzero(clip.labels[0] == i)[1]) + 1 for i in clip.object_ids]
    assert any(32 <= w <= 52 for w in widths)


def test_clips_show_objects_larger_than_stills() -> None:
    crop = CropConfig(reference_size=96, core_share=1.0, extent_core=(16, 20), clip_core=(40, 50), anywhere=0.0)
    sampler = make_sampler(make_stack(12), crop=crop)
    rng = np.random.default_rng(0)

    def median_side(num_frames: int) -> float:
        clips = [sampler.sample_clip(rng, num_frames) for _ in range(24)]
        areas = [int((clip.labels[0] == i).sum()) for clip in clips for i in clip.object_ids]
        return float(np.median(np.sqrt([area for area in areas if area])))

    assert median_side(1) < 22 < 30 < median_side(3)


def test_neighbouring_frames_of_a_clip_are_close_in_the_stack_more_often_than_far() -> None:
    rng = np.random.default_rng(0)
    indices = [_frame_indices(rng, 60, 4, 3) for _ in range(300)]
    distances = np.array([abs(frames[1] - frames[0]) for frames in indices])
    assert set(distances.tolist()) == {1, 2, 3}
    assert (distances == 1).mean() > 0.5


def test_padding_is_black_and_unlabelled() -> None:
    labels = np.ones((1, 40, 40), np.int32)
    stack = LabelledStack(np.full((1, 40, 40), 200, np.uint8), labels, "plate", "plate")
    crop = CropConfig(over_border=1.0, anywhere=1.0)
    sampler = ClipSampler([StackSource("plate", [stack])], size=64, crop=crop, augment=AugmentConfig(plain=0, invert=1))
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(20):
        clip = sampler.sample_still(rng)
        outside = clip.labels[0] == 0
        seen += outside.sum()
        assert (clip.frames[0][outside] == 0).all()
    assert seen > 0


def test_only_trusted_objects_are_prompted_but_all_are_kept() -> None:
    sampler = make_sampler(make_stack(trusted=frozenset({18, 23, 38})))
    rng = np.random.default_rng(0)
    kept: set[int] = set()
    for _ in range(20):
        clip = sampler.sample_still(rng)
        assert set(clip.object_ids) <= {18, 23, 38}
        kept |= set(np.unique(clip.labels).tolist())
    assert len(kept) > 8


def test_edge_slivers_are_not_prompted() -> None:
    labels = np.zeros((1, 256, 256), np.int32)
    labels[0, :, :4] = 1
    labels[0, 100:120, 100:120] = 2
    labels[0, 50:54, 50:54] = 3
    assert promptable_ids(labels, None, CropConfig()) == (2,)


def test_an_object_visible_on_a_later_frame_is_promptable() -> None:
    labels = np.zeros((3, 64, 64), np.int32)
    labels[2, 20:40, 20:40] = 9
    assert promptable_ids(labels, None, CropConfig()) == (9,)


def test_pieces_of_an_object_are_indexed_as_one() -> None:
    labels = np.zeros((1, 60, 60), np.uint16)
    labels[0, 5:25, 5:25] = 4
    labels[0, 40:48, 40:48] = 4
    labels[0, 30:36, 5:11] = 7
    objects = LabelledStack(labels.astype(np.uint8), labels, "pieces").objects(0)
    assert objects.ids.tolist() == [4, 7]
    assert objects.boxes[0].tolist() == [5, 5, 25, 25]
    assert objects.compact.tolist() == [True, True]


def test_scattered_pieces_are_not_compact() -> None:
    labels = np.zeros((1, 60, 60), np.uint16)
    labels[0, 5:15, 5:15] = 4
    labels[0, 40:50, 40:50] = 4
    assert LabelledStack(labels.astype(np.uint8), labels, "pieces").objects(0).compact.tolist() == [False]


def test_weights_choose_the_sources() -> None:
    sources = [StackSource("disks", [make_stack()]), SyntheticSource(("nuclei",))]
    rng = np.random.default_rng(0)
    sampler = ClipSampler(sources, size=64, weights={"disks": 0.0, "synthetic": 1.0})
    assert {sampler.sample_still(rng).source for _ in range(6)} == {"synthetic"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: ClipSampler([]), "positive", id="no-source"),
        pytest.param(lambda: make_sampler(weights={"disks": 0.0}), "positive", id="no-weight"),
        pytest.param(lambda: make_sampler(size=16), "at least 32", id="small-crop"),
        pytest.param(lambda: make_sampler().sample_clip(None, 0), "at least 1", id="no-frame"),
        pytest.param(lambda: StackSource("none", []), "no images", id="empty-source"),
    ],
)
def test_impossible_request_says_what_is_allowed(call: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        call()  # type: ignore[operator]


def test_data_without_objects_is_an_error_and_not_an_endless_search() -> None:
    empty = LabelledStack(np.zeros((1, 50, 50), np.uint8), np.zeros((1, 50, 50), np.int32), "empty")
    with pytest.raises(TrainingError, match="no promptable object"):
        make_sampler(empty).sample_still(np.random.default_rng(0))


@pytest.mark.skipif(not TRAIN.is_dir(), reason="the data packs are not here")
def test_real_packs_give_stills_and_clips() -> None:
    hold_out = ("dsb2018", "usiigaci_phase", "t98g_phase")
    sources = load_sources(TRAIN, hold_out=hold_out)
    packs = {path.stem for path in TRAIN.glob("*.npz")} - set(hold_out)
    assert packs | {"synthetic"} <= {source.name for source in sources}
    assert not set(hold_out) & {source.name for source in sources}
    sources = [source for source in sources if source.name in ("c2c12_phase_laptrack", "fib25_medulla", "synthetic")]
    rng = np.random.default_rng(0)
    for source in sources:
        sampler = ClipSampler([source], size=128)
        assert_valid(sampler.sample_still(rng), 1, 128)
        assert_valid(sampler.sample_clip(rng, 4), 4, 128)


@pytest.mark.skipif(not TRAIN.is_dir(), reason="the data packs are not here")
def test_unknown_pack_to_hold_out_is_an_error() -> None:
    with pytest.raises(TrainingError, match="dsb2018"):
        load_sources(TRAIN, hold_out=("dsb2019",))
