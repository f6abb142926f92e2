"""Several images in one file, such as scenes of a microscope: one is chosen by number or name, at its own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2._errors import FrameError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import Message, Option, shown
from napari_sam2.frames.stack import LazyArray, RawStack

__all__ = [
    "OneOfSeveral",
    "SamePositions",
    "is_overview",
    "list_positions",
    "one_of_several",
    "position_number",
    "stack_of_positions",
    "warn_of_others",
]

_SHOWN = 12  # positions in a message
_OVERVIEWS = ("label image", "macro image", "thumbnail image")  # as Bio-Formats names those of slides


class OneOfSeveral:
    """The image of one position, with an axis of all positions in front; a `LazyArray`.

    Parameters
    ----------
    array : LazyArray
        The image.
    number : int
        Its position.
    count : int
        How many positions the file has. The others have other shapes, and cannot be read through this array.
    """

    def __init__(self, array: LazyArray, number: int, count: int) -> None:
        self._array, self._number = array, number
        self.shape = (count, *(int(n) for n in array.shape))
        self.dtype: np.dtype[np.generic] = np.dtype(array.dtype)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...], /) -> Any:
        given = index if isinstance(index, tuple) else (index,)
        if not isinstance(given[0], (int, np.integer)) or given[0] % self.shape[0] != self._number:
            raise FrameError(
                f"position {given[0]} was requested of an image that was opened at position {self._number}; images of "
                "several sizes are opened one at a time"
            )
        return self._array[given[1:] + (slice(None),) * (len(self.shape) - len(given))]


class SamePositions:
    """Images of one size, with an axis of positions in front; a `LazyArray`."""

    def __init__(self, arrays: Sequence[LazyArray]) -> None:
        self._arrays = arrays
        self.shape = (len(arrays), *(int(n) for n in arrays[0].shape))
        self.dtype: np.dtype[np.generic] = np.dtype(arrays[0].dtype)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...], /) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(first, slice):
            return self._arrays[first][tuple(rest) or ...]
        chosen = self._arrays[first]
        if not chosen:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        return np.stack([np.asarray(array[tuple(rest) or ...]) for array in chosen])


def stack_of_positions(stacks: Sequence[RawStack], names: Sequence[str]) -> RawStack:
    """Images of one size as one stack with an axis P; metadata are those of the first."""
    first = stacks[0]
    return replace(
        first,
        array=SamePositions([stack.array for stack in stacks]),
        axes=None if first.axes is None else "P" + first.axes,
        position_names=tuple(names) if any(names) else (),
    )


def one_of_several(stack: RawStack, number: int, names: Sequence[str]) -> RawStack:
    """The image of one position as a stack with an axis P, on which only this position can be read."""
    full = stack.full_shape
    indices = stack.indices
    return replace(
        stack,
        array=OneOfSeveral(stack.array, number, len(names)),
        axes=None if stack.axes is None else "P" + stack.axes,
        full_shape=None if full is None else (len(names), *full),
        default_fixed={"P": number},
        indices=None if indices is None else one_of_several(indices, number, names),
        position_names=tuple(names),
        has_several_sizes=True,
    )


def is_overview(name: str) -> bool:
    """Whether an image of a slide is its label, overview or thumbnail, by its name."""
    return name.strip().lower() in _OVERVIEWS


def position_number(wanted: int | str, names: Sequence[str], count: int, source: object) -> int:
    """The number of a position that is given by number or name.

    Parameters
    ----------
    wanted : int or str
        Negative numbers count from the end. A number that is no position is looked for among the names.
    names : sequence of str
        Of all positions, or none; a name may also be empty. Capitals make no difference unless names differ by them.
    count : int
        How many positions there are.
    source : object
        What messages call the file.

    Raises
    ------
    FrameError
        If there is no such position, or several have the name.
    """
    if not isinstance(wanted, str) and -count <= wanted < count:
        return int(wanted) % count
    text = str(wanted).strip()
    found = [at for at, name in enumerate(names) if name == text]
    found = found or [at for at, name in enumerate(names) if name.casefold() == text.casefold()]
    if len(found) == 1:
        return found[0]
    if not found and text.isascii() and text.isdecimal() and int(text) < count:
        return int(text)
    listed = list_positions(names if len(names) == count else ("",) * count)
    if found:
        raise FrameError(
            f"position {shown(wanted)} was given; several positions of {source} have this name: give a number out of "
            f"{listed}"
        )
    raise FrameError(f"position {shown(wanted)} was given; {source} has {listed}")


def list_positions(names: Sequence[str], sizes: Sequence[str] = ()) -> str:
    """Numbers of positions with their names, and their sizes where these differ."""
    entries = []
    for at, name in enumerate(names[:_SHOWN]):
        notes = [note for note in (name, sizes[at] if sizes else "") if note]
        entries.append(f"{at} ({': '.join(notes)})" if notes else str(at))
    return ", ".join(entries) + f", ... {len(names) - 1}" * (len(names) > _SHOWN)


def warn_of_others(path: Path, names: Sequence[str], sizes: Sequence[str], number: int) -> None:
    """Warn that one image of several was opened, with what there is and how another one is chosen."""
    other = next(at for at in range(len(names)) if at != number)
    warn_caller(
        Message(
            f"{path} holds {len(names)} images that differ in size or type: {list_positions(names, sizes)}; P={number} "
            "is read (give ",
            Option("fixed", f"fixed={{'P': {other}}}", f"--fix P={other}"),
            " or its name to choose)",
        ),
        PlanesLeftOutWarning,
    )
