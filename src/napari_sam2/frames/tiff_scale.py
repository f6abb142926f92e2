"""Voxel size and position that a TIFF file gives: in OME-XML, by ImageJ, a microscope, this package or in its tags."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import tifffile

from napari_sam2.frames.micro_manager import step_in_z
from napari_sam2.frames.microscope_tags import lsm_voxel_size, stk_voxel_size
from napari_sam2.frames.ome_xml import tag_of
from napari_sam2.frames.spacing import Spacing, convert, read_distance, unit_name

__all__ = ["read_positions", "read_voxel_size"]

_PRINTER_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 250, 300, 360, 400, 600, 720, 800, 1200, 1440, 2400)
_MICROMANAGER = 51123  # tag with JSON


def read_voxel_size(tif: tifffile.TiffFile, path: Path, pixels: ET.Element | None) -> dict[str, Spacing]:
    """Distances of pixels, planes and frames along the axes that a file gives one for, in its units."""
    if pixels is not None:
        return _ome_voxel_size(pixels, path)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_voxel_size(tif, path)
    if tif.is_lsm:
        return lsm_voxel_size(tif, path)
    if tif.is_stk:
        return stk_voxel_size(tif, path)
    shaped = _shaped_voxel_size(tif.shaped_metadata[0], path) if tif.is_shaped and tif.shaped_metadata else {}
    return shaped or _micromanager_voxel_size(tif, path) or _slide_voxel_size(tif, path) or _tag_voxel_size(tif)


def _ome_voxel_size(pixels: ET.Element, path: Path) -> dict[str, Spacing]:
    found = {}
    for axis, name, default in (
        ("X", "PhysicalSizeX", "µm"),
        ("Y", "PhysicalSizeY", "µm"),
        ("Z", "PhysicalSizeZ", "µm"),
        ("T", "TimeIncrement", "s"),
    ):
        value = read_distance(pixels.get(name), axis, path)
        if value is not None:
            found[axis] = Spacing(value, unit_name(pixels.get(f"{name}Unit", default)))
    return found


def _imagej_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    metadata = tif.imagej_metadata or {}
    unit = unit_name(str(metadata.get("unit", "")))
    units = {axis: unit_name(str(metadata.get(f"{axis.lower()}unit", ""))) or unit for axis in "YZ"} | {"X": unit}
    found = {}
    if unit:  # without a unit the resolution tags are dots per inch for printers
        for axis, pixels in _resolution(tif).items():
            found[axis] = Spacing(1 / pixels, units[axis])
        distance = read_distance(metadata.get("spacing"), "Z", path, may_be_negative=True)
        if distance is not None:
            found["Z"] = Spacing(distance, units["Z"])
    interval = read_distance(metadata.get("finterval"), "T", path)
    if interval is not None:
        found["T"] = Spacing(interval, unit_name(str(metadata.get("tunit", "s"))))
    return found


def read_positions(
    tif: tifffile.TiffFile, pixels: ET.Element | None, voxel_size: Mapping[str, Spacing]
) -> dict[str, float]:
    """Position of the first pixel of the full resolution along Z, Y and X, in the units of the distances, if not 0."""
    found: dict[str, float] = {}
    if pixels is not None:
        plane = next((each for each in pixels if tag_of(each) == "Plane"), None)
        if plane is None:
            return {}
        for axis in "ZYX":
            own = unit_name(plane.get(f"Position{axis}Unit", "reference frame"))
            unit = voxel_size[axis].unit if axis in voxel_size else own
            position = convert((_number(plane.get(f"Position{axis}")), own), unit)
            found[axis] = math.nan if position is None else position
    elif tif.is_imagej and tif.imagej_metadata:
        for axis in "ZYX":  # the pixel that lies at 0
            origin = _number(tif.imagej_metadata.get(f"{axis.lower()}origin"))
            found[axis] = -origin * voxel_size[axis].value if axis in voxel_size else math.nan
    elif tif.is_shaped and tif.shaped_metadata:
        given = tif.shaped_metadata[0].get("translation")
        found = {str(axis): _number(value) for axis, value in given.items()} if isinstance(given, dict) else {}
    return {axis: position for axis, position in found.items() if math.isfinite(position) and position}


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _micromanager_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """What Micro-Manager notes in a tag of each plane, where it writes no OME-XML."""
    tag = tif.pages.first.tags.get(_MICROMANAGER)
    noted = tag.value if tag is not None else None
    if isinstance(noted, (str, bytes)):
        try:
            noted = json.loads(noted)
        except ValueError:
            noted = None
    if not isinstance(noted, dict):
        return {}
    found = {}
    for axis, name in (("X", "PixelSizeUm"), ("Y", "PixelSizeUm"), ("Z", "ZStepUm")):
        value = read_distance(noted.get(name), axis, path)
        if value is not None:
            found[axis] = Spacing(value, "micrometer")
    step = step_in_z(tif, path) if "Z" not in found else None
    return found if step is None else {**found, "Z": step}


def _slide_voxel_size(tif: tifffile.TiffFile, path: Path) -> dict[str, Spacing]:
    """What slide scanners of Aperio note: micrometers per pixel."""
    noted = re.search(r"\|\s*MPP\s*=\s*([^|\s]+)", tif.pages.first.description) if tif.is_svs else None
    value = None if noted is None else read_distance(noted[1], "X", path)
    return {} if value is None else dict.fromkeys("XY", Spacing(value, "micrometer"))


def _tag_voxel_size(tif: tifffile.TiffFile) -> dict[str, Spacing]:
    """Pixel size from the resolution tags of a plain TIFF, in cm or inch; not where a printer's dots are meant."""
    tags = tif.pages.first.tags
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 2
    micrometers = {2: 25_400.0, 3: 10_000.0}.get(unit)
    if micrometers is None:
        return {}
    found = {}
    for axis, pixels in _resolution(tif).items():
        dpi = pixels * 25_400 / micrometers
        if dpi > 25.4 and all(abs(dpi - printer) > 0.005 * printer for printer in _PRINTER_DPI):
            found[axis] = Spacing(micrometers / pixels, "micrometer")
    return found


def _resolution(tif: tifffile.TiffFile) -> dict[str, float]:
    """Pixels per unit of the resolution tags along X and Y, where they are finite numbers above 0."""
    tags = tif.pages.first.tags
    found = {}
    for axis in "XY":
        value = tags[f"{axis}Resolution"].value if f"{axis}Resolution" in tags else (0, 1)
        pixels, units = value if isinstance(value, tuple) else (float(value), 1)
        if pixels > 0 and units > 0 and math.isfinite(pixels / units):
            found[axis] = pixels / units
    return found


def _shaped_voxel_size(metadata: Mapping[str, object], path: Path) -> dict[str, Spacing]:
    """What this package's own int32 label files say: ``{"spacing": {"Z": [0.5, "micrometer"], ...}}``."""
    spacing = metadata.get("spacing")
    if not isinstance(spacing, dict):
        return {}
    found = {}
    for axis, pair in spacing.items():
        value = read_distance(pair[0], str(axis), path) if isinstance(pair, list) and len(pair) == 2 else None
        if value is not None:
            found[str(axis)] = Spacing(value, unit_name(str(pair[1])))
    return found
