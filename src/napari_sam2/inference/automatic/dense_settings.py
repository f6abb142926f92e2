"""Settings of the search with dense maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from napari_sam2._checks import check_count, check_number
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown

__all__ = ["DenseSettings", "InstanceSettings", "ScoreFeatures", "ScoreWeights"]

_ZOOMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # 4 model pixels, a cell, are a whole number of image pixels


@dataclass(frozen=True)
class InstanceSettings:
    """How objects are made from dense maps.

    Attributes
    ----------
    foreground : float
        Cells with a higher foreground may belong to an object.
    smoothing : float
        Standard deviation in cells of the Gaussian that smooths the interior, the product of foreground and absence of
        a border.
    min_cells : int
        Objects of fewer cells are dropped.
    saddle, lowest_peak : float
        Two peaks of the interior are two objects if the interior falls below ``saddle`` times the lower peak between
        them. Peaks below ``lowest_peak`` do not count.
    core, core_foreground, core_margin : float
        In the second way to divide the foreground, connected cells with an interior above ``core`` are one object. It
        is expanded by ``core_margin`` cells, but not where the foreground is below ``core_foreground``.
    """

    foreground: float = 0.26
    smoothing: float = 0.7
    min_cells: int = 3
    saddle: float = 0.85
    lowest_peak: float = 0.15
    core: float = 0.5
    core_foreground: float = 0.2
    core_margin: float = 1.5


class ScoreFeatures(NamedTuple):
    """What the score of a mask is made of, each from 0 to 1; or the weight of each.

    ``predicted_iou`` and ``stability`` are those of the mask decoder. ``foreground`` is the mean foreground of the
    object that prompted the mask, and ``agreement`` the IoU of the two. The next ones are read from the maps under the
    mask: the mean foreground in it and in the cells around it, the mean border at its rim and further inside, the
    largest depth, and the product of the affinities of vertical and horizontal neighbours inside. ``click_support`` is
    how far a click in the middle of the object gives the same mask: the predicted IoU of the click's mask times the IoU
    of both masks; 0 without a click.
    """

    predicted_iou: float
    stability: float
    foreground: float
    agreement: float
    foreground_inside: float
    foreground_around: float
    border_at_rim: float
    border_inside: float
    depth: float
    affinity: float
    click_support: float = 0.0


@dataclass(frozen=True)
class ScoreWeights:
    """A linear estimate of the IoU of a mask with an object, fitted by `napari_sam2.training.mask_scores`.

    Attributes
    ----------
    weights : ScoreFeatures
        Weight of each feature.
    bias : float
        Score where all features are 0.
    """

    weights: ScoreFeatures
    bias: float

    def of(self, features: ScoreFeatures) -> float:
        """Score of a mask, 0 to 1."""
        total = self.bias + sum(weight * value for weight, value in zip(self.weights, features, strict=True))
        return min(max(total, 0.0), 1.0)


# fitted to 65,770 masks of training images of 21 kinds and of random worlds, each kind with the same weight
_FIRST_SCORE = ScoreWeights(
    ScoreFeatures(
        predicted_iou=0.11,
        stability=0.02,
        foreground=-0.22,
        agreement=0.11,
        foreground_inside=0.2,
        foreground_around=-0.24,
        border_at_rim=0.41,
        border_inside=-0.3,
        depth=0.63,
        affinity=0.1,
    ),
    bias=-0.32,
)
_SCORE = ScoreWeights(
    ScoreFeatures(
        predicted_iou=-0.06,
        stability=-0.01,
        foreground=-0.09,
        agreement=0.0,
        foreground_inside=0.13,
        foreground_around=-0.08,
        border_at_rim=0.18,
        border_inside=-0.1,
        depth=0.45,
        affinity=-0.01,
        click_support=0.67,
    ),
    bias=-0.2,
)


@dataclass(frozen=True)
class DenseSettings:
    """How an image is searched with dense maps.

    Attributes
    ----------
    zooms : tuple of float
        Model pixels per image pixel at which the image is described: 1/8, 1/4, 1/2, 1, 2 or 4. The first is for all of
        it, and so are lower ones; a higher one is for tiles in which the next lower one shows narrow objects.
    overlap : float
        Least overlap of neighbouring tiles, as a fraction of their side.
    narrow : float
        Objects with a smaller width (the diameter of the largest disc inside), in model pixels, are looked for at the
        next higher zoom too.
    min_width, max_side : float
        Objects with a smaller width, in model pixels, or a box with a longer side, as a fraction of a tile, are left to
        the next higher or lower zoom, if there is one.
    same_box, best_side : float
        Objects of several zooms and divisions whose boxes have a higher IoU count as one, and are decoded where the
        longer side of the box is nearest to this fraction of a tile.
    margin : float
        Objects are decoded in a view in which this fraction of the longer side of their box is free on all sides.
    crowded : float
        If other objects cover more than this fraction of an object's own area in its box, the object is prompted by
        itself and a click in its middle, otherwise by its box.
    active : float
        A part of the image whose foreground or border exceeds this nowhere is not described at higher zooms.
    few_tiles : int
        So many tiles of a higher zoom are described without asking whether the lower zoom shows narrow objects there.
    num_pilots, min_narrow : int, float
        Of the tiles of a higher zoom where the lower one shows no narrow objects, so many are tried; if they show
        so many objects each that were too narrow for the lower zoom, all are described.
    instances : InstanceSettings
        How objects are made from maps.
    first_score : ScoreWeights
        How masks are scored without a click.
    unsure : tuple of float
        Masks whose first score lies between these values get a click in their middle.
    score : ScoreWeights
        How masks with a click are scored.

    Raises
    ------
    PromptError
        If a value is not allowed.
    """

    zooms: tuple[float, ...] = (1.0, 0.5, 0.25, 2.0, 4.0)
    overlap: float = 0.25
    narrow: float = 16.0
    min_width: float = 8.0
    max_side: float = 0.6
    same_box: float = 0.8
    best_side: float = 0.24
    margin: float = 0.15
    crowded: float = 0.3
    active: float = 0.3
    few_tiles: int = 36
    num_pilots: int = 6
    min_narrow: float = 3.0
    instances: InstanceSettings = InstanceSettings()
    first_score: ScoreWeights = _FIRST_SCORE
    unsure: tuple[float, float] = (0.2, 0.7)
    score: ScoreWeights = _SCORE

    def __post_init__(self) -> None:
        _check_zooms(self.zooms)
        for name in ("narrow", "min_width", "min_narrow", "crowded"):
            check_number(name, getattr(self, name), 0)
        for name in ("max_side", "same_box", "best_side", "margin", "active"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("overlap", self.overlap, 1 / 16, 1 / 2)
        _check_range("unsure", self.unsure)
        check_count("few_tiles", self.few_tiles, 0)
        check_count("num_pilots", self.num_pilots, 1)


def _check_zooms(zooms: object) -> None:
    if not isinstance(zooms, tuple) or not zooms or len(set(zooms)) < len(zooms) or not set(zooms) <= set(_ZOOMS):
        allowed = ", ".join(f"{zoom:g}" for zoom in _ZOOMS)
        raise PromptError(f"zooms={shown(zooms)} was given; expected a tuple of different ones of {allowed}")


def _check_range(name: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise PromptError(f"{name}={shown(value)} was given; expected a tuple of two numbers")
    for number in value:
        check_number(name, number, 0, 1)
