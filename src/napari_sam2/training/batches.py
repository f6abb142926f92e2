"""Clips to batches: objects chosen, first prompts drawn, everything reproducible from (seed, index)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import IterableDataset

from napari_sam2.training.click_simulation import PromptMix, SimulatedPrompt, first_prompt
from napari_sam2.training.crops import CropConfig
from napari_sam2.training.dataset import Clip, ClipSampler
from napari_sam2.training.dense import dense_distances

__all__ = ["Batch", "BatchPlan", "BatchStream", "known_labels", "make_batch"]

_MIN_VISIBLE = 12  # pixels of an object that a prompt can still mean
_MASK_SHARE = 1 / 3  # of the prompts of stills that are no clicks
_ENDING_SHARE = 0.5  # of clips in which objects that end are followed first
_OTHER_LEVEL_SHARE = 0.3  # of the prompts of stills with several levels
_MIN_LEVEL_AREA = 24
_LEVEL_MARGIN = 4
_SAME = 0.85  # IoU from which two levels are the same object
_CONTACT = 2  # pixels between objects that touch
_CLEAR = 4  # pixels between an empty click and all objects


@dataclass(frozen=True)
class BatchPlan:
    """What batches hold.

    Attributes
    ----------
    crop : int
        Side in pixels of the training crops, a multiple of 32.
    stills : int
        Images per still batch.
    objects_per_still, objects_per_clip : int
        Prompted objects at most.
    clips, num_frames : int
        Clips per clip batch and their length.
    clip_share : float
        Share of batches that are clips.
    click_share : float
        Share of first prompts of stills that are clicks; of the others two in three are boxes, the rest masks.
    clip_prompts : tuple of float, optional
        Shares of clicks, boxes and masks among the first prompts of clips; as for stills if not given. A clip that
        begins with a good mask teaches tracking, one that begins with a bad click mostly noise.
    empty_share : float
        Share of stills in which one click more lies on background: it teaches nothing but the presence score (and, as
        one more click, gives the clicks of its batch that much more weight).
    empty_sources : tuple of str
        Names of the sources in which all that is not labelled is background.
    incomplete_sources : tuple of str
        Names of the sources in which some objects have no label: the dense head learns their labelled objects only.
    unlabelled_sources : tuple of str
        Names of the sources whose labels are no objects: the dense head learns nothing from them.
    wrong_windows : float
        Share of stills whose window is too wide or too narrow for the object, see ``CropConfig.wrong_share``.
    extents : tuple of float
        Range of the longer side of most objects in stills, in pixels of the crop, see ``CropConfig.extent_core``.
    contact_share : float
        Share of stills in which the objects that touch others are prompted first: these are the ones that are taken
        for one.
    """

    crop: int = 160
    stills: int = 12
    objects_per_still: int = 5
    clips: int = 2
    objects_per_clip: int = 4
    num_frames: int = 4
    clip_share: float = 0.2
    click_share: float = 0.5
    clip_prompts: tuple[float, float, float] | None = None
    empty_share: float = 0.0
    empty_sources: tuple[str, ...] = ()
    incomplete_sources: tuple[str, ...] = ()
    unlabelled_sources: tuple[str, ...] = ("regions",)
    wrong_windows: float = 0.0
    extents: tuple[float, float] = CropConfig.extent_core
    contact_share: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Images, objects and first prompts.

    Attributes
    ----------
    images : Tensor
        (B, T, 3, S, S) uint8; T is 1 for stills.
    truths : Tensor
        (N, T, S, S) bool, one row per object; empty for a click on background.
    image_index : Tensor
        (N,) row of ``images`` that an object lies in.
    prompts : tuple of SimulatedPrompt
        N first prompts, on the first frame.
    labels : Tensor
        (B, T, S, S) int32, all objects of the images; -1 where it is not known whether there is one.
    distances : Tensor
        (B, T, 2, S/4, S/4) float16, see ``dense_distances``.
    hidden : Tensor
        (N,) float32 pixels of an object that lie outside its still; NaN if that is not known, 0 in clips.
    others : Tensor
        (M, S, S) bool, objects on other levels under the first clicks of stills: parts, wholes, clumps.
    other_of : Tensor
        (M,) row of ``truths`` whose click each of them lies under.
    """

    images: Tensor
    truths: Tensor
    image_index: Tensor
    prompts: tuple[SimulatedPrompt, ...]
    labels: Tensor
    distances: Tensor
    hidden: Tensor
    others: Tensor
    other_of: Tensor

    @property
    def num_frames(self) -> int:
        """Length of the clips."""
        return self.images.shape[1]


def make_batch(sampler: ClipSampler, plan: BatchPlan, rng: np.random.Generator) -> Batch:
    """Draw one batch: stills, or clips with probability ``plan.clip_share``."""
    is_clip = rng.random() < plan.clip_share
    count = plan.clips if is_clip else plan.stills
    limit = plan.objects_per_clip if is_clip else plan.objects_per_still
    images: list[NDArray[np.uint8]] = []
    truths: list[NDArray[np.bool_]] = []
    prompts: list[SimulatedPrompt] = []
    index: list[int] = []
    labels: list[NDArray[np.int32]] = []
    distances: list[NDArray[np.float16]] = []
    hidden: list[float] = []
    others: list[NDArray[np.bool_]] = []
    other_of: list[int] = []
    rest = 1 - plan.click_share
    mix = PromptMix(click=plan.click_share, box=(1 - _MASK_SHARE) * rest, mask=_MASK_SHARE * rest)
    if is_clip:
        if plan.clip_prompts is not None:
            mix = PromptMix(*plan.clip_prompts)
        mix = _one_kind(mix, rng)
    while len(images) < count:
        clip = sampler.sample_clip(rng, plan.num_frames) if is_clip else sampler.sample_still(rng)
        chosen = _choose(clip.labels[0], clip.object_ids, limit, rng, first=_preferred(clip, plan, is_clip, rng))
        if not chosen:
            continue
        targets = [(0, object_id) for object_id in chosen]
        if clip.levels:
            targets = _with_other_levels(clip, targets, rng)
        for level, object_id in targets:
            truth = (clip.levels[level - 1] if level else clip.labels) == object_id
            prompt = first_prompt(truth[0], rng, mix)
            if clip.levels:
                for other in _under_click(clip, level, prompt, truth[0]):
                    others.append(other)
                    other_of.append(len(truths))
            hidden.append(float(clip.hidden[level][object_id]) if clip.hidden else 0.0)
            truths.append(truth)
            prompts.append(prompt)
            index.append(len(images))
        if not is_clip and clip.source in plan.empty_sources and rng.random() < plan.empty_share:
            empty = _empty_click(np.stack([level[0] for level in (clip.labels, *clip.levels)]).max(0), rng)
            if empty is not None:
                truths.append(np.zeros(clip.labels.shape, bool))
                hidden.append(0.0)
                prompts.append(empty)
                index.append(len(images))
        images.append(clip.frames)
        labels.append(known_labels(clip, plan))
        distances.append(np.stack([dense_distances(frame) for frame in clip.labels]))
    return Batch(
        torch.from_numpy(np.stack(images)).permute(0, 1, 4, 2, 3).contiguous(),  # -> (B, T, 3, S, S)
        torch.from_numpy(np.stack(truths)),
        torch.tensor(index),
        tuple(prompts),
        torch.from_numpy(np.stack(labels)),
        torch.from_numpy(np.stack(distances)),
        torch.tensor(hidden),
        torch.from_numpy(np.stack(others) if others else np.zeros((0, *truths[0].shape[1:]), bool)),
        torch.tensor(other_of, dtype=torch.int64),
    )


def known_labels(clip: Clip, plan: BatchPlan) -> NDArray[np.int32]:
    """Labels with -1 where it is not known whether there is an object."""
    if clip.source in plan.unlabelled_sources:
        return np.full_like(clip.labels, -1)
    if clip.source in plan.incomplete_sources:
        return np.where(clip.labels == 0, np.int32(-1), clip.labels)
    return clip.labels


def _with_other_levels(clip: Clip, targets: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Some of the objects replaced by parts or groups, as (level, label)."""
    margin = _LEVEL_MARGIN
    for slot in range(len(targets)):
        if rng.random() >= _OTHER_LEVEL_SHARE:
            continue
        level = int(rng.integers(1, len(clip.levels) + 1))
        inner = clip.levels[level - 1][0][margin:-margin, margin:-margin]
        ids, counts = np.unique(inner[inner > 0], return_counts=True)
        ids = ids[counts >= _MIN_LEVEL_AREA]
        if len(ids):
            targets[slot] = (level, int(rng.choice(ids)))
    return targets


def _under_click(clip: Clip, level: int, prompt: SimulatedPrompt, truth: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """What else a click may have meant: the objects of the other levels at its place."""
    if not len(prompt.points):
        return []
    x, y = prompt.points[0].astype(int).tolist()
    found = []
    for number, labels in enumerate((clip.labels, *clip.levels)):
        object_id = labels[0, y, x]
        if number == level or object_id == 0:
            continue
        mask = labels[0] == object_id
        both = np.count_nonzero(mask & truth)
        area = np.count_nonzero(mask)
        alike = both / (area + np.count_nonzero(truth) - both)
        if area >= _MIN_LEVEL_AREA and alike < _SAME:
            found.append(mask)
    return found


def _one_kind(mix: PromptMix, rng: np.random.Generator) -> PromptMix:
    """All objects of a clip batch are prompted alike, so that they share decoder calls."""
    shares = np.array([mix.click, mix.box, mix.mask])
    kind = rng.choice(3, p=shares / shares.sum())
    return PromptMix(click=float(kind == 0), box=float(kind == 1), mask=float(kind == 2))


def _empty_click(labels: NDArray[np.int32], rng: np.random.Generator) -> SimulatedPrompt | None:
    """A click well away from all objects, if there is room for one."""
    taken = ndimage.maximum_filter(labels != 0, 2 * _CLEAR + 1)
    free = np.flatnonzero(~taken)
    if not len(free):
        return None
    y, x = divmod(int(rng.choice(free)), labels.shape[1])
    return SimulatedPrompt(np.array([[x, y]], np.float32), np.ones(1, np.int32))


def _preferred(clip: Clip, plan: BatchPlan, is_clip: bool, rng: np.random.Generator) -> frozenset[int]:
    """Objects that are prompted before others."""
    if is_clip:
        return _ending(clip.labels) if rng.random() < _ENDING_SHARE else frozenset()
    # without a share nothing is drawn, so that earlier configurations give the batches they gave
    return _touching(clip.labels[0]) if plan.contact_share and rng.random() < plan.contact_share else frozenset()


def _touching(labels: NDArray[np.int32]) -> frozenset[int]:
    """Objects with at most ``_CONTACT`` pixels between them and another one."""
    grown = ndimage.grey_dilation(labels, size=2 * _CONTACT + 1)
    highest = np.where(labels > 0, labels.max() + 1 - labels, 0)
    lowest = labels.max() + 1 - ndimage.grey_dilation(highest, size=2 * _CONTACT + 1)
    meets = (labels > 0) & ((grown != labels) | (lowest != labels))
    return frozenset(np.unique(labels[meets]).tolist())


def _ending(labels: NDArray[np.int32]) -> frozenset[int]:
    """Objects of the first frame that are gone on the last."""
    return frozenset(np.unique(labels[0]).tolist()) - frozenset(np.unique(labels[-1]).tolist())


def _choose(
    labels: NDArray[np.int32],
    ids: tuple[int, ...],
    limit: int,
    rng: np.random.Generator,
    *,
    first: frozenset[int] = frozenset(),
) -> list[int]:
    values, counts = np.unique(labels, return_counts=True)
    area = dict(zip(values.tolist(), counts.tolist(), strict=True))
    visible = [i for i in ids if area.get(i, 0) >= _MIN_VISIBLE]
    if len(visible) > limit:
        shuffled = rng.permutation(visible).tolist()
        visible = sorted(shuffled, key=lambda i: i not in first)[:limit]
    return [int(i) for i in visible]


class BatchStream(IterableDataset[Batch]):
    """Batches number ``start``, ``start + 1``, ...; number i is the same in every run with the same seed.

    Parameters
    ----------
    sampler : ClipSampler
        Where clips come from.
    plan : BatchPlan
        What a batch holds.
    seed : int
        Of the run.
    start, stop : int
        Numbers of the first batch and of the one after the last.
    """

    def __init__(self, sampler: ClipSampler, plan: BatchPlan, *, seed: int, start: int, stop: int) -> None:
        self.sampler = sampler
        self.plan = plan
        self.seed = seed
        self.start = start
        self.stop = stop

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        offset, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(self.start + offset, self.stop, step):
            yield make_batch(self.sampler, self.plan, np.random.default_rng([self.seed, number]))
