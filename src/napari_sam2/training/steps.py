"""One training step: stills with corrections, or clips with memory; batch in, loss out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.network.features import DecodedMasks, ImageEmbedding, MemoryBatch, ModelPrompt
from napari_sam2.network.sam2 import LAST_MASK_LIMIT, SAM2
from napari_sam2.training.batches import Batch
from napari_sam2.training.click_simulation import SimulatedPrompt, correction_clicks
from napari_sam2.training.dense import dense_loss
from napari_sam2.training.losses import LossWeights, PromptLoss, prompt_loss

__all__ = [
    "MEMORY_ONLY_SHARE",
    "ClipMemory",
    "StepLog",
    "clip_step",
    "moved_masks",
    "normalise",
    "rough_logits",
    "still_step",
]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
MEMORY_ONLY_SHARE = 0.15  # of clip batches, unless a run asks for another
_MOVED_SHARE = 0.75  # of still batches: their mask prompts are those of an earlier frame, moved and misshapen
_ABSENCE_SHARE = 0.12  # of clip batches


class StepLog:
    """Running sums of the IoU of the shown masks, per kind of prompt, and of other figures."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(list)

    def add(self, kind: str, loss: PromptLoss) -> None:
        """Note one decoder call."""
        self._sums[kind].append(float(loss.shown_iou))

    def note(self, name: str, value: float) -> None:
        """Note another figure of a step."""
        self._sums[name].append(value)

    def means(self) -> dict[str, float]:
        """Mean per kind since the last call, which empties the log."""
        out = {kind: float(np.mean(values)) for kind, values in sorted(self._sums.items())}
        self._sums.clear()
        return out


def normalise(images: Tensor) -> Tensor:
    """(..., 3, S, S) uint8 -> float32 as the image encoder wants it."""
    mean = torch.tensor(_MEAN, device=images.device)[:, None, None]
    std = torch.tensor(_STD, device=images.device)[:, None, None]
    return (images.float() / 255 - mean) / std


def _kind(prompt: SimulatedPrompt) -> str:
    if prompt.mask is not None:
        return "mask"
    return "click" if prompt.box is None else "box"


def _model_prompt(prompts: list[SimulatedPrompt], truths: Tensor) -> ModelPrompt:
    """Prompts of one kind; a mask prompt becomes rough logits of the truth."""
    kind = _kind(prompts[0])
    device = truths.device
    if kind == "mask":
        return ModelPrompt(mask=rough_logits(truths.float()[:, None]))
    if kind == "box":
        corners = np.stack([p.box.reshape(2, 2) for p in prompts if p.box is not None])
        labels = torch.tensor([[2, 3]], dtype=torch.int32, device=device).expand(len(prompts), -1)
        return ModelPrompt(torch.from_numpy(corners).float().to(device), labels)
    points = np.stack([p.points[:1] for p in prompts])
    return ModelPrompt(
        torch.from_numpy(points).float().to(device), torch.ones(len(prompts), 1, dtype=torch.int32, device=device)
    )


def rough_logits(masks: Tensor) -> Tensor:
    """(N, 1, S, S) coverage -> logits within +-10 on the grid of the decoder's masks."""
    side = masks.shape[-1] // 4
    return (2 * F.adaptive_avg_pool2d(masks, (side, side)) - 1) * 10


def moved_masks(truths: Tensor, rng: np.random.Generator) -> ModelPrompt:
    """Mask prompts as a tracked frame gets them: where the object was, at the size and shape that it had.

    Parameters
    ----------
    truths : Tensor
        (N, S, S) bool.
    rng : numpy.random.Generator
        Of shifts, turns, growth and dents.
    """
    count, size = len(truths), truths.shape[-1]
    masks = truths.float()[:, None]
    coverage = masks.flatten(1).sum(1).clamp(min=1)
    place = (torch.arange(size, device=masks.device) + 0.5) * 2 / size - 1  # as grid_sample counts
    centre = torch.stack(((masks * place).flatten(1).sum(1), (masks * place[:, None]).flatten(1).sum(1)), 1)
    centre = centre / coverage[:, None]
    extent = 2 * coverage.sqrt() / size

    def normal(scale: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(0, scale, shape)).float().to(masks.device)

    reach = torch.from_numpy(rng.uniform(0, 0.25, (count, 1))).float().to(masks.device)
    shift = normal(1.0, count, 2) * reach * extent[:, None]
    growth, angle = normal(0.1, count).exp(), normal(0.1, count)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).unflatten(1, (2, 2))
    turn = turn / growth[:, None, None]
    offset = centre - (turn @ (centre + shift)[..., None])[..., 0]
    grid = F.affine_grid(torch.cat((turn, offset[..., None]), 2), list(masks.shape), align_corners=False)
    moved = F.grid_sample(masks, grid, align_corners=False)
    dents = F.interpolate(normal(0.25, count, 1, size // 8, size // 8), size=(size, size), mode="bilinear")
    dents = dents * torch.from_numpy(rng.uniform(0, 1, (count, 1, 1, 1))).float().to(masks.device)
    moved = (F.avg_pool2d(moved, 7, stride=1, padding=3) + dents > 0.5).float()
    certainty = torch.from_numpy(rng.uniform(0.3, 1, (count, 1, 1, 1))).float().to(masks.device)
    return ModelPrompt.without_points(count, masks.device, rough_logits(moved) * certainty)


def _corrected(
    prompt: ModelPrompt, decoded: DecodedMasks, truths: Tensor, *, ambiguous: bool, rng: np.random.Generator
) -> ModelPrompt:
    """The prompt with one more click in the error of the shown mask, and that mask's logits fed back."""
    logits = decoded.logits.detach().float()
    row = torch.arange(len(logits), device=logits.device)
    shown = logits[row, decoded.iou[:, 1:].argmax(1) + 1 if ambiguous else torch.zeros_like(row)]
    size = truths.shape[-1]
    predicted = F.interpolate(shown[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0] > 0
    clicks, kinds = correction_clicks(truths, predicted, rng)
    points, labels = clicks[:, None], kinds[:, None]
    if prompt.points is not None and prompt.labels is not None:
        points, labels = torch.cat((prompt.points, points), 1), torch.cat((prompt.labels, labels), 1)
    return ModelPrompt(points, labels, shown[:, None].clamp(-32, 32))


def still_step(
    model: SAM2,
    batch: Batch,
    *,
    weights: LossWeights,
    rng: np.random.Generator,
    num_corrections: int,
    log: StepLog,
) -> Tensor:
    """Loss of a batch of stills: each first prompt, then ``num_corrections`` clicks drawn from the error."""
    device = model.device
    images = normalise(batch.images[:, 0].to(device))
    embedding = model.encode_image(images)
    features = model.without_memory(embedding)
    truths = batch.truths[:, 0].to(device)
    origin = _random_origin(model, embedding.image_size, rng)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, simulated in enumerate(batch.prompts):
        groups[_kind(simulated)].append(i)
    total = truths.new_zeros((), dtype=torch.float32)
    for kind, members in groups.items():
        rows = torch.tensor(members, device=device)
        where = batch.image_index.to(device)[rows]
        high_res = (embedding.high_res[0][where], embedding.high_res[1][where])
        is_moved = kind == "mask" and rng.random() < _MOVED_SHARE
        first = name = "moved" if is_moved else kind
        if is_moved:
            prompt = moved_masks(truths[rows], rng)
        else:
            prompt = _model_prompt([batch.prompts[i] for i in members], truths[rows])
        present = truths[rows].flatten(1).any(1)
        hidden = batch.hidden.to(device)[rows]
        others = _others_of(batch, rows) if kind == "click" else None
        for round_ in range(num_corrections + 1):
            ambiguous = name in ("click", "moved")
            decoded = model.decode_all(features[where], high_res, prompt, origin=origin)
            loss = prompt_loss(
                decoded, truths[rows], present, ambiguous=ambiguous, weights=weights, hidden=hidden,
                others=None if round_ else others,
            )  # fmt: skip
            total = total + loss.total * (len(members) / len(batch.prompts))
            if bool(present.any()):
                log.add(name, loss)
            if not round_ and not bool(present.all()):
                log.note("empty noticed", float((decoded.object_score[~present] <= 0).float().mean()))
            if round_ < num_corrections:
                prompt = _corrected(prompt, decoded, truths[rows], ambiguous=ambiguous, rng=rng)
                name = f"{first}+{round_ + 1}"
    return total / (num_corrections + 1) + _dense_term(
        model, embedding, images, batch.labels[:, 0], batch.distances[:, 0], weights, log
    )


def _others_of(batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows among ``rows`` and masks of what else their clicks may mean."""
    device = rows.device
    place = torch.full((len(batch.prompts),), -1, device=device)
    place[rows] = torch.arange(len(rows), device=device)
    within = place[batch.other_of.to(device)]
    is_here = within >= 0
    return within[is_here], batch.others.to(device)[is_here]


def _dense_term(
    model: SAM2,
    embedding: ImageEmbedding,
    images: Tensor,
    labels: Tensor,
    distances: Tensor,
    weights: LossWeights,
    log: StepLog,
) -> Tensor | float:
    """The weighed loss of the head that sees all objects of the images (B, ...), if there is one."""
    if model.dense_head is None or not weights.dense:
        return 0.0
    device = embedding.embed.device
    loss = dense_loss(model.dense_head(embedding, images), labels.to(device), distances.to(device))
    log.note("dense", float(loss.detach()))
    return weights.dense * loss


def _random_origin(model: SAM2, image_size: int, rng: np.random.Generator) -> float | None:
    """Where the crop lies in the prompt encoder's position frame: anywhere, so that only distances matter."""
    frame = model.config.position_frame
    return None if frame is None else float(rng.uniform(0, max(frame - image_size, 0)))


def clip_step(
    model: SAM2,
    batch: Batch,
    *,
    weights: LossWeights,
    rng: np.random.Generator,
    correction_share: float,
    memory_only_share: float = MEMORY_ONLY_SHARE,
    log: StepLog,
) -> Tensor:
    """Loss of a batch of clips: prompted on the first frame, tracked through the others.

    The objects of all clips are followed together. As at inference, the mask with the best predicted IoU goes
    into the memory. With probability ``correction_share`` one tracked frame is corrected by a click on every
    object, and stays a prompted frame in their memories.
    """
    device = model.device
    num_frames = batch.num_frames
    batch = _with_absences(batch, rng)
    images = normalise(batch.images.to(device)).flatten(0, 1)  # (B, T, ...) -> (B * T, ...)
    encoded = model.encode_image(images)
    where = batch.image_index.to(device)
    truths = batch.truths.to(device)
    corrected_frame = int(rng.integers(1, num_frames)) if rng.random() < correction_share else -1
    follows = model.config.follows_last_mask and rng.random() >= memory_only_share
    last_mask: ModelPrompt | None = None
    memory = ClipMemory(model)
    kind = _kind(batch.prompts[0])
    total = truths.new_zeros((), dtype=torch.float32)
    for t in range(num_frames):
        embedding = encoded.rows(where * num_frames + t)
        truth = truths[:, t]
        present = truth.flatten(1).any(1)
        features = memory.features(embedding, t) if t else model.without_memory(embedding)
        prompt = _model_prompt(list(batch.prompts), truth) if t == 0 else last_mask
        ambiguous = t > 0 or kind == "click"
        found = model.segment_frame(features, embedding.high_res, prompt, multimask=ambiguous)
        loss = prompt_loss(found.candidates, truth, present, ambiguous=ambiguous, weights=weights)
        log.add(f"clip {kind}" if t == 0 else "tracked" if follows else "tracked from memory", loss)
        total = total + loss.total
        if t == corrected_frame:
            prompt = _corrected(ModelPrompt(), found.candidates, truth, ambiguous=True, rng=rng)
            found = model.segment_frame(features, embedding.high_res, prompt, multimask=True)
            loss = prompt_loss(found.candidates, truth, present, ambiguous=True, weights=weights)
            log.add("tracked+1", loss)
            total = total + loss.total
        if t == 0 and kind == "mask" and prompt is not None and prompt.mask is not None:
            found = found._replace(logits=prompt.mask)  # as when tracking: the user's own mask is taken as it is
        is_prompted = t in (0, corrected_frame)
        memory.add(embedding, found.logits, found.object_score, found.pointer, t, is_prompted=is_prompted)
        if follows:
            last_mask = ModelPrompt(mask=found.logits.detach().clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT))
    return total / num_frames + _dense_term(
        model, encoded, images, batch.labels.flatten(0, 1), batch.distances.flatten(0, 1), weights, log
    )


def _with_absences(batch: Batch, rng: np.random.Generator) -> Batch:
    """In some batches the clips go on with each other's frames: the objects are gone, which is to be noticed."""
    if len(batch.images) < 2 or rng.random() >= _ABSENCE_SHARE:
        return batch
    cut = int(rng.integers(1, batch.num_frames))
    images, truths = batch.images.clone(), batch.truths.clone()
    labels, distances = batch.labels.clone(), batch.distances.clone()
    images[:, cut:] = batch.images.roll(1, 0)[:, cut:]
    labels[:, cut:] = batch.labels.roll(1, 0)[:, cut:]
    distances[:, cut:] = batch.distances.roll(1, 0)[:, cut:]
    truths[:, cut:] = False
    return replace(batch, images=images, truths=truths, labels=labels, distances=distances)


class ClipMemory:
    """Memories of all objects of a clip batch, which share one layout in time."""

    def __init__(self, model: SAM2) -> None:
        self.model = model
        self.prompted: dict[int, tuple[Tensor, Tensor]] = {}
        self.tracked: dict[int, tuple[Tensor, Tensor]] = {}

    def add(
        self,
        embedding: ImageEmbedding,
        logits: Tensor,
        object_score: Tensor,
        pointer: Tensor,
        frame: int,
        *,
        is_prompted: bool,
    ) -> None:
        """Remember the masks (N, 1, h, w), presence scores (N, 1) and pointers (N, C) of a frame."""
        features = self.model.encode_memory(embedding, logits, object_score, binarise=is_prompted)
        (self.prompted if is_prompted else self.tracked)[frame] = (features, pointer)

    def features(self, embedding: ImageEmbedding, frame: int) -> Tensor:
        """Features (N, C, h, w) of a frame, conditioned on the memories of the frames before."""
        config = self.model.config
        spatial = [(features, config.num_memories - 1) for features, _ in self.prompted.values()]
        spatial += [
            (self.tracked[frame - distance][0], distance - 1)
            for distance in range(config.num_memories - 1, 0, -1)
            if frame - distance in self.tracked
        ]
        pointers = [(frame - t, pointer) for t, (_, pointer) in self.prompted.items()]
        pointers += [(frame - t, self.tracked[t][1]) for t in sorted(self.tracked, reverse=True)]
        return self.model.attend_to_memory(
            embedding,
            MemoryBatch(
                tuple(features for features, _ in spatial),
                tuple(slot for _, slot in spatial),
                torch.stack([pointer for _, pointer in pointers], dim=1),
                tuple(float(offset) for offset, _ in pointers),
                config.max_pointers - 1,
            ),
        )
