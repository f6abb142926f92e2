"""Objects, prompts and masks as rows of a database: numbers, text, and arrays as npy bytes. No pickle."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam2._types import Prompt
from napari_sam2.inference.requests import Answer
from napari_sam2.labels.packed_mask import PackedMask
from napari_sam2.session.state.records import MaskKind, ObjectMask, PromptEntry, SessionObject

__all__ = [
    "SCHEMA",
    "mask_from_row",
    "mask_row",
    "object_from_row",
    "object_row",
    "prompt_from_row",
    "prompt_row",
]

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE operations (position INTEGER PRIMARY KEY, call TEXT NOT NULL);
CREATE TABLE objects (position INTEGER PRIMARY KEY, object_id INTEGER NOT NULL UNIQUE, name TEXT NOT NULL,
    is_visible INTEGER NOT NULL, locked TEXT NOT NULL);
CREATE TABLE prompts (object_id INTEGER NOT NULL, plane INTEGER NOT NULL, stamp INTEGER NOT NULL, candidate INTEGER,
    prompt BLOB NOT NULL, base BLOB, smaller_prompt BLOB, smaller_answer BLOB, answer BLOB,
    PRIMARY KEY (object_id, plane));
CREATE TABLE masks (object_id INTEGER NOT NULL, plane INTEGER NOT NULL, y0 INTEGER NOT NULL, x0 INTEGER NOT NULL,
    y1 INTEGER NOT NULL, x1 INTEGER NOT NULL, packed BLOB NOT NULL, area INTEGER NOT NULL, kind TEXT NOT NULL,
    iou REAL, object_score REAL, is_stale INTEGER NOT NULL, PRIMARY KEY (object_id, plane));
"""

Row = tuple[Any, ...]
Key = tuple[int, int]


# ---------------------------------------------------------------------- objects
def object_row(position: int, item: SessionObject) -> Row:
    """Columns of an object."""
    return position, item.object_id, item.name, int(item.is_visible), json.dumps(sorted(item.locked))


def object_from_row(row: Row) -> SessionObject:
    """The inverse of ``object_row``."""
    _, object_id, name, is_visible, locked = row
    return SessionObject(int(object_id), str(name), bool(is_visible), frozenset(int(p) for p in json.loads(locked)))


# ---------------------------------------------------------------------- masks
def mask_row(key: Key, mask: ObjectMask) -> Row:
    """Columns of a mask; the database knows no NaN and holds NULL in its place."""
    iou, score = _number(mask.iou), _number(mask.object_score)
    return (*key, *mask.box, mask.packed.data, mask.area, mask.kind, iou, score, int(mask.is_stale))


def mask_from_row(row: Row) -> tuple[Key, ObjectMask]:
    """The inverse of ``mask_row``.

    Raises
    ------
    ValueError
        If the pixels are not those of the box.
    """
    object_id, plane, y0, x0, y1, x1, data, area, kind, iou, score, is_stale = row
    packed = PackedMask((int(y0), int(x0), int(y1), int(x1)), bytes(data), int(area))
    mask = ObjectMask(packed, cast("MaskKind", str(kind)), _nan(iou), _nan(score), bool(is_stale))
    if mask.area and int(mask.pixels().sum()) != mask.area:
        raise ValueError(f"the mask of object {object_id} on plane {plane} is damaged")
    return (int(object_id), int(plane)), mask


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


# ---------------------------------------------------------------------- prompts
def prompt_row(key: Key, entry: PromptEntry) -> Row:
    """Columns of a prompt with what the model answered."""
    smaller_prompt, smaller_answer = (None, None) if entry.smaller is None else entry.smaller
    return (
        *key,
        entry.stamp,
        entry.candidate,
        _prompt_bytes(entry.prompt),
        None if entry.base is None else _pack({"base": entry.base}),
        None if smaller_prompt is None else _prompt_bytes(smaller_prompt),
        None if smaller_answer is None else _answer_bytes(smaller_answer),
        None if entry.answer is None else _answer_bytes(entry.answer),
    )


def prompt_from_row(row: Row) -> tuple[Key, PromptEntry]:
    """The inverse of ``prompt_row``."""
    object_id, plane, stamp, candidate, prompt, base, smaller_prompt, smaller_answer, answer = row
    smaller = None
    if smaller_prompt is not None and smaller_answer is not None:
        smaller = (_prompt(smaller_prompt), _answer(smaller_answer))
    entry = PromptEntry(
        prompt=_prompt(prompt),
        stamp=int(stamp),
        base=None if base is None else _unpack(base)["base"].astype(bool),
        candidate=None if candidate is None else int(candidate),
        smaller=smaller,
        answer=None if answer is None else _answer(answer),
    )
    return (int(object_id), int(plane)), entry


def _prompt_bytes(prompt: Prompt) -> bytes:
    given = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box, "mask": prompt.mask}
    return _pack({name: value for name, value in given.items() if value is not None})


def _prompt(packed: bytes) -> Prompt:
    arrays = _unpack(packed)
    return Prompt(arrays["points"], arrays.get("labels"), arrays.get("box"), arrays.get("mask"))


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
    arrays = _unpack(packed)
    x, y, width, height, is_native = (int(n) for n in arrays["view"])
    iou, score = (float(n) for n in arrays["scores"])
    return Answer((x, y, width, height, is_native), arrays["logits"], arrays["pointer"], iou, score)


def _pack(arrays: dict[str, NDArray[Any]]) -> bytes:
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=False, **arrays)
        return zlib.compress(file.getvalue(), 1)


def _unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    with io.BytesIO(zlib.decompress(packed)) as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
