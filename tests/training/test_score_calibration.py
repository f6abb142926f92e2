"""Scores are fitted to the true IoU; masks, their order and the scores of tracked frames stay."""

import numpy as np
import pytest
import torch

from factories import make_model
from napari_sam2 import Prompt, PromptError, SAM2ImagePredictor, TrainingError
from napari_sam2.training.packs import LabelledStack
from napari_sam2.training.score_calibration import (
    HeadCalls,
    ScoreRows,
    ScoreSettings,
    calibrate_scores,
    fit_scores,
    prompted_rows,
    tracked_rows,
)

FEW = ScoreSettings(crop=64, crops_per_kind=1, objects_per_crop=2, frames_per_crop=3, tracked_per_crop=2, steps=30)


def discs(num_frames: int = 1) -> LabelledStack:
    """Two discs on every frame."""
    y, x = np.mgrid[:64, :64]
    labels = np.zeros((num_frames, 64, 64), np.int32)
    labels[:, (y - 20) ** 2 + (x - 20) ** 2 < 80] = 1
    labels[:, (y - 44) ** 2 + (x - 40) ** 2 < 120] = 2
    return LabelledStack((labels > 0).astype(np.uint8) * 180, labels, "discs/0", "discs", is_sequence=num_frames > 1)


def test_rows_hold_what_the_head_was_given_and_the_iou_of_the_masks():
    model = make_model(native_window=32)
    rows = prompted_rows(model, [discs()], np.random.default_rng(0), FEW)
    with torch.no_grad():
        scores = model.sam_mask_decoder.iou_prediction_head(rows.calls.tokens)
    np.testing.assert_allclose(scores, rows.calls.scores, atol=1e-5)
    known = rows.true[~rows.true.isnan()]
    assert known.min() >= 0
    assert known.max() <= 1
    # a click and a box give three masks, a box alone also a single one
    assert set((~rows.true.isnan()).sum(1).tolist()) == {1, 3}
    assert rows.weights.mean() == pytest.approx(1)


def test_tracked_frames_are_recorded_in_sequences_only():
    rows = tracked_rows(make_model(native_window=32), [discs(4), discs()], np.random.default_rng(0), FEW)
    assert rows is not None
    assert len(rows.tokens) >= 4
    assert rows.scores.shape == (len(rows.tokens), 4)
    assert tracked_rows(make_model(), [discs()], np.random.default_rng(0), FEW) is None


def test_scores_come_to_the_truth_in_the_same_order_and_tracked_ones_stay():
    model = make_model()
    head = model.sam_mask_decoder.iou_prediction_head
    generator = torch.Generator().manual_seed(1)
    tokens, tracked = (torch.randn(64, head.layers[0].in_features, generator=generator) for _ in range(2))
    tracked = tracked + 3
    with torch.no_grad():
        before, kept = head(tokens), head(tracked)
    true = (before + 0.2).clamp(max=0.95)
    fit_scores(
        model,
        ScoreRows(HeadCalls(tokens, before), true, torch.ones(64), torch.arange(64) // 4),
        HeadCalls(tracked, kept),
        ScoreSettings(steps=120, batch=64, learning_rate=1e-3),
    )
    with torch.no_grad():
        after, still = head(tokens), head(tracked)
    assert (after - true).abs().mean() < 0.25 * (before - true).abs().mean()
    assert (still - kept).abs().mean() < 0.03
    same = after[:, 1:].argmax(1) == before[:, 1:].argmax(1)
    assert same.float().mean() > 0.9
    assert all(parameter.grad is None for parameter in model.parameters())


def test_only_the_scores_of_a_model_change():
    model = make_model(native_window=32)
    stack = discs(3)
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(stack.frames[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = predictor.predict(Prompt(box=(10, 10, 30, 30))).masks
    calibrate_scores(model, [stack], seed=3, settings=FEW)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("sam_mask_decoder.iou_prediction_head.") for name in changed)
    np.testing.assert_array_equal(predictor.predict(Prompt(box=(10, 10, 30, 30))).masks, masks)


def test_images_without_objects_are_refused():
    empty = LabelledStack(np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64), np.int32), "empty/0")
    with pytest.raises(TrainingError, match="no object was found in the images"):
        calibrate_scores(make_model(), [empty], settings=FEW)


def test_settings_are_checked():
    with pytest.raises(PromptError, match="steps=0"):
        ScoreSettings(steps=0)
