"""Several image files that napari opens as one stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_sam2._errors import FrameError

__all__ = ["stacked"]

_Layer = tuple[Any, dict[str, Any], str]
_FIRST_VALUES: dict[str, Any] = {"scale": 1.0, "translate": 0.0, "units": "pixel"}


def stacked(paths: Sequence[str], files: Sequence[Sequence[_Layer]]) -> list[_Layer]:
    """The layers of several files as layers with one more axis in front.

    Parameters
    ----------
    paths : sequence of str
        At least one.
    files : sequence of sequences of layers
        The layers of each file, as data, keyword arguments and type.

    Returns
    -------
    list of layers
        With the arguments of the first file's. The new axis has no name, and a distance of one pixel.

    Raises
    ------
    FrameError
        If the files differ in their number of layers, or those in type or shape.
    """
    first = files[0]
    for path, layers in zip(paths, files, strict=True):
        if [_form(layer) for layer in layers] != [_form(layer) for layer in first]:
            raise FrameError(
                f"{path} holds {_described(layers)}, {paths[0]} {_described(first)}; files that are opened as a stack "
                "need the same shape and channels: open them without a stack"
            )
    return [_joined([layers[row] for layers in files]) for row in range(len(first))]


def _levels(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


def _form(layer: _Layer) -> tuple[object, ...]:
    data, options, kind = layer
    return kind, bool(options.get("rgb")), [tuple(level.shape) for level in _levels(data)]


def _described(layers: Sequence[_Layer]) -> str:
    return " and ".join(" x ".join(str(side) for side in _levels(data)[0].shape) for data, _, _ in layers)


def _joined(layers: Sequence[_Layer]) -> _Layer:
    import dask.array as da

    levels = zip(*(_levels(data) for data, _, _ in layers), strict=True)
    joined = [da.stack([da.asarray(array) for array in arrays]) for arrays in levels]
    _, options, kind = layers[0]
    options = dict(options)
    for key, value in _FIRST_VALUES.items():
        if key in options:
            options[key] = (value, *options[key])
    if "axis_labels" in options:
        options["axis_labels"] = (f"-{len(options['axis_labels']) + 1}", *options["axis_labels"])  # as napari's own
    return joined if len(joined) > 1 else joined[0], options, kind
