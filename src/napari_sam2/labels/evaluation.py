"""Agreement of labels with ground truth: objects matched one to one, and average precision at thresholds of IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked, checked_calls
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.labels.overlaps import PlaneOverlaps, best_matches

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DetectionScore", "LabelAgreement", "average_precision"]

_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
"""0.5, 0.55, ... 0.9."""


@dataclass(frozen=True)
class DetectionScore:
    """Counts at one threshold of IoU.

    Attributes
    ----------
    threshold : float
        IoU that makes two objects the same.
    num_matched, num_missed, num_wrong : int
        Objects of the truth that were found, and not found; objects found that are not in the truth.
    """

    threshold: float
    num_matched: int
    num_missed: int
    num_wrong: int

    @property
    def average_precision(self) -> float:
        """Matched objects divided by all objects, 0 to 1; NaN if there are none."""
        total = self.num_matched + self.num_missed + self.num_wrong
        return self.num_matched / total if total else float("nan")

    def __add__(self, other: DetectionScore) -> DetectionScore:
        """The summed counts of two images."""
        if other.threshold != self.threshold:
            raise FrameError(f"scores at IoU {self.threshold:g} and {other.threshold:g} cannot be added; take the same")
        return DetectionScore(
            self.threshold,
            self.num_matched + other.num_matched,
            self.num_missed + other.num_missed,
            self.num_wrong + other.num_wrong,
        )


@checked_calls(PromptError)
@dataclass(frozen=True)
class LabelAgreement:
    """Agreement of labels with ground truth.

    Attributes
    ----------
    scores : tuple of DetectionScore
        One per threshold, ascending.

    Raises
    ------
    PromptError
        If the scores are not a sequence of DetectionScore objects.
    """

    scores: tuple[DetectionScore, ...]

    @property
    def mean_average_precision(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean([score.average_precision for score in self.scores]))

    def at(self, threshold: float) -> DetectionScore:
        """The counts at one of the thresholds.

        Raises
        ------
        FrameError
            If it was not measured.
        PromptError
            If the threshold is not a number.
        """
        for score in self.scores:
            if abs(score.threshold - threshold) < 1e-9:
                return score
        given = ", ".join(f"{score.threshold:g}" for score in self.scores)
        raise FrameError(f"IoU {threshold:g} was requested; the measured thresholds are {given}")

    def __add__(self, other: LabelAgreement) -> LabelAgreement:
        """The summed counts of two images."""
        return LabelAgreement(tuple(a + b for a, b in zip(self.scores, other.scores, strict=True)))


@checked(PromptError)
def average_precision(truth: ArrayLike, labels: ArrayLike, thresholds: Sequence[float] = _THRESHOLDS) -> LabelAgreement:
    """Average precision of labels: TP / (TP + FP + FN) at each threshold of IoU.

    Parameters
    ----------
    truth, labels : (H, W) or (Z, H, W) integer array-like
        Labels of one shape, 0 is background. In three dimensions objects are compared as bodies.
    thresholds : sequence of float, default 0.5, 0.55, ... 0.9
        Two objects are the same if their IoU is at least this, above 0 and up to 1.

    Returns
    -------
    LabelAgreement
        Counts at each threshold; agreements of several images are added with ``+``.

    Raises
    ------
    FrameError
        If the shapes differ, the values are no labels, or a threshold is not allowed.
    PromptError
        If an argument is not of its type.

    References
    ----------
    .. [1] Schmidt et al., Cell detection with star-convex polygons, 2018. arXiv:1806.03535
    """
    levels = sorted(float(t) for t in thresholds)
    if not levels or not all(0 < t <= 1 for t in levels):
        raise FrameError(f"thresholds {list(thresholds)} were given; expected numbers above 0, up to 1")
    compared = _compare(truth, labels)
    pairs = compared.overlaps()
    of_truth, of_labels = (len(areas) for areas in compared.areas())
    scores = []
    for level in levels:
        # every pair counts the same: the number of matches is maximised
        is_match = (pairs.iou >= level - 1e-9).astype(np.float64)
        num = len(best_matches(pairs.first_ids, pairs.second_ids, is_match, 1.0))
        scores.append(DetectionScore(level, num, of_truth - num, of_labels - num))
    return LabelAgreement(tuple(scores))


def _compare(truth: ArrayLike, labels: ArrayLike) -> PlaneOverlaps:
    first, second = _as_planes(truth), _as_planes(labels)
    if first.shape != second.shape:
        raise FrameError(f"labels of shape {second.shape} were given for a truth of shape {first.shape}")
    compared = PlaneOverlaps()
    for a, b in zip(first, second, strict=True):
        compared.add(a, b)
    return compared


def _as_planes(labels: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(labels)
    if array.ndim not in (2, 3):
        raise FrameError(f"labels of shape {array.shape} were given; expected (H, W) or (Z, H, W)")
    return array if array.ndim == 3 else array[None]
