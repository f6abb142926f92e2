"""Metadata of MetaMorph (STK) and Zeiss (LSM) in TIFF tags: pixel sizes, distances, and reading of damaged files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import ArrayLike

from napari_sam2._errors import warn_caller
from napari_sam2.frames.spacing import Spacing, read_distance, unit_name

__all__ = ["has_damaged_lsm_notes", "lsm_voxel_size", "mend_stk_notes", "stk_voxel_size"]

_STK_NOTES, _STK_PLANES = (33628, 33630, 33631), 33629  # tags UIC1, UIC3, UIC4; and UIC2, which has one entry per plane
_PLANE_NOTES = ("ZDistance", "TimeCreated", "TimeModified", "DateCreated", "DateModified")
_LSM_DISTANCES = (("X", "VoxelSizeX"), ("Y", "VoxelSizeY"), ("Z", "VoxelSizeZ"))  # in meters
_MICROMETERS = 1e6


def mend_stk_notes(tif: tifffile.TiffFile, path: Path) -> None:
    """Let the planes of an opened STK file be read even if their metadata is damaged, with a warning."""
    if not tif.is_stk and path.suffix.lower() != ".stk":
        return
    page = tif.pages.first
    damaged = []
    for code in _STK_NOTES:
        tag = page.tags.get(code)
        if tag is not None and not isinstance(tag.value, dict):
            damaged.append(tag.name)
            tag.value = {}
    planes = page.tags.get(_STK_PLANES)
    if planes is None or not tif.is_stk:
        if len(tif.pages) > 1:
            return  # a TIFF with another ending
        num_planes = 1 if page.nbytes <= 0 else (tif.filehandle.size - page.dataoffsets[0]) // page.nbytes
        if num_planes > 1:
            warn_caller(
                f"{path} is a MetaMorph stack without a list of its planes; 1 of up to {num_planes} planes is read "
                "(export it as TIFF to read all)"
            )
    elif not isinstance(planes.value, dict):
        damaged.append(planes.name)
        planes.value = {name: np.zeros(planes.count) for name in _PLANE_NOTES}
    else:  # a distance of 0 / 0 is none
        planes.value = {name: np.nan_to_num(values, posinf=0) for name, values in planes.value.items()}
    if damaged:
        warn_caller(f"the MetaMorph metadata of {path} is damaged and ignored ({', '.join(damaged)})")


def stk_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """Pixel size, distance of planes and time interval in the MetaMorph metadata."""
    notes = tif.stk_metadata or {}
    found = {}
    unit = unit_name(str(notes.get("CalibrationUnits") or "")) if notes.get("SpatialCalibration") else ""
    for axis, name in (("X", "XCalibration"), ("Y", "YCalibration")):
        value = read_distance(notes.get(name), axis, path) if unit else None
        if value is not None:
            found[axis] = Spacing(value, unit)
    step = _usual(notes.get("ZDistance"))
    if step:
        found["Z"] = Spacing(step, "micrometer")
    interval = _usual(np.diff(notes.get("TimeCreated", ())))
    if interval:
        found["T"] = Spacing(interval / 1000, "second")
    return found


def has_damaged_lsm_notes(tif: tifffile.TiffFile) -> bool:
    """Whether the metadata of an LSM file does not say how its pages make up a stack."""
    if not tif.is_lsm:
        return False
    notes = tif.lsm_metadata
    is_whole = isinstance(notes, Mapping) and notes.get("ScanType") in tifffile.TIFF.CZ_LSMINFO_SCANTYPE
    return not is_whole or len(tif.pages) < 2


def lsm_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """Voxel size in the metadata of an LSM file, and its time interval or that of the time stamps."""
    notes = tif.lsm_metadata or {}
    found = {}
    for axis, name in _LSM_DISTANCES:
        value = read_distance(notes.get(name), axis, path)
        if value is not None:
            found[axis] = Spacing(value * _MICROMETERS, "micrometer")
    interval = read_distance(notes.get("TimeIntervall"), "T", path) or _usual(np.diff(notes.get("TimeStamps", ())))
    if interval:
        found["T"] = Spacing(interval, "second")
    return found


def _usual(values: ArrayLike | None) -> float:
    """Median of the sizes of those values that are finite and not 0; 0 if there are none."""
    given = np.abs(np.asarray(() if values is None else values, np.float64))
    given = given[np.isfinite(given) & (given > 0)]
    return float(np.median(given)) if given.size and math.isfinite(float(given.sum())) else 0.0
