"""What leaves a session: labels as image files, tables of objects and scores, and tracks."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import check_not_input
from napari_sam2._errors import OutputError
from napari_sam2.session.state.records import centroid_yx
from napari_sam2.session.state.tables import object_table, score_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames.spacing import VoxelSize
    from napari_sam2.session.session import Session

__all__ = ["export_labels", "export_objects_csv", "export_scores_csv", "tracks_table"]


# ---------------------------------------------------------------------- tables


def export_scores_csv(session: Session, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write ``score_table`` as CSV, whole or not at all; raises OutputError."""
    _check_not_image(session, path)
    table = score_table(session.store)
    return _put(path, lambda part: table.to_csv(part, index=False), overwrite=overwrite)


def export_objects_csv(session: Session, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write ``object_table`` as CSV, whole or not at all; raises OutputError."""
    _check_not_image(session, path)
    table = object_table(session.store)
    return _put(path, lambda part: table.to_csv(part, index=False), overwrite=overwrite)


# ---------------------------------------------------------------------- tracks
def tracks_table(session: Session) -> NDArray[np.float64]:
    """Where each object's centre goes, for a napari Tracks layer.

    Parameters
    ----------
    session : Session
        Any.

    Returns
    -------
    numpy.ndarray
        (N, 1 + axes) float64: track, then data coordinates of the centre in the order of the image's axes, sorted by
        track and frame; of a single image (N, 4) with time 0. With more axes than one before H and W, each clip of an
        object is a track of its own: the first has the object's number, the others go on from the highest one.
    """
    store, geometry = session.store, session.geometry
    rows: list[list[float]] = []
    numbers: dict[tuple[int, int], int] = {}
    following = max(store.objects, default=0)
    for object_id in store.objects:
        for plane in store.planes_of(object_id):
            mask = store.masks[object_id, plane]
            if not mask.area:
                continue
            clip = plane // geometry.num_frames
            if (object_id, clip) not in numbers:
                is_first = all(number != object_id for number in numbers.values())
                following += not is_first
                numbers[object_id, clip] = object_id if is_first else following
            index = geometry.index(plane)
            rows.append([numbers[object_id, clip], *(index or (0,)), *centroid_yx(mask)])
    table = np.array(rows, float).reshape(-1, 1 + max(geometry.ndim, 3))
    return table[np.argsort(table[:, 0], kind="stable")]


# ---------------------------------------------------------------------- labels
def export_labels(
    session: Session,
    path: str | Path,
    *,
    scale: tuple[float, ...] | None = None,
    units: tuple[str, ...] | None = None,
    axes: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the labels as TIFF, OME-TIFF or OME-Zarr, whole or not at all.

    Parameters
    ----------
    session : Session
        Any.
    path : str or Path
        Its suffix chooses the format: .tif, .ome.tif, .zarr or .ome.zarr.
    scale : tuple of float, optional
        Distance between neighbours on each axis of the image.
    units : tuple of str, optional
        Unit of each axis, as OME spells it ("micrometer", "second"); default micrometer in space.
    axes : str, optional
        A letter for each axis out of T, Z, Y and X. Default: YX, ZYX or TZYX.
    overwrite : bool, default False
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If the format or the axes cannot be written, the file exists or is the image, or the disk is full.
    """
    from napari_sam2.labels.files import LabelWriter

    _check_not_image(session, path)
    geometry = session.geometry
    letters = axes or {2: "YX", 3: "ZYX", 4: "TZYX"}.get(geometry.ndim, "")
    if len(letters) != geometry.ndim or not letters.endswith("YX") or len(set(letters)) != len(letters):
        raise OutputError(
            f"axes {letters!r} were given for labels of shape {geometry.shape}; "
            "allowed is one letter for each axis, ending in YX, such as TZYX"
        )
    if geometry.ndim > 3:
        return _export_clips(session, Path(path), letters, _voxel_size(letters, scale, units), overwrite=overwrite)
    shape = (geometry.num_planes, *geometry.hw)
    with LabelWriter(
        path, shape, axes=letters, voxel_size=_voxel_size(letters, scale, units), overwrite=overwrite
    ) as writer:
        for plane in range(geometry.num_planes):
            writer.write(plane, session.store.plane_labels(plane))
    return writer.path


def _check_not_image(session: Session, path: str | Path) -> None:
    if session.stack_path is not None:
        check_not_input(Path(path), Path(session.stack_path))


def _voxel_size(letters: str, scale: tuple[float, ...] | None, units: tuple[str, ...] | None) -> VoxelSize | None:
    if scale is None:
        return None
    if len(scale) != len(letters) or (units is not None and len(units) != len(letters)):
        raise OutputError(f"scale {scale} and units {units} were given; allowed is one of each for the axes {letters}")
    if min(scale) <= 0:
        raise OutputError(f"scale {scale} was given; distances are above 0")
    names = units or tuple("second" if letter == "T" else "micrometer" for letter in letters)
    return {letter: (float(d), str(u)) for letter, d, u in zip(letters, scale, names, strict=True)}


def _export_clips(session: Session, path: Path, letters: str, voxel_size: VoxelSize | None, *, overwrite: bool) -> Path:
    """Labels of four axes and more, as OME-TIFF."""
    import tifffile

    place = path.expanduser()
    if not place.name.lower().endswith((".tif", ".tiff")):
        raise OutputError(f"labels with the axes {letters} cannot be written to {path}; allowed is .tif or .ome.tif")
    if set(letters) - set("TZYX"):
        raise OutputError(f"axes {letters!r} were given; allowed are the letters T, Z, Y and X")
    metadata: dict[str, object] = {"axes": letters}
    for letter, (distance, unit) in (voxel_size or {}).items():
        name, symbol = (f"PhysicalSize{letter}", f"PhysicalSize{letter}Unit") if letter != "T" else (
            "TimeIncrement", "TimeIncrementUnit")  # fmt: skip
        metadata[name] = distance
        metadata[symbol] = _SYMBOLS.get(unit, unit)
    store, geometry = session.store, session.geometry
    planes = (store.plane_labels(geometry.plane(index)) for index in np.ndindex(geometry.shape[:-2]))
    size = int(np.prod(geometry.shape, dtype=np.int64)) * 4
    return _put(
        place,
        lambda part: tifffile.imwrite(
            part, planes, shape=geometry.shape, dtype=np.int32, ome=True, metadata=metadata, bigtiff=size > 2**31,
            photometric="minisblack", compression="zlib",
        ),
        overwrite=overwrite,
    )  # fmt: skip


_SYMBOLS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "second": "s", "minute": "min", "hour": "h"}


def _put(path: str | Path, write: Callable[[Path], object], *, overwrite: bool) -> Path:
    place = Path(path).expanduser()
    if not place.parent.is_dir():
        raise OutputError(f"the folder {place.parent} does not exist; make it first, or write elsewhere")
    if place.is_dir() or (place.exists() and not overwrite):
        raise OutputError(f"{place} exists already; choose another name, or overwrite it on purpose")
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial{place.suffix}")
    try:
        try:
            write(part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{place} cannot be written ({error}); free space or write elsewhere") from error
    return place
