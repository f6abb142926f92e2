"""The score of automatic masks is fitted to their true IoU."""

import numpy as np
import pytest

from napari_sam2 import load_model
from napari_sam2._errors import TrainingError
from napari_sam2.inference.automatic.dense_settings import ScoreFeatures
from napari_sam2.training.mask_scores import LabelledImage, ScoredMasks, fit_score_weights, score_masks


@pytest.fixture(scope="module")
def discs() -> LabelledImage:
    """Bright discs on a dark background."""
    y, x = np.mgrid[:128, :128]
    labels = np.zeros((128, 128), np.int32)
    for number, (row, column) in enumerate([(30, 30), (30, 90), (90, 40), (95, 95)], 1):
        labels[(y - row) ** 2 + (x - column) ** 2 < 14**2] = number
    image = np.random.default_rng(0).normal(40, 5, labels.shape) + 120 * (labels > 0)
    return LabelledImage(image.clip(0, 255).astype(np.uint8), labels, "discs")


def test_masks_of_a_labelled_image_have_features_and_true_iou(discs):
    masks = score_masks(load_model("sam2_micro"), [discs])
    assert len(masks.features) == len(masks.true_iou) == len(masks.kinds) >= 4
    assert masks.features.shape[1] == len(ScoreFeatures._fields)
    assert set(masks.kinds.tolist()) == {"discs"}
    assert (masks.true_iou > 0.8).sum() >= 4
    support = masks.features[:, ScoreFeatures._fields.index("click_support")]
    assert support[masks.true_iou > 0.8].max() > 0.7  # every mask was clicked, not only the doubtful ones


def test_masks_on_unlabelled_pixels_are_left_out_where_labels_are_incomplete(discs):
    labels = np.where(discs.labels == 1, 1, 0)
    model = load_model("sam2_micro")
    complete = score_masks(model, [discs._replace(labels=labels)])
    incomplete = score_masks(model, [discs._replace(labels=labels, is_complete=False)])
    assert 0 < len(incomplete.kinds) < len(complete.kinds)
    assert (complete.true_iou < 0.1).any()
    assert not (incomplete.true_iou < 0.1).any()


def test_the_fit_finds_the_weights_that_made_the_iou():
    rng = np.random.default_rng(3)
    features = rng.uniform(size=(3000, len(ScoreFeatures._fields)))
    weights = rng.uniform(-0.3, 0.6, len(ScoreFeatures._fields)).round(2)
    masks = ScoredMasks(features, features @ weights - 0.1, rng.choice(["a", "b", "c"], 3000, p=[0.8, 0.15, 0.05]))
    first, score = fit_score_weights(masks)
    np.testing.assert_allclose(score.weights, weights, atol=0.011)
    assert score.bias == pytest.approx(-0.1, abs=0.011)
    assert first.weights.click_support == 0.0


def test_each_kind_counts_the_same_in_the_fit():
    features = np.zeros((1010, len(ScoreFeatures._fields)))
    masks = ScoredMasks(features, np.r_[np.zeros(1000), np.ones(10)], np.r_[["many"] * 1000, ["few"] * 10])
    assert fit_score_weights(masks)[1].bias == pytest.approx(0.5)


def test_images_without_masks_and_models_without_a_dense_head_are_refused():
    blank = LabelledImage(np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32), "blank")
    with pytest.raises(TrainingError, match="no mask was found"):
        score_masks(load_model("sam2_micro"), [blank])
