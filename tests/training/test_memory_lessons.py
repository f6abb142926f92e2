"""The memory taught alone: from saturated attention to features that show where the object is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from factories import make_config
from napari_sam2._errors import TrainingError
from napari_sam2.network.attention import RotaryMemoryAttention
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training import memory_lessons
from napari_sam2.training.batches import Batch, BatchPlan, BatchStream
from napari_sam2.training.dataset import ClipSampler, SyntheticSource
from napari_sam2.training.initialise import MEMORY_PARTS, initialise, restart_memory
from napari_sam2.training.loop import Phase, TrainConfig, Trainer
from napari_sam2.training.memory_lessons import MemoryLessons, teach_memory
from napari_sam2.training.steps import normalise

CLIPS = BatchPlan(crop=64, clips=2, objects_per_clip=2, num_frames=3, clip_share=1.0)


def make_network() -> SAM2:
    model = SAM2(make_config())
    initialise(model, 0)
    return model


def draw(count: int) -> list[Batch]:
    return list(BatchStream(ClipSampler([SyntheticSource()], size=64), CLIPS, seed=1, start=0, stop=count))


def is_memory(name: str) -> bool:
    return name.startswith(MEMORY_PARTS)


@torch.inference_mode()
def test_new_memories_have_unit_scale_and_show_the_mask():
    model = make_network()
    batch = draw(1)[0]
    embedding = model.encode_image(normalise(batch.images[:, 0]))
    with torch.no_grad():  # features as large as trained ones, which saturate an attention that is not made for them
        embedding.embed.mul_(30)
    masks = batch.truths[:, 0].float()[:, None]
    restart_memory(model, 0, embedding.embed, masks, batch.image_index)
    rows = embedding.rows(batch.image_index)
    memory = model.encode_memory(rows, masks * 20 - 10, torch.ones(len(masks), 1), binarise=True)
    nothing = model.encode_memory(rows, -torch.ones_like(masks), torch.ones(len(masks), 1), binarise=True)
    assert memory.std((0, 2, 3)).sub(1).abs().max() < 0.01
    inside = torch.nn.functional.adaptive_avg_pool2d(masks, memory.shape[-1])[:, 0] > 0.5
    change = (memory - nothing).square().mean(1).sqrt()
    assert change[inside].mean() > 0.5


@pytest.mark.parametrize("is_taught", [True, False])
def test_lessons_teach_where_the_object_is_and_change_the_memory_alone(is_taught: bool, monkeypatch):
    model = make_network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses: list[float] = []
    lesson = memory_lessons._lesson

    def noted(*given):
        loss = lesson(*given)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(memory_lessons, "_lesson", noted)
    lessons = MemoryLessons(steps=60 if is_taught else 0, learning_rate=3e-3, per_batch=10)
    teach_memory(model, draw(6), lessons, weight_decay=0.01, clip_norm=1.0, seed=0)
    changed = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert all(p.requires_grad for p in model.parameters())
    if not is_taught:
        assert not changed
        return
    assert changed
    assert all(is_memory(name) for name in changed)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])
    attended = []
    forward = RotaryMemoryAttention.forward

    def watched(self, x, memory, position, num_pointer_tokens, table, products=None):
        memory = memory.detach().requires_grad_()
        out = forward(self, x, memory, position, num_pointer_tokens, table, products)
        gradient = torch.autograd.grad(out.square().sum(), memory, retain_graph=True)[0].abs().mean((0, 2))
        split = len(gradient) - num_pointer_tokens
        attended.append(float(gradient[:split].sum() / gradient.sum()))
        return out

    monkeypatch.setattr(RotaryMemoryAttention, "forward", watched)
    lesson(model, memory_lessons._encode(model, draw(1)[0]), np.random.default_rng(0))
    assert min(attended) > 0.5  # spatial memories, not pointers alone


def test_too_few_batches_are_an_error():
    with pytest.raises(TrainingError, match="ended after 2 of 9 lessons; give more"):
        teach_memory(
            make_network(), draw(1), MemoryLessons(steps=9, per_batch=2), weight_decay=0.0, clip_norm=1.0, seed=0
        )


def test_run_begins_with_its_lessons_once(tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGS, "test", make_config(name="test"))
    taught: list[int] = []

    def teach(model, batches, lessons, **_):
        taught.append(lessons.steps)
        assert next(iter(batches)).num_frames == 3

    monkeypatch.setattr("napari_sam2.training.loop.teach_memory", teach)
    plan = BatchPlan(crop=64, stills=2, objects_per_still=2, clips=1, objects_per_clip=2, num_frames=3, clip_share=0.5)
    config = TrainConfig(model="test", phases=(Phase(2, plan),), memory_lessons=MemoryLessons(steps=5))
    for stop in (1, 2):
        trainer = Trainer(config, [SyntheticSource()], tmp_path / "run", device=torch.device("cpu"), num_workers=0)
        trainer.run(stop=stop)
    assert taught == [5]
    assert trainer.memory_matched
