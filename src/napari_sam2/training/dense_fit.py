"""Train the dense head alone: the features of many crops are computed once, and everything but the head stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from napari_sam2._checks import check_count, check_number
from napari_sam2._errors import TrainingError
from napari_sam2.network.dense_head import DenseHead
from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import BatchPlan, known_labels
from napari_sam2.training.dataset import ClipSampler
from napari_sam2.training.dense import dense_distances, dense_loss
from napari_sam2.training.steps import normalise

__all__ = ["DenseFitSettings", "DensePool", "fit_dense_head", "make_pool"]

_ENCODED = 8  # crops together
_WARMUP = 40  # steps
_PIXEL_BLOCKS = "pixel_blocks."


@dataclass(frozen=True)
class DenseFitSettings:
    """How the dense head is trained alone.

    Attributes
    ----------
    stills : int
        Crops whose features are kept; of 256 pixels, each takes 0.6 MB.
    steps, batch : int
        Steps, and crops of each.
    learning_rate : float
        Of AdamW for the convolutions that see pixels; it falls to zero along a cosine.
    other_rate : float
        Learning rate of the other layers of the head, as a share of this.
    in_bfloat16 : bool
        Multiply in bfloat16, which takes two thirds of the time on a processor with bfloat16 instructions.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    stills: int = 4800
    steps: int = 1500
    batch: int = 12
    learning_rate: float = 1e-3
    other_rate: float = 0.25
    in_bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("stills", "steps", "batch"):
            check_count(name, getattr(self, name), 1)
        check_number("learning_rate", self.learning_rate, 0)
        check_number("other_rate", self.other_rate, 0, 1)


class DensePool(NamedTuple):
    """Crops, what the encoder makes of them, and what the head should.

    Attributes
    ----------
    images : Tensor
        (N, 3, S, S) uint8.
    embed, fine, middle : Tensor
        float16 features, see ``ImageEmbedding``.
    labels : Tensor
        (N, S, S) int32, see ``dense_loss``.
    distances : Tensor
        (N, 2, S/4, S/4) float16, see ``dense_distances``.
    """

    images: Tensor
    embed: Tensor
    fine: Tensor
    middle: Tensor
    labels: Tensor
    distances: Tensor


def fit_dense_head(
    model: SAM2,
    sampler: ClipSampler,
    plan: BatchPlan,
    *,
    seed: int = 0,
    settings: DenseFitSettings = DenseFitSettings(),
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train the dense head of a model, in place, and nothing else: masks of prompts stay as they are.

    Parameters
    ----------
    model : SAM2
        With a dense head, on a CPU.
    sampler : ClipSampler
        Where crops come from.
    plan : BatchPlan
        Its ``incomplete_sources`` and ``unlabelled_sources`` hold.
    seed : int, default 0
        Of crops and batches.
    settings : DenseFitSettings, optional
        How the head is trained.
    report : callable, optional
        Called after each step with its number, from 1, and its loss.

    Raises
    ------
    TrainingError
        If the model has no dense head.
    """
    if model.dense_head is None:
        raise TrainingError(f"{model.config.name} has no dense head; give sam2_micro or a model that has one")
    pool = make_pool(model, sampler, plan, settings.stills, np.random.default_rng(seed))
    _fit(model.dense_head, pool, seed, settings, report)


def make_pool(model: SAM2, sampler: ClipSampler, plan: BatchPlan, count: int, rng: np.random.Generator) -> DensePool:
    """Draw ``count`` crops and encode them; parameters as for `fit_dense_head`."""
    parts: list[DensePool] = []
    for start in range(0, count, _ENCODED):
        clips = [sampler.sample_still(rng) for _ in range(min(_ENCODED, count - start))]
        images = torch.from_numpy(np.concatenate([clip.frames for clip in clips])).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            encoded = model.encode_image(normalise(images.to(model.device)))
        embed, fine, middle = (each.half().cpu() for each in (encoded.embed, *encoded.high_res))
        labels = torch.from_numpy(np.concatenate([known_labels(clip, plan) for clip in clips]))
        distances = torch.from_numpy(np.stack([dense_distances(clip.labels[0]) for clip in clips]))
        parts.append(DensePool(images, embed, fine, middle, labels, distances))
    return DensePool(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _fit(
    head: DenseHead,
    pool: DensePool,
    seed: int,
    settings: DenseFitSettings,
    report: Callable[[int, float], None] | None,
) -> None:
    needed = {name: parameter.requires_grad for name, parameter in head.named_parameters()}
    head.requires_grad_(True)
    near = [p for name, p in head.named_parameters() if name.startswith(_PIXEL_BLOCKS)]
    other = [p for name, p in head.named_parameters() if not name.startswith(_PIXEL_BLOCKS)]
    groups = [{"params": near, "share": 1.0}, {"params": other, "share": settings.other_rate}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for step in range(settings.steps):
            rate = settings.learning_rate * min(1, (step + 1) / _WARMUP)
            rate *= 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            rows = torch.randint(len(pool.images), (settings.batch,), generator=generator)
            loss = _loss(head, pool, rows, settings)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            if report is not None:
                report(step + 1, loss.item())
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(needed[name])
        parameter.grad = None


def _loss(head: DenseHead, pool: DensePool, rows: Tensor, settings: DenseFitSettings) -> Tensor:
    device = head.out.weight.device
    images, embed, fine, middle, labels, distances = (column[rows].to(device) for column in pool)
    embedding = ImageEmbedding(embed.float(), (fine.float(), middle.float()))
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.in_bfloat16):
        logits = head(embedding, normalise(images))
    return dense_loss(logits, labels, distances)
