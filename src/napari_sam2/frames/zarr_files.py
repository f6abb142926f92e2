"""OME-Zarr 0.1 to 0.5 and plain zarr arrays, on zarr 2 and zarr 3 stores, as lazily read stacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2._errors import FrameError
from napari_sam2.frames.spacing import Spacing, unit_name
from napari_sam2.frames.stack import READ_ERRORS, RawStack, one_line

if TYPE_CHECKING:
    import zarr

__all__ = ["is_zarr_folder", "open_zarr", "open_zarr_node"]

_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_LETTER_OF_TYPE = {"time": "T", "channel": "C"}


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder holds the metadata of a zarr group or array."""
    return any((path / name).is_file() for name in _METADATA_FILES[:3])


def open_zarr(path: Path, level: int = 0) -> RawStack:
    """Describe one level of an OME-Zarr image, or a plain zarr array, without reading its pixels.

    Parameters
    ----------
    path : Path
        Folder of the group or array.
    level : int, default 0
        Level of a multiscale image; 0 is the full resolution.

    Returns
    -------
    RawStack
        With axes and scale where the metadata gives them.

    Raises
    ------
    FrameError
        If the metadata is damaged, holds no image, or has no such level.
    """
    import zarr

    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Group) and not _multiscales(node) and "0" in node and _is_converted(node):
            node = node["0"]  # bioformats2raw puts its images into numbered groups
        stack = open_zarr_node(node, level, str(path))
    except FrameError:
        raise
    except READ_ERRORS as error:
        raise FrameError(
            f"{path} cannot be read as zarr ({one_line(error)}); check or copy the folder again"
        ) from error
    stats = [(path / name).stat() for name in _METADATA_FILES if (path / name).is_file()]
    stamp = ",".join(f"{s.st_mtime_ns}-{s.st_size}" for s in (*stats, path.stat()))
    return replace(stack, key=f"zarr:{path.resolve()}:{stamp}:{level}")


def open_zarr_node(node: zarr.Group | zarr.Array[Any], level: int = 0, name: str = "the zarr group") -> RawStack:
    """Describe an opened group or array; see `open_zarr`."""
    import zarr

    if isinstance(node, zarr.Array):
        if level != 0:
            raise FrameError(f"level {level} of {name} was asked for; it is a single array, which has level 0 only")
        return RawStack(node, name, f"zarr:{name}", _dimension_names(node))
    multiscales = _multiscales(node)
    if not multiscales:
        arrays = sorted(key for key, _ in node.arrays())
        if len(arrays) == 1:
            return open_zarr_node(_array(node, arrays[0]), level, f"{name}/{arrays[0]}")
        inside = ", ".join([*arrays, *sorted(key for key, _ in node.groups())][:8])
        if not inside:
            raise FrameError(f"{name} is a zarr group that holds nothing; open one that holds an image")
        raise FrameError(f"{name} is a zarr group without OME-Zarr metadata, holding {inside}; open one of these")
    image = multiscales[0]
    datasets = _list(image.get("datasets"))
    if not 0 <= level < len(datasets):
        raise FrameError(f"level {level} of {name} was asked for; it has {len(datasets)} level(s), 0 is the finest")
    dataset = _dict(datasets[level])
    array = _array(node, str(dataset["path"]))
    axes, units = _axes(image, array.ndim)
    scale, shift = [1.0] * array.ndim, [0.0] * array.ndim
    for owner in (dataset, image):  # in the order in which they are applied
        for transform in _list(owner.get("coordinateTransformations")):
            factors, moves = (_list(_dict(transform).get(kind)) for kind in ("scale", "translation"))
            if len(factors) == array.ndim:
                scale = [s * float(str(f)) for s, f in zip(scale, factors, strict=True)]
                shift = [s * float(str(f)) for s, f in zip(shift, factors, strict=True)]
            if len(moves) == array.ndim:
                shift = [s + float(str(m)) for s, m in zip(shift, moves, strict=True)]
    voxel_size = {
        axis: Spacing(factor, unit)
        for axis, factor, unit in zip(axes, scale, units, strict=True)
        if axis != "C" and factor > 0 and (unit or factor != 1)
    }
    translation = {axis: moved for axis, moved in zip(axes, shift, strict=True) if axis != "C" and moved}
    return RawStack(array, name, f"zarr:{name}:{level}", axes, voxel_size, is_rgb=False, translation=translation)


def _multiscales(group: zarr.Group) -> list[dict[str, object]]:
    attributes: Mapping[str, object] = group.attrs.asdict()
    ome = attributes.get("ome", attributes)  # NGFF 0.5 nests its metadata, 0.4 does not
    return [_dict(image) for image in _list(_dict(ome).get("multiscales"))]


def _is_converted(group: zarr.Group) -> bool:
    attributes = group.attrs.asdict()
    return "bioformats2raw.layout" in {**attributes, **_dict(attributes.get("ome"))}


def _axes(image: Mapping[str, object], ndim: int) -> tuple[str, list[str]]:
    """Letters and units of a multiscale image's axes."""
    axes = _list(image.get("axes"))
    if not axes:  # before 0.3 every image was TCZYX
        return "TCZYX"[-ndim:], [""] * ndim
    letters, units = "", []
    for axis in axes:
        entry = {"name": axis} if isinstance(axis, str) else _dict(axis)
        letters += _LETTER_OF_TYPE.get(str(entry.get("type", "")), str(entry["name"])[:1].upper())
        units.append(unit_name(str(entry.get("unit") or "")))
    return letters, units


def _dimension_names(array: zarr.Array[Any]) -> str | None:
    """Letters of a plain array's dimension names (zarr 3, or xarray's attribute), if all are single letters."""
    given: object = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    names = [str(name or "") for name in _list(given)]
    return "".join(names).upper() if names and all(len(name) == 1 for name in names) else None


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    import zarr

    node = group[path]
    if not isinstance(node, zarr.Array):
        raise FrameError(f"the OME-Zarr metadata names {path!r} as an image level, but it is not an array")
    return node


def _dict(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise FrameError(f"the OME-Zarr metadata holds {json.dumps(value, default=str)[:80]} where an object belongs")
    return dict(value)


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []
