"""Arrays that a caller gives: lists, tensors, arrays with masks, with names of axes, or of unknown size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam2._arguments import masked_values
from napari_sam2._errors import FrameError
from napari_sam2._messages import one_line
from napari_sam2.frames.axes import axis_of_word
from napari_sam2.frames.stack import LazyArray

__all__ = ["named_axes", "plain_array"]


def plain_array(source: Any) -> LazyArray:
    """Something that can be indexed and whose shape, type and values are what they seem.

    Parameters
    ----------
    source : array-like
        Array of numpy, dask, zarr, xarray, torch, ...; list or tuple of planes.

    Returns
    -------
    LazyArray
        The same array where that is possible.

    Raises
    ------
    FrameError
        If it is no array, sizes are not known, a mask hides some of its values, or numpy does not know its type.
    """
    if reason := masked_values(getattr(source, "data", source) if _has_names(source) else source):
        raise FrameError(f"an array with a mask was given ({reason})")
    if isinstance(source, list | tuple):
        try:
            return np.asarray(source)
        except ValueError as error:
            raise FrameError(f"{type(source).__name__} was given, which is not an array: {one_line(error)}") from None
    if hasattr(source, "toarray") and hasattr(source, "nnz"):  # of scipy, without importing it
        raise FrameError(f"a sparse array of shape {source.shape} was given; give array.toarray()")
    if not (hasattr(source, "shape") and hasattr(source, "dtype") and hasattr(source, "__getitem__")):
        raise FrameError(f"{type(source).__name__} was given; expected a path, an array, a zarr group or open frames")
    if any(size != size for size in source.shape):  # NaN, in dask
        raise FrameError(
            f"an array of shape {tuple(source.shape)} was given, whose sizes are not known before it is computed; call "
            "its method compute_chunk_sizes() first"
        )
    held: LazyArray = source.data if _has_names(source) else source
    return _of_numpy(held)


def named_axes(array: object) -> str | None:
    """The axes that an array of xarray names, ``("time", "y", "x")``; None where not all are known."""
    if not _has_names(array):
        return None
    names = array.dims  # type: ignore[attr-defined]
    letters = [axis_of_word(name) if isinstance(name, str) else None for name in names]
    known = [letter for letter in letters if letter is not None]
    return "".join(known) if len(known) == len(names) and {"Y", "X"} <= set(known) else None


def _has_names(array: object) -> bool:
    names = getattr(array, "dims", None)
    return isinstance(names, tuple) and len(names) == len(getattr(array, "shape", ())) and hasattr(array, "data")


def _of_numpy(array: LazyArray) -> LazyArray:
    """An array whose type numpy does not understand, such as a tensor of torch, as one of numpy; others are kept."""
    try:
        np.dtype(array.dtype)
    except TypeError:
        try:
            converted: NDArray[np.generic] = np.asarray(array)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FrameError(
                f"{type(array).__name__} of type {array.dtype} was given, which numpy cannot read "
                f"({one_line(error)}); give a numpy array"
            ) from error
        return converted
    return array
