"""The calls of a session as lines of JSON, for its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_sam2._messages import one_line, shown
from napari_sam2._types import DrawnShape, Prompt
from napari_sam2.labels.mask_text import mask_from_text, mask_to_text
from napari_sam2.session.state.operations import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def operation_from_text(text: str, hw: tuple[int, int]) -> Operation:
    """The inverse of ``operation_to_text``, for an image of ``hw``.

    Raises
    ------
    ValueError
        If the text is no call that can be replayed on such an image.
    """
    try:
        method, arguments = json.loads(text)
        return Operation(method, {name: _decode(value, hw) for name, value in arguments.items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"a call of the session cannot be read ({one_line(error, 200)}): {str(text)[:80]}") from error


def _encode(value: object) -> Any:
    if isinstance(value, Prompt):
        stored = {
            "points": value.points.astype(float).tolist(),
            "labels": value.labels.tolist(),
            "box": None if value.box is None else value.box.astype(float).tolist(),
            "mask": None if (mask := value.mask) is None else mask_to_text(mask),
        }
        if value.drawn:
            stored["drawn"] = [[s.kind, s.vertices.astype(float).tolist(), s.is_object] for s in value.drawn]
        return {_MARKS.prompt: stored}
    if isinstance(value, np.ndarray):
        return {_MARKS.mask: mask_to_text(value)}
    if isinstance(value, Mapping):
        return {_MARKS.numbered: [[int(key), _encode(part)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_encode(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _decode(value: Any, hw: tuple[int, int]) -> object:
    if isinstance(value, list):
        return [_decode(part, hw) for part in value]
    if not isinstance(value, dict):
        return cast("object", value)
    if _MARKS.mask in value:
        return _mask(value[_MARKS.mask], hw)
    if _MARKS.numbered in value:
        return {int(key): _decode(part, hw) for key, part in value[_MARKS.numbered]}
    stored = value[_MARKS.prompt]
    mask = None if stored["mask"] is None else _mask(stored["mask"], hw)
    drawn = [DrawnShape(kind, np.asarray(rows, np.float32), sign) for kind, rows, sign in stored.get("drawn", ())]
    points = np.asarray(stored["points"], np.float32).reshape(-1, 2)
    return Prompt(points, stored["labels"], stored["box"], mask, drawn)


def _mask(text: object, hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a text, which has to be of ``hw``: no other size is allocated."""
    if not isinstance(text, str) or not text.startswith(f"{hw[0]},{hw[1]},"):
        raise ValueError(f"a mask {shown(text):.40} is not one of an image of {hw}")
    return mask_from_text(text)
