"""A click says nothing about size: look at several windows around it, then closer at what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from napari_sam2._types import Prompt
from napari_sam2.inference.following import extent_in_image
from napari_sam2.inference.transforms import TARGET_EXTENT, View, choose_view, resample_logits, view_for_extent

__all__ = ["Look", "look_around", "needs_looking"]

_WINDOWS = (0.75, 1.0, 1.5, 2.0)  # of the model's native window


class Look(NamedTuple):
    """Candidates of one prompt in one view: ``logits`` (1, M, h, w) and ``scores`` (1, M), float32."""

    view: View
    logits: Tensor
    scores: Tensor


def needs_looking(prompt: Prompt | None, native_window: int | None, *, has_logits: bool) -> bool:
    """Whether only clicks were given, to a model that looks through windows, with nothing to refine."""
    if prompt is None or native_window is None or has_logits:
        return False
    return prompt.box is None and prompt.mask is None


def look_around(
    decode: Callable[[Sequence[View]], Sequence[Look]], prompt: Prompt, hw: tuple[int, int], native_window: int
) -> Look:
    """Find the window that suits the clicked object, and its masks there.

    Parameters
    ----------
    decode : callable
        Decodes the prompt in several views.
    prompt : Prompt
        Clicks.
    hw : tuple of int
        (height, width) of the image.
    native_window : int
        The model's own window, in image pixels.

    Returns
    -------
    Look
        Of the window that shows the best mask of the first look at the size the model knows best. The best
        candidate there is averaged with that mask: two views of an object err less than one.
    """
    views = dict.fromkeys(choose_view(prompt, hw, round(share * native_window)) for share in _WINDOWS)
    looks = decode(list(views))
    first = max(looks, key=lambda look: float(look.scores.max()))
    best = int(first.scores[0].argmax())
    view = _closer(first.logits[0, best], first.view, prompt, hw)
    if view == first.view:
        return first
    (second,) = decode([view])
    chosen = int(second.scores[0].argmax())
    blended = second.logits.clone()
    blended[:, chosen] = (
        blended[:, chosen] + resample_logits(first.logits[:, best : best + 1], first.view, view)[:, 0]
    ) / 2
    return Look(view, blended, second.scores)


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
