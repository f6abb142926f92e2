"""A click says nothing about size: look at several windows around it, then closer at what was found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_sam2._types import Prompt
from napari_sam2.inference.masks.components import keep_components
from napari_sam2.inference.views.transforms import resample_logits
from napari_sam2.inference.views.view import TARGET_EXTENT, View, choose_view, view_for_extent
from napari_sam2.inference.views.view_tracking import extent_in_image
from napari_sam2.network.sam2 import LAST_MASK_LIMIT

__all__ = [
    "ALWAYS_SEEN",
    "Decode",
    "ViewCandidates",
    "average_best",
    "keep_clicked_components",
    "nearby_views",
    "needs_click_search",
    "refining_views",
    "search_click",
    "search_views",
    "wider_view",
]

# Measured on training images of four kinds (nuclei, electron microscopy, two phase-contrast movies), as the mean IoU of
# the mask that is chosen at the first look: windows of 0.75, 1, 1.5 and 2 native sides and the predicted IoU alone
# 0.50; these three windows with both corrections 0.54. Of twelve kinds, later: two looks 0.725, the mean made better by
# the model once more 0.729, a wider window besides 0.730 (0.007 more on some kinds). Where _SETTLED, the widest window
# changes nothing. Boxes: in one window 0.822, in two 0.831.
_WINDOWS = (0.75, 1.5, 3.0)  # of the model's native window
_LATTICE = 2  # steps per side of a window
ALWAYS_SEEN = 2  # of them, the smallest, show every click
_AROUND = 2  # steps of the lattice to each side of a point that count as near it
_AGREEMENT = 0.75  # weight of what the window next in size shows
_CUT_OFF = 1.0  # weight of the share of the window's edge that a mask runs across
_SETTLED = 0.5  # of the product of trust and agreement, from which the widest window is not looked through
_WIDER = 1.4  # of the side of the window that suits an object: the other one that it is looked at through
_ELSEWHERE = -2.0  # logit of a pixel of a piece that holds no click


class ViewCandidates(NamedTuple):
    """Candidates of one prompt in one view: ``logits`` (1, M, h, w) and ``scores`` (1, M), float32.

    ``presence``, 0 to 1, is how likely there is an object at all.
    """

    view: View
    logits: Tensor
    scores: Tensor
    presence: float = 1.0


Decode = Callable[[Sequence[View], Tensor | None], Sequence[ViewCandidates]]


def needs_click_search(prompt: Prompt | None, native_window: int | None, *, has_logits: bool) -> bool:
    """Whether only clicks were given, to a model that looks through windows, with nothing to refine."""
    if prompt is None or native_window is None or has_logits:
        return False
    return prompt.box is None and prompt.mask is None


def search_click(
    decode: Decode,
    prompt: Prompt,
    hw: tuple[int, int],
    native_window: int,
) -> ViewCandidates:
    """Find the window that suits the clicked object, and its masks there.

    Parameters
    ----------
    decode : callable
        Decodes the prompt in several views; in a single one with earlier logits (1, 1, h, w), if there are any.
    prompt : Prompt
        Clicks.
    hw : tuple of int
        (height, width) of the image.
    native_window : int
        The model's own window, in image pixels.

    Returns
    -------
    ViewCandidates
        Of the window that shows the best mask of the first look at the size the model knows best. The best candidate
        there is averaged with that mask and with that of a wider window, as several views of an object err less than
        one, and then with what the model makes of this average.

    Notes
    -----
    An object is in one piece around its clicks: pieces of a mask that hold no click on the object are left out before
    masks are compared. The best mask of the first look has a high predicted IoU, is not cut off by its window, and is
    seen in the window next in size too.
    """

    first, best = _first_look(decode, prompt, hw, native_window)
    views = _refining_views(first, best, prompt, hw)
    if not views:
        return first
    closer, *others = _pieces(decode, views, prompt)
    others.append(ViewCandidates(first.view, first.logits[:, best : best + 1], first.scores[:, best : best + 1]))
    mean = average_best(closer, others)
    chosen = int(mean.scores[0].argmax())
    known = mean.logits[:, chosen : chosen + 1].clamp(-LAST_MASK_LIMIT, LAST_MASK_LIMIT)
    return average_best(mean, _pieces(decode, views[:1], prompt, known))


def refining_views(decode: Decode, prompt: Prompt, hw: tuple[int, int], native_window: int) -> list[View]:
    """The windows that `search_click` looks through after the first look, with the same arguments."""
    return _refining_views(*_first_look(decode, prompt, hw, native_window), prompt, hw)


def _first_look(decode: Decode, prompt: Prompt, hw: tuple[int, int], native_window: int) -> tuple[ViewCandidates, int]:
    """What is seen in the scouting window with the best mask, and which of its candidates that is."""
    views = search_views(prompt, hw, native_window)
    looks = _pieces(decode, views[:ALWAYS_SEEN], prompt)
    if len(views) > ALWAYS_SEEN and not _is_settled(looks, hw):
        looks += _pieces(decode, views[ALWAYS_SEEN:], prompt)
    number, best = _choose(looks, hw)
    return looks[number], best


def _refining_views(first: ViewCandidates, best: int, prompt: Prompt, hw: tuple[int, int]) -> list[View]:
    """The window that suits what was found, and a wider one; none if it was found in such a window."""
    view = _closer(first.logits[0, best], first.view, prompt, hw)
    if view == first.view:
        return []
    wide = _widened(view, hw)
    return [view] if wide in (view, first.view) else [view, wide]


def _pieces(
    decode: Decode, views: Sequence[View], prompt: Prompt, logits: Tensor | None = None
) -> list[ViewCandidates]:
    return [keep_clicked_components(look, prompt) for look in decode(views, logits)]


def search_views(prompt: Prompt, hw: tuple[int, int], native_window: int) -> list[View]:
    """The windows of the first look, smallest first; all lie on lattices, so that clicks near each other share them."""
    windows = [choose_view(prompt, hw, round(share * native_window)) for share in _WINDOWS]
    return list(dict.fromkeys(_on_lattice(view, hw) for view in windows))


def nearby_views(point_xy: tuple[float, float], hw: tuple[int, int], native_window: int) -> list[View]:
    """The windows that clicks at and around a point are looked at through first, nearest first.

    Parameters
    ----------
    point_xy : tuple of float
        (x, y) in image pixels; may lie outside the image.
    hw : tuple of int
        (height, width) of the image.
    native_window : int
        The model's own window, in image pixels.
    """
    step = round(_WINDOWS[0] * native_window) / _LATTICE
    places = sorted(itertools.product(range(-_AROUND, _AROUND + 1), repeat=2), key=lambda at: at[0] ** 2 + at[1] ** 2)
    found: dict[View, None] = {}
    for down, right in places:
        x, y = point_xy[0] + right * step, point_xy[1] + down * step
        point = np.array([[min(max(x, 0.0), hw[1] - 1.0), min(max(y, 0.0), hw[0] - 1.0)]], np.float32)
        found |= dict.fromkeys(search_views(Prompt(points=point), hw, native_window)[:ALWAYS_SEEN])
    return list(found)


def _on_lattice(view: View, hw: tuple[int, int]) -> View:
    """The window of the lattice, no farther than half a step in x and y."""
    step = max(1, view.width // _LATTICE)

    def moved(start: int, length: int) -> int:
        # a window at the image's edge stays there: what is clicked may lie anywhere between its middle and the edge
        at_edge = length <= view.width or start == length - view.width
        return start if at_edge else min(round(start / step) * step, length - view.width)

    return view._replace(x=moved(view.x, hw[1]), y=moved(view.y, hw[0]))


def wider_view(prompt: Prompt | None, view: View, hw: tuple[int, int], *, has_logits: bool) -> View | None:
    """The window that a prompt is answered in besides ``view``, no larger than the image; None if in that alone.

    A box tells the object's size, and with nothing to refine two windows err less than one.
    """
    if prompt is None or prompt.box is None or prompt.mask is not None or has_logits or not view.is_native:
        return None
    wide = _widened(view, hw)
    return None if wide == view else wide


def _widened(view: View, hw: tuple[int, int]) -> View:
    """A wider window around the same middle, no larger than the image."""
    centre = view.x + view.width / 2 - 0.5, view.y + view.height / 2 - 0.5
    return view_for_extent(centre, view.width * _WIDER, hw)


def average_best(look: ViewCandidates, others: Sequence[ViewCandidates]) -> ViewCandidates:
    """The look, its best candidate the mean of the best candidates of all."""
    chosen = int(look.scores[0].argmax())
    masks = [look.logits[:, chosen]]
    for other in others:
        best = int(other.scores[0].argmax())
        masks.append(resample_logits(other.logits[:, best : best + 1], other.view, look.view)[:, 0])
    logits = look.logits.clone()
    logits[:, chosen] = torch.stack(masks).mean(0)
    return look._replace(logits=logits)


def keep_clicked_components(look: ViewCandidates, prompt: Prompt) -> ViewCandidates:
    """The look without the pieces of its masks that no click on the object lies in.

    A mask that no click lies in keeps the pieces that are nearest to them.
    """
    assert prompt.labels is not None
    clicks = prompt.points[prompt.labels == 1]
    if not len(clicks):
        return look
    height, width = look.logits.shape[-2:]
    x = ((clicks[:, 0] + 0.5 - look.view.x) / look.view.width * width).astype(int).clip(0, width - 1)
    y = ((clicks[:, 1] + 0.5 - look.view.y) / look.view.height * height).astype(int).clip(0, height - 1)
    logits = look.logits.clone()
    for row, mask in enumerate((look.logits[0] > 0).cpu().numpy()):
        pieces, count = ndimage.label(mask)
        if count < 2:
            continue
        kept = set(pieces[y, x].tolist()) - {0}
        if not kept:
            nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
            kept = set(pieces[nearest[0][y, x], nearest[1][y, x]].tolist())
        logits[0, row] = keep_components(logits[0, row], pieces, kept, _ELSEWHERE)
    return look._replace(logits=logits)


def _choose(looks: Sequence[ViewCandidates], hw: tuple[int, int]) -> tuple[int, int]:
    """The look and the candidate with the best mask."""
    trusted = [look.scores[0].float().cpu() - _CUT_OFF * _cut_off(look, hw) for look in looks]
    total = [scores.clone() for scores in trusted]
    for narrow, wide in zip(range(len(looks) - 1), range(1, len(looks)), strict=True):
        iou = _agreement(looks[narrow], looks[wide])
        to_wide = (iou * trusted[wide].clamp(0, 1)).amax(1)
        to_narrow = (iou.T * trusted[narrow].clamp(0, 1)).amax(1)
        total[narrow] = torch.maximum(total[narrow], trusted[narrow] + _AGREEMENT * to_wide)
        total[wide] = torch.maximum(total[wide], trusted[wide] + _AGREEMENT * to_narrow)
    number = max(range(len(looks)), key=lambda k: float(total[k].max()))
    return number, int(total[number].argmax())


def _is_settled(looks: Sequence[ViewCandidates], hw: tuple[int, int]) -> bool:
    """Whether two windows show the same mask, both trust it, and neither cuts it off."""
    if len(looks) < 2:
        return True
    narrow, wide = ((look.scores[0].float().cpu() - _CUT_OFF * _cut_off(look, hw)).clamp(min=0) for look in looks)
    trust = torch.minimum(narrow[:, None], wide[None])
    return bool((_agreement(looks[0], looks[1]) * trust).max() > _SETTLED)


def _cut_off(look: ViewCandidates, hw: tuple[int, int]) -> Tensor:
    """(M,) up to 0.5: how much of a side of the window each mask runs across, the image's own border left out."""
    view, masks = look.view, look.logits[0] > 0
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


def _agreement(narrow: ViewCandidates, wide: ViewCandidates) -> Tensor:
    """(M, M) IoU of each mask of one look with each of a wider one, in image pixels."""
    near, far = (narrow.logits[0] > 0).float(), (wide.logits[0] > 0).float()
    cell, wide_cell = (look.view.width * look.view.height / look.logits[0, 0].numel() for look in (narrow, wide))
    seen = (resample_logits(wide.logits, wide.view, narrow.view)[0] > 0).float()
    common = near.flatten(1) @ seen.flatten(1).T * cell
    areas = near.flatten(1).sum(1)[:, None] * cell + far.flatten(1).sum(1)[None] * wide_cell
    return (common / (areas - common).clamp(min=1)).cpu()


def _closer(logits: Tensor, view: View, prompt: Prompt, hw: tuple[int, int]) -> View:
    """The view centred on a mask at a good size, if it still shows every click on the object."""
    mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (logits > 0).cpu().numpy()
    extent = extent_in_image(mask, view)
    if extent is None:
        return view
    closer = view_for_extent((extent.x, extent.y), extent.side / TARGET_EXTENT, hw)
    assert prompt.labels is not None
    clicks = prompt.points[prompt.labels == 1]
    low = np.array((closer.x, closer.y))
    is_inside = ((clicks >= low) & (clicks < low + closer.width)).all()
    return closer if is_inside else view
