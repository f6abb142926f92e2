"""The dense head is trained alone: it learns, and nothing else changes."""

import numpy as np
import pytest
import torch

from factories import make_config, make_model
from napari_sam2 import PromptError, TrainingError
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import BatchPlan
from napari_sam2.training.crops import CropConfig
from napari_sam2.training.dataset import ClipSampler, SyntheticSource
from napari_sam2.training.dense_fit import DenseFitSettings, fit_dense_head, make_pool

FEW = DenseFitSettings(stills=6, steps=40, batch=4, learning_rate=3e-3)


def sampler() -> ClipSampler:
    return ClipSampler([SyntheticSource()], size=64, crop=CropConfig(reference_size=64))


@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_the_head_learns_and_nothing_else_changes(in_bfloat16: bool):
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses: dict[int, float] = {}
    settings = DenseFitSettings(**(vars(FEW) | {"in_bfloat16": in_bfloat16}))
    fit_dense_head(model, sampler(), BatchPlan(), settings=settings, report=losses.__setitem__)
    assert list(losses) == list(range(1, 41))
    assert np.mean(list(losses.values())[-8:]) < 0.9 * np.mean(list(losses.values())[:8])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith("dense_head.")}


def test_the_same_seed_gives_the_same_head():
    first, second = make_model(), make_model()
    for model in (first, second):
        fit_dense_head(model, sampler(), BatchPlan(), seed=3, settings=FEW)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_what_is_not_labelled_is_unknown_in_incomplete_sources():
    plan = BatchPlan(incomplete_sources=("synthetic",))
    pool = make_pool(make_model(), sampler(), plan, 3, np.random.default_rng(0))
    assert pool.images.shape == (3, 3, 64, 64)
    assert pool.labels.min() == -1
    assert not (pool.labels == 0).any()


def test_a_model_without_a_dense_head_is_refused():
    with pytest.raises(TrainingError, match="has no dense head"):
        fit_dense_head(SAM2(make_config(has_dense_head=False)), sampler(), BatchPlan(), settings=FEW)


@pytest.mark.parametrize("wrong", [{"stills": 0}, {"steps": -1}, {"learning_rate": float("nan")}, {"other_rate": 2}])
def test_settings_that_are_not_allowed_are_refused(wrong):
    with pytest.raises(PromptError, match=next(iter(wrong))):
        DenseFitSettings(**wrong)
