"""Teach the memory alone: a tracked frame is to look to the mask decoder like a frame with a mask prompt."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from napari_sam2._errors import TrainingError
from napari_sam2.network.features import ImageEmbedding, ModelPrompt
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import Batch
from napari_sam2.training.initialise import MEMORY_PARTS, restart_memory
from napari_sam2.training.muon import Muon, linear_matrices
from napari_sam2.training.steps import ClipMemory, moved_masks, normalise, rough_logits

__all__ = ["MemoryLessons", "start_memory_on", "teach_memory"]

logger = logging.getLogger(__name__)

_PRESENT = 10.0  # object score of an object that is there
_MOVED = 0.5  # share of the tracked masks that are misshapen
_REPORT = 100


@dataclass(frozen=True)
class MemoryLessons:
    """How the memory is taught alone.

    Attributes
    ----------
    steps : int
        Number of updates; with 0 there are no lessons, and the memory stays as it is.
    learning_rate : float
        Of Muon for matrices and of AdamW for the rest. It falls to zero over the last third of the steps.
    kept_batches : int
        Number of encoded batches that are kept and used again.
    per_batch : int
        Updates for each batch that is encoded: one with it, the others with batches that are kept.
    """

    steps: int = 0
    learning_rate: float = 1.5e-3
    kept_batches: int = 500
    per_batch: int = 3


@dataclass(frozen=True, eq=False)
class _EncodedClips:
    """Features of a batch of clips, truths of its objects, and the tokens that become their pointers."""

    embed: Tensor
    image_index: Tensor
    truths: Tensor
    tokens: tuple[Tensor, ...] = field(repr=False)

    def frame(self, t: int) -> ImageEmbedding:
        """Features of one frame for each object; the finer levels are not needed."""
        rows = self.embed[self.image_index * self.truths.shape[1] + t]
        return ImageEmbedding(rows, (rows[..., :0], rows[..., :0]))


def teach_memory(
    model: SAM2, batches: Iterable[Batch], lessons: MemoryLessons, *, weight_decay: float, clip_norm: float, seed: int
) -> None:
    """Train the memory encoder, the memory attention and the object pointers of a model from new starting values.

    Parameters
    ----------
    model : SAM2
        Its image encoder, prompt encoder and mask decoder are used and remain as they are.
    batches : iterable of Batch
        Clips; as many as are needed are drawn.
    lessons : MemoryLessons
        Number of updates and their rate.
    weight_decay, clip_norm : float
        Of the optimizer; largest norm of the gradient.
    seed : int
        Of starting values and of the masks in memory.

    Raises
    ------
    TrainingError
        If there are too few batches.

    Notes
    -----
    If the last mask is a prompt of each tracked frame, as in `sam2_micro`, it is so good a hint that a network can do
    without its memory: the attention then rests on the object pointers alone, the memory encoder gets no gradient, and
    small errors of the mask add up from frame to frame. Here there is no last mask, and no mask decoder either. The
    target of the features of a frame, conditioned on memories, is their sum with the encoding of the true mask as a
    prompt; the loss is the squared difference. An object that is gone adds nothing.
    """
    rng = np.random.default_rng([seed, 3])
    stream = iter(batches)
    kept: list[_EncodedClips] = []
    done = 0
    parts = [p for name, p in model.named_parameters() if name.startswith(MEMORY_PARTS)]
    optimizers = _optimizers(model, parts, lessons, weight_decay)
    requires = {name: p.requires_grad for name, p in model.named_parameters()}
    losses: list[float] = []
    try:
        model.requires_grad_(False)
        for parameter in parts:
            parameter.requires_grad_(True)
        while done < lessons.steps:
            batch = next(stream, None)
            if batch is None:
                raise TrainingError(f"the batches ended after {done} of {lessons.steps} lessons; give more of them")
            if batch.num_frames < 2:
                continue
            if not kept:
                start_memory_on(model, batch, seed)
            clips = _encode(model, batch)
            if len(kept) < lessons.kept_batches:
                kept.append(clips)
            else:
                kept[int(rng.integers(len(kept)))] = clips
            for again in range(min(lessons.per_batch, lessons.steps - done)):
                chosen = kept[int(rng.integers(len(kept)))] if again else clips
                loss = _lesson(model, chosen, rng)
                rate = lessons.learning_rate * min(1.0, (done + 1) / 30, (1 - done / lessons.steps) * 3)
                _update(optimizers, loss, parts, rate, clip_norm)
                losses.append(float(loss.detach()))
                done += 1
                if done % _REPORT == 0:
                    logger.info("memory lesson %d: loss %.3f", done, np.mean(losses[-_REPORT:]))
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(requires[name])


def start_memory_on(model: SAM2, batch: Batch, seed: int) -> None:
    """Give the memory starting values that fit the features of a batch, see ``restart_memory``."""
    images = normalise(batch.images[:, 0].to(model.device))
    with torch.no_grad():
        features = model.encode_image(images).embed
    restart_memory(
        model, seed, features, batch.truths[:, 0].float()[:, None].to(model.device), batch.image_index.to(model.device)
    )


def _optimizers(
    model: SAM2, parts: list[nn.Parameter], lessons: MemoryLessons, weight_decay: float
) -> list[torch.optim.Optimizer]:
    taught = {id(p) for p in parts}
    matrices = [p for p in linear_matrices(model) if id(p) in taught]
    rest = [p for p in parts if id(p) not in {id(each) for each in matrices}]
    muon = Muon([{"params": matrices}], lr=lessons.learning_rate, weight_decay=weight_decay)
    return [muon, torch.optim.AdamW(rest, lr=lessons.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)]


def _update(
    optimizers: list[torch.optim.Optimizer], loss: Tensor, parts: list[nn.Parameter], rate: float, clip_norm: float
) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parts, clip_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


@torch.no_grad()
def _encode(model: SAM2, batch: Batch) -> _EncodedClips:
    device = model.device
    encoded = model.encode_image(normalise(batch.images.to(device)).flatten(0, 1))  # (B, T, ...) -> (B * T, ...)
    where, truths = batch.image_index.to(device), batch.truths.to(device)
    tokens = []
    for t in range(batch.num_frames):
        frame = encoded.rows(where * batch.num_frames + t)
        prompt = ModelPrompt(mask=rough_logits(truths[:, t].float()[:, None]))
        found = model.segment_frame(model.without_memory(frame), frame.high_res, prompt, multimask=False)
        tokens.append(found.candidates.tokens[:, 0])
    return _EncodedClips(encoded.embed, where, truths, tuple(tokens))


def _lesson(model: SAM2, clips: _EncodedClips, rng: np.random.Generator) -> Tensor:
    """Loss of one frame of each clip, tracked from memories of the true masks of the frames before."""
    num_frames = clips.truths.shape[1]
    t = int(rng.integers(1, num_frames))
    memory = ClipMemory(model)
    for earlier in range(t):
        if earlier and t - earlier >= model.config.num_memories:
            continue
        present = clips.truths[:, earlier].flatten(1).any(1, keepdim=True)
        logits = _remembered(clips.truths[:, earlier], rng, is_prompted=earlier == 0)
        logits = torch.where(present[..., None, None], logits, -_PRESENT)
        score = (2 * present.float() - 1) * _PRESENT
        pointer = model.object_pointer(clips.tokens[earlier], present)
        memory.add(clips.frame(earlier), logits, score, pointer, earlier, is_prompted=earlier == 0)
    frame = clips.frame(t)
    truth = clips.truths[:, t].float()[:, None]
    with torch.no_grad():
        size = frame.image_size
        change = _dense_prompt(model, rough_logits(truth), size) - _dense_prompt(model, None, size)
        change = change * truth.flatten(1).any(1)[:, None, None, None]
        target = model.without_memory(frame) + change
        unit = target.pow(2).mean()
    return (memory.features(frame, t) - target).pow(2).mean() / unit


def _remembered(truths: Tensor, rng: np.random.Generator, *, is_prompted: bool) -> Tensor:
    """Logits of masks in memory: the truth on the prompted frame, uncertain and often misshapen on tracked ones."""
    if not is_prompted and rng.random() < _MOVED:
        moved = moved_masks(truths, rng).mask
        assert moved is not None
        return moved
    return rough_logits(truths.float()[:, None]) * (1.0 if is_prompted else float(rng.uniform(0.4, 1)))


def _dense_prompt(model: SAM2, logits: Tensor | None, size: int) -> Tensor:
    """Encoding of a mask prompt, or of none, as it is added to the features."""
    count = 1 if logits is None else len(logits)
    prompt = ModelPrompt.without_points(count, model.device, logits)
    encoder = model.sam_prompt_encoder
    dense: Tensor = encoder(prompt, size, None, encoder.draw(prompt, size))[1]
    return dense
