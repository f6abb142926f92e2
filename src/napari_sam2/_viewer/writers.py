"""Writers for napari: Labels layers with their scale, units and position, and the session that layers belong to."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2._errors import OutputError, warn_caller
from napari_sam2.frames.spacing import unit_name
from napari_sam2.labels.files import LabelWriter
from napari_sam2.labels.ngff import holds_image

__all__ = ["LIVE_SESSION_KEY", "TURNED", "is_turned", "write_labels", "write_session"]

TURNED = "the layer is mirrored, rotated, sheared or has an affine transformation, which is not saved"

LIVE_SESSION_KEY = "napari_sam2_live_session"
"""In the metadata of the layers of a session: a weak reference to it."""

_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_NO_UNITS = ("pixel", "dimensionless", "")


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer; existing labels are replaced, as napari has asked the user.

    Parameters
    ----------
    path : str
        Its suffix chooses the format, as in ``LabelWriter``.
    data : array-like
        Integers of two to five axes; of a multiscale layer the levels, of which the finest is written.
    meta : dict
        Of the layer: ``scale``, ``translate``, ``units`` and ``axis_labels`` are used.

    Returns
    -------
    list of str
        The file.

    Raises
    ------
    OutputError
        If the axes or ids cannot be written, or ``path`` is an OME-Zarr image.
    """
    if holds_image(Path(path).expanduser()):  # which is a folder: napari asks about files only
        raise OutputError(
            f"{path} is an OME-Zarr image and is not replaced by labels; choose another name, or "
            f"{Path(path).name}/labels/NAME to write them into it"
        )
    array = data[0] if isinstance(data, Sequence) else data
    ndim = len(array.shape)
    letters = "".join(str(label).upper() for label in meta.get("axis_labels") or ())
    if len(letters) != ndim or len(set(letters)) != ndim or letters != "".join(a for a in "TCZYX" if a in letters):
        letters = _DEFAULT_AXES.get(ndim, "")
    if not letters:
        raise OutputError(f"labels of {ndim} axes were given; expected two to five")
    scale = [abs(float(value)) for value in meta.get("scale", (1.0,) * ndim)]
    units = [unit_name(str(unit)) for unit in meta.get("units") or ("",) * ndim]
    names = ["" if unit in _NO_UNITS else unit for unit in units]
    is_calibrated = any(names) or any(value != 1 for value in scale)
    voxel_size = {a: (s, n) for a, s, n in zip(letters, scale, names, strict=True)} if is_calibrated else None
    translation = dict(zip(letters, map(float, meta.get("translate", (0.0,) * ndim)), strict=True))
    shape = tuple(int(n) for n in array.shape)
    if is_turned(*(meta.get(key) for key in ("scale", "rotate", "shear", "affine"))):
        warn_caller(f"{path}: {TURNED}")
    with LabelWriter(
        path, shape, axes=letters, voxel_size=voxel_size, translation=translation, overwrite=True
    ) as writer:
        for frame, index in enumerate(np.ndindex(shape[:-2])):
            writer.write(frame, np.asarray(array[index]))
    return [str(writer.path)]


def is_turned(scale: object, rotate: object, shear: object, affine: object) -> bool:
    """Whether a layer is shown otherwise than files say, which hold distances and a position.

    Parameters
    ----------
    scale, rotate, shear, affine : array-like or None
        Of a layer of napari: rotation as an angle or matrix, shear as numbers or matrix.
    """

    def is_other(value: object) -> bool:
        matrix = np.asarray(0.0 if value is None else value, np.float64)
        return bool((np.abs(matrix - np.eye(*matrix.shape) if matrix.ndim == 2 else matrix) > 1e-9).any())

    is_mirrored = scale is not None and bool((np.asarray(scale, np.float64) < 0).any())
    return is_mirrored or any(is_other(value) for value in (rotate, shear, affine))


def write_session(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write the session that layers belong to; an existing session file is replaced, as napari has asked the user.

    Parameters
    ----------
    path : str
        Ends in ``.sam2``.
    layers : list of (data, meta, type)
        Layers to save, among them the labels, points or shapes of a session in the dock.

    Returns
    -------
    list of str
        The file.

    Raises
    ------
    OutputError
        If the layers belong to no session or to several, or the file cannot be written.
    """
    found: dict[int, Any] = {}
    for _, meta, _ in layers:
        reference = (meta.get("metadata") or {}).get(LIVE_SESSION_KEY)
        session = reference() if isinstance(reference, weakref.ref) else None
        if session is not None:
            found[id(session)] = session
    if len(found) != 1:
        raise OutputError(
            f"the layers belong to {len(found) or 'no'} sessions of SAM 2; select the labels, points or shapes of the "
            "one session to save, such as 'cells objects'"
        )
    (session,) = found.values()
    return [str(session.save(path))]
