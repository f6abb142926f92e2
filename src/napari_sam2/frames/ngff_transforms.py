"""Transformations of OME-NGFF as distances, shifts and an order of axes; those that are more than that are named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

__all__ = ["AxisMapping", "is_list", "kinds_of", "map_axes"]

_MAX_DEPTH = 20  # of sequences within sequences


@dataclass(frozen=True)
class AxisMapping:
    """What transformations make of the axes of an array.

    Attributes
    ----------
    axes : tuple of int
        For each axis of the array the axis of the coordinate system that it runs along.
    scale, shift : tuple of float
        Factor and position of the first pixel, for each axis of the coordinate system.
    """

    axes: tuple[int, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]


def map_axes(steps: Sequence[object], ndim: int) -> AxisMapping | None:
    """What transformations, one after the other, make of the axes; None where they are more than an `AxisMapping`.

    Parameters
    ----------
    steps : sequence
        Entries of ``coordinateTransformations``; what is no object counts as an unknown transformation.
    ndim : int
        Number of axes.
    """
    plain = _scales(steps, ndim)
    if plain is not None:
        return AxisMapping(tuple(range(ndim)), tuple(plain[0]), tuple(plain[1]))
    matrix = _product(steps, ndim)
    if matrix is None or not np.isfinite(matrix).all():
        return None
    is_used = matrix[:ndim, :ndim] != 0  # (axis of the coordinate system, axis of the array)
    if (is_used.sum(0) != 1).any() or (is_used.sum(1) != 1).any():
        return None
    return AxisMapping(
        tuple(is_used.argmax(0).tolist()),
        tuple(matrix[:ndim, :ndim].sum(1).tolist()),
        tuple(matrix[:ndim, -1].tolist()),
    )


def kinds_of(steps: Sequence[object], depth: int = 0) -> list[str]:
    """Types of transformations, those within sequences included, each once."""
    kinds: dict[str, None] = {}
    for entry in steps:
        step = entry if isinstance(entry, Mapping) else {}
        kind, inner = str(step.get("type", "unknown")), step.get("transformations")
        if kind == "sequence" and is_list(inner) and depth < _MAX_DEPTH:
            kinds |= dict.fromkeys(kinds_of(inner, depth + 1))
        else:
            kinds[kind] = None
    return list(kinds)


def _scales(steps: Sequence[object], ndim: int, depth: int = 0) -> tuple[list[float], list[float]] | None:
    """Scale and translation of transformations that leave each axis to itself; numbers may be infinite or missing."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for entry in steps:
        step = entry if isinstance(entry, Mapping) else {}
        kind = str(step.get("type", ""))
        if kind == "identity":
            continue
        if kind == "sequence":
            inner = step.get("transformations")
            found = _scales(inner, ndim, depth + 1) if is_list(inner) and depth < _MAX_DEPTH else None
            if found is None:
                return None
            factors, shifts = found
        elif kind in ("scale", "translation"):
            given = step.get(kind)
            numbers = [_number(value) for value in given] if is_list(given) else []
            if len(numbers) != ndim:  # one number, or the path of an array
                return None
            factors = numbers if kind == "scale" else [1.0] * ndim
            shifts = numbers if kind == "translation" else [0.0] * ndim
        else:
            return None
        shift = [b * s + t for b, s, t in zip(shift, factors, shifts, strict=True)]
        scale = [a * s for a, s in zip(scale, factors, strict=True)]
    return scale, shift


def _product(steps: Sequence[object], ndim: int, depth: int = 0) -> NDArray[np.float64] | None:
    """(ndim + 1, ndim + 1) matrix of transformations; None where one of them is not linear or not understood."""
    product = np.eye(ndim + 1)
    for entry in steps:
        matrix = _matrix(entry, ndim, depth) if isinstance(entry, Mapping) and depth < _MAX_DEPTH else None
        if matrix is None:
            return None
        product = matrix @ product
    return product


def _matrix(step: Mapping[str, object], ndim: int, depth: int) -> NDArray[np.float64] | None:
    kind = str(step.get("type", ""))
    given = step.get("transformations" if kind in ("sequence", "byDimension") else kind)
    matrix = np.eye(ndim + 1)
    if kind == "identity":
        return matrix
    if not is_list(given):  # the path of an array, or names of axes
        return None
    if kind == "sequence":
        return _product(given, ndim, depth + 1)
    if kind == "byDimension":
        return _by_dimension(given, ndim, depth)
    if kind in ("scale", "translation"):
        numbers = [_number(value) for value in given]
        if len(numbers) != ndim:
            return None
        if kind == "scale":
            return np.diag([*numbers, 1.0])
        matrix[:ndim, -1] = numbers
        return matrix
    if kind in ("affine", "rotation"):
        rows = [[_number(value) for value in row] if is_list(row) else [] for row in given]
        width = ndim + (kind == "affine")
        if not ndim <= len(rows) <= ndim + 1 or any(len(row) != width for row in rows):
            return None
        matrix[:ndim, :width] = rows[:ndim]
        return matrix
    if kind == "mapAxis" and sorted(str(i) for i in given) == sorted(str(i) for i in range(ndim)):
        matrix[:ndim, :ndim] = np.eye(ndim)[[int(_number(i)) for i in given]]  # row: which axis becomes this one
        return matrix
    return None


def _by_dimension(parts: Sequence[object], ndim: int, depth: int) -> NDArray[np.float64] | None:
    """The matrix of transformations of some axes each."""
    matrix = np.zeros((ndim + 1, ndim + 1))
    matrix[-1, -1] = 1
    for entry in parts:
        part = entry if isinstance(entry, Mapping) else {}
        inputs = part.get("inputAxes", part.get("input_axes"))
        outputs = part.get("outputAxes", part.get("output_axes"))
        if not (is_list(inputs) and is_list(outputs)) or len(inputs) != len(outputs):
            return None
        at_in, at_out = ([i for i in axes if isinstance(i, int) and 0 <= i < ndim] for axes in (inputs, outputs))
        inner = _product([part.get("transformation")], len(inputs), depth + 1)
        if inner is None or len(at_in) != len(inputs) or len(at_out) != len(outputs):
            return None
        matrix[np.ix_(at_out, at_in)] = inner[:-1, :-1]
        matrix[at_out, -1] = inner[:-1, -1]
    return matrix


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def is_list(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    """Whether a value of JSON is a list."""
    return isinstance(value, (list, tuple))
