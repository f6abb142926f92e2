"""All objects of an image in one pass: objects of dense maps at several zooms, each a prompt for the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from napari_sam2._types import Prompt
from napari_sam2.inference.automatic.dense_maps import DenseMaps, MapCanvas
from napari_sam2.inference.automatic.dense_settings import DenseSettings, ScoreFeatures
from napari_sam2.inference.automatic.instances import Instances, find_instances, possible_instances
from napari_sam2.inference.automatic.point_grids import Crop
from napari_sam2.inference.automatic.proposals import Proposals
from napari_sam2.inference.masks.boxes import mask_to_box, nms, stability_score, threshold_logits
from napari_sam2.inference.masks.components import fill_holes, remove_small_regions
from napari_sam2.labels.rle import run_lengths_of_window
from napari_sam2.network.dense_head import DENSE_STRIDE, DenseChannel
from napari_sam2.network.sam2 import LAST_MASK_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_sam2.inference.automatic.options import MaskGeneratorOptions
    from napari_sam2.inference.views.click_search import ViewCandidates
    from napari_sam2.inference.views.view import View

__all__ = ["DenseDecoder", "search_densely"]

_BATCH = 16
_LOGITS_PER_CELL = 4.0  # slope of the logits of a rough mask


@runtime_checkable
class DenseDecoder(Protocol):
    """The part of ``SAM2ImagePredictor`` that the search uses."""

    @property
    def has_dense_maps(self) -> bool:
        """Whether the model has a dense head."""

    def dense_maps(self, views: Sequence[View], /) -> NDArray[np.float32]:
        """Maps (B, C, S/4, S/4) of the image seen through each view, 0 to 1."""

    def answer_objects(
        self, prompts: Sequence[Prompt], rough_logits: Sequence[NDArray[np.float32] | None], views: Sequence[View], /
    ) -> list[ViewCandidates]:
        """The mask of each object in its own view, given its box, or a click and a rough mask."""

    def answer_clicks(self, points_xy: NDArray[np.float32], views: Sequence[View], /) -> list[ViewCandidates]:
        """The candidates of each click (x, y) in its own view."""


class _Prompted(NamedTuple):
    """The decoder's answer to the prompt of one object.

    ``features`` is what it is scored by, ``mask`` the answer in the image, with its first row and column, and
    ``point_xy`` the middle of the object.
    """

    found: ViewCandidates
    features: ScoreFeatures
    origin_yx: tuple[int, int]
    mask: NDArray[np.bool_]
    stability: float
    point_xy: NDArray[np.float32]


class _Outcome(NamedTuple):
    """The mask of one object: run lengths and box in the image, its scores, and a point inside."""

    runs: NDArray[np.int32]
    box_xyxy: NDArray[np.int64]
    iou: float
    stability: float
    point_xy: NDArray[np.float32]


def search_densely(
    predictor: DenseDecoder,
    hw: tuple[int, int],
    settings: DenseSettings,
    options: MaskGeneratorOptions,
    *,
    size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Proposals:
    """Objects of an image from maps of all of it.

    Parameters
    ----------
    predictor : DenseDecoder
        With the image set.
    hw : tuple of int
        Height and width of the image, in pixels.
    settings : DenseSettings
        Zooms, tiles and prompts.
    options : MaskGeneratorOptions
        ``mask_threshold``, ``stability_score_offset`` and ``min_mask_region_area`` hold; the others are for later.
    size : int
        Side of the model's input in model pixels.
    progress : callable, optional
        Called with the tiles and objects done and in all, as far as they are known.

    Returns
    -------
    Proposals
        One candidate for each object that is not empty. Its predicted IoU is the score of ``settings`` for the
        decoder's mask, the maps under it and, where these leave doubt, for a click in its middle, multiplied by the
        presence score.
    """
    steps = _Steps(progress)
    zooms = sorted(settings.zooms)
    base = zooms.index(settings.zooms[0])
    levels: list[_Level] = []
    for number in [*range(base, -1, -1), *range(base + 1, len(zooms))]:
        canvas = MapCanvas(predictor, hw, zoom=zooms[number], size=size, overlap=round(settings.overlap * size))
        if number <= base:
            levels.append(_describe(canvas, canvas.tiles, settings, steps))
        elif below := next((level for level in levels if level.maps.zoom == zooms[number - 1]), None):
            levels += _describe_closer(canvas, below, settings, steps)
    levels = [
        _Level(level.maps, found)
        for level in levels
        for found in possible_instances(level.maps.maps, settings.instances)
    ]
    outcomes: list[_Outcome] = []
    for level, chosen in zip(levels, _best_seen(levels, settings, size), strict=True):
        steps.expect(len(chosen))
        outcomes += _decode(predictor, level, chosen, settings, options, steps.done)
    return _as_proposals(hw, outcomes)


def _best_seen(levels: Sequence[_Level], settings: DenseSettings, size: int) -> list[NDArray[np.intp]]:
    """Indices of the objects of each level that are decoded there: of those found more than once, one."""
    zooms = [level.maps.zoom for level in levels]
    visible = [
        level.visible(settings, size, is_lowest=zoom == min(zooms), is_highest=zoom == max(zooms))
        for level, zoom in zip(levels, zooms, strict=True)
    ]
    sides = np.concatenate([level.sides[index] for level, index in zip(levels, visible, strict=True)])
    boxes_yx = np.concatenate(
        [level.found.boxes[index] * level.maps.cell for level, index in zip(levels, visible, strict=True)]
    )
    misfit = np.abs(np.log2(np.maximum(sides, 1) / (settings.best_side * size)))
    kept = np.zeros(len(sides), bool)
    kept[nms(torch.from_numpy(boxes_yx[:, [1, 0, 3, 2]]), torch.from_numpy(-misfit), settings.same_box).numpy()] = True
    ends = np.cumsum([len(index) for index in visible])[:-1]
    return [index[part] for index, part in zip(visible, np.split(kept, ends), strict=True)]


class _Steps:
    """Counts what is done and tells the caller."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._done = self._total = 0

    def expect(self, count: int) -> None:
        self._total += count

    def done(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


@dataclass(frozen=True, eq=False)
class _Level:
    """Maps of one zoom and the objects that they are divided into."""

    maps: DenseMaps
    found: Instances

    @property
    def sides(self) -> NDArray[np.intp]:
        """Longer side of each object's box, in model pixels."""
        boxes = self.found.boxes
        sides: NDArray[np.intp] = DENSE_STRIDE * (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
        return sides

    def visible(self, settings: DenseSettings, size: int, *, is_lowest: bool, is_highest: bool) -> NDArray[np.intp]:
        """Indices of the objects that are not left to another zoom."""
        good = np.ones(len(self.found), bool)
        if not is_highest:
            good &= DENSE_STRIDE * self.found.widths >= settings.min_width
        if not is_lowest:
            good &= self.sides <= settings.max_side * size
        return np.flatnonzero(good)

    def is_mostly_narrow(self, settings: DenseSettings) -> bool:
        """Whether more than half of the objects are narrow."""
        return bool(len(self.found)) and float((DENSE_STRIDE * self.found.widths < settings.narrow).mean()) > 0.5

    def is_active(self, view: View, settings: DenseSettings) -> bool:
        """Whether there is anything but background in a part of the image."""
        cell, maps = self.maps.cell, self.maps.maps
        rows = slice(max(view.y, 0) // cell, -(-(view.y + view.height) // cell))
        columns = slice(max(view.x, 0) // cell, -(-(view.x + view.width) // cell))
        return bool((maps[[DenseChannel.FOREGROUND, DenseChannel.BORDER], rows, columns] > settings.active).any())

    def count_narrow(self, view: View, limit: float) -> int:
        """Objects in a part of the image with a width below a limit, in model pixels."""
        narrow = DENSE_STRIDE * self.found.widths < limit
        middles = (self.found.middles_yx[narrow] + 0.5) * self.maps.cell
        low = np.array([view.y, view.x])
        return int(((middles >= low) & (middles < low + view.width)).all(1).sum())


def _describe(canvas: MapCanvas, tiles: Sequence[View], settings: DenseSettings, steps: _Steps) -> _Level:
    """Maps and objects at one zoom, after some more tiles."""
    steps.expect(len(tiles))
    canvas.add(tiles, steps.done)
    maps = canvas.maps()
    return _Level(maps, find_instances(maps.maps, settings.instances))


def _describe_closer(canvas: MapCanvas, below: _Level, settings: DenseSettings, steps: _Steps) -> list[_Level]:
    """The same at a zoom for which ``below`` shows the image already: only of tiles that need it, if any."""
    active = [tile for tile in canvas.tiles if below.is_active(tile, settings)]
    is_next = below.maps.zoom == settings.zooms[0]
    near: list[View] = active
    rest: list[View] = []
    if not is_next or len(active) > settings.few_tiles:
        least = 1 if is_next else settings.min_narrow
        is_near = [below.count_narrow(tile, settings.narrow) >= least for tile in active]
        near = [tile for tile, yes in zip(active, is_near, strict=True) if yes]
        if is_next or below.is_mostly_narrow(settings):
            rest = [tile for tile, yes in zip(active, is_near, strict=True) if not yes]
    pilots = rest[:: math.ceil(len(rest) / settings.num_pilots)] if rest else []
    if not near and not pilots:
        return []
    level = _describe(canvas, [*near, *pilots], settings, steps)
    # what is narrow here was too narrow to be seen at the lower zoom
    found = sum(level.count_narrow(tile, 2 * settings.narrow) for tile in pilots)
    if pilots and found >= settings.min_narrow * len(pilots):
        level = _describe(canvas, [tile for tile in rest if tile not in set(pilots)], settings, steps)
    return [level]


def _decode(
    predictor: DenseDecoder,
    level: _Level,
    chosen: NDArray[np.intp],
    settings: DenseSettings,
    options: MaskGeneratorOptions,
    step: Callable[[int], None],
) -> list[_Outcome]:
    """Masks of some of the objects of one zoom, each in a view around it."""
    if not len(chosen):
        return []
    maps, found = level.maps, level.found
    boxes_px = found.boxes[chosen] * maps.cell
    view_of = maps.views_around(boxes_px, settings.margin)
    outcomes: list[_Outcome] = []
    # neighbours share the embedding of their view
    order = sorted(range(len(chosen)), key=lambda row: (view_of[row].y, view_of[row].x))
    for start in range(0, len(chosen), _BATCH):
        rows = order[start : start + _BATCH]
        views, objects = [view_of[row] for row in rows], chosen[rows].tolist()
        prompts = [
            _prompt(level, index, box_yx, view, settings)
            for index, box_yx, view in zip(objects, boxes_px[rows], views, strict=True)
        ]
        answers = predictor.answer_objects([prompt for prompt, _ in prompts], [rough for _, rough in prompts], views)
        prompted = [
            each
            for found, index in zip(answers, objects, strict=True)
            if (each := _prompted(found, level, index, options)) is not None
        ]
        scores = _scores(predictor, prompted, settings, options)
        outcomes += [_outcome(each, score, maps.hw) for each, score in zip(prompted, scores, strict=True)]
        step(len(rows))
    return outcomes


def _middle(level: _Level, index: int) -> NDArray[np.float32]:
    """(x, y) of the deepest cell of an object, in image pixels."""
    (h, w), cell = level.maps.hw, level.maps.cell
    point_xy = (level.found.middles_yx[index][::-1] + 0.5) * cell - 0.5
    inside: NDArray[np.float32] = np.minimum(point_xy, [w - 1, h - 1]).astype(np.float32)
    return inside


def _prompt(
    level: _Level, index: int, box_yx: NDArray[np.intp], view: View, settings: DenseSettings
) -> tuple[Prompt, NDArray[np.float32] | None]:
    """The prompt of an object, and its rough mask, if that is a part of the prompt.

    The box around a rod in a colony holds others, too. Such an object is prompted by itself and a click in its middle.
    """
    y0, x0, y1, x1 = level.found.boxes[index]
    labels = level.found.labels[y0:y1, x0:x1]
    own = labels == index + 1
    if ((labels > 0) & ~own).sum() > settings.crowded * own.sum():
        return Prompt(points=_middle(level, index)[None]), _rough_logits(level, index, view)
    (top, left, bottom, right), (h, w) = box_yx, level.maps.hw
    return Prompt(box=np.array([left, top, min(right, w), min(bottom, h)], np.float32)), None


def _rough_logits(level: _Level, index: int, view: View) -> NDArray[np.float32]:
    """(S/4, S/4) logits of an object in a view, which rise with the distance from its outline."""
    cell = level.maps.cell
    y, x, side = view.y // cell, view.x // cell, view.width // cell
    labels = level.found.labels[y : y + side, x : x + side]
    inside = np.zeros((side, side), bool)
    inside[: labels.shape[0], : labels.shape[1]] = labels == index + 1
    if inside.all():  # there is no outline to measure a distance from
        return np.full(inside.shape, LAST_MASK_LIMIT, np.float32)
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    logits: NDArray[np.float32] = (_LOGITS_PER_CELL * distance).clip(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
    return logits.astype(np.float32)


def _scores(
    predictor: DenseDecoder, prompted: Sequence[_Prompted], settings: DenseSettings, options: MaskGeneratorOptions
) -> list[float]:
    """Score of each mask; where the first one leaves doubt, a click in the middle of the object is asked, too."""
    scores = [settings.first_score.of(each.features) for each in prompted]
    low, high = settings.unsure
    unsure = [row for row, score in enumerate(scores) if low <= score <= high]
    if unsure:
        points_xy = np.stack([prompted[row].point_xy for row in unsure])
        clicks = predictor.answer_clicks(points_xy, [prompted[row].found.view for row in unsure])
        for row, clicked in zip(unsure, clicks, strict=True):
            support = _click_support(prompted[row].found, clicked, options.mask_threshold)
            scores[row] = settings.score.of(prompted[row].features._replace(click_support=support))
    return scores


def _click_support(found: ViewCandidates, clicked: ViewCandidates, threshold: float) -> float:
    """Largest product of predicted IoU and IoU with a mask among the candidates of a click."""
    mask, candidates = found.logits[0, 0] > threshold, clicked.logits[0] > threshold
    shared, either = (candidates & mask).sum((1, 2)), (candidates | mask).sum((1, 2))
    return float((clicked.scores[0].clamp(0, 1) * shared / either.clamp(min=1)).max())


def _prompted(found: ViewCandidates, level: _Level, index: int, options: MaskGeneratorOptions) -> _Prompted | None:
    """The answer to the prompt of an object; None if it is empty in the image, or does not overlap the object."""
    features = _features(found, level, index, options)
    if features is None:
        return None
    origin_yx, mask, stability = _in_image(found.logits[0, 0].float(), found.view, level.maps, options)
    return _Prompted(found, features, origin_yx, mask, stability, _middle(level, index)) if mask.any() else None


def _outcome(each: _Prompted, score: float, hw: tuple[int, int]) -> _Outcome:
    y, x = each.origin_yx
    return _Outcome(
        run_lengths_of_window(each.mask, (y, x), hw),
        mask_to_box(each.mask) + np.array([x, y, x, y]),
        score * each.found.presence,
        each.stability,
        each.point_xy,
    )


def _features(found: ViewCandidates, level: _Level, index: int, options: MaskGeneratorOptions) -> ScoreFeatures | None:
    """What a mask is scored by before a click; None if it does not overlap the object that it was prompted by."""
    maps, view, low = level.maps, found.view, found.logits[0, 0].float()
    y, x = view.y // maps.cell, view.x // maps.cell
    inside = (low > options.mask_threshold).cpu().numpy()
    values = maps.maps[:, y : y + inside.shape[0], x : x + inside.shape[1]]
    inside = inside[: values.shape[1], : values.shape[2]]
    same = level.found.labels[y : y + inside.shape[0], x : x + inside.shape[1]] == index + 1
    if not (inside & same).any():
        return None
    either = inside | same
    rows, columns = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
    part = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    inside, same, values = inside[part], same[part], values[:, part[0], part[1]]
    core = ndimage.binary_erosion(inside)
    rim, around = inside & ~core, ndimage.binary_dilation(inside) & ~inside

    def mean(channel: DenseChannel, where: NDArray[np.bool_]) -> float:
        return float(values[channel][where].mean()) if where.any() else 0.0

    return ScoreFeatures(
        predicted_iou=float(found.scores[0, 0]),
        stability=float(stability_score(low, options.mask_threshold, options.stability_score_offset)),
        foreground=float(level.found.scores[index]),
        agreement=float((inside & same).sum() / either.sum()),
        foreground_inside=mean(DenseChannel.FOREGROUND, inside),
        foreground_around=mean(DenseChannel.FOREGROUND, around),
        border_at_rim=max(mean(DenseChannel.BORDER, rim), mean(DenseChannel.BORDER, around)),
        border_inside=mean(DenseChannel.BORDER, core),
        depth=float(values[DenseChannel.DEPTH][inside].max()),
        affinity=mean(DenseChannel.SAME_BELOW, core) * mean(DenseChannel.SAME_RIGHT, core),
    )


def _in_image(
    low: Tensor, view: View, maps: DenseMaps, options: MaskGeneratorOptions
) -> tuple[tuple[int, int], NDArray[np.bool_], float]:
    """First row and column, mask and stability in image pixels; only where the low-resolution mask is."""
    rows, columns = (
        torch.nonzero((low > options.mask_threshold - options.stability_score_offset).any(axis))[:, 0]
        for axis in (1, 0)
    )
    y0, x0 = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
    part = low[y0 : int(rows[-1]) + 2, x0 : int(columns[-1]) + 2]
    size = (part.shape[0] * maps.cell, part.shape[1] * maps.cell)
    logits = F.interpolate(part[None, None], size=size, mode="bilinear", align_corners=False)[0]
    y, x = view.y + y0 * maps.cell, view.x + x0 * maps.cell
    logits = logits[:, : maps.hw[0] - y, : maps.hw[1] - x]
    if options.min_mask_region_area > 0:
        area_px = options.min_mask_region_area * maps.cell**2
        logits = remove_small_regions(fill_holes(logits, area_px), area_px)
    stability = float(stability_score(logits, options.mask_threshold, options.stability_score_offset)[0])
    mask: NDArray[np.bool_] = threshold_logits(logits, options.mask_threshold)[0].cpu().numpy()
    return (y, x), mask, stability


def _as_proposals(hw: tuple[int, int], outcomes: Sequence[_Outcome]) -> Proposals:
    return Proposals(
        hw=hw,
        crops=(Crop((0, 0, hw[1], hw[0]), 0),),
        runs=tuple(each.runs for each in outcomes),
        boxes_xyxy=np.array([each.box_xyxy for each in outcomes], np.int64).reshape(-1, 4),
        predicted_iou=np.array([each.iou for each in outcomes], np.float32),
        stability=np.array([each.stability for each in outcomes], np.float32),
        points_xy=np.array([each.point_xy for each in outcomes], np.float32).reshape(-1, 2),
        crop_index=np.zeros(len(outcomes), np.int64),
    )
