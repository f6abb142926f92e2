"""Tables of measurements as points: each object at its centroid, as large as it is, with its values as features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError
from napari_sam2._messages import one_line
from napari_sam2.labels.colours import object_colour

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["MEASURED_COLUMNS", "measured_points"]

MEASURED_COLUMNS = frozenset({"object", "num_pixels", "centroid_y", "centroid_x"})
"""By which a table of measurements is recognised."""

_BORDER = 0.08  # width of the circles, as a share of their diameter


def measured_points(path: Path, image_scale: tuple[float, ...] = ()) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Points of a table that ``napari-sam2 measure`` or the table of measurements has written.

    The table has lengths in the unit of the image. Its areas and volumes, which it has in pixels too, give the size of
    a pixel and the distance of planes, so that points are in pixels, independent of the unit.

    Parameters
    ----------
    path : Path
        CSV with a row per object, or per object and plane.
    image_scale : tuple of float
        Scale of the image layer that the objects belong to; its last two values say whether pixels are square.

    Returns
    -------
    points : numpy.ndarray
        (N, 2) y, x of objects of an image or a movie, which are on all of its planes; (N, 3) with the plane in front;
        (N, 4) with the stack too where there are several.
    options : dict
        Of a Points layer: size, colours, features, and scale.

    Raises
    ------
    FrameError
        If values are missing or not numbers.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
        pixels = table["num_pixels"].to_numpy(float)
        area = (table["area"] if "area" in table else table["area_mean"] * table["num_planes"]).to_numpy(float)
        aspect = image_scale[-2] / image_scale[-1] if len(image_scale) > 1 else 1.0
        side = _typical(np.sqrt(area / pixels))
        scale = [side * aspect**0.5, side / aspect**0.5]
        columns = [table["centroid_y"].to_numpy(float) / scale[0], table["centroid_x"].to_numpy(float) / scale[1]]
        plane, distance = _planes(table, area)
        if plane is not None:
            columns, scale = [plane, *columns], [distance, *scale]
            clips = table["clip"].to_numpy(float) if "clip" in table else np.zeros(len(table))
            if clips.any():
                columns, scale = [clips, *columns], [1.0, *scale]
        points = np.column_stack(columns).astype(np.float64)
        size = _diameters(table, area) / side
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FrameError(
            f"{path} contains no measurements that can be read ({one_line(error)}); measure again"
        ) from error
    if not (np.isfinite(points).all() and np.isfinite(size).all()):
        raise FrameError(f"{path} has rows without a centroid or an area; measure again")
    colours = [np.array(object_colour(int(i))) / 255 for i in table["object"]]
    return points, {
        "ndim": points.shape[1],
        "scale": tuple(scale),
        "size": size,
        "features": table,
        "face_color": "transparent",
        "border_color": np.array(colours) if colours else "white",
        "border_width": _BORDER,
    }


def _typical(values: NDArray[np.float64]) -> float:
    """The median of positive values; 1 without any."""
    found = values[np.isfinite(values) & (values > 0)]
    return float(np.median(found)) if len(found) else 1.0


def _planes(table: pd.DataFrame, area: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, float]:
    """Plane of each row and the distance of planes; None where objects are on no plane of their own."""
    if "frame" in table:
        return table["frame"].to_numpy(float), 1.0
    if "centroid_z" not in table or "volume" not in table:
        return None, 1.0
    distance = _typical(table["volume"].to_numpy(float) / area)
    return table["centroid_z"].to_numpy(float) / distance, distance


def _diameters(table: pd.DataFrame, area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the circle or sphere as large as an object, in the unit of the table."""
    if "equivalent_diameter" in table:
        return np.asarray(table["equivalent_diameter"], np.float64)
    planes: NDArray[np.float64] = table["num_planes"].to_numpy(float)
    return 2 * np.sqrt(area / planes / np.pi)
