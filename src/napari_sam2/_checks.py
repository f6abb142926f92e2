"""What callers give as frames, numbers, arrays and places to write to, looked at before any work begins. numpy only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import OutputError, PromptError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LARGEST_ID",
    "as_numbers",
    "check_frame",
    "check_ids",
    "check_object_id",
    "check_out",
    "check_spares",
    "check_stop",
]

LARGEST_ID = int(np.iinfo(np.int32).max)


def as_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """float64 array of what was given as ``name``.

    Raises
    ------
    PromptError
        If rows differ in length or something is no number.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} are no array of numbers ({error}); give rows of equal length") from error


def check_frame(frame: object, num_frames: int) -> int:
    """The number of a frame that the stack has.

    Raises
    ------
    PromptError
        If it is no whole number, or there is no such frame.
    """
    number = _whole(frame)
    if number is None or not 0 <= number < num_frames:
        raise PromptError(f"frame {frame!r} was given; the stack has frames 0 to {num_frames - 1}")
    return number


def check_stop(stop: object, num_frames: int) -> int:
    """The frame before which to end, between -1 and the length of the stack; None is the length.

    Raises
    ------
    PromptError
        If it is no whole number.
    """
    number = num_frames if stop is None else _whole(stop)
    if number is None:
        raise PromptError(f"stop={stop!r} was given; allowed are whole numbers and None, as in range(start, stop)")
    return min(max(number, -1), num_frames)


def check_object_id(object_id: object) -> int:
    """The number of an object.

    Raises
    ------
    PromptError
        If it is no whole number from 1 to 2,147,483,647, the largest that label images hold.
    """
    number = _whole(object_id)
    if number is None or not 1 <= number <= LARGEST_ID:
        raise PromptError(f"object_id {object_id!r} was given; allowed are whole numbers from 1 to {LARGEST_ID}")
    return number


def check_ids(object_ids: object) -> list[int]:
    """The numbers of several objects, at least one.

    Raises
    ------
    PromptError
        If they are no sequence, there are none, or one is no object number.
    """
    if isinstance(object_ids, str) or not isinstance(object_ids, Iterable):
        raise PromptError(f"object_ids={object_ids!r} was given; allowed is a sequence of object numbers, as [1, 2]")
    numbers = [check_object_id(object_id) for object_id in object_ids]
    if not numbers:
        raise PromptError("object_ids is empty; give at least one object number, or nothing for all objects")
    return numbers


def check_out(out: Any, shape: tuple[int, ...], largest: int = LARGEST_ID) -> None:
    """An array for labels has the shape, and a type that holds all numbers; what tells of neither is let pass.

    Raises
    ------
    PromptError
        If it has another shape, or a type in which ``largest`` would become another number.
    """
    given_shape, dtype = getattr(out, "shape", None), getattr(out, "dtype", None)
    if given_shape is not None and tuple(given_shape) != tuple(shape):
        raise PromptError(f"out has the shape {tuple(given_shape)}; the labels need {tuple(shape)}")
    if dtype is None:
        return
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu" or np.iinfo(dtype).max < largest:
        raise PromptError(f"out holds {dtype}, which cannot hold label {largest}; use int32")


def check_spares(output: Path, source: Path) -> None:
    """A place to write to is not the input, does not hold it, and does not lie in an input that is a folder.

    Raises
    ------
    OutputError
        If writing there would replace the input, or change what it holds.
    """
    place, given = output.expanduser().resolve(), source.expanduser().resolve()
    if place == given:
        raise OutputError(f"{source} is the input and is not written over; give the output another name")
    if place in given.parents:
        raise OutputError(f"{output} holds the input {source} and is not replaced; give the output another name")
    if given in place.parents and given.is_dir():
        raise OutputError(f"{output} lies in the input {source}, which is not changed; write beside it")


def _whole(value: Any) -> int | None:
    """The number, if it is a whole one; True and "1" are none."""
    if isinstance(value, bool | np.bool_ | str | bytes) or value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == value else None
