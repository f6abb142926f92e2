"""Losses, steps and the loop: what falls, what is reproducible, what resumes."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy import ndimage

from factories import make_config
from napari_sam2._errors import TrainingError
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.features import DecodedMasks
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import BatchPlan, BatchStream, make_batch
from napari_sam2.training.dataset import ClipSampler, StackSource, SyntheticSource
from napari_sam2.training.initialise import initialise
from napari_sam2.training.loop import Phase, TrainConfig, Trainer, _sampler, load_train_config, save_weights
from napari_sam2.training.losses import LossWeights, mask_losses, prompt_loss
from napari_sam2.training.packs import LabelledStack
from napari_sam2.training.steps import StepLog, moved_masks, still_step

SMALL = BatchPlan(crop=64, stills=2, objects_per_still=2, clips=1, objects_per_clip=2, num_frames=3, clip_share=0.5)


def make_decoded(logits: torch.Tensor, iou: torch.Tensor, score: float = 5.0) -> DecodedMasks:
    count = len(logits)
    return DecodedMasks(logits, iou, torch.full((count, 1), score), torch.zeros(count, 4, 8))


def test_perfect_mask_has_almost_no_loss_and_iou_one():
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:10, 5:12] = 1
    loss, iou = mask_losses((2 * truth - 1)[:, None] * 20, truth, LossWeights())
    assert float(loss) < 0.01
    assert float(iou) == 1


def test_empty_mask_costs_more_than_a_rough_one():
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:10, 5:12] = 1
    rough = torch.roll(truth, 1, 1)
    weights = LossWeights(balanced=1.0)
    empty, _ = mask_losses(torch.full((1, 1, 16, 16), -3.0), truth, weights)
    shifted, _ = mask_losses((2 * rough - 1)[:, None] * 3, truth, weights)
    assert float(shifted) < float(empty)


def test_ambiguous_prompt_is_judged_by_its_best_candidate():
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    good = (2 * torch.nn.functional.avg_pool2d(truth, 2) - 1) * 20
    logits = torch.full((1, 4, 8, 8), -20.0)
    logits[:, 2] = good
    weights = LossWeights(iou=0, presence=0, other_branch=0)
    present = torch.ones(1, dtype=torch.bool)
    decoded = make_decoded(logits, torch.tensor([[0.1, 0.1, 0.9, 0.1]]))
    ambiguous = prompt_loss(decoded, truth, present, ambiguous=True, weights=weights)
    clear = prompt_loss(decoded, truth, present, ambiguous=False, weights=weights)
    assert float(ambiguous.total) < 0.1 < float(clear.total)
    assert float(ambiguous.shown_iou) == 1
    assert float(clear.shown_iou) == 0


def test_absent_object_trains_only_the_presence_score():
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    decoded = make_decoded(logits, torch.rand(1, 4))
    absent = torch.zeros(1, dtype=torch.bool)
    loss = prompt_loss(decoded, torch.zeros(1, 16, 16), absent, ambiguous=True, weights=LossWeights())
    loss.total.backward()
    assert loss.total.item() > 4
    assert float(logits.grad.abs().max()) == 0


def test_score_is_that_of_the_whole_object():
    truth = torch.zeros(2, 16, 16)
    truth[:, 4:12, 4:12] = 1
    logits = ((2 * torch.nn.functional.avg_pool2d(truth, 2) - 1) * 20)[:, None].expand(-1, 4, -1, -1)
    weights = LossWeights(focal=0, dice=0, presence=0, other_branch=0)
    present = torch.ones(2, dtype=torch.bool)
    half = make_decoded(logits, torch.full((2, 4), 0.5), score=5.0)
    hidden = torch.tensor([64.0, torch.nan])  # as much again lies outside; not known
    loss = prompt_loss(half, truth, present, ambiguous=True, weights=weights, hidden=hidden)
    assert float(loss.total) == pytest.approx(0, abs=1e-4)
    whole = prompt_loss(half, truth, present, ambiguous=True, weights=weights, hidden=torch.zeros(2))
    assert float(whole.total) == pytest.approx(0.25, abs=1e-4)


def test_other_objects_under_a_click_are_learned_by_the_candidate_that_is_nearest():
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    part = torch.zeros(1, 16, 16)
    part[:, 6:8, 6:8] = 1
    logits = torch.full((1, 4, 8, 8), -20.0)
    logits[:, 1] = (2 * torch.nn.functional.avg_pool2d(truth, 2)[0] - 1) * 20
    weights = LossWeights(iou=0, presence=0, other_branch=0)
    present = torch.ones(1, dtype=torch.bool)
    rows = torch.zeros(1, dtype=torch.int64)

    def total() -> float:
        decoded = make_decoded(logits, torch.rand(1, 4))
        return float(prompt_loss(decoded, truth, present, ambiguous=True, weights=weights, others=(rows, part)).total)

    without = total()
    logits[:, 2] = (2 * torch.nn.functional.avg_pool2d(part, 2)[0] - 1) * 20
    assert total() < 0.2 * without


def test_batches_are_the_same_for_the_same_seed_and_number():
    sampler = ClipSampler([SyntheticSource()], size=64)
    first = list(BatchStream(sampler, SMALL, seed=3, start=0, stop=3))
    again = list(BatchStream(sampler, SMALL, seed=3, start=1, stop=3))
    for a, b in zip(first[1:], again, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.truths, b.truths)
        assert all(np.array_equal(p.points, q.points) for p, q in zip(a.prompts, b.prompts, strict=True))


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(CONFIGS, "test", make_config(name="test"))
    return "test"


def make_trainer(folder, model: str, steps: int = 4, weights: LossWeights | None = None, **over) -> Trainer:
    phase = Phase(steps, SMALL, weights=weights or LossWeights())
    config = TrainConfig(model=model, phases=(phase,), warmup_steps=2, **over)
    return Trainer(config, [SyntheticSource()], folder, device=torch.device("cpu"), num_workers=0)


def test_stopped_and_resumed_training_equals_training_in_one_go(tmp_path, small_network):
    whole = make_trainer(tmp_path / "whole", small_network)
    whole.run(report_every=2)
    make_trainer(tmp_path / "parts", small_network).run(stop=2, report_every=2)
    resumed = make_trainer(tmp_path / "parts", small_network)
    assert resumed.step == 2
    resumed.run(report_every=2)
    for (name, a), (_, b) in zip(whole.average.named_parameters(), resumed.average.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name


def test_run_with_muon_and_the_dense_head_resumes_too(tmp_path, small_network):
    weights = LossWeights(dense=1.0)
    make = functools.partial(make_trainer, model=small_network, optimizer="muon", weights=weights)
    whole = make(tmp_path / "whole")
    whole.run(report_every=2)
    make(tmp_path / "parts").run(stop=2, report_every=2)
    resumed = make(tmp_path / "parts")
    resumed.run(report_every=2)
    assert len(resumed.optimizers) == 2
    assert resumed.model.dense_head is not None
    for (name, a), (_, b) in zip(whole.average.named_parameters(), resumed.average.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name
    with safe_open(tmp_path / "whole" / "weights.safetensors", "pt") as file:
        assert set(file.keys()) == set(whole.model.state_dict())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert all(line["dense"] > 0 for line in lines)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_layers_that_the_starting_weights_lack_begin_without_effect_and_learn_at_their_own_rate(
    tmp_path, monkeypatch, optimizer
):
    old = CONFIGS["sam2_micro"]
    monkeypatch.setitem(CONFIGS, "sam2_micro", replace(old, num_fine_blocks=0))
    model = SAM2(CONFIGS["sam2_micro"])
    initialise(model, 0)
    save_weights(model, tmp_path / "old.safetensors", metadata={})
    monkeypatch.setitem(CONFIGS, "sam2_micro", old)
    trainer = make_trainer(
        tmp_path / "new", "sam2_micro", start_from=str(tmp_path / "old.safetensors"), optimizer=optimizer, new_rate=5.0
    )
    fine_blocks = trainer.model.sam_mask_decoder.fine_blocks
    assert fine_blocks is not None
    assert not fine_blocks.exit.weight.any()
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    faster = {
        names[id(p)]
        for each in trainer.optimizers
        for group in each.param_groups
        for p in group["params"]
        if group.get("factor") == 5.0
    }
    assert faster == {name for name in names.values() if ".fine_blocks." in name}
    trainer.run(stop=1)
    rates = {group["lr"] for each in trainer.optimizers for group in each.param_groups}
    assert max(rates) == pytest.approx(5 * min(rates))
    assert fine_blocks.exit.weight.any()


def test_further_fine_blocks_begin_without_effect_and_all_of_them_learn_at_the_rate_of_new_layers(
    tmp_path, monkeypatch
):
    now = CONFIGS["sam2_micro"]
    fewer = replace(now, num_fine_blocks=now.num_fine_blocks - 1)
    model = SAM2(fewer)
    initialise(model, 0)
    assert model.sam_mask_decoder.fine_blocks is not None
    with torch.no_grad():
        model.sam_mask_decoder.fine_blocks.exit.weight.normal_()
    save_weights(model, tmp_path / "fewer.safetensors", metadata={})
    trainer = make_trainer(
        tmp_path / "new", "sam2_micro", start_from=str(tmp_path / "fewer.safetensors"), optimizer="muon", new_rate=5.0
    )
    before, after = model.sam_mask_decoder.fine_blocks, trainer.model.sam_mask_decoder.fine_blocks
    assert after is not None
    assert len(after.blocks) == len(before.blocks) + 1
    features = torch.randn(1, before.exit.out_channels // 4, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(after(features, None, None), before(features, None, None), atol=0.05)
    groups = [group for each in trainer.optimizers for group in each.param_groups if group.get("factor") == 5.0]
    assert sum(len(group["params"]) for group in groups) == len(list(after.parameters()))


def test_unknown_optimizer_is_refused(tmp_path, small_network):
    with pytest.raises(TrainingError, match="expected adamw or muon"):
        make_trainer(tmp_path, small_network, optimizer="sgd")


def test_run_with_products_in_bfloat16_learns_in_float32(tmp_path, small_network, monkeypatch):
    monkeypatch.setattr("napari_sam2.training.half_products._MIN_PRODUCTS", 0)
    config = TrainConfig(model=small_network, phases=(Phase(2, SMALL),), products="bfloat16", seed=1)
    trainer = Trainer(config, [SyntheticSource()], tmp_path / "half", device=torch.device("cpu"), num_workers=0)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.run()
    after = dict(trainer.model.named_parameters())
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in after.values())
    assert any(not torch.equal(before[name], p) for name, p in after.items())
    with pytest.raises(TrainingError, match="float32, tf32, bfloat16"):
        Trainer(replace(config, products="float8"), [], tmp_path / "other", device=torch.device("cpu"), num_workers=0)


def test_products_in_tf32_are_asked_for_while_the_run_lasts(tmp_path, small_network):
    config = TrainConfig(model=small_network, phases=(Phase(1, SMALL),), products="tf32")
    trainer = Trainer(config, [SyntheticSource()], tmp_path / "run", device=torch.device("cpu"), num_workers=0)
    seen = []
    trainer.run(report_every=1, on_report=lambda *_: seen.append(torch.get_float32_matmul_precision()))
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_clips_may_begin_with_prompts_of_their_own_mix():
    plan = replace(SMALL, clip_share=1.0, click_share=1.0, clip_prompts=(0.0, 0.0, 1.0))
    (batch,) = BatchStream(ClipSampler([SyntheticSource()], size=64), plan, seed=0, start=0, stop=1)
    assert all(prompt.mask is not None for prompt in batch.prompts)
    assert batch.labels.shape == batch.images[:, :, 0].shape


def test_empty_clicks_lie_on_background_and_teach_presence_only(small_network):
    plan = replace(SMALL, clip_share=0.0, empty_share=1.0, empty_sources=("synthetic",))
    sampler = ClipSampler([SyntheticSource()], size=64)
    found = 0
    for seed in range(4):
        batch = make_batch(sampler, plan, np.random.default_rng(seed))
        for row in np.flatnonzero(~batch.truths.flatten(1).any(1).numpy()):
            found += 1
            labels = batch.labels[batch.image_index[row], 0].numpy()
            ((x, y),) = batch.prompts[row].points.astype(int)
            assert batch.prompts[row].labels.tolist() == [1]
            assert not labels[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5].any()
            assert batch.truths[batch.image_index == batch.image_index[row]].any(), "beside objects, not instead"
    assert found >= 4
    for unlabelled in (replace(plan, empty_sources=("other",)), replace(plan, empty_share=0.0)):
        batch = make_batch(sampler, unlabelled, np.random.default_rng(0))
        assert batch.truths.flatten(1).any(1).all()

    torch.manual_seed(0)
    model, log = SAM2(CONFIGS[small_network]), StepLog()
    batch = make_batch(sampler, plan, np.random.default_rng(1))
    weights = LossWeights()
    loss = still_step(model, batch, weights=weights, rng=np.random.default_rng(0), num_corrections=1, log=log)
    assert torch.isfinite(loss)
    assert 0 <= log.means()["empty noticed"] <= 1


def test_run_leaves_weights_with_their_history_and_a_log(tmp_path, small_network):
    reports = []
    make_trainer(tmp_path, small_network, seed=5).run(report_every=2, on_report=lambda step, _: reports.append(step))
    assert reports == [2, 4]
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        metadata = file.metadata()
        assert file.get_tensor("no_obj_ptr").dtype == torch.float16
    assert json.loads(metadata["config"])["seed"] == 5
    assert metadata["step"] == "4"
    assert json.loads(metadata["sources"]) == ["synthetic"]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(np.isfinite(line["loss"]) for line in lines)


def test_rate_warms_up_and_decays_to_the_end(tmp_path, small_network):
    trainer = make_trainer(tmp_path, small_network, steps=100, decay_share=0.5, learning_rate=1.0)
    rates = []
    for step in (0, 1, 10, 50, 75, 99):
        trainer.step = step
        trainer._set_rate()
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.5, 0.02])


def test_configuration_is_read_from_json(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"seed": 2, "phases": [{"steps": 7, "plan": {"crop": 96}, "weights": {"focal": 1.0}}]}))
    config = load_train_config(path)
    assert config.num_steps == 7
    assert config.phases[0].plan.crop == 96
    assert config.phases[0].weights.focal == 1.0


@pytest.mark.parametrize("text", ["{", '{"seed": 1}', '{"phases": [{"stepps": 1}]}', '{"phases": [], "colour": 1}'])
def test_bad_configuration_is_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(TrainingError, match="fields of TrainConfig"):
        load_train_config(path)


def testmoved_masks_lie_near_their_objects_and_are_no_copies():
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    truths = torch.stack([(x - cx) ** 2 + (y - cy) ** 2 < 200 for cx, cy in ((30, 40), (60, 30), (50, 70))]).repeat(
        8, 1, 1
    )
    prompt = moved_masks(truths, np.random.default_rng(0))
    assert prompt.mask.shape == (24, 1, 24, 24)
    assert prompt.mask.abs().max() <= 10
    assert (prompt.labels == -1).all()
    shown = torch.nn.functional.interpolate(prompt.mask, size=(96, 96), mode="bilinear")[:, 0] > 0
    overlaps = (shown & truths).flatten(1).sum(1) / (shown | truths).flatten(1).sum(1)
    assert 0.5 < overlaps.median() < 0.95
    assert overlaps.std() > 0.03


def test_plans_may_show_objects_larger():
    labels = np.zeros((1, 256, 256), np.int32)
    labels[0, 118:138, 118:138] = 1
    source = StackSource("square", [LabelledStack(labels.astype(np.uint8) * 200, labels, "square")])

    def typical_side(plan: BatchPlan) -> float:
        sampler = _sampler([source], Phase(steps=1, plan=plan))
        batch = make_batch(sampler, plan, np.random.default_rng(3))
        return float(np.median([float(truth.sum()) ** 0.5 for truth in batch.truths]))

    usual = BatchPlan(crop=160, stills=20, clip_share=0.0)
    assert 20 < typical_side(usual) < 70
    assert 70 < typical_side(replace(usual, extents=(80.0, 130.0))) < 130


def test_plans_may_prompt_objects_that_touch_others_first():
    labels = np.zeros((1, 96, 96), np.int32)
    labels[0, 40:50, 36:46], labels[0, 40:50, 46:56] = 1, 2  # two that touch among many that do not
    for number, (y, x) in enumerate(((y, x) for y in (6, 22, 60, 76) for x in (4, 20, 36, 52, 68, 82)), start=3):
        labels[0, y : y + 10, x : x + 10] = number
    images = (labels > 0).astype(np.uint8) * 200
    source = StackSource("squares", [LabelledStack(images, labels, "squares")])
    plan = BatchPlan(crop=96, stills=24, clip_share=0.0, objects_per_still=2, extents=(10.0, 12.0))

    def touching(plan: BatchPlan) -> float:
        sampler = _sampler([source], Phase(steps=1, plan=plan))
        batch = make_batch(sampler, plan, np.random.default_rng(3))
        found = 0
        for truth, row in zip(batch.truths.numpy(), batch.image_index.tolist(), strict=True):
            own = batch.labels[row, 0].numpy()[truth[0]][0]
            around = batch.labels[row, 0].numpy()[ndimage.binary_dilation(truth[0], iterations=2)]
            found += bool(np.setdiff1d(around, (0, own)).size)
        return found / len(batch.truths)

    few, many = touching(plan), touching(replace(plan, contact_share=1.0))
    assert many > 2 * few, (few, many)
