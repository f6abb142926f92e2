"""What MetaMorph (STK) and Zeiss (LSM) note in tags of TIFF: distances, and what to do where the notes are damaged."""

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
    """Have the planes of an opened STK file read though notes about them are damaged, with a warning."""
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
        warn_caller(f"notes of MetaMorph in {path} are damaged ({', '.join(damaged)}); what they say is not known")


def stk_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """Distances that MetaMorph notes: of pixels, of planes or of the times at which they were taken."""
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
    """Whether an LSM file cannot be read by what Zeiss notes in it: the size of the stack is not there."""
    if not tif.is_lsm:
        return False
    notes = tif.lsm_metadata
    is_whole = isinstance(notes, Mapping) and notes.get("ScanType") in tifffile.TIFF.CZ_LSMINFO_SCANTYPE
    return not is_whole or len(tif.pages) < 2


def lsm_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """Distances that Zeiss notes in LSM files; between frames the interval, or that of the time stamps."""
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
