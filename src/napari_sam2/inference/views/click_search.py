"""Answer prompts in suitable views: clicks at several scales, boxes in two or three views, everything else in one.

A click carries no scale. It is decoded in views of several sizes, and then in one scaled to the best mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_sam2._types import Prompt
from napari_sam2.inference.masks.components import keep_components
from napari_sam2.inference.views.corrections import CorrectionSettings, honour_clicks, keep_far_from_clicks
from napari_sam2.inference.views.transforms import resample_logits
from napari_sam2.inference.views.view import TARGET_EXTENT, View, choose_view, contains_prompt, view_for_extent
from napari_sam2.inference.views.view_tracking import extent_in_image
from napari_sam2.network.sam2 import LAST_MASK_LIMIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ClickSearchSettings",
    "Decode",
    "DecodePrompts",
    "ViewCandidates",
    "answer_prompts",
    "average_best",
    "keep_clicked_components",
    "nearby_views",
    "needs_click_search",
    "other_views",
    "refining_views",
    "search_click",
    "search_views",
]


@dataclass(frozen=True)
class ClickSearchSettings:
    """How a click is decoded at several scales, for models with a native window.

    Attributes
    ----------
    scales : tuple of float
        Sides of the search views as multiples of the native window, ascending.
    num_initial : int
        Number of search views, smallest first, in which every click is decoded. The others are skipped where the last
        two of these agree.
    steps_per_view : int
        Search views lie on a grid with this many steps per side, so that nearby clicks share encoded views.
    prefetch_steps : int
        Grid steps to each side of a point within which `nearby_views` looks for views to encode in advance.
    score_spread : float
        Of two masks, the one with a predicted IoU higher by this is e times as likely the object that is meant.
    cut_off_weight : float
        Weight of the fraction of the view's edge that a mask crosses, which counts against it where two views are
        compared.
    settled_score : float
        Product of this score and the IoU of masks of two views from which further search views are skipped.
    wider_scale : float
        Side of the second, wider view of an object relative to the view scaled to it.
    narrower_scale : float or None
        Side of the third, narrower and mirrored view of a box relative to the view scaled to it; None leaves it out.
    dropped_logit : float
        Upper limit of the logits of mask components without a positive click.
    corrections : CorrectionSettings or None
        What a further click changes; None takes the decoder's mask as it is.

    Notes
    -----
    Measured on training images of four kinds (nuclei, electron microscopy, two phase-contrast movies), as mean IoU of
    the mask chosen first: views of 0.75, 1, 1.5 and 2 native windows and the predicted IoU alone 0.50; these three
    views with agreement and cut-off 0.54. Later, on twelve kinds: two passes 0.725, decoding their mean once more
    0.729, with a wider view in addition 0.730 (0.007 more on some kinds). Where the first two views agree, the widest
    one changes nothing. Boxes: one view 0.822, two views 0.831; on seven other sets, three views 0.804, with the third
    one mirrored and the mean decoded once more 0.809, on nuclei 0.897 and 0.897. The choice by expected IoU, instead of
    the predicted IoU plus the agreement with the next view: training images 0.735 and 0.733, nuclei 0.804 and 0.802,
    seven sets of other kinds 0.702 and 0.710, where scores are least certain. There, a spread of 0.1 gives 0.712 where
    0.07 gives 0.714.
    """

    scales: tuple[float, ...] = (0.75, 1.5, 3.0)
    num_initial: int = 2
    steps_per_view: int = 2
    prefetch_steps: int = 2
    score_spread: float = 0.07
    cut_off_weight: float = 1.0
    settled_score: float = 0.5
    wider_scale: float = 1.4
    narrower_scale: float | None = 0.5
    dropped_logit: float = -2.0
    corrections: CorrectionSettings | None = field(default_factory=CorrectionSettings)

    def for_frames(self, num_frames: int) -> ClickSearchSettings:
        """These settings for one image, and for a stack those without the narrower view.

        Objects of a stack are tracked in views of the usual width, and a memory of another one misleads them.
        """
        return self if num_frames == 1 else replace(self, narrower_scale=None)


class ViewCandidates(NamedTuple):
    """Candidate masks of one prompt in one view: ``logits`` (1, M, h, w) and ``scores`` (1, M), float32.

    ``presence`` is the probability, 0 to 1, that there is an object.
    """

    view: View
    logits: Tensor
    scores: Tensor
    presence: float = 1.0


Decode = Callable[[Sequence[View], Tensor | None], Sequence[ViewCandidates]]
"""Decodes one prompt in several views, optionally with earlier logits (1, 1, h, w) of a single view."""


class DecodePrompts(Protocol):
    """Decodes several prompts, each in a view of its own."""

    def __call__(
        self, rows: Sequence[int], views: Sequence[View], logits: Sequence[Tensor | None], /
    ) -> Sequence[ViewCandidates]:
        """Decode prompt ``rows[i]`` in ``views[i]``, with earlier logits (1, 1, h, w) of that view or None."""


def answer_prompts(
    decode: DecodePrompts,
    prompts: Sequence[Prompt | None],
    views: Sequence[View],
    logits: Sequence[Tensor | None],
    hw: tuple[int, int],
    native_window: int | None,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> list[ViewCandidates]:
    """Decode prompts in the views that suit them.

    Parameters
    ----------
    decode : DecodePrompts
        Decodes prompts by their index in ``prompts``.
    prompts : sequence of Prompt or None
        P prompts; None stands for earlier logits alone.
    views : sequence of View
        The view of each prompt, from `choose_view` or that of its earlier logits.
    logits : sequence of Tensor or None
        (1, 1, h, w) earlier logits of each prompt to refine.
    hw : tuple of int
        (height, width) of the image.
    native_window : int or None
        The model's native window in image pixels, if it has one.
    settings : ClickSearchSettings, optional
        How clicks are decoded.

    Returns
    -------
    list of ViewCandidates
        One per prompt. Clicks alone are decoded by `search_click`. A box is decoded in a wider and in a narrower view
        too; the mean of the masks is decoded once more and averaged with the result. Clicks that correct earlier
        logits change the mask around them (`corrections`). All other prompts are decoded once, in their view. With a
        native window, no mask contradicts a click.
    """
    found: dict[int, ViewCandidates] = {}
    for i, (prompt, given) in enumerate(zip(prompts, logits, strict=True)):
        if prompt is None or native_window is None:
            continue
        if needs_click_search(prompt, native_window, has_logits=given is not None):

            def decode_one(several: Sequence[View], low: Tensor | None, row: int = i) -> Sequence[ViewCandidates]:
                return decode([row] * len(several), several, [low] * len(several))

            found[i] = search_click(decode_one, prompt, hw, native_window, settings)
    rest = [i for i in range(len(prompts)) if i not in found]
    others = [
        (i, view)
        for i in rest
        for view in other_views(prompts[i], views[i], hw, has_logits=logits[i] is not None, settings=settings)
    ]
    if rest:
        decoded = decode(
            [*rest, *(i for i, _ in others)],
            [*(views[i] for i in rest), *(view for _, view in others)],
            [*(logits[i] for i in rest), *[None] * len(others)],
        )
        found |= dict(zip(rest, decoded[: len(rest)], strict=True))
        boxes = list(dict.fromkeys(i for i, _ in others))
        for i in boxes:
            again = [each for (j, _), each in zip(others, decoded[len(rest) :], strict=True) if j == i]
            found[i] = _average_of_box(found[i], again)
        if boxes:
            means = [_best_logits(found[i], views[i]) for i in boxes]
            refined = decode(boxes, [views[i] for i in boxes], means)
            found |= {i: average_best(found[i], [each]) for i, each in zip(boxes, refined, strict=True)}
    corrections = settings.corrections
    if native_window is None or corrections is None:
        return [found[i] for i in range(len(prompts))]
    for i, (prompt, given) in enumerate(zip(prompts, logits, strict=True)):
        if prompt is None or not len(prompt.points):
            continue
        if given is not None:

            def decode_again(view: View, low: Tensor, row: int = i) -> ViewCandidates:
                return decode([row], [view], [low])[0]

            found[i] = _corrected(decode_again, found[i], given, prompt, hw, corrections)
        found[i] = found[i]._replace(logits=honour_clicks(found[i].logits, found[i].view, prompt, corrections))
    return [found[i] for i in range(len(prompts))]


def _corrected(
    decode: Callable[[View, Tensor], ViewCandidates],
    found: ViewCandidates,
    earlier: Tensor,
    prompt: Prompt,
    hw: tuple[int, int],
    settings: CorrectionSettings,
) -> ViewCandidates:
    """A corrected mask, close to the earlier one far from the clicks, in a smaller view if it became small for its own.

    The first click on an object in a clump often gives the clump, in a view of which the object is a small part.
    """
    kept = keep_far_from_clicks(found.logits, earlier, found.view, prompt, settings)
    found = found._replace(logits=kept)
    best = int(found.scores[0].argmax())
    view = _scaled_to(found.logits[0, best], found.view, prompt, hw)
    if view.width >= settings.shrunken * found.view.width or not contains_prompt(view, prompt):
        return found
    shown = found._replace(logits=found.logits[:, best : best + 1], scores=found.scores[:, best : best + 1])
    low = resample_logits(shown.logits, found.view, view).clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
    return average_best(decode(view, low), [shown])


def needs_click_search(prompt: Prompt | None, native_window: int | None, *, has_logits: bool) -> bool:
    """Whether a prompt consists of clicks alone, without logits to refine, and the model has a native window."""
    if prompt is None or native_window is None or has_logits:
        return False
    return prompt.box is None and not prompt.has_mask


def search_click(
    decode: Decode,
    prompt: Prompt,
    hw: tuple[int, int],
    native_window: int,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> ViewCandidates:
    """Find the view that suits the clicked object, and its masks there.

    Parameters
    ----------
    decode : Decode
        Decodes the prompt.
    prompt : Prompt
        Clicks.
    hw : tuple of int
        (height, width) of the image.
    native_window : int
        The model's native window, in image pixels.
    settings : ClickSearchSettings, optional
        How clicks are decoded.

    Returns
    -------
    ViewCandidates
        Candidates in the view scaled to the best mask of the first pass. The best of them is averaged with that mask
        and with the best mask of a wider view, as the mean of several views has a lower error than one; the mean is
        then decoded once more and averaged with the result.

    Notes
    -----
    An object is taken to be connected: components of a mask without a positive click are dropped before masks are
    compared. The best mask of the first pass has the highest expected IoU, given the predicted IoU of all masks.
    """
    first, best = _first_pass(decode, prompt, hw, native_window, settings)
    views = _refining_views(first, best, prompt, hw, settings)
    if not views:
        return first
    scaled, *others = _decode_clicked(decode, views, prompt, settings)
    others.append(ViewCandidates(first.view, first.logits[:, best : best + 1], first.scores[:, best : best + 1]))
    mean = average_best(scaled, others)
    chosen = int(mean.scores[0].argmax())
    given = mean.logits[:, chosen : chosen + 1].clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
    return average_best(mean, _decode_clicked(decode, views[:1], prompt, settings, given))


def refining_views(
    decode: Decode,
    prompt: Prompt,
    hw: tuple[int, int],
    native_window: int,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> list[View]:
    """The views that `search_click` decodes after its first pass, given the same arguments."""
    first, best = _first_pass(decode, prompt, hw, native_window, settings)
    return _refining_views(first, best, prompt, hw, settings)


def _first_pass(
    decode: Decode, prompt: Prompt, hw: tuple[int, int], native_window: int, settings: ClickSearchSettings
) -> tuple[ViewCandidates, int]:
    """The candidates of the search view with the best mask, and the index of that mask."""
    views = search_views(prompt, hw, native_window, settings)
    num_initial = settings.num_initial
    found = _decode_clicked(decode, views[:num_initial], prompt, settings)
    if len(views) > num_initial and not _is_settled(found, hw, settings):
        found += _decode_clicked(decode, views[num_initial:], prompt, settings)
    number, best = _choose(found, settings)
    return found[number], best


def _refining_views(
    first: ViewCandidates, best: int, prompt: Prompt, hw: tuple[int, int], settings: ClickSearchSettings
) -> list[View]:
    """The view scaled to the best mask, and a wider one; none if the mask was found in a view like that."""
    view = _scaled_to(first.logits[0, best], first.view, prompt, hw)
    if view == first.view:
        return []
    wide = _widened(view, hw, settings)
    return [view] if wide in (view, first.view) else [view, wide]


def _decode_clicked(
    decode: Decode, views: Sequence[View], prompt: Prompt, settings: ClickSearchSettings, logits: Tensor | None = None
) -> list[ViewCandidates]:
    return [
        keep_clicked_components(found, prompt, dropped_logit=settings.dropped_logit) for found in decode(views, logits)
    ]


def search_views(
    prompt: Prompt,
    hw: tuple[int, int],
    native_window: int,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> list[View]:
    """The views of the first pass, smallest first, on grids, so that nearby clicks share views."""
    views = [choose_view(prompt, hw, round(scale * native_window)) for scale in settings.scales]
    return list(dict.fromkeys(_on_grid(view, hw, settings.steps_per_view) for view in views))


def nearby_views(
    point_xy: tuple[float, float],
    hw: tuple[int, int],
    native_window: int,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> list[View]:
    """The initial views of clicks at and around a point, nearest first.

    Parameters
    ----------
    point_xy : tuple of float
        (x, y) in image pixels; may lie outside the image.
    hw : tuple of int
        (height, width) of the image.
    native_window : int
        The model's native window, in image pixels.
    settings : ClickSearchSettings, optional
        How clicks are decoded.
    """
    step = round(settings.scales[0] * native_window) / settings.steps_per_view
    reach = settings.prefetch_steps
    offsets = sorted(itertools.product(range(-reach, reach + 1), repeat=2), key=lambda at: at[0] ** 2 + at[1] ** 2)
    found: dict[View, None] = {}
    for down, right in offsets:
        x, y = point_xy[0] + right * step, point_xy[1] + down * step
        point = np.array([[min(max(x, 0.0), hw[1] - 1.0), min(max(y, 0.0), hw[0] - 1.0)]], np.float32)
        views = search_views(Prompt(points=point), hw, native_window, settings)
        found |= dict.fromkeys(views[: settings.num_initial])
    return list(found)


def _on_grid(view: View, hw: tuple[int, int], steps_per_view: int) -> View:
    """The nearest view on the grid, at most half a step away in x and y."""
    step = max(1, view.width // steps_per_view)

    def moved(start: int, length: int) -> int:
        # a view at the image's edge stays there: the click may lie anywhere between its centre and the edge
        at_edge = length <= view.width or start == length - view.width
        return start if at_edge else min(round(start / step) * step, length - view.width)

    return view._replace(x=moved(view.x, hw[1]), y=moved(view.y, hw[0]))


def other_views(
    prompt: Prompt | None,
    view: View,
    hw: tuple[int, int],
    *,
    has_logits: bool,
    settings: ClickSearchSettings = ClickSearchSettings(),
) -> list[View]:
    """The other views of a box without logits to refine: a wider and a narrower one; none for other prompts.

    A box defines the object's scale, and several views have a lower error than one. The narrower one is mirrored, as
    the errors of a mirrored view have less in common with those of the others.
    """
    if prompt is None or prompt.box is None or prompt.has_mask or has_logits or not view.is_native:
        return []
    views = [_widened(view, hw, settings)]
    if settings.narrower_scale is not None:
        x0, y0, x1, y1 = (float(v) for v in prompt.box)
        middle = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)
        narrower = view_for_extent(middle, view.width * settings.narrower_scale, hw)
        views.append(narrower._replace(is_mirrored=True))
    return [other for other in dict.fromkeys(views) if other != view and contains_prompt(other, prompt)]


def _widened(view: View, hw: tuple[int, int], settings: ClickSearchSettings) -> View:
    """A wider view with the same centre, no larger than the image."""
    centre = view.x + view.width / 2 - 0.5, view.y + view.height / 2 - 0.5
    return view_for_extent(centre, view.width * settings.wider_scale, hw)


def _average_of_box(found: ViewCandidates, others: Sequence[ViewCandidates]) -> ViewCandidates:
    """The mean of several views of a box, on the grid of the narrowest one, which shows thin objects best.

    A single mask keeps the predicted IoU of its own view, for which predicted IoUs are calibrated.
    """
    narrowest, *rest = sorted([found, *others], key=lambda each: each.view.width)
    mean = average_best(narrowest, rest)
    mean = mean._replace(view=mean.view.upright)
    return mean._replace(scores=found.scores, presence=found.presence) if found.scores.shape[1] == 1 else mean


def average_best(found: ViewCandidates, others: Sequence[ViewCandidates]) -> ViewCandidates:
    """Replace the best mask by the mean of the best masks of all views."""
    chosen = int(found.scores[0].argmax())
    masks = [found.logits[:, chosen]]
    for other in others:
        best = int(other.scores[0].argmax())
        masks.append(resample_logits(other.logits[:, best : best + 1], other.view, found.view)[:, 0])
    logits = found.logits.clone()
    logits[:, chosen] = torch.stack(masks).mean(0)
    return found._replace(logits=logits)


def _best_logits(found: ViewCandidates, view: View) -> Tensor:
    """(1, 1, h, w) logits of the best mask in another view, for the decoder to refine."""
    best = int(found.scores[0].argmax())
    logits = resample_logits(found.logits[:, best : best + 1], found.view, view)
    return logits.clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)


def keep_clicked_components(
    found: ViewCandidates, prompt: Prompt, *, dropped_logit: float = ClickSearchSettings.dropped_logit
) -> ViewCandidates:
    """Drop mask components without a positive click.

    A mask that contains no click keeps the components nearest to the clicks.
    """
    clicks = prompt.points[prompt.labels == 1]
    if not len(clicks):
        return found
    height, width = found.logits.shape[-2:]
    x = ((clicks[:, 0] + 0.5 - found.view.x) / found.view.width * width).astype(int).clip(0, width - 1)
    y = ((clicks[:, 1] + 0.5 - found.view.y) / found.view.height * height).astype(int).clip(0, height - 1)
    logits = found.logits.clone()
    for row, mask in enumerate((found.logits[0] > 0).cpu().numpy()):
        components, count = ndimage.label(mask)
        if count < 2:
            continue
        kept = set(components[y, x].tolist()) - {0}
        if not kept:
            nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
            kept = set(components[nearest[0][y, x], nearest[1][y, x]].tolist())
        logits[0, row] = keep_components(logits[0, row], components, kept, dropped_logit)
    return found._replace(logits=logits)


def _choose(several: Sequence[ViewCandidates], settings: ClickSearchSettings) -> tuple[int, int]:
    """Index of the view with the best mask, and of the mask."""
    best = int(_expected_iou(several, settings).argmax())
    ends = np.cumsum([found.scores.shape[1] for found in several])
    number = int(np.searchsorted(ends, best, side="right"))
    return number, best - int(ends[number]) + several[number].scores.shape[1]


def _expected_iou(several: Sequence[ViewCandidates], settings: ClickSearchSettings) -> Tensor:
    """IoU that each mask of all views is expected to have with the object that is meant.

    One of the masks is taken to be that object, the more likely the higher its predicted IoU.
    """
    iou = torch.cat([torch.cat([_agreement(one, other) for other in several], dim=1) for one in several])
    scores = torch.cat([found.scores[0].float().cpu() for found in several])
    return iou @ (scores / settings.score_spread).softmax(0)


def _is_settled(several: Sequence[ViewCandidates], hw: tuple[int, int], settings: ClickSearchSettings) -> bool:
    """Whether the last two views show the same mask, with high scores, and neither cuts it off."""
    if len(several) < 2:
        return True
    narrow, wide = (_trust(found, hw, settings).clamp(min=0) for found in several[-2:])
    trust = torch.minimum(narrow[:, None], wide[None])
    return bool((_agreement(*several[-2:]) * trust).max() > settings.settled_score)


def _trust(found: ViewCandidates, hw: tuple[int, int], settings: ClickSearchSettings) -> Tensor:
    """(M,) predicted IoU of each mask, lowered where the view cuts it off."""
    return found.scores[0].float().cpu() - settings.cut_off_weight * _cut_off(found, hw)


def _cut_off(found: ViewCandidates, hw: tuple[int, int]) -> Tensor:
    """(M,) fraction of the view's edge that each mask crosses, at most 0.5; edges of the image do not count."""
    view, masks = found.view, found.logits[0] > 0
    across = torch.zeros(len(masks))
    for is_inside, edge in (
        (view.x > 0, masks[:, :, 0]),
        (view.y > 0, masks[:, 0]),
        (view.x + view.width < hw[1], masks[:, :, -1]),
        (view.y + view.height < hw[0], masks[:, -1]),
    ):
        if is_inside:
            across += edge.float().mean(1).cpu()
    return across.clamp(max=0.5)


def _agreement(one: ViewCandidates, other: ViewCandidates) -> Tensor:
    """(M, N) IoU of each mask of one view with each mask of another, in image pixels."""
    if one.view.width > other.view.width:
        return _agreement(other, one).T
    near, far = (one.logits[0] > 0).float(), (other.logits[0] > 0).float()
    cell, far_cell = (each.view.width * each.view.height / each.logits[0, 0].numel() for each in (one, other))
    seen = far if one.view == other.view else (resample_logits(other.logits, other.view, one.view)[0] > 0).float()
    common = near.flatten(1) @ seen.flatten(1).T * cell
    areas = near.flatten(1).sum(1)[:, None] * cell + far.flatten(1).sum(1)[None] * far_cell
    return (common / (areas - common).clamp(min=1)).cpu()


def _scaled_to(logits: Tensor, view: View, prompt: Prompt, hw: tuple[int, int]) -> View:
    """The view scaled to a mask; ``view`` if that would not contain every positive click."""
    mask: NDArray[np.bool_] = (logits > 0).cpu().numpy()
    extent = extent_in_image(mask, view)
    if extent is None:
        return view
    scaled = view_for_extent((extent.x, extent.y), extent.side / TARGET_EXTENT, hw)
    clicks = prompt.points[prompt.labels == 1]
    is_inside = not len(clicks) or contains_prompt(scaled, Prompt(points=clicks))
    return scaled if is_inside else view
