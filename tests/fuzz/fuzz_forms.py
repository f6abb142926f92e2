"""Other forms of valid arguments: read-only, strided, masked or lazy arrays, subclasses, numpy scalars, iterators."""

from __future__ import annotations

import collections
import enum
import random
from collections.abc import Callable
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import torch
import zarr
from fuzz_values import valid

__all__ = ["FORMS", "ODD_VALUES", "argument_in_another_form"]


class Subclass(np.ndarray):
    """As matrices and units of physics are."""


class Number(enum.IntEnum):
    """An int, but not by its class."""

    TWO = 2


class BadIndex:
    """Refuses to be an index in its own way."""

    def __index__(self) -> int:
        raise ValueError("not one of mine")


class BadRepr:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Endless:
    """Never ends."""

    def __iter__(self) -> Any:
        while True:
            yield 1


class Unreadable:
    """Frames on a disk that has gone."""

    shape, dtype, ndim = (4, 24, 32), np.dtype(np.uint8), 3

    def __getitem__(self, index: object) -> Any:
        raise OSError("the disk has gone")

    def __len__(self) -> int:
        return 4


def _read_only(value: Any) -> Any:
    array = np.array(value)
    array.flags.writeable = False
    return array


def _reversed(value: Any) -> Any:
    array = np.asarray(value)
    return np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array


def _with_nan(value: Any) -> Any:
    array = np.array(value, float)
    if array.size:
        array.flat[0] = np.nan
    return array


def _numpy_scalar(value: Any) -> Any:
    if isinstance(value, bool):
        return np.bool_(value)
    return np.int64(value) if isinstance(value, int) else np.float16(value)


FORMS: dict[str, Callable[[Any], Any]] = {
    "read_only": _read_only,
    "backwards": _reversed,
    "with_nan": _with_nan,
    "numpy_scalar": _numpy_scalar,
    "subclass": lambda value: np.asarray(value).view(Subclass),
    "big_endian": lambda value: np.asarray(value).astype(np.asarray(value).dtype.newbyteorder(">")),
    "fortran": lambda value: np.asfortranarray(np.asarray(value)),
    "zero_strides": lambda value: np.broadcast_to(np.asarray(value).ravel()[:1], np.shape(value)),
    "as_object": lambda value: np.asarray(value, object),
    "long_double": lambda value: np.asarray(value, np.longdouble),
    "as_uint64": lambda value: np.asarray(value).astype(np.uint64),
    "masked": lambda value: np.ma.masked_array(value, mask=np.zeros(np.shape(value), bool)),
    "without_rows": lambda value: np.asarray(value)[:0],
    "many_axes": lambda value: np.asarray(value).reshape(np.shape(value) + (1,) * 20),
    "with_gradient": lambda value: torch.as_tensor(np.array(value, np.float32)).requires_grad_(),
    "in_dask": lambda value: dask.array.from_array(np.asarray(value)),
    "in_zarr": lambda value: zarr.array(np.ascontiguousarray(value)),
    "in_series": lambda value: pd.Series(list(value)),
    "in_memory": lambda value: memoryview(np.ascontiguousarray(value)),
    "generated": lambda value: (part for part in value),
    "in_deque": collections.deque,
    "in_set": set,
    "in_list": lambda value: [value],
    "as_text": str,
    "as_bytes": lambda value: str(value).encode(),
    "with_null": lambda value: f"{value}\0",
    "at_home": lambda value: f"~/{value}",
    "as_path": lambda value: PurePosixPath(str(value)),
    "proxy": MappingProxyType,
}
ODD_VALUES = (
    "Number.TWO", "BadIndex()", "BadRepr()", "Endless()", "Unreadable()", "np.array(2**63, np.uint64)", "pd.NA",
    "pd.NaT", "torch.tensor(float('nan'))", "range(2**62)", "10**400", "'１'", "'\\u202e'", "'/proc/self/mem'", "'s3://x'",
    "np.zeros((2,) * 8)", "np.zeros((4, 1, 1), np.uint8)", "movie.astype(np.int64) * 10**15", "{1: {}}", "{True: disc}",
    "[[0, 8, 9], [0, nan, 9]]", "[[True, False, True]]", "np.array([[0, 8, 9]]).T", "[np.array(1), np.array([2])]",
)  # fmt: skip
NAMES: dict[str, Any] = {
    **FORMS, "Number": Number, "BadIndex": BadIndex, "BadRepr": BadRepr, "Endless": Endless, "Unreadable": Unreadable,
    "pd": pd,
}  # fmt: skip


def argument_in_another_form(rng: random.Random, function: str, name: str, annotation: str, *, attack: bool) -> str:
    """A valid argument; where ``attack`` is set in another form, or an odd value."""
    value = valid(rng, function, name, annotation)
    if not attack:
        return value
    return f"{rng.choice(list(FORMS))}({value})" if rng.random() < 0.7 else rng.choice(ODD_VALUES)
