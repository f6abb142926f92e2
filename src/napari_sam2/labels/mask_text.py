"""Masks as short lines of text, for scripts and session files."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import PromptError
from napari_sam2._packed_mask import PackedMask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["mask_from_text", "mask_to_text"]

_MAX_PIXELS = 2**31


@checked(PromptError)
def mask_to_text(mask: ArrayLike) -> str:
    """Write a mask as text.

    Parameters
    ----------
    mask : (H, W) array-like
        Non-zero inside the object.

    Returns
    -------
    str
        ``"H,W,y0,x0,y1,x1:"`` and the packed pixels of the bounding box, in base64.

    Raises
    ------
    PromptError
        If the mask does not have two dimensions.
    """
    image = np.asarray(mask) != 0
    if image.ndim != 2:
        raise PromptError(f"a mask of shape {image.shape} was given; expected (H, W)")
    packed = PackedMask.pack(image)
    head = ",".join(str(n) for n in (*image.shape, *packed.box))
    return f"{head}:{base64.b64encode(packed.data).decode()}"


@checked(PromptError)
def mask_from_text(text: str) -> NDArray[np.bool_]:
    """Read a mask that ``mask_to_text`` wrote.

    Parameters
    ----------
    text : str
        The whole line.

    Returns
    -------
    numpy.ndarray
        (H, W) bool.

    Raises
    ------
    PromptError
        If the text was not written by ``mask_to_text``, or is incomplete.
    """
    try:
        head, _, body = text.partition(":")
        h, w, y0, x0, y1, x1 = (int(part) for part in head.split(","))
        data = base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error, AttributeError) as error:
        raise PromptError(f"the text is not a mask ({error}); give a line written by mask_to_text") from error
    if not (0 <= y0 <= y1 <= h and 0 <= x0 <= x1 <= w and h * w <= _MAX_PIXELS):
        raise PromptError(f"the text describes the mask {head}, whose box does not fit; give one from mask_to_text")
    mask = np.zeros((h, w), bool)
    mask[y0:y1, x0:x1] = PackedMask((y0, x0, y1, x1), data).pixels()
    return mask
