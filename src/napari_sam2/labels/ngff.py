"""Label images of OME-NGFF: on their own, or inside the image they belong to, in the image's own version."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import OutputError
from napari_sam2._messages import one_line, shown
from napari_sam2.frames.ngff import axis_letters, read_image
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.frames.zarr_files import is_zarr_folder
from napari_sam2.labels.colours import object_colour

__all__ = [
    "LabelLevel",
    "NgffLabels",
    "default_labels_path",
    "downsampled_levels",
    "holds_image",
    "image_of_labels",
    "label_metadata",
    "nearest_pixels",
    "plan_for_image",
    "register_labels",
    "resample_labels",
]

Json = dict[str, Any]
_CHUNK = 1024
_DEFAULT_NAME = "napari_sam2"
_LARGEST_COARSE = 2048  # pixels: coarser levels are added until the longer side is at most this
_LARGEST_BLOCK = 2**24  # pixels of a level that are held at once
_MAX_COLOURED = 10_000  # objects whose colours are listed in the metadata
_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_NESTED = ("0.5", "0.6")  # versions on zarr 3, whose metadata lies under "ome"
_FLAT = ("0.1", "0.2", "0.3", "0.4")


@dataclass(frozen=True)
class LabelLevel:
    """One resolution level of a label image.

    Attributes
    ----------
    path : str
        Name of the array in the group.
    shape, chunks : tuple of int
        Of the array.
    transforms : tuple of dict
        Its coordinate transformations, as in the metadata.
    shards : tuple of int or None
        Shape of the shards, whole chunks that share a file; None where each chunk is a file.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    transforms: tuple[Json, ...]
    shards: tuple[int, ...] | None = None


@dataclass(frozen=True)
class NgffLabels:
    """Everything that is known about a label image before its first pixel is written.

    Attributes
    ----------
    name : str
        Name in the metadata.
    version : str
        Version of NGFF.
    zarr_format : {2, 3}
        Version of zarr.
    axes : str
        Letters of the array's axes.
    units : tuple of str
        Unit of each axis; empty where it is not known.
    levels : tuple of LabelLevel
        Finest first.
    frame_axes : str
        The axes before Y and X that frames are numbered along, the last one fastest.
    frame_shape : tuple of int
        Their lengths.
    fixed : dict of str to int
        Index on the other axes before Y and X.
    main_level : int
        The level that frames are written to; the others are computed from it.
    image : dict
        Further keys of the multiscale entry, taken from the image: its axes or coordinate systems, and transformations
        of all levels. Empty for a label image of its own.
    source : str
        Path from the label image to its image; empty if it has none.
    """

    name: str
    version: str
    zarr_format: Literal[2, 3]
    axes: str
    units: tuple[str, ...]
    levels: tuple[LabelLevel, ...]
    frame_axes: str
    frame_shape: tuple[int, ...]
    fixed: dict[str, int] = field(default_factory=dict)
    main_level: int = 0
    image: Json = field(default_factory=dict)
    source: str = ""

    def index(self, frame: int) -> tuple[int, ...]:
        """Index of a frame along the axes before Y and X."""
        numbers = np.unravel_index(frame, self.frame_shape) if self.frame_shape else ()
        place = self.fixed | {axis: int(number) for axis, number in zip(self.frame_axes, numbers, strict=True)}
        return tuple(place[axis] for axis in self.axes[:-2])


# ---------------------------------------------------------------------- levels
def downsampled_levels(
    shape: tuple[int, ...], scale: tuple[float, ...], translation: tuple[float, ...]
) -> tuple[LabelLevel, ...]:
    """Levels of a label image of its own, halved in Y and X until they are small enough to be shown at once."""
    levels: list[LabelLevel] = []
    hw = shape[-2:]
    while True:
        ratio = [1.0] * (len(shape) - 2) + [full / part for full, part in zip(shape[-2:], hw, strict=True)]
        chunks = (*(1 for _ in shape[:-2]), min(hw[0], _CHUNK), min(hw[1], _CHUNK))
        # the centre of a coarse pixel is the centre of the pixels it stands for
        shift = [t + (r - 1) / 2 * s for t, r, s in zip(translation, ratio, scale, strict=True)]
        transforms: list[Json] = [{"type": "scale", "scale": [s * r for s, r in zip(scale, ratio, strict=True)]}]
        if any(shift):
            transforms.append({"type": "translation", "translation": shift})
        levels.append(LabelLevel(str(len(levels)), (*shape[:-2], *hw), chunks, tuple(transforms)))
        if max(hw) <= _LARGEST_COARSE:
            return tuple(levels)
        hw = (math.ceil(hw[0] / 2), math.ceil(hw[1] / 2))


def resample_labels(source: Any, target: Any, window: Sequence[slice] | None = None) -> None:
    """Fill a level from another one by the nearest pixel, block by block.

    Parameters
    ----------
    source, target : zarr.Array
        Two levels of one label image.
    window : sequence of slice, optional
        The part of the source that has changed, a slice with start and stop per axis; only what depends on it is
        filled.
        Default: all of it, and blocks without labels are skipped.
    """
    picks = [nearest_pixels(to, origin) for to, origin in zip(target.shape, source.shape, strict=True)]
    if window is None:
        spans = [(0, length) for length in target.shape]
    else:
        spans = [_span(pick, part) for pick, part in zip(picks, window, strict=True)]
    height, width = (target.shards or target.chunks)[-2:]
    for place in np.ndindex(*(stop - start for start, stop in spans[:-2])):
        at = tuple(start + i for (start, _), i in zip(spans[:-2], place, strict=True))
        origin = tuple(int(pick[i]) for pick, i in zip(picks[:-2], at, strict=True))
        for rows in _blocks(*spans[-2], height):
            for columns in _blocks(*spans[-1], width):
                y, x = picks[-2][rows], picks[-1][columns]
                if (y[-1] + 1 - y[0]) * (x[-1] + 1 - x[0]) > _LARGEST_BLOCK:
                    picked = np.asarray(source.oindex[(*origin, y, x)])  # chunk by chunk
                else:
                    block = np.asarray(source[(*origin, slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))])
                    picked = block[np.ix_(y - y[0], x - x[0])]
                if window is not None or picked.any():
                    target[(*at, rows, columns)] = picked


def nearest_pixels(to: int, origin: int) -> NDArray[np.int64]:
    """For each of ``to`` pixels the pixel of ``origin`` that its centre lies in."""
    return ((np.arange(to) + 0.5) * origin / to).astype(np.int64).clip(0, origin - 1)


def _span(pick: NDArray[np.int64], part: slice) -> tuple[int, int]:
    """The pixels of a level whose nearest pixel lies in a part of the other."""
    return int(np.searchsorted(pick, part.start)), int(np.searchsorted(pick, part.stop))


def _blocks(start: int, stop: int, size: int) -> list[slice]:
    return [slice(max(first, start), min(first + size, stop)) for first in range(start // size * size, stop, size)]


# ---------------------------------------------------------------------- metadata
def label_metadata(plan: NgffLabels, ids: Sequence[int]) -> Json:
    """Attributes of the group of a label image that holds the objects ``ids``."""
    datasets = [{"path": level.path, "coordinateTransformations": list(level.transforms)} for level in plan.levels]
    image: Json = {"name": plan.name, **(plan.image or {"axes": _axis_entries(plan)}), "datasets": datasets}
    label: Json = {}
    if ids:
        shown = list(ids)[:_MAX_COLOURED]
        label["colors"] = [{"label-value": i, "rgba": [*object_colour(i), 255]} for i in shown]
        label["properties"] = [{"label-value": i} for i in ids]
    if plan.source:
        label["source"] = {"image": plan.source}
    if plan.zarr_format == 3:
        return {"ome": {"version": plan.version, "multiscales": [image], "image-label": label}}
    return {
        "multiscales": [{"version": plan.version, **image}],
        "image-label": {"version": plan.version, **label},
    }


def _axis_entries(plan: NgffLabels) -> list[Json]:
    return [
        {"name": axis.lower(), "type": _TYPES[axis], **({"unit": unit} if unit else {})}
        for axis, unit in zip(plan.axes, plan.units, strict=True)
    ]


# ---------------------------------------------------------------------- inside an image
def image_of_labels(path: Path) -> Path | None:
    """The OME-Zarr image that ``IMAGE/labels/NAME`` lies in; None for any other path."""
    image = path.parent.parent
    is_inside = path.parent.name == "labels" and bool(path.name) and is_zarr_folder(image)
    return image if is_inside and _open_group(image) is not None else None


def holds_image(path: Path) -> bool:
    """Whether a folder is an OME-Zarr image, and not labels; raises OutputError if it cannot be read."""
    group = _open_group(path) if is_zarr_folder(path) else None
    if group is None:
        return False
    attributes: Json = group.attrs.asdict()
    return "image-label" not in attributes.get("ome", attributes)


def default_labels_path(image: Path) -> Path | None:
    """Where labels of an OME-Zarr image go unless another place is chosen: ``labels/napari_sam2`` inside it.

    Parameters
    ----------
    image : Path
        Anything that was opened as an image.

    Returns
    -------
    Path or None
        None where ``image`` is no OME-Zarr image, or the user may not write to it.
    """
    place = image / "labels" / _DEFAULT_NAME
    if not image.is_dir() or not is_zarr_folder(image) or image_of_labels(place) is None:
        return None
    folder = place.parent if place.parent.is_dir() else image
    return place if os.access(folder, os.W_OK | os.X_OK) else None


def plan_for_image(
    image: Path, name: str, axes: str, shape: tuple[int, ...], fixed: Mapping[str, int] | None = None
) -> NgffLabels:
    """How labels of an OME-Zarr image are written into it.

    The label image gets the image's version, axes (without channels), levels, chunks and transformations. Where the
    image has shards, those of the labels are as high and wide, and hold one layer of chunks, as labels are written
    plane by plane.

    Parameters
    ----------
    image : Path
        The image.
    name : str
        Name of the labels.
    axes : str
        Axes of the labels that will be written, ending in YX.
    shape : tuple of int
        Their lengths; that of one of the image's levels.
    fixed : mapping of str to int, optional
        Index on axes of the image that the labels lack, such as the time point of a z-stack. Default: 0 where the axis
        has length one.

    Returns
    -------
    NgffLabels
        The plan.

    Raises
    ------
    OutputError
        If the image cannot be read, has an unknown version, or the labels do not fit it.
    """
    if name.startswith((".", "__")) or name == "zarr.json":
        raise OutputError(f"{shown(name)} was given as the name of labels, which is reserved by zarr; choose another")
    group = _open_group(image)
    if group is None:
        raise OutputError(f"{image} is not an OME-Zarr image; write the labels to a file of their own")
    attributes: Json = group.attrs.asdict()
    ome: Json = attributes.get("ome", attributes)
    multiscale = dict(ome["multiscales"][0])
    zarr_format = group.metadata.zarr_format
    version = _version(image, ome, multiscale, zarr_format)
    datasets: list[Json] = sorted(multiscale["datasets"], key=lambda each: -math.prod(group[str(each["path"])].shape))
    arrays = [(str(entry["path"]), group[str(entry["path"])]) for entry in datasets]
    entries = _entries(multiscale, arrays[0][1].ndim)
    letters = axis_letters(entries)
    _check_order(image, attributes, letters)
    kept = [i for i, letter in enumerate(letters) if letter != "C" or "C" in axes]
    label_axes = "".join(letters[i] for i in kept)
    if not label_axes.endswith("YX") or set(axes) - set(label_axes):
        raise OutputError(f"labels with the axes {axes} do not fit {image}, which has the axes {letters}")
    levels = tuple(
        LabelLevel(
            path,
            tuple(int(array.shape[i]) for i in kept),
            tuple(min(int(array.chunks[i]), int(array.shape[i])) for i in kept),
            tuple(_kept_transforms(entry.get("coordinateTransformations", ()), kept, len(letters), image)),
            _flat_shards(array, kept),
        )
        for (path, array), entry in zip(arrays, datasets, strict=True)
    )
    main = _matching_level(image, levels, label_axes, axes, shape)
    return NgffLabels(
        name=name,
        version=version,
        zarr_format=zarr_format,
        axes=label_axes,
        units=tuple(str(entries[i].get("unit", "")) for i in kept),
        levels=levels,
        frame_axes=axes[:-2],
        frame_shape=shape[:-2],
        fixed=_fixed(image, label_axes, axes, levels[main], fixed or {}),
        main_level=main,
        image=_image_keys(multiscale, entries, kept, len(letters), image),
        source="../../",
    )


def _flat_shards(array: Any, kept: Sequence[int]) -> tuple[int, ...] | None:
    """Shards of labels: as many chunks along Y and X as those of the image have, and one along the other axes."""
    if array.shards is None:
        return None
    shards = []
    for i in kept:
        chunk = min(int(array.chunks[i]), int(array.shape[i]))
        num = min(int(array.shards[i]) // int(array.chunks[i]), math.ceil(int(array.shape[i]) / chunk))
        shards.append(chunk * num if i in kept[-2:] else chunk)
    return tuple(shards)


def _check_order(image: Path, attributes: Json, letters: str) -> None:
    """Refuse an image whose axes are stored in another order than that of its coordinate system."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was said when the image was opened
        read = read_image(attributes, str(image))
    if read is not None and read.axes is not None and read.axes != letters:
        raise OutputError(
            f"{image} stores its axes in the order {read.axes}, and its coordinate system has {letters}; write the "
            "labels to a file of their own"
        )


def register_labels(image: Path, name: str) -> None:
    """List a label image in the ``labels`` group of its image; raises OSError."""
    import zarr

    group = zarr.open_group(str(image), mode="r", use_consolidated=False)
    attributes: Json = dict(group.attrs.asdict())
    zarr_format = group.metadata.zarr_format
    labels = zarr.open_group(str(image / "labels"), mode="a", zarr_format=zarr_format, use_consolidated=False)
    before: Json = dict(labels.attrs.asdict())
    held: Json = dict(before.get("ome", {})) if "ome" in attributes else before
    listed = [str(other) for other in held.get("labels", []) if (image / "labels" / str(other)).is_dir()]
    held["labels"] = listed if name in listed else [*listed, name]
    if "ome" in attributes:
        held.setdefault("version", attributes["ome"].get("version", "0.5"))
        labels.attrs.put({**before, "ome": held})
    else:
        labels.attrs.put(held)
    _consolidate_again(image, zarr_format)


def _consolidate_again(image: Path, zarr_format: int) -> None:
    """Readers of consolidated metadata see only what is in it."""
    import json

    import zarr

    if zarr_format == 2:
        is_consolidated = (image / ".zmetadata").is_file()
    else:
        is_consolidated = "consolidated_metadata" in json.loads((image / "zarr.json").read_text("utf-8"))
    if is_consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that version 3 does not specify it
            zarr.consolidate_metadata(str(image), zarr_format=2 if zarr_format == 2 else 3)


def _open_group(image: Path) -> Any:
    """The group of a multiscale image; None if it is anything else."""
    import zarr

    try:
        node = zarr.open_group(str(image), mode="r", use_consolidated=False)
        attributes = node.attrs.asdict()
        ome = attributes.get("ome", attributes)
        return node if isinstance(ome, Mapping) and ome.get("multiscales") else None
    except READ_ERRORS as error:
        raise OutputError(f"{image} cannot be read as zarr ({one_line(error)}); check the folder") from error


def _version(image: Path, ome: Json, multiscale: Json, zarr_format: int) -> str:
    version = str(ome.get("version") or multiscale.get("version") or ("0.4" if zarr_format == 2 else ""))
    if version in _FLAT and zarr_format == 2:
        return "0.4"  # the first in which axes have types and levels have transformations
    if version in _NESTED and zarr_format == 3:
        return version
    raise OutputError(
        f"{image} is OME-Zarr of version {version or 'unknown'} on zarr {zarr_format}; labels can be written into "
        "versions 0.1 to 0.4 on zarr 2, and 0.5 and 0.6 on zarr 3; write them to a file of their own"
    )


def _entries(multiscale: Json, ndim: int) -> list[Json]:
    """The axes of the image."""
    systems = multiscale.get("coordinateSystems")
    axes = systems[0]["axes"] if systems else multiscale.get("axes") or list("tczyx"[-ndim:])
    return [
        {"name": axis, "type": _TYPES.get(str(axis)[:1].upper(), "space")} if isinstance(axis, str) else dict(axis)
        for axis in axes
    ]


def _image_keys(multiscale: Json, entries: list[Json], kept: list[int], ndim: int, image: Path) -> Json:
    keys: Json = {}
    if "coordinateSystems" in multiscale:
        keys["coordinateSystems"] = [
            {**system, "axes": [system["axes"][i] for i in kept]} for system in multiscale["coordinateSystems"]
        ]
    else:
        keys["axes"] = [entries[i] for i in kept]
    if multiscale.get("coordinateTransformations"):
        given = multiscale["coordinateTransformations"]
        keys["coordinateTransformations"] = _kept_transforms(given, kept, ndim, image)
    return keys


def _kept_transforms(transforms: Sequence[Json], kept: list[int], ndim: int, image: Path) -> list[Json]:
    """Transformations of the axes that labels have."""
    if len(kept) == ndim and transforms:
        return [dict(transform) for transform in transforms]
    if not transforms:  # before 0.4 levels had none
        return [{"type": "scale", "scale": [1.0] * len(kept)}]
    return [_kept_transform(dict(transform), kept, image) for transform in transforms]


def _kept_transform(transform: Json, kept: list[int], image: Path) -> Json:
    kind = str(transform.get("type"))
    if kind == "identity":
        return transform
    if kind in ("scale", "translation") and kind in transform:
        return {**transform, kind: [transform[kind][i] for i in kept]}
    if kind == "sequence":
        inner = [_kept_transform(dict(step), kept, image) for step in transform["transformations"]]
        return {**transform, "transformations": inner}
    raise OutputError(
        f"{image} has a coordinate transformation of type {shown(kind)} over its channels, which labels cannot take "
        "over; write the labels to a file of their own"
    )


def _matching_level(
    image: Path, levels: tuple[LabelLevel, ...], label_axes: str, axes: str, shape: tuple[int, ...]
) -> int:
    places = [label_axes.index(axis) for axis in axes]
    for number, level in enumerate(levels):
        if tuple(level.shape[place] for place in places) == tuple(shape):
            return number
    sizes = ", ".join(str(tuple(level.shape[place] for place in places)) for level in levels)
    raise OutputError(f"labels of shape {tuple(shape)} ({axes}) do not fit {image}, whose levels have {sizes}")


def _fixed(image: Path, label_axes: str, axes: str, level: LabelLevel, fixed: Mapping[str, int]) -> dict[str, int]:
    places: dict[str, int] = {}
    for axis, length in zip(label_axes[:-2], level.shape[:-2], strict=True):
        if axis in axes:
            continue
        if axis not in fixed and length > 1:
            raise OutputError(f"{image} has {length} planes along {axis}, and the labels have no position there")
        place = int(fixed.get(axis, 0))
        if not 0 <= place < length:
            raise OutputError(f"position {place} along {axis} was given for labels of {image}, which has {length}")
        places[axis] = place
    return places
