"""Label images of any number type as int32: whole floats, 64-bit ids and binary masks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_sam2._checks import LARGEST_ID
from napari_sam2._errors import FrameError, warn_caller

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConvertedLabels", "convert_labels", "could_be_mask"]

_MASK_VALUES = (255, 65535)  # what image editors and ImageJ write inside a binary mask of 8 or 16 bits
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class ConvertedLabels:
    """Labels as int32, and what was changed on the way.

    Attributes
    ----------
    labels : numpy.ndarray
        int32, 0 is background.
    renumbered : dict of int to int
        Objects whose ids were above 2**31 - 1, and their new ids; empty where all were kept.
    num_components : int or None
        Of a binary mask with the values 0 and 255 (or 65535): the number of components it was split into.
    notes : tuple of str
        What else a user should know, such as that NaN was read as background.
    """

    labels: NDArray[np.int32]
    renumbered: dict[int, int] = field(default_factory=dict)
    num_components: int | None = None
    notes: tuple[str, ...] = ()

    def warn(self, name: str) -> None:
        """Warn of what was changed, if anything was."""
        if self.num_components is not None:
            warn_caller(f"{name} is a binary mask; it was split into {self.num_components} connected components")
        if self.renumbered:
            shown = ", ".join(f"{old} is now {new}" for old, new in list(self.renumbered.items())[:_SHOWN])
            more = f", and {len(self.renumbered) - _SHOWN} more" if len(self.renumbered) > _SHOWN else ""
            warn_caller(f"{name} has labels above {LARGEST_ID}, which were renumbered: {shown}{more}")
        for note in self.notes:
            warn_caller(f"{name} {note}")


def convert_labels(values: ArrayLike, name: str = "the labels") -> ConvertedLabels:
    """Convert a label image of any number type to int32 without merging objects.

    Parameters
    ----------
    values : array-like
        Bools, integers, or floats that are whole numbers; 0 is background, or NaN or -1 where no value is 0.
    name : str
        What messages call it.

    Returns
    -------
    ConvertedLabels
        Ids up to 2**31 - 1 are kept and larger ones get the lowest free numbers. A mask of 0 and 255 (or 65535) is
        split into its connected components.

    Raises
    ------
    FrameError
        If a value is negative, not finite or not a whole number, apart from such a background.
    """
    array, notes = _with_background(np.asarray(values), name)
    if array.dtype.kind == "f":
        array = _whole_numbers(array, name)
    if array.dtype.kind not in "biu":
        raise FrameError(f"{name} holds {array.dtype}; expected integers, or floats that are whole numbers")
    if not array.size:
        return ConvertedLabels(array.astype(np.int32))
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise FrameError(
            f"{name} holds values from {low} to {high}; labels are 0 (background) and above: add {-low}, or replace "
            "what is background by 0"
        )
    notes += _doubts(array, low, high)
    if could_be_mask(array):
        components, count = ndimage.label(array, np.ones((3,) * array.ndim))
        return ConvertedLabels(components.astype(np.int32, copy=False), num_components=int(count))
    if high <= LARGEST_ID:
        return ConvertedLabels(array.astype(np.int32, copy=False), notes=notes)
    return replace(_renumbered(array), notes=notes)


def _with_background(array: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The array with 0 for a background of NaN or -1, as other programs write it, and a note that says so."""
    if array.dtype.kind not in "fi" or not array.size:
        return array, ()
    is_nan = np.isnan(array) if array.dtype.kind == "f" else np.zeros((), bool)
    if is_nan.any():
        is_background, value = is_nan, "NaN"
    elif array.min() == -1:
        is_background, value = array == -1, "-1"
    else:
        return array, ()
    if is_background.all():
        raise FrameError(f"{name} holds {value} only; labels are whole numbers, and 0 is background")
    if (array == 0).any():
        raise FrameError(
            f"{name} holds both {value} and 0, one of which is background; replace {value} by 0 if it is background as "
            f"well, or add 1 to all labels and then replace {value} by 0"
        )
    return np.where(is_background, array.dtype.type(0), array), (f"contains no 0; {value} is read as background",)


def _doubts(array: NDArray[Any], low: int, high: int) -> tuple[str, ...]:
    """What is said of labels that may not be what their writer meant."""
    if array.dtype == bool and high:
        count = int(ndimage.label(array, np.ones((3,) * array.ndim))[1])
        if count > 1:
            pieces = f"holds True and False, and is read as one object in {count} pieces"
            return (f"{pieces}; for one object each, give numbers (skimage.measure.label)",)
    if low > 0 and array.dtype.kind == "u" and high == np.iinfo(array.dtype).max:
        return (f"has no background (0); {high} is read as an object: if it is background, replace it by 0",)
    return ()


def could_be_mask(array: NDArray[Any]) -> bool:
    """Whether an array holds 255 (or 65535) and otherwise 0 only, as binary masks do."""
    high = int(array.max())
    return high in _MASK_VALUES and bool(np.isin(array, (0, high)).all())


def _small_numbers(ids: NDArray[Any]) -> dict[int, int]:
    """The lowest free numbers for ids that are too large."""
    known = {int(i) for i in ids}
    numbers: dict[int, int] = {}
    following = 1
    for large in sorted(i for i in known if i > LARGEST_ID):
        while following in known:
            following += 1
        numbers[large] = following
        following += 1
    return numbers


def _renumbered(array: NDArray[Any]) -> ConvertedLabels:
    ids, inverse = np.unique(array, return_inverse=True)
    renumbered = _small_numbers(ids)
    new = np.array([renumbered.get(int(i), int(i)) for i in ids], np.int32)
    return ConvertedLabels(new[inverse].reshape(array.shape), renumbered)


def _whole_numbers(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    exact = 2 ** (np.finfo(array.dtype).nmant + 1)  # above it neighbouring whole numbers are the same float
    if array.size:
        is_odd = ~np.isfinite(array) | (array != np.rint(array))
        if is_odd.any():
            raise FrameError(
                f"{name} holds {array.dtype} with values that are not whole numbers, such as {array[is_odd][0]}; "
                "labels are integers"
            )
        high = float(array.max())
        if high > exact:
            raise FrameError(
                f"{name} holds {array.dtype} up to {high:.0f}; above {exact} this type cannot tell labels apart: "
                "save the labels as integers"
            )
    return array.astype(np.int64)
