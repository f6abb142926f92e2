"""The calls of a session as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from napari_sam2._errors import OutputError
from napari_sam2._types import Prompt
from napari_sam2.labels.mask_text import mask_from_text, mask_to_text
from napari_sam2.session.state.history import Operation

__all__ = ["operation_from_text", "operation_to_text"]


@dataclass(frozen=True)
class _Marks:
    prompt: str = "__prompt__"
    mask: str = "__mask__"
    numbered: str = "__by_number__"


_MARKS = _Marks()


def operation_to_text(operation: Operation) -> str:
    """One line of JSON."""
    arguments = {name: _encode(value) for name, value in operation.arguments.items()}
    return json.dumps([operation.method, arguments], separators=(",", ":"), allow_nan=False)


def operation_from_text(text: str) -> Operation:
    """The inverse of ``operation_to_text``.

    Raises
    ------
    OutputError
        If it is anything else.
    """
    try:
        method, arguments = json.loads(text)
        return Operation(str(method), {str(name): _decode(value) for name, value in arguments.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(f"an operation of the session cannot be read ({error}): {text[:80]}") from error


def _encode(value: object) -> Any:
    if isinstance(value, Prompt):
        return {_MARKS.prompt: {
            "points": value.points.astype(float).tolist(),
            "labels": None if value.labels is None else value.labels.tolist(),
            "box": None if value.box is None else value.box.astype(float).tolist(),
            "mask": None if value.mask is None else mask_to_text(value.mask),
        }}  # fmt: skip
    if isinstance(value, np.ndarray):
        return {_MARKS.mask: mask_to_text(value)}
    if isinstance(value, dict):
        return {_MARKS.numbered: [[int(key), _encode(part)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_encode(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _decode(value: Any) -> object:
    if isinstance(value, list):
        return [_decode(part) for part in value]
    if not isinstance(value, dict):
        return cast("object", value)
    if _MARKS.mask in value:
        return mask_from_text(value[_MARKS.mask])
    if _MARKS.numbered in value:
        return {int(key): _decode(part) for key, part in value[_MARKS.numbered]}
    said = value[_MARKS.prompt]
    mask = None if said["mask"] is None else mask_from_text(said["mask"])
    return Prompt(np.asarray(said["points"], np.float32).reshape(-1, 2), said["labels"], said["box"], mask)
