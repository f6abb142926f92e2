"""The image path equals the reference: features, every kind of prompt, post-processing of a batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.views.transforms import image_to_model
from napari_sam2.inference.views.view import whole_view

pytestmark = pytest.mark.parity

LOGIT_TOLERANCE = 1e-3
NOISE = {"cpu": 1e-5, "cuda": 1e-4}
"""Logits nearer to the threshold are noise: the order of summation, hence the number of threads, sets their sign."""
CLEAR_SHARE = {"cpu": 0.9999, "cuda": 0.999}
PREPROCESSING = {"cpu": 1e-6, "cuda": 5e-6}
CASES = (
    "point1_multi",
    "points3_single",
    "box_single",
    "box_multi",
    "box_point_single",
    "prevmask_point_single",
    "prevmask_only_single",
    "boxes3_batch",
    "boxes3_batch_thresh093",
    "box_single_nodynamic",
)


@pytest.fixture(scope="module")
def predictor(seeded_model, truck):
    predictor = SAM2ImagePredictor(seeded_model("sam2.1_hiera_tiny"))
    predictor.set_image(truck)
    return predictor


def test_preprocessing_equals_the_reference(seeded_model, truck, golden):
    expected = golden("image_tiny_features")["preproc_slice_8"]
    pixels = image_to_model(truck, whole_view(truck.shape[:2]), 1024, device=seeded_model("sam2.1_hiera_tiny").device)
    assert np.abs(pixels[0, :, ::8, ::8].cpu().numpy() - expected).max() < PREPROCESSING[pixels.device.type]


def test_features_equal_the_reference(predictor, golden):
    expected = golden("image_tiny_features")
    embed = predictor.get_image_embedding()[0]
    assert np.abs(embed[:, ::4, ::4] - expected["image_embed_slice_4"]).max() < 1e-4
    assert np.abs(embed.mean((1, 2)) - expected["image_embed_chan_mean"]).max() < 1e-5
    embedding = predictor._embed(whole_view(predictor.image_hw))
    for level in (0, 1):
        found = embedding.high_res[level][0, :, ::8, ::8].cpu().numpy()
        assert np.abs(found - expected[f"high_res{level}_slice_8"]).max() < 1e-4


@pytest.mark.parametrize("case", CASES)
def test_prompt_equals_the_reference(predictor, golden, reference_folder: Path, case: str):
    args = json.loads((reference_folder / "golden" / "image_tiny.json").read_text())[case]["args"]
    if "mask_input" in args:
        first = golden("image_tiny_point1_multi")
        args["mask_input"] = first["low_res"][np.argmax(first["iou"])][None]
    predictor.stability_threshold = {"boxes3_batch_thresh093": 0.93, "box_single_nodynamic": None}.get(case, 0.98)
    expected = golden(f"image_tiny_{case}")

    masks, scores, logits = predictor.predict(**args)
    full = predictor.predict(**args, return_logits=True).masks
    assert np.array_equal(full > 0, masks)

    shape = tuple(expected["masks_shape"])
    expected_masks = np.unpackbits(expected["masks_packed"], count=int(np.prod(shape))).reshape(shape).astype(bool)
    assert np.abs(logits.reshape(expected["low_res"].shape) - expected["low_res"]).max() < LOGIT_TOLERANCE
    assert np.abs(scores.ravel() - expected["iou"].ravel()).max() < 1e-4
    device = predictor.model.device.type
    is_clear = np.abs(full.reshape(shape)) > NOISE[device]
    assert is_clear.mean() > CLEAR_SHARE[device]
    assert (masks.reshape(shape) != expected_masks)[is_clear].sum() == 0
