"""Fit the predicted IoU of clicks and boxes to the true IoU. Masks, and their order by score, stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_sam2._checks import check_count, check_number
from napari_sam2._errors import TrainingError
from napari_sam2._types import Prompt
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
from napari_sam2.inference.views.click_search import ViewCandidates, keep_clicked_components
from napari_sam2.inference.views.transforms import masks_to_image
from napari_sam2.training.click_simulation import PromptMix, first_prompt, interior_point, tight_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.inference.views.view import View
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.training.packs import LabelledStack

__all__ = ["HeadCalls", "ScoreRows", "ScoreSettings", "calibrate_scores", "fit_scores", "prompted_rows", "tracked_rows"]


@dataclass(frozen=True)
class ScoreSettings:
    """How scores are calibrated.

    Attributes
    ----------
    crop : int
        Side of the crops, in image pixels.
    crops_per_kind, objects_per_crop : int
        Crops of each kind of image, and objects prompted in each, with a click and with a box.
    frames_per_crop, tracked_per_crop : int
        Frames of a crop of a sequence, and objects tracked in it.
    steps, batch : int
        Steps of the fit, and rows of each.
    learning_rate : float
        Of AdamW; it falls to zero.
    order_weight, looks_weight : float
        How strongly the differences between the candidates of one decoder call, and between the calls for one prompt,
        are kept. They decide which mask is shown, and those learned with the masks hold for more kinds of images than
        those of this fit.
    tracked_weight : float
        How strongly the scores of tracked frames are kept.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    crop: int = 320
    crops_per_kind: int = 3
    objects_per_crop: int = 12
    frames_per_crop: int = 10
    tracked_per_crop: int = 5
    steps: int = 400
    batch: int = 512
    learning_rate: float = 3e-4
    order_weight: float = 0.25
    looks_weight: float = 1.0
    tracked_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("crop", "crops_per_kind", "objects_per_crop", "tracked_per_crop", "steps", "batch"):
            check_count(name, getattr(self, name), 1)
        check_count("frames_per_crop", self.frames_per_crop, 2)
        for name in ("learning_rate", "order_weight", "looks_weight", "tracked_weight"):
            check_number(name, getattr(self, name), 0)


class HeadCalls(NamedTuple):
    """What the IoU head was given and answered, N times.

    Attributes
    ----------
    tokens : Tensor
        (N, C) inputs.
    scores : Tensor
        (N, 4) predicted IoUs, one per mask.
    """

    tokens: Tensor
    scores: Tensor


class ScoreRows(NamedTuple):
    """What the IoU head should have answered for N decoded prompts.

    Attributes
    ----------
    calls : HeadCalls
        What it was given and answered.
    true : Tensor
        (N, 4) IoU with the object that was meant; NaN where it is unknown or does not matter.
    weights : Tensor
        (N,) weights of the rows, 1 on average.
    prompts : Tensor
        (N,) int64; rows of the same prompt have the same number and follow each other.
    """

    calls: HeadCalls
    true: Tensor
    weights: Tensor
    prompts: Tensor


def calibrate_scores(
    model: SAM2, stacks: Sequence[LabelledStack], *, seed: int = 0, settings: ScoreSettings = ScoreSettings()
) -> None:
    """Fit the IoU head of a model, in place, to labelled images.

    Training gives scores that are too low: a third of its crops are random worlds, where it is uncertain which object
    a click means, and windows are wrong on purpose. This fit sees prompts as they are answered in use.

    Parameters
    ----------
    model : SAM2
        With a native window, such as ``sam2_micro``.
    stacks : sequence of LabelledStack
        Training images; their ``group`` is their kind, and each kind counts the same.
    seed : int, default 0
        Of the choice of crops, objects and clicks.
    settings : ScoreSettings, optional
        How scores are calibrated.

    Raises
    ------
    TrainingError
        If the images hold no object.
    """
    rng = np.random.default_rng(seed)
    prompted = prompted_rows(model, stacks, rng, settings)
    torch.manual_seed(seed)
    fit_scores(model, prompted, tracked_rows(model, stacks, rng, settings), settings)


def fit_scores(model: SAM2, prompted: ScoreRows, tracked: HeadCalls | None, settings: ScoreSettings) -> None:
    """Fit the IoU head of a model, in place.

    Parameters
    ----------
    model : SAM2
        The model that the rows were made with.
    prompted : ScoreRows
        Rows whose scores should become the true IoU.
    tracked : HeadCalls or None
        Calls whose scores should stay.
    settings : ScoreSettings
        Steps, rate and weights.
    """
    head = model.sam_mask_decoder.iou_prediction_head
    needed = {name: parameter.requires_grad for name, parameter in head.named_parameters()}
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    is_known = ~prompted.true.isnan()
    true = prompted.true.nan_to_num(0)
    tokens, before = prompted.calls
    order, levels = _differences(before), _logits(before).mean(1)
    _, counts = prompted.prompts.unique_consecutive(return_counts=True)
    firsts, counts = (each.repeat_interleave(counts) for each in (counts.cumsum(0) - counts, counts))
    with torch.enable_grad():
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - step / settings.steps)
            rows = torch.randint(0, len(true), (settings.batch,))
            scores = head(tokens[rows])
            weights = prompted.weights[rows, None]
            loss = (weights * is_known[rows] * (scores - true[rows]).square()).mean()
            loss = loss + settings.order_weight * (weights * (_differences(scores) - order[rows]).square()).mean()
            others = firsts[rows] + (torch.rand(len(rows)) * counts[rows]).long()
            apart = (_logits(scores) - _logits(head(tokens[others]))).mean(1)
            kept = prompted.weights[rows] * (apart - levels[rows] + levels[others]).square()
            loss = loss + settings.looks_weight * kept.mean()
            if tracked is not None:
                rows = torch.randint(0, len(tracked.tokens), (settings.batch,))
                kept = (head(tracked.tokens[rows]) - tracked.scores[rows]).square().mean()
                loss = loss + settings.tracked_weight * kept
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(needed[name])
        parameter.grad = None


def _logits(scores: Tensor) -> Tensor:
    return torch.logit(scores.clamp(1e-4, 1 - 1e-4))


def _differences(scores: Tensor) -> Tensor:
    """(N, 3) logits of the three candidates of a call, less their mean."""
    logits = _logits(scores[:, 1:])
    return logits - logits.mean(1, keepdim=True)


def prompted_rows(
    model: SAM2, stacks: Sequence[LabelledStack], rng: np.random.Generator, settings: ScoreSettings
) -> ScoreRows:
    """All decoder calls for clicks and boxes on objects of labelled images, answered as in use.

    The true IoU of the mask that is shown is that of the final mask, which may be averaged over several looks.

    Parameters
    ----------
    model : SAM2
        The model.
    stacks : sequence of LabelledStack
        Images, movies or volumes.
    rng : numpy.random.Generator
        Of the choice of crops, objects and clicks.
    settings : ScoreSettings
        How many.

    Returns
    -------
    ScoreRows
        Every kind of image and prompt has the same total weight.

    Raises
    ------
    TrainingError
        If the images hold no object.
    """
    found: dict[tuple[str, bool], list[_Look]] = defaultdict(list)
    with _recorded_head(model) as heard:
        predictor = _Recorder(model, heard)
        for kind, images, labels in _crops(stacks, rng, settings, num_frames=1):
            predictor.set_image(images[0])
            for mask in _some_objects(labels[0], rng, settings.objects_per_crop):
                click = first_prompt(mask, rng, PromptMix(box=0, mask=0))
                found[kind, False] += predictor.looks(Prompt(points=click.points), mask, multimask=True)
                box = Prompt(box=tight_box(mask))
                found[kind, True] += predictor.looks(box, mask, multimask=False)
                found[kind, True] += predictor.looks(box, mask, multimask=True)
    if not found:
        raise TrainingError("no object was found in the images; give images with labelled objects of 30 pixels or more")
    looks = [look for group in found.values() for look in group]
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in found.values()])
    return ScoreRows(
        HeadCalls(torch.stack([look.token for look in looks]), torch.stack([look.scores for look in looks])),
        torch.stack([look.true for look in looks]),
        torch.from_numpy(weights / weights.mean()).float(),
        torch.tensor([look.prompt for look in looks]),
    )


def tracked_rows(
    model: SAM2, stacks: Sequence[LabelledStack], rng: np.random.Generator, settings: ScoreSettings
) -> HeadCalls | None:
    """All decoder calls for tracked frames of labelled movies and volumes.

    Parameters are those of `prompted_rows`.

    Returns
    -------
    HeadCalls or None
        None if there is no sequence with an object.
    """
    heard_all: list[HeadCalls] = []
    sequences = [stack for stack in stacks if stack.is_sequence and len(stack) > 1]
    with _recorded_head(model) as heard:
        for _, images, labels in _crops(sequences, rng, settings, num_frames=settings.frames_per_crop):
            middle = len(images) // 2
            segmenter = SAM2VideoSegmenter(model)
            segmenter.set_video(images)
            number = 0
            for number, mask in enumerate(_some_objects(labels[middle], rng, settings.tracked_per_crop), 1):
                prompt = Prompt(points=[interior_point(mask)]) if number % 2 else Prompt(box=tight_box(mask))
                segmenter.add_prompt(middle, prompt, object_id=number)
            heard.clear()
            if number:
                segmenter.track_objects()
            heard_all += heard
    if not heard_all:
        return None
    return _joined(heard_all)


def _joined(calls: Sequence[HeadCalls]) -> HeadCalls:
    return HeadCalls(*(torch.cat(each) for each in zip(*calls, strict=True)))


class _Look(NamedTuple):
    """One decoder call: input and output of the IoU head, the true IoU of its masks, and the number of the prompt."""

    token: Tensor
    scores: Tensor
    true: Tensor
    prompt: int


@contextmanager
def _recorded_head(model: SAM2) -> Iterator[list[HeadCalls]]:
    """What the IoU head is given and answers within the context, batch after batch."""
    heard: list[HeadCalls] = []

    def record(_module: torch.nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        heard.append(HeadCalls(given[0].detach().float().cpu().clone(), answer.detach().float().cpu().clone()))

    handle = model.sam_mask_decoder.iou_prediction_head.register_forward_hook(record)
    try:
        yield heard
    finally:
        handle.remove()


class _Recorder(SAM2ImagePredictor):
    """An image predictor that keeps what each decoder call gave."""

    def __init__(self, model: SAM2, heard: list[HeadCalls]) -> None:
        super().__init__(model)
        self._heard = heard
        self._found: list[tuple[ViewCandidates, Tensor, Tensor]] = []
        self._num_prompts = 0

    def looks(self, prompt: Prompt, truth: NDArray[np.bool_], *, multimask: bool) -> list[_Look]:
        """All decoder calls that a prompt needs; ``truth`` is the object, (H, W)."""
        self._found.clear()
        self._num_prompts += 1
        shown = self.predict(prompt, multimask_output=multimask)
        best = int(shown.scores.argmax())
        looks = []
        for found, token, scores in self._found:
            masks = found if prompt.box is not None else keep_clicked_components(found, prompt)
            in_image = masks_to_image(masks.logits, masks.view, self.image_hw)[0] > self.mask_threshold
            true = torch.full((4,), torch.nan)
            # the single mask may be one of the candidates, where it is unstable itself
            columns = [1, 2, 3] if multimask else [int((scores - found.scores[0]).abs().argmin())]
            is_shown = np.array_equal(found.scores[0].numpy(), shown.scores)
            for row, column in enumerate(columns):
                mask = shown.masks[best] if is_shown and row == best else in_image[row].cpu().numpy()
                true[column] = float((mask & truth).sum() / (mask | truth).sum())
            looks.append(_Look(token, scores, true, self._num_prompts))
        return looks

    def _candidates(
        self,
        prompts: Sequence[Prompt | None],
        views: Sequence[View],
        mask_inputs: Sequence[NDArray[np.float32] | None],
        *,
        multimask: bool,
    ) -> list[ViewCandidates]:
        self._heard.clear()
        found = super()._candidates(prompts, views, mask_inputs, multimask=multimask)
        self._found += zip(found, *_joined(self._heard), strict=True)
        return found


def _crops(
    stacks: Sequence[LabelledStack], rng: np.random.Generator, settings: ScoreSettings, *, num_frames: int
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """Kind, frames and labels of crops: the same number of each kind."""
    kinds: dict[str, list[LabelledStack]] = defaultdict(list)
    for stack in stacks:
        kinds[stack.group or stack.name].append(stack)
    for kind, members in kinds.items():
        for _ in range(settings.crops_per_kind):
            stack = members[rng.integers(len(members))]
            first = int(rng.integers(max(1, len(stack) - num_frames + 1)))
            tries = []
            for _ in range(4):  # the one of a few places that shows most objects
                y, x = (int(rng.integers(max(1, n - settings.crop + 1))) for n in stack.labels.shape[1:3])
                part = (slice(first, first + num_frames), slice(y, y + settings.crop), slice(x, x + settings.crop))
                tries.append((len(np.unique(stack.labels[part])), part))
            part = max(tries, key=lambda each: each[0])[1]
            yield kind, stack.frames[part], np.asarray(stack.labels[part], np.int64)


def _some_objects(
    labels: NDArray[np.int64], rng: np.random.Generator, limit: int, least_area: int = 30
) -> Iterator[NDArray[np.bool_]]:
    """Masks of some of the objects of a plane, at random."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    for number in rng.permutation(ids[areas >= least_area])[:limit]:
        yield labels == number
