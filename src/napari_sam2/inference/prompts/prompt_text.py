"""Prompts written as text, as on a command line and in lists of files: options whose order tells the objects apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2._checks import LARGEST_ID, numbers_in
from napari_sam2._errors import PromptError
from napari_sam2._types import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ObjectPrompt", "resolve_prompts"]


class ObjectPrompt(NamedTuple):
    """The prompt of one object on one frame."""

    object_id: int
    frame: int
    prompt: Prompt


def resolve_prompts(given: Sequence[tuple[str, str]], shape: tuple[int, ...], axes: str) -> list[ObjectPrompt]:
    """Convert prompt options to prompts of objects.

    Parameters
    ----------
    given : sequence of (str, str)
        Option and value, in the order of the command line.
    shape : tuple of int
        (T, H, W) of the stack; (T, Z, H, W) of volumes over time, whose frames are numbered with z running fastest.
    axes : {"ZYX", "TYX", "YX", "TZYX"}
        Order of the coordinates; with "YX" the frame is 0.

    Returns
    -------
    list of ObjectPrompt
        In the order in which objects and frames were first named.

    Raises
    ------
    PromptError
        If a value cannot be understood, is outside the stack, or contradicts another.
    """
    stack = _Stack(shape, axes)
    masks = [(value, _read_mask(value, stack)) for option, value in given if option == "--mask"]
    named = {_object_id(value) for option, value in given if option == "--object"}
    named |= {object_id for _, parts in masks for object_id, _, _ in parts}
    prompts: dict[tuple[int, int], _FramePrompt] = {}
    for value, parts in masks:
        for object_id, frame, mask in parts:
            entry = prompts.setdefault((object_id, frame), _FramePrompt(f"--mask {value}"))
            if entry.mask is not None:
                raise PromptError(f"two masks of object {object_id} on frame {frame} were given; give one")
            entry.mask = mask
    current: int | None = None  # of the last --object
    latest: int | None = None
    for option, value in given:
        if option == "--object":
            current = latest = _object_id(value)
        elif option != "--mask":
            latest = _whose(option, value, current, latest, named)
            named.add(latest)
            _take(prompts, option, value, latest, stack)
    _check_all_used(given, prompts)
    if not prompts:
        raise PromptError(f"no prompt was given; give at least one, such as --point {stack.example}")
    return [ObjectPrompt(object_id, frame, entry.as_prompt()) for (object_id, frame), entry in prompts.items()]


class _Stack:
    """The allowed coordinates, and how messages describe them."""

    def __init__(self, shape: tuple[int, ...], axes: str) -> None:
        self.shape, self.axes = shape, axes
        self.hw: tuple[int, int] = (shape[-2], shape[-1])
        self.has_frames = len(axes) > 2
        self.num_frames = math.prod(shape[:-2])
        self.point = ",".join(axes)
        self.box = ",".join((*axes[:-2], "Y0", "X0", "Y1", "X1"))
        sizes = shape if self.has_frames else self.hw
        self.example = ",".join(str(size // 2) for size in sizes)
        ranges = ", ".join(f"{axis} 0 to {size - 1}" for axis, size in zip(axes, sizes, strict=True))
        self.allowed = f"expected {ranges} ({'x'.join(map(str, sizes))} in {self.point} order)"

    def numbers(self, option: str, value: str) -> tuple[int, list[float]]:
        """Frame, and the coordinates on it."""
        form = self.box if option == "--box" else self.point
        try:
            numbers = numbers_in(value)
        except ValueError:
            numbers = []
        if len(numbers) != form.count(",") + 1:
            raise PromptError(f"{option} {value} was given; expected numbers {form}, without spaces")
        if not self.has_frames:
            return 0, numbers
        places = ("the first number", "the second number")
        for axis, number, place in zip(self.axes[:-2], numbers, places, strict=False):
            if number != int(number):
                raise PromptError(f"{option} {value} was given; {axis}, {place}, must be an integer")
        frame = self.frame([int(number) for number in numbers[: len(self.axes) - 2]])
        if frame is None:
            raise PromptError(f"{option} {value} is outside the stack; {self.allowed}")
        return frame, numbers[len(self.axes) - 2 :]

    def frame(self, index: Sequence[int]) -> int | None:
        """The frame at an index on the axes before Y; None if there is none."""
        sizes = self.shape[:-2]
        if len(index) != len(sizes) or not all(0 <= i < size for i, size in zip(index, sizes, strict=True)):
            return None
        return int(np.ravel_multi_index(tuple(index), sizes))


@dataclass
class _FramePrompt:
    """Collects the prompt of one object on one frame."""

    first: str
    points_xy: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box_xyxy: tuple[float, float, float, float] | None = None
    mask: NDArray[np.bool_] | None = None

    def as_prompt(self) -> Prompt:
        if self.box_xyxy is None and self.mask is None and not any(self.labels):
            raise PromptError(
                f"{self.first} has only background clicks; give a --point or --box of the same object on that frame"
            )
        return Prompt(
            points=np.array(self.points_xy, np.float32).reshape(-1, 2),
            labels=np.array(self.labels, np.int32),
            box=None if self.box_xyxy is None else np.array(self.box_xyxy, np.float32),
            mask=self.mask,
        )


def _whose(option: str, value: str, current: int | None, latest: int | None, named: set[int]) -> int:
    """The object a prompt belongs to."""
    if current is not None:
        return current
    if option == "--negative":
        if latest is None:
            raise PromptError(f"--negative {value} comes before any object; give the --point or --box first")
        return latest
    return next(number for number in range(1, len(named) + 2) if number not in named)


def _take(prompts: dict[tuple[int, int], _FramePrompt], option: str, value: str, object_id: int, stack: _Stack) -> None:
    frame, numbers = stack.numbers(option, value)
    h, w = stack.hw
    entry = prompts.setdefault((object_id, frame), _FramePrompt(f"{option} {value}"))
    if option == "--box":
        y0, x0, y1, x1 = numbers
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        if x1 <= -0.5 or y1 <= -0.5 or x0 >= w or y0 >= h:
            raise PromptError(f"--box {value} is outside the stack; {stack.allowed}")
        if x0 == x1 or y0 == y1:
            raise PromptError(f"--box {value} has no area; expected two different opposite corners: {stack.box}")
        if entry.box_xyxy is not None:
            raise PromptError(
                f"--box {value} is the second box of object {object_id} on that frame; give one, or another --object"
            )
        entry.box_xyxy = (x0, y0, x1, y1)
        return
    y, x = numbers
    if not (-0.5 <= x <= w - 0.5 and -0.5 <= y <= h - 0.5):
        raise PromptError(f"{option} {value} is outside the stack; {stack.allowed}")
    entry.points_xy.append((x, y))
    entry.labels.append(int(option == "--point"))


def _object_id(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) <= LARGEST_ID:
        raise PromptError(f"--object {value} was given; expected an integer from 1 to {LARGEST_ID}")
    return int(value)


def _check_all_used(given: Sequence[tuple[str, str]], prompts: dict[tuple[int, int], _FramePrompt]) -> None:
    with_prompt = {object_id for object_id, _ in prompts}
    for option, value in given:
        if option == "--object" and int(value) not in with_prompt:
            raise PromptError(f"--object {value} is not followed by a prompt; give its --point or --box after it")


def _read_mask(value: str, stack: _Stack) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """(object, frame, mask) of every label on every frame of a label file, ``FILE`` or ``FRAME:FILE``."""
    from napari_sam2.labels.overlaps import label_areas
    from napari_sam2.labels.reading import read_labels

    expected: tuple[int, ...] = stack.shape
    index, colon, name = value.partition(":")
    has_frame = bool(colon) and all(part.isdecimal() for part in index.split(","))
    labels = read_labels(Path(name if has_frame else value), shape=stack.shape)
    if has_frame:
        frame = stack.frame([int(part) for part in index.split(",")])
        if frame is None:
            sizes = list(zip(stack.axes[:-2], stack.shape[:-2], strict=False))
            allowed = f"0 to {stack.num_frames - 1}" if sizes else "0, or the name of the file alone"
            if len(sizes) > 1:
                allowed = ", ".join(f"{axis} 0 to {size - 1}" for axis, size in sizes) + ", as T,Z:FILE"
            raise PromptError(f"--mask {value} is for frame {index}; expected {allowed}")
        frames, expected = [frame], stack.hw
        labels = labels[0] if labels.ndim == 3 and len(labels) == 1 else labels
    else:
        frames = list(range(stack.num_frames))
        if labels.shape == stack.hw and stack.num_frames == 1:
            labels = labels.reshape(expected)
    if labels.shape != expected:
        one = f", or {','.join(stack.axes[:-2])}:FILE for one frame" if stack.has_frames else ""
        raise PromptError(f"--mask {value} has the shape {labels.shape}; the stack has {stack.shape}{one}")
    labels = labels.reshape(-1, *stack.hw)
    parts = []
    for plane, frame in zip(labels, frames, strict=True):
        parts += [(number, frame, plane == number) for number in label_areas(plane)[:, 0].tolist()]
    if not parts:
        raise PromptError(f"--mask {value} contains no label other than 0; label at least one object")
    return parts
