"""Sizes, shapes, places and intensities of labelled objects, read one plane at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["MeasuredPlane", "measure_planes", "summarize_objects", "surface_area"]

_SHAPE = (
    "label",
    "num_pixels",
    "area",
    "equivalent_diameter_area",
    "centroid",
    "bbox",
    "eccentricity",
    "solidity",
    "axis_major_length",
    "axis_minor_length",
)
_INTENSITY = ("intensity_mean", "intensity_min", "intensity_max", "intensity_std")
_NAMES = {
    "label": "object",
    "equivalent_diameter_area": "equivalent_diameter",
    "centroid-0": "centroid_y",
    "centroid-1": "centroid_x",
    "bbox-0": "bbox_y0",
    "bbox-1": "bbox_x0",
    "bbox-2": "bbox_y1",
    "bbox-3": "bbox_x1",
}


@dataclass(frozen=True, eq=False)
class MeasuredPlane:
    """One plane to measure.

    Attributes
    ----------
    plane : int
        Number of the plane.
    clip, frame : int
        The stack that the plane belongs to, and its place there.
    labels : numpy.ndarray
        (H, W) int.
    channels : sequence of numpy.ndarray
        (H, W) values of each channel; none leaves out the intensities.
    """

    plane: int
    clip: int
    frame: int
    labels: NDArray[Any]
    channels: Sequence[NDArray[Any]] = field(default_factory=tuple)


def measure_planes(planes: Iterable[MeasuredPlane], *, spacing: tuple[float, float] = (1.0, 1.0)) -> pd.DataFrame:
    """Measure each object on each plane with ``skimage.measure.regionprops_table``.

    Parameters
    ----------
    planes : iterable of MeasuredPlane
        Read one after the other; only the rows of the table are kept.
    spacing : (float, float)
        Height and width of a pixel, in any unit.

    Returns
    -------
    pandas.DataFrame
        One row per object and plane, in the order of the planes: object, plane, clip, frame, num_pixels, area,
        equivalent_diameter, centroid_y, centroid_x (all in the unit of ``spacing``), bbox_y0, bbox_x0, bbox_y1, bbox_x1
        (pixels, the end excluded), eccentricity, solidity, axis_major_length, axis_minor_length, and for each channel
        mean, min, max, std and sum of its values; with several channels these end in ``_c0``, ``_c1``, ...
    """
    import pandas as pd

    tables = [_measure_plane(each, spacing) for each in planes]
    tables = [table for table in tables if len(table)]
    if not tables:
        return _measure_plane(MeasuredPlane(0, 0, 0, np.zeros((1, 1), np.int32)), spacing)
    return pd.concat(tables, ignore_index=True)


def _measure_plane(each: MeasuredPlane, spacing: tuple[float, float]) -> pd.DataFrame:
    import pandas as pd
    from skimage.measure import regionprops_table

    labels = np.asarray(each.labels).astype(np.int32, copy=False)
    table = pd.DataFrame(regionprops_table(labels, properties=_SHAPE, spacing=spacing)).rename(columns=_NAMES)
    for name, value in (("frame", each.frame), ("clip", each.clip), ("plane", each.plane)):
        table.insert(1, name, np.full(len(table), value))
    for number, channel in enumerate(each.channels):
        values = regionprops_table(labels, intensity_image=channel, properties=_INTENSITY)
        ending = f"_c{number}" if len(each.channels) > 1 else ""
        for name in _INTENSITY:
            table[name.removeprefix("intensity_") + ending] = values[name]
        table["sum" + ending] = table["mean" + ending] * table["num_pixels"]
    return table


def summarize_objects(planes: pd.DataFrame, *, plane_distance: float | None = None) -> pd.DataFrame:
    """Put the planes of each object together.

    Parameters
    ----------
    planes : pandas.DataFrame
        As of ``measure_planes``.
    plane_distance : float, optional
        Distance of two planes of a z-stack, in the unit of the areas. Without it the planes are time points.

    Returns
    -------
    pandas.DataFrame
        One row per object and clip: object, clip, num_planes, first_frame, last_frame, num_pixels, area_mean, the
        bounding box and the centroid over all planes (weighted by area), and mean, min, max, std and sum of each
        channel over all pixels; in a z-stack also centroid_z, volume and equivalent_diameter (of a sphere).
    """
    import pandas as pd

    rows = [
        _summarize(group, int(object_id), int(clip), plane_distance)
        for (object_id, clip), group in planes.groupby(["object", "clip"], sort=True)
    ]
    return pd.DataFrame(rows)


def _summarize(group: pd.DataFrame, object_id: int, clip: int, plane_distance: float | None) -> dict[str, float | int]:
    pixels = group["num_pixels"].to_numpy(float)
    total = pixels.sum()
    row: dict[str, float | int] = {
        "object": object_id,
        "clip": clip,
        "num_planes": len(group),
        "first_frame": int(group["frame"].min()),
        "last_frame": int(group["frame"].max()),
        "num_pixels": int(total),
        "area_mean": float(group["area"].mean()),
    }
    if plane_distance is not None:
        row["volume"] = float(group["area"].sum() * plane_distance)
        row["equivalent_diameter"] = float((6 * row["volume"] / np.pi) ** (1 / 3))
        row["centroid_z"] = float((group["frame"] * pixels).sum() / total * plane_distance)
    for name in ("centroid_y", "centroid_x"):
        row[name] = float((group[name] * pixels).sum() / total)
    for name in ("bbox_y0", "bbox_x0"):
        row[name] = int(group[name].min())
    for name in ("bbox_y1", "bbox_x1"):
        row[name] = int(group[name].max())
    for name in [name for name in group.columns if name == "mean" or name.startswith("mean_c")]:
        ending = name.removeprefix("mean")
        means, deviations = group[name].to_numpy(float), group["std" + ending].to_numpy(float)
        mean = float((means * pixels).sum() / total)
        # the spread within the planes and that of their means
        variance = float(((deviations**2 + (means - mean) ** 2) * pixels).sum() / total)
        row["mean" + ending] = mean
        row["min" + ending] = float(group["min" + ending].min())
        row["max" + ending] = float(group["max" + ending].max())
        row["std" + ending] = variance**0.5
        row["sum" + ending] = float(group["sum" + ending].sum())
    return row


def surface_area(mask: NDArray[np.bool_], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> float:
    """Area of the surface of an object, from ``skimage.measure.marching_cubes`` of its mask.

    Parameters
    ----------
    mask : numpy.ndarray
        (Z, H, W) bool; a window around the object is enough.
    spacing : (float, float, float)
        Distances of planes, rows and columns, in any unit.
    """
    from skimage.measure import marching_cubes, mesh_surface_area

    if not mask.any():
        return 0.0
    corners, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)
    return float(mesh_surface_area(corners, faces))
