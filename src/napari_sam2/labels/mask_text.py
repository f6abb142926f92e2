"""Masks as short lines of text, to stand in scripts and files."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["mask_from_text", "mask_to_text"]

_MAX_PIXELS = 2**31


def mask_to_text(mask: ArrayLike) -> str:
    """A mask as text.

    Parameters
    ----------
    mask : (H, W) array-like
        Non-zero where the object is.

    Returns
    -------
    str
        ``"H,W,y0,x0,y1,x1:"`` and the pixels of the box from (y0, x0) to (y1, x1), packed and in base64.

    Raises
    ------
    PromptError
        If it has not two dimensions.
    """
    image = np.asarray(mask) != 0
    if image.ndim != 2:
        raise PromptError(f"a mask of shape {image.shape} was given; allowed is (H, W)")
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else (0, 0, 0, 0)
    packed = zlib.compress(np.packbits(image[box[0] : box[2], box[1] : box[3]]).tobytes(), 9)
    head = ",".join(str(n) for n in (*image.shape, *box))
    return f"{head}:{base64.b64encode(packed).decode()}"


def mask_from_text(text: str) -> NDArray[np.bool_]:
    """The mask of a text that ``mask_to_text`` made.

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
        If the text is anything else, or was cut.
    """
    try:
        head, _, body = text.partition(":")
        h, w, y0, x0, y1, x1 = (int(part) for part in head.split(","))
        packed = zlib.decompress(base64.b64decode(body, validate=True))
    except (ValueError, zlib.error, binascii.Error, AttributeError) as error:
        raise PromptError(f"the text holds no mask ({error}); give one from mask_to_text") from error
    count = (y1 - y0) * (x1 - x0)
    is_box = 0 <= y0 <= y1 <= h and 0 <= x0 <= x1 <= w and h * w <= _MAX_PIXELS
    if not is_box or len(packed) != (count + 7) // 8:
        raise PromptError(f"a text was given whose mask ({head}) has {len(packed)} bytes; give one from mask_to_text")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
    mask = np.zeros((h, w), bool)
    mask[y0:y1, x0:x1] = bits.reshape(y1 - y0, x1 - x0).astype(bool)
    return mask
