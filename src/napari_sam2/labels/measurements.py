"""Sizes, shapes, places and intensities of labelled objects, read one plane at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._errors import OutputError
from napari_sam2._files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "MeasuredPlane",
    "check_parquet",
    "measure_planes",
    "measure_stack",
    "summarize_objects",
    "write_table",
]

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


def measure_planes(
    planes: Iterable[MeasuredPlane], *, spacing: tuple[float, float] = (1.0, 1.0), channel_names: Sequence[str] = ()
) -> pd.DataFrame:
    """Measure each object on each plane with ``skimage.measure.regionprops_table``.

    Parameters
    ----------
    planes : iterable of MeasuredPlane
        Read one after the other; only the rows of the table are kept.
    spacing : (float, float)
        Height and width of a pixel, in any unit.
    channel_names : sequence of str
        Of the channels, which name their columns if each has one of its own.

    Returns
    -------
    pandas.DataFrame
        One row per object and plane, in the order of the planes: object, plane, clip, frame, num_pixels, area,
        equivalent_diameter, centroid_y, centroid_x (all in the unit of ``spacing``), bbox_y0, bbox_x0, bbox_y1, bbox_x1
        (pixels, the end excluded), eccentricity, solidity, axis_major_length, axis_minor_length, and for each channel
        mean, min, max, std and sum of its values; with several channels these end in their names (``_DAPI``), or in
        ``_c0``, ``_c1``, ...
    """
    import pandas as pd

    tables = [_measure_plane(each, spacing, channel_names) for each in planes]
    tables = [table for table in tables if len(table)]
    if not tables:
        return _measure_plane(MeasuredPlane(0, 0, 0, np.zeros((1, 1), np.int32)), spacing, ())
    return pd.concat(tables, ignore_index=True)


def _endings(channel_names: Sequence[str], num_channels: int) -> list[str]:
    """What the columns of each channel end in."""
    if num_channels == 1:
        return [""]
    if len(channel_names) == num_channels == len({name for name in channel_names if name}):
        return [f"_{name}" for name in channel_names]
    return [f"_c{number}" for number in range(num_channels)]


def _measure_plane(each: MeasuredPlane, spacing: tuple[float, float], channel_names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd
    from skimage.measure import regionprops_table

    ids, labels = _numbered(np.asarray(each.labels))
    table = pd.DataFrame(regionprops_table(labels, properties=_SHAPE, spacing=spacing)).rename(columns=_NAMES)
    table["object"] = ids[table["object"].to_numpy(np.intp)]
    for name, value in (("frame", each.frame), ("clip", each.clip), ("plane", each.plane)):
        table.insert(1, name, np.full(len(table), value))
    for ending, channel in zip(_endings(channel_names, len(each.channels)), each.channels, strict=True):
        values = regionprops_table(labels, intensity_image=channel, properties=_INTENSITY)
        for name in _INTENSITY:
            table[name.removeprefix("intensity_") + ending] = values[name]
        table["sum" + ending] = table["mean" + ending] * table["num_pixels"]
    return table


def _numbered(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Labels without large numbers, for which regionprops would list all below, and the object of each number."""
    highest = int(labels.max(initial=0))
    if highest <= labels.size:
        return np.arange(highest + 1), labels.astype(np.int32, copy=False)
    ids, places = np.unique(labels, return_inverse=True)
    if ids[0] != 0:  # 0 is the background
        ids, places = np.concatenate(([0], ids)), places + 1
    return ids.astype(np.int64), places.reshape(labels.shape).astype(np.int32)


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
    if not rows:
        one = pd.DataFrame({name: [1] for name in planes.columns})
        return pd.DataFrame(columns=list(_summarize(one, 1, 0, plane_distance)))
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
    for name in [name for name in group.columns if name == "mean" or name.startswith("mean_")]:
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


def measure_stack(
    planes: Sequence[int],
    read_labels: Callable[[int], NDArray[Any]],
    read_channels: Callable[[int], Sequence[NDArray[Any]]] | None = None,
    *,
    by: Literal["object", "plane"] = "object",
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    is_volume: bool = True,
    planes_per_clip: int | None = None,
    channel_names: Sequence[str] = (),
    on_plane: Callable[[int, int], object] | None = None,
) -> pd.DataFrame:
    """Measure the objects of stacks or movies, holding one plane at a time.

    Parameters
    ----------
    planes : sequence of int
        Numbers of the planes to read, ascending.
    read_labels, read_channels : callable
        Plane -> (H, W) labels, and its (H, W) channels. Without channels no intensities are measured.
    by : {"object", "plane"}
        One row per object (and clip), or per object and plane.
    scale : (float, float, float)
        Distances of planes, rows and columns, in any unit.
    is_volume : bool
        The planes are a z-stack, and not time points: objects have volumes and surfaces.
    planes_per_clip : int, optional
        Where there are several stacks, one after the other: the planes of each.
    channel_names : sequence of str
        As for ``measure_planes``.
    on_plane : callable, optional
        Called with how many planes were read, and how many there are; an exception from it ends the work.

    Returns
    -------
    pandas.DataFrame
        As of ``measure_planes``, or of ``summarize_objects`` with the column surface where there is a volume.
    """

    def read() -> Iterator[MeasuredPlane]:
        for number, plane in enumerate(planes):
            if on_plane is not None:
                on_plane(number, len(planes))
            labels = read_labels(plane)
            if labels.any():
                clip, frame = (0, plane) if planes_per_clip is None else divmod(plane, planes_per_clip)
                yield MeasuredPlane(plane, clip, frame, labels, () if read_channels is None else read_channels(plane))
        if on_plane is not None:
            on_plane(len(planes), len(planes))

    rows = measure_planes(read(), spacing=scale[1:], channel_names=channel_names)
    if by == "plane":
        return rows
    table = summarize_objects(rows, plane_distance=scale[0] if is_volume else None)
    if is_volume:
        areas = _surfaces(read_labels, rows, scale)
        table["surface"] = [areas[key] for key in zip(table["object"], table["clip"], strict=True)]
    return table


def _surfaces(
    read_labels: Callable[[int], NDArray[Any]], rows: pd.DataFrame, scale: tuple[float, float, float]
) -> dict[tuple[int, int], float]:
    """(object, clip) -> area of the surface; each plane is read once, as the triangles between two depend on both."""
    total: dict[tuple[int, int], float] = {}
    names = ["object", "clip", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]
    shown = {int(plane): group[names].to_numpy(int).tolist() for plane, group in rows.groupby("plane", sort=True)}
    before: tuple[int, NDArray[Any]] | None = None
    for plane, places in shown.items():
        labels = read_labels(plane)
        has_before = before is not None and before[0] == plane - 1 and shown[plane - 1][0][1] == places[0][1]
        last = before[1] if has_before and before is not None else np.zeros_like(labels)
        boxes = {place[0]: place[2:] for place in places}
        for object_id, _, *box in shown[plane - 1] if has_before else ():
            boxes[object_id] = _joined(box, boxes.get(object_id))
        clip = places[0][1]
        for object_id, (y0, x0, y1, x1) in boxes.items():
            pair = [np.pad(each[y0:y1, x0:x1] == object_id, 1).astype(np.float32) for each in (last, labels)]
            total[object_id, clip] = total.get((object_id, clip), 0.0) + _triangles(pair, scale)
        follows = plane + 1 in shown and shown[plane + 1][0][1] == clip
        for object_id, _, y0, x0, y1, x1 in () if follows else places:
            end = np.pad(labels[y0:y1, x0:x1] == object_id, 1).astype(np.float32)
            total[object_id, clip] += _triangles([end, np.zeros_like(end)], scale)
        before = (plane, labels)
    return total


def _joined(box: list[int], other: list[int] | None) -> list[int]:
    """The box around two boxes y0, x0, y1, x1."""
    if other is None:
        return box
    return [min(box[0], other[0]), min(box[1], other[1]), max(box[2], other[2]), max(box[3], other[3])]


def _triangles(slab: list[NDArray[np.float32]], spacing: tuple[float, float, float]) -> float:
    from skimage.measure import marching_cubes, mesh_surface_area

    volume = np.stack(slab)
    if volume.min() == volume.max():
        return 0.0
    corners, faces, _, _ = marching_cubes(volume, 0.5, spacing=spacing)
    return float(mesh_surface_area(corners, faces))


def write_table(table: pd.DataFrame, path: Path, *, overwrite: bool = True) -> Path:
    """Write a table, whole or not at all, as Parquet if the name ends in .parquet and else as CSV.

    Raises
    ------
    OutputError
        If pyarrow is missing for Parquet, the file exists and may not be replaced, or it cannot be written.
    """
    if path.suffix.lower() != ".parquet":
        return write_whole(path, lambda part: table.to_csv(part, index=False), overwrite=overwrite)
    check_parquet(path)
    return write_whole(path, lambda part: table.to_parquet(part, index=False), overwrite=overwrite)


def check_parquet(path: Path) -> None:
    """Raise OutputError if a name asks for Parquet and pyarrow is not installed."""
    if path.suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise OutputError("Parquet files need pyarrow; install it (pip install pyarrow), or write a .csv")
