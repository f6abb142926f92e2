"""Objects, prompts and masks as rows of a database with checksums: numbers, text, and arrays as safetensors."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import safetensors.numpy

from napari_sam2._checks import check_name
from napari_sam2._messages import shown
from napari_sam2._packed_mask import PackedImage, PackedMask
from napari_sam2._types import DrawnShape, Prompt, ShapeKind
from napari_sam2.inference.requests import Answer
from napari_sam2.session.state.records import MaskKind, ObjectMask, PlaneCondition, PromptEntry, SessionObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "TABLES",
    "TABLES_2",
    "TABLES_3",
    "checked",
    "condition_from_row",
    "condition_row",
    "mask_from_row",
    "mask_row",
    "object_from_row",
    "object_row",
    "prompt_from_row",
    "prompt_row",
    "with_checksum",
]

_COLUMNS = {
    "header": "position INTEGER PRIMARY KEY, value TEXT NOT NULL",
    "conditions": "plane INTEGER PRIMARY KEY, is_usable INTEGER NOT NULL, shift_y INTEGER NOT NULL, "
    "shift_x INTEGER NOT NULL",
    "operations": "position INTEGER PRIMARY KEY, call TEXT NOT NULL",
    "objects": "position INTEGER PRIMARY KEY, object_id INTEGER NOT NULL UNIQUE, name TEXT NOT NULL, "
    "is_visible INTEGER NOT NULL, locked TEXT NOT NULL, parent INTEGER, born INTEGER, class_name TEXT NOT NULL",
    "prompts": "object_id INTEGER NOT NULL, plane INTEGER NOT NULL, stamp INTEGER NOT NULL, candidate INTEGER, "
    "prompt BLOB NOT NULL, base BLOB, smaller_prompt BLOB, smaller_answer BLOB, answer BLOB",
    "masks": "object_id INTEGER NOT NULL, plane INTEGER NOT NULL, y0 INTEGER NOT NULL, x0 INTEGER NOT NULL, "
    "y1 INTEGER NOT NULL, x1 INTEGER NOT NULL, packed BLOB NOT NULL, area INTEGER NOT NULL, kind TEXT NOT NULL, "
    "iou REAL, object_score REAL, is_stale INTEGER NOT NULL",
}
_CHECKSUM = "checksum BLOB NOT NULL"
_KEYS = {"prompts": ", PRIMARY KEY (object_id, plane)", "masks": ", PRIMARY KEY (object_id, plane)"}
TABLES: Mapping[str, str] = MappingProxyType(
    {name: f"CREATE TABLE {name} ({columns}, {_CHECKSUM}{_KEYS.get(name, '')})" for name, columns in _COLUMNS.items()}
)
"""Name and definition of each table, exactly as SQLite stores them."""
TABLES_3: Mapping[str, str] = MappingProxyType(
    {name: definition for name, definition in TABLES.items() if name != "conditions"}
)
"""Those of format 3, which has no conditions of planes."""
TABLES_2: Mapping[str, str] = MappingProxyType(
    {**TABLES_3, "objects": TABLES["objects"].replace(", parent INTEGER, born INTEGER, class_name TEXT NOT NULL", "")}
)
"""Those of format 2, in which objects have no parents and no classes."""

_SHAPE_KINDS = get_args(ShapeKind)  # by number; new ones go to the end
Row = tuple[Any, ...]
Key = tuple[int, int]


@dataclass(frozen=True)
class _Limits:
    """How many bytes the arrays of one row may take beside masks; far more than any session needs."""

    points: int = 2**22
    drawn: int = 2**25
    answer: int = 2**25
    header: int = 2**12


_LIMITS = _Limits()


# ---------------------------------------------------------------------- checksums
def with_checksum(row: Sequence[Any]) -> Row:
    """A row with its checksum behind it."""
    return (*row, _digest(row))


def checked(row: Row) -> Row:
    """A row of a file without its checksum.

    Raises
    ------
    ValueError
        If the values are not those that were written.
    """
    values, checksum = row[:-1], row[-1]
    if checksum != _digest(values):
        raise ValueError(f"the values of a row beginning with {shown(values[:2]):.60} do not match their checksum")
    return values


def _digest(values: Sequence[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "backslashreplace")
        digest.update(f"{type(value).__name__} {len(data)} ".encode())
        digest.update(data)
    return digest.digest()


# ---------------------------------------------------------------------- objects
def object_row(position: int, item: SessionObject) -> Row:
    """Columns of an object."""
    planes = json.dumps(sorted(item.locked))
    birth = (item.parent, item.born)
    return with_checksum((position, item.object_id, item.name, int(item.is_visible), planes, *birth, item.class_name))


def object_from_row(row: Row) -> SessionObject:
    """The inverse of ``object_row``, also for rows of format 2; raises ValueError or TypeError."""
    _, object_id, name, is_visible, locked, *later = checked(row)
    parent, born, class_name = later or (None, None, "")
    planes = json.loads(locked)
    if not isinstance(planes, list):
        raise TypeError(f"object {object_id} is locked on {shown(planes):.60}")
    locked_planes = frozenset(_whole(plane) for plane in planes)
    return SessionObject(
        _whole(object_id),
        check_name(name),
        _flag(is_visible),
        locked_planes,
        None if parent is None else _whole(parent),
        None if born is None else _whole(born),
        check_name(class_name),
    )


# ---------------------------------------------------------------------- masks
def mask_row(key: Key, mask: ObjectMask) -> Row:
    """Columns of a mask; NaN is stored as NULL, as SQLite has no NaN."""
    packed = mask.packed
    iou, score = _or_null(mask.iou), _or_null(mask.object_score)
    return with_checksum((*key, *packed.box, packed.data, packed.area, mask.kind, iou, score, int(mask.is_stale)))


def mask_from_row(row: Row) -> tuple[Key, ObjectMask]:
    """The inverse of ``mask_row``; raises ValueError or TypeError. The pixels are not checked."""
    object_id, plane, *box, data, area, kind, iou, score, is_stale = checked(row)
    if kind not in get_args(MaskKind):
        raise ValueError(f"the mask of object {object_id} on plane {plane} is of the kind {shown(kind):.40}")
    y0, x0, y1, x1 = (_whole(n) for n in box)
    packed = PackedMask((y0, x0, y1, x1), _bytes(data), _whole(area))
    mask = ObjectMask(packed, cast("MaskKind", kind), _or_nan(iou), _or_nan(score), _flag(is_stale))
    return (_whole(object_id), _whole(plane)), mask


# ---------------------------------------------------------------------- conditions of planes
def condition_row(plane: int, found: PlaneCondition) -> Row:
    """Columns of the condition of a plane."""
    return with_checksum((plane, int(found.is_usable), *found.shift_yx))


def condition_from_row(row: Row) -> tuple[int, PlaneCondition]:
    """The inverse of ``condition_row``; raises ValueError or TypeError."""
    plane, is_usable, y, x = checked(row)
    return _whole(plane), PlaneCondition(_flag(is_usable), (_whole(y), _whole(x)))


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    if value is not None and not isinstance(value, float):
        raise TypeError(f"{shown(value):.40} is not a score")
    return float("nan") if value is None else value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{shown(value):.40} is not an integer")
    return value


def _flag(value: object) -> bool:
    if value not in (0, 1):
        raise TypeError(f"{shown(value):.40} is neither 0 nor 1")
    return bool(value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{shown(value):.40} is not binary data")
    return value


# ---------------------------------------------------------------------- prompts
def prompt_row(key: Key, entry: PromptEntry) -> Row:
    """Columns of a prompt with the model's answer."""
    smaller_prompt, smaller_answer = (None, None) if entry.smaller is None else entry.smaller
    return with_checksum(
        (
            *key,
            entry.stamp,
            entry.candidate,
            _prompt_bytes(entry.prompt),
            None if entry.base is None else _pack({"base": entry.base.to_array()}),
            None if smaller_prompt is None else _prompt_bytes(smaller_prompt),
            None if smaller_answer is None else _answer_bytes(smaller_answer),
            None if entry.answer is None else _answer_bytes(entry.answer),
        )
    )


def prompt_from_row(row: Row, hw: tuple[int, int]) -> tuple[Key, PromptEntry]:
    """The inverse of ``prompt_row`` for an image of ``hw``; raises ValueError, TypeError or KeyError."""
    object_id, plane, stamp, candidate, prompt, base, smaller_prompt, smaller_answer, answer = checked(row)
    smaller = None
    if smaller_prompt is not None and smaller_answer is not None:
        smaller = (_prompt(smaller_prompt, hw), _answer(smaller_answer))
    entry = PromptEntry(
        prompt=_prompt(prompt, hw),
        stamp=_whole(stamp),
        base=None if base is None else PackedImage.pack(_mask(_unpack(base, hw[0] * hw[1])["base"], hw)),
        candidate=None if candidate is None else _whole(candidate),
        smaller=smaller,
        answer=None if answer is None else _answer(answer),
    )
    return (_whole(object_id), _whole(plane)), entry


def _prompt_bytes(prompt: Prompt) -> bytes:
    given: dict[str, NDArray[Any] | None] = {
        "points": prompt.points,
        "labels": prompt.labels,
        "box": prompt.box,
        "mask": prompt.mask,
    }
    if prompt.drawn:
        given["vertices"] = np.concatenate([shape.vertices for shape in prompt.drawn])
        given["shapes"] = np.array(
            [(_SHAPE_KINDS.index(shape.kind), shape.is_object, len(shape.vertices)) for shape in prompt.drawn], np.int64
        )
    return _pack({name: value for name, value in given.items() if value is not None})


def _prompt(packed: bytes, hw: tuple[int, int]) -> Prompt:
    arrays = _unpack(packed, _LIMITS.points + _LIMITS.drawn + hw[0] * hw[1])
    mask = None if "mask" not in arrays else _mask(arrays["mask"], hw)
    drawn = _drawn(arrays["shapes"], arrays["vertices"]) if "shapes" in arrays else []
    return Prompt(_typed(arrays["points"], np.float32), arrays.get("labels"), arrays.get("box"), mask, drawn)


def _drawn(shapes: NDArray[Any], vertices: NDArray[Any]) -> list[DrawnShape]:
    """Shapes from a row of kind, sign and number of vertices for each, and the vertices of all."""
    rows = _typed(shapes, np.int64).reshape(-1, 3)
    counts = rows[:, 2]
    if (rows < 0).any() or (counts > len(vertices)).any() or int(counts.sum()) != len(vertices):
        raise ValueError(f"shapes of {counts.tolist()!s:.60} vertices were drawn, and {len(vertices)} are there")
    ends = np.cumsum(counts)
    return [
        DrawnShape(_SHAPE_KINDS[kind], _typed(vertices, np.float32)[end - count : end], _flag(int(sign)))
        for (kind, sign, count), end in zip(rows.tolist(), ends.tolist(), strict=True)
    ]


def _answer_bytes(answer: Answer) -> bytes:
    return _pack(
        {
            "view": np.array(answer.view, np.int64),
            "logits": answer.logits,
            "pointer": answer.pointer,
            "scores": np.array([answer.iou, answer.object_score], np.float64),
        }
    )


def _answer(packed: bytes) -> Answer:
    arrays = _unpack(packed, _LIMITS.answer)
    x, y, width, height, is_native = (int(n) for n in _typed(arrays["view"], np.int64))
    iou, score = (float(n) for n in _typed(arrays["scores"], np.float64))
    logits, pointer = _typed(arrays["logits"], np.float32), _typed(arrays["pointer"], np.float32)
    if logits.ndim != 2 or pointer.ndim != 1 or not (np.isfinite(logits).all() and np.isfinite(pointer).all()):
        raise ValueError(f"an answer of the model has logits of shape {logits.shape} or values that are not finite")
    return Answer((x, y, width, height, is_native), logits, pointer, iou, score)


def _mask(array: NDArray[Any], hw: tuple[int, int]) -> NDArray[np.bool_]:
    if array.shape != hw or array.dtype != bool:
        raise ValueError(f"a mask has the shape {array.shape} and type {array.dtype}; the image is {hw}")
    return array


def _typed(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    if array.dtype != dtype:
        raise ValueError(f"an array holds {array.dtype}; expected {np.dtype(dtype)}")
    return array


def _pack(arrays: dict[str, NDArray[Any]]) -> bytes:
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return zlib.compress(safetensors.numpy.save(whole), 1)


def _unpack(packed: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """Arrays of no more than ``limit`` bytes; ValueError if there are more."""
    limit += _LIMITS.header
    inflate = zlib.decompressobj()
    data = inflate.decompress(_bytes(packed), limit + 1)
    if len(data) > limit or not inflate.eof:
        raise ValueError(f"arrays of more than {limit} bytes, or cut off, where {limit} are the most")
    return safetensors.numpy.load(data)
