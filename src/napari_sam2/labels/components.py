"""Connected components of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Pieces", "find_pieces", "without_specks"]


_NEIGHBOURS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


class Pieces(NamedTuple):
    """Connected components of a mask.

    Attributes
    ----------
    numbers : numpy.ndarray
        Of the mask's shape, int32: the number of the component from 1, and 0 outside the mask.
    areas : numpy.ndarray
        Pixels of each component by number; ``areas[0]`` is 0.
    """

    numbers: NDArray[np.int32]
    areas: NDArray[np.int64]


def find_pieces(mask: NDArray[np.bool_], *, connectivity: Literal[4, 8] = 8) -> Pieces:
    """Number the connected components of an (H, W) mask.

    Parameters
    ----------
    mask : (H, W) bool array
        True inside.
    connectivity : {4, 8}, default 8
        Whether pixels that share only a corner are connected.

    Returns
    -------
    Pieces
        Numbers and areas.
    """
    numbers, _ = ndimage.label(mask, _NEIGHBOURS[connectivity])
    areas = np.bincount(numbers.reshape(-1), minlength=1)
    areas[0] = 0
    return Pieces(numbers, areas)


def without_specks(mask: NDArray[np.bool_], min_component: float) -> NDArray[np.bool_]:
    """Drop small components of a mask, which are not objects of their own.

    Parameters
    ----------
    mask : (H, W) bool array
        True inside.
    min_component : float
        Smallest area of a component, as a fraction of the largest one.

    Returns
    -------
    (H, W) bool array
        ``mask`` itself if it has a single component or none.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows) or min_component <= 0:
        return mask
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    numbers, areas = find_pieces(mask[window])
    if len(areas) < 3:
        return mask
    kept = np.zeros_like(mask)
    kept[window] = (areas >= min_component * areas.max())[numbers] & mask[window]
    return kept
