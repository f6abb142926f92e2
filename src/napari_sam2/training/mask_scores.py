"""Fit the score of automatic masks: a linear estimate of their IoU with an object."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2._errors import TrainingError
from napari_sam2.inference.automatic.dense_search import search_densely
from napari_sam2.inference.automatic.dense_settings import DenseSettings, ScoreFeatures, ScoreWeights
from napari_sam2.inference.automatic.options import MaskGeneratorOptions
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.labels.rle import decode_rle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["LabelledImage", "ScoredMasks", "fit_score_weights", "score_masks"]

_RIDGE = 1e-6  # of the mean square of the features; keeps weights of features that are alike small
_LEAST_LABELLED = 0.3  # of a mask's pixels, where not all objects are labelled


class LabelledImage(NamedTuple):
    """An image for the fit.

    Attributes
    ----------
    image : (H, W) or (H, W, 3) uint8 array
        The image.
    labels : (H, W) int array
        Its objects.
    kind : str
        Kind of image; each kind has the same weight.
    is_complete : bool
        Whether all objects are labelled. If not, masks that lie on unlabelled pixels are left out.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    kind: str
    is_complete: bool = True


class ScoredMasks(NamedTuple):
    """Automatic masks of labelled images.

    Attributes
    ----------
    features : (N, F) float array
        `ScoreFeatures` of each mask.
    true_iou : (N,) float array
        Largest IoU with an object.
    kinds : (N,) str array
        Kind of the image.
    """

    features: NDArray[np.float64]
    true_iou: NDArray[np.float64]
    kinds: NDArray[np.str_]


class _Recorder(ScoreWeights):
    """Keeps the features of all masks, in the order of the proposals; their score does not matter."""

    seen: list[ScoreFeatures]

    def __init__(self) -> None:
        super().__init__(ScoreFeatures(*[0.0] * len(ScoreFeatures._fields)), bias=1.0)
        object.__setattr__(self, "seen", [])  # of a frozen class

    def of(self, features: ScoreFeatures) -> float:
        self.seen.append(features)
        return super().of(features)


def score_masks(model: SAM2, images: Iterable[LabelledImage], *, settings: DenseSettings | None = None) -> ScoredMasks:
    """Features and true IoU of the automatic masks of labelled images, before any of them is dropped.

    Parameters
    ----------
    model : SAM2
        With a dense head.
    images : iterable of LabelledImage
        Training images.
    settings : DenseSettings, optional
        How images are searched; the defaults if not given.

    Returns
    -------
    ScoredMasks
        Of all images.

    Raises
    ------
    TrainingError
        If the model has no dense head, or no mask was found.
    """
    predictor = SAM2ImagePredictor(model)
    if not predictor.has_dense_maps:
        raise TrainingError(f"{model.config.name} has no dense head, so its masks are scored by the mask decoder alone")
    features: list[ScoreFeatures] = []
    true_iou: list[float] = []
    kinds: list[str] = []
    for each in images:
        predictor.set_image(each.image)
        recorder = _Recorder()
        found = search_densely(
            predictor,
            predictor.image_hw,
            replace(settings or DenseSettings(), unsure=(0, 1), score=recorder),  # all masks get a click
            MaskGeneratorOptions(),
            size=model.image_size,
        )
        areas = np.bincount(each.labels.ravel())
        for row, runs in zip(recorder.seen, found.runs, strict=True):
            under = np.bincount(each.labels[decode_rle({"size": list(found.hw), "counts": runs.tolist()})])
            if not each.is_complete and under[1:].sum() < _LEAST_LABELLED * under.sum():
                continue
            shared = under[1:]
            either = under.sum() + areas[1 : len(under)] - shared
            features.append(row)
            true_iou.append(float((shared / np.maximum(either, 1)).max(initial=0)))
            kinds.append(each.kind)
    if not features:
        raise TrainingError("no mask was found in the images; give images with objects that the model finds")
    return ScoredMasks(np.array(features, np.float64), np.array(true_iou), np.array(kinds))


def fit_score_weights(masks: ScoredMasks) -> tuple[ScoreWeights, ScoreWeights]:
    """Weights of the features by least squares; each kind of image counts the same.

    Parameters
    ----------
    masks : ScoredMasks
        Of `score_masks`.

    Returns
    -------
    first_score, score : ScoreWeights
        Without and with the click; rounded to hundredths.
    """
    counts = Counter(masks.kinds.tolist())
    weight = np.sqrt([1 / counts[kind] for kind in masks.kinds.tolist()])

    def fit(names: Sequence[str]) -> ScoreWeights:
        columns = [ScoreFeatures._fields.index(name) for name in names]
        inputs = np.c_[masks.features[:, columns], np.ones(len(weight))] * weight[:, None]
        square = inputs.T @ inputs
        ridge = _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
        fitted = np.linalg.solve(square + ridge, inputs.T @ (masks.true_iou * weight)).round(2)
        *weights, bias = fitted.tolist()
        zeros = dict.fromkeys(ScoreFeatures._fields, 0.0)
        return ScoreWeights(ScoreFeatures(**zeros | dict(zip(names, weights, strict=True))), bias)

    names = ScoreFeatures._fields
    return fit([name for name in names if name != "click_support"]), fit(names)
