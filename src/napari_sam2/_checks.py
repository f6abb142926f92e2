"""Checks of arguments of the public API, made before any work begins; numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import OutputError, PromptError
from napari_sam2._files import expand
from napari_sam2._messages import Message, given, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LARGEST_ID",
    "LARGEST_THREADS",
    "as_mask",
    "as_numbers",
    "check_choice",
    "check_count",
    "check_flag",
    "check_fraction",
    "check_frame",
    "check_ids",
    "check_name",
    "check_not_input",
    "check_number",
    "check_object_id",
    "check_out",
    "check_stop",
    "numbers_in",
]

LARGEST_ID = int(np.iinfo(np.int32).max)
LARGEST_THREADS = 1024


def as_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Convert the argument called ``name`` to a float64 array.

    Raises
    ------
    PromptError
        If rows differ in length or a value is not a number.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} is not an array of numbers ({error}); give rows of equal length") from error


def as_mask(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """(H, W) bool array of what was given as ``name``: True where it is not zero; one of bool is not copied.

    Raises
    ------
    PromptError
        If it has not two axes, or holds anything but truth values and numbers.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} is not an array ({error}); give rows of equal length") from error
    if array.ndim != 2:
        raise PromptError(f"{name} of shape {array.shape} was given; expected (H, W)")
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and np.isnan(array).any()):
        what = "NaN" if array.dtype.kind == "f" else f"{array.dtype}"
        raise PromptError(f"{name} that holds {what} was given; expected booleans, or numbers with 0 for background")
    marked: NDArray[np.bool_] = array if array.dtype == bool else array != 0  # large ones take long to copy
    return marked


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """One of several texts that was given as ``name``.

    Raises
    ------
    PromptError
        If it is none of them.
    """
    if not isinstance(value, str) or value not in allowed:
        raise PromptError(f"{name} {shown(value)} was given; expected {', '.join(map(repr, allowed))}")
    return value


def check_flag(name: str, value: object) -> None:
    """Refuse anything but True and False.

    Raises
    ------
    PromptError
        If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise PromptError(Message(given(name, value), " was given; expected True or False"))


def check_name(name: object) -> str:
    """The name of an object.

    Raises
    ------
    PromptError
        If it is no text, or holds what no file can hold: null characters, or surrogates as in undecodable file names.
    """
    if not isinstance(name, str):
        raise PromptError(f"the name {shown(name)} was given; expected a string")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the name {shown(name)} was given; it contains a character that is not valid Unicode"
        ) from error
    if "\0" in name:
        raise PromptError(f"the name {shown(name)} was given; it cannot contain a null character")
    return str(name)


def check_count(name: str, value: object, low: int, high: int | None = None) -> int:
    """An integer from ``low`` to ``high``, both included.

    Raises
    ------
    PromptError
        If ``value`` is not an integer, or out of range.
    """
    number = _whole(value)
    if number is None or number < low or (high is not None and number > high):
        allowed = f"from {low}" if high is None else f"from {low} to {high}"
        raise PromptError(Message(given(name, value), f" was given; expected integers {allowed}"))
    return number


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``, both included.

    Raises
    ------
    PromptError
        If ``value`` is not a number, not finite, or out of range.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an int too large for a float
            number = math.inf
        if math.isfinite(number) and low <= number <= high:
            return number
    limits = "finite numbers"
    if math.isfinite(low):
        limits = f"numbers from {low:g} to {high:g}" if math.isfinite(high) else f"finite numbers from {low:g}"
    raise PromptError(Message(given(name, value), f" was given; expected {limits}"))


def check_fraction(name: str, value: object) -> float:
    """A number above 0 and up to 1.

    Raises
    ------
    PromptError
        If ``value`` is not a number, or out of range.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise PromptError(Message(given(name, value), " was given; expected numbers above 0, up to 1"))


def check_frame(frame: object, num_frames: int) -> int:
    """Index of an existing frame.

    Raises
    ------
    PromptError
        If it is not an integer, or there is no such frame.
    """
    number = _whole(frame)
    if number is None or not 0 <= number < num_frames:
        raise PromptError(f"frame {shown(frame)} was given; the stack has frames 0 to {num_frames - 1}")
    return number


def check_stop(stop: object, num_frames: int) -> int:
    """Exclusive end of a range of frames, clipped to -1 ... number of frames; None is the number of frames.

    Raises
    ------
    PromptError
        If it is not an integer.
    """
    number = num_frames if stop is None else _whole(stop)
    if number is None:
        raise PromptError(f"stop={shown(stop)} was given; expected an integer or None, as in range(start, stop)")
    return min(max(number, -1), num_frames)


def check_object_id(object_id: object) -> int:
    """Number of an object.

    Raises
    ------
    PromptError
        If it is not an integer from 1 to 2,147,483,647, the largest value of an int32 label image.
    """
    number = _whole(object_id)
    if number is None or not 1 <= number <= LARGEST_ID:
        raise PromptError(f"object_id {shown(object_id)} was given; expected an integer from 1 to {LARGEST_ID}")
    return number


def check_ids(object_ids: object) -> list[int]:
    """Numbers of one or more objects.

    Raises
    ------
    PromptError
        If they are not a sequence, it is empty, or an item is not an object number.
    """
    if isinstance(object_ids, str) or not isinstance(object_ids, Iterable):
        given = shown(object_ids)
        raise PromptError(f"object_ids={given} was given; expected a sequence of object numbers, such as [1, 2]")
    numbers = [check_object_id(object_id) for object_id in object_ids]
    if not numbers:
        raise PromptError("object_ids is empty; give at least one object number, or leave it out for all objects")
    return numbers


def check_out(out: Any, shape: tuple[int, ...], largest: int = LARGEST_ID) -> None:
    """Refuse an output array of the wrong shape or with too small a type; without ``shape`` and ``dtype`` it passes.

    Raises
    ------
    PromptError
        If the shape differs, or its type cannot represent ``largest``.
    """
    if out is None:
        return
    if isinstance(out, list | tuple | str | bytes | bytearray | dict) or not hasattr(out, "__setitem__"):
        raise PromptError(
            f"out is a {type(out).__name__}; give an array of shape {tuple(shape)}, such as numpy or zarr"
        )
    given_shape, dtype = getattr(out, "shape", None), getattr(out, "dtype", None)
    if given_shape is not None and tuple(given_shape) != tuple(shape):
        raise PromptError(f"out has the shape {tuple(given_shape)}; the labels need {tuple(shape)}")
    if dtype is None:
        return
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu" or np.iinfo(dtype).max < largest:
        raise PromptError(f"out holds {dtype}, which cannot hold label {largest}; use int32")


def check_not_input(output: Path, source: Path) -> None:
    """Refuse an output that is, contains, or lies inside the input.

    Raises
    ------
    OutputError
        If writing there would replace or change the input.
    """
    try:
        place, given = expand(output).resolve(), source.expanduser().resolve()
    except RuntimeError:  # no such user, or a loop of links: opening the input reports it
        return
    if place == given:
        raise OutputError(f"{source} is the input and is not overwritten; give the output another name")
    if place in given.parents:
        raise OutputError(f"{output} contains the input {source} and is not replaced; give the output another name")
    is_label_image = place.parent == given / "labels"  # which OME-Zarr images hold
    if given in place.parents and given.is_dir() and not is_label_image:
        raise OutputError(f"{output} is inside the input {source}, which is not changed; write next to it")


def _whole(value: Any) -> int | None:
    """The value if it is an integer, else None; booleans and text are not integers."""
    if isinstance(value, bool | np.bool_ | str | bytes) or value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == value else None


def numbers_in(text: str) -> list[float]:
    """Finite numbers separated by commas.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    values = [float(part) for part in text.split(",")]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(text)
    return values
