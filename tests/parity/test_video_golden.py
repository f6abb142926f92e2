"""The video path equals the reference: prompts, tracking, corrections, turning back, mask prompts, occlusion."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter

# eight frames at 1024 for two objects, several times: minutes on two cores, more on a busy machine
pytestmark = [pytest.mark.parity, pytest.mark.slow, pytest.mark.timeout(3600)]

BF16_LOGITS, BF16_FLIPS = 0.15, 60
FP32_LOGITS, FP32_FLIPS = 1e-3, 0
# Of a corrected mask and what is tracked from it, where sums are not made as they were for the golden files. Measured
# on the processor on which we equal them to the last bit: with one thread instead of two, the same operations give
# logits that are off by 0.40 and 195 flipped pixels; with one thread and AVX2 by 0.27 and 146.
CORRECTED = {"logits": 0.8, "flips": 250}
BACK = {"logits": 0.25, "flips": 90}
GOLDEN_THREADS = 2


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_the_golden_files_had():
    """Their number decides in which order sums are made."""
    usual = torch.get_num_threads()
    torch.set_num_threads(GOLDEN_THREADS)
    yield
    torch.set_num_threads(usual)


def make_segmenter(model, frames, **over):
    options = {"reference_behaviour": True, "corrections_stick": False, "fill_hole_area": 0.0} | over
    segmenter = SAM2VideoSegmenter(model, **options)
    segmenter.set_video(frames)
    return segmenter


def compare(segmenter, golden, step, object_ids, *, logits=BF16_LOGITS, flips=BF16_FLIPS, frame, only_flips=False):
    """Low-resolution logits, presence and pointer of each object against one step of a golden file."""
    for object_id in object_ids:
        memory = segmenter._objects[object_id].bank.at(frame)
        prefix = f"{step}/obj{object_id}/"
        found = memory.logits[0, 0].float().cpu().numpy()
        sign = np.unpackbits(golden[prefix + "pred_masks_sign_packed"], count=found.size).reshape(found.shape)
        assert ((found > 0) != sign.astype(bool)).sum() <= flips, prefix
        if only_flips:
            continue
        assert np.abs(found[::2, ::2] - golden[prefix + "pred_masks_slice_2"]).max() <= logits, prefix
        assert abs(float(memory.object_score) - float(golden[prefix + "object_score"][0])) <= 0.1 * logits, prefix
        pointer = memory.pointer[0].cpu().numpy()
        assert np.abs(pointer - golden[prefix + "obj_ptr"]).max() <= max(0.3 * logits, 1e-4), prefix
        if memory.features is not None and prefix + "maskmem_slice_8" in golden:
            stored = memory.features[0, :, ::8, ::8].float().cpu().numpy()
            # root mean square: in single values, rounded to bfloat16, the reference differs from itself by 0.16
            difference = np.square(stored - golden[prefix + "maskmem_slice_8"]).mean() ** 0.5
            assert difference <= max(0.3 * logits, 1e-3), (prefix, difference)


def click_and_box(segmenter):
    segmenter.add_clicks(0, [(150, 100)], [1], object_id=1)
    segmenter.add_clicks(2, [], [], object_id=2, box=(60, 40, 200, 160))


def disc():
    y, x = np.mgrid[:192, :320]
    return (x - 150) ** 2 + (y - 100) ** 2 < 45**2


def is_last_bit_equal(segmenter, golden):
    """Whether this processor makes sums as the golden files' did, as the answer to the first click shows."""
    found = segmenter._objects[1].bank.at(0).logits[0, 0, ::2, ::2].float().cpu().numpy()
    return np.array_equal(found, golden("video_tiny_forward")["a_click_f0/obj1/pred_masks_slice_2"])


@pytest.fixture(scope="module")
def after_correction(tracked, golden):
    """The bars of a corrected mask and of the way back: those of everything else, unless sums are made otherwise."""
    return ({}, {}) if is_last_bit_equal(tracked, golden) else (CORRECTED, BACK)


@pytest.fixture(scope="module")
def tracked(seeded_model, bedroom, golden):
    """A segmenter that has tracked a click and a box through the clip, each step compared on the way."""
    forward = golden("video_tiny_forward")
    segmenter = make_segmenter(seeded_model("sam2.1_hiera_tiny"), bedroom)
    click_and_box(segmenter)
    compare(segmenter, forward, "a_click_f0", [1], frame=0, logits=1e-3, flips=0)
    compare(segmenter, forward, "b_box_f2", [2], frame=2, logits=1e-3, flips=0)
    frames = []
    for result in segmenter.propagate_masklets(0, return_logits=True):
        compare(segmenter, forward, f"c_forward/f{result.frame}", [1, 2], frame=result.frame)
        expected = forward[f"c_forward/f{result.frame}/video_res_slice_4"]
        assert np.abs(result.logits[:, ::4, ::4] - expected).max() < BF16_LOGITS
        frames.append(result.frame)
    assert frames == list(range(8))
    return segmenter


def continued(tracked, bedroom, **over):
    """Another segmenter in the same state."""
    segmenter = make_segmenter(tracked.model, bedroom, **over)
    segmenter.cache = tracked.cache
    segmenter._objects = copy.deepcopy(tracked._objects)
    return segmenter


def test_click_box_and_tracking_equal_the_reference(tracked):
    assert tracked.object_ids == (1, 2)


def test_a_correction_equals_the_reference_to_the_last_bit(tracked, bedroom, golden):
    if not is_last_bit_equal(tracked, golden):
        pytest.skip("this processor makes sums in another order than the golden files' did")
    as_cond = golden("video_tiny_correction_as_cond")
    segmenter = continued(tracked, bedroom, corrections_stick=True)
    segmenter.add_clicks(4, [(90, 60)], [0], object_id=1)
    compare(segmenter, as_cond, "d_neg_f4", [1], frame=4, logits=0.0, flips=0)
    for result in segmenter.propagate_masklets(4):
        compare(segmenter, as_cond, f"e_repropagate/f{result.frame}", [1, 2], frame=result.frame, logits=0.0, flips=0)
    assert result.frame == 7


def test_lost_correction_and_turning_back_equal_the_reference(tracked, bedroom, golden, after_correction):
    corrected, back = after_correction
    correction = golden("video_tiny_correction")
    segmenter = continued(tracked, bedroom)
    segmenter.add_clicks(4, [(90, 60)], [0], object_id=1)
    compare(segmenter, correction, "d_neg_f4", [1], frame=4, **corrected)
    for result in segmenter.propagate_masklets(0):
        compare(segmenter, correction, f"e_repropagate/f{result.frame}", [1, 2], frame=result.frame)
    for result in segmenter.propagate_masklets(4, reverse=True):
        compare(segmenter, correction, f"f_reverse/f{result.frame}", [1, 2], frame=result.frame, **back)
    assert result.frame == 0


def test_correction_that_sticks_equals_the_reference(tracked, bedroom, golden, after_correction):
    corrected, _ = after_correction
    as_cond = golden("video_tiny_correction_as_cond")
    segmenter = continued(tracked, bedroom, corrections_stick=True)
    segmenter.add_clicks(4, [(90, 60)], [0], object_id=1)
    compare(segmenter, as_cond, "d_neg_f4", [1], frame=4, **corrected)
    for result in segmenter.propagate_masklets(4):
        # binarised for the memory, a difference of 0.03 becomes one of 20 along the outline
        compare(segmenter, as_cond, f"e_repropagate/f{result.frame}", [1], frame=result.frame, **corrected)
        compare(segmenter, as_cond, f"e_repropagate/f{result.frame}", [2], frame=result.frame)
    for result in segmenter.propagate_masklets(4, 1, reverse=True):
        compare(segmenter, as_cond, f"f_reverse/f{result.frame}", [1], frame=result.frame, **corrected)
        compare(segmenter, as_cond, f"f_reverse/f{result.frame}", [2], frame=result.frame)
    assert result.frame == 2


def test_tracking_with_fp32_memory_equals_the_reference(seeded_model, bedroom, golden):
    expected = golden("video_tiny_fp32memory")
    steps = sorted({key.split("/obj")[0] for key in expected if "/f" in key and "/obj" in key})
    segmenter = make_segmenter(seeded_model("sam2.1_hiera_tiny"), bedroom, memory_dtype=torch.float32)
    click_and_box(segmenter)
    last = max(int(step.rsplit("/f", 1)[1]) for step in steps)
    for result in segmenter.propagate_masklets(0, last + 1):
        step = next(s for s in steps if s.endswith(f"/f{result.frame}"))
        ids = [i for i in (1, 2) if f"{step}/obj{i}/object_score" in expected]
        compare(segmenter, expected, step, ids, frame=result.frame, logits=FP32_LOGITS, flips=FP32_FLIPS)
    assert result.frame == last


def test_mask_prompt_equals_the_reference(seeded_model, bedroom, golden):
    expected = golden("video_tiny_maskprompt")
    segmenter = make_segmenter(seeded_model("sam2.1_hiera_tiny"), bedroom)
    segmenter.add_clicks(0, [], mask=disc())
    compare(segmenter, expected, "a_mask_f0", [1], frame=0, logits=1e-3, flips=0)
    for result in segmenter.propagate_masklets(0, 3):
        compare(segmenter, expected, f"c_forward/f{result.frame}", [1], frame=result.frame)
    assert result.frame == 2


def test_occlusion_equals_the_reference(seeded_model, bedroom, golden):
    expected = golden("video_tiny_maskprompt_occlusion")
    model = copy.deepcopy(seeded_model("sam2.1_hiera_tiny"))
    with torch.no_grad():
        # a negative number: the object is taken for absent
        model.sam_mask_decoder.pred_obj_score_head.layers[2].bias += expected["obj_score_bias_delta"].item()
    segmenter = make_segmenter(model, bedroom)
    segmenter.add_clicks(0, [], mask=disc())
    compare(segmenter, expected, "a_mask_f0", [1], frame=0, logits=1e-3, flips=0)
    for result in segmenter.propagate_masklets(0, 5):
        compare(segmenter, expected, f"c_forward/f{result.frame}", [1], frame=result.frame)
        assert result.frame == 0 or not result.masks.any()
    assert result.frame == 4


def test_filled_holes_equal_the_reference(seeded_model, bedroom, golden):
    expected = golden("video_tiny_fillholes8")
    segmenter = make_segmenter(seeded_model("sam2.1_hiera_tiny"), bedroom, fill_hole_area=8.0)
    steps = sorted({key.split("/obj")[0] for key in expected if "/f" in key and "/obj" in key})
    click_and_box(segmenter)
    last = max(int(step.rsplit("/f", 1)[1]) for step in steps)
    for result in segmenter.propagate_masklets(0, last + 1):
        step = next(s for s in steps if s.endswith(f"/f{result.frame}"))
        ids = [i for i in (1, 2) if f"{step}/obj{i}/pred_masks_sign_packed" in expected]
        compare(segmenter, expected, step, ids, frame=result.frame, only_flips=True)
    assert result.frame == last


def test_masks_of_bfloat16_on_a_cpu_are_those_of_float32(seeded_model, bedroom):
    """Every mask of both objects, with the seeded weights, whose outlines any rounding moves."""
    exact = seeded_model("sam2.1_hiera_tiny")
    if exact.device.type != "cpu":
        pytest.skip("on a GPU everything is rounded")
    masks = []
    for model in (exact, copy.deepcopy(exact).compute_in(torch.bfloat16)):
        segmenter = SAM2VideoSegmenter(model)
        segmenter.set_video(bedroom)
        click_and_box(segmenter)
        masks.append(np.concatenate([result.masks for result in segmenter.propagate_masklets(0)]))
    iou = (masks[0] & masks[1]).sum((1, 2)) / (masks[0] | masks[1]).sum((1, 2))
    assert iou.mean() >= 0.99
    assert iou.min() >= 0.97  # 0.983 was seen; how the rounding falls out depends on the number of threads
