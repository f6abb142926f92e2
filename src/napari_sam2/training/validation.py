"""How good a model is on held-out objects: a click and a box on each, through the predictor that users call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import TrainingError
from napari_sam2._types import Prompt
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.click_simulation import interior_point, tight_box
from napari_sam2.training.packs import LabelledStack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeldOutObjects", "ValidationScore"]


@dataclass(frozen=True)
class ValidationScore:
    """Mean IoU over the held-out objects.

    Attributes
    ----------
    click : float
        Of one click on the most interior pixel; of three candidates the one with the best predicted IoU.
    box : float
        Of the tight box.
    """

    click: float
    box: float

    @property
    def mean(self) -> float:
        """What decides which weights are best."""
        return (self.click + self.box) / 2


@dataclass(frozen=True, eq=False)
class _Frame:
    rgb: NDArray[np.uint8]
    truths: tuple[NDArray[np.bool_], ...]
    clicks: tuple[Prompt, ...]
    boxes: tuple[Prompt, ...]


class HeldOutObjects:
    """A fixed choice of objects with the prompts that are tried on them.

    Parameters
    ----------
    stacks : sequence of LabelledStack
        Held out from training.
    limit : int
        Objects at most; a choice that is spread over the frames.
    seed : int, default 0
        Of the choice.

    Raises
    ------
    TrainingError
        If there is no object.
    """

    def __init__(self, stacks: Sequence[LabelledStack], *, limit: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        queues = []
        for stack in stacks:
            for frame in range(len(stack)):
                ids = stack.objects(frame).ids
                if len(ids):
                    queues.append((stack, frame, rng.permutation(ids).tolist()))
        if not queues:
            raise TrainingError("no object is held out; label more objects, or hold out a larger share")
        queues = [queues[i] for i in rng.permutation(len(queues))]
        chosen: list[list[int]] = [[] for _ in queues]
        left = min(limit, sum(len(ids) for _, _, ids in queues))
        turn = 0
        while left:
            ids = queues[turn % len(queues)][2]
            if ids:
                chosen[turn % len(queues)].append(ids.pop())
                left -= 1
            turn += 1
        self.num_objects = sum(len(ids) for ids in chosen)
        self._frames = [_frame(stack, frame, ids) for (stack, frame, _), ids in zip(queues, chosen, strict=True) if ids]

    def score(self, model: SAM2) -> ValidationScore:
        """Mean IoU of a model; puts it into evaluation mode."""
        predictor = SAM2ImagePredictor(model)
        clicks: list[float] = []
        boxes: list[float] = []
        for frame in self._frames:
            predictor.set_image(frame.rgb)
            masks, scores, _ = predictor.predict(frame.clicks)
            best = masks[np.arange(len(scores)), scores.argmax(axis=1)]
            clicks += [_iou(found, truth) for found, truth in zip(best, frame.truths, strict=True)]
            masks, _, _ = predictor.predict(frame.boxes, multimask_output=False)
            boxes += [_iou(found, truth) for found, truth in zip(masks[:, 0], frame.truths, strict=True)]
        return ValidationScore(float(np.mean(clicks)), float(np.mean(boxes)))


def _frame(stack: LabelledStack, frame: int, ids: Sequence[int]) -> _Frame:
    image = stack.frames[frame]
    truths = tuple(np.asarray(stack.labels[frame] == object_id) for object_id in ids)
    return _Frame(
        image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1),
        truths,
        tuple(Prompt(points=np.array([interior_point(truth)], np.float32)) for truth in truths),
        tuple(Prompt(box=tight_box(truth)) for truth in truths),
    )


def _iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 0.0
